// run_tiles_: draws images by a program, or runs it up to the logits of the next value. A file that
// includes this header defines `launch`.
#pragma once

#include <torch/csrc/stable/tensor.h>
#include <torch/headeronly/core/ScalarType.h>
#include <torch/headeronly/util/Exception.h>

#include <cstdint>

#include "cuda/job.h"

namespace pixelsr {

// The type T that products multiply.
enum class Operand : int64_t { FLOAT16, BFLOAT16, FLOAT32 };

struct Launch {
  Job job;
  Operand operand;
  int64_t tiles_of_8;    // samples of a tile, divided by 8
  int64_t cluster_size;  // blocks of a cluster
  int64_t shared;        // bytes of shared memory of a block
  int64_t tiles;         // to draw
  int32_t device;
};

void launch(const Launch& launch);

inline void run_tiles_(torch::stable::Tensor program, torch::stable::Tensor table,
                       torch::stable::Tensor storage, torch::stable::Tensor values,
                       torch::stable::Tensor images, torch::stable::Tensor known_mask,
                       torch::stable::Tensor unknown, torch::stable::Tensor last_and_stop,
                       torch::stable::Tensor logits, torch::stable::Tensor ticks,
                       torch::stable::Tensor faults, int64_t row, int64_t col, int64_t color,
                       int64_t rows, int64_t first_col, int64_t cols, int64_t seed,
                       int64_t first_index, double temperature, bool draws, int64_t first_tile,
                       int64_t tiles, int64_t operand, int64_t tiles_of_8, int64_t cluster_size,
                       int64_t shared) {
  STD_TORCH_CHECK(values.size(0) >= 1 && images.size(0) % values.size(0) == 0,
                  "run_tiles_: ", images.size(0), " samples of ", values.size(0), " inputs");
  STD_TORCH_CHECK(tiles_of_8 == 1 || tiles_of_8 == 2,
                  "run_tiles_: tiles of 8 or 16 samples are known, got ", 8 * tiles_of_8);
  Launch what{};
  Job& job = what.job;
  job.program = static_cast<const char*>(program.const_data_ptr());
  job.table = table.const_data_ptr<int32_t>();
  job.storage = static_cast<char*>(storage.mutable_data_ptr());
  job.values = values.const_data_ptr<float>();
  job.values_size = values.size(1);
  job.images = images.mutable_data_ptr<uint8_t>();
  job.known = known_mask.const_data_ptr<bool>();
  job.known_stride = known_mask.size(0) > 1 ? known_mask.stride(0) : 0;
  job.logits = logits.mutable_data_ptr<float>();
  job.samples = images.size(0);
  job.samples_per_input = job.samples / values.size(0);
  job.levels = logits.size(1);
  job.seed = static_cast<uint64_t>(seed);
  job.first_index = static_cast<uint64_t>(first_index);
  job.temperature = static_cast<float>(temperature);
  job.draws = draws;
  job.ticks = ticks.numel() > 0 ? ticks.mutable_data_ptr<int64_t>() : nullptr;
  job.faults = faults.mutable_data_ptr<int64_t>();
  job.first_tile = first_tile;
  job.from = {row, col, color};
  const int64_t height = images.size(2), width = images.size(3);
  const int64_t* last_unknown = last_and_stop.const_data_ptr<int64_t>();
  job.order = {height,
               width,
               images.size(1),
               first_col,
               cols,
               rows,
               unknown.const_data_ptr<bool>(),
               last_unknown,
               last_unknown + height * width};
  what.operand = static_cast<Operand>(operand);
  what.tiles_of_8 = tiles_of_8;
  what.cluster_size = cluster_size;
  what.shared = shared;
  what.tiles = tiles;
  what.device = images.get_device_index();
  if (tiles > 0) launch(what);
}

}  // namespace pixelsr
