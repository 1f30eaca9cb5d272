// What a convolution block and its gradients share: padded epochs, packed weights, the product of
// some rows with all panels, and what follows the convolution of kLanes neighbouring maps.
#pragma once

#include <type_traits>

#include "activations.h"
#include "dropout.h"
#include "lanes.h"
#include "strided_rows.h"

namespace sleeptools::SLEEPTOOLS_VARIANT {

// What stands before BatchNorm, for kLanes maps: nothing, or a PReLU.
template <bool kPrelu, class Lanes>
struct Before {
  Vec slopes = {};

  Before(const ConvBlock& op, int64_t map, Lanes lanes) {
    if constexpr (kPrelu) slopes = lanes.read(op.slopes + map);
  }

  Vec operator()(Vec y) const {
    if constexpr (kPrelu) return y > 0.0f ? y : y * slopes;
    return y;
  }
};

// Calls work(PReLU before BatchNorm?, pool?) with types that say so. Behind a PReLU there is no
// other activation.
template <class Work>
SLEEPTOOLS_INLINE void for_kind(const ConvBlock& op, const Work& work) {
  const ConvLayer& layer = *op.layer;
  const bool pool = layer.pool_kernel > 1 || layer.pool_stride > 1 || layer.pool_pad > 0;
  const std::true_type yes;
  const std::false_type no;
  if (op.slopes) return pool ? work(yes, yes) : work(yes, no);
  pool ? work(no, yes) : work(no, no);
}

// What BatchNorm does to kLanes maps: y becomes (y - mean) * scale + beta.
struct BatchNorm {
  static constexpr int kNumbers = 4;  // for each map; in memory (kNumbers, maps)

  Vec mean, inverse, scale, beta;  // scale = gamma * inverse

  BatchNorm(const float* norms, int64_t maps, int64_t map) {
    mean = load<Vec>(norms + map);
    inverse = load<Vec>(norms + maps + map);
    scale = load<Vec>(norms + 2 * maps + map);
    beta = load<Vec>(norms + 3 * maps + map);
  }

  Vec operator()(Vec y) const { return (y - mean) * scale + beta; }
};

SLEEPTOOLS_INLINE void write_norm(const ConvBlock& op, float* norms, int64_t maps, int64_t map) {
  const float inverse = 1.0f / __builtin_sqrtf(op.variance[map] + op.eps);
  norms[map] = op.mean[map];
  norms[maps + map] = inverse;
  norms[2 * maps + map] = op.gamma[map] * inverse;
  norms[3 * maps + map] = op.beta[map];
}

// Zeros that are read as the rest of a product's depth, behind what it is for.
constexpr int64_t kRest = kTileDepth;

// Where a weight is found, from the one or the other: the sum of both, and zero past the last tap.
struct Place {
  int64_t offset, tap;
};

// Weights of `depth` products for some columns to a panel of them, as TwoStreamConv::packed.
template <class P, class Column, class Product>
void pack_panel(const ConvBlock& op, int64_t panel, int64_t depth, int64_t columns,
                const Column& column, const Product& product, float* start) {
  float* const first = start + panel * panel_size<P>(depth);
  auto* const out = reinterpret_cast<typename P::T*>(first);
  const int64_t remaining = smaller(columns - panel * kPanel, kPanel);
  Place places[kPanel] = {};
  for (int64_t o = 0; o < remaining; ++o) places[o] = column(panel * kPanel + o);
  __builtin_memset(first, 0, panel_size<P>(depth) * sizeof(float));
  for (int64_t j = 0; j < depth; ++j) {
    const Place at = product(j);
    auto* const row = out + j / P::kJoined * P::kJoined * kPanel + j % P::kJoined;
    for (int64_t o = 0; o < remaining; ++o) {
      if (at.tap + places[o].tap >= op.layer->kernel) continue;
      row[o * P::kJoined] = P::round(op.weight[at.offset + places[o].offset]);
    }
  }
}

// Values of an epoch as far as a kernel sees them: behind those, what is read along must be finite.
SLEEPTOOLS_INLINE int64_t seen_values(const ConvBlock& op) {
  const ConvLayer& layer = *op.layer;
  const int64_t read_rows = (layer.rows - 1) * layer.stride + layer.kernel - layer.pad;
  return smaller(op.samples, read_rows < 0 ? 0 : read_rows) * layer.inputs;
}

// One epoch with zeros before and after, (samples + 2 pad, inputs).
template <class P>
void pad_epoch(const ConvBlock& op, int64_t epoch, typename P::T* out) {
  const int64_t pad = op.layer->pad * op.layer->inputs, size = op.samples * op.layer->inputs;
  const int64_t count = seen_values(op);
  const float* x = op.x + epoch * size;
  for (int64_t i = 0; i < pad; ++i) out[i] = 0;
  out += pad;
  int64_t i = 0;
  for (; i + kLanes <= count; i += kLanes) P::write(out + i, load<Vec>(x + i));
  for (; i < count; ++i) out[i] = P::round(x[i]);
  for (; i < size + pad + kRest; ++i) out[i] = 0;
}

// A product of `rows` rows with all panels, a block at a time: `write(row, column, sums)`, kLanes
// columns of a row each.
template <class P, class Write>
SLEEPTOOLS_INLINE void multiply_rows(const typename P::T* in, int64_t step, int64_t depth,
                                     const float* packed, int64_t rows, int64_t columns,
                                     const Write& write) {
  alignas(64) float tile[kManyRows<P> * kWidest * kPanel];
  const int64_t size = panel_size<P>(depth), all = (columns + kPanel - 1) / kPanel;
  int panels = 0;
  for (int64_t panel = 0; panel < all; panel += panels) {
    panels = all - panel < kWidest ? 1 : kWidest;
    const int64_t width = columns - panel * kPanel;
    for (int64_t first = 0, last = 0; first < rows; first = last) {
      last = next_rows<P>(first, rows);
      multiply<P>({in + first * step, step, depth, packed + panel * size, size, tile}, last - first,
                  panels);
      for (int64_t t = first; t < last; ++t) {
        const float* sums = tile + (t - first) * panels * kPanel;
        for (int64_t o = 0; o < panels * kPanel && o < width; o += kLanes) {
          write(t, panel * kPanel + o, load<Vec>(sums + o));
        }
      }
    }
  }
}

}  // namespace sleeptools::SLEEPTOOLS_VARIANT
