// Attention in a compiled network, in float32 or with operands rounded to bfloat16.
//
// Queries lie in lanes: their scores are lines, one a key, and what a head gives is lines, too, one
// a map. A row of keys or values serves kBlock queries. The softmax goes along: a block of keys
// after another, and what came before is scaled down where a larger score comes.
#pragma once

#include "plan_rows.h"
#include "rows.h"

namespace sleeptools::SLEEPTOOLS_VARIANT {

// sums[m] += w[m] in, over `count` lines of `in`; from a w to the next of a sum, `step`.
template <int M>
SLEEPTOOLS_INLINE void multiply_lines(const float* w, int64_t stride, int64_t step, const float* in,
                                      int64_t count, Sums<M>& sums) {
  for (int64_t k = 0; k < count; ++k, w += step, in += kBlock) {
    Vec columns[kColumns];
#pragma GCC unroll 2
    for (int c = 0; c < kColumns; ++c) columns[c] = load<Vec>(in + c * kLanes);
#pragma GCC unroll 16
    for (int m = 0; m < M; ++m) {
#pragma GCC unroll 2
      for (int c = 0; c < kColumns; ++c) sums[m][c] += w[m * stride] * columns[c];
    }
  }
}

// out[m] = factor * out[m] + w[m] in for M lines.
struct Lines {
  template <int M>
  static void run(const float* w, int64_t stride, int64_t step, const float* in, int64_t count,
                  const Vec* factor, float* out) {
    Sums<M> sums;
#pragma GCC unroll 16
    for (int m = 0; m < M; ++m) {
#pragma GCC unroll 2
      for (int c = 0; c < kColumns; ++c) {
        sums[m][c] = factor ? load<Vec>(out + m * kBlock + c * kLanes) * factor[c] : Vec{};
      }
    }
    multiply_lines<M>(w, stride, step, in, count, sums);
#pragma GCC unroll 16
    for (int m = 0; m < M; ++m) {
#pragma GCC unroll 2
      for (int c = 0; c < kColumns; ++c) store(out + m * kBlock + c * kLanes, sums[m][c]);
    }
  }
};

SLEEPTOOLS_INLINE void lines(int64_t outputs, const float* w, int64_t stride, int64_t step,
                             const float* in, int64_t count, const Vec* factor, float* out) {
  for (int64_t m = 0; m < outputs; m += kTile) {
    tile<Lines>(outputs - m, w + m * stride, stride, step, in, count, factor, out + m * kBlock);
  }
}

// Divides what a head made of `count` queries from row `first` on, lines of kBlock, by the sums of
// their shares, and writes it to rows.
SLEEPTOOLS_INLINE void write_shares(const Rows& rows, int64_t head, int64_t maps, int64_t first,
                                    int64_t count, const Vec (&total)[kColumns], float* mixed) {
  for (int c = 0; c < kColumns; ++c) {
    for (int64_t m = 0; m < maps; ++m) {
      float* const at = mixed + m * kBlock + c * kLanes;
      store(at, load<Vec>(at) / total[c]);
    }
    if (count > c * kLanes) {
      write_columns(mixed + c * kLanes, kBlock, count - c * kLanes, maps,
                    rows.target(first + c * kLanes) + head * maps, rows.step.target_row);
    }
  }
}

// Up to kBlock queries of a head, from row `first` on.
static void attend_block(const Rows& rows, int64_t head, int64_t first) {
  constexpr int64_t kKeys = 256, kMost = ConvPlan::kMostMaps;
  alignas(64) float queries[kMost * kBlock], scores[kKeys * kBlock], mixed[kMost * kBlock];
  const Step& step = rows.step;
  const int64_t size = step.inputs / step.kernel, maps = step.outputs / step.kernel;
  const int64_t count = smaller(rows.last - first, kBlock);
  for (int64_t c = 0; c < kBlock; c += kLanes) {
    for_columns(rows.source(first + c) + head * size, step.source_row, count - c, size,
                [&](int64_t j, Vec values) { store(queries + j * kBlock + c, values); });
  }
  Vec largest[kColumns], total[kColumns] = {}, factor[kColumns];
  for (Vec& value : largest) value = Vec{} - __builtin_inff();
  for (int64_t i = 0; i < maps * kBlock; ++i) mixed[i] = 0.0f;
  for (int64_t key = 0; key < step.other_steps; key += kKeys) {
    const int64_t keys = smaller(step.other_steps - key, kKeys);
    lines(keys, rows.other(0, key) + head * size, step.other_row[0], 1, queries, size, nullptr,
          scores);
    for (int c = 0; c < kColumns; ++c) {
      float* const column = scores + c * kLanes;
      Vec top = largest[c];
      for (int64_t j = 0; j < keys; ++j) top = maximum(top, load<Vec>(column + j * kBlock));
      factor[c] = exponential(largest[c] - top);
      Vec added = {};
      for (int64_t j = 0; j < keys; ++j) {
        const Vec e = exponential(load<Vec>(column + j * kBlock) - top);
        store(column + j * kBlock, e);
        added += e;
      }
      total[c] = total[c] * factor[c] + added;
      largest[c] = top;
    }
    lines(maps, rows.other(1, key) + head * maps, 1, step.other_row[1], scores, keys, factor,
          mixed);
  }
  write_shares(rows, head, maps, first, count, total, mixed);
}

static void attend_floats(const Rows& rows) {
  for (int64_t first = rows.first; first < rows.last; first += kBlock) {
    for (int64_t head = 0; head < rows.step.kernel; ++head) attend_block(rows, head, first);
  }
}

#if defined(__AVX512BF16__)
// --- in bfloat16
// ---------------------------------------------------------------------------------------
//
// A head's keys (keys, size) and values turned (maps, keys) are rounded to the scratch, filled up
// with zeros to whole tiles; queries and shares are packed in lanes, pair by pair.

constexpr int64_t kKeysAtOnce = 256;  // scores that are in memory

constexpr int64_t whole_tiles(int64_t count) {
  return (count + kTileDepth - 1) / kTileDepth * kTileDepth;
}

struct Head {
  int64_t index, size, maps, keys;
  uint16_t *key_rows, *value_rows;

