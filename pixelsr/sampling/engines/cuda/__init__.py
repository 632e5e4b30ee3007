"""The engine of one CUDA kernel, a launch for all images."""
