// A product of row-major matrices, x w^T, in bfloat16 with float32 sums on Tensor Cores, by a block
// of kThreads threads: each warp has kWarpRows rows of x and all the block's rows of w. Both are
// brought to shared memory kDepth at a time; while one slice is multiplied, the next is on its way.
#pragma once

#include <cuda_bf16.h>

#include <cstring>

#include "launch.cuh"
#include "ptx.cuh"

namespace sleeptools::cuda::tensor {

constexpr int kWarps = 4, kThreads = 32 * kWarps;
constexpr int kWarpRows = 16, kRows = kWarpRows * kWarps;
constexpr int kChunk = 8;   // numbers that are copied together; a row of w fills whole ones
constexpr int kDepth = 32;  // of a slice
constexpr int kChunks = kDepth / kChunk;
constexpr int kStep = 16;  // depth of an instruction

// From row to row of a matrix of the core in bfloat16: whole chunks.
__host__ __device__ inline int64_t stride(int64_t columns) {
  return (columns + kChunk - 1) / kChunk * kChunk;
}

struct alignas(16) Chunk {
  uint32_t words[kChunk / 2];  // two numbers each
};

// A slice of a matrix. Where a chunk lies depends on its row, so that neither eight rows' chunks of
// the same depth nor the chunks of two neighbouring rows share a bank.
template <int kTileRows>
struct Tile {
  Chunk chunks[kTileRows][kChunks];

  __device__ Chunk& at(int row, int chunk) { return chunks[row][chunk ^ row / 2 % kChunks]; }
};

// Rows lane / 4 and lane / 4 + 8 of the warp's, of each eight columns 2 (lane % 4) and the next
// one.
template <int kColumns>
using Sums = float[kColumns / 8][4];

__device__ inline uint32_t rounded_pair(float low, float high) {
  const __nv_bfloat162 pair = __floats2bfloat162_rn(low, high);
  uint32_t word;
  memcpy(&word, &pair, sizeof word);
  return word;
}

// sums += left (kWarpRows, kStep) times the first kColumns rows of `right` from chunk `chunk` on.
template <int kColumns, int kTileRows>
__device__ void multiply(const uint32_t (&left)[4], Tile<kTileRows>& right, int chunk,
                         Sums<kColumns>& sums) {
  static_assert(kColumns <= kTileRows);
  static_assert(kColumns % 16 == 0);
  const int lane = threadIdx.x % 32;
#pragma unroll
  for (int j = 0; j < kColumns / 16; ++j) {
    uint32_t both[4];  // eight columns, then the next eight
    ldmatrix_x4(both, &right.at(16 * j + lane / 16 * 8 + lane % 8, chunk + lane / 8 % 2));
    const uint32_t first[] = {both[0], both[1]}, second[] = {both[2], both[3]};
    mma_m16n8k16(sums[2 * j], left, first);
    mma_m16n8k16(sums[2 * j + 1], left, second);
  }
}

// A slice of both operands.
template <int kColumns, int kTileRows>
__device__ void multiply(Tile<kRows>& left, Tile<kTileRows>& right, Sums<kColumns>& sums) {
  const int lane = threadIdx.x % 32, first = threadIdx.x / 32 * kWarpRows;
#pragma unroll
  for (int step = 0; step < kDepth / kStep; ++step) {
    const int chunk = step * kStep / kChunk;
    uint32_t own[4];
    ldmatrix_x4(own, &left.at(first + lane % 16, chunk + lane / 16));
    multiply<kColumns>(own, right, chunk, sums);
  }
}

// sums += left (kWarpRows, kStep) times the rows of a matrix from `row` on, kStep of them: what is
// summed over lies down its columns, of which each of `right` has kDepth.
template <int kColumns, int kTileRows>
__device__ void multiply_turned(const uint32_t (&left)[4],
                                Tile<kTileRows> (&right)[kColumns / kDepth], int row,
                                Sums<kColumns>& sums) {
  const int lane = threadIdx.x % 32;
#pragma unroll
  for (int j = 0; j < kColumns / 16; ++j) {
    uint32_t both[4];  // eight columns, then the next eight
    const int chunk = 16 * j % kDepth / kChunk;
    ldmatrix_x4_trans(both, &right[16 * j / kDepth].at(row + lane % 16, chunk + lane / 16));
    const uint32_t first[] = {both[0], both[1]}, second[] = {both[2], both[3]};
    mma_m16n8k16(sums[2 * j], left, first);
    mma_m16n8k16(sums[2 * j + 1], left, second);
  }
}

// Begins to copy rows of w from (row, column) on, zeros outside; `stride` is a multiple of kChunk.
template <int kCopied, int kTileRows>
__device__ void copy(Tile<kTileRows>& tile, const __nv_bfloat16* w, int64_t stride, int64_t row,
                     int64_t column, int64_t rows) {
  const int chunk = threadIdx.x % kChunks;
  const __nv_bfloat16* from = w + row * stride + column + chunk * kChunk;
  const bool inside = column + chunk * kChunk < stride;
#pragma unroll
  for (int r = threadIdx.x / kChunks; r < kCopied; r += kThreads / kChunks) {
    const bool there = inside && row + r < rows;
    cp_async(&tile.at(r, chunk), from + r * stride, there ? sizeof(Chunk) : 0);
  }
}

// What a thread brings of a slice of x: every second row of its warp, two numbers of each.
struct Piece {
  static constexpr int kRowsApart = kThreads / (kDepth / 2);
  float values[kRows / kRowsApart][2];

