// Feed-forward block of a Transformer layer, out = w2 relu(w1 x + b1) + b2, without the hidden
// layer ever being in memory: a part of it is made for a block of rows, used up, and overwritten.
// A block goes through all of the weights, which at 4 bytes a cycle come from L2 or L3 in time.
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

// Up to kBlock rows through both layers.
template <class P>
void block(const FeedForward& op, int64_t first, float* workspace) {
  const auto* w1 = static_cast<const typename P::Unit*>(op.w1);
  const auto* w2 = static_cast<const typename P::Unit*>(op.w2);
  const int64_t width = op.width, stride1 = units_of<P>(width), stride2 = units_of<P>(op.hidden);
  const int64_t rows = smaller(op.rows - first, kBlock);
  const TileScope tiles;
  float* const out = workspace;                // (width, kBlock)
  float* const hidden = out + width * kBlock;  // (kLines, kBlock)
  float* const x = hidden + kLines * kBlock;   // (units of width, kBlock)

  read_rows<P>(op.x + first * width, width, rows, width, out, x);
  for (int64_t i = 0; i < width * kBlock; ++i) out[i] = 0.0f;
  for (int64_t h = 0; h < op.hidden; h += kHidden<P>) {
    const int64_t here = smaller(op.hidden - h, kHidden<P>);
    for (int64_t i = 0; i < here;) {
      i += some<P, Hidden<P>>(here - i, w1 + (h + i) * stride1, op.b1 + h + i, x, stride1,
                              hidden + i / P::kValues * kBlock);
    }
    if (op.drop_below > 0) drop<P>(hidden, here, h, first, op.drop_below, op.seed);
    for (int64_t j = 0; j < width;) {
      j += some<P, Add<P>>(width - j, w2 + j * stride2 + h / P::kValues, stride2, hidden,
                           units_of<P>(here), out + j * kBlock);
    }
  }
  write_rows(op, op.x + first * width, out, rows, op.out + first * width);
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
#pragma omp parallel for num_threads(threads) if (threads > 1) schedule(dynamic)
  for (int64_t first = 0; first < op.rows; first += kBlock) block<P>(op, first, slot(op));
}

}  // namespace

void feed_forward(const FeedForward& op, int threads) {
  if (op.rows == 0) return;
  if (threads > op.slots) threads = static_cast<int>(op.slots);
  op.bf16 ? run<Bf16>(op, threads) : run<Fp32>(op, threads);
}

}  // namespace sleeptools::SLEEPTOOLS_VARIANT
