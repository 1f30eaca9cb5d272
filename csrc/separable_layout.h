// Where SeparableBlocks and its gradients keep things, and how much memory they need.
//
// Signals go through the blocks in groups, a signal in each vector lane. In `maps`, a vector is a
// step of a map of a group; the maps of a step lie side by side, and before and after the steps of
// a signal are `margin` steps of zeros. There are the signals themselves and the outputs of all
// units but the first, which costs less to compute again, and the last. `marks` has a word for each
// pool, whose lower half says in which lanes its first step has a gradient, the upper half in which
// the second has; and where there is dropout, a word for each output of a block, whose lower half
// says in which lanes it is kept.
//
// BatchNorm's statistics of a unit are those of its depthwise results through the pointwise matrix:
// mean W m and variances diag(W C W^T). So the means m and covariances C of the depthwise results
// are all that has to be gathered before a unit can run to its pool in one go, and the products of
// its gradients with them all that has to be gathered on the way back. The first unit has one map,
// whose shifted copies (`taps`) stand for its depthwise results.
#pragma once

#include "ops.h"

#ifdef SLEEPTOOLS_VARIANT  // no CPU variant may run another one's copy (cpu/variant.h)
namespace sleeptools::SLEEPTOOLS_VARIANT {
#else
namespace sleeptools {
#endif

struct SeparableUnit {
  int64_t inputs, outputs, steps, pooled;  // time steps before and after the pool
  int64_t taps;                            // depthwise results as its statistics see them
  int64_t kernel;                          // length of the depthwise convolution
  int64_t weights;                         // start in the weights
  int64_t maps;     // start of its input in a group's maps, in vectors; not of the second unit
  int64_t marks;    // start in a group's marks, in words
  int64_t moments;  // start in the moments
  int64_t norm;     // start in mean and variance
  int64_t folded;   // start in the folded weights: centre (inputs), matrix (inputs, outputs)
  int64_t grads;    // start of the gradient of its output in a group's, in vectors

  // Places of the weights.
  int64_t pointwise() const { return weights + inputs * kernel; }
  int64_t bias() const { return pointwise() + inputs * outputs; }
  int64_t gamma() const { return bias() + outputs; }
  int64_t beta() const { return gamma() + outputs; }

  // Pools that a thread takes together: a multiple of the steps that dropout draws for, and few
  // enough for their inputs and outputs to stay in the innermost cache.
  int64_t pairs() const {
    constexpr int64_t kDrawn = 4, kVectors = 256;
    const int64_t fit = kVectors / (taps + outputs) / kDrawn * kDrawn;
    return fit < kDrawn ? kDrawn : fit;
  }
};

struct SeparableLayout {
  static constexpr int64_t kAlignment = 16;

  int64_t units, margin, lanes;
  SeparableUnit unit[SeparableBlocks::kMaxUnits];
  int64_t shortcut[SeparableBlocks::kMaxBlocks];  // starts in the weights
  int64_t drops[SeparableBlocks::kMaxBlocks];     // starts in a group's marks
  int64_t vectors, words, norms, folded, grads;   // sizes: of a group's maps, a group's marks, ...
  int64_t widest;                                 // maps of any step
  int64_t rows;     // vectors of some steps of a unit, its inputs beside its outputs
  int64_t first;    // vectors of the first unit's output for some steps of the second
  int64_t sums;     // vectors of products summed over time
  int64_t partial;  // floats of a group's sums
  int64_t back;     // floats of the matrices that take a unit's gradients back, see backward.cpp

  SeparableLayout(const SeparableBlocks& op, int64_t lanes) : lanes(lanes) {
    units = 2 * op.blocks;
    margin = op.kernel / 2;
    vectors = op.samples + 2 * margin;
    words = norms = folded = grads = rows = sums = partial = back = 0;
    widest = 1;
    int64_t weight = 0, moment = 0, inputs = 1, steps = op.samples;
    for (int64_t k = 0; k < units; ++k) {
      const int64_t outputs = op.widths[k / 2], pooled = (steps + 1) / 2;
      const int64_t taps = k == 0 ? op.kernel : inputs;
      SeparableUnit& u = unit[k];
      u = {inputs, outputs, steps,  pooled, taps,   op.kernel, weight,
           0,      words,   moment, norms,  folded, grads};
      if (k > 1) {
        u.maps = vectors;
        vectors += inputs * (steps + 2 * margin);
      }
      weight = u.beta() + outputs;
      moment += taps * (taps + 1);
      norms += outputs;
      words += outputs * pooled;
      folded += inputs * (outputs + 1);
      if (k > 0) grads += outputs * pooled;
      const int64_t block_inputs = k % 2 == 0 ? inputs : unit[k - 1].inputs;
      if (k % 2 == 1) {
        shortcut[k / 2] = weight;
        weight += (block_inputs + 1) * outputs;
        drops[k / 2] = words;
        if (op.drop_below > 0) words += outputs * pooled;
      }
      widest = larger(widest, larger(taps, outputs));
      rows = larger(rows, 2 * u.pairs() * apart(taps + outputs));
      const int64_t products = (outputs + taps) * (taps + 1) + (block_inputs + 1) * outputs;
      sums = larger(sums, products);
      partial = larger(partial, products + widest * op.kernel + 2 * taps);
      back = larger(back, (inputs + 2 * outputs + 2 + op.kernel) * inputs);
      inputs = outputs;
      steps = pooled;
    }
    first = (2 * unit[1].pairs() + 2 * margin) * apart(unit[0].outputs);
  }

  // Vectors from a step of some maps to the next in a thread's slot: not the same cache sets, so
  // that what is written does not look like what is to be read.
  static int64_t apart(int64_t maps) { return maps % 8 == 0 ? maps + 4 : maps; }

  static int64_t larger(int64_t a, int64_t b) { return a > b ? a : b; }

  static int64_t whole(int64_t floats) {
    return (floats + kAlignment - 1) / kAlignment * kAlignment;
  }

  // Groups of any variant: as many lanes in all as of the widest.
  int64_t groups(const SeparableBlocks& op) const {
    constexpr int64_t kMost = SeparableBlocks::kSignals;
    return (op.signals + kMost - 1) / kMost * (kMost / lanes);
  }

  // Steps that are in memory together, and those around them that a kernel sees.
  int64_t steps() const { return rows / 2 + 3 * margin + 2; }

  // Floats of a thread's slot; see Slot in cpu/separable_blocks.h.
  int64_t slot_floats(int64_t kernel) const {
    const int64_t around = rows + 3 * first + 2 + 2 * steps() * apart(widest);
    return whole((around + sums + widest * (kernel + 2)) * lanes);
  }

  // The folded weights, a matrix back, the sums of all groups, of any variant, and of the batch.
  int64_t shared_floats(const SeparableBlocks& op) const {
    constexpr int64_t kMost = SeparableBlocks::kSignals, kLeastLanes = 4;
    const int64_t most = (op.signals + kMost - 1) / kMost * (kMost / kLeastLanes);
    return whole(folded) + whole(back) + most * whole(partial) + whole(partial);
  }

  int64_t workspace_floats(const SeparableBlocks& op) const {
    return shared_floats(op) + op.slots * slot_floats(op.kernel) + kAlignment;
  }

  // With the gradients of the units' outputs.
  int64_t backward_floats(const SeparableBlocks& op) const {
    return workspace_floats(op) + groups(op) * grads * lanes;
  }
};

}  // namespace
