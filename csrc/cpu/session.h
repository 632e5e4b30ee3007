// Sessions: the state that run_plan_ keeps for a batch between its calls.
#pragma once

#include <torch/csrc/stable/tensor.h>
#include <torch/headeronly/util/Exception.h>

#include <algorithm>
#include <cstring>
#include <map>
#include <memory>
#include <mutex>
#include <vector>

#include "cpu/check_program.h"
#include "cpu/checks.h"
#include "cpu/sample_group.h"
#include "cpu/thread_team.h"

namespace pixelsr {

constexpr const char* RUN_PLAN = "run_plan_";

// The arguments of run_plan_ without the session number.
struct PlanCall {
  Tensor program, weights, constants, storage, values, images, logits, known_mask, unknown,
      last_and_stop, cursor, faults;
  int64_t seed, first_index;
  double temperature;
  bool draw;
  int64_t first_col, cols, rows, threads;
};

// A tensor that only the first call of a session reads. Later calls must pass an equal tensor.
class ReadOnce {
 public:
  ReadOnce(const char* name, const Tensor& tensor)
      : name_(name), tensor_(tensor), data_(tensor.const_data_ptr()), numel_(tensor.numel()) {}

  void check_same(const Tensor& other) const {
    if (other.const_data_ptr() == data_ && other.numel() == numel_) return;
    const bool equal = other.is_cpu() && other.scalar_type() == tensor_.scalar_type() &&
                       other.numel() == numel_ && other.is_contiguous() &&
                       std::memcmp(other.const_data_ptr(), data_,
                                   static_cast<size_t>(numel_) * tensor_.element_size()) == 0;
    STD_TORCH_CHECK(equal, RUN_PLAN, ": ", name_,
                    " must be the one that the session began with, got another ", described(other));
  }

 private:
  const char* name_;
  Tensor tensor_;  // kept, so that its memory is not reused
  const void* data_;
  int64_t numel_;
};

// Splits the samples and the threads into groups. A group has several threads only if there are
// more threads than samples.
template <class T>
std::vector<std::unique_ptr<SampleGroup<T>>> make_groups(const Job<T>& job, int64_t threads) {
  const int64_t count = std::min(threads, job.samples);
  std::vector<std::unique_ptr<SampleGroup<T>>> groups;
  for (int64_t group = 0; group < count; ++group) {
    const int64_t first = job.samples * group / count, last = job.samples * (group + 1) / count;
    const int64_t own = threads * (group + 1) / count - threads * group / count;
    groups.push_back(std::make_unique<SampleGroup<T>>(job, first, last - first, own));
  }
  return groups;
}

struct AnySession {
  virtual ~AnySession() = default;
};

// A session. The first call reads and checks the program, the schedule and the shape of the batch,
// because this takes longer than one value. Each call passes the other arguments.
template <class T>
class Session : public AnySession {
 public:
  explicit Session(const PlanCall& call)
      : program_("program", call.program),
        unknown_("unknown", call.unknown),
        last_and_stop_("last_and_stop", call.last_and_stop),
        weights_(call.weights.numel()),
        constants_(call.constants.numel()) {
    job_.program = read_rings(RUN_PLAN, call.program, weights_, constants_);
    const Program& p = job_.program;
    check_tensor(RUN_PLAN, "images", call.images, ScalarType::Byte,
                 {ANY, p.colors, p.height, p.width});
    job_.samples = call.images.size(0);
    STD_TORCH_CHECK(job_.samples >= 1, RUN_PLAN, ": images must hold a sample, got none");
    check_tensor(RUN_PLAN, "values", call.values, dtype_of<T>, {ANY, ANY});
    job_.values_size = call.values.size(1);
    check_values_size();
    read_order(call);
  }

  // Runs from the cursor, and moves it.
  void run(const PlanCall& call) {
    const std::unique_lock<std::mutex> lock(running_, std::try_to_lock);
    STD_TORCH_CHECK(lock.owns_lock(), RUN_PLAN, ": the session is running in another thread");
    const int64_t threads = checked_threads(RUN_PLAN, call.threads);
    check(call);
    take(call);
    int64_t* at = call.cursor.mutable_data_ptr<int64_t>();
    const Cursor reached = run_from({at[0], at[1], at[2]}, threads);
    at[0] = reached.row, at[1] = reached.col, at[2] = reached.color;
  }

 private:
  // The first call.

  void check_values_size() const {
    int64_t rest = job_.values_size;
    for (const int64_t value : job_.program.values) {
      const Buffer& buffer = job_.program.buffers[value];
      const int64_t row = (job_.program.width + buffer.padding) * buffer.channels;
      STD_TORCH_CHECK(row <= rest / job_.program.height, RUN_PLAN, ": values of ", job_.values_size,
                      " numbers an input are too few");
      rest -= row * job_.program.height;
    }
    STD_TORCH_CHECK(rest == 0, RUN_PLAN, ": values of ", job_.values_size, " numbers an input are ",
                    rest, " too many");
  }

