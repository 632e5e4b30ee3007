"""The kernels of the Triton sampling engine, for rows of many images."""
