// Modal-wise squeeze-and-excitation block: one block of threads per epoch. The convolved features
// F' are computed twice, once for their mean and once to scale them: 4 M^2 flops cost less than
// writing them to memory and reading them back.
#include "launch.cuh"

namespace sleeptools::cuda {
namespace {

constexpr int kThreads = 256;
constexpr int kWarps = kThreads / 32;

// The weights of one block in shared memory; w2 is transposed, its weights of a hidden number side
// by side.
template <int M>
struct Weights {
  float w1[M * M], b1[M], w2[M * M], b2[M];
};

// Keeps NaN as PyTorch does; fmaxf would drop it.
__device__ float relu(float v) { return 0.0f > v ? 0.0f : v; }

// The hidden numbers are used up one by one. Where they are many, the loop stays one: unrolled, it
// would keep all weights in registers that there are not.
template <int M>
__device__ void convolve(const Weights<M>& w, const float* x, int64_t samples, float (&in)[M],
                         float (&features)[M]) {
  constexpr int kUnrolled = M > 8 ? 1 : M;
#pragma unroll
  for (int m = 0; m < M; ++m) {
    in[m] = x[m * samples];
    features[m] = w.b2[m];
  }
#pragma unroll kUnrolled
  for (int i = 0; i < M; ++i) {
    float hidden = w.b1[i];
#pragma unroll
    for (int j = 0; j < M; ++j) hidden = fmaf(w.w1[i * M + j], in[j], hidden);
    hidden = relu(hidden);
#pragma unroll
    for (int m = 0; m < M; ++m) features[m] = fmaf(w.w2[i * M + m], hidden, features[m]);
  }
}

// Sums each `total` over the block; the result is valid in `sums` for every thread.
template <int M>
__device__ void block_sum(const float (&total)[M], float (&partial)[kWarps][M], float (&sums)[M]) {
#pragma unroll
  for (int m = 0; m < M; ++m) {
    const float value = warp_sum(total[m]);
    if (threadIdx.x % 32 == 0) partial[threadIdx.x / 32][m] = value;
  }
  __syncthreads();
  if (threadIdx.x < M) {
    float value = 0.0f;
    for (int warp = 0; warp < kWarps; ++warp) value += partial[warp][threadIdx.x];
    sums[threadIdx.x] = value;
  }
  __syncthreads();
}

// The gate e of one epoch from the sums of its features; thread m computes e[m].
template <int M>
__device__ void gate(const ModalSe& op, const float (&sums)[M], float (&e)[M]) {
  if (threadIdx.x < M) {
    float logit = op.excite_bias[threadIdx.x];
    for (int i = 0; i < M; ++i) {
      float hidden = op.squeeze_bias[i];
      for (int j = 0; j < M; ++j) hidden += op.squeeze[i * M + j] * sums[j] / op.samples;
      logit += op.excite[threadIdx.x * M + i] * relu(hidden);
    }
    e[threadIdx.x] = 1.0f / (1.0f + expf(-logit));
  }
  __syncthreads();
}

template <int M>
__global__ void __launch_bounds__(kThreads) kernel(const ModalSe op) {
  __shared__ Weights<M> w;
  __shared__ float partial[kWarps][M], sums[M], e[M];
  for (int i = threadIdx.x; i < M * M; i += kThreads) {
    w.w1[i] = op.w1[i];
    w.w2[i % M * M + i / M] = op.w2[i];
  }
  if (threadIdx.x < M) {
    w.b1[threadIdx.x] = op.b1[threadIdx.x];
    w.b2[threadIdx.x] = op.b2[threadIdx.x];
  }
  __syncthreads();

  const int64_t start = blockIdx.x * M * op.samples;
  const float* x = op.x + start;
  float* out = op.out + start;
  float in[M], features[M], total[M] = {};
  for (int64_t t = threadIdx.x; t < op.samples; t += kThreads) {
    convolve<M>(w, x + t, op.samples, in, features);
#pragma unroll
    for (int m = 0; m < M; ++m) total[m] += features[m];
  }
  block_sum<M>(total, partial, sums);
  gate<M>(op, sums, e);
  for (int64_t t = threadIdx.x; t < op.samples; t += kThreads) {
    convolve<M>(w, x + t, op.samples, in, features);
#pragma unroll
    for (int m = 0; m < M; ++m) {
      out[m * op.samples + t] =
          op.authors ? relu(in[m] + features[m] * e[m]) : in[m] + in[m] * e[m];
    }
  }
}

constexpr void (*kKernel[])(const ModalSe) = {
    kernel<1>, kernel<2>,  kernel<3>,  kernel<4>,  kernel<5>,  kernel<6>,  kernel<7>,  kernel<8>,
    kernel<9>, kernel<10>, kernel<11>, kernel<12>, kernel<13>, kernel<14>, kernel<15>, kernel<16>,
};
static_assert(sizeof kKernel / sizeof *kKernel == ModalSe::kMaxModalities);

}  // namespace

void modal_se(const ModalSe& op, int device, void* stream) {
  check("modal_se", cudaSetDevice(device));
  if (op.batch == 0) return;  // a grid of no blocks is an error
  kKernel[op.modalities -
          1]<<<static_cast<unsigned>(op.batch), kThreads, 0, static_cast<cudaStream_t>(stream)>>>(
      op);
  check("modal_se", cudaGetLastError());
}

}  // namespace sleeptools::cuda
