// The 16-bit types, with rounding to the nearest number, ties to even.
#pragma once

#include <cstdint>
#include <cstring>

namespace pixelsr {

// They have no arithmetic and no implicit conversions, because kernels compute in float.
struct Half {
  uint16_t bits;
};
struct BFloat {
  uint16_t bits;
};

namespace emulator {

inline uint32_t bits_of(float x) {
  uint32_t bits;
  std::memcpy(&bits, &x, sizeof(bits));
  return bits;
}
inline float float_of(uint32_t bits) {
  float x;
  std::memcpy(&x, &bits, sizeof(x));
  return x;
}

constexpr uint32_t INFINITE = 0x7F800000u;  // the bits of a float; a NaN has greater bits
constexpr uint16_t NOT_A_NUMBER = 0x7FFFu;  // as a GPU writes it, in either type

}  // namespace emulator

inline float to_float(float x) { return x; }

inline float to_float(Half x) {
  const uint32_t sign = (x.bits & 0x8000u) << 16, rest = x.bits & 0x7FFFu;
  if (rest < 0x0400u) {  // subnormal: rest * 2^-24
    const float size = static_cast<float>(rest) * 0x1p-24f;
    return sign ? -size : size;
  }
  const uint32_t bias = rest < 0x7C00u ? 127 - 15 : 255 - 31;
  return emulator::float_of(sign | ((rest << 13) + (bias << 23)));
}

inline float to_float(BFloat x) { return emulator::float_of(static_cast<uint32_t>(x.bits) << 16); }

template <class T>
inline T from_float(float x);

template <>
inline float from_float<float>(float x) {
  return x;
}

template <>
inline Half from_float<Half>(float x) {
  const uint32_t bits = emulator::bits_of(x), rest = bits & 0x7FFFFFFFu;
  const uint32_t sign = bits >> 16 & 0x8000u;
  uint32_t size;
  if (rest > emulator::INFINITE) return {emulator::NOT_A_NUMBER};
  if (rest >= emulator::bits_of(65520.0f)) {
    size = 0x7C00u;
  } else if (rest < emulator::bits_of(0x1p-14f)) {  // the last bit of the sum is 2^-24
    size = emulator::bits_of(emulator::float_of(rest) + 0.5f) - emulator::bits_of(0.5f);
  } else {
    size = (rest + 0x0FFFu + (rest >> 13 & 1u) - ((127u - 15u) << 23)) >> 13;
  }
  return {static_cast<uint16_t>(sign | size)};
}

template <>
inline BFloat from_float<BFloat>(float x) {
  const uint32_t bits = emulator::bits_of(x);
  if ((bits & 0x7FFFFFFFu) > emulator::INFINITE) return {emulator::NOT_A_NUMBER};
  return {static_cast<uint16_t>((bits + 0x7FFFu + (bits >> 16 & 1u)) >> 16)};
}

}  // namespace pixelsr
