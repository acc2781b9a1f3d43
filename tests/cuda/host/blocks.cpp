// A launch: blocks one after the other, the threads of a block in an order that is chosen against the kernel.
#include <algorithm>
#include <csignal>
#include <cstdarg>
#include <cstdio>
#include <cstring>
#include <utility>

#include "runtime.h"

extern "C" {
st::Index threadIdx, blockIdx, blockDim, gridDim;
__attribute__((weak)) void __asan_init();
}

namespace st {

Launch launch;
std::vector<Thread> threads;
Thread* running = nullptr;

namespace {

enum Order { kForward, kReverse, kRandom };

std::string error;
bool failed = false;
Order order = kForward;
std::uint64_t random_state = 1;
std::vector<unsigned> sequence;  // of the threads of a block
unsigned started = 0, waiting = 0;  // threads of the block that runs: begun, at a barrier

std::uint64_t draw() {  // xorshift64*
  random_state ^= random_state >> 12;
  random_state ^= random_state << 25;
  random_state ^= random_state >> 27;
  return random_state * 0x2545F4914F6CDD1Dull;
}

void arrange(std::vector<unsigned>& list, std::size_t count) {
  list.resize(count);
  for (unsigned k = 0; k < count; ++k) list[k] = order == kReverse ? static_cast<unsigned>(count) - 1 - k : k;
  if (order == kRandom)
    for (std::size_t k = count; k > 1; --k) std::swap(list[k - 1], list[draw() % k]);
}

Index unravel(unsigned number, const Index& sizes) {
  return {number % sizes.x, number / sizes.x % sizes.y, number / sizes.x / sizes.y};
}

void give_up() {
  failed = true;
  if (running != nullptr) abandon();
}

const char* kind_name(int kind) {
  static const char* const names[] = {"__syncwarp", "__ballot_sync", "__shfl_sync",
                                      "__shfl_up_sync", "__shfl_down_sync", "__shfl_xor_sync"};
  return names[kind];
}

std::string waits(const Thread& thread) {
  if (thread.state == State::kDone) return "thread " + name_of(thread) + " has returned";
  const char* what = thread.state == State::kBarrier ? "__syncthreads" : kind_name(thread.kind);
  return "thread " + name_of(thread) + " waits at " + what + " in line " + std::to_string(thread.line);
}

// Some threads wait for others which never come: name one of each kind.
void report_deadlock() {
  const Thread* barrier = nullptr;
  const Thread* warp = nullptr;
  const Thread* done = nullptr;
  for (const Thread& thread : threads) {
    if (thread.state == State::kBarrier && barrier == nullptr) barrier = &thread;
    if (thread.state == State::kWarp && warp == nullptr) warp = &thread;
    if (thread.state == State::kDone && done == nullptr) done = &thread;
  }
  std::string text;
  for (const Thread* thread : {barrier, warp, done})
    if (thread != nullptr) text += (text.empty() ? "" : ", ") + waits(*thread);
  const Thread* other = nullptr;  // the same kind of waiting, elsewhere
  if (warp != nullptr)
    for (const Thread& thread : threads)
      if (thread.state == State::kWarp && (thread.line != warp->line || thread.mask != warp->mask)) other = &thread;
  if (other != nullptr) text += ", " + waits(*other);
  char head[512];
  std::snprintf(head, sizeof head, "kernel %s, block (%u, %u, %u): %s", launch.kernel->name, blockIdx.x, blockIdx.y,
                blockIdx.z, barrier != nullptr ? "a barrier which not all threads reach: " : "threads wait for ever: ");
  error = head + text;
  failed = true;
}

void run_block() {
  started = waiting = 0;
  for (Thread& thread : threads) {
    thread.state = State::kReady;
    thread.fiber = nullptr;
    thread.fenced = thread.fenced_block = 0;
    thread.acquired = false;
  }
  arrange(sequence, threads.size());
  while (Thread* thread = next_to_start()) {
    resume(*thread);
    if (failed) return;
  }
  for (;;) {
    bool progress = false, finished = true;
    if (order == kRandom) arrange(sequence, threads.size());
    for (unsigned position : sequence) {
      Thread& thread = threads[position];
      if (thread.state == State::kReady) {
        progress = true;
        resume(thread);
        if (failed) return;
      }
      finished = finished && thread.state == State::kDone;
    }
    if (finished) return;
    if (!progress) return report_deadlock();
  }
}

// A wild address is an error of the kernel, not the end of the process.
void on_signal(int number) {
  if (running == nullptr) {
    std::signal(number, SIG_DFL);
    std::raise(number);
    return;
  }
  fail(number == SIGFPE ? "integer division by zero" : "access to memory that is not there (or a stack overflow)");
}

class Signals {
 public:
  Signals() {
    if (__asan_init) return;  // the sanitizer reports more
    static char* const stack = new char[1 << 16];
    stack_t alternative = {};
    alternative.ss_sp = stack;
    alternative.ss_size = 1 << 16;
    sigaltstack(&alternative, &stack_);
    struct sigaction action = {};
    action.sa_handler = on_signal;
    action.sa_flags = SA_ONSTACK | SA_NODEFER;
    for (int k = 0; k < 3; ++k) sigaction(kNumbers[k], &action, &actions_[k]);
  }
  ~Signals() {
    if (__asan_init) return;
    for (int k = 0; k < 3; ++k) sigaction(kNumbers[k], &actions_[k], nullptr);
    sigaltstack(&stack_, nullptr);
  }

