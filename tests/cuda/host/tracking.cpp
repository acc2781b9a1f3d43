// Races, bounds and unwritten memory: the code of -fsanitize=thread calls us for every access to memory, and we
// keep for each word (where it is taken apart, for each byte) who wrote and read it last. Order is what the program asks for, not what happened to be:
// two accesses by different threads, one of them a write, must be ordered by a barrier (in a block), a warp's
// __syncwarp, or fences around an atomic counter (between blocks).
#include <dlfcn.h>

#include <algorithm>
#include <cstdio>
#include <cstring>
#include <memory>
#include <unordered_map>

#include "runtime.h"

namespace st {

namespace {

constexpr std::size_t kPage = 4096, kWord = 4, kMostPages = 4096;
constexpr std::uint32_t kAtomic = 1u << 31;

struct Access { std::uint32_t thread, time; };  // the thread's number in the grid; ticks of its block's clock

struct Cell {
  std::uint32_t written_in, read_in;  // the run (a launch, for shared memory a block) which the records are of
  Access write, read, other_read;
};

struct Page {
  Cell words[kPage / kWord];
  bool split[kPage / kWord];  // this word's records are those of its bytes
  std::vector<Cell> bytes;
};

struct Release { std::uint32_t block_time; std::vector<std::uint32_t> thread_times; };

struct Counter {  // a place of atomics: the blocks that released there, in order
  std::unordered_map<unsigned, std::size_t> place_of;
};

struct Acquired {
  Counter* counter;
  std::size_t length;
  unsigned thread;
  std::uint32_t time;
  std::vector<bool> fenced;  // by thread
  bool by_all;
};

std::unordered_map<std::uintptr_t, std::unique_ptr<Page>> pages;
std::uintptr_t last_number = 0;
Page* last_page = nullptr;

std::uint32_t run_counter = 0, launch_run = 0, block_run = 0;
std::uint32_t clock_now = 1, block_since = 1;
std::vector<std::uint32_t> warp_since;
bool any_fence = false;
std::unordered_map<std::uintptr_t, Counter> counters;
std::unordered_map<unsigned, Release> releases;
std::vector<Acquired> acquired;

struct Argument { std::string name; std::uintptr_t address; const Allocation* block; Parameter parameter; bool restricted; };
std::vector<Argument> arguments;
std::uintptr_t foreign = UINTPTR_MAX;  // the lowest argument that points to memory of someone else: not bounded
const Allocation* last_block = nullptr;
bool last_writable = false;

Page& page_of(std::uintptr_t address) {
  const std::uintptr_t number = address / kPage;
  if (number == last_number) return *last_page;
  std::unique_ptr<Page>& page = pages[number];
  if (!page) page = std::make_unique<Page>();
  last_number = number;
  return *(last_page = page.get());
}

Cell& byte_of(Page& page, std::uintptr_t address) {
  const std::size_t word = address % kPage / kWord;
  if (!page.split[word]) {
    page.bytes.resize(kPage);
    std::fill_n(&page.bytes[word * kWord], kWord, page.words[word]);
    page.split[word] = true;
  }
  return page.bytes[address % kPage];
}

std::uint32_t global_number(unsigned thread) { return launch.block_number * launch.threads + thread; }

bool acquired_from(unsigned block) {
  for (const Acquired& entry : acquired) {
    const auto place = entry.counter->place_of.find(block);
    if (place != entry.counter->place_of.end() && place->second < entry.length &&
        (entry.by_all || entry.fenced[running->number]))
      return true;
  }
  return false;
}

// Does `before` happen before what the running thread does now?
bool ordered(const Access& before) {
  const unsigned block = before.thread / launch.threads, thread = before.thread % launch.threads;
  const std::uint32_t time = before.time & ~kAtomic;
  if (block == launch.block_number) {
    if (thread == running->number || time < block_since) return true;
    const unsigned warp = thread / kLanes;
    return warp == running->number / kLanes && time < warp_since[warp];
  }
  if (!acquired_from(block)) return false;
  if (before.time & kAtomic) return true;
  const Release& release = releases[block];
  return time < release.block_time || time < release.thread_times[thread];
}

std::string describe(std::uintptr_t address) {
  char text[256];
  if (in_shared_memory(address)) {
    const SharedArray* array = shared_array_at(address);
    if (array == nullptr) return "shared memory outside of all arrays";
    std::snprintf(text, sizeof text, "%s[%zu]", array->name, offset_in(*array, address) / array->element);
    return text;
  }
  const Argument* nearest = nullptr;
  const Allocation* block = nearest_allocation(address);
  for (const Argument& argument : arguments)
    if (argument.block == block && block != nullptr &&
        (nearest == nullptr || (argument.address <= address && argument.address > nearest->address)))
      nearest = &argument;
  if (nearest == nullptr) {
    std::snprintf(text, sizeof text, "address 0x%zx", static_cast<std::size_t>(address));
    return text;
  }
  const long long element = nearest->parameter.element ? nearest->parameter.element : 1;
  const long long distance = static_cast<long long>(address - nearest->address);
  const long long index = distance >= 0 ? distance / element : -((-distance + element - 1) / element);
  std::snprintf(text, sizeof text, "%s[%lld]", nearest->name.c_str(), index);
  return text;
}

std::string who(const Access& access) {
  const unsigned block = access.thread / launch.threads;
  std::string text = "thread " + name_of(threads[access.thread % launch.threads]);
  if (block != launch.block_number) text += " of block " + std::to_string(block);
  return text;
}

void race(std::uintptr_t address, bool write, const Access& before, bool before_wrote) {
  const bool shared = in_shared_memory(address);
  const bool other_block = before.thread / launch.threads != launch.block_number;
  const char* lacks = other_block ? "nothing orders blocks here but __threadfence() before an atomic counter and after it"
                                  : "no barrier is between them";
  fail("%s race on %s: it %s what %s %s; %s", shared ? "shared-memory" : "global-memory", describe(address).c_str(),
       write ? "writes" : "reads", who(before).c_str(), before_wrote ? "wrote" : "read", lacks);
}

void check(std::uintptr_t address, Cell& cell, std::uint32_t run, bool write, bool atomic, bool shared) {
  const Access now = {global_number(running->number), clock_now | (atomic ? kAtomic : 0)};
  const bool written = cell.written_in == run;
  if (written && !(atomic && (cell.write.time & kAtomic)) && !ordered(cell.write))
    race(address, write, cell.write, true);
  if (shared && !written && (!write || atomic))
    fail("it reads %s, which nothing has written", describe(address).c_str());
  const bool read = cell.read_in == run;
  if (write) {
    if (read && !ordered(cell.read)) race(address, true, cell.read, false);
    if (read && !ordered(cell.other_read)) race(address, true, cell.other_read, false);
    cell.written_in = run;
    cell.write = now;
    return;
  }
  if (!read) {
    cell.read_in = run;
    cell.read = cell.other_read = now;
  } else if (cell.read.thread == now.thread) {
    cell.read = now;
  } else {
    // Two readers are remembered, of two warps if possible: what orders one of a warp orders its others.
    if (cell.read.thread / kLanes != now.thread / kLanes || cell.other_read.thread == now.thread)
      cell.other_read = cell.read;
    cell.read = now;
  }
}

void find_block(std::uintptr_t address, std::size_t size, bool write) {
  if (last_block == nullptr || address < last_block->address || address >= last_block->address + last_block->size) {
    const Allocation* block = find_allocation(address);
    bool given = false, writable = false;
    for (const Argument& argument : arguments)
      if (block != nullptr && argument.block == block) {
        given = true;
        writable = writable || !argument.parameter.constant;
      }
    if (!given) {
      Dl_info info;
      if (block == nullptr && address >= foreign) return;
      if (block == nullptr && !write && dladdr(reinterpret_cast<void*>(address), &info)) return;  // a table of the text
      fail("it %s %s, which is outside of the memory that it was given", write ? "writes" : "reads",
           describe(address).c_str());
    }
    last_block = block;
    last_writable = writable;
  }
  if (address + size > last_block->address + last_block->size)
    fail("it %s %zu bytes at %s, past the end of its memory", write ? "writes" : "reads", size, describe(address).c_str());
  if (write && !last_writable) fail("it writes %s, a constant parameter", describe(address).c_str());
}

void access(const void* pointer, std::size_t size, bool write, bool atomic) {
  if (running == nullptr || !launch.tracked || on_fiber_stack(pointer)) return;
  const std::uintptr_t address = reinterpret_cast<std::uintptr_t>(pointer);
  const bool shared = in_shared_memory(address);
  if (shared) {
    const SharedArray* array = shared_array_at(address);
    if (array == nullptr || offset_in(*array, address) + size > array->size)
      fail("it %s outside of the shared arrays, near %s", write ? "writes" : "reads", describe(address).c_str());
  } else {
    find_block(address, size, write);
  }
  const std::uint32_t run = shared ? block_run : launch_run;
  for (std::uintptr_t place = address, end = address + size; place < end;) {
    Page& page = page_of(place);
    const std::size_t word = place % kPage / kWord;
    if (place % kWord == 0 && end - place >= kWord && !page.split[word]) {
      check(place, page.words[word], run, write, atomic, shared);
      place += kWord;
    } else {
      check(place, byte_of(page, place), run, write, atomic, shared);
      ++place;
    }
  }
}

void release(Counter& counter) {
  if (!any_fence) return;
  Release& made = releases[launch.block_number];
  made.thread_times.resize(launch.threads);
  if (running->fenced == 0) {
    bool fenced = false;
    for (const Thread& thread : threads) fenced = fenced || (thread.fenced != 0 && thread.fenced < block_since);
    if (!fenced) return;
  }
  made.block_time = std::max(made.block_time, running->fenced_block);
  for (const Thread& thread : threads)
    if (thread.number == running->number || thread.fenced < block_since)
      made.thread_times[thread.number] = std::max(made.thread_times[thread.number], thread.fenced);
  counter.place_of.emplace(launch.block_number, counter.place_of.size());
}

void acquire(Counter& counter) {
  for (Acquired& entry : acquired)
    if (entry.counter == &counter) return;  // no other block ran in between
  if (counter.place_of.empty()) return;
  acquired.push_back({&counter, counter.place_of.size(), running->number, clock_now,
                      std::vector<bool>(launch.threads), false});
}

}  // namespace

void track_launch() {
  launch_run = ++run_counter;
  counters.clear();
  releases.clear();
  arguments.clear();
  last_block = nullptr;
  foreign = UINTPTR_MAX;
  if (pages.size() > kMostPages) {
    pages.clear();
    last_number = 0;
  }
  const Kernel& kernel = *launch.kernel;
  const char* name = kernel.parameter_names;
  std::size_t place = 0;
  for (int k = 0; k < kernel.parameter_count; ++k) {
    const Parameter& parameter = kernel.parameters[k];
    const std::size_t size = static_cast<std::size_t>(parameter.size), length = std::strcspn(name, ",");
    place = (place + size - 1) / size * size;
    if (parameter.pointer) {
      std::uintptr_t address;
      std::memcpy(&address, launch.arguments + place, sizeof address);
      const bool restricted = kernel.restricted >> k & 1;
      const Allocation* block = find_allocation(address);
      if (block == nullptr && address != 0) foreign = std::min(foreign, address);
      arguments.push_back({std::string(name, length), address, block, parameter, restricted});
    }
    place += size;
    name += length + (name[length] == ',');
  }
}

// Parameters which promise not to share memory, and do: the names of two, or nothing. Where one of them has no
// elements they may begin at one address, so the first byte must have been both read and written.
std::string broken_promise() {
  if (!launch.tracked) return "";
  for (const Argument& one : arguments)
    for (const Argument& two : arguments) {
      if (&one >= &two || !one.restricted || !two.restricted || one.block == nullptr || one.address != two.address) continue;
      const Cell& cell = byte_of(page_of(one.address), one.address);
      if (cell.read_in == launch_run && cell.written_in == launch_run) return one.name + " and " + two.name;
    }
  return "";
}

std::string overwritten() {
  for (const Argument& argument : arguments)
    if (argument.block != nullptr && !margins_are_whole(*argument.block)) return argument.name;
  return "";
}

void track_block() {
  block_run = ++run_counter;
  clock_now = block_since = 1;
  warp_since.assign((launch.threads + kLanes - 1) / kLanes, 1);
  any_fence = false;
  acquired.clear();
}

void track_barrier() {
  block_since = ++clock_now;
  for (Acquired& entry : acquired)
    for (bool fenced : entry.fenced) entry.by_all = entry.by_all || fenced;
}

void track_warp(unsigned warp) { warp_since[warp] = ++clock_now; }

}  // namespace st