  // Copies the schedule: it decides which memory is accessed, so it must not change between calls.
  void read_order(const PlanCall& call) {
    const Program& p = job_.program;
    check_tensor(RUN_PLAN, "unknown", call.unknown, ScalarType::Bool,
                 {p.height, p.width, p.colors});
    check_tensor(RUN_PLAN, "last_and_stop", call.last_and_stop, ScalarType::Long,
                 {2, p.height, p.width});
    STD_TORCH_CHECK(call.first_col >= 0 && call.first_col < p.width && call.cols >= 1 &&
                        call.cols <= p.width - call.first_col,
                    RUN_PLAN, ": first_col and cols must be columns of ", p.width, ", got ",
                    call.first_col, " and ", call.cols);
    const int64_t pixels = p.height * p.width;
    const int64_t* last_and_stop = call.last_and_stop.const_data_ptr<int64_t>();
    control_.assign(last_and_stop, last_and_stop + 2 * pixels);
    const auto* unknown = static_cast<const uint8_t*>(call.unknown.const_data_ptr());
    mask_.reset(new bool[pixels * p.colors]);
    for (int64_t i = 0; i < pixels * p.colors; ++i) mask_[i] = unknown[i] != 0;
    for (int64_t pixel = 0; pixel < pixels; ++pixel) check_pixel(pixel);
    job_.order = {p.height, p.width,     p.colors,        call.first_col,          call.cols,
                  0,        mask_.get(), control_.data(), control_.data() + pixels};
  }

  void check_pixel(int64_t pixel) const {
    const Program& p = job_.program;
    int64_t expected = p.colors - 1;
    while (expected >= 0 && !mask_[pixel * p.colors + expected]) --expected;
    const int64_t last = control_[pixel], stop = control_[p.height * p.width + pixel];
    STD_TORCH_CHECK(last == expected, RUN_PLAN, ": last_and_stop has the last unknown color ", last,
                    " of pixel ", pixel, ", expected ", expected);
    STD_TORCH_CHECK(stop >= 0 && stop <= p.colors + 1, RUN_PLAN, ": last_and_stop has ", stop,
                    " stages of pixel ", pixel, ", expected 0 to ", p.colors + 1);
  }

  // Each call.

  void check(const PlanCall& call) const {
    const Program& p = job_.program;
    const int64_t samples = job_.samples;
    program_.check_same(call.program);
    unknown_.check_same(call.unknown);
    last_and_stop_.check_same(call.last_and_stop);
    STD_TORCH_CHECK(call.first_col == job_.order.first_col && call.cols == job_.order.cols,
                    RUN_PLAN, ": first_col and cols must be ", job_.order.first_col, " and ",
                    job_.order.cols, ", with which the session began, got ", call.first_col,
                    " and ", call.cols);
    check_tensor(RUN_PLAN, "weights", call.weights, call.weights.scalar_type(), {weights_});
    check_tensor(RUN_PLAN, "constants", call.constants, dtype_of<T>, {constants_});
    check_tensor(RUN_PLAN, "values", call.values, dtype_of<T>, {ANY, job_.values_size});
    check_tensor(RUN_PLAN, "images", call.images, ScalarType::Byte,
                 {samples, p.colors, p.height, p.width});
    check_tensor(RUN_PLAN, "known_mask", call.known_mask, ScalarType::Bool,
                 {ANY, p.colors, p.height, p.width});
    const int64_t inputs = call.values.size(0), masks = call.known_mask.size(0);
    STD_TORCH_CHECK(inputs >= 1 && samples % inputs == 0, RUN_PLAN, ": ", samples, " samples of ",
                    inputs, " inputs");
    STD_TORCH_CHECK(masks == 1 || masks == samples, RUN_PLAN, ": known_mask must hold 1 or ",
                    samples, " masks, got ", masks);
    check_tensor(RUN_PLAN, "faults", call.faults, ScalarType::Long, {samples});
    check_storage(call.storage);
    check_options(call);
    check_cursor(call.cursor);
  }

  // Checks the storage, in which the noise follows the buffers.
  void check_storage(const Tensor& storage) const {
    const Program& p = job_.program;
    check_tensor(RUN_PLAN, "storage", storage, dtype_of<T>, {ANY});
    const int64_t given = storage.numel();
    const int64_t noise = job_.samples * job_.order.cols * p.colors * p.levels;
    STD_TORCH_CHECK(p.size <= given / job_.samples &&
                        noise * static_cast<int64_t>(sizeof(float)) <=
                            (given - p.size * job_.samples) * static_cast<int64_t>(sizeof(T)),
                    RUN_PLAN, ": storage must hold ", p.size, " values and the noise of a row for ",
                    "each of ", job_.samples, " samples, got ", given, " values");
  }

