// The opcodes of pointwise steps, in postfix order. `ARG` and `CONST` push a number, and `GATE` is
// tanh(a) * sigmoid(b). pixelsr/sampling/engines/packing.py uses the same numbers.
#pragma once

#include <cstdint>

#include "common/host_device.h"

namespace pixelsr {

enum class Opcode : int64_t {
  ARG,
  CONST,
  ADD,
  SUB,
  MUL,
  DIV,
  NEG,
  EXP,
  RELU,
  TANH,
  SIGMOID,
  ELU,
  SILU,
  GATE,
  COUNT
};

constexpr int64_t MAX_STACK = 8;

PIXELSR_HOST_DEVICE bool takes_two(Opcode opcode) {
  switch (opcode) {
    case Opcode::ADD:
    case Opcode::SUB:
    case Opcode::MUL:
    case Opcode::DIV:
    case Opcode::ELU:
    case Opcode::GATE:
      return true;
    default:
      return false;
  }
}

}  // namespace pixelsr
