// The macro for functions that are compiled for both the CPU and a GPU.
#pragma once

#if defined(__CUDACC__)
#define PIXELSR_HOST_DEVICE __device__ __forceinline__
#else
#define PIXELSR_HOST_DEVICE inline
#endif
