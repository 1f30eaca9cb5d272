// Convolution streams: convolution, activation and pool, layer after layer, in cache.
//
// Signals are kept channels-last, (time, channel). Then all taps and channels that an output step
// sees lie side by side in memory, the next step sees the same `stride` rows further on, and a
// convolution is a matrix product whose left matrix has overlapping rows:
//
//   out[t, o] = sum_j in[t * stride * channels + j] * weight[j, o],  j < kernel * channels
//
// `dots` computes it for a few steps by one or more panels of 16 outputs, with the sums in
// registers; the overlapping rows are never copied out. Padding is rows of zeros before and after.
#ifdef _OPENMP
#include <omp.h>
#endif

#include "variant.h"

namespace sleeptools::SLEEPTOOLS_VARIANT {
namespace {

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
constexpr int kTileRows = 16;

// Steps that `dots` computes at once for `panels` panels.
constexpr int block_rows(int panels) {
  const int rows = kSums / (panels * kPanelVecs);
  return rows < 12 ? rows : 12;
}

// --- precisions
// ----------------------------------------------------------------------------------- T is what
// signals are stored as between layers; a lane of `dot` adds kDepth products.

struct Float32 {
  using T = float;
  static constexpr int kDepth = 1;

  SLEEPTOOLS_INLINE Vec dot(Vec sum, const T* in, Vec weight) { return sum + *in * weight; }
  SLEEPTOOLS_INLINE Vec read(const T* p) { return load<Vec>(p); }
  SLEEPTOOLS_INLINE void write(T* p, Vec v) { store(p, v); }
  SLEEPTOOLS_INLINE T round(float v) { return v; }
};

#if defined(__AVX512BF16__)
struct Bfloat16 {
  using T = uint16_t;
  static constexpr int kDepth = 2;

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
};
#endif

// Writes the first `count` lanes.
template <class P>
SLEEPTOOLS_INLINE void write_some(typename P::T* p, Vec v, int64_t count) {
  if (count >= kLanes) return P::write(p, v);
  typename P::T all[kLanes];
  P::write(all, v);
  for (int64_t i = 0; i < count; ++i) p[i] = all[i];
}

// --- the matrix product
// ---------------------------------------------------------------------------

// The weights of a layer, some panels of them, and what they are multiplied with.
template <class P>
struct Product {
  const typename P::T* in;
  int64_t step;    // from the input of a row to the next row's
  int64_t depth;   // taps times channels
  const float* w;  // the first panel
  int64_t panel;   // from a panel to the next
  float* tile;     // (rows, panels * kPanel)
};

// Sums of kRun products are added up at a time: the rounding errors of one long sum would be twice
// as large.
constexpr int64_t kRun = 128;

template <class P, int R, int N>
void dots(const Product<P>& product) {
  constexpr int kVecs = N * kPanelVecs;
  const auto [in, step, depth, first, panel, tile] = product;
  const float* w = first;
  for (int64_t start = 0; start < depth; start += kRun) {
    const int64_t stop = depth - start < kRun ? depth : start + kRun;
    Vec sum[R][kVecs] = {};
    for (int64_t j = start; j < stop; j += P::kDepth, w += kPanel) {
      Vec weight[kVecs];
#pragma GCC unroll 16
      for (int v = 0; v < kVecs; ++v) {
        weight[v] = load<Vec>(w + v / kPanelVecs * panel + v % kPanelVecs * kLanes);
      }
#pragma GCC unroll 16
      for (int r = 0; r < R; ++r) {
#pragma GCC unroll 16
        for (int v = 0; v < kVecs; ++v) sum[r][v] = P::dot(sum[r][v], in + r * step + j, weight[v]);
      }
    }
    float* at = tile;
#pragma GCC unroll 16
    for (int r = 0; r < R; ++r) {
#pragma GCC unroll 16
      for (int v = 0; v < kVecs; ++v, at += kLanes) {
        store(at, start == 0 ? sum[r][v] : load<Vec>(at) + sum[r][v]);
      }
    }
  }
}

// `rows` is known at run time only: it is compared with R, R - 1, ... 1.
template <class P, int N, int R = block_rows(N)>
SLEEPTOOLS_INLINE void block(const Product<P>& product, int64_t rows) {
  if (rows == R) return dots<P, R, N>(product);
  if constexpr (R > 1) block<P, N, R - 1>(product, rows);
}

// Any number of rows, in blocks of nearly equal size: a block of few rows wastes loads.
template <class P, int N>
void blocks(Product<P> product, int64_t rows) {
  for (int64_t left = (rows + block_rows(N) - 1) / block_rows(N); left > 0; --left) {
    const int64_t now = rows / left;
    block<P, N>(product, now);
    product.in += now * product.step;
    product.tile += now * N * kPanel;
    rows -= now;
  }
}

template <class P>
SLEEPTOOLS_INLINE void multiply(const Product<P>& product, int64_t rows, int panels) {
  if (panels == kWidest) return blocks<P, kWidest>(product, rows);
  blocks<P, 1>(product, rows);
}

// --- activations and pools
// ------------------------------------------------------------------------

// As PyTorch's: a NaN wins.
SLEEPTOOLS_INLINE Vec maximum(Vec a, Vec b) { return (b > a) | (b != b) ? b : a; }

// A rational approximation, |error| < 4e-7; NaN stays.
SLEEPTOOLS_INLINE Vec error_function(Vec x) {
  x = x > 4.0f ? Vec{} + 4.0f : x;
  x = x < -4.0f ? Vec{} - 4.0f : x;
  const Vec s = x * x;
  Vec p = s * -2.72614225801306e-10f + 2.77068142495902e-08f;
  p = p * s + -2.10102402082508e-06f;
  p = p * s + -5.69250639462346e-05f;
  p = p * s + -7.34990630326855e-04f;
  p = p * s + -2.95459980854025e-03f;
  p = p * s + -1.60960333262415e-02f;
  Vec q = s * -1.45660718464996e-05f + -2.13374055278905e-04f;
  q = q * s + -1.68282697438203e-03f;
  q = q * s + -7.37332916720468e-03f;
  q = q * s + -1.42647390514189e-02f;
  return x * p / q;
}

SLEEPTOOLS_INLINE Vec activate(const TwoStreamConv& op, Vec v) {
  switch (op.activation) {
    case TwoStreamConv::kRelu:
      return relu(v);
    case TwoStreamConv::kGelu:
      return 0.5f * v * (1.0f + error_function(v * 0.70710678f));
    default:
      return v > 0.0f ? v : v * op.slope;
  }
}

// Whether the maximum may be taken first: only if the activation never falls. GELU does, below
// -0.75; the sign of the weights does not matter, they come before both.
SLEEPTOOLS_INLINE bool never_falls(const TwoStreamConv& op) {
  return op.activation == TwoStreamConv::kRelu ||
         (op.activation == TwoStreamConv::kLeakyRelu && op.slope >= 0.0f);
}

// The steps [first, last) of a layer's convolution that window `index` of its pool sees.
struct Window {
  int64_t first, last;
};

SLEEPTOOLS_INLINE Window window(const ConvLayer& layer, int64_t index) {
  const int64_t start = index * layer.pool_stride - layer.pool_pad;
  const int64_t stop = start + layer.pool_kernel;
  return {start < 0 ? 0 : start, stop < layer.rows ? stop : layer.rows};
}

// --- layers
// ---------------------------------------------------------------------------------------

// Convolves steps [rows.first, rows.last) for `panels` panels from `panel` on into `tile`.
template <class P>
SLEEPTOOLS_INLINE void convolve(const TwoStreamConv& op, const ConvLayer& layer,
                                const typename P::T* in, Window rows, int64_t panel, int panels,
                                float* tile) {
  const int64_t step = layer.stride * layer.inputs;
  const int64_t depth = layer.kernel * layer.inputs;
  const int64_t size = (depth + P::kDepth - 1) / P::kDepth * kPanel;
  const float* w = op.packed + layer.weight + panel * size;
  multiply<P>({in + rows.first * step, step, depth, w, size, tile}, rows.last - rows.first, panels);
}

// Convolution and activation from precision P to precision Q; `in` starts with its padding.
template <class P, class Q>
void convolve_layer(const TwoStreamConv& op, const ConvLayer& layer, const typename P::T* in,
                    typename Q::T* out) {
  alignas(64) float tile[kTileRows * kWidest * kPanel];
  const int64_t all = (layer.outputs + kPanel - 1) / kPanel;
  int panels = 0;
  for (int64_t panel = 0; panel < all; panel += panels) {
    panels = all - panel < kWidest ? 1 : kWidest;
    const float* bias = op.packed + layer.bias + panel * kPanel;
    const int64_t width = layer.outputs - panel * kPanel;
    int64_t left = (layer.rows + block_rows(panels) - 1) / block_rows(panels);
    for (Window rows = {0, 0}; left > 0; --left, rows.first = rows.last) {
      rows.last = rows.first + (layer.rows - rows.first) / left;
      convolve<P>(op, layer, in, rows, panel, panels, tile);
      for (int64_t t = rows.first; t < rows.last; ++t) {
        const float* sums = tile + (t - rows.first) * panels * kPanel;
        typename Q::T* row = out + t * layer.outputs + panel * kPanel;
        for (int64_t o = 0; o < panels * kPanel && o < width; o += kLanes) {
          const Vec value = load<Vec>(sums + o) + load<Vec>(bias + o);
          write_some<Q>(row + o, activate(op, value), width - o);
        }
      }
    }
  }
}

// Convolution, pool and activation: what the pool drops is neither stored nor activated. For
// windows that do not overlap and an activation that never falls.
template <class P>
void convolve_and_pool_layer(const TwoStreamConv& op, const ConvLayer& layer,
                             const typename P::T* in, typename P::T* out) {
  alignas(64) float tile[kTileRows * kWidest * kPanel];
  const int64_t all = (layer.outputs + kPanel - 1) / kPanel;
  // Neighbouring windows at a time where several fit a block: the weights are then read less often.
  const bool adjoin = layer.pool_stride == layer.pool_kernel;
  const int64_t fit = adjoin ? block_rows(kWidest) / layer.pool_kernel : 1;
  const int64_t group = fit > 1 ? fit : 1;
  int panels = 0;
  for (int64_t panel = 0; panel < all; panel += panels) {
    panels = all - panel < kWidest ? 1 : kWidest;
    const float* bias = op.packed + layer.bias + panel * kPanel;
    const int64_t width = layer.outputs - panel * kPanel;
    for (int64_t t = 0; t < layer.steps; t += group) {
      const int64_t end = t + group < layer.steps ? t + group : layer.steps;
      const Window rows = {window(layer, t).first, window(layer, end - 1).last};
      convolve<P>(op, layer, in, rows, panel, panels, tile);
      for (int64_t u = t; u < end; ++u) {
        const Window own = window(layer, u);
        const float* sums = tile + (own.first - rows.first) * panels * kPanel;
        typename P::T* row = out + u * layer.outputs + panel * kPanel;
        for (int64_t o = 0; o < panels * kPanel && o < width; o += kLanes) {
          Vec best = load<Vec>(sums + o);
          for (int64_t r = 1; r < own.last - own.first; ++r) {
            best = maximum(best, load<Vec>(sums + r * panels * kPanel + o));
          }
          write_some<P>(row + o, activate(op, best + load<Vec>(bias + o)), width - o);
        }
      }
    }
  }
}

// The maximum of lanes `o` and on over a window of `in` (layer.rows, layer.outputs).
template <class P>
SLEEPTOOLS_INLINE Vec pool(const ConvLayer& layer, const typename P::T* in, int64_t t, int64_t o) {
  const Window rows = window(layer, t);
  Vec best = P::read(in + rows.first * layer.outputs + o);
  for (int64_t r = rows.first + 1; r < rows.last; ++r) {
    best = maximum(best, P::read(in + r * layer.outputs + o));
  }
  return best;
}

template <class P>
void pool_layer(const ConvLayer& layer, const typename P::T* in, typename P::T* out) {
  for (int64_t t = 0; t < layer.steps; ++t) {
    for (int64_t o = 0; o < layer.outputs; o += kLanes) {
      write_some<P>(out + t * layer.outputs + o, pool<P>(layer, in, t, o), layer.outputs - o);
    }
  }
}

// The last pool of a stream, turned to (map, step) in the output.
void pool_to_output(const ConvLayer& layer, const float* in, float* out, int64_t steps) {
  for (int64_t o = 0; o < layer.outputs; o += kLanes) {
    const int64_t count = layer.outputs - o < kLanes ? layer.outputs - o : kLanes;
    for (int64_t t = 0; t < layer.steps; ++t) {
      float lanes[kLanes];
      store(lanes, pool<Float32>(layer, in, t, o));
      for (int64_t i = 0; i < count; ++i) out[(o + i) * steps + t] = lanes[i];
    }
  }
}

// --- streams
// --------------------------------------------------------------------------------------

template <class T>
SLEEPTOOLS_INLINE void clear(T* p, int64_t count) {
  __builtin_memset(p, 0, count * sizeof(T));
}

// (C, samples) to (samples, C). A number of channels that the compiler knows lets it use vectors.
template <class P, int C>
SLEEPTOOLS_INLINE void interleave(const float* x, int64_t samples, int64_t channels,
                                  typename P::T* out) {
  const int64_t count = C > 0 ? C : channels;
  for (int64_t t = 0; t < samples; ++t) {
#pragma GCC unroll 4
    for (int64_t c = 0; c < count; ++c) out[t * count + c] = P::round(x[c * samples + t]);
  }
}

// The channels of a stream as (time, channel) with `op.margin` steps of zeros on both sides.
template <class P>
void read_input(const TwoStreamConv& op, const ConvStream& stream, int64_t epoch,
                typename P::T* out) {
  const int64_t channels = stream.channels;
  const float* x = op.x + (epoch * op.channels + stream.channel) * op.samples;
  clear(out, op.margin * channels);
  out += op.margin * channels;
  if (channels == 1) {
    interleave<P, 1>(x, op.samples, 1, out);
  } else if (channels == 2) {
    interleave<P, 2>(x, op.samples, 2, out);
  } else {
    interleave<P, 0>(x, op.samples, channels, out);
  }
  clear(out + op.samples * channels, op.margin * channels + kLanes);
}

// One stream of one epoch. `in` starts with the padding of the first layer; the rows after a layer
// are written where the padding of the next one leaves room.
template <class P>
void run_stream(const TwoStreamConv& op, const ConvStream& stream, int64_t epoch,
                const typename P::T* in, typename P::T* free, typename P::T* other) {
  using T = typename P::T;
  float* out = op.out + (epoch * op.maps + stream.map) * op.steps + stream.step;
  for (int64_t i = 0; i < stream.layers; ++i) {
    const ConvLayer& layer = op.layers[stream.layer + i];
    if (i + 1 == stream.layers) {
      float* const rows = reinterpret_cast<float*>(free);
      convolve_layer<P, Float32>(op, layer, in, rows);
      return pool_to_output(layer, rows, out, op.steps);
    }
    const bool pools = layer.pool_kernel > 1 || layer.pool_stride > 1;
    const bool fused = pools && layer.pool_kernel <= kTileRows &&
                       layer.pool_stride >= layer.pool_kernel && never_falls(op);
    if (pools && !fused) convolve_layer<P, P>(op, layer, in, free);
    // The convolution's input is no longer needed once its rows are in `free`.
    T* const rows = pools && !fused ? other : free;
    const int64_t pad = op.layers[stream.layer + i + 1].pad * layer.outputs;
    clear(rows, pad);
    if (fused) {
      convolve_and_pool_layer<P>(op, layer, in, rows + pad);
    } else if (pools) {
      pool_layer<P>(layer, free, rows + pad);
    } else {
      convolve_layer<P, P>(op, layer, in, rows + pad);
    }
    clear(rows + pad + layer.steps * layer.outputs, pad + kLanes);
    if (rows == free) {
      free = other;
      other = rows;
    }
    in = rows;
  }
}

// Streams [first, last) of an epoch; neighbours that see the same channels read them once.
template <class P>
void run(const TwoStreamConv& op, int64_t epoch, int64_t first, int64_t last, float* slot) {
  using T = typename P::T;
  T* const input = reinterpret_cast<T*>(slot);
  T* const a = reinterpret_cast<T*>(slot + op.input_size);
  T* const b = reinterpret_cast<T*>(slot + op.input_size + op.rows_size);
  for (int64_t i = first; i < last; ++i) {
    const ConvStream& stream = op.streams[i];
    const ConvStream& before = op.streams[i > first ? i - 1 : i];
    if (i == first || stream.channel != before.channel || stream.channels != before.channels) {
      read_input<P>(op, stream, epoch, input);
    }
    const int64_t spare = op.margin - op.layers[stream.layer].pad;
    run_stream<P>(op, stream, epoch, input + spare * stream.channels, a, b);
  }
}

constexpr int64_t kEpochsForWholeTasks = 4;  // for each thread

}  // namespace

void two_stream_conv(const TwoStreamConv& op, int threads) {
  // One task for each stream keeps two cores busy with one epoch.
  const int64_t parts = op.batch < kEpochsForWholeTasks * threads ? op.stream_count : 1;
  const int64_t width = op.stream_count / parts;
  const int64_t slot = op.input_size + 2 * op.rows_size;
#pragma omp parallel num_threads(threads) if (threads > 1)
  {
#ifdef _OPENMP
    float* const mine = op.workspace + omp_get_thread_num() * slot;
#else
    float* const mine = op.workspace;
#endif
#pragma omp for schedule(dynamic, 1)
    for (int64_t task = 0; task < op.batch * parts; ++task) {
      const int64_t first = task % parts * width;
#if defined(__AVX512BF16__)
      if (op.bf16) {
        run<Bfloat16>(op, task / parts, first, first + width, mine);
        continue;
      }
#endif
      run<Float32>(op, task / parts, first, first + width, mine);
    }
  }
}

}  // namespace sleeptools::SLEEPTOOLS_VARIANT
