// The arguments of the kernel.
#pragma once

#include <cstdint>

#include "common/raster_scan.h"
#include "cuda/program.h"

namespace pixelsr {

// The events that take a tile's time, in the order of pixelsr/sampling/engines/cuda/engine.py.
enum Event {
  BEGIN_ROW,
  RUN_ROW,
  KNOWN_ROW,
  BEGIN_PIXEL,
  RUN_LEFT,
  RUN_COLOR,
  DRAW,
  END_PIXEL,
  EVENTS
};

struct Job {
  const char* program;
  const int32_t* table;
  char* storage;        // [tiles][Contents::tile units]
  const float* values;  // [inputs][values_size], the conditioning features
  int64_t values_size;
  uint8_t* images;    // [samples, C, H, W]
  const bool* known;  // [1 or samples, C, H, W]
  int64_t known_stride;
  float* logits;  // [samples, levels], written if the caller draws
  int64_t samples, samples_per_input, levels;
  int64_t first_tile;  // of this launch
  uint64_t seed, first_index;
  float temperature;
  bool draws;
  int64_t* faults;  // [samples], see record_fault
  int64_t* ticks;   // [tiles][EVENTS], sums of clock ticks of the first blocks; or null
  Cursor from;
  Order order;
};

}  // namespace pixelsr
