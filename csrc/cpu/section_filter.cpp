// Second-order sections along rows, in float64. A recursion has nothing to do in parallel along
// time, so kWide stretches run side by side, one a lane: rows of their own, or parts of one long
// row, each begun `memory` samples early, after which it no longer matters how it was begun.
#include "variant.h"

namespace sleeptools::SLEEPTOOLS_VARIANT {
namespace {

constexpr int kWide = 16;       // lanes: independent chains enough to hide an FMA's latency
constexpr int64_t kSteps = 64;  // that are read, filtered and written at once, in L1
using Wide = double __attribute__((vector_size(sizeof(double) * kWide)));

// What a lane answers for: [first, last) of a row, counted in the direction of the run.
struct Lane {
  float* row;
  int64_t first, last;
};

SLEEPTOOLS_INLINE int64_t least(int64_t a, int64_t b) { return a < b ? a : b; }
SLEEPTOOLS_INLINE int64_t most(int64_t a, int64_t b) { return a > b ? a : b; }

SLEEPTOOLS_INLINE float* at(const SectionFilter& op, float* row, int64_t i) {
  return op.backwards ? row + (op.samples - 1 - i) : row + i;
}

// Samples from position i on into one lane; before the first one its value counts as having been
// for ever, or zero where the run starts from rest.
void read(const SectionFilter& op, const Lane& lane, int64_t i, int64_t steps, double* to) {
  const double before = op.from_rest ? 0.0 : *at(op, lane.row, 0);
  const int64_t stride = op.backwards ? -1 : 1;
  int64_t t = 0;
  for (; t < steps && i + t < 0; ++t) to[t * kWide] = before;
  const int64_t stop = least(steps, op.samples - i);
  const float* from = at(op, lane.row, i + t);
  for (; t < stop; ++t, from += stride) to[t * kWide] = *from;
  for (; t < steps; ++t) to[t * kWide] = 0.0;
}

void write(const SectionFilter& op, const Lane& lane, int64_t i, int64_t steps, const double* y) {
  const int64_t stride = op.backwards ? -1 : 1;
  int64_t t = most(0, lane.first - i);
  const int64_t stop = least(steps, lane.last - i);
  if (t >= stop) return;
  float* to = at(op, lane.row, i + t);
  for (; t < stop; ++t, to += stride) *to = static_cast<float>(y[t * kWide]);
}

// One section over a block, in transposed direct form II.
SLEEPTOOLS_INLINE void section(const double* c, Wide* state, Wide* block, int64_t steps) {
  Wide z0 = state[0], z1 = state[1];
  const double b0 = c[0], b1 = c[1], b2 = c[2], a1 = c[3], a2 = c[4];
  for (int64_t t = 0; t < steps; ++t) {
    const Wide x = block[t];
    const Wide y = b0 * x + z0;
    z0 = (b1 * x + z1) - a1 * y;
    z1 = b2 * x - a2 * y;
    block[t] = y;
  }
  state[0] = z0, state[1] = z1;
}

void run(const SectionFilter& op, const Lane* lanes, int64_t early) {
  Wide block[kSteps], state[SectionFilter::kMaxSections][2];
  double* const flat = reinterpret_cast<double*>(block);
  int64_t total = 0;
  for (int l = 0; l < kWide; ++l) total = most(total, early + lanes[l].last - lanes[l].first);
  for (int64_t t = 0; t < total; t += kSteps) {
    const int64_t steps = least(kSteps, total - t);
    for (int l = 0; l < kWide; ++l) read(op, lanes[l], lanes[l].first - early + t, steps, flat + l);
    for (int64_t s = 0; t == 0 && s < op.count; ++s) {
      for (int k = 0; k < 2; ++k) state[s][k] = op.steady[2 * s + k] * block[0];
    }
    for (int64_t s = 0; s < op.count; ++s) section(op.sections + 5 * s, state[s], block, steps);
    for (int l = 0; l < kWide; ++l)
      write(op, lanes[l], lanes[l].first - early + t, steps, flat + l);
  }
}

// Rows side by side, kWide at a time; lanes without a row repeat the last one and write nothing.
void run_rows(const SectionFilter& op) {
  for (int64_t row = 0; row < op.rows; row += kWide) {
    Lane lanes[kWide];
    for (int64_t l = 0; l < kWide; ++l) {
      const bool idle = row + l >= op.rows;
      lanes[l] = {op.x + (idle ? op.rows - 1 : row + l) * op.samples, 0, idle ? 0 : op.samples};
    }
    run(op, lanes, 0);
  }
}

// Parts of one row side by side. In place: a lane reads ahead of its part before the lane there
// writes, because all lanes keep step.
void run_parts(const SectionFilter& op, int64_t row) {
  const int64_t part = (op.samples + kWide - 1) / kWide;
  Lane lanes[kWide];
  for (int64_t l = 0; l < kWide; ++l) {
    const int64_t first = least(l * part, op.samples);
    lanes[l] = {op.x + row * op.samples, first, least(first + part, op.samples)};
  }
  run(op, lanes, op.memory);
}

}  // namespace

void section_filter(const SectionFilter& op, int) {
  if (op.rows >= kWide || op.samples < kWide * op.memory) return run_rows(op);
  for (int64_t row = 0; row < op.rows; ++row) run_parts(op, row);
}

}  // namespace sleeptools::SLEEPTOOLS_VARIANT
