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

// Feed-forward block of a Transformer layer: out = w2 drop(relu(w1 x + b1)) + b2 for every row of
// x. Dropout sets a hidden unit to zero where its random word (cpu/dropout.h) is below drop_below
// and scales the others up; drop_below is the probability times 2^32.
struct FeedForward {
  static constexpr int64_t kHiddenAtOnce = 128;  // units of the hidden layer that exist at a time
  static constexpr int64_t kMaxBlock = 32;       // rows that the CPU takes through both layers

  // Floats of workspace for each thread: a block's rows in and out, and its part of the hidden
  // layer.
  static constexpr int64_t workspace_floats(int64_t width) {
    constexpr int64_t kAlignment = 16;
    return (2 * width + kHiddenAtOnce) * kMaxBlock + kAlignment;
  }

  const float* x;                      // (rows, width)
  const void *w1, *w2;                 // (hidden, width), (width, hidden): float32; with bf16 set,
                                       // bfloat16 with both widths rounded up to even by zeros
  const float *b1, *b2;                // (hidden), (width)
  float* workspace;                    // CPU only: slots * workspace_floats(width)
  float* out;                          // as x; must not overlap it
  int64_t rows, width, hidden, slots;  // slots: threads that the workspace is enough for
  bool bf16;  // round x, both weights and the hidden layer to bfloat16; sums are float32
  uint32_t drop_below;
  uint64_t seed;
};

// Gradients of FeedForward in float32, from its inputs and the gradient of its output; CPU only.
struct FeedForwardBackward {
  static constexpr int64_t kHiddenAtOnce = FeedForward::kHiddenAtOnce;
  static constexpr int64_t kMaxBlock = FeedForward::kMaxBlock;

  static constexpr int64_t workspace_floats(int64_t rows, int64_t width) {
    return (rows + kMaxBlock) * (3 * width + 2 * kHiddenAtOnce);
  }

  const float *x, *grad;                // (rows, padded), zero from width on
  const float *w1, *b1;                 // (hidden, width), (hidden)
  const float *w1t, *w2t;               // (width, hidden), (hidden, width): transposed
  float* workspace;                     // workspace_floats(rows, width)
  float* d_x;                           // (rows, width)
  float *d_w1, *d_b1, *d_w2t;           // (hidden, padded), (hidden), (hidden, padded); added to
  int64_t rows, width, padded, hidden;  // padded: width rounded up to a multiple of kMaxBlock
  uint32_t drop_below;
  uint64_t seed;
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

// Second-order sections one after the other along every row, in float64; CPU only.
struct SectionFilter {
  static constexpr int kMaxSections = 16;

  float* x;                // (rows, samples); replaced by the result
  const double* sections;  // (count, 5): b0 b1 b2 a1 a2, in transposed direct form II
  const double* steady;    // (count, 2): states after a constant 1 for ever; zeros from rest
  int64_t rows, samples, count;
  int64_t memory;  // samples after which the states no longer show how they began
  bool backwards;  // from the last sample to the first
  bool from_rest;  // zeros before the first sample; otherwise its value for ever
};

// Polyphase resampling by up / down; CPU only.
struct Polyphase {
  static constexpr int kPanel = 16;  // `width` is a multiple of it, on every instruction set

  const float* x;     // (rows, padded): the input of output 0 starts at 0
  const float* taps;  // (up, width), each phase in the order of the input
  float* out;         // (rows, size)
  int64_t rows, padded, size, up, down, width;
};

}  // namespace sleeptools

// Dispatch, CUDA declarations and the stand-ins for a build without CUDA are made from this list.
#define SLEEPTOOLS_OPS(OP)                       \
  OP(modal_se, ModalSe)                          \
  OP(feed_forward, FeedForward)                  \
  OP(feed_forward_backward, FeedForwardBackward) \
  OP(two_stream_conv, TwoStreamConv)             \
  OP(section_filter, SectionFilter)              \
  OP(polyphase, Polyphase)
