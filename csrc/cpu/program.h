// The program of a plan for the sampling operators: a flat list of integers, which
// pixelsr/sampling/engines/cpu/program.py writes in the same order. The reader rejects lists that
// are not programs; check_program.h rejects programs that cannot run.
#pragma once

#include <torch/headeronly/util/Exception.h>

#include <cstdint>
#include <vector>

#include "common/moments.h"
#include "cpu/simd/kernels.h"

namespace pixelsr {

// A buffer [rows, samples, padded, channels] in the storage, from `offset * samples` on; see
// pixelsr/sampling/plan/ir.py. In the storage of a draw, the noise of a row follows the buffers.
// `padding` is the number of columns to the right of the image that are computed.
struct Buffer {
  int64_t offset, rows, left, padded, channels, padding;
};

struct Span {
  int64_t buffer, first, count, dr, dc;
};

// Adjacent columns of the window of a product: `length` numbers from (row + dr, col + dc) on.
struct Segment {
  int64_t dr, dc, length;
};

// The limits of a step; pixelsr/sampling/engines/cpu/program.py refuses plans that exceed them.
constexpr size_t MOST_SEGMENTS = 64, MOST_ARGS = 32;
constexpr int64_t MOST_PADDING = 1024;

// The limit of the magnitude of numbers, so that sums of several numbers do not overflow.
constexpr int64_t MOST_NUMBER = int64_t{1} << 48;

enum class Kind : int64_t { PRODUCT, POINTWISE };

constexpr int64_t NO_SCAN = 0;

struct Step {
  Kind kind;
  bool of_rows;  // runs for whole rows only
  int64_t scan;  // a number
  bool reverse;  // the scan's direction
  int64_t first_row, padding;
  Span out;
  std::vector<Span> args;  // of a product: the source, then the added span
  // Products.
  bool overwrite, has_source, has_add;
  int64_t weight, bias, depth;  // offsets into the packed weights and the constants
  std::vector<Segment> segments;
  // Pointwise functions.
  std::vector<Instruction> code;

  const Span& add() const { return args[has_source]; }
};

struct Program {
  int64_t height, width, colors, levels;
  int64_t image;  // a buffer
  int64_t size;   // of all buffers of one sample
  std::vector<Span> logits;
  std::vector<Buffer> buffers;
  std::vector<int64_t> values;  // the buffers of the conditioning features
  std::vector<Step> steps;
  std::vector<std::vector<int64_t>> moments;  // numbers of steps, see common/moments.h

  int64_t padding_lists() const {
    return static_cast<int64_t>(moments.size()) - first_padding_list(colors);
  }
};

class ProgramReader {
 public:
  ProgramReader(const int64_t* data, int64_t size) : next_(data), end_(data + size) {}

  Program read() {
    Program program{number(), number(), number(), number(), number(), number(), {}, {}, {}, {}, {}};
    list(program.logits, [this] { return span(); });
    list(program.buffers,
         [this] { return Buffer{number(), number(), number(), number(), number(), number()}; });
    list(program.values, [this] { return number(); });
    list(program.steps, [this] { return step(); });
    list(program.moments, [this] {
      std::vector<int64_t> steps;
      list(steps, [this] { return number(); });
      return steps;
    });
    STD_TORCH_CHECK(next_ == end_, "the program is longer than what it describes");
    return program;
  }

 private:
  int64_t number() {
    STD_TORCH_CHECK(next_ < end_, "the program ends in the middle of a step");
    const int64_t number = *next_++;
    STD_TORCH_CHECK(-MOST_NUMBER < number && number < MOST_NUMBER, "the program has the number ",
                    number, ", expected less than 2^48");
    return number;
  }

  int64_t choice(const char* name, int64_t choices) {
    const int64_t number = this->number();
    STD_TORCH_CHECK(number >= 0 && number < choices, "the program has the ", name, " ", number,
                    ", expected 0 to ", choices - 1);
    return number;
  }

  bool flag(const char* name) { return choice(name, 2) == 1; }

  Span span() { return Span{number(), number(), number(), number(), number()}; }

  template <class Item, class Read>
  void list(std::vector<Item>& items, Read read) {
    const int64_t count = number();
    STD_TORCH_CHECK(count >= 0 && count <= end_ - next_, "the program has a list of ", count,
                    " items, but ", end_ - next_, " numbers are left");
    for (int64_t i = 0; i < count; ++i) items.push_back(read());
  }

  Step step() {
    Step step{};
    step.kind = static_cast<Kind>(choice("kind", 2));
    step.of_rows = flag("of_rows");
    step.scan = number();
    step.reverse = flag("reverse");
    step.first_row = number();
    step.padding = number();
    step.out = span();
    list(step.args, [this] { return span(); });
    if (step.kind == Kind::PRODUCT) {
      step.overwrite = flag("overwrite");
      step.has_source = flag("has_source");
      step.has_add = flag("has_add");
      step.weight = number();
      step.bias = number();
      step.depth = number();
      list(step.segments, [this] { return Segment{number(), number(), number()}; });
    } else {
      list(step.code, [this] { return instruction(); });
    }
    return step;
  }

  Instruction instruction() {
    const auto opcode = static_cast<Opcode>(choice("opcode", static_cast<int64_t>(Opcode::COUNT)));
    return {opcode, number()};
  }

  const int64_t* next_;
  const int64_t* end_;
};

}  // namespace pixelsr
