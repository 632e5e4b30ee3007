"""The engine of one CUDA kernel that draws all images in a launch."""
