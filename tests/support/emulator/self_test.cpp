// Small kernels for tests of the emulated GPU itself, as PyTorch operators.

#include <torch/csrc/stable/library.h>
#include <torch/csrc/stable/tensor.h>
#include <torch/headeronly/core/ScalarType.h>

#include <stdexcept>

#include "cuda/intrinsics.h"
#include "emulator/launch.h"

namespace pixelsr {
namespace {

using torch::headeronly::ScalarType;
using torch::stable::Tensor;

template <class Call>
void with_type_of(const Tensor& tensor, const Call& call) {
  if (tensor.scalar_type() == ScalarType::Half) return call(Half{});
  if (tensor.scalar_type() == ScalarType::BFloat16) return call(BFloat{});
  call(float{});
}

template <class T>
const T* data(const Tensor& tensor) {
  return static_cast<const T*>(tensor.const_data_ptr());
}
template <class T>
T* data(Tensor& tensor) {
  return static_cast<T*>(tensor.mutable_data_ptr());
}

template <class T>
T* shared() {
  return reinterpret_cast<T*>(shared_memory());
}

void convert(Tensor out, Tensor in) {
  with_type_of(in, [&](auto from) {
    with_type_of(out, [&](auto to) {
      using From = decltype(from);
      using To = decltype(to);
      for (int64_t i = 0; i < in.numel(); ++i) {
        data<To>(out)[i] = from_float<To>(to_float(data<From>(in)[i]));
      }
    });
  });
}

// Each warp computes a product of its own: sums [warp, output, sample], weights [warp, output,
// input], inputs [warp, sample, input].
void products(Tensor sums, Tensor weights, Tensor inputs, int64_t order) {
  with_type_of(weights, [&](auto type) {
    using T = decltype(type);
    run_grid(1, 1, 0, order, [&] {
      const int warp = thread() / LANES, lane = thread() % LANES;
      const int g = lane / 4, k = lane % 4 * 4;
      const T* low = data<T>(weights) + (warp * 16 + g) * 16 + k;
      const T* high = low + 8 * 16;
      const T* of_sample = data<T>(inputs) + (warp * 8 + g) * 16 + k;
      float* from = data<float>(sums) + (warp * 16 + g) * 8 + lane % 4 * 2;
      float part[4] = {from[0], from[1], from[64], from[65]};
      multiply<T>(part, {{low[0], low[1], high[0], high[1], low[2], low[3], high[2], high[3]}},
                  {{of_sample[0], of_sample[1], of_sample[2], of_sample[3]}});
      for (int i = 0; i < 4; ++i) from[i / 2 * 64 + i % 2] = part[i];
    });
  });
}

void shuffle(Tensor floats, Tensor ints, int64_t mask, int64_t order) {
  run_grid(1, 1, 0, order, [&] {
    float& x = data<float>(floats)[thread()];
    int& i = data<int>(ints)[thread()];
    x = shuffle_xor(x, static_cast<int>(mask));
    i = shuffle_xor(i, static_cast<int>(mask));
  });
}

// Each thread copies 16 bytes of `in`, [2, 4096], in each of two groups, waits for all but `still`
// groups (-1: no wait), and writes the copied bytes to `out`. With `change`, one byte of each copy
// changes before the wait.
void copies(Tensor out, Tensor in, int64_t still, bool change, int64_t order) {
  run_grid(1, 1, 8192, order, [&] {
    char* from = data<char>(in);
    for (int group = 0; group < 2; ++group) {
      const int at = group * 4096 + thread() * 16;
      copy_16_bytes(shared_memory() + at, from + at);
      end_group_of_copies();
      if (change) from[at + 3] = 100;
    }
    if (still == 0) wait_for_copies<0>();
    if (still == 1) wait_for_copies<1>();
    sync_block();
    for (int i = thread(); i < 8192; i += THREADS) data<char>(out)[i] = shared_memory()[i];
  });
}

// Each thread reads its neighbor's number from shared memory, in two rounds. With only the first
// barrier, the second round may overwrite numbers that have not been read.
void neighbors(Tensor out, int64_t barriers, int64_t order) {
  run_grid(1, 1, THREADS * sizeof(int), order, [&] {
    int sum = 0;
    for (int round = 0; round < 2; ++round) {
      shared<int>()[thread()] = thread() + round * 1000;
      if (barriers > 0) sync_block();
      sum += shared<int>()[(thread() + 1) % THREADS];
      if (barriers > 1) sync_block();
    }
    data<int>(out)[thread()] = sum;
  });
}

// Each block of a cluster writes to its part of the first block's memory, and reads the part of the
// next block to out [cluster, rank, thread]. `barriers` is a bit mask of the three necessary
// barriers: before, between and after.
void through_leader(Tensor out, int64_t barriers, int64_t order) {
  const int count = static_cast<int>(out.size(1));
  const int64_t bytes = count * THREADS * static_cast<int64_t>(sizeof(int));
  run_grid(out.size(0) * count, count, bytes, order, [&] {
    int* leader = reinterpret_cast<int*>(of_leader(shared_memory()));
    if (barriers & 1) sync_cluster();
    const int mine = cluster_rank() * THREADS + thread();
    leader[mine] = cluster() * 10000 + mine;
    if (barriers & 2) sync_cluster();
    const int next = (cluster_rank() + 1) % cluster_size() * THREADS + thread();
    data<int>(out)[(cluster() * count + cluster_rank()) * THREADS + thread()] = leader[next];
    if (barriers & 4) sync_cluster();
  });
}

// Kernels that break a rule.
void mistake(Tensor out, int64_t which) {
  alignas(16) const char source[32] = {};
  const auto kernel = [&] {
    const bool odd_one = thread() == 17 && cluster_rank() == 1;
    char* const memory = shared_memory();
    if (which == 0 && odd_one) return;
    if (which == 1) odd_one ? sync_cluster() : sync_block();
    if (which == 2 && odd_one) throw std::runtime_error("thrown by a thread");
    if (which == 3 && odd_one) copy_16_bytes(memory, source + 8);
    if (which == 4 && odd_one) copy_16_bytes(memory + 8, source);
    if (which == 5 && odd_one) copy_16_bytes(memory + 112, source);
    if (which == 6 && odd_one) copy_16_bytes(of_leader(memory), source);
    if (which == 7 && odd_one) copy_16_bytes(memory, memory + 16);
    if (which == 8 && thread() < LANES) odd_one ? shuffle_xor(1, 1) : shuffle_xor(1.0f, 1);
    if (which == 9 && odd_one) memory[120] = 0;
    if (which == 10 && odd_one) run_grid(1, 1, 0, 0, [] {});
    sync_cluster();
  };
  if (which == 11) thread();
  run_grid(4, which == 12 ? 3 : 2, 120, 0, kernel);
  data<int>(out)[0] = 1;
}

void barriers(Tensor out, int64_t order) {
  run_grid(1, 1, 0, order, [&] {
    for (int i = 0; i < data<int>(out)[0]; ++i) sync_block();
  });
}

}  // namespace
}  // namespace pixelsr

