// Gradients of a convolution block, from its input and its convolution; what lies between them and
// the output is made again. Back through dropout, pool and activation, with sums of each map over
// groups of rows; then, with those of the batch, through BatchNorm and PReLU to the gradient of the
// convolution. In float32 it ends there, the rest is PyTorch's. In bfloat16 both gradients are
// products on Tensor Cores. With s the stride, a row of the input's is a step of s samples,
//
//   d_x[u, (place, c)] = sum_q,o gradient[u - q, o] weight[o, c, place + s q]
//
// windows over the gradient, as the convolution's are over its input; those of the weights are sums
// over groups of rows, then over the groups in their order. No sum depends on the order of blocks.
#include "conv_block.cuh"
#include "convolution.cuh"

namespace sleeptools::cuda {
namespace {

// The parts of the workspace.
struct Parts {
  __nv_bfloat16* gradient;  // (rows, line): of the convolution
  float* behind;            // (rows, maps): behind BatchNorm; in float32 it is d_x, in place
  float* weights;           // (groups, maps, depth), the depth tap by tap
  float *sums, *later;      // (groups, 2, maps): of the gradient behind BatchNorm, and times y -
                            // mean; of the gradient before PReLU, and of what its slopes get
  float* totals;            // (2, maps): of the batch, what moves all rows, and by y - mean

  Parts(const ConvBlockBackward& all, const ConvLayer& layer) {
    const ConvBlock& op = all.block;
    const int64_t rows = op.batch * layer.rows, maps = layer.outputs;
    float* start = op.workspace;
    const auto next = [&](int64_t floats) {
      float* const part = start;
      start += floats;
      return part;
    };
    const int64_t depth = layer.kernel * layer.inputs;
    const int64_t products = ConvBlockBackward::cuda_groups(layer, op.batch) * maps * depth;
    gradient = reinterpret_cast<__nv_bfloat16*>(
        next(op.bf16 ? rows * ConvBlockBackward::cuda_line(layer) / 2 : 0));
    behind = op.bf16 ? next(rows * maps) : all.d_x;
    weights = next(op.bf16 ? products : 0);
    sums = next(2 * ConvBlock::cuda_groups(layer, op.batch) * maps);
    later = next(2 * ConvBlock::cuda_groups(layer, op.batch) * maps);
    totals = next(2 * maps);
  }
};

// Sums two numbers over the threads of a map, and keeps both for the block's group of rows.
__device__ void write_sums(int64_t map, int64_t maps, float first, float second, float* groups) {
  first = sum_down(first);
  second = sum_down(second);
  if (map >= maps || threadIdx.y > 0) return;
  float* const own = group_sums(groups, blockIdx.y, maps) + map;
  own[0] = first;
  own[maps] = second;
}

// What a row gets from the windows that have their maximum there.
__device__ float unpooled(const ConvBlock& op, const ConvLayer& layer, const float* grad,
                          const MapValues& values, const float* rows, int64_t epoch, int64_t row,
                          int64_t map) {
  const int64_t after = row + layer.pool_pad - layer.pool_kernel;
  const int64_t first = after < 0 ? 0 : after / layer.pool_stride + 1;
  const int64_t last = min((row + layer.pool_pad) / layer.pool_stride, layer.steps - 1);
  float sum = 0.0f;
  for (int64_t step = first; step <= last; ++step) {
    const Best best(op, layer, values, rows, PoolWindow(layer, step));
    if (best.row != row) continue;
    uint32_t word = 0;
    if (op.drop_below > 0) word = random_word(map, step / 4, epoch, step % 4, op.seed);
    sum += grad[(epoch * layer.steps + step) * layer.outputs + map] *
           dropout_factor(word, op.drop_below);
  }
  return sum;
}

// The gradient behind BatchNorm, and a group's sums of it.
__global__ void __launch_bounds__(kAcross* kDown)
    unpool(const ConvBlock op, const ConvLayer layer, const float* grad, float* behind,
           float* sums) {
  const int64_t map = static_cast<int64_t>(blockIdx.x) * kAcross + threadIdx.x;
  const int64_t maps = layer.outputs;
  const Group group(op.batch * layer.rows, blockIdx.y, gridDim.y);
  float sum = 0.0f, product = 0.0f;
  if (map < maps) {
    const MapValues values(op, map);
    const int64_t start = group.first + threadIdx.y;
    int64_t epoch = start / layer.rows, row = start % layer.rows;
    for (int64_t r = start; r < group.last; r += kDown) {
      const float* const rows = op.convolved + epoch * layer.rows * maps + map;
      const float y = rows[row * maps];
      float g = unpooled(op, layer, grad, values, rows, epoch, row, map);
      if (!op.slopes) g *= slope_at(op.activation, op.slope, values.normal(y));
      behind[r * maps + map] = g;
      sum += g;
      product = fmaf(g, values.before(y) - values.mean, product);
      for (row += kDown; row >= layer.rows; row -= layer.rows) ++epoch;
    }
  }
  write_sums(map, maps, sum, product, sums);
}

// The groups' two sums of a map, in their order.
struct Joined {
  float first = 0.0f, second = 0.0f;

