// Attention block of a Transformer layer in four launches: queries, keys and values; a warp per
// query and head, its scores in shared memory; the projection of the heads; residual and norm with
// a warp per token.
#include "philox.cuh"
#include "product.cuh"
#include "tensor_product.cuh"

namespace sleeptools::cuda {
namespace {

constexpr int kWarps = 4;  // of the launches with a warp per task

__device__ float warp_all_sum(float value) {
  for (int offset = 16; offset > 0; offset /= 2) {
    value += __shfl_xor_sync(0xffffffffu, value, offset);
  }
  return value;
}

// The larger one; NaN may be lost here, but not in the exponentials of the scores.
__device__ float warp_all_max(float value) {
  for (int offset = 16; offset > 0; offset /= 2) {
    value = fmaxf(value, __shfl_xor_sync(0xffffffffu, value, offset));
  }
  return value;
}

// out = x w^T + b for row-major x (rows, depth), w (columns, depth).
__global__ void __launch_bounds__(kThreads)
    affine(const float* x, const float* w, const float* b, float* out, int64_t rows,
           int64_t columns, int64_t depth) {
  __shared__ Left left;
  __shared__ Right right;
  const int64_t first = static_cast<int64_t>(blockIdx.x) * kRows;
  const int64_t column = static_cast<int64_t>(blockIdx.y) * kColumns;
  Sums sums = {};
  product(x, w, first, column, rows, columns, depth, left, right, sums);
  const int across = threadIdx.x % kAcross, down = threadIdx.x / kAcross;
  for (int i = 0; i < kMyRows; ++i) {
    for (int j = 0; j < kMyColumns; ++j) {
      const int64_t r = first + down + kDown * i, c = column + across + kAcross * j;
      if (r < rows && c < columns) out[r * columns + c] = sums[i][j] + b[c];
    }
  }
}

constexpr int kTensorColumns = 96;  // of a block: a third of the published network's

// The same in bfloat16; the rows of w lie `stride` apart.
__global__ void __launch_bounds__(tensor::kThreads)
    tensor_affine(const float* x, const __nv_bfloat16* w, const float* b, float* out, int64_t rows,
                  int64_t columns, int64_t depth, int64_t stride) {
  __shared__ tensor::Tile<tensor::kRows> left[2];
  __shared__ tensor::Tile<kTensorColumns> right[2];
  const int64_t first = static_cast<int64_t>(blockIdx.x) * tensor::kRows;
  const int64_t column = static_cast<int64_t>(blockIdx.y) * kTensorColumns;
  tensor::Sums<kTensorColumns> sums = {};
  tensor::Piece piece;
  const auto begin = [&](int64_t k, int place) {
    piece.fetch(x, first, k, rows, depth);
    tensor::copy<kTensorColumns>(right[place], w, stride, column, k, columns);
    cp_async_commit();
  };
  const auto end = [&](int place) { piece.store(left[place]); };
  tensor::product<kTensorColumns>(depth, begin, end, left, right, sums);
  tensor::for_each<kTensorColumns>(sums, [&](int row, int own, float sum) {
    const int64_t r = first + row, c = column + own;
    if (r < rows && c < columns) out[r * columns + c] = sum + b[c];
  });
}

// Head h of the query `row`: softmax(q k / sqrt(size)) v.
__global__ void __launch_bounds__(32 * kWarps)
    attend(const Attention op, const float* qkv, float* result) {
  extern __shared__ float shared[];
  const int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
  const int64_t task = static_cast<int64_t>(blockIdx.x) * kWarps + warp;
  if (task >= op.batch * op.tokens * op.heads) return;
  const int64_t row = task / op.heads, head = task % op.heads, size = op.width / op.heads;
  const float* q = qkv + row * 3 * op.width + head * size;
  const float* k = qkv + row / op.tokens * op.tokens * 3 * op.width + op.width + head * size;
  float* scores = shared + warp * op.tokens;

  float largest = -INFINITY;
  for (int64_t j = lane; j < op.tokens; j += 32) {
    float score = 0.0f;
    for (int64_t d = 0; d < size; ++d) score = fmaf(q[d], k[j * 3 * op.width + d], score);
    scores[j] = score * rsqrtf(static_cast<float>(size));
    largest = fmaxf(largest, scores[j]);
  }
  largest = warp_all_max(largest);
  float total = 0.0f;
  for (int64_t j = lane; j < op.tokens; j += 32) {
    scores[j] = expf(scores[j] - largest);
    total += scores[j];
  }
  total = warp_all_sum(total);
  if (op.drop_below > 0) {
    const int64_t query = row % op.tokens, place = row / op.tokens * op.heads + head;
    for (int64_t j = lane; j < op.tokens; j += 32) {
      scores[j] *= dropout_factor(j, query, place, op.drop_below, op.seed);
    }
  }
  __syncwarp();
  for (int64_t d = lane; d < size; d += 32) {
    float sum = 0.0f;
    for (int64_t j = 0; j < op.tokens; ++j) {
      sum = fmaf(scores[j], k[j * 3 * op.width + op.width + d], sum);
    }
    result[row * op.width + head * size + d] = sum / total;
  }
}

// out = norm(x + drop(out)), a warp per row.
__global__ void __launch_bounds__(32 * kWarps) add_normalise(const Attention op) {
  const int lane = threadIdx.x % 32;
  const int64_t row = static_cast<int64_t>(blockIdx.x) * kWarps + threadIdx.x / 32;
  if (row >= op.batch * op.tokens) return;
  const float* x = op.x + row * op.width;
  float* out = op.out + row * op.width;
  const int64_t token = row % op.tokens, epoch = row / op.tokens;
  float mean = 0.0f, variance = 0.0f;
  for (int64_t j = lane; j < op.width; j += 32) {
    float added = out[j];
    if (op.drop_below > 0) {
      added *= dropout_factor(j, token, epoch, op.drop_below, op.seed + 1);
    }
    out[j] = x[j] + added;
    mean += out[j];
  }
  mean = warp_all_sum(mean) / op.width;
  for (int64_t j = lane; j < op.width; j += 32) {
    const float away = out[j] - mean;
    variance = fmaf(away, away, variance);
  }
  const float scale = rsqrtf(warp_all_sum(variance) / op.width + op.norm.eps);
  for (int64_t j = lane; j < op.width; j += 32) {
    out[j] = (out[j] - mean) * scale * op.norm.gamma[j] + op.norm.beta[j];
  }
}

unsigned blocks(int64_t count, int64_t each) {
  return static_cast<unsigned>((count + each - 1) / each);
}

void project(bool bf16, const float* x, const void* w, const float* b, float* out, int64_t rows,
             int64_t columns, int64_t depth, cudaStream_t stream) {
  if (bf16) {
    const dim3 grid(blocks(rows, tensor::kRows), blocks(columns, kTensorColumns));
    tensor_affine<<<grid, tensor::kThreads, 0, stream>>>(x, static_cast<const __nv_bfloat16*>(w), b,
                                                         out, rows, columns, depth,
                                                         tensor::stride(depth));
  } else {
    const dim3 grid(blocks(rows, kRows), blocks(columns, kColumns));
    affine<<<grid, kThreads, 0, stream>>>(x, static_cast<const float*>(w), b, out, rows, columns,
                                          depth);
  }
}

void run(const Attention& op, cudaStream_t stream) {
  const int64_t rows = op.batch * op.tokens;
  float* const qkv = op.workspace;
  float* const result = qkv + rows * 3 * op.width;
  project(op.bf16, op.x, op.w_in, op.b_in, qkv, rows, 3 * op.width, op.width, stream);
  const size_t scores = kWarps * op.tokens * sizeof(float);
  attend<<<blocks(rows * op.heads, kWarps), 32 * kWarps, scores, stream>>>(op, qkv, result);
  project(op.bf16, result, op.w_out, op.b_out, op.out, rows, op.width, op.width, stream);
  add_normalise<<<blocks(rows, kWarps), 32 * kWarps, 0, stream>>>(op);
}

}  // namespace

void attention(const Attention& op, int device, void* stream) {
  check("attention", cudaSetDevice(device));
  if (op.batch * op.tokens == 0) return;  // a grid of no blocks is an error
  run(op, static_cast<cudaStream_t>(stream));
  check("attention", cudaGetLastError());
}

// On a GPU PyTorch computes the gradients.
void attention_backward(const AttentionBackward&, int, void*) {
  throw Unavailable("attention_backward: not written for CUDA");
}

}  // namespace sleeptools::cuda
