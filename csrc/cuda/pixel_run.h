// Runs of packets at one pixel. They are copied to slots in shared memory, STAGES - 1 ahead.
#pragma once

#include <cstdint>

#include "cuda/memory_layout.h"
#include "cuda/pixel_product.h"
#include "cuda/pointwise.h"

namespace pixelsr {

// The slots of packets in the block's shared memory.
struct Slots {
  char* first;
  int size;

  PIXELSR_DEVICE char* of(int packet) const { return first + packet % STAGES * size; }

  PIXELSR_DEVICE void fetch(int packet, const char*& next, int units) const {
    for (int i = thread(); i < units; i += THREADS) {
      copy_16_bytes(of(packet) + i * UNIT, next + i * UNIT);
    }
    next += units * UNIT;
    end_group_of_copies();
  }
};

template <class T, int TILES>
PIXELSR_CALLED void run_packets(const PixelRun& run, const char* program, Slots slots,
                                Tile<T, TILES> tile, int col) {
  const char* next = program + int64_t{run.offset} * UNIT;
  const int packets = run.packets;
  for (int i = 0; i < STAGES - 1; ++i) slots.fetch(i, next, i < packets ? run.sizes[i] : 0);
  PixelProduct<T, TILES> product;
  for (int i = 0; i < packets; ++i) {
    wait_for_copies<STAGES - 2>();
    sync_block();
    const Header& header = *reinterpret_cast<const Header*>(slots.of(i));
    slots.fetch(i + STAGES - 1, next, header.task.ahead);
    if (header.task.kind == PRODUCT) {
      product.run(tile, header, col);
    } else if (header.task.kind == POINTWISE) {
      run_pointwise<Tile<T, TILES>>(header.task, slots.of(i) + sizeof(Header),
                                    [&](const Place& place) { return tile.near(place, col, 0); });
    } else {
      sync_cluster();
    }
  }
  sync_block();
}

}  // namespace pixelsr
