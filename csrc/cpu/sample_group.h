// A sample group: some samples of a batch, and the threads that draw them.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <vector>

#include "common/argmax.h"
#include "common/moments.h"
#include "common/raster_scan.h"
#include "cpu/execute.h"
#include "cpu/program.h"
#include "cpu/thread_schedule.h"
#include "cpu/thread_team.h"

namespace pixelsr {

// The arguments of the operator, shared by all groups. Only the memory behind pointers changes.
template <class T>
struct Job {
  Program program;
  Parameters<T> parameters;
  T* storage;
  float* noise;     // [samples, cols, C, L], of the current row
  const T* values;  // [inputs, values_size], the conditioning features
  int64_t values_size;
  uint8_t* images;    // [samples, C, H, W]
  const bool* known;  // [1 or samples, C, H, W]
  int64_t known_stride;
  T* logits;        // [samples, C, H, W, L], to record; or null
  int64_t* faults;  // [samples], see record_fault
  int64_t samples, samples_per_input;
  uint64_t seed, first_index;
  T temperature;
  bool draw;
  Order order;
};

template <class T>
class SampleGroup {
 public:
  SampleGroup(const Job<T>& job, int64_t first_sample, int64_t samples, int64_t threads)
      : job_(job),
        program_(job.program),
        order_(job.order),
        first_sample_(first_sample),
        samples_(samples),
        threads_(threads) {
    place_sites();
    select_steps();
    rows_.resize(program_.buffers.size() * most_rows());
  }

  // Runs from a cursor until the rows are done or, if the caller draws, until the logits of the
  // next unknown value are computed. Every thread of the group calls it, and gets the same cursor.
  // It throws nothing and allocates nothing: if one thread left, the others would wait forever.
  Cursor run(Cursor from, int64_t thread) noexcept {
    return walk(order_, from, Member{*this, thread});
  }

 private:
  static constexpr int64_t WHOLE_ROW = -1;

  // The visitor of `walk` that one thread of the group runs.
  struct Member {
    SampleGroup& group;
    const int64_t thread;

    int64_t row = 0;

    void begin_row(int64_t begun, bool resumes) {
      row = begun;
      group.begin_row(row, thread, resumes);
    }
    void run_known_row() { group.run_row(group.known_row_, row, thread); }
    void run_row() { group.run_row(group.row_, row, thread); }
    void begin_pixel(int64_t, bool) {}
    void run_left(int64_t col, bool with_logits) {
      group.run_list(group.pixel_list(left_list(with_logits)), col, thread);
    }
    void run_color(int64_t col, int64_t color, bool with_logits) {
      group.run_list(group.pixel_list(color_list(color, with_logits)), col, thread);
    }
    bool draw(const Cursor& at) {
      group.barrier_.wait(group.threads_);
      if (group.job_.logits) {
        if (thread == 0) group.record(at);
        return true;
      }
      if (group.job_.draw && thread == 0) group.draw(at);
      return group.job_.draw;
    }
    void load_value(const Cursor& at) {
      if (thread == 0) group.load_value(at);
    }
    void end_pixel(int64_t) {}
    void end_row() { group.run_padding(thread); }
  };

  // Consecutive steps of whole rows. The steps of a scan run pixel by pixel.
  struct Stretch {
    int64_t scan;
    bool reverse;
    int64_t first_row, padding;  // of a scan
    ThreadSchedule schedule;
  };

  bool wants_noise() const { return job_.draw && job_.temperature > 0; }
  int64_t column_of(int64_t site) const { return order_.first_col + site % order_.cols; }
  // Returns the number of sites of a row, for steps that run at `padding` columns beyond the image.
  int64_t sites_of_row(int64_t padding) const { return samples_ * (order_.cols + padding); }

  // Sites: the offsets of the samples' pixels in a row of each buffer.

  void place_sites() {
    whole_rows_.resize(padding() + 1);
    for (const Buffer& buffer : program_.buffers) {
      std::vector<int64_t>& pixels = pixels_.emplace_back();
      for (int64_t sample = first_sample_; sample < first_sample_ + samples_; ++sample) {
        pixels.push_back((sample * buffer.padded + buffer.left) * buffer.channels);
      }
      for (int64_t padding = 0; padding < static_cast<int64_t>(whole_rows_.size()); ++padding) {
        std::vector<int64_t>& whole = whole_rows_[padding].emplace_back();
        const int64_t end = order_.first_col + order_.cols + padding;
        for (const int64_t at : pixels) {
          for (int64_t col = order_.first_col; col < end; ++col) {
            whole.push_back(at + col * buffer.channels);
          }
        }
      }
    }
  }

  // Returns the largest padding of a step or of conditioning features.
  int64_t padding() const {
    int64_t most = 0;
    for (const Step& step : program_.steps) most = std::max(most, step.padding);
    for (const int64_t value : program_.values) {
      most = std::max(most, program_.buffers[value].padding);
    }
    return most;
  }

  int64_t most_rows() const {
    int64_t most = 0;
    for (const Buffer& buffer : program_.buffers) most = std::max(most, buffer.rows);
    return most;
  }

