// A plan as the sampling operators are given it: a flat list of integers, written by
// pixelsr/sampling/engines/program.py in the same order.
#pragma once

#include <torch/headeronly/util/Exception.h>

#include <cstdint>
#include <vector>

#include "cpu/kernels.h"

namespace pixelsr {

// [rows, samples, padded, channels] in the storage, from `offset * samples` on; see steps.py. The
// storage goes on behind the buffers: with the noise of a row, where a plan is run to draw. So many
// columns to the right of the picture are a part of it: `padding`.
struct Buffer {
  int64_t offset, rows, left, padded, channels, padding;
};

struct Span {
  int64_t buffer, first, count, dr, dc;
};

// Neighbouring columns of the window of a product: `length` values from (row + dr, col + dc) on.
struct Segment {
  int64_t dr, dc, length;
};

// Of a step; pixelsr/sampling/engines/program.py refuses more.
constexpr size_t MOST_SEGMENTS = 64, MOST_ARGS = 32;

enum class Kind : int64_t { PRODUCT, FORMULA };
enum class When : int64_t { ROW, LEFT, COLOUR };

constexpr int64_t NO_SCAN = 0;

struct Step {
  Kind kind;
  When when;
  int64_t colour;
  bool head;
  int64_t scan;  // a number
  bool reverse;  // the scan's direction
  int64_t first_row, padding;
  Span out;
  std::vector<Span> args;  // of a product: the source, then what is added
  // Products.
  bool overwrite, has_source, has_add;
  int64_t weight, bias, depth;  // offsets into the packed weights and the constants
  std::vector<Segment> segments;
  // Formulas.
  std::vector<Instruction> code;

  const Span& add() const { return args[has_source]; }
};

struct Program {
  int64_t height, width, colours, levels;
  int64_t image;  // a buffer
  int64_t size;   // of all buffers of one sample
  std::vector<Span> logits;
  std::vector<Buffer> buffers;
  std::vector<int64_t> values;  // the buffers of the image stage's values
  std::vector<Step> steps;
};

class ProgramReader {
 public:
  ProgramReader(const int64_t* data, int64_t size) : next_(data), end_(data + size) {}

  Program read() {
    Program program{number(), number(), number(), number(), number(), number(), {}, {}, {}, {}};
    list(program.logits, [this] { return span(); });
    list(program.buffers,
         [this] { return Buffer{number(), number(), number(), number(), number(), number()}; });
    list(program.values, [this] { return number(); });
    list(program.steps, [this] { return step(); });
    STD_TORCH_CHECK(next_ == end_, "the program is longer than what it describes");
    return program;
  }

 private:
  int64_t number() {
    STD_TORCH_CHECK(next_ < end_, "the program ends in the middle of a step");
    return *next_++;
  }

  Span span() { return Span{number(), number(), number(), number(), number()}; }

  template <class Item, class Read>
  void list(std::vector<Item>& items, Read read) {
    const int64_t count = number();
    for (int64_t i = 0; i < count; ++i) items.push_back(read());
  }

  Step step() {
    Step step{};
    step.kind = static_cast<Kind>(number());
    step.when = static_cast<When>(number());
    step.colour = number();
    step.head = number();
    step.scan = number();
    step.reverse = number();
    step.first_row = number();
    step.padding = number();
    step.out = span();
    list(step.args, [this] { return span(); });
    if (step.kind == Kind::PRODUCT) {
      step.overwrite = number();
      step.has_source = number();
      step.has_add = number();
      step.weight = number();
      step.bias = number();
      step.depth = number();
      list(step.segments, [this] { return Segment{number(), number(), number()}; });
      STD_TORCH_CHECK(step.segments.size() <= MOST_SEGMENTS, "a product of too many segments");
    } else {
      STD_TORCH_CHECK(step.kind == Kind::FORMULA, "the program has a step of an unknown kind");
      list(step.code, [this] { return instruction(); });
      STD_TORCH_CHECK(step.args.size() <= MOST_ARGS, "a formula of too many arguments");
    }
    return step;
  }

  Instruction instruction() {
    const auto opcode = static_cast<Opcode>(number());
    STD_TORCH_CHECK(opcode >= Opcode::ARG && opcode < Opcode::COUNT,
                    "the program has an unknown opcode");
    return {opcode, number()};
  }

  const int64_t* next_;
  const int64_t* end_;
};

}  // namespace pixelsr
