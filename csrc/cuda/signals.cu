// Signals are prepared on the CPU, one recording a core; scores are made into probabilities there.
#include "device.h"

namespace sleeptools::cuda {

void section_filter(const SectionFilter&, int, void*) {
  throw Unavailable("section_filter: not written for CUDA");
}

void polyphase(const Polyphase&, int, void*) {
  throw Unavailable("polyphase: not written for CUDA");
}

void hypnodensity(const Hypnodensity&, int, void*) {
  throw Unavailable("hypnodensity: not written for CUDA");
}

}  // namespace sleeptools::cuda