  // Returns the start of a buffer's row that is `up` rows above the current one.
  T*& row_of(int64_t buffer, int64_t up) {
    return rows_[buffer * (rows_.size() / program_.buffers.size()) + up];
  }

  T* at(const Span& span, int64_t dr, int64_t col) {
    return row_of(span.buffer, -dr) + col * program_.buffers[span.buffer].channels + span.first;
  }

  // Steps.

  void select_steps() {
    row_ = stretches(steps_of(ROW_LIST));
    known_row_ = stretches(steps_of(KNOWN_ROW_LIST));
    for (int list = left_list(false); list < static_cast<int>(program_.moments.size()); ++list) {
      pixel_lists_.emplace_back(steps_of(list), [&](const Step&) { return samples_; }, threads_);
    }
  }

  std::vector<const Step*> steps_of(int list) const {
    std::vector<const Step*> steps;
    for (const int64_t step : program_.moments[list]) steps.push_back(&program_.steps[step]);
    return steps;
  }

  const ThreadSchedule& pixel_list(int list) const { return pixel_lists_[list - left_list(false)]; }

  std::vector<Stretch> stretches(const std::vector<const Step*>& steps) const {
    std::vector<Stretch> cut;
    for (size_t begin = 0, end; begin < steps.size(); begin = end) {
      const Step& first = *steps[begin];
      for (end = begin; end < steps.size() && steps[end]->scan == first.scan;) ++end;
      const bool is_scan = first.scan != NO_SCAN;
      const auto sites = [&](const Step& step) {
        return is_scan ? samples_ : sites_of_row(step.padding);
      };
      const std::vector<const Step*> own(steps.begin() + begin, steps.begin() + end);
      cut.push_back({first.scan, first.reverse, first.first_row, first.padding,
                     ThreadSchedule(own, sites, threads_)});
    }
    return cut;
  }

  void run_row(const std::vector<Stretch>& stretches, int64_t row, int64_t thread) {
    for (const Stretch& stretch : stretches) {
      if (stretch.scan == NO_SCAN) {
        run_list(stretch.schedule, WHOLE_ROW, thread, row);
        continue;
      }
      if (row < stretch.first_row) continue;
      const int64_t cols = order_.cols + stretch.padding;
      for (int64_t i = 0; i < cols; ++i) {
        const int64_t col = order_.first_col + (stretch.reverse ? cols - 1 - i : i);
        run_list(stretch.schedule, col, thread);
      }
    }
  }

  // Runs the columns to the right of the image, where nothing is drawn.
  void run_padding(int64_t thread) {
    for (int64_t col = 0; col < program_.padding_lists(); ++col) {
      const int list = first_padding_list(program_.colors) + static_cast<int>(col);
      run_list(pixel_list(list), program_.width + col, thread);
    }
  }

  // Runs steps at a column, or for a whole row, if they have begun by that row.
  void run_list(const ThreadSchedule& schedule, int64_t col, int64_t thread, int64_t row = 0) {
    if (schedule.empty()) return;
    barrier_.wait(threads_);
    const bool whole = col == WHOLE_ROW;
    const auto place = [this, first = whole ? 0 : col](const Span& span, int64_t dr, int64_t dc) {
      return at(span, dr, first + dc);
    };
    for (const Task& task : schedule.of(thread)) {
      if (!task.step) {
        barrier_.wait(threads_);
        continue;
      }
      if (whole && row < task.step->first_row) continue;
      const auto& sites = whole ? whole_rows_[task.step->padding] : pixels_;
      run_task(job_.parameters, task, place,
               [&sites](int64_t buffer) { return sites[buffer].data(); });
    }
  }

  // The beginning of a row: its slots in the rings, conditioning features, noise.

  void begin_row(int64_t row, int64_t thread, bool resumes) {
    barrier_.wait(threads_);
    if (thread == 0) {
      for (size_t b = 0; b < program_.buffers.size(); ++b) {
        const Buffer& buffer = program_.buffers[b];
        const int64_t size = job_.samples * buffer.padded * buffer.channels;
        for (int64_t up = 0; up < buffer.rows; ++up) {
          const int64_t slot = (row - up + buffer.rows) % buffer.rows;
          row_of(static_cast<int64_t>(b), up) =
              job_.storage + buffer.offset * job_.samples + slot * size;
        }
      }
    }
    barrier_.wait(threads_);
    if (resumes) return;
    const int64_t first = samples_ * order_.cols * thread / threads_;
    const int64_t last = samples_ * order_.cols * (thread + 1) / threads_;
    if (!order_.row_has_unknown(row)) load_known(row, first, last);
    load_values(row, thread);
    if (wants_noise()) make_noise(row, first, last);
  }

  // Sites are numbered sample by sample, and from left to right in each sample.

  void load_known(int64_t row, int64_t first, int64_t last) {
    for (int64_t site = first; site < last; ++site) {
      for (int64_t color = 0; color < program_.colors; ++color) {
        T* image = row_of(program_.image, 0) + whole_rows_[0][program_.image][site];
        image[color] = *image_at(site / order_.cols, {row, column_of(site), color});
      }
    }
  }

