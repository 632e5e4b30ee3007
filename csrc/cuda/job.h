// What a kernel is given.
#pragma once

#include <cstdint>

#include "common/raster_scan.h"
#include "cuda/program.h"

namespace pixelsr {

// What a tile's time goes into; pixelsr/sampling/engines/cuda/engine.py names them.
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
  const float* values;  // [inputs][values_size], of the image stage
  int64_t values_size;
  uint8_t* images;    // [samples, C, H, W]
  const bool* known;  // [1 or samples, C, H, W]
  int64_t known_stride;
  float* logits;  // [samples, levels], where the caller draws
  int64_t samples, samples_per_input, levels;
  int64_t first_tile;  // of those that this launch draws
  uint64_t seed, first_index;
  float temperature;
  bool draws;
  int64_t* faults;  // [samples], see record_fault
  int64_t* ticks;   // [tiles][EVENTS], the leaders' clocks are added to it; null where nobody asks
  Cursor from;
  Order order;
};

}  // namespace pixelsr