  Head(const Step& step, int64_t head, float* scratch)
      : index(head),
        size(step.inputs / step.kernel),
        maps(step.outputs / step.kernel),
        keys(step.other_steps),
        key_rows(reinterpret_cast<uint16_t*>(scratch)),
        value_rows(key_rows + whole_tiles(keys) * whole_tiles(size)) {}

  void read(const Rows& rows) const {
    const int64_t key_row = whole_tiles(size), value_row = whole_tiles(keys);
    __builtin_memset(key_rows, 0, value_row * (key_row + whole_tiles(maps)) * sizeof(uint16_t));
    for (int64_t j = 0; j < keys; ++j) {
      const float* const key = rows.other(0, j) + index * size;
      for_maps(size, [&](int64_t i, auto lanes) {
        Bfloat16::write(key_rows + j * key_row + i, lanes.read(key + i));
      });
    }
    for (int64_t j = 0; j < keys; j += kLanes) {
      for_columns(
          rows.other(1, j) + index * maps, rows.step.other_row[1], keys - j, maps,
          [&](int64_t m, Vec values) { Bfloat16::write(value_rows + m * value_row + j, values); });
    }
  }
};

// Shares of some keys before the softmax's division, in place of their scores: a line for each pair
// of them, and of those that fill up a tile. Returns what the shares before are scaled by.
SLEEPTOOLS_INLINE Vec share(float* scores, int64_t keys, Vec& largest, Vec& total) {
  Vec top = largest;
  for (int64_t j = 0; j < keys; ++j) top = maximum(top, load<Vec>(scores + j * kBlock));
  const Vec factor = exponential(largest - top);
  Vec added = {};
  for (int64_t j = 0; j < whole_tiles(keys); j += 2) {
    Vec pair[2] = {};
#pragma GCC unroll 2
    for (int64_t i = 0; i < 2; ++i) {
      if (j + i < keys) pair[i] = exponential(load<Vec>(scores + (j + i) * kBlock) - top);
      added += pair[i];
    }
    store(scores + j / 2 * kBlock, Bf16::pack(pair));
  }
  total = total * factor + added;
  largest = top;
  return factor;
}

// Up to kBlock queries of a head, from row `first` on.
static void attend_rounded_block(const Rows& rows, const Head& head, int64_t first) {
  constexpr int64_t kMost = ConvPlan::kMostMaps;
  alignas(64) float queries[kMost * kBlock], scores[kKeysAtOnce * kBlock];
  alignas(64) float mixed[kMost * kBlock], more[kMost * kBlock];
  const Step& step = rows.step;
  const int64_t count = smaller(rows.last - first, kBlock), depth = whole_tiles(head.size);
  read_rows<Bf16>(rows.source(first) + head.index * head.size, step.source_row, count, head.size,
                  more, queries);
  for (int64_t i = units_of<Bf16>(head.size) * kBlock; i < depth / 2 * kBlock; ++i) queries[i] = 0;
  Vec largest[kColumns], total[kColumns] = {}, factor[kColumns];
  for (Vec& value : largest) value = Vec{} - __builtin_inff();
  for (int64_t key = 0; key < head.keys; key += kKeysAtOnce) {
    const int64_t keys = smaller(head.keys - key, kKeysAtOnce);
    affine<Bf16>(whole_tiles(keys), head.key_rows + key * depth, depth / 2, nullptr, queries,
                 kBlock, depth / 2, scores, kBlock);
    for (int c = 0; c < kColumns; ++c) {
      factor[c] = share(scores + c * kLanes, keys, largest[c], total[c]);
    }
    float* const sums = key == 0 ? mixed : more;
    affine<Bf16>(whole_tiles(head.maps), head.value_rows + key, whole_tiles(head.keys) / 2, nullptr,
                 scores, kBlock, whole_tiles(keys) / 2, sums, kBlock);
    for (int64_t m = 0; key > 0 && m < head.maps * kBlock; m += kBlock) {
      for (int c = 0; c < kColumns; ++c) {
        float* const at = mixed + m + c * kLanes;
        store(at, load<Vec>(at) * factor[c] + load<Vec>(more + m + c * kLanes));
      }
    }
  }
  write_shares(rows, head.index, head.maps, first, count, total, mixed);
}

static void attend_rounded(const Rows& rows) {
  for (int64_t index = 0; index < rows.step.kernel; ++index) {
    const Head head(rows.step, index, rows.scratch);
    head.read(rows);
    for (int64_t first = rows.first; first < rows.last; first += kBlock) {
      attend_rounded_block(rows, head, first);
    }
  }
}
#endif

static void attend(const Rows& rows) {
#if defined(__AVX512BF16__)
  if (rows.step.bf16) return attend_rounded(rows);
#endif
  attend_floats(rows);
}

}  // namespace sleeptools::SLEEPTOOLS_VARIANT
