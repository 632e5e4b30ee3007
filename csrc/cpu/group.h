// Some samples of a batch on their way, and the threads that draw them.
#pragma once

#include <cstdint>
#include <vector>

#include "cpu/program.h"
#include "cpu/schedule.h"
#include "cpu/team.h"

namespace pixelsr {

// What the operator was given: one for all groups, constant but for what the pointers lead to.
template <class T>
struct Job {
  Program program;
  const char* weights;
  int64_t weight_bytes;
  WeightType weight_type;
  const T* constants;
  T* storage;
  const T* values;  // [inputs, values_size]
  int64_t values_size;
  uint8_t* images;    // [samples, C, H, W]
  const bool* known;  // [1 or samples, C, H, W]
  int64_t known_stride;
  const bool* unknown;          // [H, W, C], in any sample
  const int64_t* last_unknown;  // [H, W], the last unknown colour, or -1
  const int64_t* stop;          // [H, W], how many stages of the pixel are run
  int64_t samples, samples_per_input;
  uint64_t seed, first_index;
  T temperature;
  bool draw;
  int64_t rows;  // to run before returning
};

// The place in raster order that a run has come to. Without a colour the row is still to begin.
struct Cursor {
  int64_t row, col, colour;
};
constexpr int64_t ROW_BEGINS = -1;

template <class T>
class Group {
 public:
  Group(const Job<T>& job, int64_t first_sample, int64_t samples, int64_t threads)
      : job_(job),
        program_(job.program),
        kernels_(kernels<T>()),
        first_sample_(first_sample),
        samples_(samples),
        threads_(threads) {
    place_sites();
    select_steps();
    rows_.resize(program_.buffers.size() * most_rows());
  }

  // Runs from the cursor on, until the rows are done or, where the caller draws, the logits of the
  // next unknown value are there. Every thread of the group calls it, and gets the same cursor.
  Cursor run(Cursor at, int64_t thread) {
    bool resumes = at.colour != ROW_BEGINS;
    const int64_t end = std::min(program_.height, at.row + job_.rows);
    for (; at.row < end; ++at.row, at.col = 0) {
      begin_row(at.row, thread, resumes);
      if (!row_has_unknown(at.row)) {
        run_list(known_row_, WHOLE_ROW, thread);
        continue;
      }
      if (!resumes) run_list(row_, WHOLE_ROW, thread);
      for (; at.col < program_.width; ++at.col) {
        const int64_t last = job_.last_unknown[pixel(at)], stop = job_.stop[pixel(at)];
        if (!resumes) run_list(left_[last >= 0], at.col, thread);
        for (at.colour = resumes ? at.colour : 0; at.colour < stop; ++at.colour) {
          if (!resumes) run_list(colours_[at.colour <= last][at.colour], at.col, thread);
          if (at.colour == program_.colours) continue;
          if (job_.unknown[pixel(at) * program_.colours + at.colour] && !resumes) {
            barrier_.wait(threads_);
            if (!job_.draw) return at;
            if (thread == 0) draw(at);
          }
          resumes = false;
          if (thread == 0) load_value(at);
        }
        if (stop <= program_.colours) return {program_.height, 0, ROW_BEGINS};  // the last one
      }
    }
    return {end, 0, ROW_BEGINS};
  }

 private:
  static constexpr int64_t WHOLE_ROW = -1;

  bool wants_noise() const { return job_.draw && job_.temperature > 0; }
  int64_t pixel(const Cursor& at) const { return at.row * program_.width + at.col; }

  bool row_has_unknown(int64_t row) const {
    const int64_t* last = job_.last_unknown + row * program_.width;
    return std::any_of(last, last + program_.width, [](int64_t colour) { return colour >= 0; });
  }

  // Sites: where in a row of a buffer the pixels of a batch stand.

  void place_sites() {
    for (const Buffer& buffer : program_.buffers) {
      std::vector<int64_t> whole, pixels;
      for (int64_t sample = first_sample_; sample < first_sample_ + samples_; ++sample) {
        const int64_t at = sample * buffer.padded + buffer.left;
        pixels.push_back(at * buffer.channels);
        for (int64_t col = 0; col < program_.width; ++col) {
          whole.push_back((at + col) * buffer.channels);
        }
      }
      whole_rows_.push_back(std::move(whole));
      pixels_.push_back(std::move(pixels));
    }
  }

  int64_t most_rows() const {
    int64_t most = 0;
    for (const Buffer& buffer : program_.buffers) most = std::max(most, buffer.rows);
    return most;
  }

  // The first value of a row, `up` rows above the current one, of a buffer.
  T*& row_of(int64_t buffer, int64_t up) {
    return rows_[buffer * (rows_.size() / program_.buffers.size()) + up];
  }

