// Attention block of a Transformer layer, out = norm(x + w_out a + b_out): one task per epoch.
#include "attention.h"

namespace sleeptools::SLEEPTOOLS_VARIANT {
namespace {

// An epoch's buffers in the workspace.
struct Buffers : Projected {
  float *queries, *scores, *result;  // of a block: (width, kBlock), (tokens, kBlock), as the first

  Buffers(const Attention& op, float* workspace) {
    line = Attention::padded(op.tokens);
    qkv = workspace;
    keys = qkv + 3 * op.width * line;
    in = keys + op.width * line;
    result = in + op.width * kBlock;
    queries = result + op.width * kBlock;
    scratch = queries + op.width * kBlock;
    scores = scratch + op.width * kBlock;
    longest = scores + line * kBlock;
  }
};

template <class P>
void epoch(const Attention& op, int64_t index, float* workspace) {
  const TileScope tiles;
  const Buffers b(op, workspace);
  const int64_t start = index * op.tokens * op.width, units = units_of<P>(op.width);
  project<P>(op, op.x + start, b);
  for (int64_t first = 0; first < op.tokens; first += kBlock) {
    const int64_t rows = smaller(op.tokens - first, kBlock);
    for (int64_t head = 0; head < op.heads; ++head) {
      Vec shares[kColumns];
      weigh(op, b, head, first, b.queries, b.scores, shares);
      if (op.drop_below > 0) drop_weights(op, index, head, first, rows, b.scores);
      mix(op, b, head, b.scores, shares, b.result + head * (op.width / op.heads) * kBlock);
    }
    if constexpr (P::kValues > 1) pack_lines<P>(b.result, op.width, b.result);
    affine<P>(op.width, op.w_out, units, op.b_out, b.result, kBlock, units, b.scratch, kBlock);
    if (op.drop_below > 0) drop_added(op, index, first, rows, b.scratch);
    const int64_t at = start + first * op.width;
    add_normalise_write(op.norm, op.x + at, rows, op.width, b.scratch, op.out + at);
  }
}

float* slot(const Attention& op) {
  const int64_t thread = thread_number();
  return aligned(op.workspace + thread * Attention::workspace_floats(op.tokens, op.width));
}

template <class P>
void run(const Attention& op, int threads) {
#pragma omp parallel for num_threads(threads) if (threads > 1) schedule(dynamic)
  for (int64_t index = 0; index < op.batch; ++index) epoch<P>(op, index, slot(op));
}

}  // namespace

void attention(const Attention& op, int threads) {
  if (threads > op.slots) threads = static_cast<int>(op.slots);
  op.bf16 ? run<Bf16>(op, threads) : run<Fp32>(op, threads);
}

}  // namespace sleeptools::SLEEPTOOLS_VARIANT
