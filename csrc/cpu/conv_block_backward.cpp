// Gradients of a convolution block, from its input and its convolution; what lies between them and
// the output is made again. In a first pass a task is an epoch: the gradient behind BatchNorm, only
// for its sums. With the sums of the batch, a task of the second is a few epochs, whose gradients
// before the convolution are made.
//
// All epochs are put on one time axis, with zeros between them as far as a kernel reaches, and a
// signal of stride s and C channels is one of stride 1 and s C channels: (step, place in the
// stride, channel) is what lies in memory. Both gradients are then products of strided_rows.h:
//
//   d_x[u, i] = sum_q,o gradient[u - q, o] weight[o, q, i]      rows are steps
//   d_weight[o, q, i] = sum_t x[t + q, i] gradient[t, o]        rows are inputs i, t is the depth
//
// Every sum belongs to one task, so nothing depends on the number of threads.
#include "conv_block.h"
#include "transpose.h"

namespace sleeptools::SLEEPTOOLS_VARIANT {
namespace {

// The parts of the workspace, and sizes.
struct Buffers {
  int64_t maps, inputs, strides, lead, steps, line;
  float* packed;     // weights in panels of (place in the stride, channel)
  float* x;          // (inputs, line)
  float* gradients;  // (batch steps) packed as weights in panels of outputs
  float* sums;       // (batch, 2, maps): of the gradient behind BatchNorm, and times y - mean
  float* later;      // (batch, 2, maps): of the gradient before PReLU, and of what its slopes get
  float* totals;     // (2, maps): of the batch, what moves all rows, and by y - mean
  float* norms;      // (4, maps); see BatchNorm
  float* slots;

  explicit Buffers(const ConvBlock& op) {
    using All = ConvBlockBackward;
    const ConvLayer& layer = *op.layer;
    maps = ConvBlock::whole_panels(layer.outputs);
    inputs = layer.stride * layer.inputs;
    strides = All::strides(layer);
    lead = All::lead(layer);
    steps = All::steps(layer, op.samples);
    line = All::line(layer, op.batch, op.samples);
    packed = aligned(op.workspace);
    x = aligned(packed + ConvBlock::packed_floats(strides * layer.outputs, inputs));
    gradients = aligned(x + (inputs + All::kTile / 2) * line);
    sums = gradients + ConvBlock::packed_floats(op.batch * steps, layer.outputs);
    later = sums + 2 * op.batch * maps;
    totals = later + 2 * op.batch * maps;
    norms = totals + 2 * maps;
    slots = norms + BatchNorm::kNumbers * maps;
  }
};

// A thread's slot; see ConvBlockBackward::slot_floats.
struct Slot {
  float *padded, *gradient, *rows, *sums;

