// Two dense layers over an epoch's features: a block of threads per epoch, a warp per hidden unit.
#include "launch.cuh"

namespace sleeptools::cuda {
namespace {

constexpr int kThreads = 256;
constexpr int kWarps = kThreads / 32;

__global__ void __launch_bounds__(kThreads) kernel(const Classifier op) {
  const int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
  const float* x = op.x + blockIdx.x * op.inputs;
  const float* gate = op.gate ? op.gate + blockIdx.x * op.inputs : nullptr;
  float* hidden = op.hidden_layer + blockIdx.x * op.hidden;
  for (int64_t h = warp; h < op.hidden; h += kWarps) {
    float sum = 0.0f;
    for (int64_t j = lane; j < op.inputs; j += 32) {
      sum = fmaf(gate ? x[j] * gate[j] : x[j], op.w1[h * op.inputs + j], sum);
    }
    sum = warp_sum(sum) + op.b1[h];
    // a NaN stays one; fmaxf would drop it
    if (lane == 0) hidden[h] = op.rectify && 0.0f > sum ? 0.0f : sum;
  }
  __syncthreads();
  for (int64_t s = threadIdx.x; s < op.stages; s += kThreads) {
    float sum = op.b2[s];
    for (int64_t h = 0; h < op.hidden; ++h) sum = fmaf(op.w2[s * op.hidden + h], hidden[h], sum);
    op.out[blockIdx.x * op.stages + s] = sum;
  }
}

}  // namespace

void classifier(const Classifier& op, int device, void* stream) {
  check("classifier", cudaSetDevice(device));
  if (op.batch == 0) return;  // a grid of no blocks is an error
  kernel<<<static_cast<unsigned>(op.batch), kThreads, 0, static_cast<cudaStream_t>(stream)>>>(op);
  check("classifier", cudaGetLastError());
}

}  // namespace sleeptools::cuda
