// Gradients of the feed-forward block, from its input alone: the hidden layer is made again. A task
// is a group of rows with sums of its own; the groups are the same for any number of threads and
// are joined in their order, so nothing depends on it. A group takes some rows at a time through
// all hidden units, a part of them after the other, so that what is made stays in L2: hidden units
// and their gradients, what these add to the gradient of x, and to those of their weights.
#include "dropout.h"
#include "lanes.h"
#include "rows.h"

namespace sleeptools::SLEEPTOOLS_VARIANT {
namespace {

constexpr int64_t kUnits = FeedForwardBackward::kHiddenAtOnce;
constexpr int64_t kRows = FeedForwardBackward::kRowsAtOnce;
constexpr int64_t kStride = FeedForwardBackward::kStride;

static_assert(kRows % kBlock == 0 && kUnits % 4 == 0 && kBlock <= FeedForwardBackward::kMaxBlock);

// A thread's part of the workspace. Rows are lanes in `x` and `grad`, packed for a product, in
// `d_x`, and in `unit` and `d_unit`; in the others they follow each other, as many to a unit of 32
// bits as the precision has it.
struct Slot {
  float *x, *grad, *d_x;      // (blocks, width, kBlock)
  float *x_rows, *grad_rows;  // (units of rows, padded)
  float *hidden, *d_hidden;   // (kUnits, kStride)
  float *unit, *d_unit;       // (kUnits, kBlock): of one block
  float* bias;                // (kUnits, kLanes)

  Slot(float* start, int64_t width, int64_t padded) {
    const auto next = [&](int64_t floats) {
      float* const part = start;
      start += floats;
      return part;
    };
    x = next(kRows * width);
    grad = next(kRows * width);
    d_x = next(kRows * width);
    x_rows = next(kRows * padded);
    grad_rows = next(kRows * padded);
    hidden = next(kUnits * kStride);
    d_hidden = next(kUnits * kStride);
    unit = next(kUnits * kBlock);
    d_unit = next(kUnits * kBlock);
    bias = next(kUnits * kLanes);
  }
};

// A group's sums.
struct GroupSums {
  float *d_w1, *d_w2t, *d_b1;  // (hidden, padded) twice, (hidden)

