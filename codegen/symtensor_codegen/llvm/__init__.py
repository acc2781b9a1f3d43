"""The CPU backend: loops to LLVM IR text, object code, and native callables."""
