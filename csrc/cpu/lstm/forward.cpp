// lstm_scan_: the recurrences of PixelRNN, wavefront by wavefront, as in pixelsr/ops/lstm/eager.py.
// The channels of a cell are always contiguous, so that the taps of a cell read one contiguous
// range of the carried states, and a wavefront is one matrix product. Threads share the samples. If
// there are more threads than samples, a group of threads shares the cells of its wavefronts.

#include <torch/csrc/stable/library.h>

#include "cpu/lstm/scan.h"

namespace pixelsr {
namespace {

// The memory of one group.
template <class T>
struct Carried {
  std::vector<T> states, cells, sums;  // of a wavefront
  std::vector<T> gates, hidden;        // of a chunk, if the tensors are in planes
};

template <class T>
struct Forward {
  const Scan& scan;
  const Packed<T> packed;
  const T* initial;
  int64_t h, samples, threads;
  Rounding rounding;
  Given<const T> gates;
  Given<T> hidden;
  T *cell, *activations;  // null if nothing is kept

  void run() const {
    const int64_t at_once = samples_at_once(scan, samples, threads), states = scan.states();
    std::vector<Carried<T>> carried(std::min(threads, samples));
    for (Carried<T>& own : carried) {
      own.states.resize(at_once * scan.padded() * h);
      own.cells.resize(at_once * states * h);
      if (!activations) own.sums.resize(at_once * states * 4 * h);
      own.gates.resize(gates.copied(at_once));
      own.hidden.resize(hidden.copied(at_once));
    }
    std::vector<Sites> sites(threads, Sites(at_once * states));
    share(samples, at_once, threads, [&](const Chunk& chunk) noexcept {
      Carried<T>& own = carried[chunk.group];
      walk(chunk, gates.load(chunk, own.gates), own, sites[chunk.rank]);
      hidden.store(chunk, own.hidden);
      chunk.wait();  // before the others begin the next samples
    });
  }

  Map<T> sums_map(const Chunk& chunk, Carried<T>& own) const {
    const int64_t state = 4 * h;
    if (activations) return dense_map(activations, chunk, scan, state);
    // A wavefront overwrites the previous one.
    const int64_t row = scan.diagonal ? state : 0, column = scan.diagonal ? 0 : state;
    return {own.sums.data(), scan.states() * state, row, column};
  }

  void walk(const Chunk& chunk, const Map<const T>& inputs, Carried<T>& own, Sites& sites) const {
    const int64_t states = scan.states(), padded = scan.padded();
    const Map<T> sums = sums_map(chunk, own), out = hidden.map(chunk, own.hidden);
    const Map<T> cell_at = dense_map(cell, chunk, scan, h);
    if (chunk.member == 0) {
      for (int64_t i = 0; i < chunk.count * states; ++i) {
        const int64_t at = i / states * padded + scan.before() + i % states;
        std::copy(initial, initial + h, own.states.begin() + at * h);
        std::copy(initial + h, initial + 2 * h, own.cells.begin() + i * h);
      }
    }
    chunk.wait();
    for (int64_t wavefront = 0; wavefront < scan.wavefronts(); ++wavefront) {
      const int64_t first = scan.first(wavefront), cells = scan.last(wavefront) - first;
      const Part part = chunk.part(chunk.count * cells);
      for (int64_t i = 0; i < part.size(); ++i) {
        const int64_t n = (part.begin + i) / cells, state = first + (part.begin + i) % cells;
        sites.given[i] = inputs.at(scan, n, wavefront, state);
        sites.hidden[i] = out.at(scan, n, wavefront, state);
        sites.cell[i] = cell_at.at(scan, n, wavefront, state);
        sites.parts[i] = sums.at(scan, n, wavefront, state);
        sites.window[i] = (n * padded + state) * h;
        sites.own[i] = sites.window[i] + scan.before() * h;
        sites.carried[i] = (n * states + state) * h;
      }
      packed.multiply(own.states.data(), scan.taps * h, sites.window.data(), sums.data,
                      sites.parts.data(), inputs.data, sites.given.data(), part.size(), 4 * h);
      chunk.wait();  // the states have been read
      LstmCall<T> call = {};
      call.sites = part.size();
      call.channels = h;
      call.rounding = rounding;
      call.gates = sums.data;
      call.gates_at = sites.parts.data();
      call.state = own.states.data();
      call.state_at = sites.own.data();
      call.cell = own.cells.data();
      call.cell_at = sites.carried.data();
      call.hidden = out.data;
      call.hidden_at = sites.hidden.data();
      call.kept_cell = cell ? cell_at.data : nullptr;
      call.kept_cell_at = sites.cell.data();
      kernels<T>().lstm(call);
      chunk.wait();
    }
  }
};

template <class T>
void run_forward(const Scan& scan, const Tensor& gates, const Tensor& matrix, const Tensor& initial,
                 Tensor& hidden, Tensor& cell, Tensor& activations, Rounding rounding,
                 int64_t threads) {
  const bool keep = cell.numel() > 0;
  Forward<T>{scan,
             Packed<T>(matrix),
             initial.const_data_ptr<T>(),
             hidden.size(1),
             hidden.size(0),
             threads,
             rounding,
             Given<const T>(gates, gates.const_data_ptr<T>()),
             Given<T>(hidden, hidden.mutable_data_ptr<T>()),
             keep ? cell.mutable_data_ptr<T>() : nullptr,
             keep ? activations.mutable_data_ptr<T>() : nullptr}
      .run();
}

// `gates` and `hidden` have either format; `cell` and `activations` are dense channels-last, or
// empty.
void lstm_scan_(Tensor gates, Tensor matrix, Tensor initial, Tensor hidden, Tensor cell,
                Tensor activations, bool diagonal, bool reverse, int64_t rounding,
                int64_t threads) {
  const char* op = "lstm_scan_";
  check_first_map(op, "hidden", hidden);
  const int64_t h = hidden.size(1);
  const Scan scan = checked_scan(op, hidden, matrix, initial, h, h, 4 * h, diagonal, reverse);
  check_given(op, "gates", gates, hidden, 4 * h);
  check_given(op, "hidden", hidden, hidden, h);
  if (cell.numel() > 0) {
    check_dense(op, "cell", cell, hidden, h);
    check_dense(op, "activations", activations, hidden, 4 * h);
  }
  STD_TORCH_CHECK(rounding >= 0 && rounding <= 2, op, ": rounding must be 0, 1 or 2, got ",
                  rounding);
  const bool is_double = hidden.scalar_type() == ScalarType::Double;
  const auto run = is_double ? run_forward<double> : run_forward<float>;
  run(scan, gates, matrix, initial, hidden, cell, activations, static_cast<Rounding>(rounding),
      checked_threads(op, threads));
}

}  // namespace
}  // namespace pixelsr

STABLE_TORCH_LIBRARY_IMPL(pixelsr, CPU, m) {
  m.impl("lstm_scan_", TORCH_BOX(&pixelsr::lstm_scan_));
}