  GroupSums(const FeedForwardBackward& op, int64_t group) {
    d_w1 = op.workspace + group * FeedForwardBackward::group_floats(op.width, op.hidden);
    d_w2t = d_w1 + op.hidden * op.padded();
    d_b1 = d_w2t + op.hidden * op.padded();
  }
};

// out[m] = w[m] in for kBlock columns of `in`; kAdd adds that to what is there.
template <class P, bool kAdd>
struct WeightGradient {
  template <int M>
  static void run(const float* w, const float* in, int64_t step, int64_t units, float* out) {
    Sums<M> sums = {};
    multiply<P, M>(reinterpret_cast<const typename P::Unit*>(w), kStride, in, step, units, sums);
#pragma GCC unroll 16
    for (int m = 0; m < M; ++m, out += step) {
      for (int c = 0; c < kColumns; ++c) {
        if (kAdd) sums[m][c] += load<Vec>(out + c * kLanes);
        store(out + c * kLanes, sums[m][c]);
      }
    }
  }
};

// Rows of x, as many as there are, side by side in units: (units of rows, padded).
template <class P>
void read_units(const float* x, int64_t rows, int64_t width, int64_t padded, float* out) {
  for (int64_t r = 0; r < rows; r += P::kValues, out += padded) {
    for (int64_t j = width / kLanes * kLanes; j < padded; ++j) out[j] = 0.0f;
    for_maps(width, [&](int64_t j, auto lanes) {
      Vec values[P::kValues];
      for (int64_t i = 0; i < P::kValues; ++i) {
        values[i] = r + i < rows ? lanes.read(x + (r + i) * width + j) : Vec{};
      }
      store(out + j, P::pack(values));
    });
  }
}

// From a block's hidden units before their ReLU, and the gradients behind it, to what is kept of
// both, `count` units from `first` on. What is kept is not scaled.
template <class P>
void keep(const FeedForwardBackward& op, int64_t first, int64_t count, int64_t row,
          const Slot& slot, int64_t block) {
  constexpr int64_t kUnitsOfBlock = kBlock / P::kValues;
  for (int64_t u = 0; u < count; u += 4) {
    Bits words[kColumns][4];
    for (int c = 0; op.drop_below > 0 && c < kColumns; ++c) {
      draw_units(words[c], first + u, row + c * kLanes, op.seed);
    }
    for (int64_t i = 0; i < smaller(4, count - u); ++i) {
      float* const d_unit = slot.d_unit + (u + i) * kBlock;
      Vec unit[kColumns], gradient[kColumns];
      for (int c = 0; c < kColumns; ++c) {
        unit[c] = relu(load<Vec>(slot.unit + (u + i) * kBlock + c * kLanes));
        Bits stays = op.drop_below > 0 ? kept(words[c][i], op.drop_below) : ~Bits{};
        unit[c] = (Vec)((Bits)unit[c] & stays);
        stays &= (Bits)(unit[c] > Vec{});
        gradient[c] = (Vec)((Bits)load<Vec>(d_unit + c * kLanes) & stays);
        store(d_unit + c * kLanes, gradient[c]);
      }
      float* const bias = slot.bias + (u + i) * kLanes;
      store(bias, load<Vec>(bias) + gradient[0] + gradient[1]);
      const int64_t place = (u + i) * kStride + block * kUnitsOfBlock;
      P::write_row(slot.hidden + place, unit);
      P::write_row(slot.d_hidden + place, gradient);
    }
  }
}

// Units h to h + here of one block of rows, from `row` on.
template <class P>
void run_block(const FeedForwardBackward& op, const Slot& slot, int64_t row, int64_t block,
               int64_t h, int64_t here) {
  const int64_t width = op.width, stride = units_of<P>(width), tall = units_of<P>(op.hidden);
  const int64_t place = block * width * kBlock;
  const auto* w1 = static_cast<const typename P::Unit*>(op.w1) + h * stride;
  const auto* w2t = static_cast<const typename P::Unit*>(op.w2t) + h * stride;
  const auto* w1t = static_cast<const typename P::Unit*>(op.w1t) + h / P::kValues;
  affine<P>(here, w1, stride, op.b1 + h, slot.x + place, kBlock, stride, slot.unit, kBlock);
  affine<P>(here, w2t, stride, nullptr, slot.grad + place, kBlock, stride, slot.d_unit, kBlock);
  keep<P>(op, h, here, row + block * kBlock, slot, block);
  if constexpr (P::kValues > 1) pack_lines<P>(slot.d_unit, here, slot.d_unit);
  for (int64_t j = 0; j < width;) {
    j += some<P, Add<P>>(width - j, w1t + j * tall, tall, slot.d_unit, units_of<P>(here),
                         slot.d_x + place + j * kBlock);
  }
}

// What some rows, `units` of them, are to the gradients of units h to h + here, added or alone.
template <class P, bool kAdd>
void weights(const Slot& slot, const GroupSums& totals, int64_t padded, int64_t units, int64_t h,
             int64_t here) {
  for (int64_t j = 0; j < padded; j += kBlock) {
    for (int64_t i = 0; i < here;) {
      const int64_t out = (h + i) * padded + j, in = i * kStride;
      some<P, WeightGradient<P, kAdd>>(here - i, slot.d_hidden + in, slot.x_rows + j, padded, units,
                                       totals.d_w1 + out);
      i += some<P, WeightGradient<P, kAdd>>(here - i, slot.hidden + in, slot.grad_rows + j, padded,
                                            units, totals.d_w2t + out);
    }
  }
  for (int64_t i = 0; i < here; ++i) {
    const float before = kAdd ? totals.d_b1[h + i] : 0.0f;
    totals.d_b1[h + i] = before + sum(load<Vec>(slot.bias + i * kLanes));
  }
}

// Rows [first, last), at most kRows, through all hidden units; kAdd if the group had some before.
template <class P, bool kAdd>
void run_rows(const FeedForwardBackward& op, const Slot& slot, const GroupSums& totals,
              int64_t first, int64_t last) {
  const int64_t width = op.width, padded = op.padded();
  const int64_t blocks = (last - first + kBlock - 1) / kBlock;
  for (int64_t b = 0; b < blocks; ++b) {
    const int64_t row = first + b * kBlock, place = b * width * kBlock;
    const int64_t rows = smaller(last - row, kBlock);
    // d_x is not in use yet
    read_rows<P>(op.x + row * width, width, rows, width, slot.d_x, slot.x + place);
    read_rows<P>(op.grad + row * width, width, rows, width, slot.d_x, slot.grad + place);
  }
  const int64_t units = blocks * (kBlock / P::kValues);
  read_units<P>(op.x + first * width, last - first, width, padded, slot.x_rows);
  read_units<P>(op.grad + first * width, last - first, width, padded, slot.grad_rows);
  const int64_t read = units_of<P>(last - first) * padded;  // the last block may have more rows
  __builtin_memset(slot.x_rows + read, 0, (units * padded - read) * sizeof(float));
  __builtin_memset(slot.grad_rows + read, 0, (units * padded - read) * sizeof(float));
  __builtin_memset(slot.d_x, 0, blocks * width * kBlock * sizeof(float));
  for (int64_t h = 0; h < op.hidden; h += kUnits) {
    const int64_t here = smaller(op.hidden - h, kUnits);
    __builtin_memset(slot.bias, 0, here * kLanes * sizeof(float));
    for (int64_t b = 0; b < blocks; ++b) run_block<P>(op, slot, first, b, h, here);
    weights<P, kAdd>(slot, totals, padded, units, h, here);
  }
  const float scale = scale_of(op.drop_below);
  for (int64_t i = 0; i < blocks * width * kBlock; i += kLanes) {
    store(slot.d_x + i, load<Vec>(slot.d_x + i) * scale);
  }
  for (int64_t b = 0; b < blocks; ++b) {
    const int64_t row = first + b * kBlock;
    write_rows(slot.d_x + b * width * kBlock, smaller(last - row, kBlock), width,
               op.d_x + row * width);
  }
}

// Joins the groups' gradients of hidden unit h, and scales them.
void join(const FeedForwardBackward& op, int64_t groups, int64_t h) {
  const float scale = scale_of(op.drop_below);
  const int64_t padded = op.padded(), size = FeedForwardBackward::group_floats(op.width, op.hidden);
  const GroupSums first(op, 0);
  float* const rows[2] = {first.d_w1 + h * padded, first.d_w2t + h * padded};
  for (float* row : rows) {
    for (int64_t j = 0; j < padded; j += kLanes) {
      Vec total = load<Vec>(row + j);
      for (int64_t g = 1; g < groups; ++g) total += load<Vec>(row + g * size + j);
      store(row + j, total * scale);
    }
  }
  float bias = first.d_b1[h];
  for (int64_t g = 1; g < groups; ++g) bias += first.d_b1[g * size + h];
  op.d_b1[h] = bias * scale;
  __builtin_memcpy(op.d_w1 + h * op.width, rows[0], op.width * sizeof(float));
  for (int64_t j = 0; j < op.width; ++j) op.d_w2[j * op.hidden + h] = rows[1][j];
}

template <class P>
void run(const FeedForwardBackward& op, int threads) {
  const int64_t groups = FeedForwardBackward::groups(op.rows);
  const int64_t blocks = (op.rows + kBlock - 1) / kBlock;
  const int64_t sums = FeedForwardBackward::group_floats(op.width, op.hidden);
  const int64_t slot = FeedForwardBackward::slot_floats(op.width);
#pragma omp parallel num_threads(threads) if (threads > 1)
  {
    const Slot mine(aligned(op.workspace + groups * sums + thread_number() * slot), op.width,
                    op.padded());
#pragma omp for schedule(dynamic)
    for (int64_t g = 0; g < groups; ++g) {
      const TileScope tiles;
      const GroupSums totals(op, g);
      const int64_t start = blocks * g / groups * kBlock;
      const int64_t end = smaller(blocks * (g + 1) / groups * kBlock, op.rows);
      run_rows<P, false>(op, mine, totals, start, smaller(start + kRows, end));
      for (int64_t row = start + kRows; row < end; row += kRows) {
        run_rows<P, true>(op, mine, totals, row, smaller(row + kRows, end));
      }
    }
#pragma omp for schedule(static)
    for (int64_t h = 0; h < op.hidden; ++h) join(op, groups, h);
  }
}

}  // namespace

void feed_forward_backward(const FeedForwardBackward& op, int threads) {
  if (threads > op.slots) threads = static_cast<int>(op.slots);
  op.bf16 ? run<Bf16>(op, threads) : run<Fp32>(op, threads);
}

}  // namespace sleeptools::SLEEPTOOLS_VARIANT
