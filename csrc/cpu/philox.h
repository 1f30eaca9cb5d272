// Philox 4x32-10, the counter-based random generator of Salmon, Moraes, Dror and Shaw ("Parallel
// random numbers: as easy as 1, 2, 3", SC 2011): a number depends on the seed and its place alone,
// so the backward pass, any number of threads and a GPU draw the same.
#pragma once

#include "variant.h"

namespace sleeptools::SLEEPTOOLS_VARIANT {

using Wide = uint64_t __attribute__((vector_size(sizeof(float) * kLanes)));

// Products of the lower halves.
SLEEPTOOLS_INLINE Wide multiply_low_halves(Wide a, Wide b) {
#if defined(__AVX512F__)
  return (Wide)_mm512_mul_epu32((__m512i)a, (__m512i)b);
#elif defined(__AVX2__)
  return (Wide)_mm256_mul_epu32((__m256i)a, (__m256i)b);
#elif defined(__x86_64__)
  return (Wide)_mm_mul_epu32((__m128i)a, (__m128i)b);
#else
  return (a & 0xffffffffu) * (b & 0xffffffffu);
#endif
}

struct Product {
  Bits high, low;
};

SLEEPTOOLS_INLINE Product full_product(Bits a, uint32_t factor) {
  const Wide factors = Wide{} + factor, lower = Wide{} + 0xffffffffu;
  const Wide even = multiply_low_halves((Wide)a, factors);
  const Wide odd = multiply_low_halves((Wide)a >> 32, factors);
  return {(Bits)(even >> 32 | (odd & ~lower)), (Bits)((even & lower) | odd << 32)};
}

// Four random words for each lane's counter, in place.
SLEEPTOOLS_INLINE void philox(Bits (&counter)[4], uint64_t seed) {
  uint32_t key0 = static_cast<uint32_t>(seed), key1 = static_cast<uint32_t>(seed >> 32);
  for (int round = 0; round < 10; ++round) {
    const Product first = full_product(counter[0], 0xD2511F53u);
    const Product second = full_product(counter[2], 0xCD9E8D57u);
    counter[0] = second.high ^ counter[1] ^ key0;
    counter[1] = second.low;
    counter[2] = first.high ^ counter[3] ^ key1;
    counter[3] = first.low;
    key0 += 0x9E3779B9u;
    key1 += 0xBB67AE85u;
  }
}

}  // namespace sleeptools::SLEEPTOOLS_VARIANT
