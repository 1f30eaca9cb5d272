// Tiles of registers over some steps of maps side by side, a signal in each lane: products with a
// matrix, sums of products over time, and depthwise convolutions.
#pragma once

#include <type_traits>

#include "dropout.h"

namespace sleeptools::SLEEPTOOLS_VARIANT {

static_assert(kColumns == 2);
constexpr int kMaps = kLanes == 16 ? 8 : 4;  // of a tile of maps by two steps
constexpr int kOuterRows = 4, kOuterColumns = kLanes == 16 ? 4 : 2;

// A bit for each lane, twice.
using Word =
    std::conditional_t<kLanes == 16, uint32_t, std::conditional_t<kLanes == 8, uint16_t, uint8_t>>;
constexpr uint32_t kAllLanes = (1u << kLanes) - 1;

// Lanes where a <= b does not hold, as with a NaN.
SLEEPTOOLS_INLINE uint32_t not_at_most(Vec a, Vec b) {
#if defined(__AVX512F__)
  return _mm512_cmp_ps_mask(a, b, _CMP_NLE_UQ);
#elif defined(__AVX2__)
  return static_cast<uint32_t>(_mm256_movemask_ps(_mm256_cmp_ps(a, b, _CMP_NLE_UQ)));
#elif defined(__x86_64__)
  return static_cast<uint32_t>(_mm_movemask_ps(_mm_cmpnle_ps(a, b)));
#else
  uint32_t bits = 0;
  for (int lane = 0; lane < kLanes; ++lane)
    bits |= static_cast<uint32_t>(!(a[lane] <= b[lane])) << lane;
  return bits;
#endif
}

// Zero in the lanes whose bit is not set.
SLEEPTOOLS_INLINE Vec only(Vec v, uint32_t bits) {
#if defined(__AVX512F__)
  return _mm512_maskz_mov_ps(static_cast<__mmask16>(bits), v);
#else
  Ints bit;
  for (int lane = 0; lane < kLanes; ++lane) bit[lane] = 1 << lane;
  const Ints set = (Ints{} + static_cast<int32_t>(bits)) & bit;
  return (Vec)((Ints)v & (Ints)(set == bit));
#endif
}

// Some steps of maps side by side: from a step to the next are `step` floats.
struct Steps {
  const float* data;
  int64_t step;

