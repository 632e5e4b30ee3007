// run_cells_: steps at any places of whole pictures, for edits.

#include <torch/csrc/stable/library.h>
#include <torch/csrc/stable/ops.h>
#include <torch/csrc/stable/tensor.h>
#include <torch/headeronly/core/ScalarType.h>

#include <algorithm>
#include <vector>

#include "cpu/execute.h"
#include "cpu/program.h"
#include "cpu/schedule.h"

namespace pixelsr {
namespace {

using torch::stable::Tensor;

// Some steps, in order, at some places: a place is counted in pixels of the padded maps.
template <class T>
void run_at(const Program& program, const Parameters<T>& parameters, T* storage, int64_t first_step,
            int64_t last_step, const int64_t* places, int64_t count) {
  std::vector<std::vector<int64_t>> offsets(program.buffers.size());
  const auto sites = [&](int64_t buffer) {
    std::vector<int64_t>& own = offsets[buffer];
    for (int64_t i = static_cast<int64_t>(own.size()); i < count; ++i) {
      own.push_back(places[i] * program.buffers[buffer].channels);
    }
    return own.data();
  };
  const auto at = [&](const Span& span, int64_t dr, int64_t dc) {
    const Buffer& buffer = program.buffers[span.buffer];
    const int64_t away = dr * buffer.padded + dc;
    return storage + buffer.offset + away * buffer.channels + span.first;
  };
  for (int64_t i = first_step; i < last_step; ++i) {
    const Step& step = program.steps[i];
    run_task(parameters, {&step, 0, panels_of(step), 0, count}, at, sites);
  }
}

// `cells` is [cells, 4]: its first step and the one after its last, its first place and so on.
template <class T>
void run_typed(const Tensor& code, const Tensor& constants, Tensor& storage, const Tensor& cells,
               const Tensor& places) {
  const Program program = ProgramReader(code.const_data_ptr<int64_t>(), code.numel()).read();
  const Parameters<T> parameters = parameters_of<T>(constants, constants);
  T* data = storage.mutable_data_ptr<T>();
  const int64_t* cell = cells.const_data_ptr<int64_t>();
  for (int64_t c = 0; c < cells.size(0); ++c, cell += 4) {
    const int64_t* own = places.const_data_ptr<int64_t>() + cell[2];
    constexpr int64_t AT_ONCE = 64;
    const auto run = [&](int64_t begin, int64_t end) {
      for (int64_t first = begin; first < end; first += AT_ONCE) {
        run_at(program, parameters, data, cell[0], cell[1], own + first,
               std::min(AT_ONCE, end - first));
      }
    };
    torch::stable::parallel_for(0, cell[3] - cell[2], AT_ONCE, run);
  }
}

void run_cells_(Tensor program, Tensor constants, Tensor storage, Tensor cells, Tensor places) {
  const bool is_double = storage.scalar_type() == torch::headeronly::ScalarType::Double;
  const auto typed = is_double ? run_typed<double> : run_typed<float>;
  typed(program, constants, storage, cells, places);
}

}  // namespace
}  // namespace pixelsr

STABLE_TORCH_LIBRARY_IMPL(pixelsr, CPU, m) {
  m.impl("run_cells_", TORCH_BOX(&pixelsr::run_cells_));
}
