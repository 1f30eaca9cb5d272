// Blocks of separable convolutions over a signal and the mean over time, one task per signal.
//
// Time is in the vector lanes. A signal is cut into kLanes segments, and lane l of the vector at
// step t holds sample t of segment l. The neighbour in time of a vector is then the vector beside
// it, a pool over two samples is the maximum of two vectors, every 4th sample is every 4th vector,
// and lanes are shifted only where segments meet (`fill_margins`).
//
// A unit goes from memory to memory in one pass: the depthwise results of a few steps, which stay
// in L1, and from those, with the sums in registers, pointwise convolution, pool and ReLU.
#include "rows.h"
#include "transpose.h"

namespace sleeptools::SLEEPTOOLS_VARIANT {
namespace {

static_assert(kColumns == 2 && kLanes <= SeparableStream::kMaxLanes);
constexpr int kOutputs = kLanes == 16 ? 8 : 4;  // of a tile: widths are multiples of them
constexpr int64_t kPairs = SeparableStream::kPairs;

// Feature maps: of each, `margin` vectors that repeat its neighbours' ends, `steps` vectors, and
// `margin` vectors again. What lies beyond `length` samples is zero.
struct Maps {
  float* data;
  int64_t count, steps, margin, length;

  int64_t stride() const { return (steps + 2 * margin) * kLanes; }
  float* at(int64_t map, int64_t step) const {
    return data + map * stride() + (margin + step) * kLanes;
  }
};

struct Unit {
  const float *depthwise, *pointwise, *bias;
};

// As PyTorch's: a NaN wins. The x86 maximum returns its second operand where one is NaN; equal
// numbers stay what they are when their bits are joined.
SLEEPTOOLS_INLINE Vec maximum(Vec a, Vec b) {
#if defined(__AVX512F__)
  return _mm512_or_ps(_mm512_max_ps(a, b), _mm512_max_ps(b, a));
#elif defined(__AVX2__)
  return _mm256_or_ps(_mm256_max_ps(a, b), _mm256_max_ps(b, a));
#elif defined(__x86_64__)
  return _mm_or_ps(_mm_max_ps(a, b), _mm_max_ps(b, a));
#else
  return (b > a) | (b != b) ? b : a;
#endif
}

// All bits set in the lanes whose segment has a sample at `step`.
SLEEPTOOLS_INLINE Ints present(const Maps& maps, int64_t step) {
  alignas(64) static constexpr int32_t kLane[16] = {0, 1, 2,  3,  4,  5,  6,  7,
                                                    8, 9, 10, 11, 12, 13, 14, 15};
  Ints lane;
  __builtin_memcpy(&lane, kLane, sizeof lane);
  return lane * static_cast<int32_t>(maps.steps) + static_cast<int32_t>(step) <
         static_cast<int32_t>(maps.length);
}

// The same two steps of each input.
struct Steps {
  const float* data;
  int64_t second, input;  // from the first step to the second, and from an input to the next
};

// sums[m] += w[., m] in over the inputs; w is (inputs, outputs).
template <int M>
SLEEPTOOLS_INLINE void multiply(const float* w, int64_t outputs, const Steps& in, int64_t inputs,
                                Sums<M>& sums) {
  const float* const end = in.data + inputs * in.input;
  for (const float* at = in.data; at < end; at += in.input, w += outputs) {
    const Vec first = load<Vec>(at), second = load<Vec>(at + in.second);
#pragma GCC unroll 8
    for (int m = 0; m < M; ++m) {
      sums[m][0] += w[m] * first;
      sums[m][1] += w[m] * second;
    }
  }
}

// --- where segments meet, and where the signal ends ---------------------------------------------

// Before the first step of a segment comes the last one of the segment before, and the other way
// round; before and after the signal, zeros.
void fill_margins(const Maps& maps) {
  for (int64_t map = 0; map < maps.count; ++map) {
    for (int64_t i = 1; i <= maps.margin; ++i) {
      float* const before = maps.at(map, -i);
      store(before, load<Vec>(maps.at(map, maps.steps - i) - 1));
      before[0] = 0.0f;
      float* const after = maps.at(map, maps.steps - 1 + i);
      store(after, load<Vec>(maps.at(map, i - 1) + 1));
      after[kLanes - 1] = 0.0f;
    }
  }
}

void read_signal(const float* x, const Maps& out) {
  for (int64_t step = 0; step < out.steps; step += kLanes) {
    Vec rows[kLanes];
    for (int lane = 0; lane < kLanes; ++lane) {
      const int64_t sample = lane * out.steps + step;
      rows[lane] = load_some(x + sample, out.length - sample);
    }
    transpose(rows);
    const int64_t count = smaller(out.steps - step, kLanes);
    for (int64_t i = 0; i < count; ++i) store(out.at(0, step + i), rows[i]);
  }
}

// --- a unit: depthwise and pointwise convolution, ReLU, pool ------------------------------------

// Depthwise results of `pairs` pairs of steps from `step` on: (pair, map, 2 steps). K is the
// kernel, or 0 where the compiler does not know it.
template <int K>
SLEEPTOOLS_INLINE void depthwise(const Maps& in, const float* w, int64_t kernel, int64_t step,
                                 int64_t pairs, float* out) {
  const int64_t taps = K > 0 ? K : kernel;
  for (int64_t map = 0; map < in.count; ++map, w += taps) {
    const float* x = in.at(map, step - taps / 2);
    for (int64_t pair = 0; pair < pairs; ++pair, x += kBlock) {
      Vec even = {}, odd = {};
      for (int64_t k = 0; k < taps; ++k) {
        even += w[k] * load<Vec>(x + k * kLanes);
        odd += w[k] * load<Vec>(x + (k + 1) * kLanes);
      }
      float* const to = out + (pair * in.count + map) * kBlock;
      store(to, even);
      store(to + kLanes, odd);
    }
  }
}

// The last window of an odd length holds one step: it sees that one twice.
SLEEPTOOLS_INLINE void repeat_last(const Maps& in, int64_t step, int64_t pairs, float* pair) {
  const int64_t last = in.length - 1, offset = last % in.steps - step;
  if (last % 2 != 0 || offset < 0 || offset >= 2 * pairs) return;
  float* at = pair + offset / 2 * in.count * kBlock + last / in.steps;
  for (int64_t map = 0; map < in.count; ++map, at += kBlock) at[kLanes] = at[0];
}

// Pointwise convolution, pool and ReLU for M maps of the output and `pairs` of its steps; kAdd adds
// that to what is there.
template <bool kAdd>
struct Pool {
  template <int M>
  static void run(const float* w, const float* bias, const float* in, int64_t inputs, int64_t pairs,
                  Maps out, int64_t map, int64_t step) {
    for (int64_t pair = 0; pair < pairs; ++pair, in += inputs * kBlock) {
      Sums<M> sums;
#pragma GCC unroll 8
      for (int m = 0; m < M; ++m) sums[m][0] = sums[m][1] = Vec{} + bias[m];
      multiply<M>(w, out.count, {in, kLanes, kBlock}, inputs, sums);
      const Ints mask = present(out, step + pair);
      float* to = out.at(map, step + pair);
#pragma GCC unroll 8
      for (int m = 0; m < M; ++m, to += out.stride()) {
        Vec value = relu(maximum(sums[m][0], sums[m][1]));
        if (kAdd) value += load<Vec>(to);
        store(to, (Vec)((Ints)value & mask));
      }
    }
  }
};

template <bool kAdd, int K>
void unit(const Unit& w, int64_t kernel, const Maps& in, const Maps& out, float* pair) {
  fill_margins(in);
  for (int64_t step = 0; step < out.steps; step += kPairs) {
    const int64_t pairs = smaller(out.steps - step, kPairs);
    depthwise<K>(in, w.depthwise, kernel, 2 * step, pairs, pair);
    repeat_last(in, 2 * step, pairs, pair);
    for (int64_t map = 0; map < out.count; map += kOutputs) {
      tile<Pool<kAdd>, kOutputs>(out.count - map, w.pointwise + map, w.bias + map, pair, in.count,
                                 pairs, out, map, step);
    }
  }
}

// --- the shortcut: a matrix on every 4th step ---------------------------------------------------

struct Shortcut {
  template <int M>
  static void run(const float* w, const float* bias, Maps in, Maps out, int64_t map) {
    for (int64_t step = 0; step < out.steps; step += 2) {
      const bool full_window = step + 1 < out.steps;
      Sums<M> sums;
#pragma GCC unroll 8
      for (int m = 0; m < M; ++m) sums[m][0] = sums[m][1] = Vec{} + bias[m];
      const Steps steps = {in.at(0, 4 * step), full_window ? 4 * kLanes : 0, in.stride()};
      multiply<M>(w, out.count, steps, in.count, sums);
      float* to = out.at(map, step);
#pragma GCC unroll 8
      for (int m = 0; m < M; ++m, to += out.stride()) {
        store(to, sums[m][0]);
        if (full_window) store(to + kLanes, sums[m][1]);
      }
    }
  }
};

void shortcut(const float* w, const float* bias, const Maps& in, const Maps& out) {
  for (int64_t map = 0; map < out.count; map += kOutputs) {
    tile<Shortcut, kOutputs>(out.count - map, w + map, bias + map, in, out, map);
  }
}

// --- blocks -------------------------------------------------------------------------------------

// Reads the weights of a unit and moves on behind them.
Unit next_unit(const float*& w, int64_t kernel, int64_t inputs, int64_t outputs) {
  const Unit unit = {w, w + inputs * kernel, w + inputs * (kernel + outputs)};
  w = unit.bias + outputs;
  return unit;
}

template <int K>
void block(const float*& w, int64_t kernel, const Maps& in, const Maps& middle, const Maps& out,
           float* pair) {
  const Unit first = next_unit(w, kernel, in.count, out.count);
  const Unit second = next_unit(w, kernel, out.count, out.count);
  shortcut(w, w + out.count * in.count, in, out);
  w += out.count * (in.count + 1);
  unit<false, K>(first, kernel, in, middle, pair);
  unit<true, K>(second, kernel, middle, out, pair);
}

SLEEPTOOLS_INLINE Maps pooled(const Maps& in, int64_t count, float* data) {
  return {data, count, in.steps / 2, in.margin, (in.length + 1) / 2};
}

void mean(const Maps& in, float* out) {
  for (int64_t map = 0; map < in.count; ++map) {
    Vec total = {};
    for (int64_t t = 0; t < in.steps; ++t) total += load<Vec>(in.at(map, t));
    out[map] = sum(total) / in.length;
  }
}

// One signal through all blocks; `features` is its part of the output.
void run(const SeparableStream& op, const float* x, float* space, float* features) {
  const SeparableStream::Workspace parts = workspace(op, kLanes);
  float *first = space, *second = first + parts.maps;
  float *const between = second + parts.maps, *const pair = between + parts.middle;
  const float* w = op.weights;
  Maps in = {first, 1, segment(op, kLanes), op.kernel / 2, op.samples};
  read_signal(x, in);
  for (int64_t i = 0; i < op.blocks; ++i) {
    const Maps middle = pooled(in, op.widths[i], between);
    const Maps out = pooled(middle, op.widths[i], in.data == first ? second : first);
    const auto run_block = op.kernel == 3 ? block<3> : block<0>;
    run_block(w, op.kernel, in, middle, out, pair);
    in = out;
  }
  mean(in, features);
}

}  // namespace

void separable_stream(const SeparableStream& op, int threads) {
  const int64_t floats = workspace(op, SeparableStream::kMaxLanes).floats;
  const int64_t outputs = op.widths[op.blocks - 1];
#pragma omp parallel num_threads(threads) if (threads > 1)
  {
    float* const slot = op.space + thread_number() * floats;
    // from a cache line on
    float* const mine = slot + (64 - reinterpret_cast<uintptr_t>(slot) % 64) % 64 / sizeof(float);
#pragma omp for schedule(dynamic, 1)
    for (int64_t task = 0; task < op.batch * op.signals; ++task) {
      run(op, op.x + task * op.samples, mine, op.out + task * outputs);
    }
  }
}

}  // namespace sleeptools::SLEEPTOOLS_VARIANT
