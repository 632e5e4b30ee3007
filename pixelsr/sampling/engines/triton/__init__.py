"""The engine of Triton kernels, a launch for each row."""
