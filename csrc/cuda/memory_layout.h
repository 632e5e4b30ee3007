// The memory layout of a tile's features, and access to them by one thread.
#pragma once

#include <cstdint>

#include "cuda/intrinsics.h"
#include "cuda/job.h"
#include "cuda/program.h"

namespace pixelsr {

// The beginning of a block's shared memory. The slots of packets follow, then the windows.
struct alignas(128) Control {
  Contents contents;
  int32_t row_turns[MOST_TURNS + 1];  // the current row modulo each number
  int32_t col_turns[MOST_TURNS + 1];  // the current column modulo each number
  alignas(UNIT) RowRun run;           // the current run of a row
};
static_assert(sizeof(Control) == 640,
              "pixelsr/sampling/engines/cuda/program.py leaves so much room");

// One column of a buffer, beginning at the first channel of a span.
struct Column {
  char* base;
  int block, first;
  bool operand;
};

// A tile of 8 * TILES samples that are drawn together. T is the type that products multiply.
template <class T, int TILES>
class Tile {
 public:
  static constexpr int SAMPLES = 8 * TILES;

  PIXELSR_DEVICE Tile(const Job& job, Control& control)
      : control_(control),
        storage_(job.storage + int64_t{cluster()} * control.contents.tile * UNIT),
        windows_(of_leader(shared_memory()) + control.contents.windows * UNIT) {}

  PIXELSR_DEVICE char* storage(int64_t units) const { return storage_ + units * UNIT; }
  PIXELSR_DEVICE char* windows() const { return windows_; }

  static PIXELSR_DEVICE int column_size(bool operand) {
    return SAMPLES * BLOCK * static_cast<int>(operand ? sizeof(T) : sizeof(float));
  }

  // Returns a column of the row that is `dr` rows away from the current one.
  PIXELSR_DEVICE Column ring(const Place& place, int dr, int col) const {
    int slot = control_.row_turns[place.turn] + dr + place.dr;
    if (slot < 0) slot += place.turn;
    const int at = slot * place.row + (place.left + col + place.dc) * column_size(place.operand);
    return {storage(place.offset) + at, place.block, place.first, place.operand != 0};
  }

  // Returns the column that is `dc` columns away from the current one.
  PIXELSR_DEVICE Column window(const Place& place, int dc) const {
    int slot = control_.col_turns[place.turn] + dc + place.dc;
    if (slot < 0) slot += place.turn;
    return {windows_ + place.offset * UNIT + slot * column_size(place.operand), place.block,
            place.first, place.operand != 0};
  }

  PIXELSR_DEVICE Column near(const Place& place, int col, int dc) const {
    return place.kind == WINDOW ? window(place, dc) : ring(place, 0, col + dc);
  }

  static PIXELSR_DEVICE float load(const Column& column, int channel, int sample) {
    const char* at = address(column, channel, sample);
    return column.operand ? to_float(*reinterpret_cast<const T*>(at))
                          : *reinterpret_cast<const float*>(at);
  }

  static PIXELSR_DEVICE void store(const Column& column, int channel, int sample, float value) {
    char* at = address(column, channel, sample);
    if (column.operand) {
      *reinterpret_cast<T*>(at) = from_float<T>(value);
    } else {
      *reinterpret_cast<float*>(at) = value;
    }
  }

 private:
  static PIXELSR_DEVICE char* address(const Column& column, int channel, int sample) {
    const int at = column.first + channel, in_block = at % BLOCK;
    return column.base + at / BLOCK * column.block +
           (column.operand ? (sample * BLOCK + in_block) * static_cast<int>(sizeof(T))
                           : (in_block * SAMPLES + sample) * static_cast<int>(sizeof(float)));
  }

  const Control& control_;
  char* storage_;
  char* windows_;
};

}  // namespace pixelsr
