// On a GPU sleeptools.models.ops.separable_blocks runs its reference; as for conv_block.cu.
#include "device.h"

namespace sleeptools::cuda {

void separable_blocks(const SeparableBlocks&, int, void*) {
  throw Unavailable("separable_blocks: not written for CUDA");
}

void separable_blocks_backward(const SeparableBlocksBackward&, int, void*) {
  throw Unavailable("separable_blocks_backward: not written for CUDA");
}

}  // namespace sleeptools::cuda
