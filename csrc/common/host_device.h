// Marks what is compiled for the CPU and for a GPU.
#pragma once

#if defined(__CUDACC__)
#define PIXELSR_HOST_DEVICE __device__ __forceinline__
#else
#define PIXELSR_HOST_DEVICE inline
#endif
