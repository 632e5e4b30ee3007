// run_plan_: draws pictures by a plan, or runs it up to the logits of the next value.
// forget_session: frees what run_plan_ has kept of a batch.

#include <torch/csrc/stable/library.h>
#include <torch/csrc/stable/ops.h>
#include <torch/csrc/stable/tensor.h>
#include <torch/headeronly/core/ScalarType.h>

#include <algorithm>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <utility>
#include <vector>

#include "common/walk.h"
#include "cpu/group.h"
#include "cpu/kernels.h"
#include "cpu/program.h"
#include "cpu/team.h"

namespace pixelsr {
namespace {

using torch::headeronly::ScalarType;
using torch::stable::Tensor;

// Splits the samples over the threads: each group its own samples, and several threads to a group
// where there are more threads than samples.
template <class T>
std::vector<std::unique_ptr<Group<T>>> make_groups(const Job<T>& job, int64_t threads) {
  const int64_t count = std::min(threads, job.samples);
  std::vector<std::unique_ptr<Group<T>>> groups;
  for (int64_t group = 0; group < count; ++group) {
    const int64_t first = job.samples * group / count, last = job.samples * (group + 1) / count;
    const int64_t own = threads * (group + 1) / count - threads * group / count;
    groups.push_back(std::make_unique<Group<T>>(job, first, last - first, own));
  }
  return groups;
}

// What is kept between the calls of one batch: reading a program takes longer than one value.
struct AnySession {
  virtual ~AnySession() = default;
};

template <class T>
class Session : public AnySession {
 public:
  explicit Session(const Tensor& program) {
    job.program = ProgramReader(program.const_data_ptr<int64_t>(), program.numel()).read();
  }

  // Groups are made before their team begins, for nothing may throw there; where fewer threads come
  // than were asked for, they do nothing, and begin again with groups for as many.
  Cursor run(Cursor from, int64_t threads) {
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

  Job<T> job{};

 private:
  void prepare(int64_t members) {
    groups_ = make_groups(job, members);
    members_ = members;
  }

  Cursor run_member(Cursor from, int64_t rank) const noexcept {
    const int64_t count = static_cast<int64_t>(groups_.size());
    int64_t group = 0;
    while (members_ * (group + 1) / count <= rank) ++group;
    return groups_[group]->run(from, rank - members_ * group / count);
  }

  int64_t asked_ = 0, members_ = 0;
  std::vector<std::unique_ptr<Group<T>>> groups_;  // for so many members
};

// By numbers that the caller gives; one that is missing is made. The caller forgets each in the
// end.
class Sessions {
 public:
  template <class T>
  std::shared_ptr<Session<T>> get(int64_t number, const Tensor& program) {
    const std::lock_guard<std::mutex> lock(mutex_);
    std::shared_ptr<AnySession>& session = sessions_[number];
    if (!session) session = std::make_shared<Session<T>>(program);
    return std::static_pointer_cast<Session<T>>(session);
  }

  void forget(int64_t number) {
    const std::lock_guard<std::mutex> lock(mutex_);
    sessions_.erase(number);
  }