using namespace st;

extern "C" {

void shim_atomic(const void* address, unsigned size) {
  if (running == nullptr || !launch.tracked) return;
  access(address, size, true, true);
  if (in_shared_memory(reinterpret_cast<std::uintptr_t>(address))) return;
  Counter& counter = counters[reinterpret_cast<std::uintptr_t>(address)];
  acquire(counter);
  release(counter);
}

void shim_fence() {
  if (!launch.tracked) return;
  any_fence = true;
  running->fenced = ++clock_now;
  running->fenced_block = block_since;
  for (Acquired& entry : acquired)
    if (entry.thread == running->number || entry.time < block_since) entry.fenced[running->number] = true;
}

#define CALLBACKS(NAME, WRITE) \
  void __tsan_##NAME##1(void* place) { access(place, 1, WRITE, false); } \
  void __tsan_##NAME##2(void* place) { access(place, 2, WRITE, false); } \
  void __tsan_##NAME##4(void* place) { access(place, 4, WRITE, false); } \
  void __tsan_##NAME##8(void* place) { access(place, 8, WRITE, false); } \
  void __tsan_##NAME##16(void* place) { access(place, 16, WRITE, false); }
#define UNALIGNED(NAME, WRITE) \
  void __tsan_##NAME##2(void* place) { access(place, 2, WRITE, false); } \
  void __tsan_##NAME##4(void* place) { access(place, 4, WRITE, false); } \
  void __tsan_##NAME##8(void* place) { access(place, 8, WRITE, false); } \
  void __tsan_##NAME##16(void* place) { access(place, 16, WRITE, false); }
CALLBACKS(read, false)
CALLBACKS(write, true)
CALLBACKS(volatile_read, false)
CALLBACKS(volatile_write, true)
UNALIGNED(unaligned_read, false)
UNALIGNED(unaligned_write, true)
void __tsan_read_range(void* place, std::size_t size) { access(place, size, false, false); }
void __tsan_write_range(void* place, std::size_t size) { access(place, size, true, false); }
void __tsan_init() {}
void __tsan_func_entry(void*) {}
void __tsan_func_exit() {}

}  // extern "C"
