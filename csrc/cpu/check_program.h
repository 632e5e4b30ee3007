// Checks of a program, made once. A program that passes them accesses only the storage, the packed
// weights and the constants, so that nothing has to be checked while it runs.
#pragma once

#include <torch/csrc/stable/tensor.h>
#include <torch/headeronly/util/Exception.h>

#include <cstdint>
#include <map>
#include <utility>

#include "cpu/checks.h"
#include "cpu/program.h"
#include "cpu/thread_schedule.h"

namespace pixelsr {

// Calls `visit(buffer, dr, dc, first, length)` for each range of numbers that a step reads or
// writes: `length` numbers from channel `first` of the pixel that is `dr` rows and `dc` columns
// away.
template <class Visit>
void each_access(const Step& step, Visit visit) {
  visit(step.out.buffer, 0, 0, step.out.first, step.out.count);
  for (const Segment& segment : step.segments) {
    const Span& source = step.args[0];
    visit(source.buffer, segment.dr, segment.dc, source.first, segment.length);
  }
  for (size_t i = step.has_source; i < step.args.size(); ++i) {
    const Span& arg = step.args[i];
    visit(arg.buffer, arg.dr, arg.dc, arg.first, arg.count);
  }
}

class ProgramCheck {
 public:
  // `weights` and `constants` are the numbers of elements.
  ProgramCheck(const Program& program, int64_t weights, int64_t constants)
      : program_(program), weights_(weights), constants_(constants) {}

  // Checks all that does not depend on where steps run.
  void check() const {
    check_image();
    int64_t end = 0;
    for (const Buffer& buffer : program_.buffers) end = check_buffer(buffer, end);
    check_image_stage();
    for (size_t i = 0; i < program_.steps.size(); ++i) check_step(program_.steps[i], i);
    check_moments();
  }

  // Checks a program that runs in rings: steps access only rows that their buffers keep, and
  // columns inside them.
  void check_rings() const {
    std::map<int64_t, std::pair<int64_t, bool>> scans;
    for (size_t i = 0; i < program_.steps.size(); ++i) {
      const Step& step = program_.steps[i];
      each_access(step, [&](int64_t b, int64_t dr, int64_t dc, int64_t first, int64_t length) {
        const Buffer& buffer = program_.buffers[b];
        const int64_t last = buffer.left + program_.width - 1 + step.padding + dc;  // column
        require(-buffer.rows < dr && dr <= 0, "step ", i, " reaches ", dr, " rows away in buffer ",
                b, ", which keeps ", buffer.rows);
        require(buffer.left + dc >= 0 && last < buffer.padded &&
                    first + length <= (buffer.padded - last) * buffer.channels,
                "step ", i, " reaches beside the rows of buffer ", b, ", ", dc, " columns away");
      });
      if (step.scan == NO_SCAN) continue;
      const std::pair own(step.padding, step.reverse);
      require(scans.emplace(step.scan, own).first->second == own, "step ", i,
              " has another direction or padding than the scan that it is a part of");
    }
  }

  // Checks a program that runs in whole maps: a place has the same index in all of them.
  void check_maps() const {
    for (const Buffer& buffer : program_.buffers) {
      require(
          buffer.rows == program_.buffers[0].rows && buffer.padded == program_.buffers[0].padded,
          "its maps have different sizes");
    }
    for (size_t i = 0; i < program_.steps.size(); ++i) {
      each_access(program_.steps[i], [&](int64_t b, int64_t dr, int64_t dc, int64_t, int64_t) {
        const Buffer& buffer = program_.buffers[b];
        require(-buffer.rows < dr && dr < buffer.rows && -buffer.padded < dc && dc < buffer.padded,
                "step ", i, " reaches beyond the map of buffer ", b);
      });
    }
  }

 private:
  template <class... Words>
  static void require(bool holds, const Words&... words) {
    STD_TORCH_CHECK(holds, "the program cannot be run: ", words...);
  }

