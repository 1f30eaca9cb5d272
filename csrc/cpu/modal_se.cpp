// Modal-wise squeeze-and-excitation block: one task per epoch, two sweeps over it in L1/L2 cache.
// The first sweep leaves the convolved features F' in `out`, the second scales them in place.
#include <cmath>

#include "variant.h"

namespace sleeptools::SLEEPTOOLS_VARIANT {
namespace {

// out = w in + b over the M modalities of one column (or kLanes columns at once).
template <int M, class V>
SLEEPTOOLS_INLINE void mix(const float* w, const float* b, const V (&in)[M], V (&out)[M]) {
#pragma GCC unroll 8
  for (int i = 0; i < M; ++i) {
    out[i] = V{} + b[i];
#pragma GCC unroll 8
    for (int j = 0; j < M; ++j) out[i] += w[i * M + j] * in[j];
  }
}

template <int M, class V>
SLEEPTOOLS_INLINE void convolve(const ModalSe& op, const float* x, float* f, V (&total)[M]) {
  V in[M], hidden[M], features[M];
#pragma GCC unroll 8
  for (int m = 0; m < M; ++m) in[m] = load<V>(x + m * op.samples);
  mix<M, V>(op.w1, op.b1, in, hidden);
#pragma GCC unroll 8
  for (int m = 0; m < M; ++m) hidden[m] = relu(hidden[m]);
  mix<M, V>(op.w2, op.b2, hidden, features);
#pragma GCC unroll 8
  for (int m = 0; m < M; ++m) {
    store(f + m * op.samples, features[m]);
    total[m] += features[m];
  }
}

template <int M>
void gate(const ModalSe& op, const float (&mean)[M], float (&e)[M]) {
  float hidden[M];
  mix<M, float>(op.squeeze, op.squeeze_bias, mean, hidden);
  for (int m = 0; m < M; ++m) hidden[m] = relu(hidden[m]);
  mix<M, float>(op.excite, op.excite_bias, hidden, e);
  for (int m = 0; m < M; ++m) e[m] = 1.0f / (1.0f + expf(-e[m]));
}

template <class V>
SLEEPTOOLS_INLINE void scale(const float* x, float* f, float e, bool authors) {
  const V in = load<V>(x);
  store<V>(f, authors ? relu(in + load<V>(f) * e) : in + in * e);
}

template <int M>
void epoch(const ModalSe& op, int64_t index) {
  const int64_t bulk = op.samples / kLanes * kLanes;
  const float* x = op.x + index * M * op.samples;
  float* f = op.out + index * M * op.samples;

  Vec totals[M] = {};
  float mean[M] = {}, e[M];
  for (int64_t t = 0; t < bulk; t += kLanes) convolve<M, Vec>(op, x + t, f + t, totals);
  for (int64_t t = bulk; t < op.samples; ++t) convolve<M, float>(op, x + t, f + t, mean);
  for (int m = 0; m < M; ++m) mean[m] = (mean[m] + sum(totals[m])) / op.samples;

  gate<M>(op, mean, e);
  for (int m = 0; m < M; ++m, x += op.samples, f += op.samples) {
    for (int64_t t = 0; t < bulk; t += kLanes) scale<Vec>(x + t, f + t, e[m], op.authors);
    for (int64_t t = bulk; t < op.samples; ++t) scale<float>(x + t, f + t, e[m], op.authors);
  }
}

constexpr void (*kEpoch[])(const ModalSe&, int64_t) = {
    epoch<1>, epoch<2>,  epoch<3>,  epoch<4>,  epoch<5>,  epoch<6>,  epoch<7>,  epoch<8>,
    epoch<9>, epoch<10>, epoch<11>, epoch<12>, epoch<13>, epoch<14>, epoch<15>, epoch<16>,
};
static_assert(sizeof kEpoch / sizeof *kEpoch == ModalSe::kMaxModalities);

}  // namespace

void modal_se(const ModalSe& op, int threads) {
  const auto run = kEpoch[op.modalities - 1];
#pragma omp parallel for num_threads(threads) if (threads > 1) schedule(static)
  for (int64_t index = 0; index < op.batch; ++index) run(op, index);
}

}  // namespace sleeptools::SLEEPTOOLS_VARIANT
