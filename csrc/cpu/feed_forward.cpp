// Feed-forward block of a Transformer layer, out = w2 relu(w1 x + b1) + b2, without the hidden
// layer ever being in memory: a part of it is made for a block of rows, used up, and overwritten.
//
// The lanes of a vector are rows of x, so both products read the weights as PyTorch keeps them, one
// weight at a time for a whole block of rows: nothing is packed beforehand, no size needs padding,
// and a row's result depends neither on the rows beside it nor on the number of threads. The
// weights come from L2 or L3 once for every block, which at 4 bytes a cycle costs nothing.
#ifdef _OPENMP
#include <omp.h>
#endif

#include "precision.h"

namespace sleeptools::SLEEPTOOLS_VARIANT {
namespace {

// A register tile is kTile weights by kColumns vectors of rows: as many sums as the registers hold
// (32 with AVX-512, otherwise 16) beside the operands. Even, so that a tile is whole bf16 units.
constexpr int kColumns = 2;
constexpr int kTile = kLanes == 16 ? 8 : kLanes == 8 ? 6 : 4;
constexpr int kBlock = kColumns * kLanes;  // rows that go through the layers together
constexpr int64_t kHidden = FeedForward::kHiddenAtOnce;

static_assert(kBlock <= FeedForward::kMaxBlock);

constexpr int64_t smaller(int64_t a, int64_t b) { return a < b ? a : b; }

template <class P>
constexpr int64_t units(int64_t values) {
  return (values + P::kValues - 1) / P::kValues;
}

template <int M>
using Sums = Vec[M][kColumns];

// sums[m] += w[m] in, over the units of one row of w each; in is (units, kBlock).
template <class P, int M>
SLEEPTOOLS_INLINE void multiply(const typename P::Unit* w, int64_t stride, const float* in,
                                int64_t units, Sums<M>& sums) {
  for (int64_t k = 0; k < units; ++k, in += kBlock) {
    Vec columns[kColumns];
#pragma GCC unroll 2
    for (int c = 0; c < kColumns; ++c) columns[c] = load<Vec>(in + c * kLanes);
#pragma GCC unroll 16
    for (int m = 0; m < M; ++m) {
#pragma GCC unroll 2
      for (int c = 0; c < kColumns; ++c) {
        sums[m][c] = P::multiply_add(w[m * stride + k], columns[c], sums[m][c]);
      }
    }
  }
}

// M units of the hidden layer, of kBlock rows, packed as the second product reads them.
template <class P, int M>
void hidden_tile(const typename P::Unit* w1, const float* b1, const float* x, int64_t units,
                 float* hidden) {
  Sums<M> sums;
  for (int m = 0; m < M; ++m) {
    for (int c = 0; c < kColumns; ++c) sums[m][c] = Vec{} + b1[m];
  }
  multiply<P, M>(w1, units, x, units, sums);
  for (int m = 0; m < M; m += P::kValues, hidden += kBlock) {
    for (int c = 0; c < kColumns; ++c) {
      Vec values[P::kValues];
      for (int i = 0; i < P::kValues; ++i) values[i] = m + i < M ? relu(sums[m + i][c]) : Vec{};
      store(hidden + c * kLanes, P::pack(values));
    }
  }
}

// Adds a part of the hidden layer to M columns of the output, of kBlock rows. A part has a sum of
// its own first: one sum over the whole hidden layer would gather more rounding errors.
template <class P, int M>
void out_tile(const typename P::Unit* w2, int64_t stride, const float* hidden, int64_t units,
              float* out) {
  Sums<M> sums = {};
  multiply<P, M>(w2, stride, hidden, units, sums);
  for (int m = 0; m < M; ++m, out += kBlock) {
    for (int c = 0; c < kColumns; ++c) {
      store(out + c * kLanes, load<Vec>(out + c * kLanes) + sums[m][c]);
    }
  }
}

// The same for m weights, 1 to M: the last tile of a layer may be a smaller one.
template <class P, int M = kTile, class... Arguments>
SLEEPTOOLS_INLINE void hidden_tile_of(int64_t m, Arguments... arguments) {
  if (m >= M) {
    hidden_tile<P, M>(arguments...);
  } else if constexpr (M > 1) {
    hidden_tile_of<P, M - 1>(m, arguments...);
  }
}

template <class P, int M = kTile, class... Arguments>
SLEEPTOOLS_INLINE void out_tile_of(int64_t m, Arguments... arguments) {
  if (m >= M) {
    out_tile<P, M>(arguments...);
  } else if constexpr (M > 1) {
    out_tile_of<P, M - 1>(m, arguments...);
  }
}

// Rows of x to lanes, packed as the first product reads them. Lanes without a row are zero.
template <class P>
void read_rows(const float* x, int64_t rows, int64_t width, float* scratch, float* in) {
  for (int64_t j = 0; j < width; ++j) {
    for (int64_t r = 0; r < kBlock; ++r) scratch[j * kBlock + r] = r < rows ? x[r * width + j] : 0;
  }
  for (int64_t j = 0; j < width; j += P::kValues, in += kBlock) {
    for (int c = 0; c < kBlock; c += kLanes) {
      Vec values[P::kValues];
      for (int i = 0; i < P::kValues; ++i) {
        values[i] = j + i < width ? load<Vec>(scratch + (j + i) * kBlock + c) : Vec{};
      }
      store(in + c, P::pack(values));
    }
  }
}

// Sums to rows of the output.
void write_rows(const float* sums, const float* b2, int64_t rows, int64_t width, float* out) {
  for (int64_t r = 0; r < rows; ++r) {
    for (int64_t j = 0; j < width; ++j) out[r * width + j] = sums[j * kBlock + r] + b2[j];
  }
}

// Up to kBlock rows through both layers.
template <class P>
void block(const FeedForward& op, int64_t first, float* workspace) {
  const auto* w1 = static_cast<const typename P::Unit*>(op.w1);
  const auto* w2 = static_cast<const typename P::Unit*>(op.w2);
  const int64_t width = op.width, stride1 = units<P>(width), stride2 = units<P>(op.hidden);
  const int64_t rows = smaller(op.rows - first, kBlock);
  float* const out = workspace;                // (width, kBlock)
  float* const hidden = out + width * kBlock;  // (units of kHidden, kBlock)
  float* const x = hidden + kHidden * kBlock;  // (units of width, kBlock)

  read_rows<P>(op.x + first * width, rows, width, out, x);
  for (int64_t i = 0; i < width * kBlock; ++i) out[i] = 0.0f;
  for (int64_t h = 0; h < op.hidden; h += kHidden) {
    const int64_t here = smaller(op.hidden - h, kHidden);
    for (int64_t i = 0; i < here; i += kTile) {
      hidden_tile_of<P>(here - i, w1 + (h + i) * stride1, op.b1 + h + i, x, stride1,
                        hidden + i / P::kValues * kBlock);
    }
    for (int64_t j = 0; j < width; j += kTile) {
      out_tile_of<P>(width - j, w2 + j * stride2 + h / P::kValues, stride2, hidden, units<P>(here),
                     out + j * kBlock);
    }
  }
  write_rows(out, op.b2, rows, width, op.out + first * width);
}

// This thread's part of the workspace, from a cache line on.
float* slot(const FeedForward& op) {
#ifdef _OPENMP
  const int thread = omp_get_thread_num();
#else
  const int thread = 0;
#endif
  float* start = op.workspace + thread * FeedForward::workspace_floats(op.width);
  return start + -(reinterpret_cast<uintptr_t>(start) / sizeof(float)) % 16;
}

template <class P>
void run(const FeedForward& op, int threads) {
#pragma omp parallel for num_threads(threads) if (threads > 1) schedule(static)
  for (int64_t first = 0; first < op.rows; first += kBlock) block<P>(op, first, slot(op));
}

}  // namespace

void feed_forward(const FeedForward& op, int threads) {
  if (op.rows == 0) return;
  if (threads > op.slots) threads = static_cast<int>(op.slots);
  op.bf16 ? run<Bf16>(op, threads) : run<Fp32>(op, threads);
}

}  // namespace sleeptools::SLEEPTOOLS_VARIANT
