// The end of a network: probabilities of the stages, and NaN where the input was not all numbers.
#include <cmath>

#include "variant.h"

namespace sleeptools::SLEEPTOOLS_VARIANT {
namespace {

// Zero, or NaN unless every value is finite: only then their sum is. A maximum could hide a value.
float spoilt(const float* x, int64_t count) {
  constexpr int kChains = 4;  // an addition takes that many cycles
  Vec sums[kChains] = {};
  float total = 0.0f;
  int64_t i = 0;
  for (; i + kChains * kLanes <= count; i += kChains * kLanes) {
    for (int c = 0; c < kChains; ++c) sums[c] += load<Vec>(x + i + c * kLanes);
  }
  for (; i < count; ++i) total += x[i];
  for (int c = 0; c < kChains; ++c) total += sum(sums[c]);
  return total - total;
}

void epoch(const Hypnodensity& op, int64_t index) {
  const float* logits = op.logits + index * op.stages;
  float* out = op.out + index * op.stages;
  float largest = logits[0], total = 0.0f;
  for (int64_t s = 1; s < op.stages; ++s) largest = logits[s] > largest ? logits[s] : largest;
  for (int64_t s = 0; s < op.stages; ++s) total += out[s] = expf(logits[s] - largest);
  const float nan = spoilt(op.x + index * op.values, op.values) + spoilt(logits, op.stages);
  for (int64_t s = 0; s < op.stages; ++s) out[s] = out[s] / total + nan;
}

}  // namespace

void hypnodensity(const Hypnodensity& op, int threads) {
#pragma omp parallel for num_threads(threads) if (threads > 1) schedule(static)
  for (int64_t index = 0; index < op.batch; ++index) epoch(op, index);
}

}  // namespace sleeptools::SLEEPTOOLS_VARIANT
