// Fibers, which have their own stacks and take turns on one system thread.
#pragma once

#include <sys/mman.h>
#include <unistd.h>

#include <cstddef>
#include <cstdint>
#include <new>

#if defined(__SANITIZE_ADDRESS__)
#define PIXELSR_ADDRESS_SANITIZER 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define PIXELSR_ADDRESS_SANITIZER 1
#endif
#endif
#if defined(PIXELSR_ADDRESS_SANITIZER)
#include <sanitizer/common_interface_defs.h>
#endif

#if !defined(__x86_64__)
#define PIXELSR_UCONTEXT
#endif

#if defined(PIXELSR_UCONTEXT)
#include <ucontext.h>
#else
// Stores the stack pointer at `from` and resumes the stack `to`. swapcontext would make a system
// call for each switch. Only callee-saved registers are saved here: the compiler saves the others.
extern "C" void pixelsr_switch_stack(void** from, void* to);
asm(R"(
.pushsection .text
.weak pixelsr_switch_stack
.hidden pixelsr_switch_stack
.type pixelsr_switch_stack, @function
pixelsr_switch_stack:
  pushq %rbp
  pushq %rbx
  pushq %r12
  pushq %r13
  pushq %r14
  pushq %r15
  movq %rsp, (%rdi)
  movq %rsi, %rsp
  popq %r15
  popq %r14
  popq %r13
  popq %r12
  popq %rbx
  popq %rbp
  ret
.size pixelsr_switch_stack, . - pixelsr_switch_stack
.popsection
)");
#endif

namespace pixelsr {
namespace emulator {

// The point at which a fiber has stopped.
#if defined(PIXELSR_UCONTEXT)

class Place {
 public:
  void begin(char* stack, size_t bytes, void (*entry)()) {
    getcontext(&context_);
    context_.uc_stack.ss_sp = stack;
    context_.uc_stack.ss_size = bytes;
    context_.uc_link = nullptr;
    makecontext(&context_, entry, 0);
  }
  void go_to(Place& to) { swapcontext(&context_, &to.context_); }

 private:
  ucontext_t context_;
};

#else

class Place {
 public:
  void begin(char* stack, size_t bytes, void (*entry)()) {
    constexpr int REGISTERS = 6;
    // The entry function finds the stack as after a call, with a null return address.
    void** top = reinterpret_cast<void**>(reinterpret_cast<uintptr_t>(stack + bytes) / 16 * 16);
    *--top = nullptr;
    *--top = reinterpret_cast<void*>(entry);
    for (int i = 0; i < REGISTERS; ++i) *--top = nullptr;
    pointer_ = top;
  }
  void go_to(Place& to) { pixelsr_switch_stack(&pointer_, to.pointer_); }

 private:
  void* pointer_ = nullptr;
};

#endif

// A fiber, with the stack information that AddressSanitizer needs.
class Fiber {
 public:
  void begin(char* stack, size_t bytes, void (*entry)()) {
    stack_ = stack;
    bytes_ = bytes;
    place_.begin(stack, bytes, entry);
  }

  // Switches to another fiber. Returns when a fiber switches back, which never happens if this one
  // ends.
  void switch_to(Fiber& next, bool ends = false) {
    next.came_from_ = this;
#if defined(PIXELSR_ADDRESS_SANITIZER)
    __sanitizer_start_switch_fiber(ends ? nullptr : &fake_stack_, next.stack_, next.bytes_);
#endif
    place_.go_to(next.place_);
#if defined(PIXELSR_ADDRESS_SANITIZER)
    __sanitizer_finish_switch_fiber(fake_stack_, nullptr, nullptr);
#endif
    static_cast<void>(ends);
  }

  // Must be the first call of a fiber.
  void entered() {
#if defined(PIXELSR_ADDRESS_SANITIZER)
    __sanitizer_finish_switch_fiber(nullptr, &came_from_->stack_, &came_from_->bytes_);
#endif
  }

 private:
  Place place_;
  Fiber* came_from_ = nullptr;
  const void* stack_ = nullptr;
  size_t bytes_ = 0;
  void* fake_stack_ = nullptr;
};

// Stacks, each above a protected page, so that an overflow is detected. They are kept for the next
// grid, because most kernels are short.
class Stacks {
 public:
  static constexpr size_t BYTES = 256 * 1024;

  Stacks() = default;
  Stacks(const Stacks&) = delete;
  Stacks& operator=(const Stacks&) = delete;
  ~Stacks() { free(); }

  void reserve(int count) {
    if (count <= count_) return;
    free();
    const int flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE;
    void* memory = mmap(nullptr, count * stride(), PROT_READ | PROT_WRITE, flags, -1, 0);
    if (memory == MAP_FAILED) throw std::bad_alloc();
    memory_ = static_cast<char*>(memory);
    count_ = count;
    for (int i = 0; i < count; ++i) mprotect(memory_ + i * stride(), page(), PROT_NONE);
  }

  char* stack(int i) const { return memory_ + i * stride() + page(); }

  // Returns the size of a stack. Sizes differ, because tops at the same offset in a page would
  // share a few cache lines.
  static size_t bytes(int i) { return BYTES - i % 64 * 64; }

 private:
  static size_t page() { return static_cast<size_t>(sysconf(_SC_PAGESIZE)); }
  static size_t stride() { return BYTES + page(); }

  void free() {
    if (memory_) munmap(memory_, count_ * stride());
    memory_ = nullptr;
    count_ = 0;
  }

  char* memory_ = nullptr;
  int count_ = 0;
};

}  // namespace emulator
}  // namespace pixelsr
