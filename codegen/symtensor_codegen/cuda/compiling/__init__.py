"""CUDA C to machine code, without a GPU, and where both are kept."""
