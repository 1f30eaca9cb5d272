// Instructions that C++ has no words for, a function each, named as in NVIDIA's "Parallel Thread
// Execution ISA" (sections mma, ldmatrix, cp.async), which has the layouts. All need sm_80. Those
// of a warp must be reached by all its lanes together.
#pragma once

#include <cstdint>

namespace sleeptools::cuda {

// d += a b for a (16, 16), b (16, 8) in bfloat16 and d (16, 8). With g = lane / 4 and t = lane % 4,
// each word a pair of neighbours in the depth, which begins at 2 t or 2 t + 8:
//   a: row g, row g + 8, then both from 2 t + 8 on;  b: column g, from 2 t and from 2 t + 8 on;
//   d: columns 2 t and 2 t + 1 of row g, then of row g + 8.
__device__ inline void mma_m16n8k16(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]) {
  asm volatile(
      "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, "
      "{%8, %9}, {%0, %1, %2, %3};"
      : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}

__device__ inline uint32_t shared_address(const void* shared) {
  return static_cast<uint32_t>(__cvta_generic_to_shared(shared));
}

// Matrices of 8 x 8 numbers of 16 bits from shared memory: row r of matrix i lies where lane 8 i +
// r says, 16 bytes on a multiple of 16. Lane 4 g + t gets numbers 2 t and 2 t + 1 of row g of each.
__device__ inline void ldmatrix_x4(uint32_t (&d)[4], const void* row) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
               : "=r"(d[0]), "=r"(d[1]), "=r"(d[2]), "=r"(d[3])
               : "r"(shared_address(row))
               : "memory");
}

// The same, each matrix turned: lane 4 g + t gets its numbers 2 t and 2 t + 1 of column g.
__device__ inline void ldmatrix_x4_trans(uint32_t (&d)[4], const void* row) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
               : "=r"(d[0]), "=r"(d[1]), "=r"(d[2]), "=r"(d[3])
               : "r"(shared_address(row))
               : "memory");
}

// 16 bytes to shared memory, the first `bytes` of them from global memory and the rest zeros; both
// addresses are multiples of 16. They are there when the thread has waited for them, and for others
// after a barrier.
__device__ inline void cp_async(void* shared, const void* global, unsigned bytes) {
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;"
               :
               : "r"(shared_address(shared)), "l"(global), "r"(bytes)
               : "memory");
}

// Makes a group of the thread's copies since the last one.
__device__ inline void cp_async_commit() { asm volatile("cp.async.commit_group;" ::: "memory"); }

// Waits for all groups but the last kPending.
template <int kPending>
__device__ inline void cp_async_wait() {
  asm volatile("cp.async.wait_group %0;" ::"n"(kPending) : "memory");
}

}  // namespace sleeptools::cuda
