// csrc/cuda/ptx.cuh for the emulator; instructions.cpp and memory.cpp run it.
#pragma once

#include "emulator.h"

namespace sleeptools::cuda {

inline void mma_m16n8k16(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2],
                         int line = __builtin_LINE()) {
  emulator::multiply_m16n8k16(d, a, b, line);
}

inline void ldmatrix_x4(uint32_t (&d)[4], const void* row, int line = __builtin_LINE()) {
  emulator::load_matrices(d, 4, row, false, line);
}

inline void ldmatrix_x4_trans(uint32_t (&d)[4], const void* row, int line = __builtin_LINE()) {
  emulator::load_matrices(d, 4, row, true, line);
}

inline void cp_async(void* shared, const void* global, unsigned bytes) {
  emulator::copy_async(shared, global, bytes);
}

inline void cp_async_commit() { emulator::commit_copies(); }

template <int kPending>
void cp_async_wait() {
  emulator::wait_for_copies(kPending);
}

}  // namespace sleeptools::cuda
