// Products at all pixels of a row, or at one block's share of them. Weights and inputs are copied
// to shared memory packet by packet. A warp keeps the sums of two tiles of outputs for as many
// tiles of (pixel, 8 samples) as its registers hold.
#pragma once

#include "cuda/epilogue.h"
#include "cuda/memory_layout.h"

namespace pixelsr {

template <class T, int TILES>
class RowProduct {
 public:
  using Tile = pixelsr::Tile<T, TILES>;

  PIXELSR_DEVICE RowProduct(const Tile& tile, const RowRun& run, const char* program, char* slots,
                            int slot_size)
      : tile_(tile),
        run_(run),
        task_(run.header.task),
        program_(program + int64_t{run.offset} * UNIT),
        slots_(slots),
        slot_size_(slot_size),
        inputs_at_(run.step * weights_of_block()) {}

  // Computes columns first to last - 1.
  PIXELSR_DEVICE void run(int first, int last) {
    for (int col = first; col < last; col += run_.cols) {
      pass(col, last - col < run_.cols ? last - col : run_.cols);
    }
  }

 private:
  // The most tiles of (pixel, 8 samples) of a warp, which multiplies them by two tiles of outputs.
  static constexpr int MOST = 8;

  PIXELSR_DEVICE void pass(int first, int cols) {
    const int warp = thread() / LANES, pairs = (task_.tiles + 1) / 2, groups = WARPS / pairs;
    const int all = cols * TILES, share = (all + groups - 1) / groups;
    const int group = warp / pairs, begin = group * share;
    const int own = group >= groups || begin >= all ? 0 : all - begin < share ? all - begin : share;
    const int packets = task_.rows * steps();
    float sums[2][MOST][4] = {};
    for (int packet = 0; packet < STAGES - 1; ++packet) fetch(packet, packets, first, cols);
    for (int packet = 0; packet < packets; ++packet) {
      wait_for_copies<STAGES - 2>();
      sync_block();
      fetch(packet + STAGES - 1, packets, first, cols);
      multiply_packet(packet, cols, warp % pairs * 2, begin, own, sums);
    }
    sync_block();
    write(first, warp % pairs * 2, begin, own, sums);
    sync_block();  // the slots are free now
  }

  PIXELSR_DEVICE int weights_of_block() const {
    return task_.cols * task_.tiles * LANES * static_cast<int>(sizeof(Weights<T>));
  }

  PIXELSR_DEVICE int steps() const { return (task_.blocks + run_.step - 1) / run_.step; }

  PIXELSR_DEVICE int blocks_of(int step) const {
    const int rest = task_.blocks - step * run_.step;
    return rest < run_.step ? rest : run_.step;
  }

  PIXELSR_DEVICE char* slot(int packet) const { return slots_ + packet % STAGES * slot_size_; }

  // Returns the columns from the first tap of the first column to the last tap of the last one.
  PIXELSR_DEVICE int reach(int cols) const {
    return cols + run_.header.dc[task_.cols - 1] - run_.header.dc[0];
  }

  PIXELSR_DEVICE void fetch(int packet, int packets, int first, int cols) {
    if (packet < packets) {
      const int row = packet / steps(), step = packet % steps(), blocks = blocks_of(step);
      const int size = weights_of_block();
      const int before = row * task_.blocks + step * run_.step;
      const bool has_bias = task_.flags & OVERWRITES;
      const int bias = has_bias ? task_.tiles * BLOCK * static_cast<int>(sizeof(float)) : 0;
      copy(slot(packet), program_ + bias + int64_t{before} * size, blocks * size);
      const Column source =
          tile_.ring(task_.source, run_.header.dr[row], first + run_.header.dc[0]);
      const int length = reach(cols) * Tile::column_size(true);
      for (int block = 0; block < blocks; ++block) {
        const int number = task_.first_block + step * run_.step + block;
        copy(slot(packet) + inputs_at_ + block * length, source.base + number * source.block,
             length);
      }
    }
    end_group_of_copies();
  }

  static PIXELSR_DEVICE void copy(char* to, const char* from, int size) {
    for (int at = thread() * UNIT; at < size; at += THREADS * UNIT) {
      copy_16_bytes(to + at, from + at);
    }
  }

