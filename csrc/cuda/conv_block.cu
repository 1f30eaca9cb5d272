// A convolution block in training: in bfloat16 the convolution as a matrix product on Tensor Cores
// (in float32 it is PyTorch's, made before); mean and variance of each map over the batch, first of
// groups of rows and then of all in their order, so that nothing depends on the order of blocks;
// and all that follows in one pass.
#include "conv_block.cuh"
#include "convolution.cuh"

namespace sleeptools::cuda {
namespace {

// The mean of a group's rows and their squared distances from it, of each map that BatchNorm sees.
__global__ void __launch_bounds__(kAcross* kDown)
    moments(const ConvBlock op, int64_t rows, int64_t maps) {
  const int64_t map = static_cast<int64_t>(blockIdx.x) * kAcross + threadIdx.x;
  const Group group(rows, blockIdx.y, gridDim.y);
  const float count = static_cast<float>(group.last - group.first);
  const float slope = op.slopes && map < maps ? op.slopes[map] : 1.0f;
  const auto each_row = [&](auto work) {
    if (map >= maps) return;
    for (int64_t r = group.first + threadIdx.y; r < group.last; r += kDown) {
      const float y = op.convolved[r * maps + map];
      work(y > 0.0f ? y : y * slope);
    }
  };
  float sum = 0.0f, squares = 0.0f;
  each_row([&](float y) { sum += y; });
  const float mean = sum_down(sum) / count;
  each_row([&](float y) { squares = fmaf(y - mean, y - mean, squares); });
  squares = sum_down(squares);
  if (map >= maps || threadIdx.y > 0) return;
  float* const out = group_sums(op.workspace, blockIdx.y, maps) + map;
  out[0] = mean;
  out[maps] = squares;
}

// Those of the batch (Chan, Golub, LeVeque 1979; see cpu/conv_block.cpp).
__global__ void __launch_bounds__(kAcross* kDown)
    join_moments(const ConvBlock op, int64_t rows, int64_t maps, int64_t groups) {
  const int64_t map = static_cast<int64_t>(blockIdx.x) * kAcross + threadIdx.x;
  const auto each_group = [&](auto work) {
    if (map >= maps) return;
    for (int64_t g = threadIdx.y; g < groups; g += kDown) {
      const Group group(rows, g, groups);
      const float* const sums = group_sums(op.workspace, g, maps) + map;
      work(static_cast<float>(group.last - group.first), sums[0], sums[maps]);
    }
  };
  const float total = static_cast<float>(rows);
  float sum = 0.0f, squares = 0.0f;
  each_group([&](float count, float mean, float) { sum = fmaf(count / total, mean, sum); });
  const float mean = sum_down(sum);
  each_group([&](float count, float own, float square) {
    squares += fmaf(count * (own - mean), own - mean, square);
  });
  squares = sum_down(squares);
  if (map >= maps || threadIdx.y > 0) return;
  op.mean[map] = mean;
  op.variance[map] = squares / total;
}

constexpr int kThreads = 256;
constexpr int kDrawn = 4;  // steps of a thread, of one drawing of random words

// From an epoch's convolution to its output: a thread has a map at kDrawn steps.
__global__ void __launch_bounds__(kThreads) finish(const ConvBlock op, const ConvLayer layer) {
  const int index = blockIdx.y * kThreads + threadIdx.x, maps = static_cast<int>(layer.outputs);
  const int64_t first = static_cast<int64_t>(index / maps) * kDrawn;
  const int map = index % maps;
  const int64_t epoch = blockIdx.x;
  const MapValues values(op, map);
  const float* const rows = op.convolved + epoch * layer.rows * maps + map;
  float* const out = op.out + (epoch * layer.steps + first) * maps + map;
  uint32_t words[kDrawn] = {};
  if (op.drop_below > 0) random_words(map, first / kDrawn, epoch, op.seed, words);
#pragma unroll
  for (int i = 0; i < kDrawn; ++i) {
    if (first + i >= layer.steps) break;
    const Best best(op, layer, values, rows, PoolWindow(layer, first + i));
    out[i * maps] = best.value * dropout_factor(words[i], op.drop_below);
  }
}

}  // namespace

namespace tensor {
namespace {

template <bool kWhole, int kColumns>
__global__ void __launch_bounds__(kThreads)
    convolve_block(const Windows windows, const ConvBlock op, int64_t maps) {
  const int64_t first = static_cast<int64_t>(blockIdx.x) * kRows;
  const int64_t column = static_cast<int64_t>(blockIdx.y) * kColumns;
  Sums<kColumns> sums = {};
  convolve<kWhole, kColumns>(windows, reinterpret_cast<const Number*>(op.weight), first, column,
                             maps, sums);
  for_each<kColumns>(sums, [&](int row, int map, float sum) {
    const int64_t r = first + row, c = column + map;
    if (r >= windows.batch * windows.rows || c >= maps) return;
    op.convolved[r * maps + c] = sum + (op.bias ? op.bias[c] : 0.0f);
  });
}

template <int kColumns>
void run_product(const ConvBlock& op, const ConvLayer& layer, cudaStream_t queue) {
  const Windows windows = input_windows(op, layer);
  const dim3 grid(blocks(op.batch * layer.rows, kRows), blocks(layer.outputs, kColumns));
  const auto kernel =
      windows.whole() ? convolve_block<true, kColumns> : convolve_block<false, kColumns>;
  kernel<<<grid, kThreads, 0, queue>>>(windows, op, layer.outputs);
  check("conv_block", cudaGetLastError());
}

}  // namespace
}  // namespace tensor

void conv_block(const ConvBlock& op, int device, void* stream) {
  check("conv_block", cudaSetDevice(device));
  if (op.batch == 0) return;  // a grid of no blocks is an error
  const auto queue = static_cast<cudaStream_t>(stream);
  const ConvLayer layer = *op.layer;
  const int64_t maps = layer.outputs, rows = op.batch * layer.rows;
  if (op.bf16) {
    maps > 64 ? tensor::run_product<128>(op, layer, queue)
              : tensor::run_product<64>(op, layer, queue);
  }
  const int64_t groups = ConvBlock::cuda_groups(layer, op.batch);
  const dim3 block(kAcross, kDown), grid(blocks(maps, kAcross), static_cast<unsigned>(groups));
  moments<<<grid, block, 0, queue>>>(op, rows, maps);
  check("conv_block", cudaGetLastError());
  join_moments<<<blocks(maps, kAcross), block, 0, queue>>>(op, rows, maps, groups);
  check("conv_block", cudaGetLastError());
  const int64_t parts = (layer.steps + kDrawn - 1) / kDrawn;
  const dim3 each(static_cast<unsigned>(op.batch), blocks(parts * maps, kThreads));
  finish<<<each, kThreads, 0, queue>>>(op, layer);
  check("conv_block", cudaGetLastError());
}

}  // namespace sleeptools::cuda
