// What separable blocks in training and their gradients share. Lanes are signals, so that a step's
// neighbours in time are the vectors before and behind it, a pool takes two vectors, and nothing is
// shifted between lanes. See separable_layout.h.
#pragma once

#include <type_traits>

#include "../separable_layout.h"
#include "activations.h"
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

// What a thread works with. All start with a cache line.
struct Slot {
  float* rows;    // (steps, inputs and outputs)
  float* first;   // (steps, outputs of the first unit)
  float* line;    // depthwise results of the first unit
  float* out;     // (steps, maps): outputs, or gradients before a depthwise convolution
  float* grads;   // (steps, maps): gradients behind it
  float* sums;    // products
  float* taps;    // (maps, kernel): of gradients with shifted inputs
  float* totals;  // (maps)
  float* centre;  // (maps), numbers

  Slot(const SeparableLayout& layout, int64_t kernel, float* start) {
    const int64_t steps = layout.steps();
    rows = start;
    first = rows + layout.rows * kLanes;
    line = first + layout.first * kLanes;
    out = line + 2 * (layout.first + 1) * kLanes;
    grads = out + steps * layout.apart(layout.widest) * kLanes;
    sums = grads + steps * layout.apart(layout.widest) * kLanes;
    taps = sums + layout.sums * kLanes;
    totals = taps + layout.widest * kernel * kLanes;
    centre = totals + layout.widest * kLanes;
  }
};

// The op, and the parts of its workspace.
struct Blocks {
  const SeparableBlocks& op;
  SeparableLayout layout;
  float* folded;
  float* back;
  float* partials;  // (groups, layout.partial)
  float* totals;    // (layout.partial)
  float* slots;
  float* grads;  // of the units' outputs, a group's after the other's; not in the forward pass

  explicit Blocks(const SeparableBlocks& op) : op(op), layout(op, kLanes) {
    const auto whole = SeparableLayout::whole;
    folded = aligned(op.workspace);
    back = folded + whole(layout.folded);
    totals = back + whole(layout.back);
    partials = totals + whole(layout.partial);
    slots = folded + layout.shared_floats(op);
    grads = slots + op.slots * layout.slot_floats(op.kernel);
  }

  const SeparableUnit& unit(int64_t k) const { return layout.unit[k]; }
  float* centre(int64_t k) const { return folded + unit(k).folded; }
  float* matrix(int64_t k) const { return centre(k) + unit(k).inputs; }
  const float* weight(int64_t offset) const { return op.weights + offset; }
  float* partial(int64_t group) const {
    return partials + group * SeparableLayout::whole(layout.partial);
  }
  Slot slot(int64_t thread) const {
    return {layout, op.kernel, slots + thread * layout.slot_floats(op.kernel)};
  }
  // Values that a statistic of unit k is over.
  double count(int64_t k) const {
    return static_cast<double>(op.signals) * static_cast<double>(unit(k).steps);
  }
};

// A group of signals, and the slot of the thread that works on it.
struct Group {
  const Blocks& all;
  Slot slot;
  int64_t index;

  int64_t first_signal() const { return index * kLanes; }
  int64_t signals() const {
    const int64_t remaining = all.op.signals - first_signal();
    return remaining < 0 ? 0 : smaller(remaining, kLanes);
  }
  uint32_t live() const { return signals() == kLanes ? kAllLanes : (1u << signals()) - 1; }
  float* maps(int64_t k) const {
    return all.op.maps + (index * all.layout.vectors + all.unit(k).maps) * kLanes;
  }
  Word* marks(int64_t start) const {
    return reinterpret_cast<Word*>(all.op.marks) + index * all.layout.words + start;
  }
};

// --- a unit -------------------------------------------------------------------------------------

// Sets the lanes of signals that are not there to zero.
SLEEPTOOLS_INLINE void mask_dead(const Group& group, int64_t maps, int64_t steps, float* data,
                                 int64_t step) {
  const uint32_t live = group.live();
  if (live == kAllLanes) return;
  for (int64_t t = 0; t < steps; ++t) {
    for (int64_t m = 0; m < maps; ++m) {
      float* const at = data + t * step + m * kLanes;
      store(at, only(load<Vec>(at), live));
    }
  }
}

// Pointwise convolution, ReLU and pool for M maps. Writes marks unless kMarked is false.
template <bool kMarked>
struct Pool {
  template <int M>
  static void run(const float* w, const float* bias, Steps in, int64_t inputs, int64_t outputs,
                  int64_t steps, float* out, int64_t out_step, Word* marks) {
    for (int64_t t = 0; t < steps; t += 2, out += out_step, marks += outputs) {
      Sums<M> sums;
      start<M>(bias, sums);
      const int64_t second = t + 1 < steps ? in.step : 0;  // a last window of one sees it twice
      multiply<M>(w, outputs, in.data + t * in.step, second, inputs, sums);
#pragma GCC unroll 8
      for (int m = 0; m < M; ++m) {
        const Vec value = relu(maximum(sums[m][0], sums[m][1]));
        store(out + m * kLanes, value);
        if constexpr (kMarked) {
          const uint32_t later = not_at_most(sums[m][1], sums[m][0]);
          const uint32_t on = not_at_most(value, Vec{});
          marks[m] = static_cast<Word>((on & ~later) | (on & later) << kLanes);
        }
      }
    }
  }
};

