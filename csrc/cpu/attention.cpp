// Attention block of a Transformer layer, out = norm(x + w_out a + b_out): one task per epoch.
//
// Tokens lie in the vector lanes throughout (rows.h). Queries, keys and values are lines of tokens,
// one line a feature; the scores of a block of queries are lines of queries, one line a key, so
// that a softmax runs down the lines and its result is the input of the product with the values.
#include "exponential.h"
#include "rows.h"

namespace sleeptools::SLEEPTOOLS_VARIANT {
namespace {

static_assert(kBlock <= Attention::kMaxBlock);

// An epoch's buffers in the workspace; `line` is the length of a line of tokens.
struct Buffers {
  float *qkv, *keys;            // (3 width, line), (tokens, width)
  float *in, *scores, *result;  // of a block: (width, kBlock), (tokens, kBlock), (width, kBlock)
  float* scratch;               // (width, kBlock)
  int64_t line;

  Buffers(const Attention& op, float* workspace) : line(Attention::padded(op.tokens)) {
    qkv = workspace;
    keys = qkv + 3 * op.width * line;
    in = keys + op.width * line;
    result = in + op.width * kBlock;
    scratch = result + op.width * kBlock;
    scores = scratch + op.width * kBlock;
  }
};

template <class P>
void project(const Attention& op, const float* x, const Buffers& to) {
  const int64_t width = op.width;
  for (int64_t first = 0; first < op.tokens; first += kBlock) {
    const int64_t rows = smaller(op.tokens - first, kBlock);
    read_rows<P>(x + first * width, width, rows, width, to.scratch, to.in);
    const int64_t units = units_of<P>(width);
    affine<P>(3 * width, op.w_in, units, op.b_in, to.in, kBlock, units, to.qkv + first, to.line);
  }
  const float* k = to.qkv + width * to.line;
  for (int64_t t = 0; t < op.tokens; t += kLanes) {
    write_columns(k + t, to.line, op.tokens - t, width, to.keys + t * width, width);
  }
}

// exp(scale (score - largest)) in place, and one over the sum of each lane.
SLEEPTOOLS_INLINE Vec softmax(float* scores, int64_t keys, float scale) {
  Vec largest = load<Vec>(scores), total = {};
  for (int64_t j = 1; j < keys; ++j) {
    const Vec score = load<Vec>(scores + j * kBlock);
    largest = score > largest ? score : largest;
  }
  for (int64_t j = 0; j < keys; ++j) {
    const Vec e = exponential((load<Vec>(scores + j * kBlock) - largest) * scale);
    store(scores + j * kBlock, e);
    total += e;
  }
  return 1.0f / total;
}

// One head for the queries from `first` on: lines [head * size, (head + 1) * size) of `result`.
void attend(const Attention& op, const Buffers& b, int64_t head, int64_t first) {
  const int64_t size = op.width / op.heads, start = head * size;
  const float* values = b.qkv + (2 * op.width + start) * b.line;
  float* const out = b.result + start * kBlock;
  affine<Fp32>(op.tokens, b.keys + start, op.width, nullptr, b.qkv + start * b.line + first, b.line,
               size, b.scores, kBlock);
  for (int c = 0; c < kBlock; c += kLanes) {
    const Vec weight = softmax(b.scores + c, op.tokens, 1.0f / __builtin_sqrtf(size));
    for (int64_t j = 0; j < op.tokens; ++j) {
      float* const at = b.scores + j * kBlock + c;
      store(at, load<Vec>(at) * weight);
    }
  }
  affine<Fp32>(size, values, b.line, nullptr, b.scores, kBlock, op.tokens, out, kBlock);
}

template <class P>
void epoch(const Attention& op, int64_t index, float* workspace) {
  const TileScope tiles;
  const Buffers b(op, workspace);
  const int64_t start = index * op.tokens * op.width, units = units_of<P>(op.width);
  project<P>(op, op.x + start, b);
  for (int64_t first = 0; first < op.tokens; first += kBlock) {
    for (int64_t head = 0; head < op.heads; ++head) attend(op, b, head, first);
    if constexpr (P::kValues > 1) pack_lines<P>(b.result, op.width, b.result);
    affine<P>(op.width, op.w_out, units, op.b_out, b.result, kBlock, units, b.scratch, kBlock);
    const int64_t at = start + first * op.width;
    add_normalise_write(op.norm, op.x + at, smaller(op.tokens - first, kBlock), op.width, b.scratch,
                        op.out + at);
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
