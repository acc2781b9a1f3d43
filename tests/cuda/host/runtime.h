// What the files of the host run time share. One launch runs at a time, in one thread of the system.
#pragma once
#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

namespace st {

constexpr unsigned kLanes = 32;
constexpr std::size_t kSharedLimit = 48 << 10;
constexpr unsigned char kPattern = 0xA5;  // unwritten memory

struct Index { unsigned x, y, z; };
struct Parameter { int size, pointer, constant, element; };

struct Kernel {  // shim_kernel of shim.h
  const char* name;
  const char* parameter_names;
  const Parameter* parameters;
  int parameter_count;
  int most_threads;
  unsigned long long restricted;
  void (*run)(const char*);
};

enum class State { kReady, kBarrier, kWarp, kDone };
enum WarpKind { kSync, kBallot, kIndex, kUp, kDown, kXor };

struct Fiber;

struct Thread {
  Index index;
  unsigned number;
  State state;
  Fiber* fiber;
  int line;  // where it waits
  int kind;
  unsigned mask;
  std::uint64_t value;
  int operand, width;
  // What its fences ordered (tracking.cpp), in ticks of the block's clock.
  std::uint32_t fenced, fenced_block;
  bool acquired;
};

struct Launch {
  const Kernel* kernel;
  const char* arguments;
  Index grid, block;
  unsigned threads;      // of a block
  unsigned block_number; // of the block that runs
  bool tracked;
};

extern Launch launch;
extern std::vector<Thread> threads;
extern Thread* running;  // nullptr: no kernel's code runs

// The error is kept, the launch is given up. From a kernel's code this does not return.
[[noreturn]] __attribute__((format(printf, 1, 2))) void fail(const char* format, ...);
std::string name_of(const Thread& thread);

// fibers.cpp
bool on_fiber_stack(const void* address);
void resume(Thread& thread);      // run it until it waits, or until its fiber has no more to do
void leave();                     // from a fiber, back to who resumed it
[[noreturn]] void abandon();      // likewise, never to come back
void abandon_fibers();            // after a failure: none holds a thread any more

// blocks.cpp, for the fibers
Thread* next_to_start();
void thread_returned(Thread& thread);

// memory.cpp
struct Allocation { std::uintptr_t address; std::size_t size; void* whole; };
const Allocation* find_allocation(std::uintptr_t address);   // that holds this byte
bool margins_are_whole(const Allocation& block);
const Allocation* nearest_allocation(std::uintptr_t address);

struct SharedArray { const void* key; const char* name; std::size_t offset, size, element; };

// the shared arrays of a block
void forget_shared_arrays();
void clear_shared_arrays();
const SharedArray* shared_array_at(std::uintptr_t address);
bool in_shared_memory(std::uintptr_t address);
std::size_t offset_in(const SharedArray& array, std::uintptr_t address);

// tracking.cpp
void track_launch();
std::string broken_promise();  // of parameters that are __restrict__
std::string overwritten();     // the parameter beside whose memory something was written, or nothing
void track_block();
void track_barrier();
void track_warp(unsigned warp);

}  // namespace st