  Steps from(int64_t t) const { return {data + t * step, step}; }
};

// sums[m] += w[., m] in over the inputs, for a step and the one `second` floats behind it.
template <int M>
SLEEPTOOLS_INLINE void multiply(const float* w, int64_t outputs, const float* in, int64_t second,
                                int64_t inputs, Sums<M>& sums) {
  const float* const end = in + inputs * kLanes;
  for (; in < end; in += kLanes, w += outputs) {
    const Vec a = load<Vec>(in), b = load<Vec>(in + second);
#pragma GCC unroll 8
    for (int m = 0; m < M; ++m) {
      sums[m][0] += w[m] * a;
      sums[m][1] += w[m] * b;
    }
  }
}

template <int M>
SLEEPTOOLS_INLINE void start(const float* bias, Sums<M>& sums) {
#pragma GCC unroll 8
  for (int m = 0; m < M; ++m) sums[m][0] = sums[m][1] = Vec{} + bias[m];
}

// out[t] = bias + in[t] w for M maps of all steps, or that added to what is there.
template <bool kAdd>
struct MatrixTile {
  template <int M>
  static void run(const float* w, const float* bias, Steps in, int64_t inputs, int64_t outputs,
                  int64_t steps, float* out, int64_t out_step) {
    for (int64_t t = 0; t < steps; t += 2, out += 2 * out_step) {
      const bool two = t + 1 < steps;
      Sums<M> sums;
      start<M>(bias, sums);
      multiply<M>(w, outputs, in.data + t * in.step, two ? in.step : 0, inputs, sums);
#pragma GCC unroll 8
      for (int m = 0; m < M; ++m) {
        float* const first = out + m * kLanes;
        float* const second = first + out_step;
        store(first, kAdd ? load<Vec>(first) + sums[m][0] : sums[m][0]);
        if (two) store(second, kAdd ? load<Vec>(second) + sums[m][1] : sums[m][1]);
      }
    }
  }
};

template <bool kAdd>
void product(const float* w, const float* bias, Steps in, int64_t inputs, int64_t outputs,
             int64_t steps, float* out, int64_t out_step) {
  for (int64_t o = 0; o < outputs; o += kMaps) {
    tile<MatrixTile<kAdd>, kMaps>(outputs - o, w + o, bias + o, in, inputs, outputs, steps,
                                  out + o * kLanes, out_step);
  }
}

// sums[a, b] += over time of a[t] b[t]: kOuterColumns or fewer of b.
template <int N>
struct Outer {
  template <int M>
  static void run(Steps a, Steps b, int64_t steps, float* sums, int64_t columns) {
    Vec total[M][N];
#pragma GCC unroll 4
    for (int m = 0; m < M; ++m) {
#pragma GCC unroll 4
      for (int n = 0; n < N; ++n) total[m][n] = load<Vec>(sums + (m * columns + n) * kLanes);
    }
    const float *left = a.data, *right = b.data;
    for (int64_t t = 0; t < steps; ++t, left += a.step, right += b.step) {
      Vec r[N];
#pragma GCC unroll 4
      for (int n = 0; n < N; ++n) r[n] = load<Vec>(right + n * kLanes);
#pragma GCC unroll 4
      for (int m = 0; m < M; ++m) {
        const Vec l = load<Vec>(left + m * kLanes);
#pragma GCC unroll 4
        for (int n = 0; n < N; ++n) total[m][n] += l * r[n];
      }
    }
#pragma GCC unroll 4
    for (int m = 0; m < M; ++m) {
#pragma GCC unroll 4
      for (int n = 0; n < N; ++n) store(sums + (m * columns + n) * kLanes, total[m][n]);
    }
  }
};

template <int N = kOuterColumns>
void outer_columns(int64_t n, Steps a, int64_t rows, Steps b, int64_t steps, float* sums,
                   int64_t columns) {
  if (n >= N) {
    for (int64_t m = 0; m < rows; m += kOuterRows) {
      tile<Outer<N>, kOuterRows>(rows - m, Steps{a.data + m * kLanes, a.step}, b, steps,
                                 sums + m * columns * kLanes, columns);
    }
  } else if constexpr (N > 1) {
    outer_columns<N - 1>(n, a, rows, b, steps, sums, columns);
  }
}

// For all pairs of maps; those of the lower triangle may be left out where a is b.
static void outer(Steps a, int64_t rows, Steps b, int64_t columns, int64_t steps, bool symmetric,
                  float* sums) {
  for (int64_t n = 0; n < columns; n += kOuterColumns) {
    const int64_t needed = symmetric ? smaller(rows, n + kOuterColumns) : rows;
    outer_columns(columns - n, a, needed, {b.data + n * kLanes, b.step}, steps, sums + n * kLanes,
                  columns);
  }
}

// sums[a] += a[t] over time, for M maps.
struct AddTile {
  template <int M>
  static void run(Steps a, int64_t steps, float* sums) {
    Vec total[M];
#pragma GCC unroll 8
    for (int m = 0; m < M; ++m) total[m] = load<Vec>(sums + m * kLanes);
    for (int64_t t = 0; t < steps; ++t, a.data += a.step) {
#pragma GCC unroll 8
      for (int m = 0; m < M; ++m) total[m] += load<Vec>(a.data + m * kLanes);
    }
#pragma GCC unroll 8
    for (int m = 0; m < M; ++m) store(sums + m * kLanes, total[m]);
  }
};

SLEEPTOOLS_INLINE void add_steps(Steps a, int64_t maps, int64_t steps, float* sums) {
  for (int64_t m = 0; m < maps; m += kMaps) {
    const Steps some = {a.data + m * kLanes, a.step};
    tile<AddTile, kMaps>(maps - m, some, steps, sums + m * kLanes);
  }
}

// The sum of the lanes of each vector.
SLEEPTOOLS_INLINE void add_lanes(const float* sums, int64_t count, float* out) {
  for (int64_t i = 0; i < count; i += kLanes) {
    Vec rows[kLanes];
    for (int r = 0; r < kLanes; ++r) {
      rows[r] = i + r < count ? load<Vec>(sums + (i + r) * kLanes) : Vec{};
    }
    transpose(rows);
    Vec total = rows[0];
    for (int r = 1; r < kLanes; ++r) total += rows[r];
    store_some(out + i, total, count - i);
  }
}

SLEEPTOOLS_INLINE void clear(float* data, int64_t count) {
  __builtin_memset(data, 0, static_cast<size_t>(count) * sizeof(float));
}

constexpr int kDepthwise = kLanes == 16 ? 4 : 2;  // maps whose weights of 3 taps stay in registers

// Depthwise convolution of M maps for steps from in.data on, with `start` added; the taps follow
// each other by `order`. K is the kernel, or 0 where the compiler does not know it.
template <int K>
struct DepthwiseTile {
  template <int M>
  static void run(Steps in, const float* w, int64_t kernel, const Vec* start, int64_t steps,
                  float* out, int64_t out_step) {
    if constexpr (K > 0) {
      Vec weights[M][K], from[M];
#pragma GCC unroll 4
      for (int m = 0; m < M; ++m) {
        from[m] = start[m];
#pragma GCC unroll 4
        for (int k = 0; k < K; ++k) weights[m][k] = Vec{} + w[m * K + k];
      }
      for (int64_t t = 0; t < steps; ++t, in.data += in.step, out += out_step) {
#pragma GCC unroll 4
        for (int m = 0; m < M; ++m) {
          Vec sum = from[m];
#pragma GCC unroll 4
          for (int k = 0; k < K; ++k) {
            sum += weights[m][k] * load<Vec>(in.data + k * in.step + m * kLanes);
          }
          store(out + m * kLanes, sum);
        }
      }
    } else {
      for (int64_t t = 0; t < steps; ++t, in.data += in.step, out += out_step) {
        for (int m = 0; m < M; ++m) {
          Vec sum = start[m];
          for (int64_t k = 0; k < kernel; ++k) {
            sum += w[m * kernel + k] * load<Vec>(in.data + k * in.step + m * kLanes);
          }
          store(out + m * kLanes, sum);
        }
      }
    }
  }
};

// Of all maps, `centre` taken off unless it is null.
SLEEPTOOLS_INLINE void depthwise(Steps in, int64_t maps, const float* w, int64_t kernel,
                                 const float* centre, int64_t steps, float* out, int64_t out_step) {
  for (int64_t map = 0; map < maps; map += kDepthwise) {
    Vec start[kDepthwise] = {};
    for (int64_t m = map; centre && m < smaller(maps, map + kDepthwise); ++m) {
      start[m - map] -= centre[m];
    }
    const auto run = [&](auto known) {
      tile<DepthwiseTile<decltype(known)::value>, kDepthwise>(
          maps - map, Steps{in.data + map * kLanes, in.step}, w + map * kernel, kernel,
          static_cast<const Vec*>(start), steps, out + map * kLanes, out_step);
    };
    kernel == 3 ? run(std::integral_constant<int, 3>{}) : run(std::integral_constant<int, 0>{});
  }
}

}  // namespace sleeptools::SLEEPTOOLS_VARIANT
