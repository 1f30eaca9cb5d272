// Blocks of separable convolutions, one block of threads per (epoch, signal). What lies between the
// layers of a block stays in shared memory, or in global memory where that is too small. A thread
// computes kOutputs maps at one step after the pool: it reads the maps below it once for all of
// them, neighbouring threads read neighbouring steps, and the weights are the same for a whole
// warp.
#include "launch.cuh"

namespace sleeptools::cuda {
namespace {

constexpr int kThreads = 256;
constexpr int kOutputs = 8;

// Maps of one signal, (map, step).
struct Maps {
  float* data;
  int64_t count, steps;
};

__device__ int64_t half(int64_t steps) { return (steps + 1) / 2; }

// Both keep NaN as PyTorch does; fmaxf would drop it.
__device__ float relu(float v) { return 0.0f > v ? 0.0f : v; }
__device__ float maximum(float a, float b) { return b > a || b != b ? b : a; }

// The depthwise convolution of one map at `step`.
__device__ float depthwise(const float* x, int64_t steps, const float* w, int64_t kernel,
                           int64_t step) {
  const int64_t first = step - kernel / 2;
  float sum = 0.0f;
  for (int64_t k = 0; k < kernel; ++k) {
    const int64_t t = first + k;
    if (t >= 0 && t < steps) sum = fmaf(w[k], x[t], sum);
  }
  return sum;
}

// Runs `each(step, map, outputs)` for every step of `out` and every kOutputs of its maps, or as
// many as are left, and waits for all threads.
template <class Each>
__device__ void for_each_tile(const Maps& out, Each each) {
  const int64_t tiles = (out.count + kOutputs - 1) / kOutputs;
  for (int64_t i = threadIdx.x; i < tiles * out.steps; i += kThreads) {
    const int64_t map = i / out.steps * kOutputs;
    each(i % out.steps, map, min(static_cast<int64_t>(kOutputs), out.count - map));
  }
  __syncthreads();
}

// Depthwise and pointwise convolution, ReLU, pool; `add` adds that to what is there.
__device__ void unit(const float* w, int64_t kernel, const Maps& in, const Maps& out, bool add) {
  const float* const pointwise = w + in.count * kernel;
  const float* const bias = pointwise + in.count * out.count;
  for_each_tile(out, [&](int64_t step, int64_t map, int64_t outputs) {
    const bool both = 2 * step + 1 < in.steps;  // an odd length has a last window of one step
    float even[kOutputs] = {}, odd[kOutputs] = {};
    for (int64_t c = 0; c < in.count; ++c) {
      const float* const x = in.data + c * in.steps;
      const float a = depthwise(x, in.steps, w + c * kernel, kernel, 2 * step);
      const float b = both ? depthwise(x, in.steps, w + c * kernel, kernel, 2 * step + 1) : a;
      const float* const row = pointwise + c * out.count + map;
#pragma unroll
      for (int m = 0; m < kOutputs; ++m) {
        const float weight = m < outputs ? row[m] : 0.0f;
        even[m] = fmaf(weight, a, even[m]);
        odd[m] = fmaf(weight, b, odd[m]);
      }
    }
#pragma unroll
    for (int m = 0; m < kOutputs; ++m) {
      if (m >= outputs) break;
      float* const to = out.data + (map + m) * out.steps + step;
      const float value = relu(maximum(even[m], odd[m]) + bias[map + m]);
      *to = add ? *to + value : value;
    }
  });
}

// A matrix on every 4th step.
__device__ void shortcut(const float* w, const Maps& in, const Maps& out) {
  const float* const bias = w + in.count * out.count;
  for_each_tile(out, [&](int64_t step, int64_t map, int64_t outputs) {
    for (int64_t m = map; m < map + outputs; ++m) {
      float sum = bias[m];
      for (int64_t c = 0; c < in.count; ++c) {
        sum = fmaf(w[c * out.count + m], in.data[c * in.steps + 4 * step], sum);
      }
      out.data[m * out.steps + step] = sum;
    }
  });
}

// A warp for each map.
__device__ void mean(const Maps& in, float* out) {
  for (int64_t map = threadIdx.x / 32; map < in.count; map += kThreads / 32) {
    float total = 0.0f;
    for (int64_t t = threadIdx.x % 32; t < in.steps; t += 32) {
      total += in.data[map * in.steps + t];
    }
    total = warp_sum(total);
    if (threadIdx.x % 32 == 0) out[map] = total / in.steps;
  }
}

// Widths travel with the launch: the struct's own pointer is one of the host.
struct Widths {
  int64_t outputs_of[SeparableStream::kMaxBlocks];
};

__global__ void __launch_bounds__(kThreads)
    kernel(const SeparableStream op, const Widths widths, int64_t floats) {
  extern __shared__ float shared[];
  const int64_t task = blockIdx.x;
  float* const space = op.space ? op.space + task * floats : shared;
  const float* w = op.weights;
  // A block's input lies at the start of the space and its output at the end, or, in the next
  // block, the other way round.
  Maps in = {space, 1, op.samples};
  for (int64_t t = threadIdx.x; t < op.samples; t += kThreads) {
    in.data[t] = op.x[task * op.samples + t];
  }
  __syncthreads();
  for (int64_t i = 0; i < op.blocks; ++i) {
    const int64_t width = widths.outputs_of[i], middle_steps = half(in.steps);
    const int64_t out_size = width * half(middle_steps), middle_size = width * middle_steps;
    const bool forward = in.data == space;
    float* const end = space + floats;
    const Maps out = {forward ? end - out_size : space, width, half(middle_steps)};
    const Maps middle = {forward ? end - out_size - middle_size : space + out_size, width,
                         middle_steps};
    const float* const second = w + in.count * op.kernel + (in.count + 1) * width;
    const float* const third = second + width * op.kernel + (width + 1) * width;
    shortcut(third, in, out);
    unit(w, op.kernel, in, middle, false);
    unit(second, op.kernel, middle, out, true);
    w = third + (in.count + 1) * width;
    in = out;
  }
  mean(in, op.out + task * in.count);
}

}  // namespace

void separable_stream(const SeparableStream& op, int device, void* stream) {
  const char* const name = "separable_stream";
  check(name, cudaSetDevice(device));
  if (op.batch * op.signals == 0) return;  // a grid of no blocks is an error
  Widths widths = {};
  for (int64_t i = 0; i < op.blocks; ++i) widths.outputs_of[i] = op.widths[i];
  const int64_t floats = task_floats(op);
  SeparableStream on_device = op;
  if (floats <= SeparableStream::kMaxShared) on_device.space = nullptr;
  const int bytes = on_device.space ? 0 : static_cast<int>(floats * sizeof(float));
  check(name, cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, bytes));
  const unsigned tasks = static_cast<unsigned>(op.batch * op.signals);
  kernel<<<tasks, kThreads, bytes, static_cast<cudaStream_t>(stream)>>>(on_device, widths, floats);
  check(name, cudaGetLastError());
}

}  // namespace sleeptools::cuda
