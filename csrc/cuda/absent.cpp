// Stands in for the .cu files in a build without a CUDA compiler.
#include "device.h"

namespace sleeptools::cuda {

std::vector<std::string> architectures() { return {}; }
std::vector<std::string> devices() { return {}; }
std::string obstacle(int) { return "the native core was compiled without CUDA"; }

#define SLEEPTOOLS_ABSENT(name, Op)                                         \
  void name(const Op&, int, void*) {                                        \
    throw Unavailable(#name ": the native core was compiled without CUDA"); \
  }
SLEEPTOOLS_OPS(SLEEPTOOLS_ABSENT)

}  // namespace sleeptools::cuda
