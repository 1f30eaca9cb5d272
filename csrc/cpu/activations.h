// Activations of convolution layers, and the windows of their pools.
#pragma once

#include "variant.h"

namespace sleeptools::SLEEPTOOLS_VARIANT {

using Int = int32_t __attribute__((vector_size(sizeof(float) * kLanes)));

// As PyTorch's: a NaN wins.
SLEEPTOOLS_INLINE Vec maximum(Vec a, Vec b) { return (b > a) | (b != b) ? b : a; }

// A rational approximation, |error| < 4e-7; NaN stays.
SLEEPTOOLS_INLINE Vec error_function(Vec x) {
  x = x > 4.0f ? Vec{} + 4.0f : x;
  x = x < -4.0f ? Vec{} - 4.0f : x;
  const Vec s = x * x;
  Vec p = s * -2.72614225801306e-10f + 2.77068142495902e-08f;
  p = p * s + -2.10102402082508e-06f;
  p = p * s + -5.69250639462346e-05f;
  p = p * s + -7.34990630326855e-04f;
  p = p * s + -2.95459980854025e-03f;
  p = p * s + -1.60960333262415e-02f;
  Vec q = s * -1.45660718464996e-05f + -2.13374055278905e-04f;
  q = q * s + -1.68282697438203e-03f;
  q = q * s + -7.37332916720468e-03f;
  q = q * s + -1.42647390514189e-02f;
  return x * p / q;
}

SLEEPTOOLS_INLINE Vec activate(int64_t activation, float slope, Vec v) {
  switch (activation) {
    case TwoStreamConv::kRelu:
      return relu(v);
    case TwoStreamConv::kGelu:
      return 0.5f * v * (1.0f + error_function(v * 0.70710678f));
    default:
      return v > 0.0f ? v : v * slope;
  }
}

// exp(x) for x <= 0, relative error < 2e-7 down to -87, 0 below; NaN stays. The power of two comes
// out of the lowest bits of a sum with 1.5 * 2^23; the rest, at most ln(2) / 2, is a short Taylor
// series.
SLEEPTOOLS_INLINE Vec exponential(Vec x) {
  const Vec shifted = x * 1.44269504f + 12582912.0f;
  const Vec whole = shifted - 12582912.0f;
  const Vec rest = x - whole * 0.693359375f - whole * -2.12194440e-4f;
  Vec p = rest * 1.98412698e-4f + 1.38888889e-3f;
  p = p * rest + 8.33333333e-3f;
  p = p * rest + 4.16666667e-2f;
  p = p * rest + 1.66666667e-1f;
  p = p * rest + 0.5f;
  p = p * rest * rest + rest + 1.0f;
  const Vec power = (Vec)(((Int)shifted << 23) + (127 << 23));
  return x < -87.0f ? Vec{} : p * power;
}

// 1 / (1 + exp(-x)); NaN stays.
SLEEPTOOLS_INLINE Vec sigmoid(Vec x) {
  const Vec e = exponential(x < 0.0f ? x : -x), share = 1.0f / (1.0f + e);
  return x < 0.0f ? e * share : share;
}

// Error < 2e-7; NaN stays.
SLEEPTOOLS_INLINE Vec hyperbolic_tangent(Vec x) {
  const Vec e = exponential(2.0f * (x < 0.0f ? x : -x)), size = (1.0f - e) / (1.0f + e);
  return x < 0.0f ? -size : size;
}

// Derivative of `activate`; a NaN may become anything, the caller's gradient is NaN already.
SLEEPTOOLS_INLINE Vec slope_at(int64_t activation, float slope, Vec v) {
  const Vec one = Vec{} + 1.0f;
  switch (activation) {
    case TwoStreamConv::kRelu:
      return v > 0.0f ? one : Vec{};
    case TwoStreamConv::kGelu:
      return 0.5f * (1.0f + error_function(v * 0.70710678f)) +
             v * 0.398942280f * exponential(-0.5f * v * v);
    default:
      return v > 0.0f ? one : Vec{} + slope;
  }
}

// Whether the maximum may be taken first: only if the activation never falls. GELU does, below
// -0.75; the sign of the weights does not matter, they come before both.
SLEEPTOOLS_INLINE bool never_falls(int64_t activation, float slope) {
  return activation == TwoStreamConv::kRelu ||
         (activation == TwoStreamConv::kLeakyRelu && slope >= 0.0f);
}

// The steps [first, last) of a layer's convolution that window `index` of its pool sees.
struct Window {
  int64_t first, last;
};

SLEEPTOOLS_INLINE Window window(const ConvLayer& layer, int64_t index) {
  const int64_t start = index * layer.pool_stride - layer.pool_pad;
  const int64_t stop = start + layer.pool_kernel;
  return {start < 0 ? 0 : start, stop < layer.rows ? stop : layer.rows};
}

}  // namespace sleeptools::SLEEPTOOLS_VARIANT
