// run_tiles_ on the CPU: the CUDA engine's kernel on the emulated GPU, for the tests.

#include <torch/csrc/stable/library.h>

#include <cstdlib>

#include "cuda/operator.h"
#include "cuda/sampler.h"
#include "emulator/launch.h"

namespace pixelsr {
namespace {

template <class T, int TILES>
void emulate(const Launch& what) {
  const char* order = std::getenv("PIXELSR_EMULATOR_ORDER");
  run_grid(what.tiles * what.cluster_size, static_cast<int>(what.cluster_size), what.shared,
           order ? std::strtoull(order, nullptr, 10) : 0, [&] { sample_tile<T, TILES>(what.job); });
}

template <class T>
void emulate_tiles(const Launch& what) {
  if (what.tiles_of_8 == 1) {
    emulate<T, 1>(what);
  } else {
    emulate<T, 2>(what);
  }
}

}  // namespace

void launch(const Launch& what) {
  switch (what.operand) {
    case Operand::FLOAT16:
      return emulate_tiles<Half>(what);
    case Operand::BFLOAT16:
      return emulate_tiles<BFloat>(what);
    case Operand::FLOAT32:
      return emulate_tiles<float>(what);
  }
}

}  // namespace pixelsr

STABLE_TORCH_LIBRARY_IMPL(pixelsr, CPU, m) {
  m.impl("run_tiles_", TORCH_BOX(&pixelsr::run_tiles_));
}
