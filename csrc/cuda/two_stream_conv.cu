// Convolution streams, layer by layer in global memory: a kernel for the convolution with bias and
// activation, and one for the pool. Signals between layers are channels-last, (batch, time, map),
// so that neighbouring threads, which compute neighbouring maps, read and write side by side.
// Arithmetic is float32 whatever precision is asked for.
#include "launch.cuh"

namespace sleeptools::cuda {
namespace {

constexpr int kPanel = TwoStreamConv::kPanel;
constexpr int kRows = 8;  // steps of a block, a row of threads each
constexpr int kEach = 4;  // steps of a thread: each weight read serves as many products
constexpr int kPoolThreads = 256;

// Epochs lie along the x axis of a grid, the only one that is not limited to 65,535 blocks.

// A signal in memory: where element (epoch, time, channel) is.
struct Strides {
  int64_t epoch, time, channel;
};

struct Signal {
  const float* data;
  Strides strides;
  int64_t steps;
};

__device__ float activate(int64_t activation, float slope, float v) {
  switch (activation) {
    case TwoStreamConv::kRelu:
      return 0.0f > v ? 0.0f : v;  // keeps NaN
    case TwoStreamConv::kGelu:
      return 0.5f * v * (1.0f + erff(v * 0.70710678f));
    default:
      return v > 0.0f ? v : v * slope;
  }
}

// A thread computes one map at kEach steps; threadIdx.x is the map within its panel.
__global__ void __launch_bounds__(kPanel* kRows)
    convolve(Signal in, ConvLayer layer, const float* packed, int64_t activation, float slope,
             float* out) {
  const int64_t map = blockIdx.z * kPanel + threadIdx.x;
  const int64_t first = (static_cast<int64_t>(blockIdx.y) * kRows + threadIdx.y) * kEach;
  const int64_t depth = layer.kernel * layer.inputs;
  const float* w = packed + layer.weight + blockIdx.z * depth * kPanel + threadIdx.x;
  const float* x = in.data + blockIdx.x * in.strides.epoch;

  float sum[kEach] = {};
  for (int64_t tap = 0; tap < layer.kernel; ++tap) {
    for (int64_t channel = 0; channel < layer.inputs; ++channel, w += kPanel) {
#pragma unroll
      for (int i = 0; i < kEach; ++i) {
        const int64_t t = (first + i) * layer.stride - layer.pad + tap;
        if (t >= 0 && t < in.steps) {
          sum[i] = fmaf(x[t * in.strides.time + channel * in.strides.channel], *w, sum[i]);
        }
      }
    }
  }
  if (map >= layer.outputs) return;
  const float bias = packed[layer.bias + map];
  for (int i = 0; i < kEach && first + i < layer.rows; ++i) {
    out[(blockIdx.x * layer.rows + first + i) * layer.outputs + map] =
        activate(activation, slope, sum[i] + bias);
  }
}

// A thread computes one (time, map) of the pool over `in` (batch, rows, outputs).
__global__ void __launch_bounds__(kPoolThreads)
    pool(const float* in, ConvLayer layer, float* out, Strides strides) {
  const int64_t index = static_cast<int64_t>(blockIdx.y) * kPoolThreads + threadIdx.x;
  if (index >= layer.steps * layer.outputs) return;
  const int64_t t = index / layer.outputs, map = index % layer.outputs;
  const int64_t start = t * layer.pool_stride - layer.pool_pad;
  const int64_t stop = min(start + layer.pool_kernel, layer.rows);
  const float* rows = in + blockIdx.x * layer.rows * layer.outputs + map;
  float best = -INFINITY;
  for (int64_t r = max(start, int64_t{0}); r < stop; ++r) {
    const float value = rows[r * layer.outputs];
    if (value > best || value != value) best = value;  // a NaN stays: nothing is greater
  }
  out[blockIdx.x * strides.epoch + t * strides.time + map * strides.channel] = best;
}

unsigned blocks(int64_t count, int64_t per_block) {
  return static_cast<unsigned>((count + per_block - 1) / per_block);
}

void run_stream(const TwoStreamConv& op, const ConvStream& stream, cudaStream_t queue) {
  const unsigned batch = static_cast<unsigned>(op.batch);
  float* const rows = op.workspace;
  float* const pooled = op.workspace + op.batch * op.rows_size;
  float* const out = op.out + stream.map * op.steps + stream.step;
  Signal in = {
      op.x + stream.channel * op.samples, {op.channels * op.samples, 1, op.samples}, op.samples};
  for (int64_t i = 0; i < stream.layers; ++i) {
    const ConvLayer& layer = op.layers[stream.layer + i];
    const dim3 grid(batch, blocks(layer.rows, kRows * kEach), blocks(layer.outputs, kPanel));
    convolve<<<grid, dim3(kPanel, kRows), 0, queue>>>(in, layer, op.packed, op.activation, op.slope,
                                                      rows);
    check("two_stream_conv", cudaGetLastError());

    const bool last = i + 1 == stream.layers;
    const Strides inner = {layer.steps * layer.outputs, layer.outputs, 1};
    const Strides outer = {op.maps * op.steps, 1, op.steps};
    pool<<<dim3(batch, blocks(layer.steps * layer.outputs, kPoolThreads)), kPoolThreads, 0,
           queue>>>(rows, layer, last ? out : pooled, last ? outer : inner);
    check("two_stream_conv", cudaGetLastError());
    in = {pooled, inner, layer.steps};
  }
}

}  // namespace

void two_stream_conv(const TwoStreamConv& op, int device, void* stream) {
  check("two_stream_conv", cudaSetDevice(device));
  if (op.batch == 0) return;  // a grid of no blocks is an error
  for (int64_t i = 0; i < op.stream_count; ++i) {
    run_stream(op, op.streams[i], static_cast<cudaStream_t>(stream));
  }
}

}  // namespace sleeptools::cuda
