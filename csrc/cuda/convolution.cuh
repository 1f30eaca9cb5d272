// A convolution as a matrix product on Tensor Cores, over signals in bfloat16, (batch, time, map):
// the window of an output step lies in one piece in its epoch, so that nothing is copied first.
#pragma once

#include "tensor_product.cuh"

namespace sleeptools::cuda::tensor {

using Number = __nv_bfloat16;

// Rows are the output steps of all epochs, `rows` of each. Row t of an epoch begins at number t *
// step - before of its `line` numbers and has `depth` of them; what lies outside is zero.
struct Windows {
  const Number* in;
  int64_t batch, line, rows, step, before, depth;

  // Whether all begin at whole chunks.
  bool whole() const { return step % kChunk == 0 && before % kChunk == 0 && line % kChunk == 0; }
};

// Those of a convolution block's input.
inline Windows input_windows(const ConvBlock& op, const ConvLayer& layer) {
  return {reinterpret_cast<const Number*>(op.x),
          op.batch,
          op.samples * layer.inputs,
          layer.rows,
          layer.stride * layer.inputs,
          layer.pad * layer.inputs,
          layer.kernel * layer.inputs};
}

struct Window {
  const Number* epoch;
  int64_t start;
};

// Brings kChunk numbers of a window from its number k on, zeros outside. Where windows begin at
// whole chunks they are copied as such, but for what lies behind the end.
template <bool kWhole>
__device__ void bring(Chunk& chunk, const Window& window, int64_t k, const Windows& all) {
  const int64_t start = window.start + k, rest = min(all.depth - k, all.line - start);
  if constexpr (kWhole) {
    const int64_t count = start >= 0 && rest > 0 ? min(rest, int64_t{kChunk}) : 0;
    cp_async(&chunk, window.epoch + start, static_cast<unsigned>(count * sizeof(Number)));
  } else {
#pragma unroll
    for (int i = 0; i < kChunk / 2; ++i) {
      float pair[2];
      for (int j = 0; j < 2; ++j) {
        const int place = 2 * i + j;
        const bool there = start + place >= 0 && place < rest;
        pair[j] = there ? static_cast<float>(window.epoch[start + place]) : 0.0f;
      }
      chunk.words[i] = rounded_pair(pair[0], pair[1]);
    }
  }
}

// sums += kRows windows from `first` on times kColumns rows from `column` on of w, which has
// `columns`.
template <bool kWhole, int kColumns>
__device__ void convolve(const Windows& all, const Number* w, int64_t first, int64_t column,
                         int64_t columns, Sums<kColumns>& sums) {
  __shared__ Tile<kRows> left[2];
  __shared__ Tile<kColumns> right[2];
  constexpr int kApart = kThreads / kChunks, kMine = kRows / kApart;
  const int own = threadIdx.x / kChunks, chunk = threadIdx.x % kChunks;
  const int64_t count = all.batch * all.rows;
  Window windows[kMine];
#pragma unroll
  for (int i = 0; i < kMine; ++i) {
    const int64_t row = first + own + i * kApart;
    const int64_t epoch = row / all.rows, start = row % all.rows * all.step - all.before;
    windows[i] = row < count ? Window{all.in + epoch * all.line, start} : Window{all.in, all.line};
  }
  const auto begin = [&](int64_t k, int place) {
#pragma unroll
    for (int i = 0; i < kMine; ++i) {
      bring<kWhole>(left[place].at(own + i * kApart, chunk), windows[i], k + chunk * kChunk, all);
    }
    copy<kColumns>(right[place], w, stride(all.depth), column, k, columns);
    cp_async_commit();
  };
  product<kColumns>(all.depth, begin, [](int) {}, left, right, sums);
}

}  // namespace sleeptools::cuda::tensor
