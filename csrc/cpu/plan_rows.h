// What the kinds of steps of a compiled network share: rows of signals in the arena, and what
// follows the sums or the pool of a step.
#pragma once

#include "activations.h"
#include "lanes.h"

namespace sleeptools::SLEEPTOOLS_VARIANT {

using Step = ConvPlan::Step;

// Some rows of an epoch's step, and what they are made from.
struct Rows {
  const ConvPlan& op;
  const Step& step;
  float* arena;
  float* scratch;  // the thread's own
  int64_t first, last;

  const float* vector(int64_t place) const { return op.packed + place; }
  const float* source(int64_t row) const { return arena + step.source + row * step.source_row; }
  float* target(int64_t row) const { return arena + step.target + row * step.target_row; }
  const float* other(int which, int64_t row) const {
    return arena + step.other[which] + row * step.other_row[which];
  }
};

SLEEPTOOLS_INLINE Vec activated(const Rows& rows, int64_t o, Vec v) {
  switch (rows.step.activation) {
    case ConvPlan::kRelu:
      return relu(v);
    case ConvPlan::kGelu:
      return activate(TwoStreamConv::kGelu, 0.0f, v);
    case ConvPlan::kPrelu:
      return v > 0.0f ? v : v * load<Vec>(rows.vector(rows.step.slopes) + o);
    case ConvPlan::kTanh:
      return hyperbolic_tangent(v);
    case ConvPlan::kSigmoid:
      return sigmoid(v);
    default:
      return v;
  }
}

// Everything behind the sums or the pool: bias, added signals, activation, scale and shift.
template <class Lanes>
SLEEPTOOLS_INLINE void finish(const Rows& rows, int64_t t, int64_t o, Vec v, Lanes lanes) {
  const Step& step = rows.step;
  if (step.bias >= 0) v += load<Vec>(rows.vector(step.bias) + o);
  for (int i = 0; i < 2 && step.added[i] >= 0; ++i) {
    v += lanes.read(rows.arena + step.added[i] + t * step.added_row[i] + o);
  }
  v = activated(rows, o, v);
  if (step.scale >= 0) {
    v = v * load<Vec>(rows.vector(step.scale) + o) + load<Vec>(rows.vector(step.shift) + o);
  }
  lanes.write(rows.target(t) + o, v);
}

}  // namespace sleeptools::SLEEPTOOLS_VARIANT