  // The features of an input are stored one after another, each [H, W + padding, channels].
  void load_values(int64_t row, int64_t thread) {
    int64_t offset = 0;
    for (const int64_t value : program_.values) {
      const Buffer& buffer = program_.buffers[value];
      const int64_t cols = order_.cols + buffer.padding, width = program_.width + buffer.padding;
      const int64_t sites = samples_ * cols;
      for (int64_t site = sites * thread / threads_; site < sites * (thread + 1) / threads_;
           ++site) {
        const int64_t input = (first_sample_ + site / cols) / job_.samples_per_input;
        const int64_t pixel = row * width + order_.first_col + site % cols;
        const T* from = job_.values + input * job_.values_size + offset + pixel * buffer.channels;
        T* to = row_of(value, 0) + whole_rows_[buffer.padding][value][site];
        std::copy(from, from + buffer.channels, to);
      }
      offset += program_.height * width * buffer.channels;
    }
  }

  void make_noise(int64_t row, int64_t first, int64_t last) {
    const int64_t colors = program_.colors;
    for (int64_t site = first; site < last; ++site) {
      const int64_t in_image = row * program_.width + column_of(site);
      const uint64_t sample = job_.first_index + first_sample_ + site / order_.cols;
      for (int64_t color = 0; color < colors; ++color) {
        const int64_t position = in_image * colors + color;
        if (!order_.unknown[position]) continue;
        job_.parameters.kernels->noise(noise_of(site, color), program_.levels, job_.seed, sample,
                                       static_cast<uint32_t>(position));
      }
    }
  }

  float* noise_of(int64_t site, int64_t color) const {
    const int64_t value = (first_sample_ * order_.cols + site) * program_.colors + color;
    return job_.noise + value * program_.levels;
  }

  // Values of pixels.

  uint8_t* image_at(int64_t sample, const Cursor& at) const {
    return job_.images + index(sample, at);
  }

  int64_t index(int64_t sample, const Cursor& at) const {
    return place_in_image(at) + (first_sample_ + sample) * image_size();
  }

  int64_t image_size() const { return program_.colors * program_.height * program_.width; }

  int64_t place_in_image(const Cursor& at) const {
    return (at.color * program_.height + at.row) * program_.width + at.col;
  }

  void draw(const Cursor& at) {
    const Span& span = program_.logits[at.color];
    const int64_t levels = program_.levels;
    for (int64_t sample = 0; sample < samples_; ++sample) {
      const int64_t known = (first_sample_ + sample) * job_.known_stride + place_in_image(at);
      if (job_.known[known]) continue;
      const T* logits = this->at(span, 0, at.col) + pixels_[span.buffer][sample];
      const int64_t site = sample * order_.cols + at.col - order_.first_col;
      const float* noise = noise_of(site, at.color);
      Best<T> best{0, -1};
      bool doubtful = !(job_.temperature < INFINITY);  // then +inf scores NaN
      for (int64_t level = 0; level < levels; ++level) {
        if (logits[level] > -INFINITY) {
          consider(best, score_of(logits[level], job_.temperature, noise[level]), level);
        } else {
          doubtful = true;
        }
      }
      *image_at(sample, at) = static_cast<uint8_t>(best.level < 0 ? 0 : best.level);
      if (doubtful || !(best.score < INFINITY)) check_logits(logits, sample, at);
    }
  }

  // Records the logits of a position; the images have its values.
  void record(const Cursor& at) {
    const Span& span = program_.logits[at.color];
    for (int64_t sample = 0; sample < samples_; ++sample) {
      const T* logits = this->at(span, 0, at.col) + pixels_[span.buffer][sample];
      std::copy(logits, logits + span.count, job_.logits + index(sample, at) * span.count);
    }
  }

  // Records the fault of a value. The draw goes on, because nothing can be thrown here; the caller
  // reads the faults afterwards.
  void check_logits(const T* logits, int64_t sample, const Cursor& at) const {
    int kind = FORBIDDEN;
    for (int64_t level = 0; level < program_.levels; ++level) {
      kind = std::max(kind, kind_of(logits[level]));
    }
    const int64_t pixel = at.row * program_.width + at.col;
    record_fault(job_.faults[first_sample_ + sample], pixel * program_.colors + at.color, kind);
  }

  // Stores the values of a position where the next stages read them.
  void load_value(const Cursor& at) {
    const Span image{program_.image, at.color, 1, 0, 0};
    for (int64_t sample = 0; sample < samples_; ++sample) {
      this->at(image, 0, at.col)[pixels_[image.buffer][sample]] = *image_at(sample, at);
    }
  }

  const Job<T>& job_;
  const Program& program_;
  const Order& order_;
  const int64_t first_sample_, samples_, threads_;
  Barrier barrier_;
  std::vector<std::vector<int64_t>> pixels_;                   // by buffer
  std::vector<std::vector<std::vector<int64_t>>> whole_rows_;  // by padding, then buffer
  std::vector<T*> rows_;                                       // by buffer, then rows up
  std::vector<Stretch> row_, known_row_;
  std::vector<ThreadSchedule> pixel_lists_;
};

}  // namespace pixelsr
