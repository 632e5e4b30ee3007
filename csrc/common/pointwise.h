// Pointwise functions of numbers or vectors. `Exp::of` is the exponential; it must be infinite at
// +inf. The results for NaN and +-inf are the same as in PyTorch.
#pragma once

#include "common/host_device.h"

namespace pixelsr {

template <class Exp, class V>
PIXELSR_HOST_DEVICE V sigmoid_of(V x) {
  return 1.0f / (1.0f + Exp::of(-x));
}

template <class Exp, class V>
PIXELSR_HOST_DEVICE V tanh_of(V x) {
  return 1.0f - 2.0f / (1.0f + Exp::of(x + x));
}

// Returns tanh(a) sigmoid(b) = (e^2a - 1) / ((e^2a + 1) (1 + e^-b)) with one division. The
// denominator may become infinite only if sigmoid(b) is less than 1e-21.
template <class Exp, class V>
PIXELSR_HOST_DEVICE V gate_of(V a, V b) {
  a = a > 20.0f ? V{} + 20.0f : a;  // beyond 20 tanh is 1; the numerator stays finite
  const V e = Exp::of(a + a);
  return (e - 1.0f) / ((e + 1.0f) * (1.0f + Exp::of(-b)));
}

template <class Exp, class V>
PIXELSR_HOST_DEVICE V elu_of(V x, V alpha) {
  return x > 0.0f ? x : alpha * (Exp::of(x) - 1.0f);
}

template <class Exp, class V>
PIXELSR_HOST_DEVICE V silu_of(V x) {
  return x * sigmoid_of<Exp>(x);
}

template <class V>
PIXELSR_HOST_DEVICE V abs_of(V x) {
  return x < 0.0f ? -x : x + 0.0f;  // -0 + 0 is 0
}

template <class V>
PIXELSR_HOST_DEVICE V relu_of(V x) {
  return x < 0.0f ? V{} : x;
}

template <class V>
PIXELSR_HOST_DEVICE V leaky_relu_of(V x, V slope) {
  return x > 0.0f ? x : slope * x;
}

template <class V>
PIXELSR_HOST_DEVICE V maximum_of(V a, V b) {
  return a > b ? a : b >= a ? b : a + b;  // the sum with NaN is NaN
}

template <class V>
PIXELSR_HOST_DEVICE V minimum_of(V a, V b) {
  return a < b ? a : b <= a ? b : a + b;
}

template <class V>
PIXELSR_HOST_DEVICE V lt_of(V a, V b) {
  return a < b ? V{} + 1.0f : V{};
}

template <class V>
PIXELSR_HOST_DEVICE V le_of(V a, V b) {
  return a <= b ? V{} + 1.0f : V{};
}

template <class V>
PIXELSR_HOST_DEVICE V eq_of(V a, V b) {
  return a == b ? V{} + 1.0f : V{};
}

template <class V>
PIXELSR_HOST_DEVICE V where_of(V condition, V a, V b) {
  return condition != 0.0f ? a : b;
}

}  // namespace pixelsr
