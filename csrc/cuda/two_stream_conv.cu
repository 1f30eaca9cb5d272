// Convolution streams, layer by layer in global memory: a kernel for the convolution with bias and
// activation, and one for the pool. Signals between layers are channels-last, (batch, time, map),
// so that neighbouring threads, which compute neighbouring maps, read and write side by side. In
// bfloat16 they are so between layers, and the convolutions are matrix products on Tensor Cores.
#include "activations.cuh"
#include "convolution.cuh"

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

// A thread computes one (time, map) of the pool over `in` (batch, rows, outputs). A grid is too
// small for sizes of an epoch that do not fit into 32 bits.
template <class In, class Out>
__global__ void __launch_bounds__(kPoolThreads)
    pool(const In* in, ConvLayer layer, Out* out, Strides strides) {
  const int index = blockIdx.y * kPoolThreads + threadIdx.x;
  if (index >= layer.steps * layer.outputs) return;
  const int outputs = static_cast<int>(layer.outputs), t = index / outputs, map = index % outputs;
  const int64_t start = t * layer.pool_stride - layer.pool_pad;
  const int64_t stop = min(start + layer.pool_kernel, layer.rows);
  const In* rows = in + blockIdx.x * layer.rows * layer.outputs + map;
  float best = -INFINITY;
  for (int64_t r = max(start, int64_t{0}); r < stop; ++r) {
    const float value = static_cast<float>(rows[r * layer.outputs]);
    if (value > best || value != value) best = value;  // a NaN stays: nothing is greater
  }
  out[blockIdx.x * strides.epoch + t * strides.time + map * strides.channel] =
      static_cast<Out>(best);
}

unsigned blocks(int64_t count, int64_t per_block) {
  return static_cast<unsigned>((count + per_block - 1) / per_block);
}

// Between layers, and in the output.
Strides inner(const ConvLayer& layer) { return {layer.steps * layer.outputs, layer.outputs, 1}; }
Strides outer(const TwoStreamConv& op) { return {op.maps * op.steps, 1, op.steps}; }

template <class In, class Out>
void run_pool(const TwoStreamConv& op, const In* in, const ConvLayer& layer, Out* out,
              Strides strides, cudaStream_t queue) {
  const dim3 grid(static_cast<unsigned>(op.batch),
                  blocks(layer.steps * layer.outputs, kPoolThreads));
  pool<In, Out><<<grid, kPoolThreads, 0, queue>>>(in, layer, out, strides);
  check("two_stream_conv", cudaGetLastError());
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
    run_pool(op, rows, layer, last ? out : pooled, last ? outer(op) : inner(layer), queue);
    in = {pooled, inner(layer), layer.steps};
  }
}

}  // namespace

namespace tensor {
namespace {

constexpr int kColumns = 64;  // maps of a block
constexpr int kInputThreads = 256;

// A stream's channels of an epoch to (time, channel).
__global__ void __launch_bounds__(kInputThreads)
    interleave(const float* x, int64_t epoch, int64_t samples, int64_t channels, Number* out) {
  const int64_t t = static_cast<int64_t>(blockIdx.y) * kInputThreads + threadIdx.x;
  if (t >= samples) return;
  x += blockIdx.x * epoch + t;
  out += (blockIdx.x * samples + t) * channels;
  for (int64_t c = 0; c < channels; ++c) out[c] = Number(x[c * samples]);
}

// The convolution of all epochs with bias and activation: signals are (batch, time, map).
template <bool kWhole, class Out>
__global__ void __launch_bounds__(kThreads)
    convolve_layer(const Windows windows, ConvLayer layer, const float* packed, int64_t activation,
                   float slope, Out* out) {
  const Number* w = reinterpret_cast<const Number*>(packed + layer.weight);
  const int64_t first = static_cast<int64_t>(blockIdx.x) * kRows;
  const int64_t column = static_cast<int64_t>(blockIdx.y) * kColumns;
  const int64_t rows = windows.batch * windows.rows;
  Sums<kColumns> sums = {};
  convolve<kWhole, kColumns>(windows, w, first, column, layer.outputs, sums);
  for_each<kColumns>(sums, [&](int row, int map, float sum) {
    const int64_t r = first + row, c = column + map;
    if (r >= rows || c >= layer.outputs) return;
    const float value = activate(activation, slope, sum + packed[layer.bias + c]);
    out[r * layer.outputs + c] = static_cast<Out>(value);
  });
}

template <class Out>
void run_layer(const TwoStreamConv& op, const Number* in, int64_t steps, const ConvLayer& layer,
               Out* out, cudaStream_t queue) {
  const dim3 grid(blocks(op.batch * layer.rows, kRows), blocks(layer.outputs, kColumns));
  const Windows windows = {in,
                           op.batch,
                           steps * layer.inputs,
                           layer.rows,
                           layer.stride * layer.inputs,
                           layer.pad * layer.inputs,
                           layer.kernel * layer.inputs};
  const auto kernel = windows.whole() ? convolve_layer<true, Out> : convolve_layer<false, Out>;
  kernel<<<grid, kThreads, 0, queue>>>(windows, layer, op.packed, op.activation, op.slope, out);
  check("two_stream_conv", cudaGetLastError());
}

// Each kernel writes where the one before has read.
void run_stream(const TwoStreamConv& op, const ConvStream& stream, cudaStream_t queue) {
  const int64_t size = op.batch * max(op.rows_size, op.input_size);
  Number* in = reinterpret_cast<Number*>(op.workspace);
  Number* free = reinterpret_cast<Number*>(op.workspace + size);
  const dim3 grid(static_cast<unsigned>(op.batch), blocks(op.samples, kInputThreads));
  interleave<<<grid, kInputThreads, 0, queue>>>(op.x + stream.channel * op.samples,
                                                op.channels * op.samples, op.samples,
                                                stream.channels, in);
  check("two_stream_conv", cudaGetLastError());
  int64_t steps = op.samples;
  for (int64_t i = 0; i < stream.layers; ++i) {
    const ConvLayer& layer = op.layers[stream.layer + i];
    if (i + 1 == stream.layers) {
      float* const rows = reinterpret_cast<float*>(free);
      run_layer(op, in, steps, layer, rows, queue);
      run_pool(op, rows, layer, op.out + stream.map * op.steps + stream.step, outer(op), queue);
      return;
    }
    run_layer(op, in, steps, layer, free, queue);
    if (layer.pool_kernel > 1 || layer.pool_stride > 1) {
      run_pool(op, free, layer, in, inner(layer), queue);
    } else {
      Number* const rows = free;
      free = in;
      in = rows;
    }
    steps = layer.steps;
  }
}

}  // namespace
}  // namespace tensor

void two_stream_conv(const TwoStreamConv& op, int device, void* stream) {
  check("two_stream_conv", cudaSetDevice(device));
  if (op.batch == 0) return;  // a grid of no blocks is an error
  for (int64_t i = 0; i < op.stream_count; ++i) {
    const auto run = op.bf16 ? tensor::run_stream : run_stream;
    run(op, op.streams[i], static_cast<cudaStream_t>(stream));
  }
}

}  // namespace sleeptools::cuda
