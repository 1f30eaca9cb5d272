// Dropout: a unit is dropped where its random word is below a threshold. There are two layouts. In
// one, units are rows of a buffer and tokens are the lanes; word u % 4 of the counter
// (u / 4, token, 0, 0) decides about unit u. In the other, maps are the lanes; word t % 4 of the
// counter (map, t / 4, epoch, 0) decides about step t; `drop_lines` is for where steps are.
#pragma once

#include "philox.h"
#include "rows.h"

namespace sleeptools::SLEEPTOOLS_VARIANT {

// All ones where the word keeps its unit.
SLEEPTOOLS_INLINE Bits kept(Bits word, uint32_t drop_below) {
  return (Bits)(word >= Bits{} + drop_below);
}

// The words of 4 units from `unit` (a multiple) on, for kLanes tokens from `token` on.
SLEEPTOOLS_INLINE void draw_units(Bits (&words)[4], int64_t unit, int64_t token, uint64_t seed) {
  words[0] = Bits{} + static_cast<uint32_t>(unit / 4);
  for (int i = 0; i < kLanes; ++i) words[1][i] = static_cast<uint32_t>(token + i);
  words[2] = words[3] = Bits{};
  philox(words, seed);
}

// Sets units of the tokens from `first` on to zero: `count` units from `unit` (a multiple of 4) on,
// packed, kBlock tokens each. What is kept is left as it is, not scaled.
template <class P>
void drop(float* units, int64_t count, int64_t unit, int64_t first, uint32_t drop_below,
          uint64_t seed) {
  for (int64_t u = 0; u < count; u += 4) {
    for (int c = 0; c < kColumns; ++c) {
      Bits words[4];
      draw_units(words, unit + u, first + c * kLanes, seed);
      for (int i = 0; i < 4 && u + i < count; i += P::kValues) {
        float* target = units + (u + i) / P::kValues * kBlock + c * kLanes;
        Bits keep = kept(words[i], drop_below);
        if (P::kValues == 2) {
          keep = (keep & 0xffffu) | (kept(words[i + 1], drop_below) & 0xffff0000u);
        }
        store(target, (Vec)((Bits)load<Vec>(target) & keep));
      }
    }
  }
}

// Steps that one drawing of random words is for. Rows are gone through a few steps at a time, so
// that neighbouring maps are read soon after each other.
constexpr int64_t kDrawn = 4;

// The words of kLanes maps from `map` on, for kDrawn steps from `step` (a multiple) on.
SLEEPTOOLS_INLINE void draw(Bits (&words)[kDrawn], int64_t epoch, int64_t step, int64_t map,
                            uint64_t seed) {
  for (int i = 0; i < kLanes; ++i) words[0][i] = static_cast<uint32_t>(map + i);
  words[1] = Bits{} + static_cast<uint32_t>(step / kDrawn);
  words[2] = Bits{} + static_cast<uint32_t>(epoch);
  words[3] = Bits{};
  philox(words, seed);
}

// What is kept is to be multiplied by this.
constexpr float scale_of(uint32_t drop_below) {
  return static_cast<float>(4294967296.0 / (4294967296.0 - drop_below));
}

// A NaN stays one even where it is dropped, as in PyTorch.
SLEEPTOOLS_INLINE Vec dropped(Vec v, Bits word, uint32_t drop_below) {
  const Vec scale = Vec{} + scale_of(drop_below);
  return v * (Vec)((Bits)scale & kept(word, drop_below));
}

// The second layout where the steps are the lanes: `count` lines, a map each, of the kBlock steps
// from `first` on, of which the first `steps` are there.
SLEEPTOOLS_INLINE void drop_lines(float* lines, int64_t count, int64_t epoch, int64_t first,
                                  int64_t steps, uint32_t drop_below, uint64_t seed) {
  for (int64_t map = 0; map < count; map += kLanes) {
    for (int64_t c = 0; c < smaller(steps, kBlock); c += kLanes) {
      Vec words[kLanes];  // of a step each, then of a map
      for (int t = 0; t < kLanes; t += kDrawn) {
        Bits some[kDrawn];
        draw(some, epoch, first + c + t, map, seed);
        for (int i = 0; i < kDrawn; ++i) words[t + i] = (Vec)some[i];
      }
      transpose(words);
      for (int i = 0; i < smaller(count - map, kLanes); ++i) {
        float* const at = lines + (map + i) * kBlock + c;
        store(at, dropped(load<Vec>(at), (Bits)words[i], drop_below));
      }
    }
  }
}

}  // namespace sleeptools::SLEEPTOOLS_VARIANT
