#include <sstream>

#include "launch.cuh"

namespace sleeptools::cuda {

void check(const char* name, cudaError_t status) {
  if (status == cudaSuccess) return;
  const std::string message = std::string(name) + ": " + cudaGetErrorString(status);
  switch (status) {
    case cudaErrorNoDevice:
    case cudaErrorInsufficientDriver:
    case cudaErrorInvalidDevice:
    case cudaErrorNoKernelImageForDevice:
    case cudaErrorDevicesUnavailable:
    case cudaErrorSystemDriverMismatch:
    case cudaErrorCompatNotSupportedOnDevice:
      throw Unavailable(message);
    default:
      throw std::runtime_error(message);
  }
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
