// Activations of convolution layers, and the maximum of their pools.
#pragma once

#include "variant.h"

namespace sleeptools::SLEEPTOOLS_VARIANT {

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

// Whether the maximum may be taken first: only if the activation never falls. GELU does, below
// -0.75; the sign of the weights does not matter, they come before both.
SLEEPTOOLS_INLINE bool never_falls(int64_t activation, float slope) {
  return activation == TwoStreamConv::kRelu ||
         (activation == TwoStreamConv::kLeakyRelu && slope >= 0.0f);
}

}  // namespace sleeptools::SLEEPTOOLS_VARIANT