  void check_image() const {
    const Program& p = program_;
    require(p.height >= 1 && p.width >= 1 && p.colors >= 1 && p.levels >= 1 && p.levels <= 256,
            "its images have ", p.colors, " colors of ", p.levels, " levels, ", p.height, " x ",
            p.width, " pixels");
    require(p.size >= 0, "its buffers take ", p.size, " values");
    require(static_cast<int64_t>(p.logits.size()) == p.colors, "it has logits of ", p.logits.size(),
            " colors, expected ", p.colors);
    for (const Span& span : p.logits) {
      check_span(span, "the logits");
      require(span.count == p.levels && is_here(span), "logits of ", span.count,
              " levels, expected ", p.levels, " at the pixel itself");
    }
    require(is_buffer(p.image) && p.buffers[p.image].channels >= p.colors,
            "its buffer of the image is ", p.image);
  }

  // Checks a buffer, which must begin at or after `end`, and returns its own end.
  int64_t check_buffer(const Buffer& b, int64_t end) const {
    require(b.rows >= 1 && b.channels >= 1 && b.left >= 0 && b.padding >= 0 &&
                b.padding <= MOST_PADDING && b.left + program_.width + b.padding <= b.padded,
            "a buffer has ", b.rows, " rows of ", b.padded, " pixels of ", b.channels,
            " channels, ", b.left, " pixels to the left and ", b.padding,
            " of padding to the right of ", program_.width);
    const bool fits = b.offset >= end && b.offset <= program_.size &&
                      b.rows <= (program_.size - b.offset) / b.padded / b.channels;
    require(fits, "a buffer of ", b.rows, " x ", b.padded, " x ", b.channels, " values from ",
            b.offset, " on is not inside of ", program_.size, ", behind those before it");
    return b.offset + b.rows * b.padded * b.channels;
  }

  void check_moments() const {
    require(program_.padding_lists() >= 0 && program_.padding_lists() <= MOST_PADDING, "it has ",
            program_.moments.size(), " lists of steps");
    const int64_t first_padding = first_padding_list(program_.colors);
    for (size_t list = 0; list < program_.moments.size(); ++list) {
      for (const int64_t step : program_.moments[list]) {
        require(step >= 0 && step < static_cast<int64_t>(program_.steps.size()),
                "a list has the step ", step, " of ", program_.steps.size());
        const int64_t beyond = static_cast<int64_t>(list) - first_padding;  // columns of the image
        require(program_.steps[step].padding > beyond, "step ", step, " runs ", beyond,
                " columns beyond the image, where it has no padding");
      }
    }
  }

  void check_image_stage() const {
    for (const int64_t value : program_.values) {
      require(is_buffer(value), "conditioning features have the unknown buffer ", value);
    }
  }

  void check_step(const Step& step, size_t number) const {
    check_span(step.out, "what a step writes");
    for (const Span& arg : step.args) check_span(arg, "what a step reads");
    require(is_here(step.out), "step ", number, " writes to another pixel");
    require(step.padding >= 0 && step.padding <= MOST_PADDING, "step ", number, " has padding ",
            step.padding, ", expected 0 to ", MOST_PADDING);
    require(step.first_row >= 0 && step.first_row <= program_.height, "step ", number,
            " begins in row ", step.first_row);
    if (step.kind == Kind::PRODUCT) {
      check_product(step, number);
    } else {
      check_pointwise(step, number);
    }
  }

  void check_product(const Step& step, size_t number) const {
    require(step.args.size() == size_t{step.has_source} + step.has_add, "step ", number, " reads ",
            step.args.size(), " spans, expected ", step.has_source + step.has_add);
    require(step.segments.size() <= MOST_SEGMENTS && step.segments.empty() == !step.has_source,
            "step ", number, " has a window of ", step.segments.size(), " segments");
    if (step.has_source) check_window(step, number);
    if (step.has_add) {
      require(step.add().count == step.out.count, "step ", number, " adds ", step.add().count,
              " channels to ", step.out.count);
    }
    const int64_t outputs = panels_of(step) * PANEL;
    const int64_t weights = step.of_rows ? constants_ : weights_;
    int64_t depth = 0;
    for (const Segment& segment : step.segments) depth += segment.length + segment.length % 2;
    require(step.depth == depth, "step ", number, " has a depth of ", step.depth, ", expected ",
            depth);
    require(step.weight >= 0 && step.weight <= weights && step.weight % PANEL == 0 &&
                depth <= (weights - step.weight) / outputs,
            "step ", number, " has weights from ", step.weight, " on, of ", weights,
            ", expected a multiple of ", PANEL);
    require(!step.overwrite || is_block(step.bias, outputs), "step ", number, " has biases from ",
            step.bias, " on, of ", constants_, " constants");
  }

