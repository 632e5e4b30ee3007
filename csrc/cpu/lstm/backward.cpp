// lstm_scan_grad_: the gradient of the recurrences of forward.cpp, from the last wavefront to the
// first. The matrix is transposed: a cell gathers, from the gradients of the next wavefront's sums,
// those of the cells that read it. The gradient of the matrix is computed chunk by chunk, while the
// gradients of the chunk's sums are still in the caches.

#include <torch/csrc/stable/library.h>

#include "cpu/lstm/scan.h"

namespace pixelsr {
namespace {

// The memory of one group.
template <class T>
struct Carried {
  std::vector<T> of_sums, of_cells, of_hidden;  // of a wavefront
  std::vector<T> grad, hidden, grad_gates;      // of a chunk, if the tensors are in planes
};

template <class T>
struct Backward {
  const Scan& scan;
  const Packed<T> packed;
  const T* initial;
  int64_t h, samples, threads;
  Given<const T> grad, hidden;
  const T *cell, *activations;
  Given<T> grad_gates;
  T *of_matrix, *of_initial_cell;

  void run() const {
    const int64_t at_once = samples_at_once(scan, samples, threads), states = scan.states();
    const int64_t weights = scan.taps * h * 4 * h;
    std::vector<Carried<T>> carried(std::min(threads, samples));
    for (Carried<T>& own : carried) {
      own.of_sums.resize(at_once * scan.padded() * 4 * h);
      own.of_cells.resize(at_once * states * h);
      own.of_hidden.resize(at_once * states * h);
      own.grad.resize(grad.copied(at_once));
      own.hidden.resize(hidden.copied(at_once));
      own.grad_gates.resize(grad_gates.copied(at_once));
    }
    std::vector<Sites> sites(threads, Sites(at_once * states));
    std::vector<std::vector<const T*>> before(threads, std::vector<const T*>(at_once * states));
    std::vector<std::vector<T>> of_weights(threads, std::vector<T>(weights));
    share(samples, at_once, threads, [&](const Chunk& chunk) noexcept {
      Carried<T>& own = carried[chunk.group];
      const Map<const T> of_out = grad.load(chunk, own.grad);
      const Map<const T> states_of = hidden.load(chunk, own.hidden);
      const Map<T> of_gates = grad_gates.map(chunk, own.grad_gates);
      walk(chunk, of_out, of_gates, own, sites[chunk.rank], before[chunk.rank]);
      add_outer(chunk, states_of, of_gates.read(), of_weights[chunk.rank].data());
      grad_gates.store(chunk, own.grad_gates);
      chunk.wait();  // before the others begin the next samples
    });
    for (int64_t i = 0; i < weights; ++i) {
      T sum = 0;
      for (const std::vector<T>& one : of_weights) sum += one[i];
      of_matrix[i] = sum;
    }
  }

  void walk(const Chunk& chunk, const Map<const T>& of_out, const Map<T>& of_gates, Carried<T>& own,
            Sites& sites, std::vector<const T*>& before) const {
    const int64_t states = scan.states(), padded = scan.padded();
    const int64_t border = scan.taps - 1 - scan.before();  // zeros before the transposed window
    const Map<const T> cell_at = dense_map(cell, chunk, scan, h);
    const Map<const T> parts = dense_map(activations, chunk, scan, 4 * h);
    if (chunk.member == 0) {
      std::fill(own.of_sums.begin(), own.of_sums.end(), T(0));
      std::fill(own.of_cells.begin(), own.of_cells.end(), T(0));
    }
    chunk.wait();
    for (int64_t wavefront = scan.wavefronts() - 1; wavefront >= 0; --wavefront) {
      const int64_t first = scan.first(wavefront), cells = scan.last(wavefront) - first;
      const Part part = chunk.part(chunk.count * cells);
      for (int64_t i = 0; i < part.size(); ++i) {
        const int64_t n = (part.begin + i) / cells, state = first + (part.begin + i) % cells;
        sites.given[i] = of_out.at(scan, n, wavefront, state);
        sites.hidden[i] = of_gates.at(scan, n, wavefront, state);
        sites.cell[i] = cell_at.at(scan, n, wavefront, state);
        sites.parts[i] = parts.at(scan, n, wavefront, state);
        sites.window[i] = (n * padded + state) * 4 * h;
        sites.own[i] = sites.window[i] + border * 4 * h;
        sites.carried[i] = (n * states + state) * h;
        before[i] = scan.begins(wavefront, state)
                        ? initial + h
                        : cell_at.data + cell_at.at(scan, n, wavefront - 1, state);
      }
      packed.multiply(own.of_sums.data(), scan.taps * 4 * h, sites.window.data(),
                      own.of_hidden.data(), sites.carried.data(), of_out.data, sites.given.data(),
                      part.size(), h);
      chunk.wait();  // the next wavefront has been read
      LstmGradCall<T> call = {};
      call.sites = part.size();
      call.channels = h;
      call.of_hidden = own.of_hidden.data();
      call.of_hidden_at = sites.carried.data();
      call.activations = parts.data;
      call.activations_at = sites.parts.data();
      call.grad_gates = of_gates.data;
      call.grad_gates_at = sites.hidden.data();
      call.cell = cell_at.data;
      call.cell_at = sites.cell.data();
      call.before = before.data();
      call.of_cell = own.of_cells.data();
      call.of_cell_at = sites.carried.data();
      call.of_sums = own.of_sums.data();
      call.of_sums_at = sites.own.data();
      kernels<T>().lstm_grad(call);
      chunk.wait();
    }
    if (chunk.member == 0) add_up_cells(chunk, own);
    chunk.wait();
  }

