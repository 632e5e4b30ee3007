// run_plan_: draws images by a plan, records the logits of given images, or runs the plan up to the
// logits of the next value.
// forget_session: frees the state that run_plan_ keeps for a batch.

#include <torch/csrc/stable/library.h>
#include <torch/csrc/stable/tensor.h>

#include <string>

#include "cpu/session.h"
#include "cpu/simd/kernels.h"

namespace pixelsr {
namespace {

Sessions& sessions() {
  static Sessions all;
  return all;
}

void run_plan_(Tensor program, Tensor weights, Tensor constants, Tensor storage, Tensor values,
               Tensor images, Tensor logits, Tensor known_mask, Tensor unknown,
               Tensor last_and_stop, Tensor cursor, Tensor faults, int64_t seed,
               int64_t first_index, double temperature, bool draw, int64_t first_col, int64_t cols,
               int64_t rows, int64_t threads, int64_t session) {
  check_features(RUN_PLAN, "storage", storage);
  const PlanCall call{program,     weights, constants,     storage, values, images, logits,
                      known_mask,  unknown, last_and_stop, cursor,  faults, seed,   first_index,
                      temperature, draw,    first_col,     cols,    rows,   threads};
  if (storage.scalar_type() == ScalarType::Double) {
    sessions().get<double>(session, call)->run(call);
  } else {
    sessions().get<float>(session, call)->run(call);
  }
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
