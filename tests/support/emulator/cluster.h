// A cluster of blocks of emulated threads. Each thread is a fiber, which runs until it must wait
// for others. The order in which threads run is a parameter, so that tests detect missing barriers.
#pragma once

#include <array>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <exception>
#include <memory>
#include <new>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include "emulator/fiber.h"

namespace pixelsr {

constexpr int LANES = 32, WARPS = 8, THREADS = WARPS * LANES;

namespace emulator {

constexpr int GARBAGE = 0xFF;  // every byte of garbage; it makes a NaN in each type

[[noreturn]] inline void fail(const std::string& why) {
  throw std::runtime_error("emulated kernel: " + why);
}

// The order of threads. 0: in order; 1: in reverse; otherwise at random with this seed.
class Order {
 public:
  explicit Order(uint64_t order) : order_(order), state_(order) {}

  template <class T>
  void arrange(std::vector<T>& values) {
    const size_t count = values.size();
    if (order_ == 1) {
      for (size_t i = 0; i < count / 2; ++i) std::swap(values[i], values[count - 1 - i]);
    } else if (order_ > 1) {
      for (size_t i = count; i > 1; --i) std::swap(values[i - 1], values[random() % i]);
    }
  }

  // Returns true if released threads run at once, as far ahead of the others as barriers allow. In
  // random orders, they may also run after the others.
  bool at_once() { return order_ < 2 || random() % 2 == 0; }

 private:
  uint32_t random() {  // splitmix64
    uint64_t z = state_ += 0x9E3779B97F4A7C15u;
    z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9u;
    z = (z ^ z >> 27) * 0x94D049BB133111EBu;
    return static_cast<uint32_t>(z >> 32);
  }

  uint64_t order_, state_;
};

// A double-ended queue for at most a given number of indices.
class Queue {
 public:
  explicit Queue(int most) {
    size_t size = 1;
    while (size < static_cast<size_t>(most)) size *= 2;
    ring_.resize(size);
  }

  void clear() { count_ = 0; }
  bool empty() const { return count_ == 0; }
  void push_front(int value) {
    ++count_;
    at(--first_) = value;
  }
  void push_back(int value) { at(first_ + count_++) = value; }
  int pop_front() {
    --count_;
    return at(first_++);
  }

 private:
  int& at(size_t place) { return ring_[place & (ring_.size() - 1)]; }

  std::vector<int> ring_;
  size_t first_ = 0, count_ = 0;
};

// Shared memory of exactly the requested size, so that AddressSanitizer detects accesses outside.
// Without it, guard bytes on both sides detect at least writes.
class SharedMemory {
 public:
  explicit SharedMemory(int64_t bytes)
      : bytes_(bytes), memory_(static_cast<char*>(operator new(bytes + 2 * GUARD, ALIGNED))) {
    fill(memory_.get(), bytes_ + 2 * GUARD);
  }

  char* begin() const { return memory_.get() + GUARD; }
  int64_t bytes() const { return bytes_; }
  // Returns the offset of an address, which may be outside.
  int64_t offset(const void* address) const {
    return static_cast<int64_t>(reinterpret_cast<uintptr_t>(address) -
                                reinterpret_cast<uintptr_t>(begin()));
  }
  bool holds(const void* address, int64_t bytes) const {
    const int64_t at = offset(address);
    return at >= 0 && at <= bytes_ - bytes;
  }

  void fill_with_garbage() { fill(begin(), bytes_); }

  bool overrun() const {
    for (int64_t i = 0; i < GUARD; ++i) {
      if (!is_garbage(begin()[-1 - i]) || !is_garbage(begin()[bytes_ + i])) return true;
    }
    return false;
  }

 private:
  static constexpr std::align_val_t ALIGNED{128};
#if defined(PIXELSR_ADDRESS_SANITIZER)
  static constexpr int64_t GUARD = 0;
#else
  static constexpr int64_t GUARD = 256;
#endif
  struct Free {
    void operator()(char* memory) const { operator delete(memory, ALIGNED); }
  };

  static void fill(char* memory, int64_t bytes) {
    std::memset(memory, GARBAGE, static_cast<size_t>(bytes));
  }
  static bool is_garbage(char byte) { return static_cast<unsigned char>(byte) == GARBAGE; }

  int64_t bytes_;
  std::unique_ptr<char, Free> memory_;
};

// A group of consecutive threads that wait for each other.
struct Group {
  int first, count;
  int arrived = 0;
  const char* name = nullptr;  // of the function at which they meet; compared by pointer
};

// A copy in progress. A GPU may read the source at any time until the wait, so a byte that changes
// in between becomes garbage here.
class Copy {
 public:
  static constexpr int BYTES = 16;

  // Fills the destination with garbage until the copy is finished.
  Copy(char* to, const char* from, int64_t group) : to_(to), from_(from), group_(group) {
    std::memcpy(then_.data(), from, BYTES);
    std::memset(to, GARBAGE, BYTES);
  }

