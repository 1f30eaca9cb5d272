// Blocks of separable convolutions in training. Between two units stand the statistics of the whole
// batch, so there is a pass over the groups of signals for each unit: from its input to its pool,
// and the moments of the next unit's depthwise results while its output is in cache. The sums of
// the groups are joined in their order: nothing depends on the number of threads.
#include "separable_blocks.h"

namespace sleeptools::SLEEPTOOLS_VARIANT {
namespace {

// --- moments ------------------------------------------------------------------------------------

// Parts of a group's sums: about which values they are (pilot), and the sums of the distances and
// of their products.
struct Moments {
  float *pilot, *sums, *products;

  Moments(const SeparableUnit& u, float* partial)
      : pilot(partial), sums(partial + u.taps), products(partial + 2 * u.taps) {}
};

// A value near the mean of each depthwise result: the mean of the first steps.
void set_pilot(const Group& group, int64_t k, Steps rows, int64_t steps) {
  const int64_t taps = group.all.unit(k).taps, signals = group.signals();
  for (int64_t i = 0; i < taps; ++i) {
    Vec total = {};
    for (int64_t t = 0; t < steps; ++t) total += load<Vec>(rows.data + t * rows.step + i * kLanes);
    group.slot.centre[i] = sum(total) / static_cast<float>(steps * (signals ? signals : 1));
  }
}

// Adds some steps of the depthwise results of unit k to the sums of the slot.
template <bool kMarked = false>
void add_moments(const Group& group, int64_t k, int64_t first, int64_t last) {
  const Blocks& all = group.all;
  const SeparableUnit& u = all.unit(k);
  const Slot& slot = group.slot;
  const Steps rows = {slot.rows, SeparableLayout::apart(u.taps) * kLanes};
  for (int64_t t = first; t < last; t += 2 * u.pairs()) {
    const int64_t steps = smaller(last - t, 2 * u.pairs());
    const Steps in = input<kMarked>(group, k, t, steps);
    if (t == 0) clear(slot.centre, u.taps);
    for (int turn = t == 0 ? 0 : 1; turn < 2; ++turn) {
      tapped(all, k, in, slot.centre, steps, slot.rows, rows.step);
      mask_dead(group, u.taps, steps, slot.rows, rows.step);
      if (turn == 0) set_pilot(group, k, rows, steps);
    }
    add_steps(rows, u.taps, steps, slot.totals);
    outer(rows, u.taps, rows, u.taps, steps, true, slot.sums);
  }
}

void begin_moments(const Group& group, int64_t k) {
  const int64_t taps = group.all.unit(k).taps;
  clear(group.slot.totals, taps * kLanes);
  clear(group.slot.sums, taps * taps * kLanes);
}

void end_moments(const Group& group, int64_t k) {
  const SeparableUnit& u = group.all.unit(k);
  const Moments to(u, group.all.partial(group.index));
  for (int64_t i = 0; i < u.taps; ++i) to.pilot[i] = group.slot.centre[i];
  add_lanes(group.slot.totals, u.taps, to.sums);
  add_lanes(group.slot.sums, u.taps * u.taps, to.products);
}

// Mean of a group's depthwise result.
double group_mean(const Moments& sums, int64_t i, double count) {
  return sums.pilot[i] + sums.sums[i] / count;
}

double group_count(const Blocks& all, int64_t k, int64_t g) {
  return static_cast<double>(Group{all, all.slot(0), g}.signals() * all.unit(k).steps);
}

// The mean of a depthwise result over the batch.
void join_means(const Blocks& all, int64_t k, int64_t groups, int64_t i) {
  double total = 0.0;
  for (int64_t g = 0; g < groups; ++g) {
    const double count = group_count(all, k, g);
    if (count > 0) total += group_mean({all.unit(k), all.partial(g)}, i, count) * count;
  }
  all.op.moments[all.unit(k).moments + i] = static_cast<float>(total / all.count(k));
}

// Its covariance with all of them.
void join_products(const Blocks& all, int64_t k, int64_t groups, int64_t i) {
  const SeparableUnit& u = all.unit(k);
  const float* const means = all.op.moments + u.moments;
  float* const row = all.op.moments + u.moments + (i + 1) * u.taps;
  for (int64_t j = 0; j < u.taps; ++j) {
    const int64_t at = i < j ? i * u.taps + j : j * u.taps + i;
    double total = 0.0;
    for (int64_t g = 0; g < groups; ++g) {
      const Moments sums(u, all.partial(g));
      const double count = group_count(all, k, g);
      if (count == 0) continue;
      total += sums.products[at] - static_cast<double>(sums.sums[i]) * sums.sums[j] / count;
      total +=
          count * (group_mean(sums, i, count) - means[i]) * (group_mean(sums, j, count) - means[j]);
    }
    row[j] = static_cast<float>(total / all.count(k));
  }
}

// Mean and variance of an output of unit k before BatchNorm, and its folded weights.
void join_norm(const Blocks& all, int64_t k, int64_t o) {
  const SeparableUnit& u = all.unit(k);
  const float *means = all.op.moments + u.moments, *row = means + u.taps;
  double mean = *all.weight(u.bias() + o), variance = 0.0;
  for (int64_t i = 0; i < u.taps; ++i, row += u.taps) {
    double product = 0.0;
    for (int64_t j = 0; j < u.taps; ++j) {
      product += static_cast<double>(row[j]) * weight_of(all, k, j, o);
    }
    mean += static_cast<double>(weight_of(all, k, i, o)) * means[i];
    variance += product * weight_of(all, k, i, o);
  }
  all.op.mean[u.norm + o] = static_cast<float>(mean);
  all.op.variance[u.norm + o] = static_cast<float>(variance < 0.0 ? 0.0 : variance);
  fold(all, k, o);
}

// --- passes -------------------------------------------------------------------------------------

// Zeros before and behind the maps that unit k reads.
void clear_margins(const Group& group, int64_t k) {
  const SeparableUnit& u = group.all.unit(k);
  const int64_t floats = group.all.layout.margin * u.inputs * kLanes;
  clear(group.maps(k), floats);
  clear(group.maps(k) + floats + u.steps * u.inputs * kLanes, floats);
}

void read_signals(const Group& group) {
  const SeparableBlocks& op = group.all.op;
  clear_margins(group, 0);
  float* const out = group.maps(0) + group.all.layout.margin * kLanes;
  const float* const x = op.x + group.first_signal() * op.samples;
  if (group.signals() == 0) return clear(out, op.samples * kLanes);
  for_columns(x, op.samples, group.signals(), op.samples,
              [=](int64_t t, Vec values) { store(out + t * kLanes, values); });
}

// Dropout of some steps of a block's output, from a multiple of kDrawn on.
void drop_steps(const Group& group, int64_t block, int64_t first, int64_t count, float* out) {
  const SeparableBlocks& op = group.all.op;
  const int64_t maps = op.widths[block];
  const uint64_t seed = op.seed + static_cast<uint64_t>(block);
  Word* const marks = group.marks(group.all.layout.drops[block]) + first * maps;
  Bits signal;
  for (int i = 0; i < kLanes; ++i) signal[i] = static_cast<uint32_t>(group.first_signal() + i);
  for (int64_t t = 0; t < count; t += kDrawn) {
    for (int64_t m = 0; m < maps; ++m) {
      Bits words[kDrawn] = {Bits{} + static_cast<uint32_t>(m),
                            Bits{} + static_cast<uint32_t>((first + t) / kDrawn), signal, Bits{}};
      philox(words, seed);
      for (int64_t i = 0; i < smaller(kDrawn, count - t); ++i) {
        float* const at = out + ((t + i) * maps + m) * kLanes;
        store(at, dropped(load<Vec>(at), words[i], op.drop_below));
        const Vec keep = (Vec)(kept(words[i], op.drop_below) & (Bits)(Vec{} + 1.0f));
        marks[(t + i) * maps + m] = static_cast<Word>(not_at_most(keep, Vec{}));
      }
    }
  }
}

// Adds the shortcut to some steps of a block's output: a matrix on every 4th step of its input.
void add_shortcut(const Group& group, int64_t block, int64_t first, int64_t count, float* out) {
  const Blocks& all = group.all;
  const int64_t k = 2 * block, inputs = all.unit(k).inputs, outputs = all.unit(k).outputs;
  const float* const w = all.weight(all.layout.shortcut[block]);
  const int64_t step = inputs * kLanes;
  const float* const in = group.maps(k) + (all.layout.margin + 4 * first) * step;
  product<true>(w, w + inputs * outputs, {in, 4 * step}, inputs, outputs, count, out,
                outputs * kLanes);
}

void write_features(const Group& group) {
  const SeparableBlocks& op = group.all.op;
  const SeparableUnit& u = group.all.unit(group.all.layout.units - 1);
  for (int64_t m = 0; m < u.outputs; ++m) {
    const Vec mean = load<Vec>(group.slot.totals + m * kLanes) / static_cast<float>(u.pooled);
    for (int64_t lane = 0; lane < group.signals(); ++lane) {
      op.out[(group.first_signal() + lane) * u.outputs + m] = mean[lane];
    }
  }
}

// Unit k from its input to its pool, and the moments of the next one, or the mean over time.
void run_unit(const Group& group, int64_t k) {
  const Blocks& all = group.all;
  const SeparableUnit& u = all.unit(k);
  const bool last = k + 1 == all.layout.units;
  const int64_t step = u.outputs * kLanes, margin = all.layout.margin;
  int64_t gathered = 0;
  last ? clear(group.slot.totals, step) : clear_margins(group, k + 1);
  for (int64_t t = 0; t < u.pooled; t += u.pairs()) {
    const int64_t count = smaller(u.pooled - t, u.pairs());
    const int64_t steps = smaller(u.steps - 2 * t, 2 * count);
    float* const out = last ? group.slot.out : group.maps(k + 1) + (margin + t) * step;
    const Steps rows = {group.slot.rows, u.inputs * kLanes};
    centred(all, k, input(group, k, 2 * t, steps), all.centre(k), steps, group.slot.rows,
            rows.step);
    pool<true>(all, k, rows, steps, out, step, group.marks(u.marks) + t * u.outputs);
    if (k % 2 == 1) {
      add_shortcut(group, k / 2, t, count, out);
      if (all.op.drop_below > 0) drop_steps(group, k / 2, t, count, out);
    }
    if (last) {
      add_steps({out, step}, u.outputs, count, group.slot.totals);
    } else {  // as far as the next unit's kernel sees
      const int64_t seen = t + count == u.pooled ? u.pooled : t + count - margin;
      if (seen > gathered) {
        add_moments(group, k + 1, gathered, seen);
        gathered = seen;
      }
    }
  }
}

// Pass `k`: up to the moments of unit k, or to the end.
void run_pass(const Group& group, int64_t k) {
  const int64_t units = group.all.layout.units;
  if (k < units) begin_moments(group, k);
  if (k == 0) {
    read_signals(group);
    add_moments(group, 0, 0, group.all.unit(0).steps);
  } else if (k == 1) {
    add_moments<true>(group, 1, 0, group.all.unit(1).steps);
  } else {
    run_unit(group, k - 1);
  }
  k < units ? end_moments(group, k) : write_features(group);
}

}  // namespace

void separable_blocks(const SeparableBlocks& op, int threads) {
  const Blocks all(op);
  const int64_t groups = all.layout.groups(op);
#pragma omp parallel num_threads(threads) if (threads > 1)
  {
    const Slot slot = all.slot(thread_number());
    for (int64_t k = 0; k <= all.layout.units; ++k) {
#pragma omp for schedule(dynamic)
      for (int64_t g = 0; g < groups; ++g) run_pass({all, slot, g}, k);
      if (k == all.layout.units) break;
#pragma omp for schedule(static)
      for (int64_t i = 0; i < all.unit(k).taps; ++i) join_means(all, k, groups, i);
#pragma omp for schedule(static)
      for (int64_t i = 0; i < all.unit(k).taps; ++i) join_products(all, k, groups, i);
#pragma omp for schedule(static)
      for (int64_t o = 0; o < all.unit(k).outputs; ++o) {
        if (o == 0) set_centre(all, k);
        join_norm(all, k, o);
      }
    }
  }
}

}  // namespace sleeptools::SLEEPTOOLS_VARIANT
