// The kernel, and its launch on the current stream. One launch draws a whole batch of images.

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

using Kernel = void (*)(Job);

template <class T>
Kernel kernel_of(const Launch& what) {
  return what.tiles_of_8 == 1 ? sample_tiles<T, 1> : sample_tiles<T, 2>;
}

// Returns the kernel, with its limit of shared memory set.
Kernel prepared_kernel(const Launch& what) {
  STD_TORCH_CHECK(what.operand == Operand::FLOAT16 || what.operand == Operand::BFLOAT16,
                  "run_tiles_: weights are float16 or bfloat16 on a GPU");
  const Kernel kernel =
      what.operand == Operand::FLOAT16 ? kernel_of<Half>(what) : kernel_of<BFloat>(what);
  check(cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize,
                             static_cast<int>(what.shared)),
        "shared memory");
  return kernel;
}

// Returns the configuration of a launch. It refers to `cluster`.
cudaLaunchConfig_t config_of(const Launch& what, cudaLaunchAttribute& cluster) {
  cluster.id = cudaLaunchAttributeClusterDimension;
  cluster.val.clusterDim = {static_cast<unsigned>(what.cluster_size), 1, 1};
  cudaLaunchConfig_t config{};
  config.gridDim = dim3(static_cast<unsigned>(what.tiles * what.cluster_size));
  config.blockDim = dim3(THREADS);
  config.dynamicSmemBytes = static_cast<size_t>(what.shared);
  config.attrs = &cluster;
  config.numAttrs = what.cluster_size > 1 ? 1 : 0;
  return config;
}

// Returns how many clusters this GPU runs at once. Multiprocessors come in groups, some groups have
// fewer than others, and a cluster must fit into one group.
int64_t clusters_at_once(torch::stable::Tensor where, int64_t operand, int64_t tiles_of_8,
                         int64_t cluster_size, int64_t shared) {
  Launch what{};
  what.operand = static_cast<Operand>(operand);
  what.tiles_of_8 = tiles_of_8;
  what.cluster_size = cluster_size;
  what.shared = shared;
  what.tiles = 1;
  what.device = where.get_device_index();
  const torch::stable::accelerator::DeviceGuard guard(what.device);
  cudaLaunchAttribute cluster{};
  const cudaLaunchConfig_t config = config_of(what, cluster);
  int count = 0;
  check(cudaOccupancyMaxActiveClusters(&count, prepared_kernel(what), &config), "clusters");
  return count;
}

}  // namespace

void launch(const Launch& what) {
  const torch::stable::accelerator::DeviceGuard guard(what.device);
  void* stream = nullptr;
  TORCH_ERROR_CODE_CHECK(aoti_torch_get_current_cuda_stream(what.device, &stream));
  cudaLaunchAttribute cluster{};
  cudaLaunchConfig_t config = config_of(what, cluster);
  config.stream = static_cast<cudaStream_t>(stream);
  check(cudaLaunchKernelEx(&config, prepared_kernel(what), what.job), "launch");
}

}  // namespace pixelsr

STABLE_TORCH_LIBRARY_IMPL(pixelsr, CUDA, m) {
  m.impl("run_tiles_", TORCH_BOX(&pixelsr::run_tiles_));
  m.impl("clusters_at_once", TORCH_BOX(&pixelsr::clusters_at_once));
}
