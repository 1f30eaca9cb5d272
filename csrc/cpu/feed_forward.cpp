// Feed-forward block of a Transformer layer, out = w2 relu(w1 x + b1) + b2, without the hidden
// layer ever being in memory: a part of it is made for a block of rows, used up, and overwritten.
// Some blocks take turns at each part, whose weights are then read from L3 once for all of them.
#ifdef _OPENMP
#include <omp.h>
#endif

#include "dropout.h"
#include "rows.h"

namespace sleeptools::SLEEPTOOLS_VARIANT {
namespace {

// Units of the hidden layer that exist at a time, and the lines of the workspace they take.
constexpr int64_t kLines = FeedForward::kHiddenAtOnce;
template <class P>
constexpr int64_t kHidden = kLines * P::kValues;

constexpr int64_t kTasks = 4;  // for each thread, so that none waits long for the last one

static_assert(kBlock <= FeedForward::kMaxBlock && kLines % 4 == 0);

void write_rows(const FeedForward& op, const float* x, float* sums, int64_t rows, float* out) {
  const float scale = scale_of(op.drop_below);
  if (op.norm.gamma) {
    for (int64_t j = 0; j < op.width; ++j) {
      for (int64_t r = 0; r < kBlock; ++r) {
        float& sum = sums[j * kBlock + r];
        sum = sum * scale + op.b2[j];
      }
    }
    return add_normalise_write(op.norm, x, rows, op.width, sums, out);
  }
  for (int64_t r = 0; r < rows; ++r, out += op.width) {
    for (int64_t j = 0; j < op.width; ++j) out[j] = sums[j * kBlock + r] * scale + op.b2[j];
  }
}

// Adds to `out` (width, kBlock) what hidden units h to h + here make of a block's rows `x`.
template <class P>
void add_part(const FeedForward& op, int64_t first, int64_t h, int64_t here, const float* x,
              float* hidden, float* out) {
  const int64_t width = op.width, stride1 = units_of<P>(width), stride2 = units_of<P>(op.hidden);
  const auto* w1 = static_cast<const typename P::Unit*>(op.w1) + h * stride1;
  const auto* w2 = static_cast<const typename P::Unit*>(op.w2) + h / P::kValues;
  for (int64_t i = 0; i < here;) {
    i += some<P, Hidden<P>>(here - i, w1 + i * stride1, op.b1 + h + i, x, stride1,
                            hidden + i / P::kValues * kBlock);
  }
  if (op.drop_below > 0) drop<P>(hidden, here, h, first, op.drop_below, op.seed);
  for (int64_t j = 0; j < width;) {
    j += some<P, Add<P>>(width - j, w2 + j * stride2, stride2, hidden, units_of<P>(here),
                         out + j * kBlock);
  }
}

// Rows `first` to `last`, up to kBlocks blocks, through both layers.
template <class P>
void run_blocks(const FeedForward& op, int64_t first, int64_t last, float* workspace) {
  const int64_t width = op.width, size = width * kBlock;
  const int64_t blocks = (last - first + kBlock - 1) / kBlock;
  const TileScope tiles;
  float* const hidden = workspace;              // (kLines, kBlock)
  float* const out = hidden + kLines * kBlock;  // (blocks, width, kBlock)
  float* const x = out + blocks * size;         // (blocks, units of width in `width`, kBlock)

  for (int64_t b = 0; b < blocks; ++b) {
    const int64_t row = first + b * kBlock;
    read_rows<P>(op.x + row * width, width, smaller(last - row, kBlock), width, out + b * size,
                 x + b * size);
  }
  for (int64_t i = 0; i < blocks * size; ++i) out[i] = 0.0f;
  for (int64_t h = 0; h < op.hidden; h += kHidden<P>) {
    const int64_t here = smaller(op.hidden - h, kHidden<P>);
    for (int64_t b = 0; b < blocks; ++b) {
      add_part<P>(op, first + b * kBlock, h, here, x + b * size, hidden, out + b * size);
    }
  }
  for (int64_t b = 0; b < blocks; ++b) {
    const int64_t row = first + b * kBlock;
    write_rows(op, op.x + row * width, out + b * size, smaller(last - row, kBlock),
               op.out + row * width);
  }
}

// This thread's part of the workspace, from a cache line on.
float* slot(const FeedForward& op) {
#ifdef _OPENMP
  const int thread = omp_get_thread_num();
#else
  const int thread = 0;
#endif
  return aligned(op.workspace + thread * FeedForward::workspace_floats(op.width));
}

template <class P>
void run(const FeedForward& op, int threads) {
  const int64_t blocks = (op.rows + kBlock - 1) / kBlock, fit = blocks / (kTasks * threads);
  const int64_t together = smaller(FeedForward::kBlocks, fit < 1 ? 1 : fit) * kBlock;
#pragma omp parallel for num_threads(threads) if (threads > 1) schedule(dynamic)
  for (int64_t first = 0; first < op.rows; first += together) {
    run_blocks<P>(op, first, smaller(op.rows, first + together), slot(op));
  }
}

}  // namespace

void feed_forward(const FeedForward& op, int threads) {
  if (op.rows == 0) return;
  if (threads > op.slots) threads = static_cast<int>(op.slots);
  op.bf16 ? run<Bf16>(op, threads) : run<Fp32>(op, threads);
}

}  // namespace sleeptools::SLEEPTOOLS_VARIANT
