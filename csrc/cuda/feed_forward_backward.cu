// Gradients of the feed-forward block on Tensor Cores, from its input alone: the hidden layer is
// made again, in registers. One kernel makes the gradient of x, a block for some rows; one those of
// the weights, a block for some hidden units and a group of the rows; a third one adds the groups
// in their order, so nothing depends on the order of blocks.
#include "feed_forward.cuh"

namespace sleeptools::cuda {
namespace tensor {
namespace {

constexpr int kUnits = 64;  // of the hidden layer at a time, and of a block
static_assert(kUnits == FeedForwardBackward::kMarked && kUnits == kRows);

using Number = __nv_bfloat16;

struct Operands {
  const Number *x, *grad, *w1, *w1t, *w2t;
  int64_t stride, tall;  // from row to row: of w1t the second, of the others the first

  __device__ explicit Operands(const FeedForwardBackward& op)
      : x(reinterpret_cast<const Number*>(op.x)),
        grad(reinterpret_cast<const Number*>(op.grad)),
        w1(static_cast<const Number*>(op.w1)),
        w1t(static_cast<const Number*>(op.w1t)),
        w2t(static_cast<const Number*>(op.w2t)),
        stride(tensor::stride(op.width)),
        tall(tensor::stride(op.hidden)) {}
};

// Which units of a row are dropped, before all else in the workspace: 16 of each kUnits units are
// a lane's of a row, and a word.
struct Marks {
  uint16_t* words;
  int64_t parts;  // of the hidden layer

  __device__ explicit Marks(const FeedForwardBackward& op)
      : words(reinterpret_cast<uint16_t*>(op.workspace)),
        parts((op.hidden + kUnits - 1) / kUnits) {}

  // Of kUnits units from `unit` on.
  __device__ uint16_t* at(int64_t row, int64_t unit) const {
    return words + (row * parts + unit / kUnits) * 4;
  }
};

// A group's gradients of both matrices, the second one turned, and of the first bias: (hidden,
// width) twice, (hidden). They are not scaled.
struct GroupSums {
  float *d_w1, *d_w2t, *d_b1;

