// Activations behind a convolution, and their slopes.
#pragma once

#include "launch.cuh"

namespace sleeptools::cuda {

__device__ inline float activate(int64_t activation, float slope, float v) {
  switch (activation) {
    case TwoStreamConv::kRelu:
      return 0.0f > v ? 0.0f : v;  // keeps NaN
    case TwoStreamConv::kGelu:
      return 0.5f * v * (1.0f + erff(v * 0.70710678f));
    default:
      return v > 0.0f ? v : v * slope;
  }
}

__device__ inline float slope_at(int64_t activation, float slope, float v) {
  switch (activation) {
    case TwoStreamConv::kRelu:
      return v > 0.0f ? 1.0f : 0.0f;
    case TwoStreamConv::kGelu:
      return 0.5f * (1.0f + erff(v * 0.70710678f)) + v * 0.39894228f * expf(-0.5f * v * v);
    default:
      return v > 0.0f ? 1.0f : slope;
  }
}

}  // namespace sleeptools::cuda
