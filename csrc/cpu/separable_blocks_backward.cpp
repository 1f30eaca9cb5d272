// Gradients of separable blocks. With g the gradient of a unit's BatchNorm, which the marks of the
// pool give back from that of its output, c the centred depthwise results, C their covariance, W
// the pointwise matrix and s = gamma / deviation, all that BatchNorm needs of the batch are the
// sums G = sum g c^T and sum g, since what it normalises is W c:
//
//   d_gamma = diag(W G^T) / deviation =: r     d_W = s (G - r W C / deviation)
//   d_c = W^T s g  -  W^T s sum(g) / n  -  (W^T s r / (n deviation) W) c
//
// So there is a pass over the groups for each unit: with the sums of the batch, its gradients are
// taken through its depthwise convolution, and while they are in cache they go into the sums of the
// unit before. The first unit's need no pass: shifted copies of the signal stand for its depthwise
// results. The gradient of the signals themselves is not made.
#include "separable_blocks.h"

namespace sleeptools::SLEEPTOOLS_VARIANT {
namespace {

// --- sums ---------------------------------------------------------------------------------------

// Where the sums of unit k lie, among vectors or numbers.
struct Places {
  int64_t products;       // (outputs, taps): G
  int64_t ones;           // (outputs)
  int64_t shortcut;       // (inputs of the block, outputs), for the second unit of a block
  int64_t shortcut_ones;  // (outputs)
  int64_t end;

  Places(const Blocks& all, int64_t k) {
    const SeparableUnit& u = all.unit(k);
    products = 0;
    ones = u.outputs * u.taps;
    shortcut = ones + u.outputs;
    shortcut_ones = shortcut + (k % 2 == 1 ? all.unit(k - 1).inputs * u.outputs : 0);
    end = shortcut_ones + (k % 2 == 1 ? u.outputs : 0);
  }
};

float* gradients(const Group& group, int64_t k) {
  const SeparableLayout& layout = group.all.layout;
  return group.all.grads + (group.index * layout.grads + layout.unit[k].grads) * kLanes;
}

// The gradient of BatchNorm's output from that of the pool's, both steps of each window.
void unpool(const Group& group, int64_t k, int64_t first, Steps grad, int64_t steps, float* out,
            int64_t out_step) {
  const int64_t outputs = group.all.unit(k).outputs;
  const Word* marks = group.marks(group.all.unit(k).marks) + first * outputs;
  for (int64_t t = 0; t < steps; t += 2, out += 2 * out_step, marks += outputs) {
    const float* g = grad.data + t / 2 * grad.step;
    for (int64_t o = 0; o < outputs; ++o) {
      const Vec value = load<Vec>(g + o * kLanes);
      store(out + o * kLanes, only(value, marks[o] & kAllLanes));
      if (t + 1 < steps) {
        store(out + out_step + o * kLanes, only(value, static_cast<uint32_t>(marks[o]) >> kLanes));
      }
    }
  }
}

// Adds some pools of unit k, whose gradients `grad` starts with, to the sums of the slot.
void add_sums(const Group& group, int64_t k, int64_t first, int64_t last, Steps grad) {
  const Blocks& all = group.all;
  const SeparableUnit& u = all.unit(k);
  const Slot& slot = group.slot;
  const Places at(all, k);
  const int64_t step = SeparableLayout::apart(u.outputs + u.taps) * kLanes;
  const float* const centre = k == 0 ? all.op.moments : all.centre(k);
  const Steps g = {slot.rows, step}, c = {slot.rows + u.outputs * kLanes, step};
  for (int64_t t = first; t < last; t += u.pairs()) {
    const int64_t count = smaller(last - t, u.pairs());
    const int64_t steps = smaller(u.steps - 2 * t, 2 * count);
    const Steps here = grad.from(t - first);
    unpool(group, k, t, here, steps, slot.rows, step);
    tapped(all, k, input(group, k, 2 * t, steps), centre, steps, slot.rows + u.outputs * kLanes,
           step);
    outer(g, u.outputs, c, u.taps, steps, false, slot.sums);
    add_steps(g, u.outputs, steps, slot.sums + at.ones * kLanes);
    if (k % 2 == 1) {
      const int64_t inputs = all.unit(k - 1).inputs;
      const float* const in = group.maps(k - 1) + (all.layout.margin + 4 * t) * inputs * kLanes;
      outer({in, 4 * inputs * kLanes}, inputs, here, u.outputs, count, false,
            slot.sums + at.shortcut * kLanes);
      add_steps(here, u.outputs, count, slot.sums + at.shortcut_ones * kLanes);
    }
  }
}

// --- passes -------------------------------------------------------------------------------------

// Back through the dropout of a block, for some steps.
void drop_back(const Group& group, int64_t block, int64_t first, int64_t count, float* grad) {
  const SeparableBlocks& op = group.all.op;
  if (op.drop_below == 0) return;
  const int64_t maps = op.widths[block];
  const Word* marks = group.marks(group.all.layout.drops[block]) + first * maps;
  const float scale = scale_of(op.drop_below);
  for (int64_t i = 0; i < count * maps; ++i) {
    float* const at = grad + i * kLanes;
    store(at, only(load<Vec>(at) * scale, marks[i]));
  }
}

// From the gradient of the features to that of the last unit's output, and its sums.
void begin_back(const Group& group, const float* grad) {
  const Blocks& all = group.all;
  const int64_t last = all.layout.units - 1;
  const SeparableUnit& u = all.unit(last);
  float* const out = gradients(group, last);
  for (int64_t o = 0; o < u.outputs; ++o) {
    Vec mean = {};
    for (int64_t lane = 0; lane < group.signals(); ++lane) {
      mean[lane] = grad[(group.first_signal() + lane) * u.outputs + o] / u.pooled;
    }
    for (int64_t t = 0; t < u.pooled; ++t) store(out + (t * u.outputs + o) * kLanes, mean);
  }
  drop_back(group, last / 2, 0, u.pooled, out);
  add_sums(group, last, 0, u.pooled, {out, u.outputs * kLanes});
}

// The weights of a pass: the matrix of g and c together, (outputs + inputs, inputs), and its bias;
// for the first unit of a block the transposed one of the shortcut, (outputs, inputs), with zeros;
// the depthwise weights from the last tap to the first, (inputs, kernel).
struct Back {
  float *matrix, *bias, *shortcut, *zeros, *taps;