  int64_t group() const { return group_; }

  void finish() const {
    std::array<char, BYTES> now;
    std::memcpy(now.data(), from_, BYTES);
    for (int i = 0; i < BYTES; ++i) to_[i] = now[i] == then_[i] ? now[i] : char(GARBAGE);
  }

 private:
  char* to_;
  const char* from_;
  int64_t group_;
  std::array<char, BYTES> then_;
};

struct Thread {
  Fiber fiber;
  bool started = false, ended = false;
  const Group* waits_at = nullptr;
  std::vector<Copy> copies;
  int64_t groups_of_copies = 0;
};

struct Warp {
  Group group;
  std::array<void*, LANES> parts = {};  // the argument of each lane for a joint operation
};

struct Block {
  Group group;
  SharedMemory shared;
  int started = 0, ended = 0;
};

// The function that each thread calls.
struct Kernel {
  void (*call)(const void* body);
  const void* body;
};

class Cluster {
 public:
  Cluster(int cluster_size, int64_t shared_bytes, uint64_t order, Kernel kernel)
      : kernel_(kernel),
        order_(order),
        ready_(cluster_size * THREADS),
        threads_(cluster_size * THREADS),
        all_{0, cluster_size * THREADS} {
    for (int i = 0; i < cluster_size; ++i) {
      blocks_.push_back({{i * THREADS, THREADS}, SharedMemory(shared_bytes)});
    }
    for (int i = 0; i < cluster_size * WARPS; ++i) warps_.push_back({{i * LANES, LANES}});
  }

  // Runs all threads of the cluster with this index until they end.
  void run(int64_t index);

  Order& order() { return order_; }
  int64_t index() const { return index_; }
  int cluster_size() const { return static_cast<int>(blocks_.size()); }
  int cluster_rank() const { return current_ / THREADS; }
  int thread() const { return current_ % THREADS; }
  Block& block() { return blocks_[cluster_rank()]; }
  Block& leader() { return blocks_.front(); }

  void sync_block() { meet(block().group, SYNC_BLOCK); }
  void sync_cluster() { meet(all_, SYNC_CLUSTER); }

  // Runs a joint operation of a warp, with a part from each lane. The last lane to arrive runs it.
  template <class Part, class Do>
  void in_warp(Part& part, const Do& together) {
    Warp& warp = warps_[current_ / LANES];
    warp.parts[current_ % LANES] = &part;
    meet(warp.group, Part::NAME, [&] {
      std::array<Part*, LANES> parts;
      for (int i = 0; i < LANES; ++i) parts[i] = static_cast<Part*>(warp.parts[i]);
      together(parts);
    });
  }

  void start_copy(void* to, const void* from);
  void end_group_of_copies() { ++threads_[current_].groups_of_copies; }
  void wait_for_copies(int but_the_last_groups);

 private:
  static constexpr char SYNC_BLOCK[] = "sync_block", SYNC_CLUSTER[] = "sync_cluster";

  static void enter();
  void live(Thread& self);
  void begin_all(int64_t index);
  void end_all();

  void meet(Group& group, const char* name) {
    meet(group, name, [] {});
  }
  template <class Do>
  void meet(Group& group, const char* name, const Do& when_all_are_there);
  void release(const Group& group);
  void stop();
  Fiber& next();

  std::string why_stuck() const;
  std::string name_of(int thread) const {
    return "thread " + std::to_string(thread % THREADS) + " of block " +
           std::to_string(index_ * cluster_size() + thread / THREADS);
  }

