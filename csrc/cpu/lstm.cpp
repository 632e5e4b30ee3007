// lstm_scan_, lstm_scan_grad_: the recurrences of PixelRNN, front by front, as pixelsr/scan.py has
// them. Channels of a cell stand side by side everywhere, so that what the taps of a cell read is
// one stretch of the carried states, and a front is one matrix product. Threads share samples;
// where there are more threads than samples, a group of them shares the cells of its fronts.

#include <torch/csrc/stable/library.h>
#include <torch/csrc/stable/ops.h>
#include <torch/csrc/stable/tensor.h>
#include <torch/headeronly/core/ScalarType.h>

#include <algorithm>
#include <cstring>
#include <vector>

#include "cpu/kernels.h"
#include "cpu/team.h"

namespace pixelsr {
namespace {

using torch::headeronly::ScalarType;
using torch::stable::Tensor;

// Which cells are computed at once, and by which states they are known.
struct Scan {
  bool diagonal, reverse;
  int64_t height, width, taps;

  int64_t fronts() const { return diagonal ? height + width - 1 : height; }
  int64_t states() const { return diagonal ? height : width; }
  // Zeros before and after the states. Tap k of a cell with state p reads state p + k - before().
  int64_t before() const { return taps / 2; }
  int64_t padded() const { return states() + taps - 1; }
  int64_t first(int64_t front) const {
    return diagonal ? std::max<int64_t>(0, front - width + 1) : 0;
  }
  int64_t last(int64_t front) const { return diagonal ? std::min(front + 1, height) : width; }
  int64_t row(int64_t front, int64_t state) const { return diagonal ? state : front; }
  int64_t column(int64_t front, int64_t state) const {
    if (!diagonal) return state;
    return reverse ? width - 1 - (front - state) : front - state;
  }
  // In the flattened picture.
  int64_t cell(int64_t front, int64_t state) const {
    return row(front, state) * width + column(front, state);
  }
  bool begins(int64_t front, int64_t state) const { return front == (diagonal ? state : 0); }
};

// A map that was made elsewhere: any distances between the cells, none between the channels.
template <class T>
struct Map {
  const T* data;
  int64_t sample, row, column;

  explicit Map(const Tensor& x)
      : data(x.const_data_ptr<T>()), sample(x.stride(0)), row(x.stride(2)), column(x.stride(3)) {}
  int64_t at(const Scan& scan, int64_t n, int64_t front, int64_t state) const {
    return n * sample + scan.row(front, state) * row + scan.column(front, state) * column;
  }
};

// A matrix [inputs, outputs] in panels of outputs.
template <class T>
struct Packed {
  int64_t depth, panels;
  std::vector<T> values;

  explicit Packed(const Tensor& matrix) {
    const int64_t inputs = matrix.size(0), outputs = matrix.size(1);
    const T* from = matrix.const_data_ptr<T>();
    depth = inputs + inputs % 2;
    panels = (outputs + PANEL - 1) / PANEL;
    values.resize(panels * depth * PANEL);
    for (int64_t panel = 0; panel < panels; ++panel) {
      const int64_t first = panel * PANEL, count = std::min(PANEL, outputs - first);
      T* to = values.data() + panel * depth * PANEL;
      for (int64_t k = 0; k < inputs; ++k, to += PANEL) {
        std::memcpy(to, from + k * outputs + first, count * sizeof(T));
      }
    }
  }
};

// What a thread is told of the cells of a front: where they are found in each map.
struct Sites {
  std::vector<int64_t> given, out, parts, window, carried, own, cell;