 private:
  std::mutex mutex_;
  std::map<int64_t, std::shared_ptr<AnySession>> sessions_;
};

Sessions& sessions() {
  static Sessions all;
  return all;
}

// The noise stands behind the buffers.
template <class T>
float* noise_in(Tensor& storage, const Job<T>& job) {
  const Program& program = job.program;
  const int64_t before = program.size * job.samples * static_cast<int64_t>(sizeof(T));
  const int64_t noise = job.samples * job.order.cols * program.colours * program.levels;
  const int64_t given = storage.numel() * static_cast<int64_t>(sizeof(T));
  STD_TORCH_CHECK(given >= before + noise * static_cast<int64_t>(sizeof(float)),
                  "run_plan_: a storage of ", given, " bytes is too small");
  return reinterpret_cast<float*>(static_cast<char*>(storage.mutable_data_ptr()) + before);
}

Order order_of(const Program& program, const Tensor& unknown, const Tensor& last_and_stop,
               int64_t first_col, int64_t cols, int64_t rows) {
  Order order{};
  order.height = program.height;
  order.width = program.width;
  order.colours = program.colours;
  order.first_col = first_col;
  order.cols = cols;
  order.rows = rows;
  order.unknown = unknown.const_data_ptr<bool>();
  order.last_unknown = last_and_stop.const_data_ptr<int64_t>();
  order.stop = order.last_unknown + program.height * program.width;
  return order;
}

template <class T>
Cursor run_typed(int64_t session_number, const Tensor& program, const Tensor& weights,
                 const Tensor& constants, Tensor& storage, const Tensor& values, Tensor& images,
                 const Tensor& known_mask, const Tensor& unknown, const Tensor& last_and_stop,
                 Tensor& faults, Cursor from, int64_t seed, int64_t first_index, double temperature,
                 bool draw, int64_t first_col, int64_t cols, int64_t rows, int64_t threads) {
  const std::shared_ptr<Session<T>> session = sessions().get<T>(session_number, program);
  Job<T>& job = session->job;
  job.parameters = parameters_of<T>(weights, constants);
  job.storage = storage.mutable_data_ptr<T>();
  job.values = values.const_data_ptr<T>();
  job.values_size = values.size(1);
  job.images = images.mutable_data_ptr<uint8_t>();
  job.known = known_mask.const_data_ptr<bool>();
  job.known_stride = known_mask.size(0) > 1 ? known_mask.stride(0) : 0;
  job.faults = faults.mutable_data_ptr<int64_t>();
  job.samples = images.size(0);
  job.samples_per_input = job.samples / values.size(0);
  job.seed = static_cast<uint64_t>(seed);
  job.first_index = static_cast<uint64_t>(first_index);
  job.temperature = static_cast<T>(temperature);
  job.draw = draw;
  job.order = order_of(job.program, unknown, last_and_stop, first_col, cols, rows);
  job.noise = noise_in(storage, job);
  return session->run(from, threads);
}

void run_plan_(Tensor program, Tensor weights, Tensor constants, Tensor storage, Tensor values,
               Tensor images, Tensor known_mask, Tensor unknown, Tensor last_and_stop,
               Tensor cursor, Tensor faults, int64_t seed, int64_t first_index, double temperature,
               bool draw, int64_t first_col, int64_t cols, int64_t rows, int64_t threads,
               int64_t session) {
  STD_TORCH_CHECK(threads >= 1, "threads must be a positive int, got ", threads);
  STD_TORCH_CHECK(values.size(0) >= 1 && images.size(0) % values.size(0) == 0,
                  "run_plan_: ", images.size(0), " samples of ", values.size(0), " inputs");
  const bool is_double = storage.scalar_type() == ScalarType::Double;
  STD_TORCH_CHECK(is_double || storage.scalar_type() == ScalarType::Float,
                  "run_plan_: storage must be float32 or float64, got ",
                  torch::headeronly::toString(storage.scalar_type()));
  int64_t* place = cursor.mutable_data_ptr<int64_t>();
  const auto typed = is_double ? run_typed<double> : run_typed<float>;
  const Cursor reached =
      typed(session, program, weights, constants, storage, values, images, known_mask, unknown,
            last_and_stop, faults, {place[0], place[1], place[2]}, seed, first_index, temperature,
            draw, first_col, cols, rows, threads);
  place[0] = reached.row, place[1] = reached.col, place[2] = reached.colour;
}

void forget_session(int64_t session) { sessions().forget(session); }

std::string name_of_instruction_set() { return instruction_set(); }

}  // namespace
}  // namespace pixelsr

STABLE_TORCH_LIBRARY_IMPL(pixelsr, CPU, m) { m.impl("run_plan_", TORCH_BOX(&pixelsr::run_plan_)); }

STABLE_TORCH_LIBRARY_IMPL(pixelsr, CompositeExplicitAutograd, m) {
  m.impl("forget_session", TORCH_BOX(&pixelsr::forget_session));
  m.impl("instruction_set", TORCH_BOX(&pixelsr::name_of_instruction_set));
}
