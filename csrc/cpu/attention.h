// What attention and its gradients share: the queries, keys and values of an epoch, and the softmax
// of some queries' scores.
//
// Tokens lie in the vector lanes throughout (rows.h). Queries, keys and values are lines of tokens,
// one line a feature; the scores of a block of queries are lines of queries, one line a key, so
// that a softmax runs down the lines and its result is the input of the product with the values.
#pragma once

#include "dropout.h"
#include "rows.h"

namespace sleeptools::SLEEPTOOLS_VARIANT {

static_assert(kBlock <= Attention::kMaxBlock);

// Scores are in powers of two: the queries have the factor.
constexpr float kLog2E = 1.44269504f, kLog2 = 0.693147181f;

// Scores that need no maximum taken off before their power: far from what a float32 holds.
constexpr float kSmallScore = 30.0f;

// 2^x for -126 <= x < 127, relative error below 2e-7; a NaN stays one. Adding 1.5 * 2^23 leaves the
// whole part in the lowest bits, of which an exponent is made; a minimax polynomial is for the
// rest.
SLEEPTOOLS_INLINE Vec power_of_two(Vec x) {
  constexpr float kRound = 12582912.0f;
  const Vec shifted = x + kRound, rest = x - (shifted - kRound);
  Vec p = rest * 1.53458124e-4f + 1.33999309e-3f;
  p = p * rest + 9.61848907e-3f;
  p = p * rest + 5.55032864e-2f;
  p = p * rest + 0.240226462f;
  p = p * rest + 0.693147182f;
  p = p * rest + 1.0f;
  return p * (Vec)(((Bits)shifted + 127) << 23);
}

// An epoch's buffers; `line` is the length of a line of tokens.
struct Projected {
  float *qkv, *keys;    // (3 width, line), (line, width): the keys again, by rows
  float *in, *scratch;  // of a block: (width, kBlock)
  float* longest;       // (heads): square of a key's length, at most
  int64_t line;
};

// A product that says what to do with its sums, M of the rows of w by kBlock lanes.
template <class Use>
struct Sum {
  template <int M>
  static void run(const float* w, int64_t stride, const float* in, int64_t step, int64_t units,
                  int64_t first, const Use* use) {
    Sums<M> sums = {};
    multiply<Fp32, M>(w, stride, in, step, units, sums);
    (*use)(first, sums);
  }
};

// Calls use(first row of w, sums) for a tile of sums after the other.
template <class Use>
SLEEPTOOLS_INLINE void for_tiles(int64_t outputs, const float* w, int64_t stride, const float* in,
                                 int64_t step, int64_t units, const Use& use) {
  for (int64_t o = 0; o < outputs; o += kTile) {
    tile<Sum<Use>>(outputs - o, w + o * stride, stride, in, step, units, o, &use);
  }
}

// Calls use(row of w, vector of lanes, sum) for each of them.
template <class Use>
SLEEPTOOLS_INLINE void for_sums(int64_t outputs, const float* w, int64_t stride, const float* in,
                                int64_t step, int64_t units, const Use& use) {
  for_tiles(outputs, w, stride, in, step, units,
            [&use](int64_t first, auto& sums) __attribute__((always_inline)) {
#pragma GCC unroll 16
              for (const auto& row : sums) {
#pragma GCC unroll 2
                for (int c = 0; c < kColumns; ++c) use(first, c, row[c]);
                ++first;
              }
            });
}

// Lines of tokens to rows.
SLEEPTOOLS_INLINE void turn_lines(const float* lines, int64_t line, int64_t tokens, int64_t width,
                                  float* rows, int64_t stride) {
  for (int64_t t = 0; t < tokens; t += kLanes) {
    write_columns(lines + t, line, tokens - t, width, rows + t * stride, stride);
  }
}

template <class P>
void project(const Attention& op, const float* x, const Projected& to) {
  const int64_t width = op.width, size = width / op.heads;
  int64_t first = 0;
  for (; first < op.tokens; first += kBlock) {
    const int64_t rows = smaller(op.tokens - first, kBlock);
    read_rows<P>(x + first * width, width, rows, width, to.scratch, to.in);
    const int64_t units = units_of<P>(width);
    affine<P>(3 * width, op.w_in, units, op.b_in, to.in, kBlock, units, to.qkv + first, to.line);
  }
  const float* k = to.qkv + width * to.line;
  turn_lines(k, to.line, op.tokens, width, to.keys, width);
  for (int64_t head = 0; head < op.heads; ++head, k += size * to.line) {
    Vec most = {};
    for (int64_t t = 0; t < first; t += kLanes) {
      Vec square = {};
      for (int64_t i = 0; i < size; ++i) {
        const Vec key = load<Vec>(k + i * to.line + t);
        square += key * key;
      }
      most = square > most ? square : most;
    }
    float longest = 0.0f;
    for (int lane = 0; lane < kLanes; ++lane) longest = most[lane] > longest ? most[lane] : longest;
    to.longest[head] = longest;
  }
}

// Queries of a head from token `first` on, times log2(e) and over the root of a head's width,
// (size, kBlock), and whether all their scores are small.
SLEEPTOOLS_INLINE bool scale_queries(const Attention& op, const Projected& of, int64_t head,
                                     int64_t first, float* queries) {
  const int64_t size = op.width / op.heads;
  const float* const q = of.qkv + head * size * of.line + first;
  const float scale = kLog2E / __builtin_sqrtf(static_cast<float>(size));
  bool small = true;
  for (int c = 0; c < kBlock; c += kLanes) {
    Vec square = {};
    for (int64_t i = 0; i < size; ++i) {
      const Vec query = load<Vec>(q + i * of.line + c) * scale;
      store(queries + i * kBlock + c, query);
      square += query * query;
    }
    square *= of.longest[head];
    for (int lane = 0; lane < kLanes; ++lane) {
      small &= square[lane] <= kSmallScore * kSmallScore;  // not a NaN
    }
  }
  return small;
}

// 2^(score - largest) in place, and the sum of each lane.
SLEEPTOOLS_INLINE Vec powers_of_two(float* scores, int64_t keys) {
  Vec largest = load<Vec>(scores), total = {};
  for (int64_t j = 1; j < keys; ++j) {
    const Vec score = load<Vec>(scores + j * kBlock);
    largest = score > largest ? score : largest;
  }
  for (int64_t j = 0; j < keys; ++j) {
    const Vec score = load<Vec>(scores + j * kBlock) - largest;
    const Vec e = power_of_two(score < -126.0f ? Vec{} - 126.0f : score);
    store(scores + j * kBlock, e);
    total += e;
  }
  return total;
}

// The softmax of a head for the queries from token `first` on, but for its division: (tokens,
// kBlock) to `weights`, and one over the sum of each lane to `shares`.
SLEEPTOOLS_INLINE void weigh(const Attention& op, const Projected& of, int64_t head, int64_t first,
                             float* queries, float* weights, Vec (&shares)[kColumns]) {
  const int64_t size = op.width / op.heads;
  const float* const keys = of.keys + head * size;
  Vec total[kColumns] = {};
  if (scale_queries(op, of, head, first, queries)) {
    for_tiles(op.tokens, keys, op.width, queries, kBlock, size,
              [&](int64_t j, auto& sums) __attribute__((always_inline)) {
#pragma GCC unroll 2
                for (int c = 0; c < kColumns; ++c) {
                  Vec added = total[c];
                  float* out = weights + j * kBlock + c * kLanes;
#pragma GCC unroll 16
                  for (const auto& row : sums) {
                    const Vec e = power_of_two(row[c]);
                    store(out, e);
                    added += e;
                    out += kBlock;
                  }
                  total[c] = added;
                }
              });
  } else {
    affine<Fp32>(op.tokens, keys, op.width, nullptr, queries, kBlock, size, weights, kBlock);
    for (int c = 0; c < kColumns; ++c) total[c] = powers_of_two(weights + c * kLanes, op.tokens);
  }
  for (int c = 0; c < kColumns; ++c) shares[c] = 1.0f / total[c];
}

// What a head makes of the values with those weights, lines of kBlock queries.
SLEEPTOOLS_INLINE void mix(const Attention& op, const Projected& of, int64_t head,
                           const float* weights, const Vec (&shares)[kColumns], float* mixed) {
  const int64_t size = op.width / op.heads;
  const float* const values = of.qkv + (2 * op.width + head * size) * of.line;
  for_sums(size, values, of.line, weights, kBlock, op.tokens, [&](int64_t i, int c, Vec sum) {
    store(mixed + i * kBlock + c * kLanes, sum * shares[c]);
  });
}

// Dropout of a head's weights, (tokens, kBlock), for `rows` queries from token `first` on.
SLEEPTOOLS_INLINE void drop_weights(const Attention& op, int64_t epoch, int64_t head, int64_t first,
                                    int64_t rows, float* weights) {
  drop_lines(weights, op.tokens, epoch * op.heads + head, first, rows, op.drop_below, op.seed);
}

// Dropout of what the block adds to its input, (width, kBlock).
SLEEPTOOLS_INLINE void drop_added(const Attention& op, int64_t epoch, int64_t first, int64_t rows,
                                  float* added) {
  drop_lines(added, op.width, epoch, first, rows, op.drop_below, op.seed + 1);
}

}  // namespace sleeptools::SLEEPTOOLS_VARIANT
