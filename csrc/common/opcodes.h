// The opcodes of pointwise steps, in postfix order: `ARG` and `CONST` push a number, and the
// functions of pixelsr/sampling/plan/pointwise.py replace their operands. The order is the same
// there.
#pragma once

#include <cstdint>

#include "common/host_device.h"

namespace pixelsr {

enum class Opcode : int64_t {
  ARG,
  CONST,
  // Functions of one number.
  NEG,
  EXP,
  ABS,
  RELU,
  TANH,
  SIGMOID,
  SILU,
  GELU,
  GELU_TANH,
  LOG,
  SQRT,
  SQUARE,
  RECIPROCAL,
  // Functions of two numbers.
  ADD,
  SUB,
  MUL,
  DIV,
  POW,
  MAXIMUM,
  MINIMUM,
  GATE,
  ELU,
  LEAKY_RELU,
  LT,
  LE,
  EQ,
  // Functions of three numbers.
  CLAMP,
  SOFTPLUS,
  WHERE,
  COUNT
};

constexpr int64_t MAX_STACK = 8;

PIXELSR_HOST_DEVICE int operands_of(Opcode opcode) {
  return (opcode >= Opcode::NEG) + (opcode >= Opcode::ADD) + (opcode >= Opcode::CLAMP);
}

}  // namespace pixelsr
