// argmax(logits / temperature + noise), the lowest level on a tie; at temperature 0 of the logits.
#pragma once

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

}  // namespace pixelsr