  PIXELSR_DEVICE void multiply_packet(int packet, int cols, int first_tile, int begin, int own,
                                      float (&sums)[2][MOST][4]) const {
    const int lane = thread() % LANES;
    const auto* weights = reinterpret_cast<const Weights<T>*>(slot(packet)) + lane;
    const T* inputs =
        reinterpret_cast<const T*>(slot(packet) + inputs_at_) + lane / 4 * BLOCK + lane % 4 * 4;
    const int block_size = reach(cols) * Tile::SAMPLES * BLOCK;
    const bool has_second = first_tile + 1 < task_.tiles;
    for (int block = 0; block < blocks_of(packet % steps()); ++block) {
      for (int tap = 0; tap < task_.cols; ++tap) {
        const int at = (block * task_.cols + tap) * task_.tiles + first_tile;
        const Weights<T> one = weights[at * LANES];
        const Weights<T> two = weights[(has_second ? at + 1 : at) * LANES];
        const int shift = (run_.header.dc[tap] - run_.header.dc[0]) * TILES;
        const T* there = inputs + block * block_size + (begin + shift) * 8 * BLOCK;
        if (own == MOST) {
          multiply_tiles<true>(one, two, there, own, sums);
        } else {
          multiply_tiles<false>(one, two, there, own, sums);
        }
      }
    }
  }

  // If ALL, there are MOST tiles and no branches, so that loads run ahead of products.
  template <bool ALL>
  static PIXELSR_DEVICE void multiply_tiles(const Weights<T>& one, const Weights<T>& two,
                                            const T* inputs, int own, float (&sums)[2][MOST][4]) {
    Inputs<T> in[MOST];
#pragma unroll
    for (int n = 0; n < MOST; ++n) {
      if (ALL || n < own) in[n] = *reinterpret_cast<const Inputs<T>*>(inputs + n * 8 * BLOCK);
    }
#pragma unroll
    for (int n = 0; n < MOST; ++n) {
      if (!ALL && n >= own) break;
      multiply(sums[0][n], one, in[n]);
      multiply(sums[1][n], two, in[n]);
    }
  }

  // Writes the results. Each lane passes its sums through shared memory to itself, so that the
  // epilogue is compiled for one tile instead of all tiles in registers.
  PIXELSR_DEVICE void write(int first, int first_tile, int begin, int own,
                            const float (&sums)[2][MOST][4]) const {
    struct alignas(16) Sums {
      float value[4];
    };
    auto* mine =
        reinterpret_cast<Sums*>(slots_) + thread() / LANES * MOST * LANES + thread() % LANES;
#pragma unroll
    for (int pair = 0; pair < 2; ++pair) {
#pragma unroll
      for (int n = 0; n < MOST; ++n) {
        if (n >= own) break;
        mine[n * LANES] = {sums[pair][n][0], sums[pair][n][1], sums[pair][n][2], sums[pair][n][3]};
      }
      if (first_tile + pair >= task_.tiles) break;
#pragma unroll 1
      for (int n = 0; n < own; ++n) {
        const Sums& sum = mine[n * LANES];
        write_tile(first + (begin + n) / TILES, (begin + n) % TILES * 8, first_tile + pair,
                   sum.value);
      }
    }
  }

  PIXELSR_DEVICE void write_tile(int col, int sample, int tile, const float (&sum)[4]) const {
    const Rows rows = rows_of(task_, task_.first_tile + tile);
    const Column out = tile_.ring(task_.out, 0, col);
    const Column add = task_.add.kind == ABSENT ? out : tile_.ring(task_.add, 0, col);
    const Column result = task_.function == NOTHING ? out : tile_.ring(task_.result, 0, col);
    const float* bias = reinterpret_cast<const float*>(program_) + tile * BLOCK;
    float total[4];
    load_start<Tile>(task_, rows, bias, out, add, sample, total);
#pragma unroll
    for (int k = 0; k < 4; ++k) total[k] += sum[k];
    store_outputs<Tile>(task_, rows, out, result, sample, total);
  }

  const Tile& tile_;
  const RowRun& run_;
  const Task task_;
  const char* program_;
  char* slots_;
  int slot_size_, inputs_at_;
};

}  // namespace pixelsr
