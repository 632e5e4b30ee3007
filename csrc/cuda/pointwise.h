// Pointwise steps: each thread computes one element at a time.
#pragma once

#include <cmath>
#include <cstdint>

#include "common/opcodes.h"
#include "common/pointwise.h"
#include "cuda/memory_layout.h"

namespace pixelsr {

// Returns opcode(a), opcode(a, b) or opcode(a, b, c).
PIXELSR_DEVICE float apply(Opcode opcode, float a, float b, float c) {
  switch (opcode) {
    case Opcode::NEG:
      return -a;
    case Opcode::EXP:
      return expf(a);
    case Opcode::ABS:
      return abs_of(a);
    case Opcode::RELU:
      return relu_of(a);
    case Opcode::TANH:
      return tanh_of<Exponential>(a);
    case Opcode::SIGMOID:
      return sigmoid_of<Exponential>(a);
    case Opcode::SILU:
      return silu_of<Exponential>(a);
    case Opcode::GELU:
      return 0.5f * a * (1.0f + erff(a * 0.707106781f));
    case Opcode::GELU_TANH:
      return a * sigmoid_of<Exponential>(1.59576912f * (a + 0.044715f * a * a * a));
    case Opcode::LOG:
      return logf(a);
    case Opcode::SQRT:
      return sqrtf(a);
    case Opcode::SQUARE:
      return a * a;
    case Opcode::RECIPROCAL:
      return 1.0f / a;
    case Opcode::ADD:
      return a + b;
    case Opcode::SUB:
      return a - b;
    case Opcode::MUL:
      return a * b;
    case Opcode::DIV:
      return a / b;
    case Opcode::POW:
      return powf(a, b);
    case Opcode::MAXIMUM:
      return maximum_of(a, b);
    case Opcode::MINIMUM:
      return minimum_of(a, b);
    case Opcode::GATE:
      return gate_of<Exponential>(a, b);
    case Opcode::ELU:
      return elu_of<Exponential>(a, b);
    case Opcode::LEAKY_RELU:
      return leaky_relu_of(a, b);
    case Opcode::LT:
      return lt_of(a, b);
    case Opcode::LE:
      return le_of(a, b);
    case Opcode::EQ:
      return eq_of(a, b);
    case Opcode::CLAMP:
      return minimum_of(maximum_of(a, b), c);
    case Opcode::SOFTPLUS:
      return a * b > c ? a : log1pf(expf(a * b)) / b;
    case Opcode::WHERE:
      return where_of(a, b, c);
    case Opcode::ARG:
    case Opcode::CONST:
    case Opcode::COUNT:
      break;  // no functions
  }
  return NAN;
}

// A stack whose top is value[0]. It is shifted as a whole, so that it stays in registers.
struct Stack {
  float value[MAX_STACK] = {};

  PIXELSR_DEVICE void push(float x) {
#pragma unroll
    for (int i = MAX_STACK - 1; i > 0; --i) value[i] = value[i - 1];
    value[0] = x;
  }

  PIXELSR_DEVICE void drop() {
#pragma unroll
    for (int i = 0; i + 1 < MAX_STACK; ++i) value[i] = value[i + 1];
  }
};

// Runs a pointwise step. `body` is the program after the header; `near(place)` returns the column
// of a place.
template <class Tile, class Near>
PIXELSR_DEVICE void run_pointwise(const Task& task, const char* body, Near near) {
  const Place* args = reinterpret_cast<const Place*>(body);
  const int count = task.blocks;  // of arguments
  const auto* code = reinterpret_cast<const Instruction*>(args + count);
  for (int i = thread(); i < task.count * Tile::SAMPLES; i += THREADS) {
    const int channel = i / Tile::SAMPLES, sample = i % Tile::SAMPLES;
    Stack stack;
    for (int step = 0; step < task.code; ++step) {
      const auto opcode = static_cast<Opcode>(code[step].opcode);
      const int operand = code[step].operand;
      if (opcode == Opcode::ARG) {
        stack.push(Tile::load(near(args[operand]), channel, sample));
      } else if (opcode == Opcode::CONST) {
        stack.push(reinterpret_cast<const float&>(operand));
      } else if (operands_of(opcode) == 1) {
        stack.value[0] = apply(opcode, stack.value[0], 0, 0);
      } else if (operands_of(opcode) == 2) {
        stack.value[1] = apply(opcode, stack.value[1], stack.value[0], 0);
        stack.drop();
      } else {
        stack.value[2] = apply(opcode, stack.value[2], stack.value[1], stack.value[0]);
        stack.drop();
        stack.drop();
      }
    }
    Tile::store(near(task.out), channel, sample, stack.value[0]);
  }
}

}  // namespace pixelsr
