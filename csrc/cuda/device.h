// The CUDA side as plain C++ sees it: no CUDA header, so that bindings.cpp compiles without them.
#pragma once

#include <stdexcept>
#include <string>
#include <vector>

#include "../ops.h"

namespace sleeptools::cuda {

// No device, no driver, or none of the compiled architectures fits. Other CUDA errors are
// std::runtime_error: they are bugs.
struct Unavailable : std::runtime_error {
  using std::runtime_error::runtime_error;
};

// Compiled architectures, for example {"sm_80", "sm_90"}; empty in a build without CUDA.
std::vector<std::string> architectures();

// Names of the devices of this machine; empty where there is none.
std::vector<std::string> devices();

// Why the kernels cannot run on device number `device`, empty if they can; an error that says
// nothing about the device is thrown. It launches nothing.
std::string obstacle(int device);

// Each op enqueues itself on `stream` (a cudaStream_t) of device number `device` and returns.
#define SLEEPTOOLS_DECLARE_CUDA(name, Op) void name(const Op&, int device, void* stream);
SLEEPTOOLS_OPS(SLEEPTOOLS_DECLARE_CUDA)
#undef SLEEPTOOLS_DECLARE_CUDA

}  // namespace sleeptools::cuda
