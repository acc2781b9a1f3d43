// Fibers: stacks to run threads on, and the switch between them. A fiber takes up one thread after the other
// until one has to wait, so a kernel without barriers uses one fiber only.
#include <sys/mman.h>

#include <cstdio>
#include <cstdlib>
#include <memory>

#include "runtime.h"

#if !defined(__x86_64__)
#include <ucontext.h>
#endif

extern "C" {
__attribute__((weak)) void __sanitizer_start_switch_fiber(void** save, const void* bottom, std::size_t size);
__attribute__((weak)) void __sanitizer_finish_switch_fiber(void* save, const void** bottom, std::size_t* size);
__attribute__((weak)) void __asan_unpoison_memory_region(const volatile void* address, std::size_t size);
extern st::Index threadIdx;
}

#if defined(__x86_64__)
// Keeps the registers that a call must keep, and exchanges the stacks.
extern "C" __attribute__((visibility("hidden"))) void shim_switch(void** from, void* to);
asm(R"(
.text
.globl shim_switch
.hidden shim_switch
.type shim_switch,@function
shim_switch:
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
.size shim_switch,.-shim_switch
)");
#endif

namespace st {

constexpr std::size_t kStack = 256 << 10;
constexpr std::size_t kGuard = 4096;
constexpr std::size_t kMostFibers = 1024 + 1;

struct Context {
#if defined(__x86_64__)
  void* stack_pointer = nullptr;
#else
  ucontext_t context;
#endif
  void* fake_stack = nullptr;
  const void* bottom = nullptr;
  std::size_t size = 0;
};

struct Fiber {
  Context context;
  bool idle = true;
};

namespace {

Context outside;  // who launches
std::vector<std::unique_ptr<Fiber>> fibers;
std::vector<Fiber*> idle;
Fiber* current = nullptr;
char* stacks = nullptr;

// The sanitizer is told of each switch by both sides; a fiber learns there which stack the launch came from.
void arrived(Context& here) {
  if (!__sanitizer_finish_switch_fiber) return;
  if (&here == &outside)
    __sanitizer_finish_switch_fiber(here.fake_stack, nullptr, nullptr);
  else
    __sanitizer_finish_switch_fiber(here.fake_stack, &outside.bottom, &outside.size);
}

void go(Context& from, Context& to, bool for_good) {
  if (__sanitizer_start_switch_fiber)
    __sanitizer_start_switch_fiber(for_good ? nullptr : &from.fake_stack, to.bottom, to.size);
#if defined(__x86_64__)
  shim_switch(&from.stack_pointer, to.stack_pointer);
#else
  swapcontext(&from.context, &to.context);
#endif
  arrived(from);
}

void live() {
  Fiber* self = current;
  arrived(self->context);
  for (;;) {
    launch.kernel->run(launch.arguments);
    thread_returned(*running);
    running = next_to_start();
    if (running != nullptr) {
      running->fiber = self;
      threadIdx = running->index;
      continue;
    }
    self->idle = true;
    idle.push_back(self);
    leave();
  }
}

void prepare(Fiber& fiber, char* stack) {
  fiber.context.bottom = stack + kGuard;
  fiber.context.size = kStack - kGuard;
  fiber.context.fake_stack = nullptr;
#if defined(__x86_64__)
  void** top = reinterpret_cast<void**>(stack + kStack - 64);
  *--top = nullptr;  // where `live` would return to: it does not
  *--top = reinterpret_cast<void*>(&live);
  for (int k = 0; k < 6; ++k) *--top = nullptr;
  fiber.context.stack_pointer = top;
#else
  getcontext(&fiber.context.context);
  fiber.context.context.uc_stack.ss_sp = stack + kGuard;
  fiber.context.context.uc_stack.ss_size = kStack - kGuard;
  fiber.context.context.uc_link = nullptr;
  makecontext(&fiber.context.context, &live, 0);
#endif
}

char* stack_of(std::size_t position) { return stacks + position * kStack; }

Fiber* take() {
  if (idle.empty()) {
    if (stacks == nullptr) {
      void* made = mmap(nullptr, kMostFibers * kStack, PROT_READ | PROT_WRITE,
                        MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
      if (made == MAP_FAILED) {
        std::perror("stacks of fibers");
        std::abort();
      }
      stacks = static_cast<char*>(made);
    }
    mprotect(stack_of(fibers.size()), kGuard, PROT_NONE);
    fibers.push_back(std::make_unique<Fiber>());
    prepare(*fibers.back(), stack_of(fibers.size() - 1));
    idle.push_back(fibers.back().get());
  }
  Fiber* fiber = idle.back();
  idle.pop_back();
  return fiber;
}

}  // namespace

bool on_fiber_stack(const void* address) {
  const char* place = static_cast<const char*>(address);
  return place >= stacks && place < stacks + kMostFibers * kStack;
}

void resume(Thread& thread) {
  if (thread.fiber == nullptr) thread.fiber = take();
  current = thread.fiber;
  current->idle = false;
  running = &thread;
  threadIdx = thread.index;
  go(outside, current->context, false);
  running = nullptr;
}

void leave() {
  Fiber* self = current;
  go(self->context, outside, false);
}

void abandon() {
  go(current->context, outside, true);
  std::abort();
}

void abandon_fibers() {
  for (std::size_t k = 0; k < fibers.size(); ++k) {
    if (fibers[k]->idle) continue;
    if (__asan_unpoison_memory_region) __asan_unpoison_memory_region(stack_of(k) + kGuard, kStack - kGuard);
    prepare(*fibers[k], stack_of(k));
    fibers[k]->idle = true;
    idle.push_back(fibers[k].get());
  }
}

}  // namespace st
