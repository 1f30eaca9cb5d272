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
  // Of signals in bfloat16.
  const uint16_t* half_source(int64_t row) const {
    return reinterpret_cast<const uint16_t*>(arena) + step.source + row * step.source_row;
  }
  uint16_t* half_target(int64_t row) const {
    return reinterpret_cast<uint16_t*>(arena) + step.target + row * step.target_row;
  }
  const float* other(int which, int64_t row) const {
    return arena + step.other[which] + row * step.other_row[which];
  }
};

template <int64_t kActivation>
SLEEPTOOLS_INLINE Vec activated(Vec v, Vec slopes) {
  switch (kActivation) {
    case ConvPlan::kRelu:
      return relu(v);
    case ConvPlan::kGelu:
      return activate(TwoStreamConv::kGelu, 0.0f, v);
    case ConvPlan::kPrelu:
      return v > 0.0f ? v : v * slopes;
    case ConvPlan::kTanh:
      return hyperbolic_tangent(v);
    case ConvPlan::kSigmoid:
      return sigmoid(v);
    default:
      return v;
  }
}

SLEEPTOOLS_INLINE Vec activated(const Rows& rows, int64_t o, Vec v) {
  switch (rows.step.activation) {
    case ConvPlan::kRelu:
      return activated<ConvPlan::kRelu>(v, v);
    case ConvPlan::kGelu:
      return activated<ConvPlan::kGelu>(v, v);
    case ConvPlan::kPrelu:
      return activated<ConvPlan::kPrelu>(v, load<Vec>(rows.vector(rows.step.slopes) + o));
    case ConvPlan::kTanh:
      return activated<ConvPlan::kTanh>(v, v);
    case ConvPlan::kSigmoid:
      return activated<ConvPlan::kSigmoid>(v, v);
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

template <class Lanes>
SLEEPTOOLS_INLINE void put(float* p, Vec v, Lanes lanes) {
  lanes.write(p, v);
}

#if defined(__AVX512BF16__)
template <class Lanes>
SLEEPTOOLS_INLINE void put(uint16_t* p, Vec v, Lanes lanes) {
  _mm256_mask_storeu_epi16(p, first_lanes(lanes.count), (__m256i)_mm512_cvtneps_pbh(v));
}
#endif

// `finish` for a column of sums, `width` floats from one to the next: of `count` rows from t on,
// `apart` from each other, to `out`. What does not change from row to row is read once.
template <int64_t kActivation, class T, class Lanes>
SLEEPTOOLS_INLINE void finish_column(const Rows& rows, int64_t t, int64_t apart, int64_t count,
                                     int64_t o, const float* sums, int64_t width, T* out,
                                     Lanes lanes) {
  const Step& step = rows.step;
  const auto vector = [&](int64_t place, float otherwise) {
    return place < 0 ? Vec{} + otherwise : load<Vec>(rows.vector(place) + o);
  };
  const Vec bias = vector(step.bias, 0.0f), slopes = vector(step.slopes, 1.0f);
  const Vec scale = vector(step.scale, 1.0f), shift = vector(step.shift, 0.0f);
  const float* added[2];
  int64_t added_row[2], number = 0;
  for (; number < 2 && step.added[number] >= 0; ++number) {
    added_row[number] = apart * step.added_row[number];
    added[number] = rows.arena + step.added[number] + t * step.added_row[number] + o;
  }
  for (int64_t r = 0; r < count; ++r, sums += width, out += apart * step.target_row) {
    Vec v = load<Vec>(sums) + bias;
    for (int64_t i = 0; i < number; ++i) v += lanes.read(added[i] + r * added_row[i]);
    put(out, activated<kActivation>(v, slopes) * scale + shift, lanes);
  }
}

// For all columns of a tile of sums, `outputs` of them from map `o` on.
template <int64_t kActivation, class T>
SLEEPTOOLS_INLINE void finish_tile(const Rows& rows, int64_t t, int64_t apart, int64_t count,
                                   int64_t o, int64_t outputs, const float* sums, int64_t width,
                                   T* target) {
  for_maps(outputs, [&](int64_t v, auto lanes) {
    T* const out = target + o + v;
    finish_column<kActivation>(rows, t, apart, count, o + v, sums + v, width, out, lanes);
  });
}

template <class... Arguments>
SLEEPTOOLS_INLINE void finish_tile(const Rows& rows, Arguments... arguments) {
  switch (rows.step.activation) {
    case ConvPlan::kRelu:
      return finish_tile<ConvPlan::kRelu>(rows, arguments...);
    case ConvPlan::kGelu:
      return finish_tile<ConvPlan::kGelu>(rows, arguments...);
    case ConvPlan::kPrelu:
      return finish_tile<ConvPlan::kPrelu>(rows, arguments...);
    case ConvPlan::kTanh:
      return finish_tile<ConvPlan::kTanh>(rows, arguments...);
    case ConvPlan::kSigmoid:
      return finish_tile<ConvPlan::kSigmoid>(rows, arguments...);
    default:
      return finish_tile<ConvPlan::kNone>(rows, arguments...);
  }
}

}  // namespace sleeptools::SLEEPTOOLS_VARIANT
