// The kernel, and its launch on the current stream: one for a whole batch of pictures.

#include <cuda_runtime.h>
#include <torch/csrc/inductor/aoti_torch/c/shim.h>
#include <torch/csrc/stable/accelerator.h>
#include <torch/csrc/stable/library.h>

#include "cuda/operator.h"
#include "cuda/sampler.h"

namespace pixelsr {
namespace {

template <class T, int TILES>
__global__ void __launch_bounds__(THREADS, 1) sample_tiles(const __grid_constant__ Job job) {
  sample_tile<T, TILES>(job);
}

void check(cudaError_t error, const char* what) {
  STD_TORCH_CHECK(error == cudaSuccess, "run_tiles_: ", what, ": ", cudaGetErrorString(error));
}

template <class T, int TILES>
void launch_typed(const Launch& what, cudaStream_t stream) {
  const auto kernel = sample_tiles<T, TILES>;
  check(cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize,
                             static_cast<int>(what.shared)),
        "shared memory");
  cudaLaunchAttribute cluster{};
  cluster.id = cudaLaunchAttributeClusterDimension;
  cluster.val.clusterDim = {static_cast<unsigned>(what.members), 1, 1};
  cudaLaunchConfig_t config{};
  config.gridDim = dim3(static_cast<unsigned>(what.tiles * what.members));
  config.blockDim = dim3(THREADS);
  config.dynamicSmemBytes = static_cast<size_t>(what.shared);
  config.stream = stream;
  config.attrs = &cluster;
  config.numAttrs = what.members > 1 ? 1 : 0;
  check(cudaLaunchKernelEx(&config, kernel, what.job), "launch");
}

template <class T>
void launch_tiles(const Launch& what, cudaStream_t stream) {
  if (what.tiles_of_8 == 1) {
    launch_typed<T, 1>(what, stream);
  } else {
    launch_typed<T, 2>(what, stream);
  }
}

}  // namespace

void launch(const Launch& what) {
  const torch::stable::accelerator::DeviceGuard guard(what.device);
  void* stream = nullptr;
  TORCH_ERROR_CODE_CHECK(aoti_torch_get_current_cuda_stream(what.device, &stream));
  if (what.operand == Operand::FLOAT16) {
    launch_tiles<Half>(what, static_cast<cudaStream_t>(stream));
  } else {
    STD_TORCH_CHECK(what.operand == Operand::BFLOAT16,
                    "run_tiles_: weights are float16 or bfloat16 on a GPU");
    launch_tiles<BFloat>(what, static_cast<cudaStream_t>(stream));
  }
}

}  // namespace pixelsr

STABLE_TORCH_LIBRARY_IMPL(pixelsr, CUDA, m) {
  m.impl("run_tiles_", TORCH_BOX(&pixelsr::run_tiles_));
}
