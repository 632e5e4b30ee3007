// The choice of an instruction set.

#include "cpu/kernels.h"

namespace pixelsr {

#define PIXELSR_DECLARE(isa)                   \
  namespace isa {                              \
  extern const Kernels<float> float_kernels;   \
  extern const Kernels<double> double_kernels; \
  }

PIXELSR_DECLARE(plain)

namespace {

struct InstructionSet {
  const char* name;
  const Kernels<float>& floats;
  const Kernels<double>& doubles;
};

}  // namespace

#if defined(__x86_64__)
PIXELSR_DECLARE(avx2)
PIXELSR_DECLARE(avx512)

static InstructionSet choose() {
  __builtin_cpu_init();
  if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
      __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq")) {
    return {"avx512", avx512::float_kernels, avx512::double_kernels};
  }
  if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) {
    return {"avx2", avx2::float_kernels, avx2::double_kernels};
  }
  return {"plain", plain::float_kernels, plain::double_kernels};
}
#else
static InstructionSet choose() {
  return {"plain", plain::float_kernels, plain::double_kernels};
}
#endif

static const InstructionSet& chosen() {
  static const InstructionSet best = choose();
  return best;
}

template <>
const Kernels<float>& kernels<float>() {
  return chosen().floats;
}

template <>
const Kernels<double>& kernels<double>() {
  return chosen().doubles;
}

const char* instruction_set() { return chosen().name; }

}  // namespace pixelsr
