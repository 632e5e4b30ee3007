// The emulated GPU: the functions of csrc/cuda/intrinsics.h on a CPU. They are stricter where a GPU
// would silently give wrong results. See launch.h for how kernels run.
#pragma once

#include <array>
#include <chrono>
#include <cmath>
#include <cstdint>

#include "emulator/cluster.h"
#include "emulator/numbers.h"

#define PIXELSR_DEVICE inline
#define PIXELSR_CALLED inline

namespace pixelsr {

struct Exponential {
  static PIXELSR_DEVICE float of(float x) { return std::exp(x); }
};

PIXELSR_DEVICE int thread() { return emulator::running().thread(); }
PIXELSR_DEVICE int cluster_size() { return emulator::running().cluster_size(); }
PIXELSR_DEVICE int cluster_rank() { return emulator::running().cluster_rank(); }
PIXELSR_DEVICE int cluster() { return static_cast<int>(emulator::running().index()); }

PIXELSR_DEVICE int64_t clock_now() {
  return std::chrono::steady_clock::now().time_since_epoch().count();
}

PIXELSR_DEVICE void sync_block() { emulator::running().sync_block(); }
PIXELSR_DEVICE void sync_cluster() { emulator::running().sync_cluster(); }

PIXELSR_DEVICE char* shared_memory() { return emulator::running().block().shared.begin(); }

PIXELSR_DEVICE char* of_leader(char* shared) {
  emulator::Cluster& cluster = emulator::running();
  const emulator::SharedMemory& own = cluster.block().shared;
  if (!own.holds(shared, 0)) emulator::fail("of_leader of an address outside of shared memory");
  return cluster.leader().shared.begin() + own.offset(shared);
}

namespace emulator {

template <class T>
struct Shuffle {
  static constexpr char NAME[] = "shuffle_xor";
  T value, result;
  int mask;
};

template <class T>
T shuffle_xor_of(T value, int mask) {
  if (mask < 0 || mask >= LANES) fail("shuffle_xor with a mask that leaves the warp");
  Shuffle<T> part{value, T{}, mask};
  running().in_warp(part, [](const std::array<Shuffle<T>*, LANES>& lanes) {
    for (int i = 0; i < LANES; ++i) lanes[i]->result = lanes[i ^ lanes[i]->mask]->value;
  });
  return part.result;
}

}  // namespace emulator

PIXELSR_DEVICE float shuffle_xor(float value, int mask) {
  return emulator::shuffle_xor_of(value, mask);
}
PIXELSR_DEVICE int shuffle_xor(int value, int mask) {
  return emulator::shuffle_xor_of(value, mask);
}

// The copy is made by the wait; until then the destination has garbage.
PIXELSR_DEVICE void copy_16_bytes(void* shared, const void* global) {
  emulator::running().start_copy(shared, global);
}

PIXELSR_DEVICE void end_group_of_copies() { emulator::running().end_group_of_copies(); }

template <int GROUPS>
PIXELSR_DEVICE void wait_for_copies() {
  emulator::running().wait_for_copies(GROUPS);
}

template <class T>
struct alignas(16) Weights {
  T value[8];
};

template <class T>
struct alignas(4 * sizeof(T)) Inputs {
  T value[4];
};

namespace emulator {

template <class T>
struct Product {
  static constexpr char NAME[] = "multiply";
  float* sums;
  const Weights<T>* weights;
  const Inputs<T>* inputs;
};

// Multiplies the whole matrices, which are assembled from the parts of the lanes.
template <class T>
void multiply_all(const std::array<Product<T>*, LANES>& lanes) {
  float weights[16][16], inputs[8][16], sums[8][16];  // [input, output], [sample, input], ...
  for (int lane = 0; lane < LANES; ++lane) {
    const Product<T>& part = *lanes[lane];
    const int g = lane / 4, k = lane % 4 * 4, sample = lane % 4 * 2;
    for (int i = 0; i < 8; ++i) {
      weights[k + i % 2 + i / 4 * 2][g + i / 2 % 2 * 8] = to_float(part.weights->value[i]);
    }
    for (int i = 0; i < 4; ++i) inputs[g][k + i] = to_float(part.inputs->value[i]);
    for (int i = 0; i < 4; ++i) sums[sample + i % 2][g + i / 2 * 8] = part.sums[i];
  }
  for (int sample = 0; sample < 8; ++sample) {
    for (int k = 0; k < 16; ++k) {
      const float input = inputs[sample][k];
      for (int g = 0; g < 16; ++g) sums[sample][g] += weights[k][g] * input;
    }
  }
  for (int lane = 0; lane < LANES; ++lane) {
    const int g = lane / 4, sample = lane % 4 * 2;
    for (int i = 0; i < 4; ++i) lanes[lane]->sums[i] = sums[sample + i % 2][g + i / 2 * 8];
  }
}

}  // namespace emulator

// Here T may also be float, so that results can be compared closely.
template <class T>
PIXELSR_DEVICE void multiply(float (&sums)[4], const Weights<T>& weights, const Inputs<T>& inputs) {
  emulator::Product<T> part{sums, &weights, &inputs};
  emulator::running().in_warp(part, &emulator::multiply_all<T>);
}

}  // namespace pixelsr