  __device__ GroupSums(const FeedForwardBackward& op, int64_t group) {
    const int64_t size = op.hidden * op.width;
    const Marks marks(op);
    d_w1 = op.workspace + op.rows * marks.parts * 2 + group * (2 * size + op.hidden);
    d_w2t = d_w1 + size;
    d_b1 = d_w2t + size;
  }
};

// The gradients of a warp's rows at kUnits units from `unit` on, in pairs: `d` where the unit is
// there, above zero and not dropped. Marks what is.
__device__ void gate(const FeedForwardBackward& op, int64_t row, int64_t unit,
                     const Sums<kUnits>& sums, const Sums<kUnits>& d,
                     uint32_t (&d_hidden)[kUnits / 8][2]) {
  const int own = threadIdx.x % 4 * 2;
  uint32_t marked[2] = {};
#pragma unroll
  for (int j = 0; j < kUnits / 8; ++j) {
    const int64_t first = unit + 8 * j + own;
    uint32_t words[2][2] = {};
    if (op.drop_below > 0) draw_pairs(first, row, op.seed, words);
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      float gradient[2];
#pragma unroll
      for (int k = 0; k < 2; ++k) {
        const bool dropped = words[i][k] < op.drop_below;
        marked[i] |= static_cast<uint32_t>(dropped) << (2 * j + k);
        const float bias = first + k < op.hidden ? op.b1[first + k] : 0.0f;
        gradient[k] = !dropped && sums[j][2 * i + k] + bias > 0.0f ? d[j][2 * i + k] : 0.0f;
      }
      d_hidden[j][i] = rounded_pair(gradient[0], gradient[1]);
    }
  }
  if (op.drop_below == 0) return;
#pragma unroll
  for (int i = 0; i < 2; ++i) {
    if (row + 8 * i < op.rows) {
      Marks(op).at(row + 8 * i, unit)[own / 2] = static_cast<uint16_t>(marked[i]);
    }
  }
}

// The gradient of x, of up to kColumns columns. The slices of the three matrices follow each other
// in two tiles.
template <int kColumns>
__global__ void __launch_bounds__(kThreads) inputs_kernel(const FeedForwardBackward op) {
  constexpr int kSlices = kColumns / kDepth, kLast = kUnits / kDepth;
  __shared__ Tile<kRows> x[kSlices], grad[kSlices];
  __shared__ Tile<kColumns> weights[2];
  const Operands from(op);
  const int64_t first = static_cast<int64_t>(blockIdx.x) * kRows;
  const int64_t row = first + threadIdx.x / 32 * kWarpRows + threadIdx.x % 32 / 4;

  // Steps of a part of the hidden layer: slices of the first matrix, of the second, and of the
  // first one turned.
  const auto begin = [&](int64_t unit, int step, int place) {
    if (step < 2 * kSlices) {
      const bool second = step >= kSlices;
      copy<kUnits>(weights[place], second ? from.w2t : from.w1, from.stride, unit,
                   (second ? step - kSlices : step) * kDepth, op.hidden);
    } else {
      copy<kColumns>(weights[place], from.w1t, from.tall, 0, unit + (step - 2 * kSlices) * kDepth,
                     op.width);
    }
    cp_async_commit();
  };

  Sums<kColumns> outs = {};
  if (op.hidden > 0) {
#pragma unroll
    for (int slice = 0; slice < kSlices; ++slice) {
      copy<kRows>(x[slice], from.x, from.stride, first, slice * kDepth, op.rows);
      copy<kRows>(grad[slice], from.grad, from.stride, first, slice * kDepth, op.rows);
    }
    begin(0, 0, 0);
  }
  for (int64_t unit = 0; unit < op.hidden; unit += kUnits) {
    Sums<kUnits> sums = {}, d = {};
#pragma unroll
    for (int step = 0; step < kSlices; ++step) {
      arrive();
      begin(unit, step + 1, (step + 1) % 2);
      multiply<kUnits>(x[step], weights[step % 2], sums);
    }
#pragma unroll
    for (int step = kSlices; step < 2 * kSlices; ++step) {
      arrive();
      begin(unit, step + 1, (step + 1) % 2);
      multiply<kUnits>(grad[step - kSlices], weights[step % 2], d);
    }
    uint32_t d_hidden[kUnits / 8][2];
    gate(op, row, unit, sums, d, d_hidden);
#pragma unroll
    for (int slice = 0; slice < kLast; ++slice) {
      arrive();
      const bool last = slice == kLast - 1, more = unit + kUnits < op.hidden;
      if (!last) begin(unit, 2 * kSlices + slice + 1, (slice + 1) % 2);
      if (last && more) begin(unit + kUnits, 0, 0);
#pragma unroll
      for (int step = 0; step < kDepth / kStep; ++step) {
        const int chunk = step * kStep / kChunk, j = slice * kChunks + chunk;
        const uint32_t left[] = {d_hidden[j][0], d_hidden[j][1], d_hidden[j + 1][0],
                                 d_hidden[j + 1][1]};
        multiply<kColumns>(left, weights[slice % 2], chunk, outs);
      }
    }
  }

  const float scale = dropout_scale(op.drop_below);
  for_each<kColumns>(outs, [&](int own, int column, float sum) {
    const int64_t r = first + own;
    if (r < op.rows && column < op.width) op.d_x[r * op.width + column] = sum * scale;
  });
}

// The gradients of the weights of kUnits units, from a group's rows, kAtOnce of them at a time: the
// units lie down the first products, whose sums are what the others take as their left operand.
template <int kColumns, int kAtOnce>
__global__ void __launch_bounds__(kThreads) weights_kernel(const FeedForwardBackward op) {
  constexpr int kSlices = kColumns / kDepth;
  __shared__ Tile<kRows> w1[kSlices], w2t[kSlices];
  __shared__ Tile<kAtOnce> x[2][kSlices], grad[2][kSlices];
  const Operands from(op);
  const int64_t first = static_cast<int64_t>(blockIdx.x) * kUnits;
  const int64_t parts = (op.rows + kAtOnce - 1) / kAtOnce;
  const int64_t start = parts * blockIdx.y / gridDim.y * kAtOnce;
  const int64_t end = parts * (blockIdx.y + 1) / gridDim.y * kAtOnce;
  const Marks marks(op);
  const int lane = threadIdx.x % 32, in_warp = threadIdx.x / 32 * kWarpRows + lane / 4;

  const auto begin = [&](int64_t row, int place) {
#pragma unroll
    for (int slice = 0; slice < kSlices; ++slice) {
      copy<kAtOnce>(x[place][slice], from.x, from.stride, row, slice * kDepth, op.rows);
      copy<kAtOnce>(grad[place][slice], from.grad, from.stride, row, slice * kDepth, op.rows);
    }
    cp_async_commit();
  };

  float bias[2], d_bias[2] = {};
#pragma unroll
  for (int i = 0; i < 2; ++i) {
    const int64_t unit = first + in_warp + 8 * i;
    bias[i] = unit < op.hidden ? op.b1[unit] : 0.0f;
  }
  Sums<kColumns> d_w1 = {}, d_w2t = {};
  if (start < end) {
#pragma unroll
    for (int slice = 0; slice < kSlices; ++slice) {
      copy<kUnits>(w1[slice], from.w1, from.stride, first, slice * kDepth, op.hidden);
      copy<kUnits>(w2t[slice], from.w2t, from.stride, first, slice * kDepth, op.hidden);
    }
    begin(start, 0);
  }
  int place = 0;
  for (int64_t row = start; row < end; row += kAtOnce, place = !place) {
    arrive();
    if (row + kAtOnce < end) begin(row + kAtOnce, !place);
    Sums<kAtOnce> sums = {}, d = {};
#pragma unroll
    for (int slice = 0; slice < kSlices; ++slice) {
      multiply<kAtOnce>(w1[slice], x[place][slice], sums);
      multiply<kAtOnce>(w2t[slice], grad[place][slice], d);
    }
    uint32_t hidden[kAtOnce / 8][2], d_hidden[kAtOnce / 8][2];
#pragma unroll
    for (int j = 0; j < kAtOnce / 8; ++j) {
      const int64_t own = row + 8 * j + lane % 4 * 2;
      uint32_t marked[2];
#pragma unroll
      for (int k = 0; k < 2; ++k) {
        marked[k] = own + k < op.rows ? 0 : 0xffff;
        if (op.drop_below > 0 && own + k < op.rows) {
          marked[k] = marks.at(own + k, first)[lane / 4 / 2];
        }
      }
#pragma unroll
      for (int i = 0; i < 2; ++i) {
        const int place_of_unit = (in_warp + 8 * i) / 8 * 2 + lane / 4 % 2;
        float unit[2], gradient[2];
#pragma unroll
        for (int k = 0; k < 2; ++k) {
          const bool dropped = (marked[k] >> place_of_unit & 1) != 0;
          unit[k] = dropped ? 0.0f : relu(sums[j][2 * i + k] + bias[i]);
          gradient[k] = unit[k] > 0.0f ? d[j][2 * i + k] : 0.0f;
          d_bias[i] += gradient[k];
        }
        hidden[j][i] = rounded_pair(unit[0], unit[1]);
        d_hidden[j][i] = rounded_pair(gradient[0], gradient[1]);
      }
    }
#pragma unroll
    for (int j = 0; j < kAtOnce / 8; j += 2) {
      const uint32_t left[] = {d_hidden[j][0], d_hidden[j][1], d_hidden[j + 1][0],
                               d_hidden[j + 1][1]};
      multiply_turned<kColumns>(left, x[place], 8 * j, d_w1);
      const uint32_t above[] = {hidden[j][0], hidden[j][1], hidden[j + 1][0], hidden[j + 1][1]};
      multiply_turned<kColumns>(above, grad[place], 8 * j, d_w2t);
    }
  }

  const GroupSums out(op, blockIdx.y);
  const auto store = [&](float* matrix) {
    return [=](int own, int column, float sum) {
      const int64_t unit = first + own;
      if (unit < op.hidden && column < op.width) matrix[unit * op.width + column] = sum;
    };
  };
  for_each<kColumns>(d_w1, store(out.d_w1));
  for_each<kColumns>(d_w2t, store(out.d_w2t));
#pragma unroll
  for (int i = 0; i < 2; ++i) {
    float sum = d_bias[i] + __shfl_xor_sync(0xffffffffu, d_bias[i], 1);
    sum += __shfl_xor_sync(0xffffffffu, sum, 2);
    const int64_t unit = first + in_warp + 8 * i;
    if (lane % 4 == 0 && unit < op.hidden) out.d_b1[unit] = sum;
  }
}

constexpr int kJoinThreads = 256;

// Adds the groups of one number of the matrices, and its thread's of the bias, and scales them.
__global__ void __launch_bounds__(kJoinThreads) join(const FeedForwardBackward op, int64_t groups) {
  const int64_t i = static_cast<int64_t>(blockIdx.x) * kJoinThreads + threadIdx.x;
  if (i >= op.hidden * op.width) return;
  const int64_t unit = i / op.width, column = i % op.width;
  const float scale = dropout_scale(op.drop_below);
  float d_w1 = 0.0f, d_w2 = 0.0f, d_b1 = 0.0f;
  for (int64_t group = 0; group < groups; ++group) {
    const GroupSums sums(op, group);
    d_w1 += sums.d_w1[i];
    d_w2 += sums.d_w2t[i];
    if (column == 0) d_b1 += sums.d_b1[unit];
  }
  op.d_w1[i] = d_w1 * scale;
  op.d_w2[column * op.hidden + unit] = d_w2 * scale;
  if (column == 0) op.d_b1[unit] = d_b1 * scale;
}

template <int kColumns, int kAtOnce>
void run(const FeedForwardBackward& op, cudaStream_t queue) {
  const auto blocks = [](int64_t count, int64_t each) {
    return static_cast<unsigned>((count + each - 1) / each);
  };
  if (op.rows > 0) inputs_kernel<kColumns><<<blocks(op.rows, kRows), kThreads, 0, queue>>>(op);
  check("feed_forward_backward", cudaGetLastError());
  if (op.hidden == 0) return;  // a grid of no blocks is an error
  const int64_t groups = FeedForwardBackward::groups(op.rows);
  const dim3 grid(blocks(op.hidden, kUnits), static_cast<unsigned>(groups));
  weights_kernel<kColumns, kAtOnce><<<grid, kThreads, 0, queue>>>(op);
  check("feed_forward_backward", cudaGetLastError());
  join<<<blocks(op.hidden * op.width, kJoinThreads), kJoinThreads, 0, queue>>>(op, groups);
  check("feed_forward_backward", cudaGetLastError());
}

}  // namespace
}  // namespace tensor

// In float32 the products are cuBLAS's: sleeptools.models.ops.feed_forward asks PyTorch for them.
void feed_forward_backward(const FeedForwardBackward& op, int device, void* stream) {
  if (!op.bf16 || op.width > FeedForwardBackward::kWidest) {
    throw Unavailable("feed_forward_backward: CUDA has it in bf16, and for " +
                      std::to_string(FeedForwardBackward::kWidest) + " columns at most");
  }
  check("feed_forward_backward", cudaSetDevice(device));
  const auto queue = static_cast<cudaStream_t>(stream);
  // whose tiles fill the shared memory that a block has without asking
  op.width > 96 ? tensor::run<FeedForwardBackward::kWidest, 16>(op, queue)
                : tensor::run<96, 32>(op, queue);
}

}  // namespace sleeptools::cuda