  // From (row, column) on, zeros outside; x has `columns` of them.
  __device__ void fetch(const float* x, int64_t row, int64_t column, int64_t rows,
                        int64_t columns) {
    const int64_t first = row + threadIdx.x / (kDepth / 2);
    column += threadIdx.x % (kDepth / 2) * 2;
    const float* from = x + first * columns + column;
#pragma unroll
    for (int i = 0; i < kRows / kRowsApart; ++i, from += kRowsApart * columns) {
      const bool there = first + i * kRowsApart < rows;
      values[i][0] = there && column < columns ? from[0] : 0.0f;
      values[i][1] = there && column + 1 < columns ? from[1] : 0.0f;
    }
  }

  __device__ void store(Tile<kRows>& tile) const {
    const int row = threadIdx.x / (kDepth / 2), word = threadIdx.x % (kDepth / 2);
#pragma unroll
    for (int i = 0; i < kRows / kRowsApart; ++i) {
      tile.at(row + i * kRowsApart, word / (kChunk / 2)).words[word % (kChunk / 2)] =
          rounded_pair(values[i][0], values[i][1]);
    }
  }
};

// The thread's copies are there, and after the barrier those of all; what was multiplied before it
// may be overwritten.
__device__ inline void arrive() {
  cp_async_wait<0>();
  __syncthreads();
}

// sums += the product of `depth`, a slice after the other: begin(k, place) begins to bring that
// from k on to left[place] and right[place], end(place) stores there what is in registers yet.
template <int kColumns, class Begin, class End>
__device__ void product(int64_t depth, Begin begin, End end, Tile<kRows> (&left)[2],
                        Tile<kColumns> (&right)[2], Sums<kColumns>& sums) {
  int place = 0;
  begin(0, place);
  end(place);
  for (int64_t k = 0; k < depth; k += kDepth, place = !place) {
    arrive();
    const bool more = k + kDepth < depth;
    if (more) begin(k + kDepth, !place);
    multiply<kColumns>(left[place], right[place], sums);
    if (more) end(!place);
  }
}

// Gives (row of the block, column of the sums, sum) of each of the thread's sums.
template <int kColumns, class Take>
__device__ void for_each(const Sums<kColumns>& sums, Take take) {
  const int lane = threadIdx.x % 32, row = threadIdx.x / 32 * kWarpRows + lane / 4;
#pragma unroll
  for (int j = 0; j < kColumns / 8; ++j) {
#pragma unroll
    for (int i = 0; i < 4; ++i) take(row + i / 2 * 8, 8 * j + lane % 4 * 2 + i % 2, sums[j][i]);
  }
}

}  // namespace sleeptools::cuda::tensor
