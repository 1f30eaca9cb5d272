// Gradients of a convolution block, from its input and its convolution; what lies between them and
// the output is made again. In a first pass a task is an epoch: the gradient before BatchNorm, made
// only for its sums. With the sums of the batch, a task of the second is a group of epochs: a few
// at a time, the gradient of the convolution is made while it stays in cache, and from it that of
// the input, by the transposed product, and of the weights. The groups are the same for any number
// of threads and are joined in their order, so nothing depends on it.
#include "conv_block.h"

namespace sleeptools::SLEEPTOOLS_VARIANT {
namespace {

// The parts of the workspace.
struct Buffers {
  float* packed;    // weights in panels of (tap, input) for each output
  float* sums;      // (batch, 2, maps): of the gradient before BatchNorm, and times y - mean
  float* totals;    // (2, maps): of the batch, what moves all rows, and by y - mean
  float* norms;     // (4, maps); see Norm
  float* d_weight;  // (groups, kernel, inputs, maps)
  float* slots;
  int64_t maps, depth, padded, rows;  // padded, rows: floats of an epoch in a slot

  explicit Buffers(const ConvBlock& op) {
    const ConvLayer& layer = *op.layer;
    maps = ConvBlock::whole_panels(layer.outputs);
    depth = layer.kernel * layer.inputs;
    padded = ConvBlock::slot_floats(layer, op.samples);
    rows = ConvBlock::whole_panels(layer.rows * layer.outputs) + kPanel;
    packed = aligned(op.workspace);
    sums = packed + ConvBlock::whole_panels(depth) * layer.outputs;
    totals = sums + 2 * op.batch * maps;
    norms = totals + 2 * maps;
    d_weight = norms + Norm::kNumbers * maps;
    slots = d_weight + ConvBlockBackward::kGroups * depth * maps;
  }
};

// A thread's slot.
struct Slot {
  float *in, *gradient, *d_in;  // of some epochs, of some epochs, of one
};

// Weights (outputs, inputs, kernel) to panels of (tap, input), output by output.
void pack_panel(const ConvBlock& op, int64_t panel, float* out) {
  const ConvLayer& layer = *op.layer;
  const int64_t depth = layer.inputs * layer.kernel;
  out += panel * kPanel * layer.outputs;
  for (int64_t i = 0; i < kPanel; ++i) {
    const int64_t j = panel * kPanel + i;
    const float* weight = op.weight + j % layer.inputs * layer.kernel + j / layer.inputs;
    for (int64_t o = 0; o < layer.outputs; ++o) {
      out[o * kPanel + i] = j < depth ? weight[o * depth] : 0.0f;
    }
  }
}

// Where the maximum of a window is, the first of equal ones as in PyTorch, and what was there.
struct Best {
  Int step;
  Vec y;
};

template <class Lanes>
SLEEPTOOLS_INLINE Best best_of(const ConvBlock& op, const Norm& norm, const float* rows,
                               Window seen, Lanes lanes) {
  const bool first = never_falls(op.activation, op.slope);
  Best best = {Int{} + static_cast<int32_t>(seen.first), Vec{}};
  Vec most = {};
  for (int64_t t = seen.first; t < seen.last; ++t) {
    const Vec y = lanes.read(rows + t * op.layer->outputs);
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

// Back through dropout, pool and activation: the gradient before BatchNorm of one epoch's rows, and
// its sums.
void unpool(const ConvBlockBackward& all, const Buffers& buffers, int64_t epoch, float* out,
            float* sums) {
  const ConvBlock& op = all.block;
  const ConvLayer& layer = *op.layer;
  const float* rows = op.convolved + epoch * layer.rows * layer.outputs;
  const float* grad = all.grad + epoch * layer.steps * layer.outputs;
  __builtin_memset(out, 0, layer.rows * layer.outputs * sizeof(float));
  __builtin_memset(sums, 0, 2 * buffers.maps * sizeof(float));
  for (int64_t first = 0; first < layer.steps; first += kDrawn) {
    for_maps(layer.outputs, [&](int64_t o, auto lanes) {
      const Norm norm(buffers.norms, buffers.maps, o);
      Vec sum = {}, product = {};
      Bits words[kDrawn];
      if (op.drop_below > 0) draw(words, epoch, first, o, op.seed);
      for (int64_t t = first; t < smaller(layer.steps, first + kDrawn); ++t) {
        const Window seen = window(layer, t);
        const Best best = best_of(op, norm, rows + o, seen, lanes);
        Vec g = lanes.read(grad + t * layer.outputs + o);
        if (op.drop_below > 0) g = dropped(g, words[t - first], op.drop_below);
        g *= slope_at(op.activation, op.slope, norm(best.y));
        sum += g;
        product += g * (best.y - norm.mean);
        add_to_window(layer, seen, best.step, g, out + o, lanes);
      }
      store(sums + o, load<Vec>(sums + o) + sum);
      store(sums + buffers.maps + o, load<Vec>(sums + buffers.maps + o) + product);
    });
  }
}

// Sums of a map over the batch, and with them the gradients of gamma and beta.
void join_sums(const ConvBlockBackward& all, const Buffers& buffers, int64_t o) {
  const ConvBlock& op = all.block;
  double sum = 0.0, product = 0.0;
  for (int64_t b = 0; b < op.batch; ++b) {
    sum += buffers.sums[2 * b * buffers.maps + o];
    product += buffers.sums[(2 * b + 1) * buffers.maps + o];
  }
  const double rows = static_cast<double>(op.batch * op.layer->rows);
  const double inverse = buffers.norms[buffers.maps + o];
  buffers.totals[o] = static_cast<float>(sum / rows);
  buffers.totals[buffers.maps + o] = static_cast<float>(product * inverse * inverse / rows);
  all.d_beta[o] = static_cast<float>(sum);
  all.d_gamma[o] = static_cast<float>(product * inverse);
}

// Back through BatchNorm, in place: what would move mean and variance is taken out of the rows.
void center(const ConvBlock& op, const Buffers& buffers, int64_t epoch, float* gradient) {
  const int64_t maps = buffers.maps, outputs = op.layer->outputs;
  const float* rows = op.convolved + epoch * op.layer->rows * outputs;
  for (int64_t t = 0; t < op.layer->rows; ++t, rows += outputs, gradient += outputs) {
    for_maps(outputs, [&](int64_t o, auto lanes) {
      const Norm norm(buffers.norms, maps, o);
      const Vec mean = load<Vec>(buffers.totals + o),
                product = load<Vec>(buffers.totals + maps + o);
      const Vec moved = mean + (lanes.read(rows + o) - norm.mean) * product;
      lanes.write(gradient + o, norm.scale * (lanes.read(gradient + o) - moved));
    });
  }
}

// Gradient of one epoch's input: each row's product with the transposed weights is added where the
// convolution had read. Panels are not cut off: behind the last (tap, input) they hold zeros.
void input_gradient(const ConvBlockBackward& all, const Buffers& buffers, int64_t epoch,
                    const float* gradient, float* padded) {
  alignas(64) float tile[kSums * kLanes];
  const ConvBlock& op = all.block;
  const ConvLayer& layer = *op.layer;
  const int64_t panels = ConvBlock::whole_panels(buffers.depth) / kPanel, o = layer.outputs;
  __builtin_memset(padded, 0, buffers.padded * sizeof(float));
  int now = 0;
  for (int64_t panel = 0; panel < panels; panel += now) {
    now = panels - panel < kWidest ? 1 : kWidest;
    const float* w = buffers.packed + panel * o * kPanel;
    const int64_t most = block_rows<Float32>(now);
    for (int64_t first = 0; first < layer.rows; first += most) {
      const int64_t count = smaller(layer.rows - first, most);
      multiply<Float32>({gradient + first * o, o, o, w, o * kPanel, tile}, count, now);
      for (int64_t t = 0; t < count; ++t) {
        float* place = padded + (first + t) * layer.stride * layer.inputs + panel * kPanel;
        for (int64_t i = 0; i < now * kPanel; i += kLanes) {
          store(place + i, load<Vec>(place + i) + load<Vec>(tile + t * now * kPanel + i));
        }
      }
    }
  }
  const int64_t size = op.samples * layer.inputs;
  __builtin_memcpy(all.d_x + epoch * size, padded + layer.pad * layer.inputs, size * sizeof(float));
}

// R neighbouring (tap, input)s by N panels of outputs: what some epochs add to the gradient of
// their weights, (kernel, inputs, maps).
template <int N>
struct WeightGradient {
  static constexpr int kVecs = N * kPanelVecs;

  template <int R>
  static void run(const ConvLayer& layer, const Buffers& buffers, const Slot& slot, int64_t epochs,
                  int64_t j, int64_t o, float* d_weight) {
    Vec sum[R][kVecs] = {};
    for (int64_t b = 0; b < epochs; ++b) {
      const float* in = slot.in + b * buffers.padded + j;
      const float* gradient = slot.gradient + b * buffers.rows + o;
      for (int64_t t = 0; t < layer.rows; ++t) {
        Vec columns[kVecs];
#pragma GCC unroll 16
        for (int v = 0; v < kVecs; ++v) columns[v] = load<Vec>(gradient + v * kLanes);
#pragma GCC unroll 16
        for (int r = 0; r < R; ++r) {
#pragma GCC unroll 16
          for (int v = 0; v < kVecs; ++v) sum[r][v] += in[r] * columns[v];
        }
        in += layer.stride * layer.inputs;
        gradient += layer.outputs;
      }
    }
    float* out = d_weight + j * buffers.maps + o;
#pragma GCC unroll 16
    for (int r = 0; r < R; ++r, out += buffers.maps) {
#pragma GCC unroll 16
      for (int v = 0; v < kVecs; ++v) {
        store(out + v * kLanes, load<Vec>(out + v * kLanes) + sum[r][v]);
      }
    }
  }
};

// All (tap, input)s by N panels, in blocks of nearly equal size.
template <int N>
void weight_gradient(const ConvLayer& layer, const Buffers& buffers, const Slot& slot,
                     int64_t epochs, int64_t o, float* d_weight) {
  constexpr int kRows = block_rows<Float32>(N);
  int64_t j = 0, now = 0;
  for (int64_t left = (buffers.depth + kRows - 1) / kRows; left > 0; --left, j += now) {
    now = (buffers.depth - j) / left;
    tile<WeightGradient<N>, kRows>(now, layer, buffers, slot, epochs, j, o, d_weight);
  }
}

// The second pass of epochs [first, last).
void run_group(const ConvBlockBackward& all, const Buffers& buffers, const Slot& slot,
               int64_t first, int64_t last, float* d_weight) {
  const ConvBlock& op = all.block;
  const ConvLayer& layer = *op.layer;
  const int64_t most = ConvBlockBackward::epochs_at_once(layer);
  __builtin_memset(d_weight, 0, buffers.depth * buffers.maps * sizeof(float));
  for (; first < last; first += most) {
    const int64_t epochs = smaller(last - first, most);
    for (int64_t b = 0; b < epochs; ++b) {
      float* gradient = slot.gradient + b * buffers.rows;
      pad_epoch(op, first + b, slot.in + b * buffers.padded);
      unpool(all, buffers, first + b, gradient, buffers.sums + 2 * (first + b) * buffers.maps);
      center(op, buffers, first + b, gradient);
      if (all.d_x) input_gradient(all, buffers, first + b, gradient, slot.d_in);
    }
    for (int64_t o = 0; o < buffers.maps;) {
      const int64_t left = buffers.maps - o;
      if (left < kWidest * kPanel) {
        weight_gradient<1>(layer, buffers, slot, epochs, o, d_weight);
        o += kPanel;
      } else {
        weight_gradient<kWidest>(layer, buffers, slot, epochs, o, d_weight);
        o += kWidest * kPanel;
      }
    }
  }
}

// Gradients of one input's weights, the groups' sums in order.
void join_groups(const ConvBlockBackward& all, const Buffers& buffers, int64_t groups, int64_t c) {
  const ConvLayer& layer = *all.block.layer;
  for (int64_t k = 0; k < layer.kernel; ++k) {
    float* sums = buffers.d_weight + (k * layer.inputs + c) * buffers.maps;
    for (int64_t o = 0; o < buffers.maps; o += kLanes) {
      Vec sum = load<Vec>(sums + o);
      for (int64_t g = 1; g < groups; ++g) {
        sum += load<Vec>(sums + g * buffers.depth * buffers.maps + o);
      }
      store(sums + o, sum);
    }
  }
  for (int64_t o = 0; o < layer.outputs; ++o) {
    float* out = all.d_weight + o * buffers.depth + c * layer.kernel;
    const float* sums = buffers.d_weight + c * buffers.maps + o;
    for (int64_t k = 0; k < layer.kernel; ++k) out[k] = sums[k * layer.inputs * buffers.maps];
  }
}

}  // namespace

void conv_block_backward(const ConvBlockBackward& all, int threads) {
  const ConvBlock& op = all.block;
  const ConvLayer& layer = *op.layer;
  const Buffers buffers(op);
  const int64_t panels = all.d_x ? ConvBlock::whole_panels(buffers.depth) / kPanel : 0;
  const int64_t groups = smaller(op.batch, ConvBlockBackward::kGroups);
  const int64_t epochs = ConvBlockBackward::epochs_at_once(layer);

#pragma omp parallel num_threads(threads) if (threads > 1)
  {
    Slot slot;
    slot.in = buffers.slots + thread_number() * ConvBlockBackward::slot_floats(layer, op.samples);
    slot.gradient = slot.in + epochs * buffers.padded;
    slot.d_in = slot.gradient + epochs * buffers.rows;
#pragma omp for schedule(static)
    for (int64_t p = 0; p < panels; ++p) pack_panel(op, p, buffers.packed);
#pragma omp for schedule(static)
    for (int64_t o = 0; o < layer.outputs; ++o) write_norm(op, buffers.norms, buffers.maps, o);
#pragma omp for schedule(dynamic)
    for (int64_t b = 0; b < op.batch; ++b) {
      unpool(all, buffers, b, slot.gradient, buffers.sums + 2 * b * buffers.maps);
    }
#pragma omp for schedule(static)
    for (int64_t o = 0; o < layer.outputs; ++o) join_sums(all, buffers, o);
#pragma omp for schedule(dynamic)
    for (int64_t g = 0; g < groups; ++g) {
      run_group(all, buffers, slot, op.batch * g / groups, op.batch * (g + 1) / groups,
                buffers.d_weight + g * buffers.depth * buffers.maps);
    }
#pragma omp for schedule(static)
    for (int64_t c = 0; c < layer.inputs; ++c) join_groups(all, buffers, groups, c);
  }
}

}  // namespace sleeptools::SLEEPTOOLS_VARIANT
