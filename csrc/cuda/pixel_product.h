// Products at one pixel. Each warp has a tile of 16 outputs, whose weights are in a packet in
// shared memory.
#pragma once

#include "cuda/epilogue.h"
#include "cuda/memory_layout.h"

namespace pixelsr {

template <class T, int TILES>
class PixelProduct {
 public:
  using Tile = pixelsr::Tile<T, TILES>;

  // Multiplies the inputs of one packet. The inputs of a task may be in several packets.
  PIXELSR_DEVICE void run(const Tile& tile, const Header& header, int col) {
    const Task task = header.task;
    const int own = thread() / LANES;
    if (own >= task.tiles) return;
    const char* body = reinterpret_cast<const char*>(&header + 1);
    const Rows rows = rows_of(task, task.first_tile + own);
    const Column out = tile.near(task.out, col, 0);
    if (task.flags & BEGINS) {
      begin(task, rows, reinterpret_cast<const float*>(body) + own * BLOCK, out,
            task.add.kind == ABSENT ? out : tile.near(task.add, col, 0));
    }
    const bool has_bias = (task.flags & BEGINS) && (task.flags & OVERWRITES);
    const int bias = has_bias ? task.tiles * BLOCK * static_cast<int>(sizeof(float)) : 0;
    const auto* weights = reinterpret_cast<const Weights<T>*>(body + bias);
    // Sum block by block, and in each block tap by tap: the order does not depend on how packets
    // cut the inputs, and it is the order of row products.
    const Column first = tile.near(task.source, col, header.dc[0]);
    for (int block = 0; block < task.blocks; ++block) {
      for (int tap = 0; tap < task.cols; ++tap) {
        const Column source = tap == 0 ? first : tile.near(task.source, col, header.dc[tap]);
        const int at = (block * task.cols + tap) * task.tiles + own;
        multiply_block(weights[at * LANES + thread() % LANES],
                       source.base + (task.first_block + block) * source.block);
      }
    }
    if (task.flags & ENDS) end(task, rows, out, tile, col);
  }

 private:
  PIXELSR_DEVICE void begin(const Task& task, const Rows& rows, const float* bias,
                            const Column& out, const Column& add) {
#pragma unroll
    for (int n = 0; n < TILES; ++n) {
      load_start<Tile>(task, rows, bias, out, add, 8 * n, start_[n]);
#pragma unroll
      for (int k = 0; k < 4; ++k) sums_[n][k] = 0;
    }
  }

  PIXELSR_DEVICE void multiply_block(const Weights<T>& weights, const char* inputs) {
    const int lane = thread() % LANES;
#pragma unroll
    for (int n = 0; n < TILES; ++n) {
      const T* own = reinterpret_cast<const T*>(inputs) + (8 * n + lane / 4) * BLOCK + lane % 4 * 4;
      multiply(sums_[n], weights, *reinterpret_cast<const Inputs<T>*>(own));
    }
  }

  PIXELSR_DEVICE void end(const Task& task, const Rows& rows, const Column& out, const Tile& tile,
                          int col) {
    const Column result = task.function == NOTHING ? out : tile.near(task.result, col, 0);
#pragma unroll
    for (int n = 0; n < TILES; ++n) {
      float total[4];
#pragma unroll
      for (int k = 0; k < 4; ++k) total[k] = start_[n][k] + sums_[n][k];
      store_outputs<Tile>(task, rows, out, result, 8 * n, total);
    }
  }

  float sums_[TILES][4], start_[TILES][4];
};

}  // namespace pixelsr
