// Small kernels by which tests/native/test_cuda_emulator.py tries the emulator: right ones, and
// each with one fault. `data` holds `count` words.
#include <cuda_bf16.h>
#include <cuda_runtime.h>

#include <cstdint>
#include <cstring>
#include <map>
#include <string>

namespace {

constexpr int kThreads = 64;

// --- order
// ----------------------------------------------------------------------------------------
template <bool kBarrier>
__global__ void reverse(float* data, int) {
  __shared__ float copy[kThreads];
  copy[threadIdx.x] = data[threadIdx.x];
  if (kBarrier) __syncthreads();
  data[threadIdx.x] = copy[kThreads - 1 - threadIdx.x];
}

template <bool kBarrier>
__global__ void reverse_warps(float* data, int) {
  __shared__ float copy[kThreads];
  const int lane = threadIdx.x % 32, first = threadIdx.x - lane;
  copy[threadIdx.x] = data[threadIdx.x];
  if (kBarrier) __syncwarp();
  data[threadIdx.x] = copy[first + 31 - lane];
}

// A barrier of the warp orders no other warp.
__global__ void across_warps(float* data, int) {
  __shared__ float copy[kThreads];
  copy[threadIdx.x] = data[threadIdx.x];
  __syncwarp();
  data[threadIdx.x] = copy[kThreads - 1 - threadIdx.x];
}

// What one round wrote is read while the next writes.
template <bool kSecond>
__global__ void rounds(float* data, int) {
  __shared__ float first;
  for (int round = 0; round < 3; ++round) {
    if (threadIdx.x == 0) first = data[round];
    __syncthreads();
    data[threadIdx.x + 3] = first;
    if (kSecond) __syncthreads();
  }
}

// Only the first element is written; the others are what a block finds.
__global__ void unwritten(float* data, int) {
  __shared__ float copy[kThreads];
  if (threadIdx.x == 0) copy[0] = 1.0f;
  __syncthreads();
  data[threadIdx.x] = copy[threadIdx.x];
}

__global__ void one_word(float* data, int) { data[0] = static_cast<float>(blockIdx.x); }
__global__ void word_each(float* data, int) { data[blockIdx.x] = static_cast<float>(blockIdx.x); }
__global__ void half_words(float* data, int) {
  reinterpret_cast<__nv_bfloat16*>(data)[threadIdx.x] = __nv_bfloat16(1.0f);
}
__global__ void sum(float* data, int) { atomicAdd(data, 1.0f); }
__global__ void plain_sum(float* data, int) { data[0] += 1.0f; }
__global__ void sum_and_look(float* data, int) {
  atomicAdd(data, 1.0f);
  data[1 + threadIdx.x] = data[0];
}
__global__ void sum_then_look(float* data, int) {
  atomicAdd(data, 1.0f);
  __syncthreads();
  data[1 + threadIdx.x] = data[0];
}
__global__ void largest(float* data, int) { atomicMax(data, static_cast<float>(threadIdx.x)); }

// Who came first.
__global__ void queue(float* data, int) {
  data[1 + static_cast<int>(atomicAdd(data, 1.0f))] = static_cast<float>(threadIdx.x);
}
__global__ void queue_of_blocks(float* data, int) {
  data[1 + static_cast<int>(atomicAdd(data, 1.0f))] = static_cast<float>(blockIdx.x);
}
__global__ void twice(float* data, int) { data[threadIdx.x] *= 2.0f; }
__global__ void plus_one(float* data, int) { data[threadIdx.x] += 1.0f; }

// --- bounds
// ---------------------------------------------------------------------------------------
template <int kBeyond>
__global__ void touch(float* data, int count) {
  if (threadIdx.x == 0) data[kBeyond < 0 ? kBeyond : count - 1 + kBeyond] = 1.0f;
}
template <int kBeyond>
__global__ void touch_shared(float* data, int) {
  __shared__ float left[kThreads], right[kThreads];
  left[threadIdx.x] = right[threadIdx.x] = 0.0f;
  __syncthreads();
  if (threadIdx.x == 0) data[0] = left[kThreads - 1 + kBeyond] + right[0];
}
__global__ void long_index(float* data, int count) {
  float own[4] = {};
  for (int i = 0; i < 4; ++i) own[i] = data[i];
  data[threadIdx.x] = own[count % 8];
}
__global__ void dynamic(float* data, int count) {
  extern __shared__ float copy[];
  for (int i = threadIdx.x; i < count; i += kThreads) copy[i] = data[i];
  __syncthreads();
  if (threadIdx.x == 0) data[0] = copy[count - 1];
}
__global__ void much_shared(float* data, int) {
  __shared__ float copy[49 * 256];
  copy[threadIdx.x] = data[threadIdx.x];
}
__global__ void __launch_bounds__(32) bound(float* data, int) { data[threadIdx.x] = 1.0f; }

// --- barriers and shuffles
// ------------------------------------------------------------------------
__global__ void forked_barrier(float* data, int) {
  if (threadIdx.x < 32) {
    data[threadIdx.x] = 1.0f;
    __syncthreads();
  } else {
    __syncthreads();
  }
}
__global__ void early_return(float* data, int) {
  if (threadIdx.x >= 32) return;
  __syncthreads();
  data[threadIdx.x] = 1.0f;
}
__global__ void left_out(float* data, int) {
  data[threadIdx.x] = __shfl_sync(0x7fffffffu, 1.0f, 0);
}
__global__ void absent_source(float* data, int) {
  if (threadIdx.x % 32 >= 16) return;
  data[threadIdx.x] = __shfl_sync(0xffffffffu, 1.0f, 20);
}
__global__ void source_outside(float* data, int) {
  if (threadIdx.x % 32 < 16) data[threadIdx.x] = __shfl_xor_sync(0xffffu, 1.0f, 16);
}
__global__ void forked_warp(float* data, int) {
  if (threadIdx.x % 32 < 16) {
    __syncwarp();
    data[threadIdx.x] = 1.0f;
  } else {
    __syncthreads();
  }
}
__global__ void half_warps(float* data, int) {
  const unsigned mask = threadIdx.x % 32 < 16 ? 0xffffu : 0xffff0000u;
  data[threadIdx.x] = __shfl_xor_sync(mask, data[threadIdx.x], 1);
}

template <int kWidth>
__global__ void shuffles(float* data, int) {
  const int lane = threadIdx.x;
  const float x = data[lane];
  data[32 + lane] = __shfl_sync(0xffffffffu, x, 5, kWidth);
  data[64 + lane] = __shfl_up_sync(0xffffffffu, x, 3, kWidth);
  data[96 + lane] = __shfl_down_sync(0xffffffffu, x, 3, kWidth);
  data[128 + lane] = __shfl_xor_sync(0xffffffffu, x, 2, kWidth);
}

// --- arithmetic
// -----------------------------------------------------------------------------------
__global__ void round_to_bf16(float* data, int count) {
  for (int i = threadIdx.x; i < count; i += kThreads) {
    data[i] = static_cast<float>(__nv_bfloat16(data[i]));
  }
}
__global__ void high_product(float* data, int) {
  uint32_t words[2];
  std::memcpy(words, data + 2 * threadIdx.x, sizeof words);
  words[0] = __umulhi(words[0], words[1]);
  std::memcpy(data + 2 * threadIdx.x, words, sizeof words);
}

using Kernel = void (*)(float*, int);
const std::map<std::string, Kernel> kKernels = {
    {"reverse", reverse<true>},
    {"reverse without a barrier", reverse<false>},
    {"reverse warps", reverse_warps<true>},
    {"reverse warps without a barrier", reverse_warps<false>},
    {"across warps", across_warps},
    {"rounds", rounds<true>},
    {"rounds with one barrier", rounds<false>},
    {"unwritten", unwritten},
    {"one word", one_word},
    {"word each", word_each},
    {"half words", half_words},
    {"sum", sum},
    {"plain sum", plain_sum},
    {"sum and look", sum_and_look},
    {"sum, then look", sum_then_look},
    {"largest", largest},
    {"queue", queue},
    {"queue of blocks", queue_of_blocks},
    {"twice", twice},
    {"plus one", plus_one},
    {"touch the last", touch<0>},
    {"touch beyond", touch<1>},
    {"touch before", touch<-1>},
    {"touch shared", touch_shared<0>},
    {"touch beyond shared", touch_shared<1>},
    {"long index", long_index},
    {"dynamic", dynamic},
    {"much shared", much_shared},
    {"bound", bound},
    {"forked barrier", forked_barrier},
    {"early return", early_return},
    {"left out", left_out},
    {"absent source", absent_source},
    {"source outside", source_outside},
    {"forked warp", forked_warp},
    {"half warps", half_warps},
    {"shuffles 32", shuffles<32>},
    {"shuffles 16", shuffles<16>},
    {"shuffles 8", shuffles<8>},
    {"round to bf16", round_to_bf16},
    {"high product", high_product},
};

}  // namespace

#define EXPORTED extern "C" __attribute__((visibility("default")))

// Grid and block are three numbers each. Returns the error of the launch.
EXPORTED int trial(const char* name, float* data, int count, const unsigned* grid,
                   const unsigned* block, size_t shared) {
  const Kernel kernel = kKernels.at(name);
  kernel<<<dim3(grid[0], grid[1], grid[2]), dim3(block[0], block[1], block[2]), shared>>>(data,
                                                                                          count);
  return cudaGetLastError();
}

EXPORTED int allow_shared(const char* name, int bytes) {
  return cudaFuncSetAttribute(kKernels.at(name), cudaFuncAttributeMaxDynamicSharedMemorySize,
                              bytes);
}
