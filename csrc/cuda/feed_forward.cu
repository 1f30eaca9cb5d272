// Feed-forward block of a Transformer layer: a block of threads takes kRows rows through both
// layers and keeps kHidden units of the hidden layer in shared memory at a time. The sums of the
// second layer stay in `out`, where each number has one thread that adds to it.
#include <cuda_bf16.h>

#include "launch.cuh"
#include "philox.cuh"

namespace sleeptools::cuda {
namespace {

constexpr int kRows = 32, kHidden = 64;  // a tile of the product: rows by weights' rows
constexpr int kDepth = 32;               // of both operands in shared memory
constexpr int kAcross = 16, kDown = 16;  // threads
constexpr int kThreads = kAcross * kDown;
constexpr int kMyRows = kRows / kDown, kMyColumns = kHidden / kAcross;

using Left = float[kRows][kDepth + 1];  // the odd length keeps threads on different banks
using Right = float[kHidden][kDepth + 1];
using Sums = float[kMyRows][kMyColumns];

// Keeps NaN as PyTorch does; fmaxf would drop it.
__device__ float relu(float v) { return 0.0f > v ? 0.0f : v; }

// To the precision of the weights.
template <class W>
__device__ float rounded(float v) {
  return static_cast<float>(static_cast<W>(v));
}

// A tile of a row-major matrix from (row, column) on, zeros outside; `columns` <= stride.
template <class W, int kTileRows, class T>
__device__ void read(float (&tile)[kTileRows][kDepth + 1], const T* matrix, int64_t stride,
                     int64_t row, int64_t column, int64_t rows, int64_t columns) {
  for (int i = threadIdx.x; i < kTileRows * kDepth; i += kThreads) {
    const int64_t r = row + i / kDepth, c = column + i % kDepth;
    const bool inside = r < rows && c < columns;
    tile[i / kDepth][i % kDepth] =
        inside ? rounded<W>(static_cast<float>(matrix[r * stride + c])) : 0.0f;
  }
}

// Thread (across, down) has rows down + kDown i and columns across + kAcross j.
__device__ void multiply(const Left& left, const Right& right, Sums& sums) {
  const int across = threadIdx.x % kAcross, down = threadIdx.x / kAcross;
#pragma unroll 8
  for (int k = 0; k < kDepth; ++k) {
#pragma unroll
    for (int i = 0; i < kMyRows; ++i) {
#pragma unroll
      for (int j = 0; j < kMyColumns; ++j) {
        sums[i][j] = fmaf(left[down + kDown * i][k], right[across + kAcross * j][k], sums[i][j]);
      }
    }
  }
}

// A unit of the hidden layer from its sum without the bias; zero for a unit that there is not.
template <class W>
__device__ float hidden_unit(const FeedForward& op, float sum, int64_t row, int64_t unit) {
  if (unit >= op.hidden) return 0.0f;
  if (op.drop_below > 0 && random_word(unit / 4, row, 0, unit % 4, op.seed) < op.drop_below)
    return 0.0f;
  return rounded<W>(relu(sum + op.b1[unit]));
}

template <class W>
__global__ void __launch_bounds__(kThreads) kernel(const FeedForward op) {
  __shared__ Left x, hidden[kHidden / kDepth];
  __shared__ Right weights;
  const W* w1 = static_cast<const W*>(op.w1);
  const W* w2 = static_cast<const W*>(op.w2);
  const int64_t even = op.bf16 ? 2 : 1;
  const int64_t stride1 = (op.width + even - 1) / even * even;
  const int64_t stride2 = (op.hidden + even - 1) / even * even;
  const int64_t first = static_cast<int64_t>(blockIdx.x) * kRows;
  const float scale = static_cast<float>(4294967296.0 / (4294967296.0 - op.drop_below));
  const int across = threadIdx.x % kAcross, down = threadIdx.x / kAcross;

  for (int64_t h = 0; h < op.hidden || h == 0; h += kHidden) {
    Sums sums = {};
    for (int64_t k = 0; k < op.width; k += kDepth) {
      __syncthreads();
      read<W>(x, op.x, op.width, first, k, op.rows, op.width);
      read<W>(weights, w1, stride1, h, k, op.hidden, op.width);
      __syncthreads();
      multiply(x, weights, sums);
    }
    __syncthreads();
    for (int i = 0; i < kMyRows; ++i) {
      for (int j = 0; j < kMyColumns; ++j) {
        const int unit = across + kAcross * j, row = down + kDown * i;
        hidden[unit / kDepth][row][unit % kDepth] =
            hidden_unit<W>(op, sums[i][j], first + row, h + unit);
      }
    }
    for (int64_t c = 0; c < op.width; c += kHidden) {
      Sums outs = {};
      for (int part = 0; part < kHidden / kDepth; ++part) {
        __syncthreads();
        read<W>(weights, w2, stride2, c, h + part * kDepth, op.width, op.hidden);
        __syncthreads();
        multiply(hidden[part], weights, outs);
      }
      for (int i = 0; i < kMyRows; ++i) {
        for (int j = 0; j < kMyColumns; ++j) {
          const int64_t row = first + down + kDown * i, column = c + across + kAcross * j;
          if (row >= op.rows || column >= op.width) continue;
          float& out = op.out[row * op.width + column];
          out = outs[i][j] * scale + (h == 0 ? op.b2[column] : out);
        }
      }
    }
  }
}

}  // namespace

void feed_forward(const FeedForward& op, int device, void* stream) {
  check("feed_forward", cudaSetDevice(device));
  if (op.rows == 0) return;  // a grid of no blocks is an error
  const auto run = op.bf16 ? kernel<__nv_bfloat16> : kernel<float>;
  const unsigned blocks = static_cast<unsigned>((op.rows + kRows - 1) / kRows);
  run<<<blocks, kThreads, 0, static_cast<cudaStream_t>(stream)>>>(op);
  check("feed_forward", cudaGetLastError());
}

// sleeptools.ops.feed_forward takes PyTorch's matrix products for the gradients on a GPU.
void feed_forward_backward(const FeedForwardBackward&, int, void*) {
  throw Unavailable("feed_forward_backward: not written for CUDA");
}

}  // namespace sleeptools::cuda