STABLE_TORCH_LIBRARY(pixelsr_emulator, m) {
  m.def("convert(Tensor(a!) out, Tensor x) -> ()");
  m.def("products(Tensor(a!) sums, Tensor weights, Tensor inputs, int order) -> ()");
  m.def("shuffle(Tensor(a!) floats, Tensor(b!) ints, int mask, int order) -> ()");
  m.def("copies(Tensor(a!) out, Tensor(b!) x, int still, bool change, int order) -> ()");
  m.def("neighbors(Tensor(a!) out, int barriers, int order) -> ()");
  m.def("through_leader(Tensor(a!) out, int barriers, int order) -> ()");
  m.def("mistake(Tensor(a!) out, int which) -> ()");
  m.def("barriers(Tensor(a!) out, int order) -> ()");
}

STABLE_TORCH_LIBRARY_IMPL(pixelsr_emulator, CPU, m) {
  m.impl("convert", TORCH_BOX(&pixelsr::convert));
  m.impl("products", TORCH_BOX(&pixelsr::products));
  m.impl("shuffle", TORCH_BOX(&pixelsr::shuffle));
  m.impl("copies", TORCH_BOX(&pixelsr::copies));
  m.impl("neighbors", TORCH_BOX(&pixelsr::neighbors));
  m.impl("through_leader", TORCH_BOX(&pixelsr::through_leader));
  m.impl("mistake", TORCH_BOX(&pixelsr::mistake));
  m.impl("barriers", TORCH_BOX(&pixelsr::barriers));
}
