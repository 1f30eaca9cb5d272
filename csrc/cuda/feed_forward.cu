// Feed-forward block of a Transformer layer: a block of threads takes its rows through both layers,
// a part of the hidden layer after the other.
#include "feed_forward.cuh"

namespace sleeptools::cuda {
namespace {

// A unit of the hidden layer from its sum without the bias and its random word; zero for a unit
// that there is not.
__device__ float hidden_unit(const FeedForward& op, float sum, int64_t unit, uint32_t word) {
  return unit < op.hidden && word >= op.drop_below ? relu(sum + op.b1[unit]) : 0.0f;
}

// Keeps kColumns units in shared memory at a time. The sums of the second layer stay in `out`,
// where each number has one thread that adds to it.
__global__ void __launch_bounds__(kThreads) kernel(const FeedForward op) {
  __shared__ Left x, hidden[kColumns / kDepth];
  __shared__ Right weights;
  const float* w1 = static_cast<const float*>(op.w1);
  const float* w2 = static_cast<const float*>(op.w2);
  const int64_t first = static_cast<int64_t>(blockIdx.x) * kRows;
  const float scale = dropout_scale(op.drop_below);
  const int across = threadIdx.x % kAcross, down = threadIdx.x / kAcross;

  for (int64_t h = 0; h < op.hidden || h == 0; h += kColumns) {
    Sums sums = {};
    product(op.x, w1, first, h, op.rows, op.hidden, op.width, x, weights, sums);
    for (int i = 0; i < kMyRows; ++i) {
      for (int j = 0; j < kMyColumns; ++j) {
        const int place = across + kAcross * j, row = down + kDown * i;
        const int64_t unit = h + place;
        uint32_t word = 0;
        if (op.drop_below > 0) word = random_word(unit / 4, first + row, 0, unit % 4, op.seed);
        hidden[place / kDepth][row][place % kDepth] = hidden_unit(op, sums[i][j], unit, word);
      }
    }
    for (int64_t c = 0; c < op.width; c += kColumns) {
      Sums outs = {};
      for (int slice = 0; slice < kColumns / kDepth; ++slice) {
        __syncthreads();
        read(weights, w2, op.hidden, c, h + slice * kDepth, op.width, op.hidden);
        __syncthreads();
        multiply(hidden[slice], weights, outs);
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

namespace tensor {
namespace {

constexpr int kUnits = 128;   // of the hidden layer at a time
constexpr int kColumns = 96;  // of the output: the published network's

using Hidden = uint32_t[kUnits / 8][2];  // as Sums, the numbers in pairs

__device__ void activate(const FeedForward& op, int64_t first, int64_t unit,
                         const Sums<kUnits>& sums, Hidden& hidden) {
  const int lane = threadIdx.x % 32;
  first += threadIdx.x / 32 * kWarpRows + lane / 4;
  unit += lane % 4 * 2;
#pragma unroll
  for (int j = 0; j < kUnits / 8; ++j, unit += 8) {
    uint32_t words[2][2] = {};
    if (op.drop_below > 0) draw_pairs(unit, first, op.seed, words);
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      hidden[j][i] = rounded_pair(hidden_unit(op, sums[j][2 * i], unit, words[i][0]),
                                  hidden_unit(op, sums[j][2 * i + 1], unit + 1, words[i][1]));
    }
  }
}

// A block computes kColumns columns of the output. A warp's part of the hidden layer is in its
// registers, where its sums are just what the second product takes as its left operand. The slices
// of both layers' weights follow each other in two tiles.
__global__ void __launch_bounds__(kThreads) tensor_kernel(const FeedForward op) {
  __shared__ Tile<kRows> x[2];
  __shared__ Tile<kUnits> weights[2];
  const __nv_bfloat16* w1 = static_cast<const __nv_bfloat16*>(op.w1);
  const __nv_bfloat16* w2 = static_cast<const __nv_bfloat16*>(op.w2);
  const int64_t first = static_cast<int64_t>(blockIdx.x) * kRows;
  const int64_t column = static_cast<int64_t>(blockIdx.y) * kColumns;

  Piece piece;
  const auto begin_first = [&](int64_t unit, int64_t k, int place) {
    piece.fetch(op.x, first, k, op.rows, op.width);
    copy<kUnits>(weights[place], w1, stride(op.width), unit, k, op.hidden);
    cp_async_commit();
  };
  const auto begin_second = [&](int64_t unit, int place) {
    copy<kColumns>(weights[place], w2, stride(op.hidden), column, unit, op.width);
    cp_async_commit();
  };

  Sums<kColumns> outs = {};
  int place = 0;
  if (op.hidden > 0) {
    begin_first(0, 0, place);
    piece.store(x[place]);
  }
  for (int64_t h = 0; h < op.hidden; h += kUnits) {
    Sums<kUnits> sums = {};
    for (int64_t k = 0; k < op.width; k += kDepth, place = !place) {
      arrive();
      const bool more = k + kDepth < op.width;
      more ? begin_first(h, k + kDepth, !place) : begin_second(h, !place);
      multiply<kUnits>(x[place], weights[place], sums);
      if (more) piece.store(x[!place]);
    }
    Hidden hidden;
    activate(op, first, h, sums, hidden);
#pragma unroll
    for (int slice = 0; slice < kUnits / kDepth; ++slice, place = !place) {
      arrive();
      const bool last = slice == kUnits / kDepth - 1, more = h + kUnits < op.hidden;
      if (!last) begin_second(h + (slice + 1) * kDepth, !place);
      if (last && more) begin_first(h + kUnits, 0, !place);
#pragma unroll
      for (int step = 0; step < kDepth / kStep; ++step) {
        const int chunk = step * kStep / kChunk, j = slice * kChunks + chunk;
        const uint32_t left[] = {hidden[j][0], hidden[j][1], hidden[j + 1][0], hidden[j + 1][1]};
        multiply<kColumns>(left, weights[place], chunk, outs);
      }
      if (last && more) piece.store(x[!place]);
    }
  }

  const float scale = dropout_scale(op.drop_below);
  for_each<kColumns>(outs, [&](int row, int own, float sum) {
    const int64_t r = first + row, c = column + own;
    if (r < op.rows && c < op.width) op.out[r * op.width + c] = sum * scale + op.b2[c];
  });
}

}  // namespace
}  // namespace tensor

void feed_forward(const FeedForward& op, int device, void* stream) {
  check("feed_forward", cudaSetDevice(device));
  if (op.norm.gamma) throw Unavailable("feed_forward: the norm is not written for CUDA");
  if (op.rows == 0) return;  // a grid of no blocks is an error
  const auto queue = static_cast<cudaStream_t>(stream);
  const auto blocks = [](int64_t count, int64_t each) {
    return static_cast<unsigned>((count + each - 1) / each);
  };
  if (op.bf16) {
    const dim3 grid(blocks(op.rows, tensor::kRows), blocks(op.width, tensor::kColumns));
    tensor::tensor_kernel<<<grid, tensor::kThreads, 0, queue>>>(op);
  } else {
    kernel<<<blocks(op.rows, kRows), kThreads, 0, queue>>>(op);
  }
  check("feed_forward", cudaGetLastError());
}

}  // namespace sleeptools::cuda
