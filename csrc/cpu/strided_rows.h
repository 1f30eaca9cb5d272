// Convolutions as matrix products. Signals are kept channels-last, (time, channel). Then all taps
// and channels that an output step sees lie side by side in memory, the next step sees the same
// `stride` rows further on, and a convolution is a matrix product whose left matrix has overlapping
// rows:
//
//   out[t, o] = sum_j in[t * stride * channels + j] * weight[j, o],  j < kernel * channels
//
// `dots` computes it for a few steps by one or more panels of 16 outputs, with the sums in
// registers; the overlapping rows are never copied out. Padding is rows of zeros before and after.
#pragma once

#include "precision.h"
#include "tiles.h"

namespace sleeptools::SLEEPTOOLS_VARIANT {

constexpr int kPanel = TwoStreamConv::kPanel;
constexpr int kPanelVecs = kPanel / kLanes;
#if defined(__AVX512F__)
constexpr int kSums = 24;  // of 32 vector registers; the rest hold weights and an input
constexpr int kWidest = 2;
#elif defined(__AVX2__)
constexpr int kSums = 12;  // of 16
constexpr int kWidest = 1;
#else
constexpr int kSums = 8;  // of 16, and a product takes one more where there is no FMA
constexpr int kWidest = 1;
#endif

// --- precisions
// ----------------------------------------------------------------------------------- T is what
// signals are stored as between layers; a lane of `dot` adds kDepth products.

struct Float32 {
  using T = float;
  static constexpr int kDepth = 1;
  static constexpr int kJoined = 1;  // products that a float's place in the packed weights holds
  static constexpr bool kTiled = false;

  SLEEPTOOLS_INLINE Vec dot(Vec sum, const T* in, Vec weight) { return sum + *in * weight; }
  SLEEPTOOLS_INLINE Vec read(const T* p) { return load<Vec>(p); }
  SLEEPTOOLS_INLINE void write(T* p, Vec v) { store(p, v); }
  SLEEPTOOLS_INLINE T round(float v) { return v; }

  // Rows of products side by side, as weights are packed.
  SLEEPTOOLS_INLINE Vec join(const Vec (&rows)[1]) { return rows[0]; }
};

#if defined(__AVX512BF16__)
struct Bfloat16 {
  using T = uint16_t;
  static constexpr int kDepth = 2;
  static constexpr int kJoined = 2;
  static constexpr bool kTiled = false;

