// Dropout on its own, for what no other op does it in passing.
#include "dropout.h"

#include "lanes.h"

namespace sleeptools::SLEEPTOOLS_VARIANT {
namespace {

void drop_epoch(const Dropout& op, int64_t epoch) {
  const float* x = op.x + epoch * op.steps * op.maps;
  float* out = op.out + epoch * op.steps * op.maps;
  for (int64_t first = 0; first < op.steps; first += kDrawn) {
    for_maps(op.maps, [&](int64_t map, auto lanes) {
      Bits words[kDrawn];
      draw(words, epoch, first, map, op.seed);
      for (int64_t t = first; t < smaller(op.steps, first + kDrawn); ++t) {
        const Vec value = lanes.read(x + t * op.maps + map);
        lanes.write(out + t * op.maps + map, dropped(value, words[t - first], op.drop_below));
      }
    });
  }
}

}  // namespace

void dropout(const Dropout& op, int threads) {
#pragma omp parallel for num_threads(threads) if (threads > 1) schedule(static)
  for (int64_t b = 0; b < op.batch; ++b) drop_epoch(op, b);
}

}  // namespace sleeptools::SLEEPTOOLS_VARIANT
