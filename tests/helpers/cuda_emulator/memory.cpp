// Memory of the device: which addresses belong to it, and for each word who read and wrote it last.
// Answers what the compiler puts in front of every access with -fsanitize=thread, and of every
// index with -fsanitize=bounds, in place of the sanitizers' own libraries, which know nothing of
// warps and take one block's memory for another's.
//
// Two accesses are ordered if one thread makes both, if a launch or, within a block, __syncthreads
// lies between them, or, within a warp, __syncwarp; nothing orders two blocks of a launch. It is
// enough to keep the last writer and the readers since then: whoever is ordered behind the last is
// ordered behind all before.
#include <dlfcn.h>
#include <sys/mman.h>

#include <algorithm>
#include <cstdlib>
#include <memory>
#include <vector>

#include "emulator.h"

#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/asan_interface.h>
#else
#define ASAN_POISON_MEMORY_REGION(address, bytes)
#define ASAN_UNPOISON_MEMORY_REGION(address, bytes)
#endif

extern "C" const char __ehdr_start, _end;  // of this library, by the linker

namespace emulator {
namespace {

constexpr size_t kWord = 4;
constexpr size_t kGap = 256;  // bytes between two shared arrays
constexpr size_t kSpace = kMostShared + 64 * kGap;
constexpr int kFill = 0xff;  // makes every float, and bfloat16, a NaN

enum class Breadth : uint8_t { kNone, kThread, kWarp, kBlock, kGrid };

// One access, or several that nothing orders; the clock is that of the last.
struct Access {
  Clock clock;
  Breadth breadth;
  uint8_t bytes;  // of the word, a bit each
  bool atomic;
  bool under_way;  // a copy that nobody has waited for
  const void* code;
};

struct Word {
  Access write, read;
};

struct Region {
  uintptr_t begin, end;
  const char* name;
  std::unique_ptr<Word, decltype(&std::free)> words;

