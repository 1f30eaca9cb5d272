// Matrix products on the tile registers of AMX: eight of 16 rows by 64 bytes. One instruction
// multiplies 16 rows of 32 bfloat16 by 32 x 16 and adds to 16 x 16 float32; the right operand has
// two neighbouring rows joined, value by value, which is how bfloat16 weights are packed here.
//
// A thread configures its tiles (`TileScope`) before a product and lets them go after its task, for
// other code on the thread has its own configuration.
#pragma once

#include "variant.h"

namespace sleeptools::SLEEPTOOLS_VARIANT {

constexpr int kTileRows = 16;   // of a tile, and its columns of float32
constexpr int kTileDepth = 32;  // bfloat16 in a row of a left operand
constexpr int kTileBytes = 64;  // of a row

#if defined(__AMX_BF16__)

class TileScope {
 public:
  TileScope() {
    struct alignas(64) {
      uint8_t palette = 1, start = 0, reserved[14] = {};
      uint16_t bytes[16] = {};
      uint8_t rows[16] = {};
    } shape;
    for (int tile = 0; tile < 8; ++tile)
      shape.bytes[tile] = kTileBytes, shape.rows[tile] = kTileRows;
    asm volatile("ldtilecfg %0" ::"m"(shape));
  }
  ~TileScope() { asm volatile("tilerelease"); }
  TileScope(const TileScope&) = delete;
  TileScope& operator=(const TileScope&) = delete;
};

// The compiler knows nothing of tiles: their numbers are part of the text of an instruction, and
// "memory" keeps loads behind the stores of what they load.
#define SLEEPTOOLS_TILE_ZERO(tile) asm volatile("tilezero %%tmm" #tile::: "memory")
#define SLEEPTOOLS_TILE_LOAD(tile, base, stride) \
  asm volatile("tileloadd (%0,%1,1), %%tmm" #tile::"r"(base), "r"(stride) : "memory")
#define SLEEPTOOLS_TILE_STORE(tile, base, stride) \
  asm volatile("tilestored %%tmm" #tile ", (%0,%1,1)" ::"r"(base), "r"(stride) : "memory")
#define SLEEPTOOLS_TILE_DOT(sum, left, right) \
  asm volatile("tdpbf16ps %%tmm" #right ", %%tmm" #left ", %%tmm" #sum::: "memory")

// A matrix in memory for a product: from a row to the next, to the next tile of rows or columns,
// and to the next kTileDepth of the sum, all in bytes.
struct TileSource {
  const void* start;
  int64_t row, tile, depth;

  const char* at(int64_t which, int64_t step) const {
    return static_cast<const char*>(start) + which * tile + step * depth;
  }
};

struct TileTarget {
  float* start;
  int64_t row, down, across;  // bytes

  char* at(int64_t d, int64_t a) const {
    return reinterpret_cast<char*>(start) + d * down + a * across;
  }
};

// Down x Across tiles (1 or 2 each) of left times right, `steps` times kTileDepth deep.
template <int Down, int Across>
void tile_product(TileSource left, TileSource right, int64_t steps, TileTarget out) {
  SLEEPTOOLS_TILE_ZERO(0);
  if constexpr (Across > 1) SLEEPTOOLS_TILE_ZERO(1);
  if constexpr (Down > 1) SLEEPTOOLS_TILE_ZERO(2);
  if constexpr (Down > 1 && Across > 1) SLEEPTOOLS_TILE_ZERO(3);
  for (int64_t s = 0; s < steps; ++s) {
    SLEEPTOOLS_TILE_LOAD(4, left.at(0, s), left.row);
    SLEEPTOOLS_TILE_LOAD(6, right.at(0, s), right.row);
    SLEEPTOOLS_TILE_DOT(0, 4, 6);
    if constexpr (Across > 1) {
      SLEEPTOOLS_TILE_LOAD(7, right.at(1, s), right.row);
      SLEEPTOOLS_TILE_DOT(1, 4, 7);
    }
    if constexpr (Down > 1) {
      SLEEPTOOLS_TILE_LOAD(5, left.at(1, s), left.row);
      SLEEPTOOLS_TILE_DOT(2, 5, 6);
      if constexpr (Across > 1) SLEEPTOOLS_TILE_DOT(3, 5, 7);
    }
  }
  SLEEPTOOLS_TILE_STORE(0, out.at(0, 0), out.row);
  if constexpr (Across > 1) SLEEPTOOLS_TILE_STORE(1, out.at(0, 1), out.row);
  if constexpr (Down > 1) SLEEPTOOLS_TILE_STORE(2, out.at(1, 0), out.row);
  if constexpr (Down > 1 && Across > 1) SLEEPTOOLS_TILE_STORE(3, out.at(1, 1), out.row);
}

#else

struct TileScope {
  TileScope() {}
};

#endif

}  // namespace sleeptools::SLEEPTOOLS_VARIANT
