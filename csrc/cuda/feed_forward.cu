// Feed-forward block of a Transformer layer: a block of threads takes kRows rows through both
// layers and keeps kColumns units of the hidden layer in shared memory at a time. The sums of the
// second layer stay in `out`, where each number has one thread that adds to it.
#include "philox.cuh"
#include "product.cuh"

namespace sleeptools::cuda {
namespace {

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
  __shared__ Left x, hidden[kColumns / kDepth];
  __shared__ Right weights;
  const W* w1 = static_cast<const W*>(op.w1);
  const W* w2 = static_cast<const W*>(op.w2);
  const int64_t even = op.bf16 ? 2 : 1;
  const int64_t stride1 = (op.width + even - 1) / even * even;
  const int64_t stride2 = (op.hidden + even - 1) / even * even;
  const int64_t first = static_cast<int64_t>(blockIdx.x) * kRows;
  const float scale = static_cast<float>(4294967296.0 / (4294967296.0 - op.drop_below));
  const int across = threadIdx.x % kAcross, down = threadIdx.x / kAcross;

  for (int64_t h = 0; h < op.hidden || h == 0; h += kColumns) {
    Sums sums = {};
    product<W>(op.x, w1, stride1, first, h, op.rows, op.hidden, op.width, x, weights, sums);
    for (int i = 0; i < kMyRows; ++i) {
      for (int j = 0; j < kMyColumns; ++j) {
        const int unit = across + kAcross * j, row = down + kDown * i;
        hidden[unit / kDepth][row][unit % kDepth] =
            hidden_unit<W>(op, sums[i][j], first + row, h + unit);
      }
    }
    for (int64_t c = 0; c < op.width; c += kColumns) {
      Sums outs = {};
      for (int slice = 0; slice < kColumns / kDepth; ++slice) {
        __syncthreads();
        read<W>(weights, w2, stride2, c, h + slice * kDepth, op.width, op.hidden);
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

void feed_forward(const FeedForward& op, int device, void* stream) {
  check("feed_forward", cudaSetDevice(device));
  if (op.norm.gamma) throw Unavailable("feed_forward: the norm is not written for CUDA");
  if (op.rows == 0) return;  // a grid of no blocks is an error
  const auto run = op.bf16 ? kernel<__nv_bfloat16> : kernel<float>;
  const unsigned blocks = static_cast<unsigned>((op.rows + kRows - 1) / kRows);
  run<<<blocks, kThreads, 0, static_cast<cudaStream_t>(stream)>>>(op);
  check("feed_forward", cudaGetLastError());
}

// sleeptools.models.ops.feed_forward takes PyTorch's matrix products for the gradients on a GPU.
void feed_forward_backward(const FeedForwardBackward&, int, void*) {
  throw Unavailable("feed_forward_backward: not written for CUDA");
}

}  // namespace sleeptools::cuda
