// What a convolution block in training and its gradients share: what follows the convolution of a
// map, and sums over a group's rows of neighbouring maps.
#pragma once

#include "activations.cuh"
#include "philox.cuh"

namespace sleeptools::cuda {

constexpr int kAcross = 32, kDown = 8;  // threads: neighbouring maps, and rows of each

// The values of a map behind the convolution: PReLU and BatchNorm; then the activation.
struct MapValues {
  float mean, inverse, scale, beta, prelu;  // scale = gamma * inverse

  __device__ MapValues(const ConvBlock& op, int64_t map)
      : mean(op.mean[map]),
        inverse(1.0f / sqrtf(op.variance[map] + op.eps)),
        scale(op.gamma[map] * inverse),
        beta(op.beta[map]),
        prelu(op.slopes ? op.slopes[map] : 1.0f) {}

  __device__ float before(float y) const { return y > 0.0f ? y : y * prelu; }
  __device__ float normal(float y) const { return (before(y) - mean) * scale + beta; }

  __device__ float operator()(const ConvBlock& op, float y) const {
    return op.slopes ? normal(y) : activate(op.activation, op.slope, normal(y));
  }
};

// Rows of an epoch that a step of the pool sees.
struct PoolWindow {
  int64_t first, last;

  __device__ PoolWindow(const ConvLayer& layer, int64_t step) {
    const int64_t start = step * layer.pool_stride - layer.pool_pad;
    first = max(start, int64_t{0});
    last = min(start + layer.pool_kernel, layer.rows);
  }
};

// Where the maximum of a window is, the first of equal ones as in PyTorch, and what is there;
// `rows` are the map's of the epoch.
struct Best {
  int64_t row;
  float value;

  __device__ Best(const ConvBlock& op, const ConvLayer& layer, const MapValues& values,
                  const float* rows, const PoolWindow& window)
      : row(window.first), value(-INFINITY) {
    for (int64_t r = window.first; r < window.last; ++r) {
      const float v = values(op, rows[r * layer.outputs]);
      if (!(v > value || v != v || r == window.first)) continue;
      row = r;
      value = v;
    }
  }
};

// The sum over the kDown threads of a map, in their order; all threads of the block call it.
__device__ inline float sum_down(float value) {
  __shared__ float parts[kDown][kAcross];
  __syncthreads();
  parts[threadIdx.y][threadIdx.x] = value;
  __syncthreads();
  float sum = 0.0f;
  for (int i = 0; i < kDown; ++i) sum += parts[i][threadIdx.x];
  return sum;
}

// The rows of a group among those of all epochs, [first, last).
struct Group {
  int64_t first, last;

  __device__ Group(int64_t rows, int64_t group, int64_t groups)
      : first(rows * group / groups), last(rows * (group + 1) / groups) {}
};

// Where a group's two sums of a map are.
__device__ inline float* group_sums(float* sums, int64_t group, int64_t maps) {
  return sums + 2 * group * maps;
}

inline unsigned blocks(int64_t count, int64_t each) {
  return static_cast<unsigned>((count + each - 1) / each);
}

}  // namespace sleeptools::cuda
