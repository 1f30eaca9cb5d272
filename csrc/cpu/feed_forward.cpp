// Feed-forward block of a Transformer layer, out = w2 relu(w1 x + b1) + b2, without the hidden
// layer ever being in memory: a part of it is made for a block of rows, used up, and overwritten.
// Some blocks take turns at each part, whose weights are then read from L3 once for all of them.
#include "dropout.h"
#include "rows.h"

namespace sleeptools::SLEEPTOOLS_VARIANT {
namespace {

// Units of the hidden layer that exist at a time, and the lines of the workspace they take.
constexpr int64_t kLines = FeedForward::kHiddenAtOnce;
template <class P>
constexpr int64_t kHidden = kLines * P::kValues;

constexpr int64_t kTasks = 4;  // for each thread, so that none waits long for the last one

// Each half of the hidden layer has sums of its own, so that few rows are work for two threads, and
// each of them reads half of the weights.
constexpr int kHalves = 2;

static_assert(kBlock <= FeedForward::kMaxBlock && kLines % 4 == 0);
static_assert(kTasks * kHalves <= FeedForward::kBlocks);  // blocks of a group in `run_halves`

// A part of the workspace, from a cache line on: what the thread of its number needs, and the sums
// of the group of its number.
struct Slot {
  float *hidden, *x;     // (kLines, kBlock), (blocks, units of width in `width`, kBlock)
  float* sums[kHalves];  // (blocks, width, kBlock) each

  Slot(const FeedForward& op, int64_t index) {
    const int64_t size = FeedForward::kBlocks * op.width * kBlock;
    hidden = aligned(op.workspace + index * FeedForward::workspace_floats(op.width));
    x = hidden + kLines * kBlock;
    for (int half = 0; half < kHalves; ++half) sums[half] = x + (1 + half) * size;
  }
};

Slot own_slot(const FeedForward& op) { return {op, thread_number()}; }

// Some rows, up to kBlocks blocks.
struct Group {
  int64_t first, last;

