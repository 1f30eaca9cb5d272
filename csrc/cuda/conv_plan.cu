// On a GPU sleeptools.models.ops.conv_plan runs its reference: cuDNN has the Tensor Cores.
#include "device.h"

namespace sleeptools::cuda {

void conv_plan(const ConvPlan&, int, void*) {
  throw Unavailable("conv_plan: not written for CUDA");
}

}  // namespace sleeptools::cuda