  void add_up_cells(const Chunk& chunk, const Carried<T>& own) const {
    const int64_t states = scan.states();
    for (int64_t n = 0; n < chunk.count; ++n) {
      T* to = of_initial_cell + (chunk.first + n) * h;
      std::fill(to, to + h, T(0));
      for (int64_t state = 0; state < states; ++state) {
        const T* from = own.of_cells.data() + (n * states + state) * h;
        for (int64_t c = 0; c < h; ++c) to[c] += from[c];
      }
    }
  }

  // Returns the hidden state that a tap of a cell reads, or null for zeros.
  const T* reads(const Map<const T>& states, int64_t n, int64_t row, int64_t column,
                 int64_t tap) const {
    if (!scan.diagonal) {
      column += tap - scan.before();
      if (column < 0 || column >= scan.width) return nullptr;
      return row == 0 ? initial : states.data + states.at(n, row - 1, column);
    }
    if (tap == 0) return row == 0 ? nullptr : states.data + states.at(n, row - 1, column);
    column += scan.reverse ? 1 : -1;
    if (column < 0 || column >= scan.width) return initial;
    return states.data + states.at(n, row, column);
  }

  void add_outer(const Chunk& chunk, const Map<const T>& states, const Map<const T>& of_gates,
                 T* of_weights) const {
    const int64_t area = scan.height * scan.width;
    const Part part = chunk.part(chunk.count * area);
    const T *left[OUTER_SITES], *right[OUTER_SITES];
    OuterCall<T> call = {0, h, 4 * h, left, right, nullptr};
    for (int64_t begin = part.begin; begin < part.end; begin += OUTER_SITES) {
      const int64_t end = std::min(begin + OUTER_SITES, part.end);
      for (int64_t tap = 0; tap < scan.taps; ++tap) {
        call.sites = 0;
        for (int64_t i = begin; i < end; ++i) {
          const int64_t n = i / area, row = i % area / scan.width, column = i % scan.width;
          const T* read = reads(states, n, row, column, tap);
          if (!read) continue;
          left[call.sites] = read;
          right[call.sites++] = of_gates.data + of_gates.at(n, row, column);
        }
        call.out = of_weights + tap * h * 4 * h;
        kernels<T>().outer(call);
      }
    }
  }
};

template <class T>
void run_backward(const Scan& scan, const Tensor& grad, const Tensor& matrix, const Tensor& initial,
                  const Tensor& hidden, const Tensor& cell, const Tensor& activations,
                  Tensor& grad_gates, Tensor& of_matrix, Tensor& of_initial_cell, int64_t threads) {
  Backward<T>{scan,
              Packed<T>(matrix),
              initial.const_data_ptr<T>(),
              grad.size(1),
              grad.size(0),
              threads,
              Given<const T>(grad, grad.const_data_ptr<T>()),
              Given<const T>(hidden, hidden.const_data_ptr<T>()),
              cell.const_data_ptr<T>(),
              activations.const_data_ptr<T>(),
              Given<T>(grad_gates, grad_gates.mutable_data_ptr<T>()),
              of_matrix.mutable_data_ptr<T>(),
              of_initial_cell.mutable_data_ptr<T>()}
      .run();
}

// `matrix` is transposed. `grad`, `hidden` and `grad_gates` have either format; `cell` and
// `activations` are dense channels-last. `of_matrix` is laid out as the matrix of lstm_scan_.
void lstm_scan_grad_(Tensor grad, Tensor matrix, Tensor initial, Tensor hidden, Tensor cell,
                     Tensor activations, Tensor grad_gates, Tensor of_matrix,
                     Tensor of_initial_cell, bool diagonal, bool reverse, int64_t threads) {
  const char* op = "lstm_scan_grad_";
  check_first_map(op, "grad", grad);
  const int64_t h = grad.size(1);
  const Scan scan = checked_scan(op, grad, matrix, initial, h, 4 * h, h, diagonal, reverse);
  check_given(op, "grad", grad, grad, h);
  check_given(op, "hidden", hidden, grad, h);
  check_dense(op, "cell", cell, grad, h);
  check_dense(op, "activations", activations, grad, 4 * h);
  check_given(op, "grad_gates", grad_gates, grad, 4 * h);
  const ScalarType dtype = grad.scalar_type();
  check_tensor(op, "of_matrix", of_matrix, dtype, {scan.taps, h, 4 * h});
  check_tensor(op, "of_initial_cell", of_initial_cell, dtype, {grad.size(0), h});
  const auto run = dtype == ScalarType::Double ? run_backward<double> : run_backward<float>;
  run(scan, grad, matrix, initial, hidden, cell, activations, grad_gates, of_matrix,
      of_initial_cell, checked_threads(op, threads));
}

}  // namespace
}  // namespace pixelsr

STABLE_TORCH_LIBRARY_IMPL(pixelsr, CPU, m) {
  m.impl("lstm_scan_grad_", TORCH_BOX(&pixelsr::lstm_scan_grad_));
}
