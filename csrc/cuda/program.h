// The CUDA program of a plan: a sequence of packets, and a table of their offsets.
// pixelsr/sampling/engines/cuda/program.py writes it in the same order. Lengths are in bytes unless
// stated otherwise.
#pragma once

#include <cstdint>

namespace pixelsr {

// The program and the storage are cut into units of 16 bytes, the size of an asynchronous copy.
constexpr int UNIT = 16;

// The number of packets of a run that are in shared memory, or being copied there, at once.
constexpr int STAGES = 3;

// The most rows of a ring and columns of a window.
constexpr int MOST_TURNS = 32;

// Channels are stored in blocks. A buffer that products read is [row][block][column][SAMPLES][16],
// in the type that they multiply. All others are [row][block][column][16][SAMPLES], in float.
constexpr int BLOCK = 16;

// The place of a span of channels: a ring of rows in global memory, or a window of the last columns
// in the shared memory of the cluster's first block. A span that is read may be some rows and
// columns away from the current pixel.
enum PlaceKind : int32_t { ABSENT, RING, WINDOW };

struct Place {
  int32_t kind;
  int32_t operand;  // true if products read it
  int32_t first;    // channel
  int32_t offset;   // of the buffer, in units
  int32_t block;    // stride between blocks of channels
  int32_t turn;     // rows of the ring, or columns of the window
  int32_t row;      // stride between rows of the ring
  int32_t left;     // margin of the ring's rows
  int32_t dr, dc;
};

enum TaskKind : int32_t { PRODUCT, POINTWISE, BARRIER, SCAN };
enum Function : int32_t { NOTHING, RELU, GATE };
enum Flags : int32_t { OVERWRITES = 1, KEEPS = 2, BEGINS = 4, ENDS = 8, WAITS = 16, REVERSE = 32 };

// A step of the plan, or a part of it: some tiles of 16 outputs and, in a packet, some inputs.
struct Task {
  int32_t kind, function, flags;
  int32_t count;                // channels of out
  int32_t first_tile, tiles;    // of outputs, at most WARPS
  int32_t first_block, blocks;  // of inputs; a pointwise step has `blocks` arguments
  int32_t rows, cols;           // of the window
  int32_t code;                 // instructions of a pointwise step
  int32_t ahead;                // size in units of the packet STAGES - 1 further on, or 0
  Place source, out, add, result;
};

// The header of a packet. In the packet of a product, biases follow, 16 for each tile of outputs,
// if it begins a sum and overwrites. Then follow weights [block][column][tile][lane].
struct Header {
  Task task;
  int8_t dr[16], dc[16];  // the window
};

// An instruction of a pointwise step. The header is followed by one Place for each argument, then
// by the instructions.
struct Instruction {
  int32_t opcode, operand;  // for CONST, the bits of a float
};

// A run of consecutive packets that are fetched for one pixel.
struct PixelRun {
  int32_t offset;  // in units
  int32_t packets;
  int32_t sizes[STAGES - 1];  // of the first packets, in units
};

// A part of a task that runs for whole rows. The program of a product has biases, 16 for each tile,
// then a packet of weights [block][column][tile] for each row of taps and each `step` blocks of
// inputs. The program of a pointwise step is the same as in a packet after its header. A scan
// refers to a list of tasks that run at each pixel.
struct RowRun {
  int32_t offset;  // in units; for a scan, the number of its list
  int32_t step;
  int32_t cols;       // the most at once
  int32_t first_row;  // there is nothing to do above this row
  int32_t padding;    // columns to the right of the image where it also runs
  Header header;
};

// Blocks of channels of a window that are fetched from the ring, or written back to it.
struct Transfer {
  Place ring, window;
  int32_t first_block, blocks;
};

// Some conditioning features: `channels` channels from `offset` on, at each pixel of rows that are
// `padding` columns wider than the image.
struct Values {
  Place ring;
  int32_t offset, channels, padding;
};

// A list of runs. Lists are numbered as in common/moments.h; then follow the scans of rows.
struct List {
  int32_t first, count;  // of runs
};

// The beginning of the table. Most entries are offsets in the table, in ints.
struct Contents {
  int32_t lists;  // [list][cluster_rank]
  int32_t pixel_runs, row_runs;
  int32_t image_ring, image_window, logits;  // logits: of each color
  int32_t values, values_count;
  int32_t fetches, fetches_count, stores, stores_count;
  int32_t all, all_count;         // all windows, if features beside the image may be nonzero
  int32_t padding;                // columns to the right of the image with features
  int32_t windows, windows_size;  // in shared memory, in units
  int32_t pixel_slot, row_slot;   // sizes of slots of packets, in units
  int32_t noise, saved;           // offsets in a tile's storage, in units
  int32_t tile;                   // size of a tile's storage, in units
};

}  // namespace pixelsr
