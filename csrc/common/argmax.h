// argmax(logits / temperature + noise), the lowest level on a tie; at temperature 0 of the logits.
// A level whose logit is -inf is never drawn; NaN, +inf, or -inf at every level are faults.
#pragma once

#include <cmath>
#include <cstdint>

#include "common/host_device.h"

namespace pixelsr {

template <class T>
struct Best {
  T score;
  int64_t level;  // -1 where there is none yet
};

template <class T>
PIXELSR_HOST_DEVICE T score_of(T logit, T temperature, float noise) {
  return temperature > 0 ? logit / temperature + noise : logit;
}

// For levels that come in rising order: quicker than `better`, which has ties to decide.
template <class T>
PIXELSR_HOST_DEVICE void consider(Best<T>& best, T score, int64_t level) {
  if (best.level < 0 || score > best.score) best = {score, level};
}

// The better of two, in whatever order levels are compared.
template <class T>
PIXELSR_HOST_DEVICE Best<T> better(Best<T> a, Best<T> b) {
  if (a.level < 0) return b;
  if (b.level < 0 || a.score > b.score) return a;
  return b.score > a.score || b.level < a.level ? b : a;
}

// The kinds of a logit. The greatest kind among the logits of a value is the kind of the value, and
// a value can be drawn if its kind is FINITE. pixelsr/sampling/sampler.py knows these numbers.
enum LogitKind : int { FORBIDDEN, FINITE, POSITIVE_INFINITY, NOT_A_NUMBER };

template <class T>
PIXELSR_HOST_DEVICE int kind_of(T logit) {
  if (logit != logit) return NOT_A_NUMBER;
  if (logit > -INFINITY) return logit == INFINITY ? POSITIVE_INFINITY : FINITE;
  return FORBIDDEN;
}

// Records the first fault of a sample, as 4 * position + kind; `fault` begins as a larger number.
PIXELSR_HOST_DEVICE void record_fault(int64_t& fault, int64_t position, int kind) {
  const int64_t found = 4 * position + kind;
  if (kind != FINITE && found < fault) fault = found;
}

}  // namespace pixelsr