  Kernel kernel_;
  Order order_;
  Queue ready_;  // the threads that can run
  std::vector<Thread> threads_;
  std::vector<Warp> warps_;
  std::vector<Block> blocks_;
  Group all_;
  std::vector<int> released_;
  int64_t index_ = 0;
  int current_ = 0;
  Fiber caller_;              // the caller of `run`
  std::exception_ptr error_;  // if set, all threads leave the kernel
};

// Each system thread may run a grid.
inline thread_local Cluster* running_cluster = nullptr;
inline thread_local Stacks stacks;

inline Cluster& running() {
  if (!running_cluster) fail("a function of the machine was called outside of run_grid");
  return *running_cluster;
}

inline void Cluster::run(int64_t index) {
  begin_all(index);
  release(all_);
  caller_.switch_to(next());
  end_all();
  if (error_) std::rethrow_exception(error_);
  for (int i = 0; i < cluster_size(); ++i) {
    if (!blocks_[i].shared.overrun()) continue;
    fail("something was written outside of the shared memory of block " +
         std::to_string(index * cluster_size() + i));
  }
}

inline void Cluster::begin_all(int64_t index) {
  index_ = index;
  stacks.reserve(static_cast<int>(threads_.size()));
  for (size_t i = 0; i < threads_.size(); ++i) {
    threads_[i] = Thread{};
    threads_[i].fiber.begin(stacks.stack(i), Stacks::bytes(i), &Cluster::enter);
  }
  for (Block& block : blocks_) block.started = block.ended = 0;
}

// Ends the cluster. After an error, threads that are still in the kernel leave it by an exception.
inline void Cluster::end_all() {
  bool all_ended = true;
  for (const Thread& thread : threads_) all_ended &= thread.ended;
  if (!all_ended && !error_) error_ = std::make_exception_ptr(std::runtime_error(why_stuck()));
  for (size_t i = 0; i < threads_.size(); ++i) {
    if (!threads_[i].started || threads_[i].ended) continue;
    current_ = static_cast<int>(i);
    caller_.switch_to(threads_[i].fiber);
  }
}

inline void Cluster::enter() {
  Cluster& cluster = running();
  Thread& self = cluster.threads_[cluster.current_];
  self.fiber.entered();
  cluster.live(self);
  self.fiber.switch_to(cluster.next(), /*ends=*/true);
  std::abort();
}

// Runs a thread. Other blocks must not write to a block's memory before it begins, nor read it
// after it ends, so the memory is filled with garbage at both times.
inline void Cluster::live(Thread& self) {
  Block& own = block();
  self.started = true;
  if (own.started++ == 0) own.shared.fill_with_garbage();
  try {
    kernel_.call(kernel_.body);
  } catch (...) {
    if (!error_) error_ = std::current_exception();
  }
  self.ended = true;
  if (++own.ended == THREADS) own.shared.fill_with_garbage();
}

template <class Do>
inline void Cluster::meet(Group& group, const char* name, const Do& when_all_are_there) {
  if (group.arrived > 0 && group.name != name) {
    fail(name_of(current_) + " is at " + name + ", another lane of its warp at " +
         (std::strcmp(name, group.name) ? group.name : "that of another type"));
  }
  group.name = name;
  threads_[current_].waits_at = &group;
  if (++group.arrived == group.count) {
    when_all_are_there();
    group.arrived = 0;
    release(group);
  }
  stop();
}

inline void Cluster::release(const Group& group) {
  released_.resize(group.count);
  for (int i = 0; i < group.count; ++i) released_[i] = group.first + i;
  order_.arrange(released_);
  if (order_.at_once()) {
    for (int i = group.count; i-- > 0;) ready_.push_front(released_[i]);
  } else {
    for (const int thread : released_) ready_.push_back(thread);
  }
}

inline void Cluster::stop() {
  Thread& self = threads_[current_];
  Fiber& other = next();
  if (&other != &self.fiber) self.fiber.switch_to(other);
  if (error_) throw std::runtime_error("the kernel is left because of an error elsewhere");
  self.waits_at = nullptr;
}

inline Fiber& Cluster::next() {
  if (error_ || ready_.empty()) return caller_;
  current_ = ready_.pop_front();
  return threads_[current_].fiber;
}

// Describes a deadlock. Of all waiting threads, those in the smallest group are nearest to its
// cause.
inline std::string Cluster::why_stuck() const {
  int waiting = -1;
  const Group* group = &all_;
  for (int i = 0; i < all_.count; ++i) {
    const Group* at = threads_[i].waits_at;
    if (!at || (waiting >= 0 && at->count >= group->count)) continue;
    waiting = i;
    group = at;
  }
  int missing = group->first;
  while (threads_[missing].waits_at == group) ++missing;
  const Group* elsewhere = threads_[missing].waits_at;
  return "emulated kernel: deadlock: " + name_of(waiting) + " waits at " + group->name + ", but " +
         name_of(missing) + (elsewhere ? std::string(" at ") + elsewhere->name : " has ended");
}

inline void Cluster::start_copy(void* to, const void* from) {
  const SharedMemory& own = block().shared;
  if (!own.holds(to, Copy::BYTES)) {
    fail(name_of(current_) + " copies to outside of its block's shared memory, to byte " +
         std::to_string(own.offset(to)) + " of " + std::to_string(own.bytes()));
  }
  if (own.offset(to) % Copy::BYTES != 0 || reinterpret_cast<uintptr_t>(from) % Copy::BYTES != 0) {
    fail(name_of(current_) + " copies 16 bytes to or from an address that is no multiple of 16");
  }
  for (const Block& block : blocks_) {
    if (block.shared.bytes() > 0 && block.shared.holds(from, 1)) {
      fail(name_of(current_) + " copies from shared memory, not from global memory");
    }
  }
  Thread& self = threads_[current_];
  self.copies.emplace_back(static_cast<char*>(to), static_cast<const char*>(from),
                           self.groups_of_copies);
}

inline void Cluster::wait_for_copies(int but_the_last_groups) {
  Thread& self = threads_[current_];
  auto copy = self.copies.begin();
  for (; copy != self.copies.end(); ++copy) {
    if (copy->group() >= self.groups_of_copies - but_the_last_groups) break;
    copy->finish();
  }
  self.copies.erase(self.copies.begin(), copy);
}

}  // namespace emulator
}  // namespace pixelsr