  Slot(const ConvBlock& op, const Buffers& buffers, int64_t thread) {
    const ConvLayer& layer = *op.layer;
    padded = aligned(buffers.slots +
                     thread * ConvBlockBackward::slot_floats(layer, op.batch, op.samples));
    gradient = padded + ConvBlock::padded_floats(layer, op.samples);
    rows = gradient + ConvBlock::whole_panels(layer.rows * layer.outputs);
    sums = rows + ConvBlockBackward::rows_floats(layer, op.batch, op.samples);
  }
};

// Where the maximum of a window is, the first of equal ones as in PyTorch, and what was there.
struct Best {
  Int step;
  Vec y;
};

template <bool kPrelu, class Lanes>
SLEEPTOOLS_INLINE Best best_of(const ConvBlock& op, const Before<kPrelu, Lanes>& before,
                               const BatchNorm& norm, const float* rows, Window seen, Lanes lanes) {
  const bool first = kPrelu || never_falls(op.activation, op.slope);
  Best best = {Int{} + static_cast<int32_t>(seen.first), Vec{}};
  Vec most = {};
  for (int64_t t = seen.first; t < seen.last; ++t) {
    const Vec y = before(lanes.read(rows + t * op.layer->outputs));
    const Vec value = first ? norm(y) : activate(op.activation, op.slope, norm(y));
    const Int better = t == seen.first ? Int{} - 1 : (value > most) | (value != value);
    most = better ? value : most;
    best.y = better ? y : best.y;
    best.step = better ? Int{} + static_cast<int32_t>(t) : best.step;
  }
  return best;
}

// Adds a gradient to the step that it belongs to. Windows may overlap.
template <class Lanes>
SLEEPTOOLS_INLINE void add_to_window(const ConvLayer& layer, Window seen, Int step, Vec g,
                                     float* out, Lanes lanes) {
  for (int64_t t = seen.first; t < seen.last; ++t) {
    float* place = out + t * layer.outputs;
    const Vec mine = step == static_cast<int32_t>(t) ? g : Vec{};
    lanes.write(place, lanes.read(place) + mine);
  }
}

// Back through dropout, pool and activation: one epoch's gradient behind BatchNorm, (rows,
// outputs), or only its sums, (2, maps): of the gradient, and of that times y - mean.
template <bool kSums, bool kPrelu, bool kPool>
void unpool(const ConvBlockBackward& all, const Buffers& buffers, int64_t epoch, float* out) {
  const ConvBlock& op = all.block;
  const ConvLayer& layer = *op.layer;
  const float* rows = op.convolved + epoch * layer.rows * layer.outputs;
  const float* grad = all.grad + epoch * layer.steps * layer.outputs;
  const int64_t size = kSums ? 2 * buffers.maps : layer.rows * layer.outputs;
  if (kSums || kPool) __builtin_memset(out, 0, size * sizeof(float));
  for (int64_t first = 0; first < layer.steps; first += kDrawn) {
    for_maps(layer.outputs, [&](int64_t o, auto lanes) {
      const Before<kPrelu, decltype(lanes)> before(op, o, lanes);
      const BatchNorm norm(buffers.norms, buffers.maps, o);
      Vec sum = {}, product = {};
      Bits words[kDrawn];
      if (op.drop_below > 0) draw(words, epoch, first, o, op.seed);
      for (int64_t t = first; t < smaller(layer.steps, first + kDrawn); ++t) {
        const Window seen = kPool ? window(layer, t) : Window{t, t + 1};
        Best best;
        if constexpr (kPool) best = best_of<kPrelu>(op, before, norm, rows + o, seen, lanes);
        if constexpr (!kPool) best.y = before(lanes.read(rows + t * layer.outputs + o));
        Vec g = lanes.read(grad + t * layer.outputs + o);
        if (op.drop_below > 0) g = dropped(g, words[t - first], op.drop_below);
        if constexpr (!kPrelu) g *= slope_at(op.activation, op.slope, norm(best.y));
        if constexpr (kSums) {
          sum += g;
          product += g * (best.y - norm.mean);
        } else if constexpr (kPool) {
          add_to_window(layer, seen, best.step, g, out + o, lanes);
        } else {
          lanes.write(out + t * layer.outputs + o, g);
        }
      }
      if constexpr (kSums) {
        store(out + o, load<Vec>(out + o) + sum);
        store(out + buffers.maps + o, load<Vec>(out + buffers.maps + o) + product);
      }
    });
  }
}

// The sum over the batch of the epochs' sums of map `o`, the first or the second of them.
double sum_epochs(const ConvBlock& op, const Buffers& buffers, const float* sums, int64_t which,
                  int64_t o) {
  double total = 0.0;
  for (int64_t b = 0; b < op.batch; ++b) total += sums[(2 * b + which) * buffers.maps + o];
  return total;
}

// Sums of a map over the batch, and with them the gradients of gamma and beta.
void join_sums(const ConvBlockBackward& all, const Buffers& buffers, int64_t o) {
  const ConvBlock& op = all.block;
  const double sum = sum_epochs(op, buffers, buffers.sums, 0, o);
  const double product = sum_epochs(op, buffers, buffers.sums, 1, o);
  const double rows = static_cast<double>(op.batch * op.layer->rows);
  const double inverse = buffers.norms[buffers.maps + o];
  buffers.totals[o] = static_cast<float>(sum / rows);
  buffers.totals[buffers.maps + o] = static_cast<float>(product * inverse * inverse / rows);
  all.d_beta[o] = static_cast<float>(sum);
  all.d_gamma[o] = static_cast<float>(product * inverse);
}

// Back through BatchNorm and PReLU, in place: what would move mean and variance is taken out of the
// rows. The sums are of the gradient before PReLU, and of what its slopes get.
template <bool kPrelu>
void center(const ConvBlock& op, const Buffers& buffers, int64_t epoch, float* gradient) {
  const int64_t maps = buffers.maps, outputs = op.layer->outputs;
  const float* const rows = op.convolved + epoch * op.layer->rows * outputs;
  float* const sums = buffers.later + 2 * epoch * maps;
  for_maps(outputs, [&](int64_t o, auto lanes) {
    const Before<kPrelu, decltype(lanes)> before(op, o, lanes);
    const BatchNorm norm(buffers.norms, maps, o);
    const Vec mean = load<Vec>(buffers.totals + o), product = load<Vec>(buffers.totals + maps + o);
    Vec sum = {}, slopes = {};
    for (int64_t t = o; t < op.layer->rows * outputs + o; t += outputs) {
      const Vec y = lanes.read(rows + t);
      const Vec moved = mean + (before(y) - norm.mean) * product;
      Vec g = norm.scale * (lanes.read(gradient + t) - moved);
      if constexpr (kPrelu) {
        slopes += y > 0.0f ? Vec{} : g * y;
        g = y > 0.0f ? g : g * before.slopes;
        sum += g;
      }
      lanes.write(gradient + t, g);
    }
    store(sums + o, sum);
    store(sums + maps + o, slopes);
  });
}

// An epoch's input to the time axis, channels turned to lines. Behind the epoch, and so behind the
// last one, zeros follow it there.
template <class P>
void turn_input(const ConvBlock& op, const Buffers& buffers, int64_t epoch, float* padded) {
  const int64_t inputs = buffers.inputs, pad = op.layer->pad * op.layer->inputs;
  const int64_t size = op.samples * op.layer->inputs, all = (buffers.steps + kLanes) * inputs;
  const int64_t seen = seen_values(op);
  __builtin_memset(padded, 0, pad * sizeof(float));
  __builtin_memcpy(padded + pad, op.x + epoch * size, seen * sizeof(float));
  __builtin_memset(padded + pad + seen, 0, (all - pad - seen) * sizeof(float));
  auto* const out = reinterpret_cast<typename P::T*>(buffers.x) + epoch * buffers.steps;
  for (int64_t u = 0; u < buffers.steps; u += kLanes) {
    const int64_t steps = smaller(buffers.steps - u, kLanes);
    for_columns(padded + u * inputs, inputs, kLanes, inputs, [&](int64_t i, Vec values) {
      write_some<P>(out + i * buffers.line + u, values, steps);
    });
  }
}

// An epoch's gradient to the time axis: packed for the weights' gradients, and row by row.
template <class P>
void spread(const ConvBlock& op, const Buffers& buffers, int64_t epoch, const float* gradient,
            typename P::T* rows) {
  const ConvLayer& layer = *op.layer;
  const int64_t size = panel_size<P>(op.batch * buffers.steps);
  float* const out = buffers.gradients + epoch * buffers.steps / P::kJoined * kPanel;
  for (int64_t t = 0; t < buffers.steps; t += P::kJoined) {
    for_maps(layer.outputs, [&](int64_t o, auto lanes) {
      Vec values[P::kJoined];
      for (int64_t i = 0; i < P::kJoined; ++i) {
        values[i] = t + i < layer.rows ? lanes.read(gradient + (t + i) * layer.outputs + o) : Vec{};
        if (rows) write_some<P>(rows + (t + i) * layer.outputs + o, values[i], layer.outputs - o);
      }
      store(out + o / kPanel * size + t / P::kJoined * kPanel + o % kPanel, P::join(values));
    });
  }
}

// Gradients of the convolution's output for epochs [first, last), and of its input.
template <class P>
void run_epochs(const ConvBlockBackward& all, const Buffers& buffers, const Slot& slot,
                int64_t first, int64_t last) {
  const ConvBlock& op = all.block;
  const ConvLayer& layer = *op.layer;
  auto* const start = reinterpret_cast<typename P::T*>(slot.rows);
  const int64_t before = (buffers.strides - 1) * layer.outputs;
  for (int64_t b = first; b < last; ++b) {
    turn_input<P>(op, buffers, b, slot.padded);
    for_kind(op, [&](auto prelu, auto pool) {
      unpool<false, prelu(), pool()>(all, buffers, b, slot.gradient);
      center<prelu()>(op, buffers, b, slot.gradient);
    });
    auto* const rows = start + before + (b - first) * buffers.steps * layer.outputs;
    spread<P>(op, buffers, b, slot.gradient, all.d_x ? rows : nullptr);
  }
  if (!all.d_x) return;
  const int64_t steps = (last - first) * buffers.steps, lead = buffers.lead * layer.outputs;
  for (int64_t i = 0; i < before; ++i) start[i] = 0;
  for (int64_t i = 0; i < before + lead + kRest; ++i) {
    start[before + steps * layer.outputs + i] = 0;
  }
  const int64_t size = op.samples * layer.inputs, pad = layer.pad * layer.inputs;
  multiply_rows<P>(
      start + lead, layer.outputs, buffers.strides * layer.outputs, buffers.packed, steps,
      buffers.inputs, [&](int64_t u, int64_t i, Vec sum) {
        const int64_t place = (u % buffers.steps + buffers.lead) * buffers.inputs + i - pad;
        float* const d_x = all.d_x + (first + u / buffers.steps) * size + place;
        const int64_t count = smaller(smaller(kLanes, buffers.inputs - i), size - place);
        if (place >= 0) return write_some<Float32>(d_x, sum, count < 0 ? 0 : count);
        for (int64_t lane = -place; lane < count; ++lane) d_x[lane] = sum[lane];
      });
}

// Gradients of the bias and the slope of a map. A bias right before BatchNorm changes nothing.
void join_later(const ConvBlockBackward& all, const Buffers& buffers, int64_t o) {
  const ConvBlock& op = all.block;
  if (all.d_bias) {
    all.d_bias[o] = static_cast<float>(sum_epochs(op, buffers, buffers.later, 0, o));
  }
  if (all.d_slopes) {
    all.d_slopes[o] = static_cast<float>(sum_epochs(op, buffers, buffers.later, 1, o));
  }
}

// Zeros behind the last epoch: a product reads whole tiles.
template <class P>
void clear_rest(const ConvBlock& op, const Buffers& buffers, int64_t input) {
  const int64_t steps = op.batch * buffers.steps, size = panel_size<P>(steps);
  auto* const line = reinterpret_cast<typename P::T*>(buffers.x) + input * buffers.line;
  for (int64_t t = steps; t < buffers.line; ++t) line[t] = 0;
  if (input > 0) return;
  for (int64_t panel = 0; panel < buffers.maps / kPanel; ++panel) {
    float* const packed = buffers.gradients + panel * size;
    for (int64_t n = steps / P::kJoined * kPanel; n < size; ++n) packed[n] = 0.0f;
  }
}

// Gradients of the weights of some inputs from i on, `count` of them, and `panels` panels of
// outputs from `panel` on. Some steps of both, which stay in L2, meet all taps.
template <class P>
void weight_gradients(const ConvBlockBackward& all, const Buffers& buffers, const Slot& slot,
                      int64_t i, int64_t count, int64_t panel, int panels) {
  alignas(64) float tile[kManyRows<P> * kWidest * kPanel];
  const ConvLayer& layer = *all.block.layer;
  const int64_t steps = all.block.batch * buffers.steps, size = panel_size<P>(steps);
  const int64_t width = panels * kPanel;
  const auto* in = reinterpret_cast<const typename P::T*>(buffers.x) + i * buffers.line;
  __builtin_memset(slot.sums, 0, buffers.strides * count * width * sizeof(float));
  for (int64_t t = 0; t < steps; t += ConvBlockBackward::kSteps) {
    const int64_t depth = smaller(steps - t, ConvBlockBackward::kSteps);
    const float* gradients = buffers.gradients + panel * size + t / P::kJoined * kPanel;
    for (int64_t first = 0, last = 0; first < count; first = last) {
      last = next_rows<P>(first, count);
      const auto* lines = in + first * buffers.line + t;
      for (int64_t q = 0; q < buffers.strides; ++q) {
        multiply<P>({lines + q, buffers.line, depth, gradients, size, tile}, last - first, panels);
        float* const sums = slot.sums + (q * count + first) * width;
        for (int64_t n = 0; n < (last - first) * width; n += kLanes) {
          store(sums + n, load<Vec>(sums + n) + load<Vec>(tile + n));
        }
      }
    }
  }
  for (int64_t o = 0; o < smaller(width, layer.outputs - panel * kPanel); ++o) {
    float* const out = all.d_weight + (panel * kPanel + o) * layer.inputs * layer.kernel;
    for (int64_t r = 0; r < count; ++r) {
      const int64_t c = (i + r) % layer.inputs, place = (i + r) / layer.inputs;
      for (int64_t q = 0, k = place; k < layer.kernel; ++q, k += layer.stride) {
        out[c * layer.kernel + k] = slot.sums[(q * count + r) * width + o];
      }
    }
  }
}

template <class P>
void run(const ConvBlockBackward& all, int threads) {
  const ConvBlock& op = all.block;
  const ConvLayer& layer = *op.layer;
  const Buffers buffers(op);
  const int64_t panels = all.d_x ? ConvBlock::whole_panels(buffers.inputs) / kPanel : 0;
  const int64_t together = ConvBlockBackward::epochs_at_once(layer, op.batch, op.samples);
  const int64_t depth = buffers.strides * layer.outputs;
  const auto column = [&](int64_t i) {
    const int64_t tap = i / layer.inputs;
    return Place{i % layer.inputs * layer.kernel + tap, tap};
  };
  const auto product = [&](int64_t j) {  // from the last tap that a step sees to the first
    const int64_t tap = (buffers.strides - 1 - j / layer.outputs) * layer.stride;
    return Place{j % layer.outputs * layer.inputs * layer.kernel + tap, tap};
  };
  // Blocks of inputs by panels of outputs, whose weights' gradients are a task: the larger, the
  // less often a step is read.
  const int64_t across = (buffers.maps / kPanel + kWidest - 1) / kWidest;
  const int64_t least =
      (buffers.inputs + ConvBlockBackward::kInputs - 1) / ConvBlockBackward::kInputs;
  const int64_t wanted = smaller((2 * threads + across - 1) / across, buffers.inputs);
  const int64_t down = wanted > least ? wanted : least;

#pragma omp parallel num_threads(threads) if (threads > 1)
  {
    const TileScope tiles;
    const Slot slot(op, buffers, thread_number());
#pragma omp for schedule(static)
    for (int64_t p = 0; p < panels; ++p) {
      pack_panel<P>(op, p, depth, buffers.inputs, column, product, buffers.packed);
    }
#pragma omp for schedule(static)
    for (int64_t o = 0; o < layer.outputs; ++o) write_norm(op, buffers.norms, buffers.maps, o);
#pragma omp for schedule(dynamic)
    for (int64_t b = 0; b < op.batch; ++b) {
      for_kind(op, [&](auto prelu, auto pool) {
        unpool<true, prelu(), pool()>(all, buffers, b, buffers.sums + 2 * b * buffers.maps);
      });
    }
#pragma omp for schedule(static)
    for (int64_t o = 0; o < layer.outputs; ++o) join_sums(all, buffers, o);
#pragma omp for schedule(dynamic)
    for (int64_t b = 0; b < op.batch; b += together) {
      run_epochs<P>(all, buffers, slot, b, smaller(op.batch, b + together));
    }
#pragma omp for schedule(static)
    for (int64_t o = 0; o < layer.outputs; ++o) join_later(all, buffers, o);
#pragma omp for schedule(static)
    for (int64_t i = 0; i < buffers.inputs; ++i) clear_rest<P>(op, buffers, i);
#pragma omp for schedule(dynamic)
    for (int64_t task = 0; task < down * across; ++task) {
      const int64_t i = buffers.inputs * (task / across) / down;
      const int64_t count = buffers.inputs * (task / across + 1) / down - i;
      const int64_t panel = task % across * kWidest;
      const int64_t left = buffers.maps / kPanel - panel;
      weight_gradients<P>(all, buffers, slot, i, count, panel,
                          static_cast<int>(smaller(left, kWidest)));
    }
  }
}

}  // namespace

void conv_block_backward(const ConvBlockBackward& all, int threads) {
  all.block.bf16 ? run<Fastest>(all, threads) : run<Float32>(all, threads);
}

}  // namespace sleeptools::SLEEPTOOLS_VARIANT
