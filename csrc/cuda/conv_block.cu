// A convolution block in training is cuDNN's on a GPU: it has the Tensor Cores, and what is left to
// save on a CPU, a pass over memory for each layer, is small beside its products there.
// sleeptools.models.ops.conv_block runs its reference instead.
#include "device.h"

namespace sleeptools::cuda {

void conv_block(const ConvBlock&, int, void*) {
  throw Unavailable("conv_block: not written for CUDA");
}

void conv_block_backward(const ConvBlockBackward&, int, void*) {
  throw Unavailable("conv_block_backward: not written for CUDA");
}

}  // namespace sleeptools::cuda