  Region(uintptr_t begin, size_t bytes, const char* name)
      : begin(begin), end(begin + bytes), name(name), words(nullptr, std::free) {
    const size_t count = bytes / kWord + 2;
    words.reset(static_cast<Word*>(std::calloc(count, sizeof(Word))));
  }
};

using Regions = std::vector<std::unique_ptr<Region>>;  // by address
Regions global_regions, shared_regions;
constexpr size_t kCached = 256;
Region* cache[kCached];  // by page

struct Copy {
  uintptr_t to;
  const void* from;
  size_t bytes;  // the rest of kCopied are zeros
  const void* code;
};
constexpr size_t kCopied = 16;
using Group = std::vector<Copy>;
std::vector<std::vector<Group>> copies(kMaxThreads);  // of each thread; the last group is open
char* space = nullptr;
size_t used = 0;

void forget_cache() { std::fill(cache, cache + kCached, nullptr); }

Region* search(const Regions& regions, uintptr_t address) {
  const auto behind = std::upper_bound(
      regions.begin(), regions.end(), address,
      [](uintptr_t a, const std::unique_ptr<Region>& region) { return a < region->begin; });
  if (behind == regions.begin()) return nullptr;
  Region* const region = std::prev(behind)->get();
  return address < region->end ? region : nullptr;
}

Region* region_of(uintptr_t address, size_t bytes) {
  Region*& cached = cache[address >> 12 & (kCached - 1)];
  if (cached && cached->begin <= address && address + bytes <= cached->end) return cached;
  Region* region = search(shared_regions, address);
  if (!region) region = search(global_regions, address);
  if (!region || address + bytes > region->end) return nullptr;
  return cached = region;
}

int warp(const Clock& clock) { return clock.thread / kWarp; }

// Whether the access lies before everything that the thread at `now` does.
bool before(const Access& access, const Clock& now) {
  const Clock& then = access.clock;
  if (access.breadth == Breadth::kNone || then.launch != now.launch) return true;
  if (access.breadth == Breadth::kGrid || then.block != now.block) return false;
  if (then.barrier < now.barrier) return true;
  if (access.breadth == Breadth::kThread && then.thread == now.thread) return true;
  return access.breadth <= Breadth::kWarp && warp(then) == warp(now) &&
         then.warp_barrier < now.warp_barrier;
}

// Adds the access `latest` to others of its kind.
void join(Access* access, const Access& latest) {
  const Access old = *access;
  *access = latest;
  if (before(old, latest.clock)) return;
  access->bytes |= old.bytes;
  if (old.breadth == Breadth::kGrid || old.clock.block != latest.clock.block) {
    access->breadth = Breadth::kGrid;
  } else if (old.breadth == Breadth::kBlock || warp(old.clock) != warp(latest.clock)) {
    access->breadth = Breadth::kBlock;
  } else {
    access->breadth = Breadth::kWarp;
  }
}

const char* verb(const Access& access, bool writes) {
  return access.atomic ? "adds to" : writes ? "writes" : "reads";
}

int offset(const void* code) { return static_cast<const char*>(code) - &__ehdr_start; }

void check(const Access& old, bool old_writes, const Access& now, bool writes, const char* name,
           size_t place) {
  if (old.under_way && old.bytes & now.bytes) {
    fault(
        "%s byte %zu of %s at +0x%x, to which thread %u copies at +0x%x and has not waited for it",
        verb(now, writes), place, name, offset(now.code), old.clock.thread, offset(old.code));
  }
  if (before(old, now.clock) || !(old.bytes & now.bytes) || (old.atomic && now.atomic)) return;
  fault("%s byte %zu of %s at +0x%x, which thread %u of block %u %s at +0x%x without order",
        verb(now, writes), place, name, offset(now.code), old.clock.thread, old.clock.block,
        verb(old, old_writes), offset(old.code));
}

// Parameters of the launch, and constants of this library, such as tables.
bool is_constant(uintptr_t address) {
  const auto begin = reinterpret_cast<uintptr_t>(&__ehdr_start);
  return is_parameter(address) || address - begin < reinterpret_cast<uintptr_t>(&_end) - begin;
}

void insert(Regions* regions, std::unique_ptr<Region> region) {
  const auto behind =
      std::upper_bound(regions->begin(), regions->end(), region,
                       [](const auto& a, const auto& b) { return a->begin < b->begin; });
  regions->insert(behind, std::move(region));
  forget_cache();
}

// The words of a copy; what they hold is written by the thread that runs.
void mark(const Copy& copy, bool under_way) {
  Region* const region = region_of(copy.to, kCopied);
  const Access latest = {*clock(), Breadth::kThread, 0xf, false, under_way, copy.code};
  for (size_t i = 0; i < kCopied / kWord; ++i) {
    region->words.get()[(copy.to - region->begin) / kWord + i].write = latest;
  }
}

}  // namespace

void access_from(uintptr_t address, size_t bytes, Kind kind, const void* code) {
  const Clock* now = clock();
  if (!now || on_a_stack(address)) return;
  Region* const region = region_of(address, bytes);
  if (!region) {
    if (kind == kRead && is_constant(address)) return;
    fault("%s %zu bytes at +0x%x that are no memory of the device",
          kind == kRead ? "reads" : "writes", bytes, offset(code));
  }
  const size_t first = address - region->begin, last = first + bytes - 1;
  for (size_t i = first / kWord; i <= last / kWord; ++i) {
    const size_t from = std::max(first, i * kWord), to = std::min(last, i * kWord + kWord - 1);
    const unsigned mask = ((2u << (to - from)) - 1) << from % kWord;
    Access latest = {*now, Breadth::kThread, static_cast<uint8_t>(mask), kind == kAtomic, false,
                     code};
    Word& word = region->words.get()[i];
    check(word.write, true, latest, kind != kRead, region->name, from);
    if (kind == kRead) {
      join(&word.read, latest);
      continue;
    }
    check(word.read, false, latest, true, region->name, from);
    if (kind == kAtomic) {
      join(&word.write, latest);
    } else {
      word.write = latest;
    }
  }
}

void access(const void* address, size_t bytes, Kind kind) {
  access_from(reinterpret_cast<uintptr_t>(address), bytes, kind, __builtin_return_address(0));
}

void check_shared(const void* address, const char* instruction) {
  const auto place = reinterpret_cast<uintptr_t>(address);
  if (place % kCopied) fault("%s: an address that is no multiple of 16", instruction);
  const Region* const region = search(shared_regions, place);
  if (!region || place + kCopied > region->end) {
    fault("%s: 16 bytes that are no shared memory", instruction);
  }
}

// The numbers arrive when the thread waits for them, as late as they may.
void copy_async(void* shared, const void* global, unsigned bytes) {
  const void* const code = __builtin_return_address(0);
  check_shared(shared, "cp.async");
  if (bytes > kCopied) fault("cp.async: reads %u bytes of 16", bytes);
  const auto from = reinterpret_cast<uintptr_t>(global);
  if (from % kCopied) fault("cp.async: an address that is no multiple of 16");
  if (bytes > 0) {
    if (search(shared_regions, from)) fault("cp.async: copies from shared memory");
    access_from(from, bytes, kRead, code);
  }
  const Copy copy = {reinterpret_cast<uintptr_t>(shared), global, bytes, code};
  access_from(copy.to, kCopied, kWrite, code);
  mark(copy, true);
  auto& groups = copies[clock()->thread];
  if (groups.empty()) groups.emplace_back();
  groups.back().push_back(copy);
}

void commit_copies() {
  auto& groups = copies[clock()->thread];
  if (groups.empty()) groups.emplace_back();
  groups.emplace_back();
}

void wait_for_copies(unsigned pending) {
  auto& groups = copies[clock()->thread];
  while (groups.size() > pending + 1) {
    for (const Copy& copy : groups.front()) {
      char* const to = reinterpret_cast<char*>(copy.to);
      std::memcpy(to, copy.from, copy.bytes);
      std::memset(to + copy.bytes, 0, kCopied - copy.bytes);
      mark(copy, false);
    }
    groups.erase(groups.begin());
  }
}

void check_copies() {
  for (const Group& group : copies[clock()->thread]) {
    if (!group.empty()) {
      fault("returns with a copy under way, begun at +0x%x", offset(group[0].code));
    }
  }
}

// Between two arrays, and after the last, is memory that belongs to nobody.
void* place_shared(const char* name, size_t bytes) {
  if (!space) {
    const int flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE;
    void* const memory = mmap(nullptr, kSpace, PROT_READ | PROT_WRITE, flags, -1, 0);
    if (memory == MAP_FAILED) std::abort();
    space = static_cast<char*>(memory);
    ASAN_POISON_MEMORY_REGION(space, kSpace);
  }
  char* const start = space + used;
  used += (bytes + kGap - 1) / kGap * kGap + kGap;
  if (used > kSpace) std::abort();  // more arrays than gaps
  ASAN_UNPOISON_MEMORY_REGION(start, bytes);
  std::memset(start, kFill, bytes);
  insert(&shared_regions,
         std::make_unique<Region>(reinterpret_cast<uintptr_t>(start), bytes, name));
  return start;
}

void renew_shared() {
  for (auto& groups : copies) groups.clear();
  for (const auto& region : shared_regions) {
    const size_t bytes = region->end - region->begin;
    std::memset(reinterpret_cast<void*>(region->begin), kFill, bytes);
    std::memset(static_cast<void*>(region->words.get()), 0, (bytes / kWord + 2) * sizeof(Word));
  }
}

void remove_shared() {
  if (space) ASAN_POISON_MEMORY_REGION(space, kSpace);
  shared_regions.clear();
  used = 0;
  forget_cache();
}

}  // namespace emulator

