// Runs CUDA kernels on the CPU, for tests: every thread of a block is a fiber of one thread of the
// system, blocks run one after the other, launches when the host waits for them. A fiber runs until
// it meets a barrier or a shuffle; `emulator_configure` says which goes first.
//
// Where the kernels are compiled with -fsanitize=thread, whose calls memory.cpp answers, each of
// their accesses is checked: it must lie in memory of the device, and two accesses to the same
// word, one of which writes, must be ordered by __syncthreads, __syncwarp or the order of launches.
// A fault ends the launch.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <memory>
#include <type_traits>

enum cudaError_t {
  cudaSuccess = 0,
  cudaErrorInvalidValue = 1,
  cudaErrorInvalidConfiguration = 9,
  cudaErrorInsufficientDriver = 35,
  cudaErrorCallRequiresNewerDriver = 36,
  cudaErrorDevicesUnavailable = 46,
  cudaErrorInvalidDeviceFunction = 98,
  cudaErrorNoDevice = 100,
  cudaErrorInvalidDevice = 101,
  cudaErrorNoKernelImageForDevice = 209,
  cudaErrorJitCompilerNotFound = 221,
  cudaErrorUnsupportedPtxVersion = 222,
  cudaErrorIllegalAddress = 700,
  cudaErrorSystemDriverMismatch = 803,
  cudaErrorCompatNotSupportedOnDevice = 804,
};
enum cudaFuncAttribute { cudaFuncAttributeMaxDynamicSharedMemorySize = 8 };
using cudaStream_t = struct CUstream_st*;

struct uint3 {
  unsigned x, y, z;
};

struct dim3 {
  unsigned x, y, z;
  constexpr dim3(unsigned x = 1, unsigned y = 1, unsigned z = 1) : x(x), y(y), z(z) {}
};

namespace emulator {

constexpr int kWarp = 32;
constexpr size_t kMaxParameters = 4096;                 // bytes of a launch
constexpr size_t kShared = 48 * 1024;                   // of a block that has not asked for more
constexpr size_t kMostShared = 163 * 1024;              // sm_80; sm_90 has 227 KiB
constexpr unsigned kMaxThreads = 1024, kMaxDepth = 64;  // of a block, and along its z axis
constexpr unsigned kMaxGrid[3] = {2147483647, 65535, 65535};

// --- what a kernel sees
// --------------------------------------------------------------------------- Constant, because no
// fiber changes its place.
__attribute__((const)) uint3 thread_index();
__attribute__((const)) uint3 block_index();
__attribute__((const)) dim3 block_size();
__attribute__((const)) dim3 grid_size();
__attribute__((const)) int lane();

// `line` tells one barrier from another.
void wait_for_block(int line);
void wait_for_warp(unsigned mask, int line);
uint32_t exchange(unsigned mask, uint32_t value, int source, int line);

template <class T>
T shuffle(unsigned mask, T value, int source, int line) {
  static_assert(sizeof(T) == sizeof(uint32_t));
  uint32_t word;
  std::memcpy(&word, &value, sizeof word);
  word = exchange(mask, word, source, line);
  std::memcpy(&value, &word, sizeof value);
  return value;
}

// What all lanes of the warp give to an instruction that none of them may miss: `count` words each.
// Valid until the next but one.
constexpr int kMostGiven = 10;
using Given = uint32_t[kWarp][kMostGiven];
const Given& gather(const uint32_t* words, int count, const char* instruction, int line);

// The instructions of ptx.cuh.
void multiply_m16n8k16(float* d, const uint32_t* a, const uint32_t* b, int line);
void load_matrices(uint32_t* out, int count, const void* row, bool turned, int line);
void copy_async(void* shared, const void* global, unsigned bytes);
void commit_copies();
void wait_for_copies(unsigned pending);

// A shared array of the running block; `key` is its own. Filled with NaN for every block.
void* shared_array(const void* key, const char* name, size_t bytes);
void* dynamic_shared();

template <class T>
char shared_key;

template <class T>
T& shared(const char* name) {
  return *static_cast<T*>(shared_array(&shared_key<T>, name, sizeof(T)));
}

void check_bounds(unsigned threads, unsigned blocks_per_processor = 0);

enum Kind { kRead, kWrite, kAtomic };
void access(const void* address, size_t bytes, Kind kind);
void access_from(uintptr_t address, size_t bytes, Kind kind, const void* code);

// --- what the host sees
// ---------------------------------------------------------------------------
struct Launch {
  const char* kernel;
  const void* function;
  dim3 grid, block;
  size_t shared;
  cudaStream_t stream;
  void (*call)(const void* parameters);
  std::shared_ptr<const void> parameters;
  size_t parameter_bytes;
};

void enqueue(Launch launch);
cudaError_t allow_dynamic_shared(const void* function, int bytes);
cudaError_t injected_error();        // of the device
cudaError_t injected_image_error();  // of the code for it
cudaError_t take_error();
const char* error_text(cudaError_t error);

// What `kernel<<<grid, block, shared, stream>>>(arguments)` is rewritten to.
template <class... Parameter>
class Start {
 public:
  Start(const char* name, void (*kernel)(Parameter...), dim3 grid, dim3 block, size_t shared = 0,
        cudaStream_t stream = nullptr)
      : kernel_(kernel), launch_{name,    reinterpret_cast<const void*>(kernel),
                                 grid,    block,
                                 shared,  stream,
                                 nullptr, nullptr,
                                 0} {}

  void operator()(Parameter... arguments) {
    static_assert((sizeof(Parameter) + ... + 0) <= kMaxParameters);
    const auto call = [kernel = kernel_, arguments...] { kernel(arguments...); };
    using Call = std::decay_t<decltype(call)>;
    launch_.call = [](const void* parameters) { (*static_cast<const Call*>(parameters))(); };
    launch_.parameters = std::make_shared<const Call>(call);
    launch_.parameter_bytes = sizeof call;
    enqueue(launch_);
  }

 private:
  void (*kernel_)(Parameter...);
  Launch launch_;
};

// --- between emulator.cpp and memory.cpp
// ---------------------------------------------------------- Where a running thread is, in the
// order of time.
struct Clock {
  uint32_t launch, block;
  uint32_t barrier, warp_barrier;  // of the block and of the warp that it has passed
  uint16_t thread;
};

const Clock* clock();  // of the running thread; null on the host
bool on_a_stack(uintptr_t address);
bool is_parameter(uintptr_t address);
[[noreturn]] void fault(const char* format, ...) __attribute__((format(printf, 1, 2)));

// Faults unless 16 bytes at the address, a multiple of 16, are shared memory.
void check_shared(const void* address, const char* instruction);
// Faults if the thread has copies under way.
void check_copies();

// A shared array appears, or is empty again.
void* place_shared(const char* name, size_t bytes);
void renew_shared();
void remove_shared();

}  // namespace emulator

// --- for Python, through ctypes
// -------------------------------------------------------------------
#pragma GCC visibility push(default)
extern "C" {
void emulator_configure(int order, unsigned seed);  // 0 forwards, 1 backwards, 2 at random
void emulator_allow(uintptr_t address,
                    size_t bytes);  // memory of the device, until it is forgotten
void emulator_forget();
const char* emulator_synchronize();    // runs all launches; null, or what is wrong
const char* emulator_launches();       // since the last call: kernel, grid, block, stream, in lines
void emulator_fail(int error);         // of every cudaSetDevice from now on; 0 of none
void emulator_fail_images(int error);  // likewise, where the code of a kernel is looked for
}
#pragma GCC visibility pop