 private:
  static constexpr int kNumbers[3] = {SIGSEGV, SIGBUS, SIGFPE};
  struct sigaction actions_[3];
  stack_t stack_;
};

unsigned arguments_size(const Kernel& kernel) {
  int end = 0;
  for (int k = 0; k < kernel.parameter_count; ++k) {
    const int size = kernel.parameters[k].size;
    end = (end + size - 1) / size * size + size;
  }
  return static_cast<unsigned>(end);
}

bool refuse(const Kernel& kernel, const Index& grid, const Index& block, std::size_t size) {
  char text[512] = "";
  const std::size_t count = static_cast<std::size_t>(block.x) * block.y * block.z;
  const std::size_t most = kernel.most_threads ? static_cast<std::size_t>(kernel.most_threads) : 1024;
  if (grid.x == 0 || grid.y == 0 || grid.z == 0 || count == 0)
    std::snprintf(text, sizeof text, "an empty launch");
  else if (grid.x > 0x7fffffffu || grid.y > 65535 || grid.z > 65535 || block.z > 64)
    std::snprintf(text, sizeof text, "a grid of (%u, %u, %u) blocks is too large", grid.x, grid.y, grid.z);
  else if (count > most)
    std::snprintf(text, sizeof text, "%zu threads in a block; at most %zu", count, most);
  else if (size != arguments_size(kernel) || size > 4096)
    std::snprintf(text, sizeof text, "%zu bytes of arguments for parameters of %u", size, arguments_size(kernel));
  else if (static_cast<std::size_t>(grid.x) * grid.y * grid.z * count > 0xffffffffu)
    std::snprintf(text, sizeof text, "too many threads for the host");
  if (text[0] == '\0') return false;
  error = std::string("kernel ") + kernel.name + ": " + text;
  return true;
}

}  // namespace

std::string name_of(const Thread& thread) {
  char text[64];
  std::snprintf(text, sizeof text, "(%u, %u, %u)", thread.index.x, thread.index.y, thread.index.z);
  return text;
}

Thread* next_to_start() {
  if (started == threads.size()) return nullptr;
  return &threads[sequence[started++]];
}

void fail(const char* format, ...) {
  char text[1024], head[512];
  va_list values;
  va_start(values, format);
  std::vsnprintf(text, sizeof text, format, values);
  va_end(values);
  std::snprintf(head, sizeof head, "kernel %s, block (%u, %u, %u), thread %s: ", launch.kernel->name, blockIdx.x,
                blockIdx.y, blockIdx.z, running ? name_of(*running).c_str() : "none");
  error = std::string(head) + text;
  give_up();
  __builtin_trap();
}

namespace {

void complete_barrier() {
  const Thread& first = threads[0];
  for (const Thread& thread : threads)
    if (thread.line != first.line)
      fail("threads wait at different barriers: %s, %s", waits(first).c_str(), waits(thread).c_str());
  for (Thread& thread : threads) thread.state = State::kReady;
  waiting = 0;
  track_barrier();
}

unsigned source_of(const Thread& thread) {
  const int lane = static_cast<int>(thread.number % kLanes), width = thread.width, operand = thread.operand;
  const int start = lane & ~(width - 1), end = start + width;
  int source = lane;
  if (thread.kind == kIndex) source = start + (operand & (width - 1));
  if (thread.kind == kUp && lane - operand >= start) source = lane - operand;
  if (thread.kind == kDown && lane + operand < end) source = lane + operand;
  if (thread.kind == kXor && (lane ^ operand) < end) source = lane ^ operand;
  return static_cast<unsigned>(source);
}

// If all lanes which `thread` waits for have come, give each its value.
void complete_warp(const Thread& thread) {
  const unsigned warp = thread.number / kLanes;
  Thread* const lanes = &threads[warp * kLanes];
  const unsigned count = static_cast<unsigned>(std::min<std::size_t>(kLanes, threads.size() - warp * kLanes));
  unsigned ballot = 0;
  for (unsigned lane = 0; lane < count; ++lane) {
    const Thread& other = lanes[lane];
    if (!(thread.mask >> lane & 1) || other.state == State::kDone) continue;
    if (other.state != State::kWarp || other.mask != thread.mask) return;
    if (other.kind != thread.kind || other.line != thread.line)
      fail("lanes of one warp disagree: %s, %s", waits(thread).c_str(), waits(other).c_str());
    ballot |= static_cast<unsigned>(other.value) << lane;
  }
  std::uint64_t values[kLanes];
  for (unsigned lane = 0; lane < count; ++lane) values[lane] = lanes[lane].value;
  for (unsigned lane = 0; lane < count; ++lane) {
    Thread& other = lanes[lane];
    if (!(thread.mask >> lane & 1) || other.state == State::kDone) continue;
    other.state = State::kReady;
    if (other.kind == kBallot) other.value = ballot;
    if (other.kind == kSync || other.kind == kBallot) continue;
    const unsigned source = source_of(other);
    if (source >= count || !(other.mask >> source & 1) || lanes[source].state == State::kDone)
      fail("%s in line %d: lane %u reads lane %u, which takes no part", kind_name(other.kind), other.line, lane, source);
    other.value = values[source];
  }
  if (thread.kind == kSync) track_warp(warp);
}

}  // namespace

void thread_returned(Thread& thread) {
  thread.state = State::kDone;
  thread.fiber = nullptr;
  const std::size_t first = thread.number / kLanes * kLanes;
  for (std::size_t k = first; k < std::min(first + kLanes, threads.size()); ++k)
    if (threads[k].state == State::kWarp) complete_warp(threads[k]);  // the lanes left may be all there
}

}  // namespace st

