// The warp's instructions of ptx.cuh by their definitions in NVIDIA's manual of PTX, section
// "Warp Level Matrix Instructions": of lane 4 g + t, a is
//   rows g, g + 8, g, g + 8 with columns 2 t, 2 t, 2 t + 8, 2 t + 8 and the next one,
// b the rows 2 t, 2 t + 8 and the next one of column g, and d
//   rows g, g, g + 8, g + 8 with columns 2 t, 2 t + 1, 2 t, 2 t + 1.
#include <cstring>

#include "emulator.h"

namespace emulator {
namespace {

float low(uint32_t pair) {
  const uint32_t word = pair << 16;
  float value;
  std::memcpy(&value, &word, sizeof value);
  return value;
}

float half(uint32_t pair, int which) { return low(which ? pair >> 16 : pair); }

// Words of a lane: a from 0 on, b from 4 on.
float left(const Given& given, int row, int k) {
  return half(given[row % 8 * 4 + k % 8 / 2][row / 8 + k / 8 * 2], k % 2);
}

float right(const Given& given, int k, int column) {
  return half(given[column * 4 + k % 8 / 2][4 + k / 8], k % 2);
}

}  // namespace

// Sums are those of doubles; a device rounds, or cuts off, in other places.
void multiply_m16n8k16(float* d, const uint32_t* a, const uint32_t* b, int line) {
  uint32_t words[6];
  std::memcpy(words, a, 4 * sizeof *a);
  std::memcpy(words + 4, b, 2 * sizeof *b);
  const Given& given = gather(words, 6, "mma", line);
  const int group = lane() / 4, two = lane() % 4 * 2;
  for (int i = 0; i < 4; ++i) {
    double sum = d[i];
    for (int k = 0; k < 16; ++k) {
      sum += static_cast<double>(left(given, group + i / 2 * 8, k)) * right(given, k, two + i % 2);
    }
    d[i] = static_cast<float>(sum);
  }
}

// Row r of matrix i is where lane 8 i + r says; the lane that gets two numbers is who reads them.
void load_matrices(uint32_t* out, int count, const void* row, bool turned, int line) {
  const void* const code = __builtin_return_address(0);
  if (lane() < 8 * count) check_shared(row, "ldmatrix");
  const auto address = reinterpret_cast<uintptr_t>(row);
  const uint32_t words[] = {static_cast<uint32_t>(address), static_cast<uint32_t>(address >> 32)};
  const Given& given = gather(words, 2, "ldmatrix", line);
  const int group = lane() / 4, two = lane() % 4 * 2;
  for (int i = 0; i < count; ++i) {
    for (int j = 0; j < 2; ++j) {
      const int from = turned ? two + j : group, column = turned ? group : two + j;
      const uint32_t* const said = given[8 * i + from];
      const uintptr_t start = said[0] | static_cast<uintptr_t>(said[1]) << 32;
      const uintptr_t mine = start + column * sizeof(uint16_t);
      access_from(mine, sizeof(uint16_t), kRead, code);
      std::memcpy(reinterpret_cast<uint16_t*>(out + i) + j, reinterpret_cast<const void*>(mine),
                  sizeof(uint16_t));
    }
  }
}

}  // namespace emulator
