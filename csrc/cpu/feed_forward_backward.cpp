// Gradients of the feed-forward block, from its input alone: the hidden layer is made again, a part
// of its units at a time, for all rows. Each part takes two passes. In the first a task is a block
// of rows: hidden units, their gradients, and what these add to the gradient of x. In the second a
// task is some units of the part: their weights' gradients, sums over all rows. So every sum
// belongs to one task, and the result does not depend on the number of threads.
#include "dropout.h"
#include "rows.h"

namespace sleeptools::SLEEPTOOLS_VARIANT {
namespace {

constexpr int64_t kHidden = FeedForwardBackward::kHiddenAtOnce;
constexpr int64_t kSumBlocks = 8;  // blocks of rows in a register sum, before it goes to memory

static_assert(FeedForwardBackward::kMaxBlock % kBlock == 0);

// The parts of the workspace, each (blocks, ..., kBlock): rows are lanes.
struct Buffers {
  float *x, *grad, *d_x;     // (width) rows a block
  float *hidden, *d_hidden;  // (kHidden) rows a block, of the units in hand
};

// Gradient of M hidden units before the ReLU: w2^T grad, scaled, where the unit is above zero.
struct HiddenGradient {
  template <int M>
  static void run(const float* w2t, const float* grad, int64_t width, float scale, float* hidden,
                  float* d_hidden) {
    Sums<M> sums = {};
    multiply<Fp32, M>(w2t, width, grad, kBlock, width, sums);
    for (int m = 0; m < M; ++m, hidden += kBlock, d_hidden += kBlock) {
      for (int c = 0; c < kColumns; ++c) {
        const Vec unit = load<Vec>(hidden + c * kLanes);
        const Bits above = (Bits)(unit > Vec{});
        store(d_hidden + c * kLanes, (Vec)((Bits)(sums[m][c] * scale) & above));
        store(hidden + c * kLanes, unit * scale);
      }
    }
  }
};

// Gradient of M units' weights, kBlock columns of it: units times rows, a sum over `blocks` blocks.
struct WeightGradient {
  template <int M>
  static void run(const float* units, int64_t block_size, const float* rows, int64_t stride,
                  int64_t count, float* out) {
    Sums<M> sums = {};
    for (int64_t first = 0; first < count; first += kBlock, units += block_size) {
      multiply<Fp32, M>(units, kBlock, rows + first * stride, stride,
                        smaller(count - first, kBlock), sums);
    }
    for (int m = 0; m < M; ++m, out += stride) {
      for (int c = 0; c < kColumns; ++c) {
        store(out + c * kLanes, load<Vec>(out + c * kLanes) + sums[m][c]);
      }
    }
  }
};

// Units h to h + here for one block of rows.
void first_pass(const FeedForwardBackward& op, const Buffers& all, int64_t block, int64_t h,
                int64_t here) {
  const int64_t width = op.width;
  const float* x = all.x + block * width * kBlock;
  const float* grad = all.grad + block * width * kBlock;
  float* d_x = all.d_x + block * width * kBlock;
  float* hidden = all.hidden + block * kHidden * kBlock;
  float* d_hidden = all.d_hidden + block * kHidden * kBlock;

  for (int64_t i = 0; i < here; i += kTile) {
    tile<Hidden<Fp32>>(here - i, op.w1 + (h + i) * width, op.b1 + h + i, x, width,
                       hidden + i * kBlock);
  }
  if (op.drop_below > 0) drop<Fp32>(hidden, here, h, block * kBlock, op.drop_below, op.seed);
  for (int64_t i = 0; i < here; i += kTile) {
    tile<HiddenGradient>(here - i, op.w2t + (h + i) * width, grad, width, scale_of(op.drop_below),
                         hidden + i * kBlock, d_hidden + i * kBlock);
  }
  for (int64_t j = 0; j < width; j += kTile) {
    tile<Add<Fp32>>(width - j, op.w1t + j * op.hidden + h, op.hidden, d_hidden, here,
                    d_x + j * kBlock);
  }
}

// Units h + from to h + to over all rows.
void second_pass(const FeedForwardBackward& op, const Buffers& all, int64_t h, int64_t from,
                 int64_t to) {
  for (int64_t row = 0; row < op.rows; row += kSumBlocks * kBlock) {
    const int64_t count = smaller(op.rows - row, kSumBlocks * kBlock);
    for (int64_t i = from; i < to; i += kTile) {
      const float* hidden = all.hidden + (row * kHidden + i * kBlock);
      const float* d_hidden = all.d_hidden + (row * kHidden + i * kBlock);
      for (int64_t j = 0; j < op.padded; j += kBlock) {
        const int64_t in = row * op.padded + j, out = (h + i) * op.padded + j;
        tile<WeightGradient>(to - i, d_hidden, kHidden * kBlock, op.x + in, op.padded, count,
                             op.d_w1 + out);
        tile<WeightGradient>(to - i, hidden, kHidden * kBlock, op.grad + in, op.padded, count,
                             op.d_w2t + out);
      }
      for (int64_t m = i; m < smaller(to, i + kTile); ++m, d_hidden += kBlock) {
        Vec total = {};
        for (int64_t r = 0; r < count; r += kBlock) {
          for (int c = 0; c < kBlock; c += kLanes) total += load<Vec>(d_hidden + r * kHidden + c);
        }
        op.d_b1[h + m] += sum(total);
      }
    }
  }
}

}  // namespace

void feed_forward_backward(const FeedForwardBackward& op, int threads) {
  const int64_t blocks = (op.rows + kBlock - 1) / kBlock, size = blocks * kBlock;
  Buffers all;
  all.x = op.workspace;
  all.grad = all.x + size * op.width;
  all.d_x = all.grad + size * op.width;
  all.hidden = all.d_x + size * op.width;
  all.d_hidden = all.hidden + size * kHidden;

#pragma omp parallel for num_threads(threads) if (threads > 1) schedule(static)
  for (int64_t b = 0; b < blocks; ++b) {
    const int64_t row = b * kBlock, place = row * op.width;
    read_rows<Fp32>(op.x + row * op.padded, op.padded, op.rows - row, op.width, all.d_x + place,
                    all.x + place);
    read_rows<Fp32>(op.grad + row * op.padded, op.padded, op.rows - row, op.width, all.d_x + place,
                    all.grad + place);
    for (int64_t i = 0; i < op.width * kBlock; ++i) all.d_x[place + i] = 0.0f;
  }
  for (int64_t h = 0; h < op.hidden; h += kHidden) {
    const int64_t here = smaller(op.hidden - h, kHidden);
    const int64_t tiles = (here + kTile - 1) / kTile;
    const int64_t share = (tiles + threads - 1) / threads * kTile;
#pragma omp parallel for num_threads(threads) if (threads > 1) schedule(static)
    for (int64_t b = 0; b < blocks; ++b) first_pass(op, all, b, h, here);
#pragma omp parallel for num_threads(threads) if (threads > 1) schedule(static)
    for (int64_t from = 0; from < here; from += share) {
      second_pass(op, all, h, from, smaller(from + share, here));
    }
  }
#pragma omp parallel for num_threads(threads) if (threads > 1) schedule(static)
  for (int64_t row = 0; row < op.rows; ++row) {
    const float* d_x = all.d_x + row / kBlock * op.width * kBlock + row % kBlock;
    for (int64_t j = 0; j < op.width; ++j) op.d_x[row * op.width + j] = d_x[j * kBlock];
  }
}

}  // namespace sleeptools::SLEEPTOOLS_VARIANT
