// What a convolution block does after its convolution, and its gradient has to follow: BatchNorm,
// activation, pool and dropout of kLanes neighbouring maps.
#pragma once

#ifdef _OPENMP
#include <omp.h>
#endif

#include "activations.h"
#include "dropout.h"
#include "lanes.h"
#include "strided_rows.h"

namespace sleeptools::SLEEPTOOLS_VARIANT {

// What BatchNorm does to kLanes maps: y becomes (y - mean) * scale + beta.
struct Norm {
  static constexpr int kNumbers = 4;  // for each map; in memory (kNumbers, maps)

  Vec mean, inverse, scale, beta;  // scale = gamma * inverse

  Norm(const float* norms, int64_t maps, int64_t map) {
    mean = load<Vec>(norms + map);
    inverse = load<Vec>(norms + maps + map);
    scale = load<Vec>(norms + 2 * maps + map);
    beta = load<Vec>(norms + 3 * maps + map);
  }

  Vec operator()(Vec y) const { return (y - mean) * scale + beta; }
};

SLEEPTOOLS_INLINE void write_norm(const ConvBlock& op, float* norms, int64_t maps, int64_t map) {
  const float inverse = 1.0f / __builtin_sqrtf(op.variance[map] + op.eps);
  norms[map] = op.mean[map];
  norms[maps + map] = inverse;
  norms[2 * maps + map] = op.gamma[map] * inverse;
  norms[3 * maps + map] = op.beta[map];
}

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

}  // namespace sleeptools::SLEEPTOOLS_VARIANT