  T* at(const Span& span, int64_t dr, int64_t col) {
    return row_of(span.buffer, -dr) + col * program_.buffers[span.buffer].channels + span.first;
  }

  // Steps.

  void select_steps() {
    const auto select = [&](auto condition, int64_t sites) {
      std::vector<const Step*> steps;
      for (const Step& step : program_.steps) {
        if (condition(step)) steps.push_back(&step);
      }
      return Schedule(steps, sites, threads_);
    };
    const int64_t row = samples_ * program_.width;
    row_ = select([](const Step& step) { return step.when == When::ROW; }, row);
    known_row_ = select([](const Step& step) { return !step.head; }, row);
    for (const bool head : {false, true}) {
      left_[head] = select(
          [&](const Step& s) { return s.when == When::LEFT && (head || !s.head); }, samples_);
      for (int64_t colour = 0; colour <= program_.colours; ++colour) {
        const auto due = [&](const Step& step) {
          return step.when == When::COLOUR && step.colour == colour && (head || !step.head);
        };
        colours_[head].push_back(select(due, samples_));
      }
    }
  }

  void run_list(const Schedule& schedule, int64_t col, int64_t thread) {
    if (schedule.empty()) return;
    barrier_.wait(threads_);
    for (const Task& task : schedule.of(thread)) {
      if (!task.step) {
        barrier_.wait(threads_);
      } else if (task.step->kind == Kind::PRODUCT) {
        run_product(task, col);
      } else {
        run_formula(task, col);
      }
    }
  }

  const std::vector<std::vector<int64_t>>& sites(int64_t col) const {
    return col == WHOLE_ROW ? whole_rows_ : pixels_;
  }

  void run_product(const Task& task, int64_t col) {
    const Step& step = *task.step;
    const int64_t first = std::max<int64_t>(col, 0);
    const auto& places = sites(col);
    constexpr size_t MOST_SEGMENTS = 64;
    const T* sources[MOST_SEGMENTS];
    int64_t lengths[MOST_SEGMENTS];
    for (size_t i = 0; i < step.segments.size(); ++i) {
      const Segment& segment = step.segments[i];
      sources[i] = at(step.args[0], segment.dr, first + segment.dc);
      lengths[i] = segment.length;
    }
    ProductCall<T> call{};
    const bool whole_rows = step.when == When::ROW;  // theirs stand with the constants
    call.weight = whole_rows ? reinterpret_cast<const char*>(job_.constants + step.weight)
                             : job_.weights + step.weight * job_.weight_bytes;
    call.bias = step.overwrite ? job_.constants + step.bias : nullptr;
    call.depth = step.depth;
    call.segments = static_cast<int64_t>(step.segments.size());
    call.sources = sources;
    call.lengths = lengths;
    call.in = step.has_source ? places[step.args[0].buffer].data() : places[0].data();
    call.out = at(step.out, 0, first);
    call.out_at = places[step.out.buffer].data();
    if (step.has_add) {
      call.add = at(step.add(), 0, first);
      call.add_at = places[step.add().buffer].data();
    }
    call.first_site = task.first_site, call.sites = task.sites;
    call.first_panel = task.first_panel, call.panels = task.panels;
    call.channels = step.out.count;
    const WeightType type = whole_rows ? WeightType::NATIVE : job_.weight_type;
    kernels_.product[static_cast<int>(type)](call);
  }

  void run_formula(const Task& task, int64_t col) {
    const Step& step = *task.step;
    const int64_t first = std::max<int64_t>(col, 0);
    const auto& places = sites(col);
    constexpr size_t MOST_ARGS = 32;
    const T* args[MOST_ARGS];
    const int64_t* args_at[MOST_ARGS];
    for (size_t i = 0; i < step.args.size(); ++i) {
      args[i] = at(step.args[i], 0, first);
      args_at[i] = places[step.args[i].buffer].data();
    }
    kernels_.formula({at(step.out, 0, first), places[step.out.buffer].data(), args, args_at,
                      step.code.data(), static_cast<int64_t>(step.code.size()), job_.constants,
                      task.first_site, task.sites, step.out.count});
  }

  // What a row begins with: its place in the rings, values of the image stage, noise.

