// A product of row-major matrices, x w^T, in float32 by a block of kThreads threads: a tile of
// kRows rows of x by kColumns rows of w, both brought to shared memory kDepth at a time.
#pragma once

#include "launch.cuh"

namespace sleeptools::cuda {

constexpr int kRows = 32, kColumns = 64;  // a tile of the product: rows by weights' rows
constexpr int kDepth = 32;                // of both operands in shared memory
constexpr int kAcross = 16, kDown = 16;   // threads
constexpr int kThreads = kAcross * kDown;
constexpr int kMyRows = kRows / kDown, kMyColumns = kColumns / kAcross;

using Left = float[kRows][kDepth + 1];  // the odd length keeps threads on different banks
using Right = float[kColumns][kDepth + 1];
using Sums = float[kMyRows][kMyColumns];

// Keeps NaN as PyTorch does; fmaxf would drop it.
__device__ inline float relu(float v) { return 0.0f > v ? 0.0f : v; }

// A tile of a row-major matrix from (row, column) on, zeros outside.
template <int kTileRows>
__device__ void read(float (&tile)[kTileRows][kDepth + 1], const float* matrix, int64_t stride,
                     int64_t row, int64_t column, int64_t rows, int64_t columns) {
  for (int i = threadIdx.x; i < kTileRows * kDepth; i += kThreads) {
    const int64_t r = row + i / kDepth, c = column + i % kDepth;
    const bool inside = r < rows && c < columns;
    tile[i / kDepth][i % kDepth] = inside ? matrix[r * stride + c] : 0.0f;
  }
}

// Thread (across, down) has rows down + kDown i and columns across + kAcross j.
__device__ inline void multiply(const Left& left, const Right& right, Sums& sums) {
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

// Rows from `first` on of x times rows from `column` on of w, both `depth` long. Who reads tiles
// again has a barrier before.
__device__ inline void product(const float* x, const float* w, int64_t first, int64_t column,
                               int64_t rows, int64_t columns, int64_t depth, Left& left,
                               Right& right, Sums& sums) {
  for (int64_t k = 0; k < depth; k += kDepth) {
    __syncthreads();
    read(left, x, depth, first, k, rows, depth);
    read(right, w, depth, column, k, columns, depth);
    __syncthreads();
    multiply(left, right, sums);
  }
}

}  // namespace sleeptools::cuda
