// The choice of the instruction set.

#include <torch/headeronly/util/Exception.h>

#include <cstdlib>
#include <cstring>
#include <string>

#include "cpu/simd/kernels.h"

namespace pixelsr {

#define PIXELSR_DECLARE(isa)                   \
  namespace isa {                              \
  extern const Kernels<float> float_kernels;   \
  extern const Kernels<double> double_kernels; \
  }

PIXELSR_DECLARE(plain)

#if defined(__x86_64__)
PIXELSR_DECLARE(avx2)
PIXELSR_DECLARE(avx512)
#endif

namespace {

struct InstructionSet {
  const char* name;
  bool here;
  const Kernels<float>* floats;
  const Kernels<double>* doubles;
};

// Returns the best instruction set of this processor or, for tests, the one that
// PIXELSR_INSTRUCTION_SET names. Throws if this processor does not have the named one.
InstructionSet choose() {
#if defined(__x86_64__)
  __builtin_cpu_init();
  const bool has_avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
  const bool has_avx512 = __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                          __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq");
#endif
  const InstructionSet sets[] = {
#if defined(__x86_64__)
      {"avx512", has_avx512, &avx512::float_kernels, &avx512::double_kernels},
      {"avx2", has_avx2, &avx2::float_kernels, &avx2::double_kernels},
#endif
      {"plain", true, &plain::float_kernels, &plain::double_kernels},
  };
  const char* wanted = std::getenv("PIXELSR_INSTRUCTION_SET");
  std::string names;
  for (const InstructionSet& set : sets) {
    if (!set.here) continue;
    if (!wanted || std::strcmp(wanted, set.name) == 0) return set;
    names += std::string(names.empty() ? "" : ", ") + set.name;
  }
  STD_TORCH_CHECK(false, "PIXELSR_INSTRUCTION_SET is '", wanted, "', expected one of ", names,
                  ", which this processor has");
}

const InstructionSet& chosen() {
  static const InstructionSet best = choose();
  return best;
}

}  // namespace

template <>
const Kernels<float>& kernels<float>() {
  return *chosen().floats;
}

template <>
const Kernels<double>& kernels<double>() {
  return *chosen().doubles;
}

const char* instruction_set() { return chosen().name; }

}  // namespace pixelsr