using namespace st;

extern "C" {

void shim_barrier(int line) {
  Thread& self = *running;
  self.state = State::kBarrier;
  self.line = line;
  if (++waiting == threads.size()) complete_barrier();
  leave();
}

std::uint64_t shim_warp(int kind, int line, unsigned mask, std::uint64_t value, int operand, int width) {
  Thread& self = *running;
  const unsigned lane = self.number % kLanes;
  if (!(mask >> lane & 1)) fail("%s in line %d: the mask 0x%x lacks the calling lane %u", kind_name(kind), line, mask, lane);
  if (width < 1 || width > 32 || (width & (width - 1)) != 0)
    fail("%s in line %d: a width of %d", kind_name(kind), line, width);
  self.state = State::kWarp;
  self.kind = kind;
  self.line = line;
  self.mask = mask;
  self.value = value;
  self.operand = operand;
  self.width = width;
  complete_warp(self);
  leave();
  return self.value;
}

void shim_trap(int line) { fail("__trap in line %d", line); }

// Run one grid. The result is an error's text, or nullptr.
const char* shim_launch(const Kernel* kernel, const Index* grid, const Index* block, const char* arguments,
                      std::size_t size, int asked_order, std::uint64_t seed, int tracked) {
  error.clear();
  failed = false;
  if (refuse(*kernel, *grid, *block, size)) return error.c_str();
  order = static_cast<Order>(asked_order);
  random_state = (seed + 1) * 0x9E3779B97F4A7C15ull | 1;
  gridDim = *grid;
  blockDim = *block;
  alignas(16) static char copied[4096];
  std::memcpy(copied, arguments, size);
  launch = {kernel, copied, *grid, *block, block->x * block->y * block->z, 0, tracked != 0};
  threads.assign(launch.threads, Thread{});
  for (unsigned k = 0; k < launch.threads; ++k) {
    threads[k].number = k;
    threads[k].index = unravel(k, *block);
  }
  forget_shared_arrays();
  track_launch();
  Signals signals;
  std::vector<unsigned> blocks;
  arrange(blocks, static_cast<std::size_t>(grid->x) * grid->y * grid->z);
  for (unsigned number : blocks) {
    launch.block_number = number;
    blockIdx = unravel(number, *grid);
    clear_shared_arrays();
    track_block();
    run_block();
    if (failed) {
      abandon_fibers();
      return error.c_str();
    }
  }
  if (const std::string names = broken_promise(); !names.empty()) {
    error = std::string("kernel ") + kernel->name + ": " + names + " are __restrict__, and the same memory";
    return error.c_str();
  }
  if (const std::string name = overwritten(); !name.empty()) {
    error = std::string("kernel ") + kernel->name + ": it wrote outside of its memory, near " + name;
    return error.c_str();
  }
  return nullptr;
}

}  // extern "C"
