// The two precisions that a kernel of matrix products is written once over. In both, an operand is
// made of 32-bit units and a sum is float32: a unit holds one float32 or two neighbouring bfloat16,
// the first of them in the lower half.
#pragma once

#include "philox.h"

namespace sleeptools::SLEEPTOOLS_VARIANT {

struct Fp32 {
  using Unit = float;
  static constexpr int kValues = 1;  // in a unit

  SLEEPTOOLS_INLINE Vec pack(const Vec (&v)[1]) { return v[0]; }

  // Neighbouring values of two vectors, one after the other.
  SLEEPTOOLS_INLINE void write_row(float* out, const Vec (&v)[2]) {
    store(out, v[0]);
    store(out + kLanes, v[1]);
  }

  SLEEPTOOLS_INLINE Vec multiply_add(Unit w, Vec in, Vec sum) { return sum + w * in; }
};

struct Bf16 {
  using Unit = uint32_t;
  static constexpr int kValues = 2;

#if defined(__AVX512BF16__)
  SLEEPTOOLS_INLINE Vec pack(const Vec (&v)[2]) {
    alignas(64) static constexpr uint16_t kInterleave[32] = {
        0, 16, 1, 17, 2,  18, 3,  19, 4,  20, 5,  21, 6,  22, 7,  23,
        8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31};
    const __m512bh both = _mm512_cvtne2ps_pbh(v[1], v[0]);
    return (Vec)_mm512_permutexvar_epi16(_mm512_load_si512(kInterleave), (__m512i)both);
  }

  SLEEPTOOLS_INLINE void write_row(float* out, const Vec (&v)[2]) {
    store(out, (Vec)_mm512_cvtne2ps_pbh(v[1], v[0]));
  }

  SLEEPTOOLS_INLINE Vec multiply_add(Unit w, Vec in, Vec sum) {
    const __m512i both = _mm512_set1_epi32(static_cast<int>(w));
    return _mm512_dpbf16_ps(sum, (__m512bh)both, (__m512bh)in);
  }
#else
  // To the nearest, ties to even; a NaN stays one.
  SLEEPTOOLS_INLINE Bits round(Vec v) {
    const Bits bits = (Bits)v;
    const Bits rounded = bits + 0x7fff + ((bits >> 16) & 1);
    return (Bits)(v == v ? (Vec)rounded : (Vec)(bits | 0x400000));
  }

  SLEEPTOOLS_INLINE Vec pack(const Vec (&v)[2]) {
    return (Vec)((round(v[0]) >> 16) | (round(v[1]) & 0xffff0000));
  }

  SLEEPTOOLS_INLINE void write_row(float* out, const Vec (&v)[2]) {
    for (const Vec& half : v) {
      const Bits bits = round(half) >> 16;
      for (int i = 0; i < kLanes; i += 2, ++out) {
        const uint32_t pair = bits[i] | bits[i + 1] << 16;
        __builtin_memcpy(out, &pair, sizeof pair);
      }
    }
  }

  SLEEPTOOLS_INLINE float as_float(uint32_t bits) {
    float value;
    __builtin_memcpy(&value, &bits, sizeof value);
    return value;
  }

  SLEEPTOOLS_INLINE Vec multiply_add(Unit w, Vec in, Vec sum) {
    const Bits bits = (Bits)in;
    sum += as_float(w << 16) * (Vec)(bits << 16);
    return sum + as_float(w & 0xffff0000) * (Vec)(bits & 0xffff0000);
  }
#endif
};

}  // namespace sleeptools::SLEEPTOOLS_VARIANT
