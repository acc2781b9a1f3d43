"""A CUDA device through PyCUDA and NVIDIA's bindings."""
