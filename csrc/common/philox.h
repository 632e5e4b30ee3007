// The noise of a draw: Philox4x32-10 (Salmon et al. 2011, "Parallel random numbers: as easy as
// 1, 2, 3"), and the Gumbel variable of one of its words. Host and device share this definition.
#pragma once

#include <cmath>
#include <cstdint>

#include "common/host_device.h"

namespace pixelsr {

struct Words {
  uint32_t value[4];
};

struct Key {
  uint32_t low, high;
};

PIXELSR_HOST_DEVICE Words philox4x32(Words counter, Key key) {
  uint32_t c0 = counter.value[0], c1 = counter.value[1];
  uint32_t c2 = counter.value[2], c3 = counter.value[3];
  for (int round = 0; round < 10; ++round) {
    const uint64_t first = uint64_t{0xD2511F53} * c0, second = uint64_t{0xCD9E8D57} * c2;
    c0 = static_cast<uint32_t>(second >> 32) ^ c1 ^ key.low;
    c1 = static_cast<uint32_t>(second);
    c2 = static_cast<uint32_t>(first >> 32) ^ c3 ^ key.high;
    c3 = static_cast<uint32_t>(first);
    key = {key.low + 0x9E3779B9, key.high + 0xBB67AE85};
  }
  return {{c0, c1, c2, c3}};
}

// The noise is -log(-log(u)). u = ((word >> 9) + 0.5) * 2^-23 is exact, and never 0 or 1. The
// logarithms are computed in double: rounded to float, they are the same in every library for all
// 2^23 possible u.
PIXELSR_HOST_DEVICE double uniform_of_word(uint32_t word) { return ((word >> 9) + 0.5) * 0x1p-23; }

PIXELSR_HOST_DEVICE float gumbel_of_word(uint32_t word) {
  return static_cast<float>(-log(-log(uniform_of_word(word))));
}

// Returns the words for levels 4 * block to 4 * block + 3 of one value of one sample.
PIXELSR_HOST_DEVICE Words noise_words(uint64_t seed, uint64_t sample, uint32_t position,
                                      uint32_t block) {
  const Key key{static_cast<uint32_t>(seed), static_cast<uint32_t>(seed >> 32)};
  const Words counter{
      {static_cast<uint32_t>(sample), static_cast<uint32_t>(sample >> 32), position, block}};
  return philox4x32(counter, key);
}

}  // namespace pixelsr