template <bool kMarked>
void pool(const Blocks& all, int64_t k, Steps in, int64_t steps, float* out, int64_t out_step,
          Word* marks) {
  const SeparableUnit& u = all.unit(k);
  const float *w = all.matrix(k), *bias = all.weight(u.beta());
  for (int64_t o = 0; o < u.outputs; o += kMaps) {
    tile<Pool<kMarked>, kMaps>(u.outputs - o, w + o, bias + o, in, u.inputs, u.outputs, steps,
                               out + o * kLanes, out_step, kMarked ? marks + o : nullptr);
  }
}

// Depthwise results of unit k less its centre for steps of `in`, which starts a margin before.
SLEEPTOOLS_INLINE void centred(const Blocks& all, int64_t k, Steps in, const float* centre,
                               int64_t steps, float* out, int64_t out_step) {
  const SeparableUnit& u = all.unit(k);
  depthwise(in, u.inputs, all.weight(u.weights), u.kernel, centre, steps, out, out_step);
}

// The first unit's output from step `first` on, zeros before and behind the signal.
template <bool kMarked>
Steps first_output(const Group& group, int64_t first, int64_t count) {
  const Blocks& all = group.all;
  const SeparableUnit& u = all.unit(0);
  const int64_t step = SeparableLayout::apart(u.outputs) * kLanes;
  const int64_t begin = first < 0 ? 0 : first, end = smaller(first + count, u.pooled);
  float* const out = group.slot.first;
  clear(out, (begin - first) * step);
  if (first + count > end) clear(out + (end - first) * step, (first + count - end) * step);
  const int64_t steps = smaller(2 * end, u.steps) - 2 * begin;
  const Steps in = {group.maps(0) + 2 * begin * kLanes, kLanes};
  centred(all, 0, in, all.centre(0), steps, group.slot.line, kLanes);
  pool<kMarked>(all, 0, {group.slot.line, kLanes}, steps, out + (begin - first) * step, step,
                kMarked ? group.marks(u.marks) + begin * u.outputs : nullptr);
  return {out, step};
}

// Input of unit k from a margin before `step` on to a margin behind `count` steps.
template <bool kMarked = false>
SLEEPTOOLS_INLINE Steps input(const Group& group, int64_t k, int64_t step, int64_t count) {
  const int64_t margin = group.all.layout.margin;
  if (k == 1) return first_output<kMarked>(group, step - margin, count + 2 * margin);
  const int64_t maps = group.all.unit(k).inputs;
  return {group.maps(k) + step * maps * kLanes, maps * kLanes};
}

// Depthwise results less their centre as the statistics see them: of the first unit, the shifted
// copies of its one map.
SLEEPTOOLS_INLINE void tapped(const Blocks& all, int64_t k, Steps in, const float* centre,
                              int64_t steps, float* out, int64_t out_step) {
  if (k > 0) return centred(all, k, in, centre, steps, out, out_step);
  for (int64_t tap = 0; tap < all.unit(0).taps; ++tap) {
    for (int64_t t = 0; t < steps; ++t) {
      store(out + t * out_step + tap * kLanes,
            load<Vec>(in.data + (t + tap) * in.step) - centre[tap]);
    }
  }
}

// Weight of a statistic's input for an output.
SLEEPTOOLS_INLINE float weight_of(const Blocks& all, int64_t k, int64_t tap, int64_t o) {
  const SeparableUnit& u = all.unit(k);
  if (k > 0) return *all.weight(u.pointwise() + tap * u.outputs + o);
  return *all.weight(u.weights + tap) * *all.weight(u.pointwise() + o);
}

SLEEPTOOLS_INLINE float inverse_deviation(const Blocks& all, int64_t k, int64_t o) {
  return 1.0f / __builtin_sqrtf(all.op.variance[all.unit(k).norm + o] + all.op.eps);
}

// Folds BatchNorm into the pointwise matrix of unit k for one output.
SLEEPTOOLS_INLINE void fold(const Blocks& all, int64_t k, int64_t o) {
  const SeparableUnit& u = all.unit(k);
  const float scale = *all.weight(u.gamma() + o) * inverse_deviation(all, k, o);
  for (int64_t i = 0; i < u.inputs; ++i) {
    all.matrix(k)[i * u.outputs + o] = *all.weight(u.pointwise() + i * u.outputs + o) * scale;
  }
}

// The centre of a unit's depthwise results, from the means in the moments.
SLEEPTOOLS_INLINE void set_centre(const Blocks& all, int64_t k) {
  const SeparableUnit& u = all.unit(k);
  const float* means = all.op.moments + u.moments;
  if (k > 0) {
    for (int64_t i = 0; i < u.inputs; ++i) all.centre(k)[i] = means[i];
  } else {
    double centre = 0.0;
    for (int64_t tap = 0; tap < u.taps; ++tap) {
      centre += static_cast<double>(*all.weight(u.weights + tap)) * means[tap];
    }
    all.centre(0)[0] = static_cast<float>(centre);
  }
}

}  // namespace sleeptools::SLEEPTOOLS_VARIANT
