// run_cells_: runs steps at any positions of whole feature maps, for incremental logits.

#include <torch/csrc/stable/library.h>
#include <torch/csrc/stable/ops.h>
#include <torch/csrc/stable/tensor.h>
#include <torch/headeronly/util/Exception.h>

#include <algorithm>
#include <vector>

#include "cpu/check_program.h"
#include "cpu/checks.h"
#include "cpu/execute.h"
#include "cpu/program.h"
#include "cpu/thread_schedule.h"

namespace pixelsr {
namespace {

constexpr const char* RUN_CELLS = "run_cells_";

// Runs some steps in order at some places. A place is a pixel index in the padded maps.
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

// How far before and behind a place some steps read or write, in pixels.
struct Reach {
  int64_t before = 0, behind = 0;
};

Reach reach_of(const Program& program, int64_t first_step, int64_t last_step) {
  Reach reach;
  for (int64_t i = first_step; i < last_step; ++i) {
    each_access(program.steps[i],
                [&](int64_t b, int64_t dr, int64_t dc, int64_t first, int64_t length) {
                  const Buffer& buffer = program.buffers[b];
                  const int64_t away = dr * buffer.padded + dc;
                  const int64_t wide = (first + length - 1) / buffer.channels;
                  reach.before = std::max(reach.before, -away);
                  reach.behind = std::max(reach.behind, away + wide);
                });
  }
  return reach;
}

// Checks a cell: {first step, end of steps, first place, end of places}.
void check_cell(const Program& program, const int64_t* cell, const Tensor& places) {
  const int64_t steps = static_cast<int64_t>(program.steps.size());
  STD_TORCH_CHECK(0 <= cell[0] && cell[0] <= cell[1] && cell[1] <= steps, RUN_CELLS,
                  ": a cell has the steps ", cell[0], " to ", cell[1], " of ", steps);
  STD_TORCH_CHECK(0 <= cell[2] && cell[2] <= cell[3] && cell[3] <= places.numel(), RUN_CELLS,
                  ": a cell has the places ", cell[2], " to ", cell[3], " of ", places.numel());
  if (cell[0] == cell[1] || cell[2] == cell[3]) return;
  const int64_t* all = places.const_data_ptr<int64_t>();
  const auto [least, most] = std::minmax_element(all + cell[2], all + cell[3]);
  const Reach reach = reach_of(program, cell[0], cell[1]);
  const int64_t pixels = program.buffers[0].rows * program.buffers[0].padded;
  STD_TORCH_CHECK(*least >= reach.before && *most < pixels - reach.behind, RUN_CELLS,
                  ": places must be ", reach.before, " to ", pixels - reach.behind - 1,
                  " where a cell reads its windows, got ", *least, " to ", *most);
}

// `cells` is [cells, 4].
template <class T>
void run_typed(const Program& program, const Tensor& constants, Tensor& storage,
               const Tensor& cells, const Tensor& places) {
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
  check_features(RUN_CELLS, "storage", storage);
  check_tensor(RUN_CELLS, "storage", storage, storage.scalar_type(), {ANY});
  check_tensor(RUN_CELLS, "constants", constants, storage.scalar_type(), {ANY});
  check_tensor(RUN_CELLS, "cells", cells, ScalarType::Long, {ANY, 4});
  check_tensor(RUN_CELLS, "places", places, ScalarType::Long, {ANY});
  const Program read = read_maps(RUN_CELLS, program, constants.numel());
  STD_TORCH_CHECK(read.size <= storage.numel(), RUN_CELLS, ": storage must hold ", read.size,
                  " values, got ", storage.numel());
  const int64_t* cell = cells.const_data_ptr<int64_t>();
  for (int64_t c = 0; c < cells.size(0); ++c) check_cell(read, cell + 4 * c, places);
  const bool is_double = storage.scalar_type() == ScalarType::Double;
  const auto typed = is_double ? run_typed<double> : run_typed<float>;
  typed(read, constants, storage, cells, places);
}

}  // namespace
}  // namespace pixelsr

STABLE_TORCH_LIBRARY_IMPL(pixelsr, CPU, m) {
  m.impl("run_cells_", TORCH_BOX(&pixelsr::run_cells_));
}
