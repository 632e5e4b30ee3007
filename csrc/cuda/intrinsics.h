// The intrinsics of the kernels: threads, blocks and clusters, products of small matrices, and
// asynchronous copies. tests/support/emulator has the same functions for a CPU, so that the kernels
// can run, slowly, without a GPU.
#pragma once

#if defined(PIXELSR_EMULATED)
#include "emulator/intrinsics.h"
#else

#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include <cstdint>
#include <type_traits>

#define PIXELSR_DEVICE __device__ __forceinline__
// A function that is not inlined, so that its registers are separate from those of its callers.
#define PIXELSR_CALLED __device__ __noinline__

namespace pixelsr {

constexpr int LANES = 32, WARPS = 8, THREADS = WARPS * LANES;

using Half = __half;
using BFloat = __nv_bfloat16;

PIXELSR_DEVICE float to_float(float x) { return x; }
PIXELSR_DEVICE float to_float(Half x) { return __half2float(x); }
PIXELSR_DEVICE float to_float(BFloat x) { return __bfloat162float(x); }

template <class T>
PIXELSR_DEVICE T from_float(float x);
template <>
PIXELSR_DEVICE float from_float<float>(float x) {
  return x;
}
template <>
PIXELSR_DEVICE Half from_float<Half>(float x) {
  return __float2half_rn(x);
}
template <>
PIXELSR_DEVICE BFloat from_float<BFloat>(float x) {
  return __float2bfloat16_rn(x);
}

// Accurate to one or two units in the last place, and infinite or zero where it must be.
struct Exponential {
  static PIXELSR_DEVICE float of(float x) { return __expf(x); }
};

// Threads, blocks and clusters. A cluster has cluster_size() blocks; its first block leads.

PIXELSR_DEVICE int thread() { return static_cast<int>(threadIdx.x); }

PIXELSR_DEVICE int cluster_size() {
#if __CUDA_ARCH__ >= 900
  int count;
  asm("mov.u32 %0, %%cluster_nctarank;" : "=r"(count));
  return count;
#else
  return 1;
#endif
}

PIXELSR_DEVICE int cluster_rank() { return static_cast<int>(blockIdx.x) % cluster_size(); }
PIXELSR_DEVICE int cluster() { return static_cast<int>(blockIdx.x) / cluster_size(); }

// Returns the clock of the multiprocessor.
PIXELSR_DEVICE int64_t clock_now() { return clock64(); }

PIXELSR_DEVICE void sync_block() { __syncthreads(); }

// A barrier of the cluster: afterwards, each thread sees all that any thread wrote before.
PIXELSR_DEVICE void sync_cluster() {
#if __CUDA_ARCH__ >= 900
  asm volatile(
      "barrier.cluster.arrive.release.aligned;\n"
      "barrier.cluster.wait.acquire.aligned;\n" ::
          : "memory");
#else
  __syncthreads();
#endif
}

// Returns the shared memory of the block.
PIXELSR_DEVICE char* shared_memory() {
  extern __shared__ __align__(128) char memory[];
  return memory;
}

// Returns the same address in the shared memory of the cluster's first block.
PIXELSR_DEVICE char* of_leader(char* shared) {
#if __CUDA_ARCH__ >= 900
  if (cluster_rank() == 0) return shared;  // a block reaches its own memory without the network
  char* there;
  asm("mapa.u64 %0, %1, 0;" : "=l"(there) : "l"(shared));
  return there;
#else
  return shared;
#endif
}

PIXELSR_DEVICE float shuffle_xor(float value, int mask) {
  return __shfl_xor_sync(0xFFFFFFFFu, value, mask);
}
PIXELSR_DEVICE int shuffle_xor(int value, int mask) {
  return __shfl_xor_sync(0xFFFFFFFFu, value, mask);
}

// Copies 16 bytes from global memory to a multiple of 16 in the block's own shared memory. The copy
// is complete after `wait_for_copies` and `sync_block`. It bypasses the L1 cache, so that it sees
// what other blocks have written.
PIXELSR_DEVICE void copy_16_bytes(void* shared, const void* global) {
  const auto to = static_cast<uint32_t>(__cvta_generic_to_shared(shared));
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16;" ::"r"(to), "l"(global) : "memory");
}

// Ends a group of copies of this thread.
PIXELSR_DEVICE void end_group_of_copies() { asm volatile("cp.async.commit_group;" ::: "memory"); }

// Waits until all but the last GROUPS groups of this thread's copies are complete.
template <int GROUPS>
PIXELSR_DEVICE void wait_for_copies() {
  asm volatile("cp.async.wait_group %0;" ::"n"(GROUPS) : "memory");
}

// A lane's part of 16 x 16 weights [outputs, inputs]. With g = lane / 4 and k = lane % 4 * 4, it
// has inputs k, k + 1 of output g, then of output g + 8; then inputs k + 2, k + 3 of both outputs.
template <class T>
struct alignas(16) Weights {
  T value[8];
};

// A lane's part of 16 inputs of 8 samples: inputs k to k + 3 of sample g.
template <class T>
struct alignas(4 * sizeof(T)) Inputs {
  T value[4];
};

// Computes sums += weights @ inputs, by all lanes of a warp together. A lane has the sums of output
// g for the sample lane % 4 * 2 and the next one, then the sums of output g + 8.
template <class T>
PIXELSR_DEVICE void multiply(float (&sums)[4], const Weights<T>& weights, const Inputs<T>& inputs) {
  static_assert(!std::is_same_v<T, float>, "only the emulated machine multiplies floats");
  const uint4 a = reinterpret_cast<const uint4&>(weights);
  const uint2 b = reinterpret_cast<const uint2&>(inputs);
#define PIXELSR_MULTIPLY(type)                                                        \
  asm volatile("mma.sync.aligned.m16n8k16.row.col.f32." type "." type                 \
               ".f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};" \
               : "+f"(sums[0]), "+f"(sums[1]), "+f"(sums[2]), "+f"(sums[3])           \
               : "r"(a.x), "r"(a.y), "r"(a.z), "r"(a.w), "r"(b.x), "r"(b.y))
  if constexpr (!std::is_same_v<T, BFloat>) {
    PIXELSR_MULTIPLY("f16");
  } else {
    PIXELSR_MULTIPLY("bf16");
  }
#undef PIXELSR_MULTIPLY
}

}  // namespace pixelsr

#endif
