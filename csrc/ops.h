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

}  // namespace sleeptools

// Dispatch, CUDA declarations and the stand-ins for a build without CUDA are made from this list.
#define SLEEPTOOLS_OPS(OP) OP(modal_se, ModalSe)