  __device__ Joined(float* sums, int64_t groups, int64_t maps, int64_t map) {
    if (map < maps) {
      for (int64_t g = threadIdx.y; g < groups; g += kDown) {
        const float* const own = group_sums(sums, g, maps) + map;
        first += own[0];
        second += own[maps];
      }
    }
    first = sum_down(first);
    second = sum_down(second);
  }
};

// With the sums of the batch, the gradients of gamma and beta.
__global__ void __launch_bounds__(kAcross* kDown)
    join_sums(const ConvBlockBackward all, int64_t rows, int64_t maps, int64_t groups, float* sums,
              float* totals) {
  const int64_t map = static_cast<int64_t>(blockIdx.x) * kAcross + threadIdx.x;
  const Joined joined(sums, groups, maps, map);
  if (map >= maps || threadIdx.y > 0) return;
  const MapValues values(all.block, map);
  const float count = static_cast<float>(rows);
  totals[map] = joined.first / count;
  totals[maps + map] = joined.second * values.inverse * values.inverse / count;
  all.d_beta[map] = joined.first;
  all.d_gamma[map] = joined.second * values.inverse;
}

// Back through BatchNorm and PReLU: what would move mean and variance is taken out of the rows.
// Gives the gradient of the convolution, in rows of `line`, zeros behind the maps; in float32 that
// is `behind` itself.
template <class Out>
__global__ void __launch_bounds__(kAcross* kDown)
    center(const ConvBlock op, int64_t rows, int64_t maps, const float* behind, const float* totals,
           float* later, Out* out, int64_t line) {
  const int64_t map = static_cast<int64_t>(blockIdx.x) * kAcross + threadIdx.x;
  const Group group(rows, blockIdx.y, gridDim.y);
  float sum = 0.0f, slopes = 0.0f;
  if (map < maps) {
    const MapValues values(op, map);
    const float mean = totals[map], product = totals[maps + map];
    for (int64_t r = group.first + threadIdx.y; r < group.last; r += kDown) {
      const float y = op.convolved[r * maps + map];
      const float moved = mean + (values.before(y) - values.mean) * product;
      float g = values.scale * (behind[r * maps + map] - moved);
      if (!(y > 0.0f)) {
        slopes = fmaf(g, y, slopes);
        g *= values.prelu;
      }
      sum += g;
      out[r * line + map] = static_cast<Out>(g);
    }
  } else if (map < line) {
    for (int64_t r = group.first + threadIdx.y; r < group.last; r += kDown) {
      out[r * line + map] = static_cast<Out>(0.0f);
    }
  }
  if (!op.slopes) return;
  write_sums(map, maps, sum, slopes, later);
}

// Gradients of the bias and of the slopes. A bias right before BatchNorm changes nothing.
__global__ void __launch_bounds__(kAcross* kDown)
    join_later(const ConvBlockBackward all, int64_t maps, int64_t groups, float* later) {
  const int64_t map = static_cast<int64_t>(blockIdx.x) * kAcross + threadIdx.x;
  const Joined joined(later, all.block.slopes ? groups : 0, maps, map);
  if (map >= maps || threadIdx.y > 0) return;
  if (all.d_bias) all.d_bias[map] = joined.first;
  if (all.d_slopes) all.d_slopes[map] = joined.second;
}

}  // namespace

namespace tensor {
namespace {

// Rows of the gradient of x: steps of the stride, the first one with samples in it and on.
struct InputSteps {
  int64_t before, first, count;  // strides before a step whose gradients it needs

