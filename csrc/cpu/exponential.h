// exp(x) for x <= 0 in every lane: x = n log 2 + r, and a polynomial in r (Cody and Waite's
// reduction). Relative error below 2e-7; below -87 the result is that of -87, about 1.6e-38, and a
// NaN stays one.
#pragma once

#include "variant.h"

namespace sleeptools::SLEEPTOOLS_VARIANT {

SLEEPTOOLS_INLINE Vec exponential(Vec x) {
  x = x < -87.0f ? Vec{} - 87.0f : x;
  constexpr float kRound = 12582912.0f;  // 1.5 * 2^23: adding it leaves a whole number
  const Vec shifted = x * 1.44269504f + kRound;
  const Vec n = shifted - kRound;
  const Vec r = x - n * 0.693359375f + n * 2.12194440e-4f;
  Vec p = r * (1.0f / 5040) + 1.0f / 720;  // of Taylor's series: |r| <= 0.35
  p = p * r + 1.0f / 120;
  p = p * r + 1.0f / 24;
  p = p * r + 1.0f / 6;
  p = p * r + 0.5f;
  p = p * r + 1.0f;
  p = p * r + 1.0f;
  return p * (Vec)(((Bits)shifted + 127) << 23);  // 2^n: the bits of `shifted` end in those of n
}

}  // namespace sleeptools::SLEEPTOOLS_VARIANT
