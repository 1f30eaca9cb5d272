// Squares of kLanes by kLanes numbers, turned in registers.
#pragma once

#include <utility>

#include "variant.h"

namespace sleeptools::SLEEPTOOLS_VARIANT {

// The halves of a and b, element by element in turn.
template <int kFrom, int... kLane>
SLEEPTOOLS_INLINE Vec interleave(Vec a, Vec b, std::integer_sequence<int, kLane...>) {
#if defined(__clang__)
  return __builtin_shufflevector(a, b, (kFrom + kLane / 2 + kLane % 2 * kLanes)...);
#else  // GCC has the other one from version 12 on only
  return __builtin_shuffle(a, b, Int{(kFrom + kLane / 2 + kLane % 2 * kLanes)...});
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

}  // namespace sleeptools::SLEEPTOOLS_VARIANT
