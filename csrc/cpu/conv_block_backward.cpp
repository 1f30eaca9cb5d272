// Gradients of a convolution block, from its input and its convolution; what lies between them and
// the output is made again. A task of the first two passes is an epoch: the gradient before
// BatchNorm and its sums; then, with the sums of the batch, the gradient of the convolution and,
// back through the transposed product, of the input. A task of the third is a share of the weights,
// whose gradients are sums over all epochs. So every sum belongs to one task, and the result does
// not depend on the number of threads.
#include "conv_block.h"

namespace sleeptools::SLEEPTOOLS_VARIANT {
namespace {

constexpr int64_t kSumRows = 256;  // in a register sum, before it goes to memory

// The parts of the workspace.
struct Buffers {
  float* packed;    // weights in panels of (tap, input) for each output
  float* sums;      // (batch, 2, maps): of the gradient before BatchNorm, and times y - mean
  float* totals;    // (2, maps): the same of the batch, divided by its number of rows
  float* gradient;  // (batch, rows, outputs): before BatchNorm, then of the convolution
  float* in;        // (batch, samples + 2 pad, inputs)
  float* d_weight;  // (kernel, inputs, maps)
  float* slots;     // a padded epoch for each thread
  int64_t maps, depth, padded;

  explicit Buffers(const ConvBlock& op) {
    const ConvLayer& layer = *op.layer;
    maps = ConvBlock::whole_panels(layer.outputs);
    depth = layer.kernel * layer.inputs;
    padded = (op.samples + 2 * layer.pad) * layer.inputs;
    packed = aligned(op.workspace);
    sums = packed + ConvBlock::whole_panels(depth) * layer.outputs;
    totals = sums + 2 * op.batch * maps;
    d_weight = totals + 2 * maps;
    slots = aligned(d_weight + depth * maps);
    in = slots + op.slots * ConvBlock::slot_floats(layer, op.samples);
    gradient = aligned(in + op.batch * padded);
  }
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

SLEEPTOOLS_INLINE Best best_of(const ConvBlock& op, const Norm& norm, const float* rows,
                               Window seen, int64_t count) {
  const bool first = never_falls(op.activation, op.slope);
  Best best = {};
  Vec most = {};
  for (int64_t t = seen.first; t < seen.last; ++t) {
    const Vec y = load_some(rows + t * op.layer->outputs, count);
    const Vec value = first ? norm(y) : activate(op.activation, op.slope, norm(y));
    const Int better = t == seen.first ? Int{} - 1 : (value > most) | (value != value);
    most = better ? value : most;
    best.y = better ? y : best.y;
    best.step = better ? Int{} + static_cast<int32_t>(t) : best.step;
  }
  return best;
}

// Back through dropout, pool and activation of one epoch, kLanes maps at a time; and their sums.
void unpool(const ConvBlockBackward& all, const Buffers& buffers, int64_t epoch) {
  const ConvBlock& op = all.block;
  const ConvLayer& layer = *op.layer;
  const float* rows = op.convolved + epoch * layer.rows * layer.outputs;
  const float* grad = all.grad + epoch * layer.steps * layer.outputs;
  float* out = buffers.gradient + epoch * layer.rows * layer.outputs;
  float* sums = buffers.sums + 2 * epoch * buffers.maps;
  __builtin_memset(out, 0, layer.rows * layer.outputs * sizeof(float));
  for (int64_t o = 0; o < layer.outputs; o += kLanes) {
    const int64_t count = layer.outputs - o;
    const Norm norm(op, o, count);
    Vec sum = {}, product = {};
    Bits words[4];
    for (int64_t t = 0; t < layer.steps; ++t) {
      const Window seen = window(layer, t);
      const Best best = best_of(op, norm, rows + o, seen, count);
      Vec g = load_some(grad + t * layer.outputs + o, count);
      if (op.drop_below > 0) {
        if (t % 4 == 0) draw(words, epoch, t, o, op.seed);
        g = dropped(g, words[t % 4], op.drop_below);
      }
      g *= slope_at(op.activation, op.slope, norm(best.y));
      sum += g;
      product += g * (best.y - norm.mean);
      for (int64_t r = seen.first; r < seen.last; ++r) {
        float* place = out + r * layer.outputs + o;
        const Vec mine = best.step == static_cast<int32_t>(r) ? g : Vec{};
        write_some<Float32>(place, load_some(place, count) + mine, count);
      }
    }
    store(sums + o, sum);
    store(sums + buffers.maps + o, product);
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
  buffers.totals[o] = static_cast<float>(sum / rows);
  buffers.totals[buffers.maps + o] = static_cast<float>(product / rows);
  all.d_beta[o] = static_cast<float>(sum);
  all.d_gamma[o] = static_cast<float>(product) / __builtin_sqrtf(op.variance[o] + op.eps);
}

// Back through BatchNorm: a row's gradient without what moves mean and variance.
void center(const ConvBlock& op, const Buffers& buffers, int64_t epoch) {
  const ConvLayer& layer = *op.layer;
  const int64_t place = epoch * layer.rows * layer.outputs;
  for (int64_t o = 0; o < layer.outputs; o += kLanes) {
    const int64_t count = layer.outputs - o;
    const Norm norm(op, o, count);
    const Vec mean = load<Vec>(buffers.totals + o);
    const Vec product = load<Vec>(buffers.totals + buffers.maps + o) * norm.inverse * norm.inverse;
    for (int64_t t = 0; t < layer.rows; ++t) {
      const float* y = op.convolved + place + t * layer.outputs + o;
      float* gradient = buffers.gradient + place + t * layer.outputs + o;
      const Vec moved = mean + (load_some(y, count) - norm.mean) * product;
      write_some<Float32>(gradient, norm.scale * (load_some(gradient, count) - moved), count);
    }
  }
}

// Gradient of one epoch's input: each row's product with the transposed weights is added where the
// convolution had read. Panels are not cut off: behind the last (tap, input) they hold zeros.
void input_gradient(const ConvBlockBackward& all, const Buffers& buffers, int64_t epoch,
                    float* padded) {
  alignas(64) float tile[kSums * kLanes];
  const ConvBlock& op = all.block;
  const ConvLayer& layer = *op.layer;
  const float* gradient = buffers.gradient + epoch * layer.rows * layer.outputs;
  const int64_t panels = ConvBlock::whole_panels(buffers.depth) / kPanel, o = layer.outputs;
  __builtin_memset(padded, 0, (buffers.padded + kPanel) * sizeof(float));
  int now = 0;
  for (int64_t panel = 0; panel < panels; panel += now) {
    now = panels - panel < kWidest ? 1 : kWidest;
    const float* w = buffers.packed + panel * o * kPanel;
    const int64_t most = block_rows(now);
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

// R neighbouring (tap, input)s by N panels of outputs: the weights' gradient over some epochs.
template <int N>
struct WeightGradient {
  static constexpr int kVecs = N * kPanelVecs;

  template <int R>
  static void run(const ConvBlock& op, const Buffers& buffers, int64_t first, int64_t last,
                  int64_t j, int64_t o) {
    const ConvLayer& layer = *op.layer;
    Vec sum[R][kVecs] = {};
    for (int64_t b = first; b < last; ++b) {
      const float* in = buffers.in + b * buffers.padded + j;
      const float* gradient = buffers.gradient + b * layer.rows * layer.outputs + o;
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
    float* out = buffers.d_weight + j * buffers.maps + o;
#pragma GCC unroll 16
    for (int r = 0; r < R; ++r, out += buffers.maps) {
#pragma GCC unroll 16
      for (int v = 0; v < kVecs; ++v) {
        store(out + v * kLanes, load<Vec>(out + v * kLanes) + sum[r][v]);
      }
    }
  }
};

// (tap, input)s [from, to) by N panels, in blocks of nearly equal size.
template <int N>
void weight_gradient(const ConvBlock& op, const Buffers& buffers, int64_t first, int64_t last,
                     int64_t from, int64_t to, int64_t o) {
  constexpr int kRows = block_rows(N);
  for (int64_t left = (to - from + kRows - 1) / kRows, now = 0; left > 0; --left, from += now) {
    now = (to - from) / left;
    tile<WeightGradient<N>, kRows>(now, op, buffers, first, last, from, o);
  }
}

// Gradients of the weights at (tap, input)s [from, to), over all epochs.
void weight_gradients(const ConvBlockBackward& all, const Buffers& buffers, int64_t from,
                      int64_t to) {
  const ConvBlock& op = all.block;
  const ConvLayer& layer = *op.layer;
  const int64_t epochs = layer.rows < kSumRows ? kSumRows / layer.rows : 1;
  float* const sums = buffers.d_weight;
  __builtin_memset(sums + from * buffers.maps, 0, (to - from) * buffers.maps * sizeof(float));
  for (int64_t first = 0; first < op.batch; first += epochs) {
    const int64_t last = smaller(op.batch, first + epochs);
    int64_t panels = 0;
    for (int64_t o = 0; o < layer.outputs; o += panels * kPanel) {
      panels = buffers.maps - o < kWidest * kPanel ? 1 : kWidest;
      if (panels == kWidest) {
        weight_gradient<kWidest>(op, buffers, first, last, from, to, o);
      } else {
        weight_gradient<1>(op, buffers, first, last, from, to, o);
      }
    }
  }
  for (int64_t o = 0; o < layer.outputs; ++o) {
    for (int64_t j = from; j < to; ++j) {
      const int64_t place = j % layer.inputs * layer.kernel + j / layer.inputs;
      all.d_weight[o * buffers.depth + place] = sums[j * buffers.maps + o];
    }
  }
}

}  // namespace

void conv_block_backward(const ConvBlockBackward& all, int threads) {
  const ConvBlock& op = all.block;
  const Buffers buffers(op);
  const int64_t slot = ConvBlock::slot_floats(*op.layer, op.samples);
  const int64_t panels = all.d_x ? ConvBlock::whole_panels(buffers.depth) / kPanel : 0;

#pragma omp parallel num_threads(threads) if (threads > 1)
  {
    float* const padded = buffers.slots + thread_number() * slot;
#pragma omp for schedule(static)
    for (int64_t p = 0; p < panels; ++p) pack_panel(op, p, buffers.packed);
#pragma omp for schedule(dynamic)
    for (int64_t b = 0; b < op.batch; ++b) {
      pad_epoch(op, b, buffers.in + b * buffers.padded);
      unpool(all, buffers, b);
    }
#pragma omp for schedule(static)
    for (int64_t o = 0; o < op.layer->outputs; ++o) join_sums(all, buffers, o);
#pragma omp for schedule(dynamic)
    for (int64_t b = 0; b < op.batch; ++b) {
      center(op, buffers, b);
      if (all.d_x) input_gradient(all, buffers, b, padded);
    }
#pragma omp for schedule(static)
    for (int64_t part = 0; part < threads; ++part) {
      weight_gradients(all, buffers, buffers.depth * part / threads,
                       buffers.depth * (part + 1) / threads);
    }
  }
}

}  // namespace sleeptools::SLEEPTOOLS_VARIANT