  explicit Sites(int64_t most) {
    for (auto* offsets : {&given, &out, &parts, &window, &carried, &own, &cell}) {
      offsets->resize(most);
    }
  }
};

// Samples that walk through the fronts together: few enough for the caches, as many as fill tiles.
constexpr int64_t CELLS_AT_ONCE = 64;

int64_t samples_at_once(const Scan& scan, int64_t samples) {
  return std::min(samples, std::max<int64_t>(1, CELLS_AT_ONCE / scan.states()));
}

// Calls `work(first sample, samples, rank, group, member, members)` for all samples, on a team.
template <class Work>
void share(int64_t samples, int64_t at_once, int64_t threads, const Work& work) {
  run_team(threads, [&](int64_t rank, int64_t came) noexcept {
    const int64_t groups = std::min(came, samples);
    const int64_t group = rank * groups / came;
    const auto begin = [&](int64_t g) { return (came * g + groups - 1) / groups; };
    const int64_t member = rank - begin(group), members = begin(group + 1) - begin(group);
    const int64_t first = samples * group / groups, last = samples * (group + 1) / groups;
    for (int64_t n = first; n < last; n += at_once) {
      work(n, std::min(at_once, last - n), rank, group, member, members);
    }
  });
}

// A member's part of `count` cells.
struct Part {
  int64_t begin, end;
  Part(int64_t count, int64_t member, int64_t members)
      : begin(count * member / members), end(count * (member + 1) / members) {}
  int64_t size() const { return end - begin; }
};

template <class T>
struct Carried {
  std::vector<T> states, cells, sums;
  Barrier barrier;
};

template <class T>
void scan_forward(const Scan& scan, const Tensor& given, const Tensor& matrix,
                  const Tensor& initial, Tensor& hidden, Tensor& cell, Tensor& activations,
                  Rounding rounding, int64_t threads) {
  const int64_t samples = given.size(0), h = hidden.size(1), area = scan.height * scan.width;
  const int64_t states = scan.states(), padded = scan.padded();
  const bool keep = cell.numel() > 0;
  const int64_t at_once = samples_at_once(scan, std::max<int64_t>(1, samples / threads));
  const Map<T> gates(given);
  const Packed<T> packed(matrix);
  const std::vector<T> zeros(packed.panels * PANEL);
  const T* start = initial.const_data_ptr<T>();
  T* out = hidden.mutable_data_ptr<T>();
  T* kept_cell = keep ? cell.mutable_data_ptr<T>() : nullptr;
  T* kept_gates = keep ? activations.mutable_data_ptr<T>() : nullptr;
  std::vector<Carried<T>> carried(std::min(threads, samples));
  for (Carried<T>& own : carried) {
    own.states.resize(at_once * padded * h);
    own.cells.resize(at_once * states * h);
    if (!keep) own.sums.resize(at_once * states * 4 * h);
  }
  std::vector<Sites> of_threads(threads, Sites(at_once * states));
  const Kernels<T>& kernel = kernels<T>();

  share(samples, at_once, threads,
        [&](int64_t first_sample, int64_t count, int64_t rank, int64_t group, int64_t member,
            int64_t members) noexcept {
          Carried<T>& own = carried[group];
          Sites& sites = of_threads[rank];
          T* sums = keep ? kept_gates : own.sums.data();
          if (member == 0) {
            for (int64_t i = 0; i < count * states; ++i) {
              const int64_t at = i / states * padded + scan.before() + i % states;
              std::copy(start, start + h, own.states.begin() + at * h);
              std::copy(start + h, start + 2 * h, own.cells.begin() + i * h);
            }
          }
          own.barrier.wait(members);
          const T* source = own.states.data();
          const int64_t length = scan.taps * h;
          for (int64_t front = 0; front < scan.fronts(); ++front) {
            const int64_t first = scan.first(front), cells = scan.last(front) - first;
            const Part part(count * cells, member, members);
            for (int64_t i = 0; i < part.size(); ++i) {
              const int64_t n = (part.begin + i) / cells, state = first + (part.begin + i) % cells;
              const int64_t place = (first_sample + n) * area + scan.cell(front, state);
              sites.given[i] = gates.at(scan, first_sample + n, front, state);
              sites.out[i] = place * h;
              sites.parts[i] = (keep ? place : n * states + state) * 4 * h;
              sites.window[i] = (n * padded + state) * h;
              sites.own[i] = sites.window[i] + scan.before() * h;
              sites.carried[i] = (n * states + state) * h;
            }
            ProductCall<T> product = {};
            product.weight = packed.values.data();
            product.bias = zeros.data();
            product.depth = packed.depth;
            product.segments = 1;
            product.sources = &source;
            product.lengths = &length;
            product.in = sites.window.data();
            product.out = sums;
            product.out_at = sites.parts.data();
            product.add = gates.data;
            product.add_at = sites.given.data();
            product.sites = part.size();
            product.panels = packed.panels;
            product.channels = 4 * h;
            if (part.size()) kernel.product[0](product);
            own.barrier.wait(members);  // the states have been read
            LstmCall<T> call = {};
            call.sites = part.size();
            call.channels = h;
            call.rounding = rounding;
            call.gates = sums;
            call.gates_at = sites.parts.data();
            call.state = own.states.data();
            call.state_at = sites.own.data();
            call.cell = own.cells.data();
            call.cell_at = sites.carried.data();
            call.hidden = out;
            call.kept_cell = kept_cell;
            call.out_at = sites.out.data();
            kernel.lstm(call);
            own.barrier.wait(members);
          }
        });
}

// The product of a front is turned round: a cell gathers, from the gradients of the sums of the
// front after it, those of the cells that read it.
template <class T>
void scan_backward(const Scan& scan, const Tensor& grad, const Tensor& matrix,
                   const Tensor& initial, const Tensor& cell, const Tensor& activations,
                   Tensor& grad_gates, Tensor& of_initial_cell, int64_t threads) {
  const int64_t samples = grad.size(0), h = grad.size(1), area = scan.height * scan.width;
  const int64_t states = scan.states(), padded = scan.padded();
  const int64_t before = scan.taps - 1 - scan.before();  // zeros, of the turned window
  const int64_t at_once = samples_at_once(scan, std::max<int64_t>(1, samples / threads));
  const Map<T> of_out(grad);
  const Packed<T> packed(matrix);
  const std::vector<T> zeros(packed.panels * PANEL);
  const T* start = initial.const_data_ptr<T>() + h;
  const T* cells_of = cell.const_data_ptr<T>();
  T* of_start = of_initial_cell.mutable_data_ptr<T>();
  std::vector<Carried<T>> carried(std::min(threads, samples));
  for (Carried<T>& own : carried) {
    own.states.resize(at_once * padded * 4 * h);
    own.cells.resize(at_once * states * h);
    own.sums.resize(at_once * states * h);
  }
  std::vector<Sites> of_threads(threads, Sites(at_once * states));
  std::vector<std::vector<const T*>> befores(threads, std::vector<const T*>(at_once * states));
  LstmGradCall<T> shared = {};
  shared.channels = h;
  shared.activations = activations.const_data_ptr<T>();
  shared.grad_gates = grad_gates.mutable_data_ptr<T>();
  shared.cell = cells_of;
  const Kernels<T>& kernel = kernels<T>();

  share(samples, at_once, threads,
        [&](int64_t first_sample, int64_t count, int64_t rank, int64_t group, int64_t member,
            int64_t members) noexcept {
          Carried<T>& own = carried[group];
          Sites& sites = of_threads[rank];
          std::vector<const T*>& predecessors = befores[rank];
          if (member == 0) {
            std::fill(own.states.begin(), own.states.end(), T(0));
            std::fill(own.cells.begin(), own.cells.end(), T(0));
          }
          own.barrier.wait(members);
          const T* source = own.states.data();
          const int64_t length = scan.taps * 4 * h;
          for (int64_t front = scan.fronts() - 1; front >= 0; --front) {
            const int64_t first = scan.first(front), cells = scan.last(front) - first;
            const Part part(count * cells, member, members);
            for (int64_t i = 0; i < part.size(); ++i) {
              const int64_t n = (part.begin + i) / cells, state = first + (part.begin + i) % cells;
              const int64_t picture = (first_sample + n) * area;
              const int64_t place = picture + scan.cell(front, state);
              sites.given[i] = of_out.at(scan, first_sample + n, front, state);
              sites.cell[i] = place * h;
              sites.parts[i] = place * 4 * h;
              sites.window[i] = (n * padded + state) * 4 * h;
              sites.own[i] = sites.window[i] + before * 4 * h;
              sites.carried[i] = (n * states + state) * h;
              predecessors[i] = scan.begins(front, state)
                                    ? start
                                    : cells_of + (picture + scan.cell(front - 1, state)) * h;
            }
            ProductCall<T> product = {};
            product.weight = packed.values.data();
            product.bias = zeros.data();
            product.depth = packed.depth;
            product.segments = 1;
            product.sources = &source;
            product.lengths = &length;
            product.in = sites.window.data();
            product.out = own.sums.data();
            product.out_at = sites.carried.data();
            product.add = of_out.data;
            product.add_at = sites.given.data();
            product.sites = part.size();
            product.panels = packed.panels;
            product.channels = h;
            if (part.size()) kernel.product[0](product);
            own.barrier.wait(members);  // the front after has been read
            LstmGradCall<T> call = shared;
            call.sites = part.size();
            call.of_hidden = own.sums.data();
            call.of_hidden_at = sites.carried.data();
            call.gates_at = sites.parts.data();
            call.cell_at = sites.cell.data();
            call.before = predecessors.data();
            call.of_cell = own.cells.data();
            call.of_cell_at = sites.carried.data();
            call.of_sums = own.states.data();
            call.of_sums_at = sites.own.data();
            kernel.lstm_grad(call);
            own.barrier.wait(members);
          }
          if (member == 0) {
            for (int64_t n = 0; n < count; ++n) {
              T* to = of_start + (first_sample + n) * h;
              std::fill(to, to + h, T(0));
              for (int64_t state = 0; state < states; ++state) {
                const T* from = own.cells.data() + (n * states + state) * h;
                for (int64_t c = 0; c < h; ++c) to[c] += from[c];
              }
            }
          }
          own.barrier.wait(members);  // before others begin with the next samples
        });
}

// Of what was not checked where a user gave it, as a wrong size would be written beyond.
Scan checked(const char* name, const Tensor& map, const Tensor& matrix, const Tensor& initial,
             int64_t channels, int64_t inputs, int64_t outputs, bool diagonal, bool reverse) {
  STD_TORCH_CHECK(map.dim() == 4 && (map.stride(1) == 1 || map.size(1) == 1) && matrix.dim() == 2 &&
                      matrix.size(0) % inputs == 0 && matrix.size(1) == outputs &&
                      initial.numel() == 2 * channels && matrix.is_contiguous() &&
                      initial.is_contiguous(),
                  name, ": these tensors do not fit each other");
  const Scan scan = {diagonal, reverse, map.size(2), map.size(3), matrix.size(0) / inputs};
  STD_TORCH_CHECK(diagonal ? scan.taps == 2 : scan.taps % 2 == 1, name, ": it has ", scan.taps,
                  " taps");
  return scan;
}

// Is `x` [N, channels, H, W] of this map, channels last, nothing between?
void check_dense(const char* name, const Tensor& x, const Tensor& map, int64_t channels) {
  STD_TORCH_CHECK(
      x.dim() == 4 && x.scalar_type() == map.scalar_type() && x.size(0) == map.size(0) &&
          x.size(1) == channels && x.size(2) == map.size(2) && x.size(3) == map.size(3) &&
          (x.stride(1) == 1 || channels == 1) && (x.size(3) == 1 || x.stride(3) == channels) &&
          (x.size(2) == 1 || x.stride(2) == x.size(3) * channels) &&
          (x.size(0) == 1 || x.stride(0) == x.size(2) * x.size(3) * channels),
      name, ": these tensors do not fit each other");
}

void lstm_scan_(Tensor gates, Tensor matrix, Tensor initial, Tensor hidden, Tensor cell,
                Tensor activations, bool diagonal, bool reverse, int64_t rounding,
                int64_t threads) {
  const int64_t h = hidden.size(1);
  const Scan scan =
      checked("lstm_scan_", gates, matrix, initial, h, h, gates.size(1), diagonal, reverse);
  check_dense("lstm_scan_", hidden, gates, gates.size(1) / 4);
  if (cell.numel() > 0) {
    check_dense("lstm_scan_", cell, gates, h);
    check_dense("lstm_scan_", activations, gates, 4 * h);
  }
  const bool is_double = gates.scalar_type() == ScalarType::Double;
  const auto run = is_double ? scan_forward<double> : scan_forward<float>;
  run(scan, gates, matrix, initial, hidden, cell, activations, static_cast<Rounding>(rounding),
      std::max<int64_t>(1, threads));
}

void lstm_scan_grad_(Tensor grad, Tensor matrix, Tensor initial, Tensor cell, Tensor activations,
                     Tensor grad_gates, Tensor of_initial_cell, bool diagonal, bool reverse,
                     int64_t threads) {
  const int64_t h = grad.size(1);
  const Scan scan =
      checked("lstm_scan_grad_", grad, matrix, initial, h, 4 * h, h, diagonal, reverse);
  check_dense("lstm_scan_grad_", cell, grad, h);
  check_dense("lstm_scan_grad_", activations, grad, 4 * h);
  check_dense("lstm_scan_grad_", grad_gates, grad, 4 * h);
  STD_TORCH_CHECK(of_initial_cell.is_contiguous() && of_initial_cell.numel() == grad.size(0) * h,
                  "lstm_scan_grad_: of_initial_cell must be [N, h]");
  const bool is_double = grad.scalar_type() == ScalarType::Double;
  const auto run = is_double ? scan_backward<double> : scan_backward<float>;
  run(scan, grad, matrix, initial, cell, activations, grad_gates, of_initial_cell,
      std::max<int64_t>(1, threads));
}

}  // namespace
}  // namespace pixelsr

STABLE_TORCH_LIBRARY_IMPL(pixelsr, CPU, m) {
  m.impl("lstm_scan_", TORCH_BOX(&pixelsr::lstm_scan_));
  m.impl("lstm_scan_grad_", TORCH_BOX(&pixelsr::lstm_scan_grad_));
}
