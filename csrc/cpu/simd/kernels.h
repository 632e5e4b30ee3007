// The CPU kernels, compiled for several instruction sets, of which one is chosen at run time.
#pragma once

#include <cstdint>

#include "common/opcodes.h"
#include "cpu/simd/lstm.h"

namespace pixelsr {

// The number of output channels of a panel. The inputs of each segment of a window are packed in
// pairs: weights are [panel][pair][2][PANEL]; 16-bit weights are [panel][pair][PANEL][2].
constexpr int64_t PANEL = 16;

// A call that computes out (+)= window @ weight + bias + add for some panels of output channels, at
// a list of sites. Segment s of the window at site i has lengths[s] numbers from sources[s] +
// in[i].
template <class T>
struct ProductCall {
  const void* weight;
  const T* bias;  // padded to whole panels; null to add to out
  int64_t depth;  // inputs in a panel, each segment padded to pairs
  int64_t segments;
  const T* const* sources;
  const int64_t* lengths;
  const int64_t* in;
  T* out;
  const int64_t* out_at;
  const T* add;  // or null
  const int64_t* add_at;
  int64_t first_site, sites;
  int64_t first_panel, panels;
  int64_t channels;
};

struct Instruction {
  Opcode opcode;
  int64_t operand;  // the number of an argument or a constant
};

// A call that computes a pointwise step out = code(args) for `channels` channels at a list of
// sites.
template <class T>
struct PointwiseCall {
  T* out;
  const int64_t* out_at;
  const T* const* args;
  const int64_t* const* args_at;
  const Instruction* code;
  int64_t instructions;
  const T* constants;
  int64_t first_site, sites;
  int64_t channels;
};

enum class WeightType { NATIVE, FLOAT16, BFLOAT16 };

template <class T>
struct Kernels {
  void (*product[3])(const ProductCall<T>&);  // by WeightType; doubles have only NATIVE
  void (*pointwise)(const PointwiseCall<T>&);
  // Writes the noise of all levels of one value of one sample.
  void (*noise)(float* out, int64_t levels, uint64_t seed, uint64_t sample, uint32_t position);
  void (*lstm)(const LstmCall<T>&);
  void (*lstm_grad)(const LstmGradCall<T>&);
  void (*outer)(const OuterCall<T>&);
};

// Returns the kernels of the chosen instruction set.
template <class T>
const Kernels<T>& kernels();

const char* instruction_set();

}  // namespace pixelsr
