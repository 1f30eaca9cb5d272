#include "emulator.h"

#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cstdarg>
#include <cstdio>
#include <cstdlib>
#include <map>
#include <numeric>
#include <random>
#include <string>
#include <utility>
#include <vector>

#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/common_interface_defs.h>
#endif

// Saves what a function has to keep, and the stack, of one fiber, and takes up another.
extern "C" void emulator_switch(void** from, void* to);
asm(R"(
.text
.hidden emulator_switch
.globl emulator_switch
.type emulator_switch, @function
emulator_switch:
  pushq %rbp; pushq %rbx; pushq %r12; pushq %r13; pushq %r14; pushq %r15
  movq %rsp, (%rdi)
  movq %rsi, %rsp
  popq %r15; popq %r14; popq %r13; popq %r12; popq %rbx; popq %rbp
  ret
.size emulator_switch, . - emulator_switch
)");

namespace emulator {
namespace {

constexpr size_t kStack = 256 * 1024;

enum class State { kReady, kAtBarrier, kAtWarpBarrier, kShuffles, kGives, kReturned };
enum Order { kForwards, kBackwards, kRandom };

struct Fiber {
  void* stack_pointer;
  State state;
  uint3 index;
  int number;
  Clock clock;
  unsigned mask;            // of the warp's barrier or shuffle that it waits at
  int line;                 // where that is
  uint32_t value;           // that it gives to the others
  bool turn;                // which of two places the next words for `gather` have
  const char* instruction;  // for which it gives them
  void* sanitizer;
};

std::vector<Fiber> fibers(kMaxThreads);
char* stacks = nullptr;
Fiber* current = nullptr;
void* host_stack_pointer = nullptr;
#if defined(__SANITIZE_ADDRESS__)
const void* host_stack = nullptr;
size_t host_stack_size = 0;
void* host_sanitizer = nullptr;
#endif

std::vector<Launch> queue;
const Launch* running = nullptr;
uint3 block;
uint32_t launches = 0, block_number = 0;
std::vector<uint32_t> warp_barriers(kMaxThreads / kWarp);
Given given[kMaxThreads / kWarp][2];
std::map<const void*, size_t> most_dynamic;  // by kernel
std::vector<std::pair<const void*, void*>> shared_arrays;
size_t static_shared = 0;  // bytes
void* dynamic_array = nullptr;

Order order = kForwards;
std::mt19937 random_numbers;
cudaError_t last_error = cudaSuccess, every_error = cudaSuccess, image_error = cudaSuccess;
std::string fault_text, launch_log;
bool broken = false;  // the running launch

char* stack_of(const Fiber& fiber) { return stacks + fiber.number * kStack; }

void make_stacks() {
  if (stacks) return;
  const int flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE;
  void* memory = mmap(nullptr, kMaxThreads * kStack, PROT_READ | PROT_WRITE, flags, -1, 0);
  if (memory == MAP_FAILED) std::abort();
  stacks = static_cast<char*>(memory);
}

// --- fibers
// ---------------------------------------------------------------------------------------

void leave() {
  Fiber* const here = current;
#if defined(__SANITIZE_ADDRESS__)
  const bool ends = here->state == State::kReturned;
  __sanitizer_start_switch_fiber(ends ? nullptr : &here->sanitizer, host_stack, host_stack_size);
#endif
  emulator_switch(&here->stack_pointer, host_stack_pointer);
#if defined(__SANITIZE_ADDRESS__)
  __sanitizer_finish_switch_fiber(here->sanitizer, &host_stack, &host_stack_size);
#endif
}

void begin() {
#if defined(__SANITIZE_ADDRESS__)
  __sanitizer_finish_switch_fiber(nullptr, &host_stack, &host_stack_size);
#endif
  running->call(running->parameters.get());
  check_copies();
  current->state = State::kReturned;
  leave();
  std::abort();
}

void resume(Fiber* fiber) {
  current = fiber;
#if defined(__SANITIZE_ADDRESS__)
  __sanitizer_start_switch_fiber(&host_sanitizer, stack_of(*fiber), kStack);
#endif
  emulator_switch(&host_stack_pointer, fiber->stack_pointer);
#if defined(__SANITIZE_ADDRESS__)
  __sanitizer_finish_switch_fiber(host_sanitizer, nullptr, nullptr);
#endif
  current = nullptr;
}

void prepare(Fiber* fiber, int number) {
  const dim3& size = running->block;
  const unsigned n = number;
  fiber->number = number;
  fiber->index = {n % size.x, n / size.x % size.y, n / size.x / size.y};
  fiber->state = State::kReady;
  fiber->turn = false;
  fiber->clock = {launches, block_number, 0, 0, static_cast<uint16_t>(number)};
  void** top = reinterpret_cast<void**>(stack_of(*fiber) + kStack - 64);
  *--top = nullptr;  // where `begin` would return to; keeps the stack aligned
  *--top = reinterpret_cast<void*>(&begin);
  for (int i = 0; i < 6; ++i) *--top = nullptr;  // what emulator_switch takes up
  fiber->stack_pointer = top;
}

void wait(State state, unsigned mask, int line) {
  current->state = state;
  current->mask = mask;
  current->line = line;
  leave();
}

int threads() { return static_cast<int>(running->block.x * running->block.y * running->block.z); }

// --- barriers
// ------------------------------------------------------------------------------------- All of
// these run on the host's stack, where a fault is noted and the launch then ends.

void note(const std::string& text) {
  if (!broken) fault_text += std::string(running->kernel) + ": " + text + "\n";
  broken = true;
}

bool takes_part(int first, int lane) {
  const int number = first + lane;
  return number < threads() && fibers[number].state != State::kReturned;
}

// Lets those lanes of a warp go on that wait for each other, if all have come.
bool release_lanes(int first, const Fiber& fiber) {
  for (int lane = 0; lane < kWarp; ++lane) {
    if (!(fiber.mask >> lane & 1u)) continue;
    if (!takes_part(first, lane)) {
      if (fiber.state != State::kGives) continue;
      note("lane " + std::to_string(lane) + " takes no part in " + fiber.instruction + ", line " +
           std::to_string(fiber.line));
      return false;
    }
    const Fiber& other = fibers[first + lane];
    if (other.state != fiber.state || other.mask != fiber.mask) return false;
    if (other.line != fiber.line) {
      note("lanes of a warp wait at different lines, " + std::to_string(fiber.line) + " and " +
           std::to_string(other.line));
      return false;
    }
  }
  const unsigned mask = fiber.mask;
  const bool orders = fiber.state == State::kAtWarpBarrier;
  const uint32_t passed = orders ? ++warp_barriers[first / kWarp] : 0;
  for (int lane = 0; lane < kWarp; ++lane) {
    if (!(mask >> lane & 1u) || !takes_part(first, lane)) continue;
    Fiber& other = fibers[first + lane];
    if (orders) other.clock.warp_barrier = passed;
    other.state = State::kReady;
  }
  return true;
}

bool release_warps() {
  bool released = false;
  for (int i = 0; i < threads(); ++i) {
    const State state = fibers[i].state;
    if (state == State::kAtWarpBarrier || state == State::kShuffles || state == State::kGives) {
      released |= release_lanes(i / kWarp * kWarp, fibers[i]);
    }
  }
  return released;
}

// Threads that have returned count no longer (compute capability 7.0 and later).
bool release_block() {
  int line = 0;
  for (int i = 0; i < threads(); ++i) {
    const Fiber& fiber = fibers[i];
    if (fiber.state == State::kReturned) continue;
    if (fiber.state != State::kAtBarrier) return false;
    if (line && fiber.line != line) {
      note("threads wait at different barriers, lines " + std::to_string(line) + " and " +
           std::to_string(fiber.line));
      return false;
    }
    line = fiber.line;
  }
  for (int i = 0; i < threads(); ++i) {
    if (fibers[i].state == State::kReturned) continue;
    fibers[i].state = State::kReady;
    ++fibers[i].clock.barrier;
  }
  return true;
}

void sort(std::vector<uint32_t>* numbers) {
  std::iota(numbers->begin(), numbers->end(), 0);
  if (order == kBackwards) std::reverse(numbers->begin(), numbers->end());
  if (order == kRandom) std::shuffle(numbers->begin(), numbers->end(), random_numbers);
}

void run_block() {
  std::fill(warp_barriers.begin(), warp_barriers.end(), 0);
  renew_shared();
  for (int i = 0; i < threads(); ++i) prepare(&fibers[i], i);
  std::vector<uint32_t> numbers(threads());
  for (;;) {
    sort(&numbers);
    for (const uint32_t number : numbers) {
      if (fibers[number].state == State::kReady) resume(&fibers[number]);
      if (broken) return;
    }
    const bool all_returned =
        std::all_of(fibers.begin(), fibers.begin() + threads(),
                    [](const Fiber& fiber) { return fiber.state == State::kReturned; });
    if (all_returned) return;
    const bool released = release_warps();
    if (!broken && !released && !release_block()) note("threads wait for each other for ever");
    if (broken) return;
  }
}

void run(const Launch& launch) {
  running = &launch;
  broken = false;
  ++launches;
  dynamic_array = place_shared("dynamic", launch.shared);
  const dim3& grid = launch.grid;
  std::vector<uint32_t> numbers(size_t{grid.x} * grid.y * grid.z);
  sort(&numbers);
  for (const uint32_t number : numbers) {
    block_number = number;
    block = {number % grid.x, number / grid.x % grid.y, number / grid.x / grid.y};
    run_block();
    if (broken) break;
  }
  remove_shared();
  shared_arrays.clear();
  static_shared = 0;
  running = nullptr;
}

// --- launches
// -------------------------------------------------------------------------------------

bool fits(const dim3& grid, const dim3& block) {
  if (!grid.x || !grid.y || !grid.z || !block.x || !block.y || !block.z) return false;
  if (grid.x > kMaxGrid[0] || grid.y > kMaxGrid[1] || grid.z > kMaxGrid[2]) return false;
  if (block.x > kMaxThreads || block.y > kMaxThreads || block.z > kMaxDepth) return false;
  return uint64_t{block.x} * block.y * block.z <= kMaxThreads;
}

size_t most_shared(const void* function) {
  const auto limit = most_dynamic.find(function);
  return std::max(kShared, limit == most_dynamic.end() ? 0 : limit->second);
}

std::string text_of(const dim3& size) {
  return std::to_string(size.x) + "," + std::to_string(size.y) + "," + std::to_string(size.z);
}

}  // namespace

uint3 thread_index() { return current->index; }
uint3 block_index() { return block; }
dim3 block_size() { return running->block; }
dim3 grid_size() { return running->grid; }
int lane() { return current->number % kWarp; }
const Clock* clock() { return current ? &current->clock : nullptr; }

bool on_a_stack(uintptr_t address) {
  return address - reinterpret_cast<uintptr_t>(stacks) < kMaxThreads * kStack;
}

bool is_parameter(uintptr_t address) {
  const auto parameters = reinterpret_cast<uintptr_t>(running->parameters.get());
  return address - parameters < running->parameter_bytes;
}

void fault(const char* format, ...) {
  char text[512];
  va_list values;
  va_start(values, format);
  std::vsnprintf(text, sizeof text, format, values);
  va_end(values);
  const uint3 t = current->index;
  char where[128];
  std::snprintf(where, sizeof where, "thread (%u,%u,%u) of block (%u,%u,%u) ", t.x, t.y, t.z,
                block.x, block.y, block.z);
  note(where + std::string(text));
  current->state = State::kReturned;
  leave();
  std::abort();
}

void wait_for_block(int line) { wait(State::kAtBarrier, 0, line); }

void wait_for_warp(unsigned mask, int line) {
  if (!(mask >> lane() & 1u)) fault("is not in the mask of its barrier, line %d", line);
  wait(State::kAtWarpBarrier, mask, line);
}

// A shuffle does not order memory. Nobody goes on before all have read.
uint32_t exchange(unsigned mask, uint32_t value, int source, int line) {
  if (!(mask >> lane() & 1u)) fault("is not in the mask of its shuffle, line %d", line);
  current->value = value;
  wait(State::kShuffles, mask, line);
  const int first = current->number / kWarp * kWarp;
  if (!(mask >> source & 1u) || !takes_part(first, source)) {
    fault("shuffles from lane %d, which takes no part, line %d", source, line);
  }
  const uint32_t received = fibers[first + source].value;
  wait(State::kShuffles, mask, line);
  return received;
}

// Who gives words again has seen that all took part in the time before, and so have read what was
// given the time before that: two places are enough.
const Given& gather(const uint32_t* words, int count, const char* instruction, int line) {
  const int first = current->number / kWarp * kWarp;
  Given& place = given[first / kWarp][current->turn];
  current->turn = !current->turn;
  std::copy(words, words + count, place[lane()]);
  current->instruction = instruction;
  wait(State::kGives, ~0u, line);
  return place;
}

void* shared_array(const void* key, const char* name, size_t bytes) {
  for (const auto& [known, address] : shared_arrays) {
    if (known == key) return address;
  }
  static_shared += bytes;
  if (static_shared > kShared || static_shared + running->shared > most_shared(running->function)) {
    fault("needs more shared memory than it may have, for %s", name);
  }
  void* const address = place_shared(name, bytes);
  shared_arrays.emplace_back(key, address);
  return address;
}

void* dynamic_shared() { return dynamic_array; }

void check_bounds(unsigned most, unsigned) {
  const unsigned count = threads();
  if (count > most) fault("is one of %u; the kernel is bound to %u", count, most);
}

void enqueue(Launch launch) {
  launch_log += launch.kernel +
                ("\t" + text_of(launch.grid) + "\t" + text_of(launch.block) + "\t") +
                std::to_string(reinterpret_cast<uintptr_t>(launch.stream)) + "\n";
  if (!fits(launch.grid, launch.block)) {
    last_error = cudaErrorInvalidConfiguration;
  } else if (launch.shared > most_shared(launch.function)) {
    last_error = cudaErrorInvalidValue;
  } else if (image_error) {
    last_error = image_error;
  } else {
    queue.push_back(std::move(launch));
  }
}

cudaError_t allow_dynamic_shared(const void* function, int bytes) {
  if (bytes < 0 || static_cast<size_t>(bytes) > kMostShared) return cudaErrorInvalidValue;
  most_dynamic[function] = bytes;
  return cudaSuccess;
}

cudaError_t injected_error() { return every_error; }
cudaError_t injected_image_error() { return image_error; }

cudaError_t take_error() { return std::exchange(last_error, cudaSuccess); }

const char* error_text(cudaError_t error) {
  switch (error) {
    case cudaErrorInvalidValue:
      return "invalid argument";
    case cudaErrorInvalidConfiguration:
      return "invalid configuration argument";
    case cudaErrorInvalidDevice:
      return "invalid device ordinal";
    case cudaErrorInsufficientDriver:
      return "CUDA driver version is insufficient for CUDA runtime version";
    case cudaErrorInvalidDeviceFunction:
      return "invalid device function";
    case cudaErrorNoKernelImageForDevice:
      return "no kernel image is available for execution on the device";
    case cudaErrorUnsupportedPtxVersion:
      return "the provided PTX was compiled with an unsupported toolchain.";
    case cudaErrorIllegalAddress:
      return "an illegal memory access was encountered";
    default:
      return "another error";
  }
}

}  // namespace emulator

using namespace emulator;

void emulator_configure(int new_order, unsigned seed) {
  order = static_cast<Order>(new_order);
  random_numbers.seed(seed);
}

const char* emulator_synchronize() {
  make_stacks();
  fault_text.clear();
  for (const Launch& launch : std::exchange(queue, {})) {
    run(launch);
    if (broken) break;  // nothing that follows on a device with such an error
  }
  return fault_text.empty() ? nullptr : fault_text.c_str();
}

const char* emulator_launches() {
  static std::string text;
  text = std::exchange(launch_log, "");
  return text.c_str();
}

void emulator_fail(int error) { every_error = static_cast<cudaError_t>(error); }
void emulator_fail_images(int error) { image_error = static_cast<cudaError_t>(error); }
