// Memory of the "device", each block between margins that nobody may touch, and the shared arrays of a block.
#include <cstdlib>
#include <cstring>
#include <deque>
#include <map>
#include <mutex>

#include "runtime.h"

extern "C" {
__attribute__((weak)) void __asan_poison_memory_region(const volatile void* address, std::size_t size);
__attribute__((weak)) void __asan_unpoison_memory_region(const volatile void* address, std::size_t size);
}

namespace st {

namespace {

constexpr std::size_t kAlignment = 256;
constexpr std::size_t kMargin = 4096;
constexpr std::size_t kKeptFree = 16 << 20;  // freed memory that is not handed out again yet
constexpr std::size_t kSharedMargin = 256;
constexpr std::size_t kSharedSpace = 256 << 10;

std::mutex guard;  // blocks are made and dropped in any thread
std::map<std::uintptr_t, Allocation> allocations;
std::deque<Allocation> freed;
std::size_t freed_bytes = 0;

std::vector<SharedArray> arrays;
alignas(kAlignment) unsigned char shared_space[kSharedSpace];
std::size_t shared_end = 0, shared_used = 0;

void poison(const void* address, std::size_t size) {
  if (__asan_poison_memory_region) __asan_poison_memory_region(address, size);
}

void unpoison(const void* address, std::size_t size) {
  if (__asan_unpoison_memory_region) __asan_unpoison_memory_region(address, size);
}

void* as_pointer(std::uintptr_t address) { return reinterpret_cast<void*>(address); }

const Allocation* nearest(std::uintptr_t address) {
  if (allocations.empty()) return nullptr;
  auto after = allocations.upper_bound(address);
  const Allocation* above = after == allocations.end() ? nullptr : &after->second;
  if (after == allocations.begin()) return above;
  const Allocation* below = &std::prev(after)->second;
  if (above == nullptr || address < below->address + below->size) return below;
  return address - (below->address + below->size) < above->address - address ? below : above;
}

const Allocation* holder(std::uintptr_t address) {
  const Allocation* found = nearest(address);
  return found != nullptr && address >= found->address && address < found->address + found->size ? found : nullptr;
}

}  // namespace

const Allocation* nearest_allocation(std::uintptr_t address) {
  const std::lock_guard<std::mutex> lock(guard);
  return nearest(address);
}

const Allocation* find_allocation(std::uintptr_t address) {
  const std::lock_guard<std::mutex> lock(guard);
  return holder(address);
}

// Nothing may be written around a block; what was is mended, to be told once.
bool margins_are_whole(const Allocation& block) {
  if (__asan_poison_memory_region) return true;
  static const std::string pattern(kMargin + kAlignment, static_cast<char>(kPattern));
  const std::size_t body = (block.size + kAlignment - 1) / kAlignment * kAlignment;
  const std::size_t rest = body - block.size + kMargin;
  void* const after = as_pointer(block.address + block.size);
  if (std::memcmp(block.whole, pattern.data(), kMargin) == 0 && std::memcmp(after, pattern.data(), rest) == 0) return true;
  std::memset(block.whole, kPattern, kMargin);
  std::memset(after, kPattern, rest);
  return false;
}

void forget_shared_arrays() {
  arrays.clear();
  shared_end = shared_used = 0;
  poison(shared_space, kSharedSpace);
}

void clear_shared_arrays() {
  for (const SharedArray& array : arrays) std::memset(shared_space + array.offset, kPattern, array.size);
}

bool in_shared_memory(std::uintptr_t address) {
  const std::uintptr_t start = reinterpret_cast<std::uintptr_t>(shared_space);
  return address >= start && address < start + kSharedSpace;
}

const SharedArray* shared_array_at(std::uintptr_t address) {
  const std::size_t offset = address - reinterpret_cast<std::uintptr_t>(shared_space);
  for (const SharedArray& array : arrays)
    if (offset >= array.offset && offset < array.offset + array.size) return &array;
  return nullptr;
}

std::size_t offset_in(const SharedArray& array, std::uintptr_t address) {
  return address - reinterpret_cast<std::uintptr_t>(shared_space) - array.offset;
}

}  // namespace st

using namespace st;

extern "C" {

void* shim_shared(const void* key, const char* name, std::size_t size, std::size_t element) {
  for (const SharedArray& array : arrays)
    if (array.key == key) return shared_space + array.offset;
  shared_used += size;
  if (shared_used > kSharedLimit) fail("more than %zu bytes of shared memory", kSharedLimit);
  const std::size_t offset = (shared_end + kSharedMargin + kAlignment - 1) / kAlignment * kAlignment;
  if (offset + size + kSharedMargin > kSharedSpace) fail("too many shared arrays for the host");
  shared_end = offset + size;
  unpoison(shared_space + offset, size);
  std::memset(shared_space + offset, kPattern, size);
  arrays.push_back({key, name, offset, size, element});
  return shared_space + offset;
}

// Memory of `size` bytes, filled with a pattern; nullptr where there is none.
void* shim_allocate(std::size_t size) {
  const std::size_t body = (size + kAlignment - 1) / kAlignment * kAlignment;
  char* whole = static_cast<char*>(std::aligned_alloc(kAlignment, body + 2 * kMargin));
  if (whole == nullptr) return nullptr;
  std::memset(whole, kPattern, body + 2 * kMargin);
  poison(whole, kMargin);
  poison(whole + kMargin + size, body - size + kMargin);
  const std::uintptr_t address = reinterpret_cast<std::uintptr_t>(whole + kMargin);
  const std::lock_guard<std::mutex> lock(guard);
  allocations[address] = {address, size, whole};
  return whole + kMargin;
}

void shim_free(std::uintptr_t address) {
  const std::lock_guard<std::mutex> lock(guard);
  const auto found = allocations.find(address);
  if (found == allocations.end()) return;
  const Allocation block = found->second;
  allocations.erase(found);
  std::memset(as_pointer(block.address), kPattern, block.size);
  poison(as_pointer(block.address), block.size);
  freed.push_back(block);
  freed_bytes += block.size + 2 * kMargin;
  while (freed_bytes > kKeptFree) {
    std::free(freed.front().whole);
    freed_bytes -= freed.front().size + 2 * kMargin;
    freed.pop_front();
  }
}

// 1 if these bytes lie in one block.
int shim_holds(std::uintptr_t address, std::size_t size) {
  const std::lock_guard<std::mutex> lock(guard);
  const Allocation* found = holder(address);
  if (found == nullptr) return size == 0;
  return size <= found->address + found->size - address;
}

}  // extern "C"
