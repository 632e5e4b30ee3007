"""The engine of Triton kernels, with launches for each row."""
