// Feed-forward block of a Transformer layer, out = w2 relu(w1 x + b1) + b2, without the hidden
// layer ever being in memory: a part of it is made for a block of rows, used up, and overwritten.
//
// The lanes of a vector are rows of x, so both products read the weights as PyTorch keeps them, one
// weight at a time for a whole block of rows: nothing is packed beforehand, no size needs padding,
// and a row's result depends neither on the rows beside it nor on the number of threads.
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

static_assert(FeedForward::kRowsAtOnce % kBlock == 0);

constexpr int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }

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
void out_tile(const typename P::Unit* w2, const float* hidden, int64_t units, float* out) {
  Sums<M> sums = {};
  multiply<P, M>(w2, kHidden, hidden, units, sums);
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

// One thread's part of the workspace.
template <class P>
struct Buffers {
  float* x;                // (blocks, units of x, kBlock)
  float* out;              // (blocks, width, kBlock)
  float* hidden;           // (units of kHidden, kBlock)
  typename P::Unit* w2;    // (width, kHidden), of which the units in use
};

// Rows to lanes. Lanes without a row are zero.
template <class P>
void read_block(const FeedForward& op, const float* x, int64_t rows, float* scratch, float* in) {
  for (int64_t j = 0; j < op.width; ++j) {
    for (int64_t r = 0; r < kBlock; ++r) scratch[j * kBlock + r] = r < rows ? x[r * op.width + j] : 0;
  }
  for (int64_t j = 0; j < op.width; j += P::kValues, in += kBlock) {
    for (int c = 0; c < kBlock; c += kLanes) {
      Vec values[P::kValues];
      for (int i = 0; i < P::kValues; ++i) {
        values[i] = j + i < op.width ? load<Vec>(scratch + (j + i) * kBlock + c) : Vec{};
      }
      store(in + c, P::pack(values));
    }
  }
}

void write_block(const FeedForward& op, const float* sums, int64_t rows, float* out) {
  for (int64_t r = 0; r < rows; ++r) {
    for (int64_t j = 0; j < op.width; ++j) out[r * op.width + j] = sums[j * kBlock + r];
  }
}

// Up to kRowsAtOnce rows: every part of the hidden layer for all of them before the next part, so
// that its weights come from a near cache.
template <class P>
void task(const FeedForward& op, int64_t first, int64_t rows, const Buffers<P>& buffers) {
  using Unit = typename P::Unit;
  const Unit* w1 = static_cast<const Unit*>(op.w1);
  const Unit* w2 = static_cast<const Unit*>(op.w2);
  const int64_t units = ceil_div(op.width, P::kValues);
  const int64_t hidden_units = ceil_div(op.hidden, P::kValues);
  const int64_t blocks = ceil_div(rows, kBlock);

  for (int64_t b = 0; b < blocks; ++b) {
    float* out = buffers.out + b * op.width * kBlock;
    read_block<P>(op, op.x + (first + b * kBlock) * op.width, rows - b * kBlock, out,
                  buffers.x + b * units * kBlock);
    for (int64_t j = 0; j < op.width; ++j) {
      for (int c = 0; c < kBlock; ++c) out[j * kBlock + c] = op.b2[j];
    }
  }
  for (int64_t h = 0; h < op.hidden; h += kHidden) {
    const int64_t here = op.hidden - h < kHidden ? op.hidden - h : kHidden;
    const int64_t here_units = ceil_div(here, P::kValues);
    // Rows of w2 are often a power of two apart and would push each other out of the cache.
    for (int64_t j = 0; j < op.width; ++j) {
      __builtin_memcpy(buffers.w2 + j * kHidden, w2 + j * hidden_units + h / P::kValues,
                       here_units * sizeof(Unit));
    }
    for (int64_t b = 0; b < blocks; ++b) {
      const float* x = buffers.x + b * units * kBlock;
      float* out = buffers.out + b * op.width * kBlock;
      for (int64_t i = 0; i < here; i += kTile) {
        hidden_tile_of<P>(here - i, w1 + (h + i) * units, op.b1 + h + i, x, units,
                          buffers.hidden + i / P::kValues * kBlock);
      }
      for (int64_t j = 0; j < op.width; j += kTile) {
        out_tile_of<P>(op.width - j, buffers.w2 + j * kHidden, buffers.hidden, here_units,
                       out + j * kBlock);
      }
    }
  }
  for (int64_t b = 0; b < blocks; ++b) {
    write_block(op, buffers.out + b * op.width * kBlock, rows - b * kBlock < kBlock ? rows - b * kBlock : kBlock,
                op.out + (first + b * kBlock) * op.width);
  }
}

template <class P>
Buffers<P> slot(const FeedForward& op, int64_t index) {
  float* start = op.workspace + index * FeedForward::workspace_floats(op.width);
  start += -(reinterpret_cast<uintptr_t>(start) / sizeof(float)) % 16;  // to a cache line
  float* out = start + op.width * FeedForward::kRowsAtOnce;
  float* hidden = out + op.width * FeedForward::kRowsAtOnce;
  void* w2 = hidden + kHidden * kBlock;
  return {start, out, hidden, static_cast<typename P::Unit*>(w2)};
}

template <class P>
void run(const FeedForward& op, int threads) {
  const int64_t share = ceil_div(ceil_div(op.rows, threads), kBlock) * kBlock;
  const int64_t step = share < FeedForward::kRowsAtOnce ? share : FeedForward::kRowsAtOnce;
#pragma omp parallel for num_threads(threads) if (threads > 1) schedule(dynamic)
  for (int64_t first = 0; first < op.rows; first += step) {
#ifdef _OPENMP
    const int thread = omp_get_thread_num();
#else
    const int thread = 0;
#endif
    const int64_t left = op.rows - first;
    task<P>(op, first, left < step ? left : step, slot<P>(op, thread));
  }
}

}  // namespace

void feed_forward(const FeedForward& op, int threads) {
  if (op.rows == 0) return;
  if (threads > op.slots) threads = static_cast<int>(op.slots);
  op.bf16 ? run<Bf16>(op, threads) : run<Fp32>(op, threads);
}

}  // namespace sleeptools::SLEEPTOOLS_VARIANT
