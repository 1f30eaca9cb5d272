// What a convolution block does after its convolution, and its gradient has to follow: BatchNorm,
// activation, pool and dropout of kLanes neighbouring maps.
#pragma once

#ifdef _OPENMP
#include <omp.h>
#endif

#include "activations.h"
#include "dropout.h"
#include "strided_rows.h"

namespace sleeptools::SLEEPTOOLS_VARIANT {

// Reads the first `count` lanes; the others are zero.
SLEEPTOOLS_INLINE Vec load_some(const float* p, int64_t count) {
  if (count >= kLanes) return load<Vec>(p);
  float all[kLanes] = {};
  for (int64_t i = 0; i < count; ++i) all[i] = p[i];
  return load<Vec>(all);
}

// BatchNorm of the maps from `map` on, `count` of them: y becomes (y - mean) * scale + beta, with
// scale = gamma * inverse.
struct Norm {
  Vec mean, inverse, scale, beta;

  Norm(const ConvBlock& op, int64_t map, int64_t count) {
    mean = load_some(op.mean + map, count);
    beta = load_some(op.beta + map, count);
    const Vec variance = load_some(op.variance + map, count) + op.eps;
    for (int i = 0; i < kLanes; ++i) inverse[i] = 1.0f / __builtin_sqrtf(variance[i]);
    scale = load_some(op.gamma + map, count) * inverse;
  }

  Vec operator()(Vec y) const { return (y - mean) * scale + beta; }
};

// One epoch with zeros before and after, (samples + 2 pad, inputs).
SLEEPTOOLS_INLINE void pad_epoch(const ConvBlock& op, int64_t epoch, float* out) {
  const int64_t pad = op.layer->pad * op.layer->inputs, size = op.samples * op.layer->inputs;
  __builtin_memset(out, 0, pad * sizeof(float));
  __builtin_memcpy(out + pad, op.x + epoch * size, size * sizeof(float));
  __builtin_memset(out + pad + size, 0, pad * sizeof(float));
}

// This thread's number.
SLEEPTOOLS_INLINE int64_t thread_number() {
#ifdef _OPENMP
  return omp_get_thread_num();
#else
  return 0;
#endif
}

// From a cache line on.
SLEEPTOOLS_INLINE float* aligned(float* p) {
  return p + -(reinterpret_cast<uintptr_t>(p) / sizeof(float)) % 16;
}

}  // namespace sleeptools::SLEEPTOOLS_VARIANT
