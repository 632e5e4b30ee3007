// gumbel_noise_: writes the noise of consecutive samples at consecutive positions for every level.

#include <torch/csrc/stable/library.h>
#include <torch/csrc/stable/ops.h>
#include <torch/csrc/stable/tensor.h>

#include <algorithm>
#include <vector>

#include "cpu/checks.h"
#include "cpu/simd/kernels.h"

namespace pixelsr {
namespace {

void gumbel_noise_(Tensor out, int64_t seed, int64_t first_index, int64_t first_position) {
  STD_TORCH_CHECK(is_like(out, ScalarType::Float, {ANY, ANY, ANY}),
                  "gumbel_noise_: out must be float32 [samples, positions, levels], got ",
                  described(out));
  const int64_t positions = out.size(1), levels = out.size(2);
  const int64_t grain = std::max<int64_t>(1, 4096 / std::max<int64_t>(1, levels));
  float* data = out.mutable_data_ptr<float>();
  const auto fill = [&](int64_t begin, int64_t end) {
    std::vector<float> noise(levels);
    for (int64_t value = begin; value < end; ++value) {
      const int64_t sample = value / positions, position = value % positions;
      kernels<float>().noise(
          noise.data(), levels, static_cast<uint64_t>(seed),
          static_cast<uint64_t>(first_index) + sample,
          static_cast<uint32_t>(static_cast<uint64_t>(first_position) + position));
      float* to = data + sample * out.stride(0) + position * out.stride(1);
      for (int64_t level = 0; level < levels; ++level) to[level * out.stride(2)] = noise[level];
    }
  };
  torch::stable::parallel_for(0, out.size(0) * positions, grain, fill);
}

}  // namespace
}  // namespace pixelsr

STABLE_TORCH_LIBRARY_IMPL(pixelsr, CPU, m) {
  m.impl("gumbel_noise_", TORCH_BOX(&pixelsr::gumbel_noise_));
}
