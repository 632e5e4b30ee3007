// A thread team: threads that run one job together, and synchronize without the operating system.
#pragma once

#include <torch/csrc/stable/ops.h>

#include <atomic>
#include <cstdint>
#include <thread>
#include <type_traits>

#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace pixelsr {

inline void pause_briefly() {
#if defined(__x86_64__)
  _mm_pause();
#elif defined(__aarch64__)
  asm volatile("yield");
#endif
}

// Waits until a condition holds. It spins at first, which takes less than a microsecond if every
// thread has a core; then it yields its core, which the other thread may need.
template <class Condition>
void wait_until(Condition condition) {
  for (int spins = 0; !condition(); ++spins) {
    if (spins < 500) {
      pause_briefly();
    } else {
      std::this_thread::yield();
    }
  }
}

class Barrier {
 public:
  void wait(int64_t members) {
    if (members == 1) return;
    const uint64_t round = round_.load(std::memory_order_acquire);
    if (arrived_.fetch_add(1, std::memory_order_acq_rel) + 1 == members) {
      arrived_.store(0, std::memory_order_relaxed);
      round_.store(round + 1, std::memory_order_release);
    } else {
      wait_until([&] { return round_.load(std::memory_order_acquire) != round; });
    }
  }

 private:
  alignas(64) std::atomic<int64_t> arrived_{0};
  alignas(64) std::atomic<uint64_t> round_{0};
};

// Calls `body(rank, members)` at the same time on at most `threads` of libtorch's threads, and
// returns their number. It may be smaller than `threads`: inside another parallel region it is 1.
template <class Body>
int64_t run_team(int64_t threads, const Body& body) {
  static_assert(std::is_nothrow_invocable_v<Body, int64_t, int64_t>,
                "a member that throws would leave the others waiting for it");
  std::atomic<int64_t> joined{0}, covered{0};
  torch::stable::parallel_for(0, threads, 1, [&](int64_t begin, int64_t end) {
    const int64_t rank = joined.fetch_add(1);
    covered.fetch_add(end - begin);
    wait_until([&] { return covered.load() == threads; });
    body(rank, joined.load());
  });
  return joined.load();
}

}  // namespace pixelsr
