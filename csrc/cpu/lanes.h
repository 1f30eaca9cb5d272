// Rows of maps, a vector of neighbouring maps at a time.
#pragma once

#include "strided_rows.h"
#include "transpose.h"

namespace sleeptools::SLEEPTOOLS_VARIANT {

// Some neighbouring maps of a row: all lanes of a vector, or the first few where the row ends.
struct WholeLanes {
  static constexpr int64_t count = kLanes;

  Vec read(const float* p) const { return load<Vec>(p); }
  void write(float* p, Vec v) const { store(p, v); }
};

struct SomeLanes {
  int64_t count;

  Vec read(const float* p) const { return load_some(p, count); }
  void write(float* p, Vec v) const { store_some(p, v, count); }
};

// Calls work(first map, lanes) until all maps have had their turn.
template <class Work>
SLEEPTOOLS_INLINE void for_maps(int64_t maps, const Work& work) {
  int64_t map = 0;
  for (; map + kLanes <= maps; map += kLanes) work(map, WholeLanes{});
  if (map < maps) work(map, SomeLanes{maps - map});
}

}  // namespace sleeptools::SLEEPTOOLS_VARIANT
