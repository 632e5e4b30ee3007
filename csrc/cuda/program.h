// A plan as the GPU runs it: a program of packets, and a table that says where they are. Written by
// pixelsr/sampling/engines/cuda/program.py in the same order; all lengths are in bytes but where it
// says so.
#pragma once

#include <cstdint>

namespace pixelsr {

// Tapes and storage are cut into units of so many bytes, the size of one asynchronous copy.
constexpr int UNIT = 16;

// Packets of one run that are in shared memory, or on their way there, at once.
constexpr int STAGES = 3;

// Rows of a ring and columns of a window are at most so many.
constexpr int MOST_TURNS = 32;

// Channels stand in blocks: a buffer is [row][block][column][SAMPLES][16] where products read it,
// in the type that they multiply, and else [row][block][column][16][SAMPLES] in float.
constexpr int BLOCK = 16;

// Where a span of channels stands: in a ring of rows in global memory, or in a window of the last
// columns in the shared memory of the cluster's leader. What is read may stand some rows and
// columns away from the current pixel.
enum PlaceKind : int32_t { ABSENT, RING, WINDOW };

struct Place {
  int32_t kind;
  int32_t operand;  // do products read it?
  int32_t first;    // channel
  int32_t offset;   // in units, of the buffer
  int32_t block;    // from one block of channels to the next
  int32_t turn;     // rows of the ring, or columns of the window
  int32_t row;      // from one row of the ring to the next
  int32_t left;     // margin of the ring's rows
  int32_t dr, dc;
};

enum TaskKind : int32_t { PRODUCT, POINTWISE, BARRIER, SCAN };
enum Function : int32_t { NOTHING, RELU, GATE };
enum Flags : int32_t { OVERWRITES = 1, KEEPS = 2, BEGINS = 4, ENDS = 8, WAITS = 16, REVERSE = 32 };

// A step of the plan, or a part of it: some tiles of 16 outputs; in a packet, some of its inputs.
struct Task {
  int32_t kind, function, flags;
  int32_t count;                // channels of out
  int32_t first_tile, tiles;    // of outputs, WARPS at most
  int32_t first_block, blocks;  // of inputs; of a formula, `blocks` is how many arguments it has
  int32_t rows, cols;           // of the window
  int32_t code;                 // instructions of a formula
  int32_t ahead;  // in units, the packet that is STAGES - 1 further on; 0 where there is none
  Place source, out, add, result;
};

// What a packet begins with. Of a product, biases follow where it begins by overwriting, 16 for
// each tile of outputs, then weights [block][column][tile][lane].
struct Header {
  Task task;
  int8_t dr[16], dc[16];  // the window
};

// What follows the header of a formula: its arguments, one Place each, then its code.
struct Instruction {
  int32_t opcode, operand;  // of CONST the bits of a float
};

// A run of packets that are fetched one behind the other, for one pixel.
struct PixelRun {
  int32_t offset;  // in units
  int32_t packets;
  int32_t sizes[STAGES - 1];  // in units, of the first
};

// A part of a task at whole rows. Its program is biases, 16 for each tile, then for each row of
// taps and for each `step` blocks of inputs a packet of weights [block][column][tile]; of a
// formula, what a packet has after its header. A scan is a list of what is run at each pixel.
struct RowRun {
  int32_t offset;  // in units; of a scan, the number of its list
  int32_t step;
  int32_t cols;       // at once, at most
  int32_t first_row;  // there is nothing to do above it
  int32_t padding;    // columns to the right of the image where it runs too
  Header header;
};

// Channels of a window that are fetched from the ring, or written back to it.
struct Transfer {
  Place ring, window;
  int32_t first_block, blocks;
};

// Values of the image stage: `channels` from `offset` on, for each pixel of rows that are `padding`
// columns wider than the image.
struct Values {
  Place ring;
  int32_t offset, channels, padding;
};

// Lists are numbered: rows, known rows, then left and each color, each without and with its head;
// then the columns to the right of the image, and scans of rows.
constexpr int ROW_LIST = 0, KNOWN_ROW_LIST = 1, LEFT_LIST = 2, FIRST_COLOR_LIST = 4;

struct List {
  int32_t first, count;  // runs
};

// The table begins with this; what it names are places in the table, in ints.
struct Contents {
  int32_t lists;  // [list][member]
  int32_t pixel_runs, row_runs;
  int32_t image_ring, image_window, logits;  // of each color
  int32_t values, values_count;
  int32_t fetches, fetches_count, stores, stores_count;
  int32_t all, all_count;         // windows as transfers, where something stands beside the image
  int32_t padding;                // columns to the right of the image that have features
  int32_t windows, windows_size;  // in shared memory, in units
  int32_t pixel_slot, row_slot;   // of a packet in shared memory, in units
  int32_t noise, saved;           // in a tile's storage, in units
  int32_t tile;                   // in units, the storage of a tile
};

}  // namespace pixelsr
