// The epilogue of a product: writes one lane's share of 16 outputs of 8 samples.
#pragma once

#include "common/pointwise.h"
#include "cuda/memory_layout.h"

namespace pixelsr {

// A lane's rows of a tile of 16 outputs: g = lane / 4 and g + 8. The two rows of a gate are the
// tanh and the sigmoid of one result, so that a lane has both.
struct Rows {
  int channel[2];  // channels of out, or -1
  int result;      // channel of the gate's result, or -1
};

PIXELSR_DEVICE Rows rows_of(const Task& task, int tile) {
  const int g = thread() % LANES / 4;
  if (task.function == GATE) {
    const int half = task.count / 2, at = BLOCK / 2 * tile + g;
    return at < half ? Rows{{at, half + at}, at} : Rows{{-1, -1}, -1};
  }
  const int at = BLOCK * tile + g;
  return {{at < task.count ? at : -1, at + 8 < task.count ? at + 8 : -1}, -1};
}

// Returns the first of the lane's two adjacent samples, among 8.
PIXELSR_DEVICE int first_sample() { return thread() % 4 * 2; }

// Loads the addends of the sums: biases or the previous contents of `out`, and `add` if present.
template <class Tile>
PIXELSR_DEVICE void load_start(const Task& task, const Rows& rows, const float* bias,
                               const Column& out, const Column& add, int sample,
                               float (&start)[4]) {
#pragma unroll
  for (int k = 0; k < 4; ++k) {
    const int channel = rows.channel[k / 2], own = sample + first_sample() + k % 2;
    start[k] = 0;
    if (channel < 0) continue;
    start[k] = task.flags & OVERWRITES ? bias[thread() % LANES / 4 + k / 2 * 8]
                                       : Tile::load(out, channel, own);
    if (task.add.kind != ABSENT) start[k] += Tile::load(add, channel, own);
  }
}

template <class Tile>
PIXELSR_DEVICE void store_outputs(const Task& task, const Rows& rows, const Column& out,
                                  const Column& result, int sample, const float (&total)[4]) {
#pragma unroll
  for (int k = 0; k < 4; ++k) {
    const int channel = rows.channel[k / 2], own = sample + first_sample() + k % 2;
    if (channel < 0) continue;
    if (task.flags & KEEPS) Tile::store(out, channel, own, total[k]);
    if (task.function == RELU) Tile::store(result, channel, own, relu_of(total[k]));
  }
  if (task.function != GATE || rows.result < 0) return;
#pragma unroll
  for (int k = 0; k < 2; ++k) {
    const float gated = gate_of<Exponential>(total[k], total[k + 2]);
    Tile::store(result, rows.result, sample + first_sample() + k, gated);
  }
}

}  // namespace pixelsr
