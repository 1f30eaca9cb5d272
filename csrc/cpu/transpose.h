// Rows of numbers to vectors across the rows and back, kLanes by kLanes at a time.
#pragma once

#include <utility>

#include "variant.h"

namespace sleeptools::SLEEPTOOLS_VARIANT {

using Ints = int32_t __attribute__((vector_size(sizeof(float) * kLanes)));

// The halves of a and b, element by element in turn.
template <int kFrom, int... kLane>
SLEEPTOOLS_INLINE Vec interleave(Vec a, Vec b, std::integer_sequence<int, kLane...>) {
#if defined(__clang__)
  return __builtin_shufflevector(a, b, (kFrom + kLane / 2 + kLane % 2 * kLanes)...);
#else  // GCC has the other one from version 12 on only
  return __builtin_shuffle(a, b, Ints{(kFrom + kLane / 2 + kLane % 2 * kLanes)...});
#endif
}

// rows[i][j] to rows[j][i]; rows i and i + kLanes / 2 come side by side each time.
SLEEPTOOLS_INLINE void transpose(Vec (&rows)[kLanes]) {
  constexpr auto kAll = std::make_integer_sequence<int, kLanes>();
  Vec next[kLanes];
#pragma GCC unroll 4
  for (int distance = 1; distance < kLanes; distance *= 2) {
#pragma GCC unroll 8
    for (int i = 0; i < kLanes / 2; ++i) {
      next[2 * i] = interleave<0>(rows[i], rows[i + kLanes / 2], kAll);
      next[2 * i + 1] = interleave<kLanes / 2>(rows[i], rows[i + kLanes / 2], kAll);
    }
#pragma GCC unroll 16
    for (int i = 0; i < kLanes; ++i) rows[i] = next[i];
  }
}

#if defined(__AVX512F__)
SLEEPTOOLS_INLINE __mmask16 first_lanes(int64_t count) {
  return static_cast<__mmask16>(count >= kLanes ? 0xffff : count > 0 ? (1 << count) - 1 : 0);
}
#endif

// The first `count` of kLanes numbers, then zeros; none where it is negative.
SLEEPTOOLS_INLINE Vec load_some(const float* p, int64_t count) {
#if defined(__AVX512F__)
  return _mm512_maskz_loadu_ps(first_lanes(count), p);
#endif
  if (count >= kLanes) return load<Vec>(p);
  float column[kLanes] = {};
  for (int64_t i = 0; i < count; ++i) column[i] = p[i];
  return load<Vec>(column);
}

SLEEPTOOLS_INLINE void store_some(float* p, Vec v, int64_t count) {
#if defined(__AVX512F__)
  return _mm512_mask_storeu_ps(p, first_lanes(count), v);
#endif
  if (count >= kLanes) return store(p, v);
  for (int64_t i = 0; i < count; ++i) p[i] = v[i];
}

// Some of (rows, columns), `stride` apart, turned: calls use(column, values) for each column, with
// the values of kLanes rows. Those of rows that are not there are zero.
template <class Use>
SLEEPTOOLS_INLINE void for_columns(const float* x, int64_t stride, int64_t rows, int64_t columns,
                                   const Use& use) {
  for (int64_t j = 0; j < columns; j += kLanes) {
    Vec block[kLanes];
#pragma GCC unroll 16
    for (int r = 0; r < kLanes; ++r) {
      block[r] = r < rows ? load_some(x + r * stride + j, columns - j) : Vec{};
    }
    transpose(block);
    const int64_t count = columns - j < kLanes ? columns - j : kLanes;
    for (int64_t i = 0; i < count; ++i) use(j + i, block[i]);
  }
}

// The other way round: lines of kLanes values, `step` apart, to columns of `rows` rows.
SLEEPTOOLS_INLINE void write_columns(const float* lines, int64_t step, int64_t rows,
                                     int64_t columns, float* out, int64_t stride) {
  for (int64_t j = 0; j < columns; j += kLanes) {
    Vec block[kLanes];
#pragma GCC unroll 16
    for (int i = 0; i < kLanes; ++i) {
      block[i] = j + i < columns ? load<Vec>(lines + (j + i) * step) : Vec{};
    }
    transpose(block);
    const int64_t count = rows < kLanes ? rows : kLanes;
    for (int64_t r = 0; r < count; ++r) store_some(out + r * stride + j, block[r], columns - j);
  }
}

}  // namespace sleeptools::SLEEPTOOLS_VARIANT
