// What the feed-forward block and its gradients share on Tensor Cores: dropout of a part of the
// hidden layer that lies in the registers of a product's sums.
#pragma once

#include "philox.cuh"
#include "product.cuh"
#include "tensor_product.cuh"

namespace sleeptools::cuda {

namespace tensor {

// The random words of units `unit` and the next one, for rows `row` and `row` + 8, as a lane has
// them in its sums. Two lanes have the four units of a counter: each draws for one of the rows.
__device__ inline void draw_pairs(int64_t unit, int64_t row, uint64_t seed,
                                  uint32_t (&words)[2][2]) {
  const bool late = threadIdx.x % 2 != 0;
  uint32_t drawn[4];
  random_words(unit / 4, late ? row + 8 : row, 0, seed, drawn);
#pragma unroll
  for (int k = 0; k < 2; ++k) {
    const uint32_t own = late ? drawn[2 + k] : drawn[k], other = late ? drawn[k] : drawn[2 + k];
    const uint32_t got = __shfl_xor_sync(0xffffffffu, other, 1);
    words[0][k] = late ? got : own;
    words[1][k] = late ? own : got;
  }
}

}  // namespace tensor
}  // namespace sleeptools::cuda