  int64_t blocks() const { return (last - first + kBlock - 1) / kBlock; }
};

// Adds to `out` (width, kBlock) what hidden units h to h + here make of a block's rows `x`.
template <class P>
void add_part(const FeedForward& op, int64_t first, int64_t h, int64_t units, const float* x,
              float* hidden, float* out) {
  const int64_t width = op.width, stride1 = units_of<P>(width), stride2 = units_of<P>(op.hidden);
  const auto* w1 = static_cast<const typename P::Unit*>(op.w1) + h * stride1;
  const auto* w2 = static_cast<const typename P::Unit*>(op.w2) + h / P::kValues;
  for (int64_t i = 0; i < units;) {
    i += some<P, Hidden<P>>(units - i, w1 + i * stride1, op.b1 + h + i, x, stride1,
                            hidden + i / P::kValues * kBlock);
  }
  if (op.drop_below > 0) drop<P>(hidden, units, h, first, op.drop_below, op.seed);
  for (int64_t j = 0; j < width;) {
    j += some<P, Add<P>>(width - j, w2 + j * stride2, stride2, hidden, units_of<P>(units),
                         out + j * kBlock);
  }
}

template <class P>
void read(const FeedForward& op, const Group& rows, const Slot& mine, float* scratch) {
  const int64_t size = op.width * kBlock;
  for (int64_t b = 0; b < rows.blocks(); ++b) {
    const int64_t row = rows.first + b * kBlock;
    read_rows<P>(op.x + row * op.width, op.width, rows.last - row, op.width, scratch,
                 mine.x + b * size);
  }
}

// What a half of the hidden layer makes of the rows that were read, to `sums`.
template <class P>
void run_half(const FeedForward& op, const Group& rows, int half, const Slot& mine, float* sums) {
  const int64_t size = op.width * kBlock;
  const int64_t slices = (op.hidden + kHidden<P> - 1) / kHidden<P>;
  const int64_t stop = smaller(slices * (half + 1) / kHalves * kHidden<P>, op.hidden);
  const TileScope tiles;
  __builtin_memset(sums, 0, rows.blocks() * size * sizeof(float));
  for (int64_t h = slices * half / kHalves * kHidden<P>; h < stop; h += kHidden<P>) {
    for (int64_t b = 0; b < rows.blocks(); ++b) {
      add_part<P>(op, rows.first + b * kBlock, h, smaller(stop - h, kHidden<P>), mine.x + b * size,
                  mine.hidden, sums + b * size);
    }
  }
}

// Block `b` of a group, from the sums of both halves.
void write(const FeedForward& op, const Group& group, int64_t b, const Slot& slot) {
  const int64_t offset = b * op.width * kBlock, row = group.first + b * kBlock;
  const int64_t rows = smaller(group.last - row, kBlock);
  const float scale = scale_of(op.drop_below);
  float* const sums = slot.sums[0] + offset;
  for (int64_t j = 0; j < op.width; ++j) {
    for (int64_t c = j * kBlock; c < (j + 1) * kBlock; c += kLanes) {
      const Vec both = load<Vec>(sums + c) + load<Vec>(slot.sums[1] + offset + c);
      store(sums + c, both * scale + op.b2[j]);
    }
  }
  const int64_t start = row * op.width;
  if (op.norm.gamma) {
    add_normalise_write(op.norm, op.x + start, rows, op.width, sums, op.out + start);
  } else {
    write_rows(sums, rows, op.width, op.out + start);
  }
}

// Few rows: a task is a half of the hidden layer.
template <class P>
void run_halves(const FeedForward& op, int64_t groups, int threads) {
  const int64_t blocks = (op.rows + kBlock - 1) / kBlock, together = (blocks + groups - 1) / groups;
  const auto group = [&](int64_t index) {
    const int64_t first = smaller(op.rows, index * together * kBlock);
    return Group{first, smaller(op.rows, first + together * kBlock)};
  };
#pragma omp parallel num_threads(threads) if (threads > 1)
  {
    const Slot mine = own_slot(op);
#pragma omp for schedule(dynamic)
    for (int64_t task = 0; task < groups * kHalves; ++task) {
      const int64_t index = task / kHalves;
      const int half = static_cast<int>(task % kHalves);
      float* const sums = Slot(op, index).sums[half];
      read<P>(op, group(index), mine, sums);
      run_half<P>(op, group(index), half, mine, sums);
    }
#pragma omp for schedule(dynamic)
    for (int64_t block = 0; block < blocks; ++block) {
      const int64_t index = block / together;
      write(op, group(index), block % together, Slot(op, index));
    }
  }
}

// Many rows: a task is some blocks of them.
template <class P>
void run_groups(const FeedForward& op, int64_t together, int threads) {
#pragma omp parallel for num_threads(threads) if (threads > 1) schedule(dynamic)
  for (int64_t first = 0; first < op.rows; first += together * kBlock) {
    const Slot mine = own_slot(op);
    const Group group = {first, smaller(op.rows, first + together * kBlock)};
    read<P>(op, group, mine, mine.sums[0]);
    for (int half = 0; half < kHalves; ++half) {
      run_half<P>(op, group, half, mine, mine.sums[half]);
    }
    for (int64_t b = 0; b < group.blocks(); ++b) write(op, group, b, mine);
  }
}

template <class P>
void run(const FeedForward& op, int threads) {
  const int64_t blocks = (op.rows + kBlock - 1) / kBlock, fit = blocks / (kTasks * threads);
  if (fit == 0) return run_halves<P>(op, (threads + 1) / kHalves, threads);
  run_groups<P>(op, smaller(FeedForward::kBlocks, fit), threads);
}

}  // namespace

void feed_forward(const FeedForward& op, int threads) {
  if (op.rows == 0) return;
  if (threads > op.slots) threads = static_cast<int>(op.slots);
  op.bf16 ? run<Bf16>(op, threads) : run<Fp32>(op, threads);
}

}  // namespace sleeptools::SLEEPTOOLS_VARIANT
