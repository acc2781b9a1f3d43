"""Matrix products: kernels of our own, cuBLAS, and which of them is for which sizes."""
