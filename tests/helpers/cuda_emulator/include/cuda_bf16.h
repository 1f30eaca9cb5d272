// bfloat16 as cvt.rn.bf16.f32 makes it: to nearest even, NaN to 0x7fff.
#pragma once

#include <cstdint>
#include <cstring>

struct __nv_bfloat16 {
  uint16_t bits = 0;

  __nv_bfloat16() = default;

  explicit __nv_bfloat16(float value) {
    uint32_t word;
    std::memcpy(&word, &value, sizeof word);
    const uint32_t odd = word >> 16 & 1u;
    bits = value != value ? 0x7fff : static_cast<uint16_t>((word + 0x7fffu + odd) >> 16);
  }

  operator float() const {
    const uint32_t word = static_cast<uint32_t>(bits) << 16;
    float value;
    std::memcpy(&value, &word, sizeof value);
    return value;
  }
};

struct __nv_bfloat162 {
  __nv_bfloat16 x, y;
};

inline __nv_bfloat162 __floats2bfloat162_rn(float x, float y) {
  return {__nv_bfloat16(x), __nv_bfloat16(y)};
}