  // Checks a window. A segment is the source at one pixel, or at several adjacent pixels if the
  // source has all channels.
  void check_window(const Step& step, size_t number) const {
    const Span& source = step.args[0];
    require(is_here(source), "step ", number, " has a source at another pixel");
    const bool whole = source.count == program_.buffers[source.buffer].channels;
    for (const Segment& segment : step.segments) {
      require(segment.length >= 1 && segment.length % source.count == 0 &&
                  (whole || segment.length == source.count),
              "step ", number, " has a segment of ", segment.length, " values of a source of ",
              source.count, " channels");
    }
  }

  // Checks the code of a pointwise step on a model of its stack, which must end with one number.
  void check_pointwise(const Step& step, size_t number) const {
    require(step.args.size() <= MOST_ARGS, "step ", number, " has ", step.args.size(),
            " arguments, expected at most ", MOST_ARGS);
    for (const Span& arg : step.args) {
      require(arg.count == step.out.count, "step ", number, " has an argument of ", arg.count,
              " channels, expected ", step.out.count);
    }
    int64_t height = 0;
    for (const auto& [opcode, operand] : step.code) {
      const bool is_arg = opcode == Opcode::ARG, is_const = opcode == Opcode::CONST;
      const int64_t operands = operands_of(opcode);
      require(!is_arg || (operand >= 0 && operand < static_cast<int64_t>(step.args.size())),
              "step ", number, " takes argument ", operand, " of ", step.args.size());
      require(!is_const || is_block(operand, 1), "step ", number, " takes constant ", operand,
              " of ", constants_);
      require(height >= operands, "step ", number, " pops more numbers than its stack has");
      height += 1 - operands;
      require(height <= MAX_STACK, "step ", number, " needs a stack of more than ", MAX_STACK,
              " numbers");
    }
    require(height == 1, "step ", number, " leaves ", height, " numbers on its stack, expected 1");
  }

  void check_span(const Span& span, const char* what) const {
    require(is_buffer(span.buffer), what, " is in buffer ", span.buffer, " of ",
            program_.buffers.size());
    const int64_t channels = program_.buffers[span.buffer].channels;
    require(span.first >= 0 && span.count >= 1 && span.first + span.count <= channels, what,
            " are ", span.count, " channels from ", span.first, " on, of ", channels);
  }

  static bool is_here(const Span& span) { return span.dr == 0 && span.dc == 0; }

  bool is_buffer(int64_t number) const {
    return number >= 0 && number < static_cast<int64_t>(program_.buffers.size());
  }

  bool is_block(int64_t first, int64_t count) const {
    return first >= 0 && first <= constants_ && count <= constants_ - first;
  }

  const Program& program_;
  const int64_t weights_, constants_;
};

inline Program read_program(const char* op, const Tensor& code) {
  check_tensor(op, "program", code, ScalarType::Long, {ANY});
  return ProgramReader(code.const_data_ptr<int64_t>(), code.numel()).read();
}

// Reads and checks a program for run_plan_.
inline Program read_rings(const char* op, const Tensor& code, int64_t weights, int64_t constants) {
  Program program = read_program(op, code);
  const ProgramCheck check(program, weights, constants);
  check.check();
  check.check_rings();
  return program;
}

// Reads and checks a program for run_cells_, whose weights are all among the constants.
inline Program read_maps(const char* op, const Tensor& code, int64_t constants) {
  Program program = read_program(op, code);
  const ProgramCheck check(program, constants, constants);
  check.check();
  check.check_maps();
  return program;
}

}  // namespace pixelsr