  InputSteps(const ConvLayer& layer, int64_t samples)
      : before((layer.kernel + layer.stride - 1) / layer.stride - 1),
        first(layer.pad / layer.stride),
        count((samples - 1 + layer.pad) / layer.stride - first + 1) {}
};

template <int kColumns>
__global__ void __launch_bounds__(kThreads)
    inputs_kernel(const Windows windows, const Number* w, const ConvLayer layer, int64_t samples,
                  int64_t first_step, float* d_x) {
  const int64_t first = static_cast<int64_t>(blockIdx.x) * kRows;
  const int64_t column = static_cast<int64_t>(blockIdx.y) * kColumns;
  const int64_t columns = layer.stride * layer.inputs, size = samples * layer.inputs;
  Sums<kColumns> sums = {};
  convolve<true, kColumns>(windows, w, first, column, columns, sums);
  const int lane = threadIdx.x % 32;
#pragma unroll
  for (int i = 0; i < 2; ++i) {  // as for_each, with a division for each row
    const int64_t r = first + threadIdx.x / 32 * kWarpRows + lane / 4 + 8 * i;
    if (r >= windows.batch * windows.rows) break;
    const int64_t epoch = r / windows.rows, step = r % windows.rows + first_step;
    const int64_t start = (step * layer.stride - layer.pad) * layer.inputs;
#pragma unroll
    for (int j = 0; j < kColumns / 4; ++j) {
      const int64_t c = column + j / 2 * 8 + lane % 4 * 2 + j % 2, place = start + c;
      if (c < columns && place >= 0 && place < size) {
        d_x[epoch * size + place] = sums[j / 2][2 * i + j % 2];
      }
    }
  }
}

// The gradients of the weights of kRows outputs and kColumns of the `depth` (tap, input), from a
// group's rows: what is summed over lies down both operands, kDepth of it at a time.
template <bool kWhole, int kColumns>
__global__ void __launch_bounds__(kThreads)
    weights_kernel(const Windows windows, const Number* gradient, int64_t line, int64_t outputs,
                   float* weights) {
  constexpr int kOutputs = kRows / kDepth, kSlices = kColumns / kDepth;
  __shared__ Tile<kDepth> left[2][kOutputs], right[2][kSlices];
  const int64_t output = static_cast<int64_t>(blockIdx.y) * kRows;
  const int64_t column = static_cast<int64_t>(blockIdx.x) * kColumns;
  const Group group(windows.batch * windows.rows, blockIdx.z, gridDim.z);
  const int own = threadIdx.x / kChunks, chunk = threadIdx.x % kChunks;
  static_assert(kThreads / kChunks == kDepth);

  const uint32_t rows = static_cast<uint32_t>(windows.rows);  // divided by in every step
  int64_t epoch = (group.first + own) / windows.rows;
  uint32_t row = static_cast<uint32_t>((group.first + own) % windows.rows);
  const auto begin = [&](int64_t first, int place) {
    const bool there = first + own < group.last;
    const Number* const from = gradient + (first + own) * line;
#pragma unroll
    for (int slice = 0; slice < kOutputs; ++slice) {
      const int64_t o = output + slice * kDepth + chunk * kChunk;
      cp_async(&left[place][slice].at(own, chunk), from + o, there && o < line ? sizeof(Chunk) : 0);
    }
    const int64_t start = row * windows.step - windows.before;
    const Window window =
        there ? Window{windows.in + epoch * windows.line, start} : Window{windows.in, windows.line};
#pragma unroll
    for (int slice = 0; slice < kSlices; ++slice) {
      bring<kWhole>(right[place][slice].at(own, chunk), window,
                    column + slice * kDepth + chunk * kChunk, windows);
    }
    cp_async_commit();
    epoch += (row + kDepth) / rows;
    row = (row + kDepth) % rows;
  };

  const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
  Sums<kColumns> sums = {};
  int place = 0;
  begin(group.first, place);
  for (int64_t first = group.first; first < group.last; first += kDepth, place = !place) {
    arrive();
    if (first + kDepth < group.last) begin(first + kDepth, !place);
#pragma unroll
    for (int step = 0; step < kDepth; step += kStep) {
      uint32_t turned[4];
      const int output_of_warp = warp * kWarpRows;
      ldmatrix_x4_trans(turned, &left[place][output_of_warp / kDepth].at(
                                    step + lane % 8 + lane / 16 * 8,
                                    output_of_warp % kDepth / kChunk + lane / 8 % 2));
      multiply_turned<kColumns>(turned, right[place], step, sums);
    }
  }
  weights += blockIdx.z * outputs * windows.depth;
  for_each<kColumns>(sums, [&](int down, int across, float sum) {
    const int64_t o = output + down, c = column + across;
    if (o < outputs && c < windows.depth) weights[o * windows.depth + c] = sum;
  });
}

constexpr int kJoinThreads = 256;

// Adds the groups of a weight, and puts it where it belongs.
__global__ void __launch_bounds__(kJoinThreads)
    join_weights(const float* weights, ConvLayer layer, int64_t groups, float* d_weight) {
  const int64_t depth = layer.kernel * layer.inputs, size = layer.outputs * depth;
  const int64_t i = static_cast<int64_t>(blockIdx.x) * kJoinThreads + threadIdx.x;
  if (i >= size) return;
  float sum = 0.0f;
  for (int64_t group = 0; group < groups; ++group) sum += weights[group * size + i];
  const int64_t tap = i % depth / layer.inputs, input = i % layer.inputs;
  d_weight[(i / depth * layer.inputs + input) * layer.kernel + tap] = sum;
}

template <int kColumns>
void run_inputs(const ConvBlockBackward& all, const ConvLayer& layer, const Parts& parts,
                cudaStream_t queue) {
  const ConvBlock& op = all.block;
  const InputSteps steps(layer, op.samples);
  const int64_t line = ConvBlockBackward::cuda_line(layer);
  const Windows windows = {parts.gradient,
                           op.batch,
                           layer.rows * line,
                           steps.count,
                           line,
                           (steps.before - steps.first) * line,
                           (steps.before + 1) * line};
  const dim3 grid(blocks(op.batch * steps.count, kRows),
                  blocks(layer.stride * layer.inputs, kColumns));
  inputs_kernel<kColumns><<<grid, kThreads, 0, queue>>>(
      windows, reinterpret_cast<const Number*>(op.weight), layer, op.samples, steps.first, all.d_x);
  check("conv_block_backward", cudaGetLastError());
}

template <int kColumns>
void run_weights(const ConvBlockBackward& all, const ConvLayer& layer, const Parts& parts,
                 cudaStream_t queue) {
  const Windows windows = input_windows(all.block, layer);
  const int64_t groups = ConvBlockBackward::cuda_groups(layer, all.block.batch);
  const dim3 grid(blocks(windows.depth, kColumns), blocks(layer.outputs, kRows),
                  static_cast<unsigned>(groups));
  const auto kernel =
      windows.whole() ? weights_kernel<true, kColumns> : weights_kernel<false, kColumns>;
  kernel<<<grid, kThreads, 0, queue>>>(windows, parts.gradient, ConvBlockBackward::cuda_line(layer),
                                       layer.outputs, parts.weights);
  check("conv_block_backward", cudaGetLastError());
  join_weights<<<blocks(layer.outputs * windows.depth, kJoinThreads), kJoinThreads, 0, queue>>>(
      parts.weights, layer, groups, all.d_weight);
  check("conv_block_backward", cudaGetLastError());
}

}  // namespace
}  // namespace tensor

void conv_block_backward(const ConvBlockBackward& all, int device, void* stream) {
  check("conv_block_backward", cudaSetDevice(device));
  const ConvBlock& op = all.block;
  if (op.batch == 0) return;  // a grid of no blocks is an error
  const auto queue = static_cast<cudaStream_t>(stream);
  const ConvLayer layer = *op.layer;
  const Parts parts(all, layer);
  const int64_t maps = layer.outputs, rows = op.batch * layer.rows;
  const int64_t groups = ConvBlock::cuda_groups(layer, op.batch);
  const int64_t line = op.bf16 ? ConvBlockBackward::cuda_line(layer) : maps;
  const dim3 block(kAcross, kDown), one(blocks(maps, kAcross));
  const dim3 grid(one.x, static_cast<unsigned>(groups));
  const dim3 wide(blocks(line, kAcross), static_cast<unsigned>(groups));

  unpool<<<grid, block, 0, queue>>>(op, layer, all.grad, parts.behind, parts.sums);
  check("conv_block_backward", cudaGetLastError());
  join_sums<<<one, block, 0, queue>>>(all, rows, maps, groups, parts.sums, parts.totals);
  check("conv_block_backward", cudaGetLastError());
  if (op.bf16) {
    center<__nv_bfloat16><<<wide, block, 0, queue>>>(op, rows, maps, parts.behind, parts.totals,
                                                     parts.later, parts.gradient, line);
  } else {
    center<float><<<wide, block, 0, queue>>>(op, rows, maps, parts.behind, parts.totals,
                                             parts.later, parts.behind, line);
  }
  check("conv_block_backward", cudaGetLastError());
  if (all.d_bias || all.d_slopes) {
    join_later<<<one, block, 0, queue>>>(all, maps, groups, parts.later);
    check("conv_block_backward", cudaGetLastError());
  }
  if (!op.bf16) return;
  if (all.d_x) {
    layer.stride* layer.inputs > 64 ? tensor::run_inputs<128>(all, layer, parts, queue)
                                    : tensor::run_inputs<64>(all, layer, parts, queue);
  }
  layer.kernel* layer.inputs > 64 ? tensor::run_weights<128>(all, layer, parts, queue)
                                  : tensor::run_weights<64>(all, layer, parts, queue);
}

}  // namespace sleeptools::cuda
