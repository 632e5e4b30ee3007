// The arithmetic of plan steps: compiled once for each instruction set, chosen at run time.
#pragma once

#include <cstdint>

#include "common/opcodes.h"
#include "cpu/simd/lstm.h"

namespace pixelsr {

// Output channels are packed in panels of so many, the inputs of each segment of a window in pairs:
// weights are [panel][pair][2][PANEL], those of 16 bits [panel][pair][PANEL][2].
constexpr int64_t PANEL = 16;

// out (+)= window @ weight + bias + add, for some panels of output channels, at a list of sites.
// At site i, the window's segment s is the lengths[s] values from sources[s] + in[i].
template <class T>
struct ProductCall {
  const void* weight;
  const T* bias;  // padded to whole panels; null where out is added to
  int64_t depth;  // inputs in a panel, each segment filled up to pairs
  int64_t segments;
  const T* const* sources;
  const int64_t* lengths;
  const int64_t* in;
  T* out;
  const int64_t* out_at;
  const T* add;  // null where there is none
  const int64_t* add_at;
  int64_t first_site, sites;
  int64_t first_panel, panels;
  int64_t channels;
};

struct Instruction {
  Opcode opcode;
  int64_t operand;  // the number of an argument or a constant
};

// out = formula(args), element by element, for `channels` channels at a list of sites.
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
  void (*product[3])(const ProductCall<T>&);  // by WeightType; of doubles NATIVE only
  void (*formula)(const PointwiseCall<T>&);
  // The noise of all levels of one value of one sample.
  void (*noise)(float* out, int64_t levels, uint64_t seed, uint64_t sample, uint32_t position);
  void (*lstm)(const LstmCall<T>&);
  void (*lstm_grad)(const LstmGradCall<T>&);
  void (*outer)(const OuterCall<T>&);
};

// The kernels of the best instruction set that this processor has.
template <class T>
const Kernels<T>& kernels();

const char* instruction_set();

}  // namespace pixelsr
