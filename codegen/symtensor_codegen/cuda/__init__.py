"""The CUDA backend: kernels as CUDA C++ text, compiled by NVRTC, run through the driver."""
