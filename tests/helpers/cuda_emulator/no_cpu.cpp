// Stands in for csrc/cpu in an emulated core: ops run on the device only.
#include <stdexcept>

#include "cpu/dispatch.h"

namespace sleeptools::cpu {
namespace {

template <class Op>
void refuse(const Op&, int) {
  throw std::logic_error("the emulated core has no kernels for the CPU");
}

#define EMULATOR_REFUSE(name, Op) refuse<Op>,
const Kernels kKernels = {"emulated", SLEEPTOOLS_OPS(EMULATOR_REFUSE)};
#undef EMULATOR_REFUSE

}  // namespace

const std::vector<Kernels>& variants() {
  static const std::vector<Kernels> one = {kKernels};
  return one;
}

const Kernels& kernels() { return kKernels; }
bool select(const std::string& name) { return name == kKernels.name; }
int threads(int64_t, int64_t) { return 1; }
void set_threads(int) {}
void set_threads_here(int) {}

}  // namespace sleeptools::cpu
