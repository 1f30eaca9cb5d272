// Small kernels by which tests/native/test_cuda_emulator.py tries the emulator: right ones, and
// each with one fault. `data` holds `count` words.
#include <cuda_bf16.h>
#include <cuda_runtime.h>

#include <cstdint>
#include <cstring>
#include <map>
#include <string>

#include "ptx.cuh"

namespace {

using namespace sleeptools::cuda;

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

// --- instructions of a warp
// -----------------------------------------------------------------------
uint32_t pair(float low, float high) {
  const __nv_bfloat162 both = __floats2bfloat162_rn(low, high);
  uint32_t word;
  std::memcpy(&word, &both, sizeof word);
  return word;
}

// `data` holds a (16, 16), b (16, 8) and d (16, 8), row by row; element i of a lane is where the
// manual says: "Matrix Fragments for mma.m16n8k16 with floating point type".
template <int kLanes>
__global__ void product(float* data, int) {
  const int lane = threadIdx.x, group = lane / 4, member = lane % 4;
  const auto row_of_a = [&](int i) { return i < 2 || (i >= 4 && i < 6) ? group : group + 8; };
  const auto column_of_a = [&](int i) { return member * 2 + (i & 1) + (i >= 4 ? 8 : 0); };
  const auto row_of_b = [&](int i) { return member * 2 + (i & 1) + (i >= 2 ? 8 : 0); };
  const auto element_of_d = [&](int i) {
    return 384 + (i < 2 ? group : group + 8) * 8 + member * 2 + (i & 1);
  };
  uint32_t a[4], b[2];
  float d[4];
  for (int i = 0; i < 8; i += 2) {
    const float* row = data + row_of_a(i) * 16;
    a[i / 2] = pair(row[column_of_a(i)], row[column_of_a(i + 1)]);
  }
  for (int i = 0; i < 4; i += 2) {
    const float* column = data + 256 + group;
    b[i / 2] = pair(column[row_of_b(i) * 8], column[row_of_b(i + 1) * 8]);
  }
  for (int i = 0; i < 4; ++i) d[i] = data[element_of_d(i)];
  if (lane < kLanes) mma_m16n8k16(d, a, b);
  for (int i = 0; i < 4; ++i) data[element_of_d(i)] = d[i];
}

// The four matrices follow each other in `data`; lane l brings row 5 l % 32 and names row l.
template <bool kBarrier, int kLanes = 32, int kBytes = 0, bool kTurned = false>
__global__ void matrices(float* data, int) {
  __shared__ float rows[128];
  const int lane = threadIdx.x, row = 5 * lane % 32;
  for (int i = 0; i < 4; ++i) rows[4 * row + i] = data[4 * row + i];
  if (kBarrier) __syncwarp();
  uint32_t words[4] = {};
  if (lane < kLanes) {
    const auto* const named = reinterpret_cast<const char*>(rows + 4 * lane) + kBytes;
    kTurned ? ldmatrix_x4_trans(words, named) : ldmatrix_x4(words, named);
  }
  for (int i = 0; i < 4; ++i) std::memcpy(data + 32 * i + lane, words + i, sizeof *words);
}
__global__ void matrices_elsewhere(float* data, int) {
  uint32_t words[4];
  ldmatrix_x4(words, data + 4 * threadIdx.x);
}

// The emulator's shared arrays begin at multiples of 16. Two rounds of copies; each thread then
// reads what its neighbour, or it itself, has copied.
enum Missing { kNothing, kCommit, kWait, kBarrier, kNeighbours };
template <Missing kMissing>
__global__ void copies(float* data, int) {
  __shared__ float rows[2][4 * kThreads];
  const int i = 4 * threadIdx.x, j = kMissing == kNeighbours ? i : 4 * kThreads - 4 - i;
  cp_async(rows[0] + i, data + i, 16);
  cp_async_commit();
  cp_async(rows[1] + i, data + i, threadIdx.x % 17);
  if (kMissing != kCommit) cp_async_commit();
  float sum = 0.0f;
  for (int round = 0; round < 2; ++round) {
    if (round == 0) cp_async_wait<1>();
    if (round == 1 && kMissing != kWait) cp_async_wait<0>();
    if (kMissing != kBarrier && kMissing != kNeighbours) __syncthreads();
    for (int k = 0; k < 4; ++k) sum += rows[round][j + k];
  }
  __syncthreads();
  data[j / 4] = sum;
}
// The first thread copies over what the others read.
template <bool kSecond>
__global__ void copy_again(float* data, int) {
  __shared__ float row[4];
  for (int round = 0; round < 2; ++round) {
    if (threadIdx.x == 0) {
      cp_async(row, data + 4 * round, 16);
      cp_async_commit();
      cp_async_wait<0>();
    }
    __syncthreads();
    data[8 + threadIdx.x] = row[0];
    if (kSecond) __syncthreads();
  }
}
template <int kTo, int kFrom, unsigned kBytes = 16>
__global__ void copy(float* data, int) {
  __shared__ float row[8];
  if (threadIdx.x == 0) {
    cp_async(row + kTo, data + kFrom, kBytes);
    cp_async_commit();
    cp_async_wait<0>();
    data[0] = row[kTo];
  }
}
__global__ void copy_to_global(float* data, int) { cp_async(data, data + 4, 16); }
__global__ void copy_within_shared(float*, int) {
  __shared__ float row[8];
  cp_async(row, row + 4, 16);
}
__global__ void copy_without_end(float* data, int) {
  __shared__ float row[4 * kThreads];
  cp_async(row + 4 * threadIdx.x, data, 16);
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
    {"product", product<32>},
    {"product of some lanes", product<31>},
    {"matrices", matrices<true>},
    {"turned matrices", matrices<true, 32, 0, true>},
    {"matrices without a barrier", matrices<false>},
    {"matrices of some lanes", matrices<true, 16>},
    {"matrices between rows", matrices<true, 32, 2>},
    {"matrices beyond", matrices<true, 32, 16>},
    {"matrices elsewhere", matrices_elsewhere},
    {"copies", copies<kNothing>},
    {"copies of its own", copies<kNeighbours>},
    {"copies without a group", copies<kCommit>},
    {"copies without a wait", copies<kWait>},
    {"copies without a barrier", copies<kBarrier>},
    {"copy again", copy_again<true>},
    {"copy again without a barrier", copy_again<false>},
    {"copy", copy<4, 4>},
    {"copy nothing", copy<4, 4096, 0>},
    {"copy beyond", copy<0, 4096>},
    {"copy beyond shared", copy<8, 0>},
    {"copy to the middle", copy<2, 0>},
    {"copy from the middle", copy<0, 2>},
    {"copy much", copy<0, 0, 17>},
    {"copy to global", copy_to_global},
    {"copy within shared", copy_within_shared},
    {"copy without end", copy_without_end},
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
