// What a kernel file of csrc/cpu starts from. CMake compiles each such file once per instruction
// set, with SLEEPTOOLS_VARIANT naming a namespace; this header gives it that set's vector type.
//
// A kernel file keeps everything in that namespace and calls no inline function or template of the
// standard library that outlives optimisation (std::vector, std::function): the linker keeps one
// copy of such a function for all variants, and it may be the one that needs AVX-512.
#pragma once

#include <cstdint>

#include "../ops.h"
#ifdef _OPENMP
#include <omp.h>
#endif
#if defined(__x86_64__)
#include <immintrin.h>
#endif

#ifndef SLEEPTOOLS_VARIANT
#error "CMakeLists.txt compiles the files of csrc/cpu with SLEEPTOOLS_VARIANT defined"
#endif
#define SLEEPTOOLS_INLINE static inline __attribute__((always_inline))

namespace sleeptools::SLEEPTOOLS_VARIANT {

#if defined(__AVX512F__)
constexpr int kLanes = 16;
#elif defined(__AVX2__)
constexpr int kLanes = 8;
#else
constexpr int kLanes = 4;
#endif

// Arithmetic operators work on it, and a * b + c becomes one FMA where the set has it.
using Vec = float __attribute__((vector_size(sizeof(float) * kLanes)));
using Bits = uint32_t __attribute__((vector_size(sizeof(float) * kLanes)));

// Each helper takes V = Vec for the bulk and V = float for the tail, so that a kernel is written
// once for both.
template <class V>
SLEEPTOOLS_INLINE V load(const float* p) {
  V v;
  __builtin_memcpy(&v, p, sizeof v);  // tensors are aligned to 4 bytes only
  return v;
}

template <class V>
SLEEPTOOLS_INLINE void store(float* p, V v) {
  __builtin_memcpy(p, &v, sizeof v);
}

// This thread's number in its team.
SLEEPTOOLS_INLINE int64_t thread_number() {
#ifdef _OPENMP
  return omp_get_thread_num();
#else
  return 0;
#endif
}

// From a cache line on.
SLEEPTOOLS_INLINE float* aligned(float* start) {
  return start + -(reinterpret_cast<uintptr_t>(start) / sizeof(float)) % 16;
}

// Keeps NaN as PyTorch does: the x86 maximum returns its second operand when either is NaN.
SLEEPTOOLS_INLINE float relu(float v) { return 0.0f > v ? 0.0f : v; }

SLEEPTOOLS_INLINE Vec relu(Vec v) {
#if defined(__AVX512F__)
  return _mm512_max_ps(_mm512_setzero_ps(), v);
#elif defined(__AVX2__)
  return _mm256_max_ps(_mm256_setzero_ps(), v);
#elif defined(__x86_64__)
  return _mm_max_ps(_mm_setzero_ps(), v);
#else
  return Vec{} > v ? Vec{} : v;
#endif
}

SLEEPTOOLS_INLINE float sum(Vec v) {
  float total = 0.0f;
  for (int lane = 0; lane < kLanes; ++lane) total += v[lane];
  return total;
}

}  // namespace sleeptools::SLEEPTOOLS_VARIANT
