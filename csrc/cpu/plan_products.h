// Steps of a compiled network that are products with its weights: convolutions and LSTMs, in
// float32 or with operands rounded to bfloat16. The products are those of strided_rows.h.
#pragma once

#include "plan_rows.h"
#include "strided_rows.h"

namespace sleeptools::SLEEPTOOLS_VARIANT {

using FloatProduct = StridedProduct<Float32>;

// The sums of some rows for V vectors of outputs from `o` on, and what follows.
template <int V>
SLEEPTOOLS_INLINE void convolve_vectors(const Rows& rows, FloatProduct product, int64_t o) {
  blocks<Float32, V>(product, rows.last - rows.first);
  const float* sums = product.tile;
  for (int64_t t = rows.first; t < rows.last; ++t) {
#pragma GCC unroll 4
    for (int v = 0; v < V; ++v, sums += kLanes) {
      const int64_t map = o + v * kLanes, remaining = rows.step.outputs - map;
      const Vec sum = load<Vec>(sums);
      if (remaining >= kLanes) {
        finish(rows, t, map, sum, WholeLanes{});
      } else {
        finish(rows, t, map, sum, SomeLanes{remaining});
      }
    }
  }
}

// `count` is known at run time only: it is compared with V, V - 1, ... 1.
template <int V = kWidest * kPanelVecs>
SLEEPTOOLS_INLINE void convolve_some(const Rows& rows, const FloatProduct& product, int64_t o,
                                     int64_t count) {
  if (count == V) return convolve_vectors<V>(rows, product, o);
  if constexpr (V > 1) convolve_some<V - 1>(rows, product, o, count);
}

static void convolve(const Rows& rows) {
  constexpr int64_t kSome = kManyRows<Float32>, kWide = kWidest * kPanel;
  alignas(64) float tile[kSome * kWide];
  const Step& step = rows.step;
  const bool joined = step.dilation == 1 && step.source_row == step.inputs;
  const int64_t taps = joined ? 1 : step.kernel, depth = step.kernel * step.inputs / taps;
  const int64_t panel = step.kernel * step.inputs * kPanel;
  for (int64_t first = rows.first, last = 0; first < rows.last; first = last) {
    last = next_rows<Float32>(first, rows.last);
    const Rows some = {rows.op, step, rows.arena, rows.scratch, first, last};
    const float* in = rows.source(first * step.stride - step.pad);
    for (int64_t o = 0; o < step.outputs; o += kWide) {
      const int64_t width = smaller(step.outputs - o, kWide);
      const float* w = rows.vector(step.weight) + o / kPanel * panel;
      const FloatProduct product = {in,   step.stride * step.source_row,  depth, w, panel, tile,
                                    taps, step.dilation * step.source_row};
      convolve_some(some, product, o, (width + kLanes - 1) / kLanes);
    }
  }
}

#if defined(__AVX512BF16__)
// --- in bfloat16
// ---------------------------------------------------------------------------------------

// Rows of a signal in precision P, `width` values each, without a gap, and zeros behind them. What
// lies `ahead` of them is fetched to L2, for it will be rounded next.
template <class P>
SLEEPTOOLS_INLINE void round_rows(const float* in, int64_t row, int64_t rows, int64_t width,
                                  int64_t ahead, typename P::T* out) {
  if (row == width) width *= rows, rows = 1;
  for (int64_t r = 0; r < rows; ++r, in += row, out += width) {
    for_maps(width, [&](int64_t o, auto lanes) {
      __builtin_prefetch(in + ahead + o, 0, 2);
      // what a last vector has too many, the next row replaces
      P::write(out + o, lanes.read(in + o));
    });
  }
  __builtin_memset(out, 0, kTileDepth * sizeof(typename P::T));
}

// The same of rows that are rounded already.
SLEEPTOOLS_INLINE void copy_rows(const uint16_t* in, int64_t row, int64_t rows, int64_t width,
                                 uint16_t* out) {
  if (row == width) width *= rows, rows = 1;
  for (int64_t r = 0; r < rows; ++r, in += row, out += width) {
    __builtin_memcpy(out, in, width * sizeof(uint16_t));
  }
  __builtin_memset(out, 0, kTileDepth * sizeof(uint16_t));
}

// The rows that a block of the target sees are rounded to the scratch first; there the taps lie
// side by side in any case, for of rows of the target that are `dilation` apart, each sees every
// dilation-th row of the source. Rows that are rounded and side by side stay where they are, if no
// zeros are needed behind a window.
template <class P>
void convolve_rounded(const Rows& rows) {
  using T = typename P::T;
  alignas(64) float tile[kManyRows<P> * kWidest * kPanel];
  const Step& step = rows.step;
  const int64_t apart = step.dilation, depth = step.kernel * step.inputs;
  const int64_t panel = panel_size<P>(depth), next = step.stride * step.inputs;
  const int64_t block = kManyRows<P> * apart, ahead = block * step.stride * step.source_row;
  const bool stays =
      step.source_bf16 && apart == 1 && step.source_row == step.inputs && depth % P::kDepth == 0;
  T* const scratch = reinterpret_cast<T*>(rows.scratch);
  for (int64_t first = rows.first; first < rows.last; first += block) {
    const int64_t last = smaller(first + block, rows.last);
    for (int64_t t = first; t < smaller(first + apart, last); ++t) {
      const int64_t count = (last - t + apart - 1) / apart;
      const int64_t top = t * step.stride - step.pad, row = apart * step.source_row;
      const int64_t sources = (count - 1) * step.stride + step.kernel;
      const T* const in = stays ? rows.half_source(top) : scratch;
      if (step.source_bf16) {
        if (!stays) copy_rows(rows.half_source(top), row, sources, step.inputs, scratch);
      } else {
        round_rows<P>(rows.source(top), row, sources, step.inputs, ahead, scratch);
      }
      for (int64_t o = 0; o < step.outputs; o += kWidest * kPanel) {
        const int64_t panels = step.outputs - o > kPanel ? kWidest : 1;
        const float* const w = rows.vector(step.weight) + o / kPanel * panel;
        multiply<P>({in, next, depth, w, panel, tile}, count, static_cast<int>(panels));
        const int64_t outputs = smaller(step.outputs - o, panels * kPanel), width = panels * kPanel;
        const float* const sums = tile;
        if (step.target_bf16) {
          finish_tile(rows, t, apart, count, o, outputs, sums, width, rows.half_target(t));
        } else {
          finish_tile(rows, t, apart, count, o, outputs, sums, width, rows.target(t));
        }
      }
    }
  }
}
#endif

static void convolve_rows(const Rows& rows) {
#if defined(__AVX512BF16__)
  if (rows.step.bf16) return convolve_rounded<Fastest>(rows);
#endif
  convolve(rows);
}

// --- LSTM
// ---------------------------------------------------------------------------------------

constexpr int64_t kStates = ConvPlan::kMostMaps + kPanel, kGates = 4 * ConvPlan::kMostMaps + kPanel;

// gates += weights state of R epochs, V vectors of them.
template <int R, int V>
SLEEPTOOLS_INLINE void add_state(const float* w, int64_t row, const float* state, int64_t maps,
                                 float* gates) {
  Vec sums[R][V];
#pragma GCC unroll 4
  for (int r = 0; r < R; ++r) {
#pragma GCC unroll 8
    for (int v = 0; v < V; ++v) sums[r][v] = load<Vec>(gates + r * kGates + v * kLanes);
  }
  for (int64_t k = 0; k < maps; ++k, w += row) {
    Vec weight[V];
#pragma GCC unroll 8
    for (int v = 0; v < V; ++v) weight[v] = load<Vec>(w + v * kLanes);
#pragma GCC unroll 4
    for (int r = 0; r < R; ++r) {
#pragma GCC unroll 8
      for (int v = 0; v < V; ++v) sums[r][v] += state[r * kStates + k] * weight[v];
    }
  }
#pragma GCC unroll 4
  for (int r = 0; r < R; ++r) {
#pragma GCC unroll 8
    for (int v = 0; v < V; ++v) store(gates + r * kGates + v * kLanes, sums[r][v]);
  }
}

// For all gates of R epochs, V vectors at a time.
template <int R, int V>
SLEEPTOOLS_INLINE void add_states(const float* w, const float* state, int64_t maps, float* gates) {
  const int64_t row = ConvBlock::whole_panels(4 * maps);
  int64_t o = 0;
  for (; o + V * kLanes <= row; o += V * kLanes) {
    add_state<R, V>(w + o, row, state, maps, gates + o);
  }
  for (; o < row; o += kLanes) add_state<R, 1>(w + o, row, state, maps, gates + o);
}

// As many epochs at a time as there are registers for.
struct FloatStates {
  const float* w;
  int64_t maps;