  void check_options(const PlanCall& call) const {
    const Program& p = job_.program;
    STD_TORCH_CHECK(call.rows >= 1, RUN_PLAN, ": rows must be a positive int, got ", call.rows);
    STD_TORCH_CHECK(call.temperature >= 0, RUN_PLAN, ": temperature must be 0 or more, got ",
                    call.temperature);
    if (call.logits.numel() == 0) return;
    STD_TORCH_CHECK(!call.draw, RUN_PLAN, ": logits are recorded without a draw, got draw = True");
    check_tensor(RUN_PLAN, "logits", call.logits, dtype_of<T>,
                 {job_.samples, p.colors, p.height, p.width, p.levels});
  }

  void check_cursor(const Tensor& cursor) const {
    const Program& p = job_.program;
    check_tensor(RUN_PLAN, "cursor", cursor, ScalarType::Long, {3});
    const int64_t* at = cursor.const_data_ptr<int64_t>();
    const int64_t row = at[0], col = at[1] - job_.order.first_col, color = at[2];
    const bool is_row = color == ROW_BEGINS;
    const bool fits =
        row >= 0 && row <= p.height &&
        (is_row || (col >= 0 && col < job_.order.cols && color >= 0 && color < p.colors));
    STD_TORCH_CHECK(fits, RUN_PLAN, ": cursor must be a row of ", p.height, ", a column of ",
                    job_.order.cols, " from ", job_.order.first_col, " on and a color of ",
                    p.colors, ", or -1 where the row begins; got ", row, ", ", at[1], ", ", color);
  }

  void take(const PlanCall& call) {
    const Program& p = job_.program;
    job_.parameters = parameters_of<T>(call.weights, call.constants);
    job_.storage = call.storage.mutable_data_ptr<T>();
    job_.noise = reinterpret_cast<float*>(job_.storage + p.size * job_.samples);
    job_.values = call.values.const_data_ptr<T>();
    job_.images = call.images.mutable_data_ptr<uint8_t>();
    job_.known = call.known_mask.const_data_ptr<bool>();
    job_.known_stride = call.known_mask.size(0) > 1 ? p.colors * p.height * p.width : 0;
    job_.logits = call.logits.numel() ? call.logits.mutable_data_ptr<T>() : nullptr;
    job_.faults = call.faults.mutable_data_ptr<int64_t>();
    job_.samples_per_input = job_.samples / call.values.size(0);
    job_.seed = static_cast<uint64_t>(call.seed);
    job_.first_index = static_cast<uint64_t>(call.first_index);
    job_.temperature = static_cast<T>(call.temperature);
    job_.draw = call.draw;
    job_.order.rows = std::min(call.rows, p.height);
  }

  // Runs all groups on a thread team. Groups are made before the team starts, because nothing may
  // throw there. If the team has fewer threads than requested, they do nothing, and the run is
  // repeated with groups for that number.
  Cursor run_from(Cursor from, int64_t threads) {
    if (threads != asked_) prepare(threads), asked_ = threads;
    for (;;) {
      Cursor to = from;
      const int64_t came = run_team(threads, [&](int64_t rank, int64_t team) noexcept {
        if (team != members_) return;
        const Cursor reached = run_member(from, rank);
        if (rank == 0) to = reached;
      });
      if (came == members_) return to;
      prepare(came);
    }
  }

  void prepare(int64_t members) {
    groups_ = make_groups(job_, members);
    members_ = members;
  }

  Cursor run_member(Cursor from, int64_t rank) const noexcept {
    const int64_t count = static_cast<int64_t>(groups_.size());
    int64_t group = 0;
    while (members_ * (group + 1) / count <= rank) ++group;
    return groups_[group]->run(from, rank - members_ * group / count);
  }

  const ReadOnce program_, unknown_, last_and_stop_;
  const int64_t weights_, constants_;  // their sizes
  std::mutex running_;
  Job<T> job_{};
  std::unique_ptr<bool[]> mask_;
  std::vector<int64_t> control_;  // last_and_stop
  int64_t asked_ = 0, members_ = 0;
  std::vector<std::unique_ptr<SampleGroup<T>>> groups_;  // for members_ threads
};

// The sessions by number. The caller chooses the numbers; `get` creates a missing session, and the
// caller must forget each session in the end.
class Sessions {
 public:
  template <class T>
  std::shared_ptr<Session<T>> get(int64_t number, const PlanCall& call) {
    const std::lock_guard<std::mutex> lock(mutex_);
    const auto found = sessions_.find(number);
    if (found == sessions_.end()) {
      auto made = std::make_shared<Session<T>>(call);
      sessions_.emplace(number, made);
      return made;
    }
    auto session = std::dynamic_pointer_cast<Session<T>>(found->second);
    STD_TORCH_CHECK(session, RUN_PLAN, ": session ", number, " began with features that are not ",
                    torch::headeronly::toString(dtype_of<T>));
    return session;
  }

  void forget(int64_t number) {
    const std::lock_guard<std::mutex> lock(mutex_);
    sessions_.erase(number);
  }

 private:
  std::mutex mutex_;
  std::map<int64_t, std::shared_ptr<AnySession>> sessions_;
};

}  // namespace pixelsr