  Back(const Blocks& all, int64_t k) {
    const SeparableUnit& u = all.unit(k);
    matrix = all.back;
    bias = matrix + (u.inputs + u.outputs) * u.inputs;
    shortcut = bias + u.inputs;
    zeros = shortcut + u.outputs * u.inputs;
    taps = zeros + u.inputs;
  }
};

// Sums over some steps of M maps' gradients behind a depthwise convolution with their inputs.
struct TapTile {
  template <int M>
  static void run(Steps grad, Steps in, int64_t steps, float* sums, int64_t taps) {
    Vec total[M] = {};
    for (int64_t t = 0; t < steps; ++t, grad.data += grad.step, in.data += in.step) {
#pragma GCC unroll 8
      for (int m = 0; m < M; ++m) {
        total[m] += load<Vec>(grad.data + m * kLanes) * load<Vec>(in.data + m * kLanes);
      }
    }
    for (int m = 0; m < M; ++m, sums += taps * kLanes) store(sums, load<Vec>(sums) + total[m]);
  }
};

void add_taps(const SeparableUnit& u, Steps grad, Steps in, int64_t steps, float* sums) {
  for (int64_t map = 0; map < u.inputs; map += kMaps) {
    for (int64_t tap = 0; tap < u.kernel; ++tap) {
      tile<TapTile, kMaps>(u.inputs - map, Steps{grad.data + map * kLanes, grad.step},
                           Steps{in.data + tap * in.step + map * kLanes, in.step}, steps,
                           sums + (map * u.kernel + tap) * kLanes, u.kernel);
    }
  }
}

// What the shortcut beside unit k adds to some steps of the gradient of the block's input.
void add_shortcut_back(const Group& group, int64_t k, int64_t first, int64_t last, float* out) {
  const SeparableUnit& u = group.all.unit(k);
  const Back back(group.all, k);
  const int64_t from = (first + 3) / 4, count = (last + 3) / 4 - from;
  const Steps grad = {gradients(group, k + 1) + from * u.outputs * kLanes, u.outputs * kLanes};
  const int64_t step = u.inputs * kLanes;
  product<true>(back.shortcut, back.zeros, grad, u.outputs, u.inputs, count,
                out + (4 * from - first) * step, 4 * step);
}

// Gradients of unit k before its depthwise convolution for some steps of a pass.
void unit_back(const Group& group, int64_t k, int64_t first, int64_t steps, Steps in, float* out,
               int64_t out_step) {
  const Blocks& all = group.all;
  const SeparableUnit& u = all.unit(k);
  const Back back(all, k);
  const int64_t width = u.outputs + u.inputs, step = SeparableLayout::apart(width) * kLanes;
  const Steps grad = {gradients(group, k) + first / 2 * u.outputs * kLanes, u.outputs * kLanes};
  unpool(group, k, first / 2, grad, steps, group.slot.rows, step);
  centred(all, k, in, all.centre(k), steps, group.slot.rows + u.outputs * kLanes, step);
  product<false>(back.matrix, back.bias, {group.slot.rows, step}, width, u.inputs, steps, out,
                 out_step);
  mask_dead(group, u.inputs, steps, out, out_step);
}

// Unit k from the gradient of its output to that of its input, and the sums of the unit before.
void run_back(const Group& group, int64_t k) {
  const Blocks& all = group.all;
  const SeparableUnit& u = all.unit(k);
  const Slot& slot = group.slot;
  const int64_t margin = all.layout.margin, step = u.inputs * kLanes;
  const int64_t row = SeparableLayout::apart(u.inputs) * kLanes;
  float* const here = slot.out + 2 * margin * row;  // behind the last steps of before
  const Back back(all, k);
  clear(slot.out, 2 * margin * row);
  clear(slot.taps, u.inputs * u.kernel * kLanes);
  int64_t done = 0;
  for (int64_t t = 0; t < u.steps; t += 2 * u.pairs()) {
    const int64_t steps = smaller(u.steps - t, 2 * u.pairs());
    const Steps in = input(group, k, t, steps), grad = {here, row};
    unit_back(group, k, t, steps, in, here, row);
    add_taps(u, grad, in, steps, slot.taps);
    const bool last = t + steps == u.steps;
    if (last) clear(here + steps * row, margin * row);
    const int64_t seen = last ? u.steps : t + steps - margin;
    if (seen > done) {
      float* const out = k == 1 ? slot.grads : gradients(group, k - 1) + done * step;
      const Steps around = grad.from(done - t - margin);
      depthwise(around, u.inputs, back.taps, u.kernel, nullptr, seen - done, out, step);
      if (k % 2 == 0) {
        add_shortcut_back(group, k, done, seen, out);
        drop_back(group, k / 2 - 1, done, seen - done, out);
      }
      add_sums(group, k - 1, done, seen, {out, step});
      done = seen;
    }
    __builtin_memmove(slot.out, slot.out + steps * row, 2 * margin * row * sizeof(float));
  }
}

// Pass `k`: through unit k, except at the end of all, and the sums of the unit before.
void run_pass(const Group& group, int64_t k, const float* grad) {
  const Blocks& all = group.all;
  const int64_t end = Places(all, k - 1).end;
  clear(group.slot.sums, end * kLanes);
  k == all.layout.units ? begin_back(group, grad) : run_back(group, k);
  add_lanes(group.slot.sums, end, all.partial(group.index));
  if (k < all.layout.units) {
    const int64_t taps = all.unit(k).inputs * all.unit(k).kernel;
    add_lanes(group.slot.taps, taps, all.partial(group.index) + end);
  }
}

// --- joining the groups -------------------------------------------------------------------------

struct Join {
  const Blocks& all;
  int64_t groups, k;
  Places at;
  float* d_weights;

