// A layer of a stream in training. The statistics of the batch stand between convolution and
// BatchNorm, so there are two passes over the epochs, a task for each: first the convolution
// (strided_rows.h) with the sums of each map while its rows are in cache, then all the rest in one.
// The epochs' sums are joined in their order: nothing depends on the number of threads.
#include "conv_block.h"

namespace sleeptools::SLEEPTOOLS_VARIANT {
namespace {

// Sums over the rows of an epoch of each map that BatchNorm sees, and of the squared distances from
// their mean.
template <bool kPrelu>
void sum_rows(const ConvBlock& op, const float* rows, float* sums, float* squares) {
  const ConvLayer& layer = *op.layer;
  for_maps(layer.outputs, [&](int64_t o, auto lanes) {
    const Before<kPrelu, decltype(lanes)> before(op, o, lanes);
    const auto value = [&](int64_t t) { return before(lanes.read(rows + t * layer.outputs + o)); };
    Vec sum = {}, square = {};
    for (int64_t t = 0; t < layer.rows; ++t) sum += value(t);
    const Vec mean = sum / static_cast<float>(layer.rows);
    for (int64_t t = 0; t < layer.rows; ++t) {
      const Vec distance = value(t) - mean;
      square += distance * distance;
    }
    store(sums + o, sum);
    store(squares + o, square);
  });
}

// Mean and variance of a map over the batch, from the epochs' sums (Chan, Golub, LeVeque, "Updating
// formulae and a pairwise algorithm for computing sample variances", 1979).
void join_sums(const ConvBlock& op, const float* sums, int64_t maps, int64_t o) {
  const double rows = static_cast<double>(op.layer->rows);
  double mean = 0.0, square = 0.0, count = 0.0;
  for (int64_t b = 0; b < op.batch; ++b, count += rows) {
    const double distance = sums[2 * b * maps + o] / rows - mean;
    mean += distance * rows / (count + rows);
    square += sums[(2 * b + 1) * maps + o] + distance * distance * count * rows / (count + rows);
  }
  op.mean[o] = static_cast<float>(mean);
  op.variance[o] = static_cast<float>(square / count);
}

// The pool of window `t`, normalised and activated.
template <bool kPrelu, bool kPool, class Lanes>
SLEEPTOOLS_INLINE Vec pooled(const ConvBlock& op, const Before<kPrelu, Lanes>& before,
                             const BatchNorm& norm, const float* rows, int64_t t, Lanes lanes) {
  const auto value = [&](int64_t row) {
    return norm(before(lanes.read(rows + row * op.layer->outputs)));
  };
  const auto activated = [&](Vec v) { return kPrelu ? v : activate(op.activation, op.slope, v); };
  if constexpr (!kPool) return activated(value(t));
  const bool first = kPrelu || never_falls(op.activation, op.slope);
  const Window seen = window(*op.layer, t);
  Vec best = {};
  for (int64_t row = seen.first; row < seen.last; ++row) {
    const Vec v = first ? value(row) : activated(value(row));
    best = row == seen.first ? v : maximum(best, v);
  }
  return first ? activated(best) : best;
}

// From an epoch's convolution to its output.
template <bool kPrelu, bool kPool>
void finish(const ConvBlock& op, const float* norms, int64_t epoch) {
  const ConvLayer& layer = *op.layer;
  const int64_t maps = ConvBlock::whole_panels(layer.outputs);
  const float* rows = op.convolved + epoch * layer.rows * layer.outputs;
  float* out = op.out + epoch * layer.steps * layer.outputs;
  for (int64_t first = 0; first < layer.steps; first += kDrawn) {
    for_maps(layer.outputs, [&](int64_t o, auto lanes) {
      const Before<kPrelu, decltype(lanes)> before(op, o, lanes);
      const BatchNorm norm(norms, maps, o);
      Bits words[kDrawn];
      if (op.drop_below > 0) draw(words, epoch, first, o, op.seed);
      for (int64_t t = first; t < smaller(layer.steps, first + kDrawn); ++t) {
        Vec value = pooled<kPrelu, kPool>(op, before, norm, rows + o, t, lanes);
        if (op.drop_below > 0) value = dropped(value, words[t - first], op.drop_below);
        lanes.write(out + t * layer.outputs + o, value);
      }
    });
  }
}

template <class P>
void run(const ConvBlock& op, int threads) {
  const ConvLayer& layer = *op.layer;
  const int64_t maps = ConvBlock::whole_panels(layer.outputs);
  const int64_t step = layer.stride * layer.inputs, depth = layer.kernel * layer.inputs;
  float* const packed = aligned(op.workspace);
  float* const sums = packed + ConvBlock::packed_floats(depth, layer.outputs);
  float* const norms = sums + 2 * op.batch * maps;
  float* const slots = norms + BatchNorm::kNumbers * maps;
  const auto column = [&](int64_t o) { return Place{o * depth, 0}; };
  const auto product = [&](int64_t j) {  // tap by tap
    return Place{j % layer.inputs * layer.kernel + j / layer.inputs, 0};
  };

#pragma omp parallel num_threads(threads) if (threads > 1)
  {
    const TileScope tiles;
    auto* const in = reinterpret_cast<typename P::T*>(
        slots + thread_number() * ConvBlock::padded_floats(layer, op.samples));
#pragma omp for schedule(static)
    for (int64_t p = 0; p < maps / kPanel; ++p) {
      pack_panel<P>(op, p, depth, layer.outputs, column, product, packed);
    }
#pragma omp for schedule(dynamic)
    for (int64_t b = 0; b < op.batch; ++b) {
      float* const rows = op.convolved + b * layer.rows * layer.outputs;
      pad_epoch<P>(op, b, in);
      multiply_rows<P>(in, step, depth, packed, layer.rows, layer.outputs,
                       [&](int64_t t, int64_t o, Vec sum) {
                         if (op.bias) sum += load_some(op.bias + o, layer.outputs - o);
                         write_some<Float32>(rows + t * layer.outputs + o, sum, layer.outputs - o);
                       });
      for_kind(op, [&](auto prelu, auto) {
        sum_rows<prelu()>(op, rows, sums + 2 * b * maps, sums + (2 * b + 1) * maps);
      });
    }
#pragma omp for schedule(static)
    for (int64_t o = 0; o < layer.outputs; ++o) {
      join_sums(op, sums, maps, o);
      write_norm(op, norms, maps, o);
    }
#pragma omp for schedule(dynamic)
    for (int64_t b = 0; b < op.batch; ++b) {
      for_kind(op, [&](auto prelu, auto pool) { finish<prelu(), pool()>(op, norms, b); });
    }
  }
}

}  // namespace

void conv_block(const ConvBlock& op, int threads) {
  op.bf16 ? run<Fastest>(op, threads) : run<Float32>(op, threads);
}

}  // namespace sleeptools::SLEEPTOOLS_VARIANT
