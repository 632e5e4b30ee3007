// The draw of a value: argmax(logits / temperature + noise), or argmax(logits) at temperature 0.
// The lowest level wins a tie. A level with the logit -inf is never drawn. NaN, +inf, and -inf at
// every level are faults.
#pragma once

#include <cmath>
#include <cstdint>

#include "common/host_device.h"

namespace pixelsr {

template <class T>
struct Best {
  T score;
  int64_t level;  // -1 if there is none yet
};

template <class T>
PIXELSR_HOST_DEVICE T score_of(T logit, T temperature, float noise) {
  return temperature > 0 ? logit / temperature + noise : logit;
}

// Updates `best` for levels in rising order. This is faster than `better`, which decides ties.
template <class T>
PIXELSR_HOST_DEVICE void consider(Best<T>& best, T score, int64_t level) {
  if (best.level < 0 || score > best.score) best = {score, level};
}

// Returns the better of two, in whatever order levels are compared.
template <class T>
PIXELSR_HOST_DEVICE Best<T> better(Best<T> a, Best<T> b) {
  if (a.level < 0) return b;
  if (b.level < 0 || a.score > b.score) return a;
  return b.score > a.score || b.level < a.level ? b : a;
}

// The kinds of logits. The kind of a value is the greatest kind among its logits; the value can be
// drawn only if it is FINITE. pixelsr/sampling/sampler.py uses the same numbers.
enum LogitKind : int { FORBIDDEN, FINITE, POSITIVE_INFINITY, NOT_A_NUMBER };

template <class T>
PIXELSR_HOST_DEVICE int kind_of(T logit) {
  if (logit != logit) return NOT_A_NUMBER;
  if (logit > -INFINITY) return logit == INFINITY ? POSITIVE_INFINITY : FINITE;
  return FORBIDDEN;
}

// Records the first fault of a sample as 4 * position + kind. `fault` starts as a larger number.
PIXELSR_HOST_DEVICE void record_fault(int64_t& fault, int64_t position, int kind) {
  const int64_t found = 4 * position + kind;
  if (kind != FINITE && found < fault) fault = found;
}

}  // namespace pixelsr
