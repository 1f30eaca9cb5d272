// Two dense layers over an epoch's features. The first is a product with few outputs and a long
// sum, whose weights are read once for kEpochs epochs; features lie in the vector lanes.
#include "variant.h"

namespace sleeptools::SLEEPTOOLS_VARIANT {
namespace {

constexpr int kEpochs = 4, kUnits = 4;  // of a register tile: epochs by units of the hidden layer

// Features [j, j + size of V) of an epoch, gated.
template <class V>
SLEEPTOOLS_INLINE V features(const Classifier& op, int64_t epoch, int64_t j) {
  const int64_t offset = epoch * op.inputs + j;
  return op.gate ? load<V>(op.x + offset) * load<V>(op.gate + offset) : load<V>(op.x + offset);
}

template <int E, int U, class V>
SLEEPTOOLS_INLINE void add(const Classifier& op, int64_t epoch, int64_t unit, int64_t j,
                           V (&sums)[E][U]) {
  V x[E];
  for (int e = 0; e < E; ++e) x[e] = features<V>(op, epoch + e, j);
  for (int u = 0; u < U; ++u) {
    const V w = load<V>(op.w1 + (unit + u) * op.inputs + j);
    for (int e = 0; e < E; ++e) sums[e][u] += x[e] * w;
  }
}

template <int E, int U>
void dense(const Classifier& op, int64_t epoch, int64_t unit) {
  Vec sums[E][U] = {};
  float tail[E][U] = {};
  const int64_t bulk = op.inputs / kLanes * kLanes;
  for (int64_t j = 0; j < bulk; j += kLanes) add<E, U, Vec>(op, epoch, unit, j, sums);
  for (int64_t j = bulk; j < op.inputs; ++j) add<E, U, float>(op, epoch, unit, j, tail);
  for (int e = 0; e < E; ++e) {
    for (int u = 0; u < U; ++u) {
      const float value = sum(sums[e][u]) + tail[e][u] + op.b1[unit + u];
      op.hidden_layer[(epoch + e) * op.hidden + unit + u] = op.rectify ? relu(value) : value;
    }
  }
}

template <int E>
SLEEPTOOLS_INLINE void units(const Classifier& op, int64_t epoch, int64_t unit) {
  if (op.hidden - unit >= kUnits) return dense<E, kUnits>(op, epoch, unit);
  for (; unit < op.hidden; ++unit) dense<E, 1>(op, epoch, unit);
}

void classify(const Classifier& op, int64_t epoch) {
  for (int64_t s = 0; s < op.stages; ++s) {
    float total = op.b2[s];
    for (int64_t h = 0; h < op.hidden; ++h) {
      total += op.w2[s * op.hidden + h] * op.hidden_layer[epoch * op.hidden + h];
    }
    op.out[epoch * op.stages + s] = total;
  }
}

}  // namespace

void classifier(const Classifier& op, int threads) {
  const int64_t groups = (op.batch + kEpochs - 1) / kEpochs;
  const int64_t unit_groups = (op.hidden + kUnits - 1) / kUnits;
#pragma omp parallel for num_threads(threads) if (threads > 1) schedule(static)
  for (int64_t task = 0; task < groups * unit_groups; ++task) {
    int64_t epoch = task / unit_groups * kEpochs;
    const int64_t unit = task % unit_groups * kUnits;
    if (op.batch - epoch >= kEpochs) {
      units<kEpochs>(op, epoch, unit);
    } else {
      for (; epoch < op.batch; ++epoch) units<1>(op, epoch, unit);
    }
  }
  for (int64_t epoch = 0; epoch < op.batch; ++epoch) classify(op, epoch);
}

}  // namespace sleeptools::SLEEPTOOLS_VARIANT
