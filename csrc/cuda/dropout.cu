// Dropout of maps: a thread for each value.
#include "launch.cuh"
#include "philox.cuh"

namespace sleeptools::cuda {
namespace {

constexpr int kThreads = 256;

__global__ void kernel(const Dropout op) {
  const int64_t i = static_cast<int64_t>(blockIdx.x) * kThreads + threadIdx.x;
  if (i >= op.batch * op.steps * op.maps) return;
  const int64_t step = i / op.maps % op.steps, row = i / op.maps / op.steps;
  const int64_t rows = op.batch / op.tasks, epoch = row % rows;
  const uint64_t seed = drawn_seed(op.seed, op.seeds, row / rows);
  op.out[i] = op.x[i] * dropout_factor(i % op.maps, step, epoch, op.drop_below, seed);
}

}  // namespace

void dropout(const Dropout& op, int device, void* stream) {
  check("dropout", cudaSetDevice(device));
  const int64_t count = op.batch * op.steps * op.maps;
  if (count == 0) return;  // a grid of no blocks is an error
  const unsigned blocks = static_cast<unsigned>((count + kThreads - 1) / kThreads);
  kernel<<<blocks, kThreads, 0, static_cast<cudaStream_t>(stream)>>>(op);
  check("dropout", cudaGetLastError());
}

}  // namespace sleeptools::cuda
