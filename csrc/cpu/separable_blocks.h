// What separable blocks in training and their gradients share. Lanes are signals, so that a step's
// neighbours in time are the vectors before and behind it, a pool takes two vectors, and nothing is
// shifted between lanes. See separable_layout.h.
#pragma once

#include "../separable_layout.h"
#include "activations.h"
#include "separable_tiles.h"

namespace sleeptools::SLEEPTOOLS_VARIANT {

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
