// What attention and its gradients share: the queries, keys and values of an epoch, and the softmax
// of some queries' scores.
//
// Tokens lie in the vector lanes throughout (rows.h). Queries, keys and values are lines of tokens,
// one line a feature; the scores of a block of queries are lines of queries, one line a key, so
// that a softmax runs down the lines and its result is the input of the product with the values.
#pragma once

#include "exponential.h"
#include "rows.h"

namespace sleeptools::SLEEPTOOLS_VARIANT {

static_assert(kBlock <= Attention::kMaxBlock);

// Scores that need no maximum taken off before their exponential: far from what a float32 holds.
constexpr float kSmallScore = 20.0f;

// An epoch's buffers; `line` is the length of a line of tokens.
struct Projected {
  float *qkv, *keys;    // (3 width, line), (line, width): the keys again, by rows
  float *in, *scratch;  // of a block: (width, kBlock)
  float* longest;       // (heads): square of a key's length, at most
  int64_t line;
};

// A product that says what to do with its sums: kBlock lanes of M of the rows of w.
template <class Use>
struct Sum {
  template <int M>
  static void run(const float* w, int64_t stride, const float* in, int64_t step, int64_t units,
                  int64_t first, const Use* use) {
    Sums<M> sums = {};
    multiply<Fp32, M>(w, stride, in, step, units, sums);
#pragma GCC unroll 16
    for (int m = 0; m < M; ++m) {
#pragma GCC unroll 2
      for (int c = 0; c < kColumns; ++c) (*use)(first + m, c, sums[m][c]);
    }
  }
};

template <class Use>
SLEEPTOOLS_INLINE void for_sums(int64_t outputs, const float* w, int64_t stride, const float* in,
                                int64_t step, int64_t units, const Use& use) {
  for (int64_t o = 0; o < outputs; o += kTile) {
    tile<Sum<Use>>(outputs - o, w + o * stride, stride, in, step, units, o, &use);
  }
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

// Queries of a head from token `first` on, over the root of a head's width, (size, kBlock), and
// whether all their scores are small.
SLEEPTOOLS_INLINE bool scale_queries(const Attention& op, const Projected& of, int64_t head,
                                     int64_t first, float* queries) {
  const int64_t size = op.width / op.heads;
  const float* const q = of.qkv + head * size * of.line + first;
  const float scale = 1.0f / __builtin_sqrtf(static_cast<float>(size));
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

// The softmax of a head for the queries from token `first` on but for its division: (tokens,
// kBlock) to `weights`, and one over the sum of each lane to `shares`.
SLEEPTOOLS_INLINE void weigh(const Attention& op, const Projected& of, int64_t head, int64_t first,
                             float* queries, float* weights, Vec (&shares)[kColumns]) {
  const int64_t size = op.width / op.heads;
  const float* const keys = of.keys + head * size;
  Vec largest[kColumns] = {}, total[kColumns] = {};
  if (!scale_queries(op, of, head, first, queries)) {
    for (Vec& value : largest) value = Vec{} - __builtin_huge_valf();
    for_sums(op.tokens, keys, op.width, queries, kBlock, size, [&](int64_t, int c, Vec score) {
      largest[c] = score > largest[c] ? score : largest[c];
    });
  }
  for_sums(op.tokens, keys, op.width, queries, kBlock, size, [&](int64_t j, int c, Vec score) {
    const Vec e = exponential(score - largest[c]);
    store(weights + j * kBlock + c * kLanes, e);
    total[c] += e;
  });
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

}  // namespace sleeptools::SLEEPTOOLS_VARIANT