  void begin_row(int64_t row, int64_t thread, bool resumes) {
    barrier_.wait(threads_);
    if (thread == 0) {
      if (wants_noise()) {
        noise_.resize(samples_ * program_.width * program_.colours * program_.levels);
      }
      for (size_t b = 0; b < program_.buffers.size(); ++b) {
        const Buffer& buffer = program_.buffers[b];
        const int64_t size = job_.samples * buffer.padded * buffer.channels;
        for (int64_t up = 0; up < buffer.rows; ++up) {
          const int64_t slot = (row - up + buffer.rows) % buffer.rows;
          row_of(static_cast<int64_t>(b), up) = job_.storage + buffer.offset * job_.samples + slot * size;
        }
      }
    }
    barrier_.wait(threads_);
    if (resumes) return;
    const int64_t first = samples_ * program_.width * thread / threads_;
    const int64_t last = samples_ * program_.width * (thread + 1) / threads_;
    if (!row_has_unknown(row)) load_known(row, first, last);
    load_values(row, first, last);
    if (wants_noise()) make_noise(row, first, last);
  }

  // Sites are numbered sample by sample, in each of them from left to right.

  void load_known(int64_t row, int64_t first, int64_t last) {
    for (int64_t site = first; site < last; ++site) {
      for (int64_t colour = 0; colour < program_.colours; ++colour) {
        T* image = row_of(program_.image, 0) + whole_rows_[program_.image][site];
        image[colour] = *image_at(site / program_.width, {row, site % program_.width, colour});
      }
    }
  }

  // The values of an input stand one after the other: [value][H, W, channels].
  void load_values(int64_t row, int64_t first, int64_t last) {
    int64_t offset = 0;
    for (const int64_t buffer : program_.values) {
      const int64_t channels = program_.buffers[buffer].channels;
      for (int64_t site = first; site < last; ++site) {
        const int64_t input = (first_sample_ + site / program_.width) / job_.samples_per_input;
        const int64_t pixel = row * program_.width + site % program_.width;
        const T* from = job_.values + input * job_.values_size + offset + pixel * channels;
        std::copy(from, from + channels, row_of(buffer, 0) + whole_rows_[buffer][site]);
      }
      offset += program_.height * program_.width * channels;
    }
  }

  void make_noise(int64_t row, int64_t first, int64_t last) {
    const int64_t colours = program_.colours;
    for (int64_t site = first; site < last; ++site) {
      const int64_t in_picture = row * program_.width + site % program_.width;
      const uint64_t sample = job_.first_index + first_sample_ + site / program_.width;
      for (int64_t colour = 0; colour < colours; ++colour) {
        const int64_t position = in_picture * colours + colour;
        if (!job_.unknown[position]) continue;
        kernels_.noise(noise_.data() + (site * colours + colour) * program_.levels, program_.levels,
                       job_.seed, sample, static_cast<uint32_t>(position));
      }
    }
  }

  // Values of pixels.

  uint8_t* image_at(int64_t sample, const Cursor& at) const { return job_.images + index(sample, at); }

  int64_t index(int64_t sample, const Cursor& at) const {
    return place_in_picture(at) + (first_sample_ + sample) * picture_size();
  }

  int64_t picture_size() const { return program_.colours * program_.height * program_.width; }

  int64_t place_in_picture(const Cursor& at) const {
    return (at.colour * program_.height + at.row) * program_.width + at.col;
  }

  // argmax(logits / temperature + noise), the lowest level on a tie.
  void draw(const Cursor& at) {
    const Span& span = program_.logits[at.colour];
    const int64_t levels = program_.levels;
    for (int64_t sample = 0; sample < samples_; ++sample) {
      const int64_t known = (first_sample_ + sample) * job_.known_stride + place_in_picture(at);
      if (job_.known[known]) continue;
      const T* logits = this->at(span, 0, at.col) + pixels_[span.buffer][sample];
      const int64_t site = sample * program_.width + at.col;
      const float* noise = noise_.data() + (site * program_.colours + at.colour) * levels;
      int64_t best = 0;
      T highest{};
      for (int64_t level = 0; level < levels; ++level) {
        const T score =
            wants_noise() ? logits[level] / job_.temperature + noise[level] : logits[level];
        if (level == 0 || score > highest) best = level, highest = score;
      }
      *image_at(sample, at) = static_cast<uint8_t>(best);
    }
  }

  // Put the values of a position where the next stages read them.
  void load_value(const Cursor& at) {
    const Span image{program_.image, at.colour, 1};
    for (int64_t sample = 0; sample < samples_; ++sample) {
      this->at(image, 0, at.col)[pixels_[image.buffer][sample]] = *image_at(sample, at);
    }
  }

  const Job<T>& job_;
  const Program& program_;
  const Kernels<T>& kernels_;
  const int64_t first_sample_, samples_, threads_;
  Barrier barrier_;
  std::vector<std::vector<int64_t>> whole_rows_, pixels_;  // by buffer
  std::vector<T*> rows_;                                   // by buffer, then rows up
  Schedule row_, known_row_, left_[2];
  std::vector<Schedule> colours_[2];
  std::vector<float> noise_;  // [samples, W, C, L], of the row
};

}  // namespace pixelsr
