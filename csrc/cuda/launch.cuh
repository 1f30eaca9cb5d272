// What a .cu file starts from: error checks around a launch, and sums over a block.
#pragma once

#include <cuda_runtime.h>

#include "device.h"

namespace sleeptools::cuda {

// Throws Unavailable or std::runtime_error, "NAME: TEXT", unless `status` is success.
void check(const char* name, cudaError_t status);

__device__ inline float warp_sum(float value) {
  for (int offset = 16; offset > 0; offset /= 2) {
    value += __shfl_down_sync(0xffffffffu, value, offset);
  }
  return value;
}

}  // namespace sleeptools::cuda