  void add(const float* state, int64_t epochs, float* gates) const {
    constexpr int kWide = kLanes == 16 ? 4 : 2;
    int64_t e = 0;
    for (; e + 4 <= epochs; e += 4) {
      add_states<4, kWide>(w, state + e * kStates, maps, gates + e * kGates);
    }
    for (; e + 2 <= epochs; e += 2) {
      add_states<2, 4>(w, state + e * kStates, maps, gates + e * kGates);
    }
    if (e < epochs) add_states<1, 8>(w, state + e * kStates, maps, gates + e * kGates);
  }
};

#if defined(__AVX512BF16__)
template <class P>
struct RoundedStates {
  const float* w;
  int64_t maps;

  void add(const float* state, int64_t epochs, float* gates) const {
    constexpr int64_t kRow = ConvPlan::kMostMaps + kTileDepth;
    alignas(64) typename P::T in[kTileRows * kRow];
    alignas(64) float tile[kTileRows * kWidest * kPanel];
    const int64_t panel = panel_size<P>(maps), outputs = ConvBlock::whole_panels(4 * maps);
    for (int64_t e = 0; e < epochs; ++e) {
      round_rows<P>(state + e * kStates, maps, 1, maps, 0, in + e * kRow);
    }
    for (int64_t o = 0; o < outputs; o += kWidest * kPanel) {
      const int panels = outputs - o > kPanel ? kWidest : 1;
      multiply<P>({in, kRow, maps, w + o / kPanel * panel, panel, tile}, epochs, panels);
      const float* sums = tile;
      for (int64_t e = 0; e < epochs; ++e) {
        for (int64_t v = 0; v < panels * kPanel; v += kLanes, sums += kLanes) {
          float* const gate = gates + e * kGates + o + v;
          store(gate, load<Vec>(gate) + load<Vec>(sums));
        }
      }
    }
  }
};
#endif

// The whole of a signal in some epochs' arenas, step after step, forwards or backwards. The epochs
// go side by side, for the weights come from further away than L1.
template <class States>
void recur(const ConvPlan& op, const Step& step, float* arenas, int64_t epochs) {
  constexpr int64_t kMost = ConvPlan::kMostTogether;
  alignas(64) float gates[kMost * kGates], state[kMost * kStates], memory[kMost * kStates];
  const int64_t maps = step.outputs;
  const States states = {op.packed + step.weight, maps};
  __builtin_memset(gates, 0, epochs * kGates * sizeof(float));
  __builtin_memset(state, 0, epochs * kStates * sizeof(float));
  __builtin_memset(memory, 0, epochs * kStates * sizeof(float));
  for (int64_t i = 0; i < step.steps; ++i) {
    const int64_t t = step.kind == ConvPlan::kLstmReversed ? step.steps - 1 - i : i;
    for (int64_t e = 0; e < epochs; ++e) {
      const float* const in = arenas + e * op.arena + step.source + t * step.source_row;
      __builtin_memcpy(gates + e * kGates, in, 4 * maps * sizeof(float));
    }
    states.add(state, epochs, gates);
    for (int64_t e = 0; e < epochs; ++e) {
      float *const now = state + e * kStates, *const kept = memory + e * kStates;
      for (int64_t m = 0; m < maps; m += kLanes) {
        const float* const gate = gates + e * kGates + m;
        const Vec cell = sigmoid(load<Vec>(gate + maps)) * load<Vec>(kept + m) +
                         sigmoid(load<Vec>(gate)) * hyperbolic_tangent(load<Vec>(gate + 2 * maps));
        store(kept + m, cell);
        store(now + m, sigmoid(load<Vec>(gate + 3 * maps)) * hyperbolic_tangent(cell));
      }
      float* const out = arenas + e * op.arena + step.target + t * step.target_row;
      __builtin_memcpy(out, now, maps * sizeof(float));
    }
  }
}

static void recur_epochs(const ConvPlan& op, const Step& step, float* arenas, int64_t epochs) {
#if defined(__AVX512BF16__)
  if (step.bf16) return recur<RoundedStates<Fastest>>(op, step, arenas, epochs);
#endif
  recur<FloatStates>(op, step, arenas, epochs);
}

}  // namespace sleeptools::SLEEPTOOLS_VARIANT