using namespace emulator;

void emulator_allow(uintptr_t address, size_t bytes) {
  insert(&global_regions, std::make_unique<Region>(address, bytes, "global memory"));
}

void emulator_forget() {
  global_regions.clear();
  forget_cache();
}

#if !defined(__SANITIZE_ADDRESS__)
#define EMULATOR_ACCESS(name, bytes, kind)                                                       \
  void name(void* address) {                                                                     \
    access_from(reinterpret_cast<uintptr_t>(address), bytes, kind, __builtin_return_address(0)); \
  }
#define EMULATOR_ACCESSES(bytes)                                \
  EMULATOR_ACCESS(__tsan_read##bytes, bytes, kRead)             \
  EMULATOR_ACCESS(__tsan_write##bytes, bytes, kWrite)           \
  EMULATOR_ACCESS(__tsan_unaligned_read##bytes, bytes, kRead)   \
  EMULATOR_ACCESS(__tsan_unaligned_write##bytes, bytes, kWrite) \
  EMULATOR_ACCESS(__tsan_volatile_read##bytes, bytes, kRead)    \
  EMULATOR_ACCESS(__tsan_volatile_write##bytes, bytes, kWrite)

extern "C" {
EMULATOR_ACCESSES(1)
EMULATOR_ACCESSES(2)
EMULATOR_ACCESSES(4)
EMULATOR_ACCESSES(8)
EMULATOR_ACCESSES(16)
void __tsan_read_range(void* address, size_t bytes) {
  access_from(reinterpret_cast<uintptr_t>(address), bytes, kRead, __builtin_return_address(0));
}
void __tsan_write_range(void* address, size_t bytes) {
  access_from(reinterpret_cast<uintptr_t>(address), bytes, kWrite, __builtin_return_address(0));
}
// of -fsanitize=bounds; sees the arrays of a thread, too
void __ubsan_handle_out_of_bounds(void*, uintptr_t index) {
  if (emulator::clock()) {
    fault("takes element %td of a shorter array at +0x%x", static_cast<intptr_t>(index),
          offset(__builtin_return_address(0)));
  }
}
void __tsan_init() {}
void __tsan_func_entry(void*) {}
void __tsan_func_exit() {}
void __tsan_vptr_update(void**, void*) {}
// the host's counts of who refers to something
int __tsan_atomic32_fetch_add(volatile int* count, int value, int) {
  return __atomic_fetch_add(count, value, __ATOMIC_SEQ_CST);
}
}
#endif
