// Products whose vector lanes are rows of x (tokens): the weights are read as PyTorch keeps them,
// one at a time for a whole block of rows, so nothing is packed beforehand, no size needs padding,
// and a row's result does not depend on the rows beside it.
#pragma once

#include "precision.h"
#include "tiles.h"
#include "transpose.h"

namespace sleeptools::SLEEPTOOLS_VARIANT {

// A register tile is kTile weights by kColumns vectors of rows: as many sums as the registers hold
// (32 with AVX-512, otherwise 16) beside the operands. Even, so that a tile is whole bf16 units.
constexpr int kColumns = 2;
constexpr int kTile = kLanes == 16 ? 12 : kLanes == 8 ? 6 : 4;
constexpr int kBlock = kColumns * kLanes;  // rows side by side

constexpr int64_t smaller(int64_t a, int64_t b) { return a < b ? a : b; }

// Units that hold so many values.
template <class P>
constexpr int64_t units_of(int64_t values) {
  return (values + P::kValues - 1) / P::kValues;
}

template <int M>
using Sums = Vec[M][kColumns];

#if defined(__AMX_BF16__)
// As `multiply`, for as many units as fill tile registers; returns their number.
template <int M>
int64_t multiply_tiles(const uint32_t* w, int64_t stride, const float* in, int64_t step,
                       int64_t units, Sums<M>& sums) {
  static_assert(M == 2 * kTileRows && kBlock == 2 * kTileRows);
  constexpr int64_t kUnits = kTileBytes / sizeof(uint32_t);
  const int64_t steps = units / kUnits;
  alignas(64) float tile[M * kBlock];
  tile_product<2, 2>({w, stride * 4, kTileRows * stride * 4, kTileBytes},
                     {in, step * 4, kTileBytes, kUnits * step * 4}, steps,
                     {tile, kBlock * 4, kTileRows * kBlock * 4, kTileBytes});
  for (int m = 0; m < M; ++m) {
    for (int c = 0; c < kColumns; ++c) sums[m][c] += load<Vec>(tile + m * kBlock + c * kLanes);
  }
  return steps * kUnits;
}
#endif

// sums[m] += w[m] in, over the units of one row of w each. `in` moves on by `step` after each unit.
template <class P, int M>
SLEEPTOOLS_INLINE void multiply(const typename P::Unit* w, int64_t stride, const float* in,
                                int64_t step, int64_t units, Sums<M>& sums) {
#if defined(__AMX_BF16__)
  if constexpr (M > kTile) {
    const int64_t done = multiply_tiles<M>(w, stride, in, step, units, sums);
    w += done;
    in += done * step;
    units -= done;
  }
#endif
  for (int64_t k = 0; k < units; ++k, in += step) {
    Vec columns[kColumns];
#pragma GCC unroll 2
    for (int c = 0; c < kColumns; ++c) columns[c] = load<Vec>(in + c * kLanes);
#pragma GCC unroll 16
    for (int m = 0; m < M; ++m) {
#pragma GCC unroll 2
      for (int c = 0; c < kColumns; ++c) {
        sums[m][c] = P::multiply_add(w[m * stride + k], columns[c], sums[m][c]);
      }
    }
  }
}

// Runs Tile::run<m>, where the last tile of a layer may have fewer weights than kTile.
template <class Tile, int M = kTile, class... Arguments>
SLEEPTOOLS_INLINE void tile(int64_t m, Arguments... arguments) {
  if (m >= M) {
    Tile::template run<M>(arguments...);
  } else if constexpr (M > 1) {
    tile<Tile, M - 1>(m, arguments...);
  }
}

// Weights that a tile has at most in precision P.
template <class P>
constexpr int most_weights() {
#if defined(__AMX_BF16__)
  if (P::kValues == 2) return 2 * kTileRows;
#endif
  return kTile;
}

// Runs a tile of as many of the `m` weights as it takes, and says how many.
template <class P, class Tile, class... Arguments>
SLEEPTOOLS_INLINE int64_t some(int64_t m, Arguments... arguments) {
  constexpr int kMost = most_weights<P>();
  if constexpr (kMost > kTile) {
    if (m >= kMost) {
      Tile::template run<kMost>(arguments...);
      return kMost;
    }
  }
  tile<Tile>(m, arguments...);
  return smaller(m, kTile);
}

// out[m] += w[m] in for kBlock rows. Called for a part of a long sum at a time, it gathers fewer
// rounding errors than one sum would.
template <class P>
struct Add {
  template <int M>
  static void run(const typename P::Unit* w, int64_t stride, const float* in, int64_t units,
                  float* out) {
    Sums<M> sums = {};
    multiply<P, M>(w, stride, in, kBlock, units, sums);
#pragma GCC unroll 16
    for (int m = 0; m < M; ++m, out += kBlock) {
#pragma GCC unroll 2
      for (int c = 0; c < kColumns; ++c) {
        store(out + c * kLanes, load<Vec>(out + c * kLanes) + sums[m][c]);
      }
    }
  }
};

// relu(w1 x + b1) for M units of the hidden layer and kBlock rows, packed for the next product.
template <class P>
struct Hidden {
  template <int M>
  static void run(const typename P::Unit* w1, const float* b1, const float* x, int64_t units,
                  float* hidden) {
    Sums<M> sums;
#pragma GCC unroll 16
    for (int m = 0; m < M; ++m) {
#pragma GCC unroll 2
      for (int c = 0; c < kColumns; ++c) sums[m][c] = Vec{} + b1[m];
    }
    multiply<P, M>(w1, units, x, kBlock, units, sums);
#pragma GCC unroll 16
    for (int m = 0; m < M; m += P::kValues, hidden += kBlock) {
#pragma GCC unroll 2
      for (int c = 0; c < kColumns; ++c) {
        Vec values[P::kValues];
#pragma GCC unroll 2
        for (int i = 0; i < P::kValues; ++i) values[i] = m + i < M ? relu(sums[m + i][c]) : Vec{};
        store(hidden + c * kLanes, P::pack(values));
      }
    }
  }
};

// out[m] = w[m] in + b[m] for M weights and kBlock rows; without b where it is null. `in` and `out`
// have a line of rows for every unit and weight, `step` and `stride_out` apart.
template <class P>
struct Affine {
  template <int M>
  static void run(const typename P::Unit* w, int64_t stride, const float* b, const float* in,
                  int64_t step, int64_t units, float* out, int64_t stride_out) {
    Sums<M> sums;
#pragma GCC unroll 16
    for (int m = 0; m < M; ++m) {
#pragma GCC unroll 2
      for (int c = 0; c < kColumns; ++c) sums[m][c] = Vec{} + (b ? b[m] : 0.0f);
    }
    multiply<P, M>(w, stride, in, step, units, sums);
#pragma GCC unroll 16
    for (int m = 0; m < M; ++m, out += stride_out) {
#pragma GCC unroll 2
      for (int c = 0; c < kColumns; ++c) store(out + c * kLanes, sums[m][c]);
    }
  }
};

// A whole layer of `outputs` weights by `Affine`.
template <class P>
void affine(int64_t outputs, const void* w, int64_t stride, const float* b, const float* in,
            int64_t step, int64_t units, float* out, int64_t stride_out) {
  const auto* row = static_cast<const typename P::Unit*>(w);
  for (int64_t o = 0; o < outputs;) {
    o += some<P, Affine<P>>(outputs - o, row + o * stride, stride, b ? b + o : b, in, step, units,
                            out + o * stride_out, stride_out);
  }
}

// Lines of values side by side in lanes to the units of a product's input, which may be in place.
template <class P>
void pack_lines(const float* lines, int64_t count, float* in) {
  for (int64_t j = 0; j < count; j += P::kValues, in += kBlock) {
    for (int c = 0; c < kBlock; c += kLanes) {
      Vec values[P::kValues];
      for (int i = 0; i < P::kValues; ++i) {
        values[i] = j + i < count ? load<Vec>(lines + (j + i) * kBlock + c) : Vec{};
      }
      store(in + c, P::pack(values));
    }
  }
}

// Rows of x, `stride` apart, to lanes: (units of width, kBlock). Lanes without a row are zero.
template <class P>
void read_rows(const float* x, int64_t stride, int64_t rows, int64_t width, float* scratch,
               float* in) {
  float* const lines = P::kValues == 1 ? in : scratch;
  for (int c = 0; c < kBlock; c += kLanes) {
    for_columns(x + c * stride, stride, rows - c, width,
                [=](int64_t j, Vec values) { store(lines + j * kBlock + c, values); });
  }
  if constexpr (P::kValues > 1) pack_lines<P>(lines, width, in);
}

// Normalises kBlock rows in lanes, `sums` (width, kBlock), in place.
SLEEPTOOLS_INLINE void normalise(const Norm& norm, int64_t width, float* sums) {
  for (int c = 0; c < kBlock; c += kLanes) {
    Vec mean = {}, variance = {};
    for (int64_t j = 0; j < width; ++j) mean += load<Vec>(sums + j * kBlock + c);
    mean /= static_cast<float>(width);
    for (int64_t j = 0; j < width; ++j) {
      const Vec away = load<Vec>(sums + j * kBlock + c) - mean;
      variance += away * away;
    }
    variance = variance / static_cast<float>(width) + norm.eps;
    Vec scale;
    for (int i = 0; i < kLanes; ++i) scale[i] = 1.0f / __builtin_sqrtf(variance[i]);
    for (int64_t j = 0; j < width; ++j) {
      float* const at = sums + j * kBlock + c;
      store(at, (load<Vec>(at) - mean) * scale * norm.gamma[j] + norm.beta[j]);
    }
  }
}

// Lines (width, kBlock) to rows of out.
SLEEPTOOLS_INLINE void write_rows(const float* lines, int64_t rows, int64_t width, float* out) {
  for (int c = 0; c < kBlock; c += kLanes) {
    write_columns(lines + c, kBlock, rows - c, width, out + c * width, width);
  }
}

// Adds rows of x to `sums` (width, kBlock), normalises and writes them to rows of out.
SLEEPTOOLS_INLINE void add_normalise_write(const Norm& norm, const float* x, int64_t rows,
                                           int64_t width, float* sums, float* out) {
  for (int c = 0; c < kBlock; c += kLanes) {
    for_columns(x + c * width, width, rows - c, width, [=](int64_t j, Vec values) {
      float* const at = sums + j * kBlock + c;
      store(at, load<Vec>(at) + values);
    });
  }
  normalise(norm, width, sums);
  write_rows(sums, rows, width, out);
}

}  // namespace sleeptools::SLEEPTOOLS_VARIANT