  double total(int64_t place) const {
    double sum = 0.0;
    for (int64_t g = 0; g < groups; ++g) sum += all.partial(g)[place];
    return sum;
  }

  // Gradient of the product of depthwise and pointwise weight as the statistics see it.
  double weight_gradient(int64_t o, int64_t tap) const {
    const SeparableUnit& u = all.unit(k);
    const float* const row = all.op.moments + u.moments + (tap + 1) * u.taps;
    const double inverse = inverse_deviation(all, k, o);
    double product = 0.0;
    for (int64_t i = 0; i < u.taps; ++i) {
      product += static_cast<double>(row[i]) * weight_of(all, k, i, o);
    }
    const double r = d_weights[u.gamma() + o];
    const double sum = total(at.products + o * u.taps + tap);
    return *all.weight(u.gamma() + o) * inverse * (sum - r * inverse * product);
  }

  // BatchNorm's and the pointwise weights' gradients of an output.
  void output(int64_t o) const {
    const SeparableUnit& u = all.unit(k);
    double product = 0.0, pointwise = 0.0;
    for (int64_t tap = 0; tap < u.taps; ++tap) {
      product += weight_of(all, k, tap, o) * total(at.products + o * u.taps + tap);
    }
    d_weights[u.gamma() + o] = static_cast<float>(product * inverse_deviation(all, k, o));
    d_weights[u.beta() + o] = static_cast<float>(total(at.ones + o));
    d_weights[u.bias() + o] = 0.0f;
    for (int64_t tap = 0; tap < u.taps; ++tap) {
      const double gradient = weight_gradient(o, tap);
      if (k > 0) {
        d_weights[u.pointwise() + tap * u.outputs + o] = static_cast<float>(gradient);
      } else {
        pointwise += gradient * *all.weight(u.weights + tap);
      }
    }
    if (k == 0) d_weights[u.pointwise() + o] = static_cast<float>(pointwise);
    if (k % 2 == 1) shortcut(o);
  }

