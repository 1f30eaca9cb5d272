// CUDA's language and runtime as far as csrc/cuda uses them, for a C++ compiler; emulator.h runs
// it. What is not here is not emulated: the compiler says so.
#pragma once

#include <cmath>
#include <cstring>
#include <string>
#include <type_traits>

#include "emulator.h"

#define __global__
#define __device__
#define __host__
#define __forceinline__ inline
#define __launch_bounds__(...)  // rewrite.py has the kernel itself compare

#define threadIdx (emulator::thread_index())
#define blockIdx (emulator::block_index())
#define blockDim (emulator::block_size())
#define gridDim (emulator::grid_size())

// --- barriers and shuffles
// ------------------------------------------------------------------------
inline void __syncthreads(int line = __builtin_LINE()) { emulator::wait_for_block(line); }

inline void __syncwarp(unsigned mask = 0xffffffffu, int line = __builtin_LINE()) {
  emulator::wait_for_warp(mask, line);
}

// The value of lane `source` of the caller's section of `width` lanes.
template <class T>
T __shfl_sync(unsigned mask, T value, int source, int width = 32, int line = __builtin_LINE()) {
  const int first = emulator::lane() / width * width;
  return emulator::shuffle(mask, value, first + (source & (width - 1)), line);
}

template <class T>
T __shfl_down_sync(unsigned mask, T value, unsigned by, int width = 32,
                   int line = __builtin_LINE()) {
  const int from = emulator::lane() % width + static_cast<int>(by);
  return emulator::shuffle(mask, value, emulator::lane() + (from < width ? by : 0), line);
}

template <class T>
T __shfl_up_sync(unsigned mask, T value, unsigned by, int width = 32, int line = __builtin_LINE()) {
  const int from = emulator::lane() % width - static_cast<int>(by);
  return emulator::shuffle(mask, value, emulator::lane() - (from >= 0 ? by : 0), line);
}

template <class T>
T __shfl_xor_sync(unsigned mask, T value, int by, int width = 32, int line = __builtin_LINE()) {
  const int from = emulator::lane() ^ by, first = emulator::lane() / width * width;
  return emulator::shuffle(mask, value, from < first + width ? from : emulator::lane(), line);
}

// --- atomics
// -------------------------------------------------------------------------------------- Fibers
// change at barriers only, so that any read and write in between is whole.
template <class T>
__attribute__((no_sanitize("thread"))) T atomicAdd(T* address, std::common_type_t<T> value) {
  emulator::access(address, sizeof(T), emulator::kAtomic);
  const T before = *address;
  *address = before + value;
  return before;
}

template <class T>
__attribute__((no_sanitize("thread"))) T atomicMax(T* address, std::common_type_t<T> value) {
  emulator::access(address, sizeof(T), emulator::kAtomic);
  const T before = *address;
  *address = before < value ? value : before;
  return before;
}

// --- arithmetic
// -----------------------------------------------------------------------------------
inline uint32_t __umulhi(uint32_t a, uint32_t b) {
  return static_cast<uint32_t>(static_cast<uint64_t>(a) * b >> 32);
}

#define rsqrtf(value) (1.0f / std::sqrt(value))  // newer C libraries have a function of this name

template <class T>
constexpr T min(T a, T b) {
  return b < a ? b : a;
}

template <class T>
constexpr T max(T a, T b) {
  return a < b ? b : a;
}

// --- the runtime
// ----------------------------------------------------------------------------------
struct cudaDeviceProp {
  char name[256];
};

inline cudaError_t cudaSetDevice(int device) {
  if (const cudaError_t error = emulator::injected_error()) return error;
  return device == 0 ? cudaSuccess : cudaErrorInvalidDevice;
}

inline cudaError_t cudaGetDeviceCount(int* count) {
  if (const cudaError_t error = emulator::injected_error()) return error;
  *count = 1;
  return cudaSuccess;
}

inline cudaError_t cudaGetDeviceProperties(cudaDeviceProp* properties, int) {
  std::strcpy(properties->name, "emulated");
  return cudaSuccess;
}

inline const char* cudaGetErrorString(cudaError_t error) { return emulator::error_text(error); }

inline cudaError_t cudaGetLastError() { return emulator::take_error(); }

struct cudaFuncAttributes {};

template <class Kernel>
cudaError_t cudaFuncGetAttributes(cudaFuncAttributes*, Kernel*) {
  return emulator::injected_image_error();
}

template <class Kernel>
cudaError_t cudaFuncSetAttribute(Kernel* kernel, cudaFuncAttribute, int bytes) {
  return emulator::allow_dynamic_shared(reinterpret_cast<const void*>(kernel), bytes);
}