  SLEEPTOOLS_INLINE Vec dot(Vec sum, const T* in, Vec weight) {
    int32_t pair;
    __builtin_memcpy(&pair, in, sizeof pair);
    return _mm512_dpbf16_ps(sum, (__m512bh)_mm512_set1_epi32(pair), (__m512bh)weight);
  }
  SLEEPTOOLS_INLINE Vec read(const T* p) {
    __m256i half;
    __builtin_memcpy(&half, p, sizeof half);
    return (Vec)_mm512_slli_epi32(_mm512_cvtepu16_epi32(half), 16);
  }
  SLEEPTOOLS_INLINE void write(T* p, Vec v) {
    const __m256bh half = _mm512_cvtneps_pbh(v);
    __builtin_memcpy(p, &half, sizeof half);
  }
  SLEEPTOOLS_INLINE T round(float v) {
    uint32_t bits;
    __builtin_memcpy(&bits, &v, sizeof bits);
    const uint32_t nearest = bits + 0x7fff + (bits >> 16 & 1);
    return static_cast<T>((v != v ? bits | 0x400000 : nearest) >> 16);
  }
  SLEEPTOOLS_INLINE Vec join(const Vec (&rows)[2]) { return Bf16::pack(rows); }
};
#endif

#if defined(__AMX_BF16__)
// In tile registers. Rows of weights are filled up with zeros to whole tiles; what follows the
// signal in memory is read along with it and must be finite.
struct Bfloat16Tiles : Bfloat16 {
  static constexpr int kDepth = kTileDepth;
  static constexpr bool kTiled = true;
};
#endif

// For bfloat16; on a CPU that does not multiply it float32, which is faster there.
#if defined(__AMX_BF16__)
using Fastest = Bfloat16Tiles;
#elif defined(__AVX512BF16__)
using Fastest = Bfloat16;
#else
using Fastest = Float32;
#endif

// Floats of a panel of packed weights.
template <class P>
constexpr int64_t panel_size(int64_t depth) {
  return (depth + P::kDepth - 1) / P::kDepth * (P::kDepth / P::kJoined) * kPanel;
}

// Steps that the caller of `multiply` should ask for at most: several blocks share weights in L1.
template <class P>
constexpr int kManyRows = P::kTiled ? 2 * kTileRows : 60;

// Where a product of rows from `first` on ends: tiles come whole, other blocks are cheapest at
// nearly equal sizes.
template <class P>
SLEEPTOOLS_INLINE int64_t next_rows(int64_t first, int64_t rows) {
  const int64_t remaining = (rows - first + kManyRows<P> - 1) / kManyRows<P>;
  return first + (P::kTiled && remaining > 1 ? kManyRows<P> : (rows - first) / remaining);
}

// Writes the first `count` lanes.
template <class P>
SLEEPTOOLS_INLINE void write_some(typename P::T* p, Vec v, int64_t count) {
  if (count >= kLanes) return P::write(p, v);
  typename P::T values[kLanes];
  P::write(values, v);
  for (int64_t i = 0; i < count; ++i) p[i] = values[i];
}

// --- the matrix product
// ---------------------------------------------------------------------------

// The weights of a layer, some panels of them, and what they are multiplied with. Where the
// products of a sum do not lie side by side, those of a tap do.
template <class P>
struct StridedProduct {
  const typename P::T* in;
  int64_t step;      // from the input of a row to the next row's
  int64_t depth;     // of a tap: taps times channels where there is but one
  const float* w;    // the first panel
  int64_t panel;     // from a panel to the next
  float* tile;       // (rows, panels * kPanel), or as many columns as were asked for
  int64_t taps = 1;  // each with weights of its own, one tap after the other
  int64_t tap = 0;   // from a tap's input to the next
};

// Sums of kRun products are added up at a time: the rounding errors of one long sum would be twice
// as large. Their weights, 8 KiB a panel, stay in L1 while all rows have their turn.
constexpr int64_t kRun = 128;

// Products [start, stop) of each of some taps, and whether they are the first ones of a sum.
struct Run {
  int64_t taps, start, stop;
  bool first;
};

// For the first R rows and V vectors of outputs.
template <class P, int R, int V>
void dots(const StridedProduct<P>& product, Run run) {
  constexpr int kPanels = (V + kPanelVecs - 1) / kPanelVecs;
  const typename P::T* in = product.in;
  const int64_t step = product.step, panel = product.panel;
  const float* w = product.w + run.start / P::kJoined * kPanel;
  Vec sum[R][V] = {};
  for (int64_t tap = 0; tap < run.taps; ++tap, in += product.tap) {
    for (int64_t j = run.start; j < run.stop; j += P::kDepth, w += kPanel) {
      Vec weight[V];
#pragma GCC unroll 16
      for (int v = 0; v < V; ++v) {
        weight[v] = load<Vec>(w + v / kPanelVecs * panel + v % kPanelVecs * kLanes);
      }
      // those of the next run, which come from L3 where there are few rows
#pragma GCC unroll 2
      for (int n = 0; n < kPanels; ++n) {
        __builtin_prefetch(w + n * panel + kRun / P::kJoined * kPanel);
      }
#pragma GCC unroll 16
      for (int r = 0; r < R; ++r) {
#pragma GCC unroll 16
        for (int v = 0; v < V; ++v) sum[r][v] = P::dot(sum[r][v], in + r * step + j, weight[v]);
      }
    }
  }
  float* cursor = product.tile;
#pragma GCC unroll 16
  for (int r = 0; r < R; ++r) {
#pragma GCC unroll 16
    for (int v = 0; v < V; ++v, cursor += kLanes) {
      store(cursor, run.first ? sum[r][v] : load<Vec>(cursor) + sum[r][v]);
    }
  }
}

// `rows` is known at run time only: it is compared with R, R - 1, ... 1.
template <class P, int V, int R>
SLEEPTOOLS_INLINE void block(const StridedProduct<P>& product, int64_t rows, Run run) {
  if (rows == R) return dots<P, R, V>(product, run);
  if constexpr (R > 1) block<P, V, R - 1>(product, rows, run);
}

// Steps that are computed at once for `V` vectors of outputs.
template <int V>
constexpr int vector_rows() {
  return kSums / V < 12 ? kSums / V : 12;
}

// Any number of rows, in blocks of nearly equal size: a block of few rows wastes loads.
template <class P, int V>
SLEEPTOOLS_INLINE void run_blocks(StridedProduct<P> product, int64_t rows, Run run) {
  constexpr int kRows = vector_rows<V>();
  for (int64_t remaining = (rows + kRows - 1) / kRows; remaining > 0; --remaining) {
    const int64_t rows_now = rows / remaining;
    block<P, V, kRows>(product, rows_now, run);
    product.in += rows_now * product.step;
    product.tile += rows_now * V * kLanes;
    rows -= rows_now;
  }
}

// Short taps share a run, long ones are divided.
template <class P, int V>
SLEEPTOOLS_INLINE void blocks(const StridedProduct<P>& product, int64_t rows) {
  const int64_t fit = product.taps > 1 ? kRun / product.depth : 1, together = fit > 1 ? fit : 1;
  StridedProduct<P> rest = product;
  for (int64_t tap = 0; tap < product.taps; tap += together) {
    const int64_t taps = product.taps - tap < together ? product.taps - tap : together;
    for (int64_t start = 0; start < product.depth; start += kRun) {
      const int64_t stop = product.depth - start < kRun ? product.depth : start + kRun;
      run_blocks<P, V>(rest, rows, {taps, start, stop, tap == 0 && start == 0});
    }
    rest.in += together * product.tap;
    rest.w += together * panel_size<P>(product.depth);
  }
}

#if defined(__AMX_BF16__)
// Up to 32 rows; whole tiles of them are computed, whatever lies behind the last row.
template <int N>
void tiled(const StridedProduct<Bfloat16Tiles>& product, int64_t rows) {
  const int64_t step = product.step * static_cast<int64_t>(sizeof(uint16_t));
  const int64_t steps = (product.depth + kTileDepth - 1) / kTileDepth;
  const TileSource left = {product.in, step, kTileRows * step, kTileBytes};
  const TileSource right = {product.w, kTileBytes, product.panel * 4, kTileRows * kTileBytes};
  const TileTarget out = {product.tile, N * kTileBytes, kTileRows * N * kTileBytes, kTileBytes};
  rows > kTileRows ? tile_product<2, N>(left, right, steps, out)
                   : tile_product<1, N>(left, right, steps, out);
}
#endif

template <class P>
SLEEPTOOLS_INLINE void multiply(const StridedProduct<P>& product, int64_t rows, int panels) {
#if defined(__AMX_BF16__)
  if constexpr (P::kTiled) return panels == 2 ? tiled<2>(product, rows) : tiled<1>(product, rows);
#endif
  if constexpr (!P::kTiled) {
    panels == kWidest ? blocks<P, kWidest * kPanelVecs>(product, rows)
                      : blocks<P, kPanelVecs>(product, rows);
  }
}

}  // namespace sleeptools::SLEEPTOOLS_VARIANT
