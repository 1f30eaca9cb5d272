// Resampling by a rational factor: every output is the dot product of a stretch of the input with
// the taps of its phase.
#include "variant.h"

namespace sleeptools::SLEEPTOOLS_VARIANT {
namespace {

static_assert(Polyphase::kPanel % kLanes == 0);

SLEEPTOOLS_INLINE float total(Vec v) {
  float f[kLanes];
  __builtin_memcpy(f, &v, sizeof f);
  for (int half = kLanes / 2; half > 0; half /= 2) {
    for (int i = 0; i < half; ++i) f[i] += f[i + half];
  }
  return f[0];
}

SLEEPTOOLS_INLINE float dot(const float* x, const float* taps, int64_t width) {
  Vec sum = {};
  for (int64_t i = 0; i < width; i += kLanes) sum += load<Vec>(x + i) * load<Vec>(taps + i);
  return total(sum);
}

}  // namespace

void polyphase(const Polyphase& op, int) {
  const int64_t quotient = op.down / op.up, remainder = op.down % op.up;
  for (int64_t row = 0; row < op.rows; ++row) {
    const float* x = op.x + row * op.padded;
    float* const out = op.out + row * op.size;
    for (int64_t i = 0, phase = 0; i < op.size; ++i) {
      out[i] = dot(x, op.taps + phase * op.width, op.width);
      x += quotient, phase += remainder;
      if (phase >= op.up) ++x, phase -= op.up;
    }
  }
}

}  // namespace sleeptools::SLEEPTOOLS_VARIANT
