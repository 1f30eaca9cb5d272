// Random words as the CPU draws them; see cpu/philox.h.
#pragma once

#include <cstdint>

namespace sleeptools::cuda {

// Philox 4x32-10 of the counter (c0, c1, c2, 0).
__device__ inline void random_words(int64_t c0, int64_t c1, int64_t c2, uint64_t seed,
                                    uint32_t (&c)[4]) {
  c[0] = static_cast<uint32_t>(c0);
  c[1] = static_cast<uint32_t>(c1);
  c[2] = static_cast<uint32_t>(c2);
  c[3] = 0;
  uint32_t key0 = static_cast<uint32_t>(seed), key1 = static_cast<uint32_t>(seed >> 32);
#pragma unroll
  for (int round = 0; round < 10; ++round) {
    const uint32_t high0 = __umulhi(c[0], 0xD2511F53u), low0 = c[0] * 0xD2511F53u;
    const uint32_t high1 = __umulhi(c[2], 0xCD9E8D57u), low1 = c[2] * 0xCD9E8D57u;
    c[0] = high1 ^ c[1] ^ key0;
    c[1] = low1;
    c[2] = high0 ^ c[3] ^ key1;
    c[3] = low0;
    key0 += 0x9E3779B9u;
    key1 += 0xBB67AE85u;
  }
}

// A layer's seed for one of the tasks whose seeds are on the device; its own where none are.
__device__ inline uint64_t drawn_seed(uint64_t seed, const int64_t* seeds, int64_t task) {
  return seeds ? static_cast<uint64_t>(seeds[task]) + seed : seed;
}

// One of them.
__device__ inline uint32_t random_word(int64_t c0, int64_t c1, int64_t c2, int64_t word,
                                       uint64_t seed) {
  uint32_t c[4];
  random_words(c0, c1, c2, seed, c);
  const uint32_t low = word % 2 ? c[1] : c[0], high = word % 2 ? c[3] : c[2];
  return word < 2 ? low : high;  // an index known late would cost memory
}

// What is kept grows by this.
__device__ inline float dropout_scale(uint32_t drop_below) {
  return static_cast<float>(4294967296.0 / (4294967296.0 - drop_below));
}

// By what dropout multiplies.
__device__ inline float dropout_factor(uint32_t word, uint32_t drop_below) {
  const float scale = dropout_scale(drop_below);
  return word < drop_below ? 0.0f : scale;
}

// By what it multiplies a map at a step.
__device__ inline float dropout_factor(int64_t map, int64_t step, int64_t epoch,
                                       uint32_t drop_below, uint64_t seed) {
  return dropout_factor(random_word(map, step / 4, epoch, step % 4, seed), drop_below);
}

}  // namespace sleeptools::cuda
