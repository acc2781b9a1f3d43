"""A generic kit for compiling loops over arrays: scalar expressions, kernels, programs and backends."""
