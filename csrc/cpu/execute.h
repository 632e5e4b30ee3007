// The execution of one task: finds the pointers of its spans and calls the kernels.
#pragma once

#include <torch/csrc/stable/tensor.h>
#include <torch/headeronly/core/ScalarType.h>
#include <torch/headeronly/util/Exception.h>

#include <cstdint>

#include "cpu/program.h"
#include "cpu/simd/kernels.h"
#include "cpu/thread_schedule.h"

namespace pixelsr {

// The packed parameters of the steps, see engines/cpu/program.py, and the kernels.
template <class T>
struct Parameters {
  const char* weights;
  int64_t weight_bytes;
  WeightType weight_type;
  const T* constants;
  const Kernels<T>* kernels;
};

template <class T>
Parameters<T> parameters_of(const torch::stable::Tensor& weights,
                            const torch::stable::Tensor& constants) {
  using torch::headeronly::ScalarType;
  const ScalarType dtype = weights.scalar_type();
  WeightType type = WeightType::NATIVE;
  if (dtype != constants.scalar_type()) {
    const bool is_half = dtype == ScalarType::Half, is_bfloat = dtype == ScalarType::BFloat16;
    STD_TORCH_CHECK((is_half || is_bfloat) && constants.scalar_type() == ScalarType::Float,
                    "weights of ", torch::headeronly::toString(dtype), " for features of ",
                    torch::headeronly::toString(constants.scalar_type()));
    type = is_half ? WeightType::FLOAT16 : WeightType::BFLOAT16;
  }
  // A pair of 16-bit weights is read as one 32-bit word.
  STD_TORCH_CHECK(reinterpret_cast<uintptr_t>(weights.const_data_ptr()) % sizeof(float) == 0,
                  "weights must begin at a multiple of 4 bytes");
  return {static_cast<const char*>(weights.const_data_ptr()),
          static_cast<int64_t>(weights.element_size()), type, constants.const_data_ptr<T>(),
          &kernels<T>()};
}

// A site is a position of one sample at which the step runs. `sites(buffer)` returns the offsets of
// all sites. `at(span, dr, dc)` returns the base pointer of these offsets for the features of a
// span that is `dr` rows and `dc` columns away.
template <class T, class At, class Sites>
void run_product(const Parameters<T>& parameters, const Task& task, At at, Sites sites) {
  const Step& step = *task.step;
  const T* sources[MOST_SEGMENTS];
  int64_t lengths[MOST_SEGMENTS];
  for (size_t i = 0; i < step.segments.size(); ++i) {
    const Segment& segment = step.segments[i];
    sources[i] = at(step.args[0], segment.dr, segment.dc);
    lengths[i] = segment.length;
  }
  ProductCall<T> call{};
  const bool whole_rows = step.of_rows;  // their weights are among the constants
  const WeightType type = whole_rows ? WeightType::NATIVE : parameters.weight_type;
  call.weight = whole_rows ? reinterpret_cast<const char*>(parameters.constants + step.weight)
                           : parameters.weights + step.weight * parameters.weight_bytes;
  call.bias = step.overwrite ? parameters.constants + step.bias : nullptr;
  call.depth = step.depth;
  call.segments = static_cast<int64_t>(step.segments.size());
  call.sources = sources;
  call.lengths = lengths;
  call.in = sites(step.has_source ? step.args[0].buffer : step.out.buffer);
  call.out = at(step.out, 0, 0);
  call.out_at = sites(step.out.buffer);
  if (step.has_add) {
    call.add = at(step.add(), step.add().dr, step.add().dc);
    call.add_at = sites(step.add().buffer);
  }
  call.first_site = task.first_site, call.sites = task.sites;
  call.first_panel = task.first_panel, call.panels = task.panels;
  call.channels = step.out.count;
  parameters.kernels->product[static_cast<int>(type)](call);
}

template <class T, class At, class Sites>
void run_pointwise(const Parameters<T>& parameters, const Task& task, At at, Sites sites) {
  const Step& step = *task.step;
  const T* args[MOST_ARGS];
  const int64_t* args_at[MOST_ARGS];
  for (size_t i = 0; i < step.args.size(); ++i) {
    args[i] = at(step.args[i], step.args[i].dr, step.args[i].dc);
    args_at[i] = sites(step.args[i].buffer);
  }
  parameters.kernels->pointwise({at(step.out, 0, 0), sites(step.out.buffer), args, args_at,
                                 step.code.data(), static_cast<int64_t>(step.code.size()),
                                 parameters.constants, task.first_site, task.sites,
                                 step.out.count});
}

template <class T, class At, class Sites>
void run_task(const Parameters<T>& parameters, const Task& task, At at, Sites sites) {
  if (task.step->kind == Kind::PRODUCT) {
    run_product(parameters, task, at, sites);
  } else {
    run_pointwise(parameters, task, at, sites);
  }
}

}  // namespace pixelsr
