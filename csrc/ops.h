// The ops of the native core: one struct of raw pointers and sizes each, and the list of them.
// Arrays are C-contiguous float32 unless the struct says otherwise; the caller owns all memory.
#pragma once

#include <cstdint>

namespace sleeptools {

// Modal-wise squeeze-and-excitation block (MMASleepNet), BatchNorm folded into w1 b1 w2 b2.
struct ModalSe {
  static constexpr int kMaxModalities = 16;  // up to 8 the kernels keep a column in registers

  const float* x;                                              // (batch, modalities, samples)
  const float *w1, *b1, *w2, *b2;                              // 1x1 convolutions, (M, M) and (M)
  const float *squeeze, *squeeze_bias, *excite, *excite_bias;  // gate, (M, M) and (M)
  float* out;                                                  // as x; must not overlap it
  int64_t batch;
  int64_t modalities;  // M, 1 to kMaxModalities
  int64_t samples;     // feature maps times time steps
  bool authors;        // relu(x + f * e) of the authors' code; otherwise Eq. 5, x + x * e
};

// One convolution of a stream with the activation and the pool after it. All sizes in elements.
struct ConvLayer {
  int64_t inputs, outputs, kernel, stride, pad;
  int64_t pool_kernel, pool_stride, pool_pad;  // 1, 1, 0 where there is none
  int64_t rows;                                // time steps of the convolution's output
  int64_t steps;                               // time steps after the pool
  int64_t bias, weight;                        // where they start in TwoStreamConv::packed
};

// A chain of layers over some channels of the input, and its place in the output.
struct ConvStream {
  int64_t channel, channels;  // first channel and their number
  int64_t layer, layers;      // first entry in TwoStreamConv::layers and their number
  int64_t map, step;          // where its output starts: feature map and time step
};

// Convolution streams of one or more modalities, BatchNorm folded. `sleeptools.streams` makes the
// tables and the packed weights.
struct TwoStreamConv {
  static constexpr int kPanel = 16;  // outputs of a panel of `packed`, on every instruction set
  enum Activation { kLeakyRelu, kRelu, kGelu };

  const float* x;  // (batch, channels, samples)
  // A layer's biases, filled up with zeros to whole panels; then, for each panel of outputs, a row
  // of kPanel weights for each (tap, input), tap by tap. With bf16, rows 2j and 2j + 1 are joined:
  // the two weights of an output lie side by side as bfloat16.
  const float* packed;
  const ConvLayer* layers;
  const ConvStream* streams;
  float* workspace;  // CPU: a slot for each thread; CUDA: one
  float* out;        // (batch, maps, steps)
  int64_t batch, channels, samples, maps, steps;
  int64_t stream_count;
  int64_t input_size, rows_size;  // CPU: a slot is one part of the first and two of the second
  int64_t margin;                 // CPU: zeros before and after the input, in time steps
  int64_t activation;             // an Activation
  float slope;                    // of kLeakyRelu
  bool bf16;                      // arithmetic in bfloat16 with float32 sums; see `has_bf16`
};

}  // namespace sleeptools

// Dispatch, CUDA declarations and the stand-ins for a build without CUDA are made from this list.
#define SLEEPTOOLS_OPS(OP) \
  OP(modal_se, ModalSe)    \
  OP(two_stream_conv, TwoStreamConv)