  void shortcut(int64_t o) const {
    const int64_t inputs = all.unit(k - 1).inputs, outputs = all.unit(k).outputs;
    float* const out = d_weights + all.layout.shortcut[k / 2];
    for (int64_t i = 0; i < inputs; ++i) {
      out[i * outputs + o] = static_cast<float>(total(at.shortcut + i * outputs + o));
    }
    out[inputs * outputs + o] = static_cast<float>(total(at.shortcut_ones + o));
  }

  // The depthwise weights' gradients of the unit behind, whose pass this was.
  void taps_behind(int64_t map) const {
    const SeparableUnit& u = all.unit(k + 1);
    for (int64_t tap = 0; tap < u.kernel; ++tap) {
      const int64_t i = map * u.kernel + tap;
      d_weights[u.weights + i] = static_cast<float>(total(at.end + i));
    }
  }

  // Those of the first unit, which has no pass.
  void first_tap(int64_t tap) const {
    const SeparableUnit& u = all.unit(0);
    double sum = 0.0;
    for (int64_t o = 0; o < u.outputs; ++o) {
      sum += weight_gradient(o, tap) * *all.weight(u.pointwise() + o);
    }
    d_weights[u.weights + tap] = static_cast<float>(sum);
  }

  // The columns of the matrices of the next pass that give map i.
  void matrices(int64_t i) const {
    const SeparableUnit& u = all.unit(k);
    const Back back(all, k);
    const double count = all.count(k);
    double bias = 0.0;
    for (int64_t j = 0; j < u.inputs; ++j) back.matrix[(u.outputs + j) * u.inputs + i] = 0.0f;
    for (int64_t o = 0; o < u.outputs; ++o) {
      const double inverse = inverse_deviation(all, k, o);
      const double w = weight_of(all, k, i, o) * *all.weight(u.gamma() + o) * inverse;
      const double r = d_weights[u.gamma() + o] / count * inverse;
      back.matrix[o * u.inputs + i] = static_cast<float>(w);
      bias -= w * d_weights[u.beta() + o] / count;
      for (int64_t j = 0; j < u.inputs; ++j) {
        back.matrix[(u.outputs + j) * u.inputs + i] -=
            static_cast<float>(w * r * weight_of(all, k, j, o));
      }
    }
    back.bias[i] = static_cast<float>(bias);
    for (int64_t tap = 0; tap < u.kernel; ++tap) {
      back.taps[i * u.kernel + tap] = *all.weight(u.weights + (i + 1) * u.kernel - 1 - tap);
    }
    if (k % 2 == 1) return;
    const float* const w = all.weight(all.layout.shortcut[k / 2]) + i * u.outputs;
    for (int64_t o = 0; o < u.outputs; ++o) back.shortcut[o * u.inputs + i] = w[o];
    back.zeros[i] = 0.0f;
  }
};

}  // namespace

void separable_blocks_backward(const SeparableBlocksBackward& op, int threads) {
  const Blocks all(op.blocks);
  const int64_t groups = all.layout.groups(op.blocks), units = all.layout.units;
#pragma omp parallel num_threads(threads) if (threads > 1)
  {
    const Slot slot = all.slot(thread_number());
#pragma omp for schedule(static)
    for (int64_t k = 0; k < units; ++k) {
      set_centre(all, k);
      for (int64_t o = 0; k == 0 && o < all.unit(k).outputs; ++o) fold(all, k, o);
    }
    for (int64_t k = units; k > 0; --k) {
#pragma omp for schedule(dynamic)
      for (int64_t g = 0; g < groups; ++g) run_pass({all, slot, g}, k, op.grad);
      const Join join{all, groups, k - 1, Places(all, k - 1), op.d_weights};
#pragma omp for schedule(static)
      for (int64_t o = 0; o < all.unit(k - 1).outputs; ++o) join.output(o);
#pragma omp for schedule(static)
      for (int64_t i = 0; i < all.unit(k - 1).taps; ++i) {
        k == 1 ? join.first_tap(i) : join.matrices(i);
      }
      if (k == units) continue;
#pragma omp for schedule(static)
      for (int64_t map = 0; map < all.unit(k).inputs; ++map) join.taps_behind(map);
    }
  }
}

}  // namespace sleeptools::SLEEPTOOLS_VARIANT
