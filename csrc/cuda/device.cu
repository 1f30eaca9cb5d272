#include <sstream>

#include "launch.cuh"

namespace sleeptools::cuda {

namespace {

// Compiled as all kernels are, for the same architectures.
__global__ void nothing() {}

// Whether an error says that this machine or device cannot run the kernels. Every function that is
// launched here exists: an invalid one is one without code for the device.
bool is_unavailable(cudaError_t status) {
  switch (status) {
    case cudaErrorNoDevice:
    case cudaErrorInsufficientDriver:
    case cudaErrorCallRequiresNewerDriver:
    case cudaErrorInvalidDevice:
    case cudaErrorInvalidDeviceFunction:
    case cudaErrorNoKernelImageForDevice:
    case cudaErrorUnsupportedPtxVersion:
    case cudaErrorJitCompilerNotFound:
    case cudaErrorDevicesUnavailable:
    case cudaErrorSystemDriverMismatch:
    case cudaErrorCompatNotSupportedOnDevice:
      return true;
    default:
      return false;
  }
}

}  // namespace

void check(const char* name, cudaError_t status) {
  if (status == cudaSuccess) return;
  const std::string message = std::string(name) + ": " + cudaGetErrorString(status);
  if (is_unavailable(status)) throw Unavailable(message);
  throw std::runtime_error(message);
}

std::string obstacle(int device) {
  cudaError_t status = cudaSetDevice(device);
  cudaFuncAttributes attributes;
  if (status == cudaSuccess) status = cudaFuncGetAttributes(&attributes, nothing);
  cudaGetLastError();  // the next launch, maybe on another device, is not to find it
  if (status == cudaSuccess) return "";
  if (is_unavailable(status)) return cudaGetErrorString(status);
  throw std::runtime_error(std::string("CUDA device: ") + cudaGetErrorString(status));
}

std::vector<std::string> architectures() {
  std::istringstream words(SLEEPTOOLS_CUDA_ARCHITECTURES);
  std::vector<std::string> names;
  for (std::string word; words >> word;) names.push_back("sm_" + word);
  return names;
}

std::vector<std::string> devices() {
  int count = 0;
  if (cudaGetDeviceCount(&count) != cudaSuccess) return {};
  std::vector<std::string> names;
  for (int i = 0; i < count; ++i) {
    cudaDeviceProp properties;
    if (cudaGetDeviceProperties(&properties, i) == cudaSuccess) names.push_back(properties.name);
  }
  return names;
}

}  // namespace sleeptools::cuda
