// Gradients of the attention block, from its input alone: all that lies between is made again. A
// task is a group of epochs with sums of its own; the groups are the same for any number of threads
// and are joined in their order, so nothing depends on it.
//
// With e the softmax before its division, s one over its sum, o = s V e and g the gradient of o, a
// block of queries adds
//
//   d_V = e s g     d_scores = e (V^T s g - s g o)     d_K = d_scores q     d_q = K d_scores
//
// and with dropout, k what it makes of e, d_V = k s g and d_scores = k V^T s g - e s g o.
//
// Where the queries are what is summed over, the lines of e and d_scores are turned first.
#include "attention.h"
#include "lanes.h"

namespace sleeptools::SLEEPTOOLS_VARIANT {
namespace {

static_assert(kLanes <= AttentionBackward::kMaxLanes);

// A thread's part of the workspace.
struct Slot : Projected {
  int64_t padded;              // a row of `x_rows` and `mixed_rows`: whole vectors
  float* d_qkv;                // as qkv
  float* values;               // as keys
  float *x_rows, *mixed_rows;  // (line, padded): the input, and the heads' output
  float *mixed, *d_total;      // (width, line): that by lines; the gradient before the LayerNorm,
  float* d_added;              // and behind the dropout
  float *queries, *total, *d_mixed;  // of a block: (width, kBlock)
  float *weights, *kept, *shares;    // of a block: (heads, line, kBlock) twice, (heads, kBlock)
  float* d_scores;                   // of a head: (line, kBlock)
  float *turned, *d_turned;  // (kBlock, kBlock): some keys' weights and gradients, by queries

  Slot(const AttentionBackward& all, int64_t thread) {
    const Attention& op = all.attention;
    const int64_t width = op.width;
    line = Attention::padded(op.tokens);
    padded = Attention::padded(width);
    float* start =
        aligned(op.workspace +
                AttentionBackward::groups(op.batch) * AttentionBackward::group_floats(width) +
                thread * AttentionBackward::slot_floats(op.tokens, width, op.heads));
    const auto next = [&](int64_t floats) {
      float* const part = start;
      start += floats;
      return part;
    };
    qkv = next(3 * width * line);
    d_qkv = next(3 * width * line);
    keys = next(width * line);
    values = next(width * line);
    x_rows = next(padded * line);
    mixed_rows = next(padded * line);
    mixed = next(width * line);
    d_total = next(width * line);
    d_added = op.drop_below > 0 ? next(width * line) : d_total;
    in = next(width * kBlock);
    scratch = next(width * kBlock);
    queries = next(width * kBlock);
    total = next(width * kBlock);
    d_mixed = next(width * kBlock);
    weights = next(op.heads * line * kBlock);
    kept = op.drop_below > 0 ? next(op.heads * line * kBlock) : weights;
    d_scores = next(line * kBlock);
    shares = next(op.heads * kBlock);
    turned = next(kBlock * kBlock);
    d_turned = next(kBlock * kBlock);
    longest = next(op.heads);
  }
};

// A group's sums.
struct GroupSums {
  float *d_w_in, *d_w_out;                     // (3 width, padded), (width, padded)
  float *d_b_in, *d_b_out, *d_gamma, *d_beta;  // a vector of lanes for each number

  GroupSums(const AttentionBackward& all, int64_t group) {
    const int64_t width = all.attention.width, padded = Attention::padded(width);
    d_w_in = all.attention.workspace + group * AttentionBackward::group_floats(width);
    d_w_out = d_w_in + 3 * width * padded;
    d_b_in = d_w_out + width * padded;
    d_b_out = d_b_in + 3 * width * kLanes;
    d_gamma = d_b_out + width * kLanes;
    d_beta = d_gamma + width * kLanes;
  }
};

SLEEPTOOLS_INLINE void add(float* out, Vec v) { store(out, load<Vec>(out) + v); }

// All ones in the first `count` lanes.
SLEEPTOOLS_INLINE Bits first_lanes(int64_t count) {
  Bits lanes;
  for (int i = 0; i < kLanes; ++i) lanes[i] = i < count ? ~0u : 0u;
  return lanes;
}

// Back through the LayerNorm: `total` (width, kBlock) holds what it sees but for x, `grad` the
// gradient behind it; total becomes the gradient before it, zero where there is no token.
void norm_backward(const Attention& op, const float* x, const float* grad, int64_t rows,
                   float* total, const GroupSums& sums) {
  const int64_t width = op.width;
  const float share = 1.0f / static_cast<float>(width);
  for (int c = 0; c < kBlock; c += kLanes) {
    const Bits there = first_lanes(rows - c);
    Vec mean = {}, variance = {}, scale, sum = {}, product = {};
    for (int64_t j = 0; j < width; ++j) {
      add(total + j * kBlock + c, load<Vec>(x + j * kBlock + c));
      mean += load<Vec>(total + j * kBlock + c);
    }
    mean *= share;
    for (int64_t j = 0; j < width; ++j) {
      const Vec away = load<Vec>(total + j * kBlock + c) - mean;
      variance += away * away;
    }
    for (int i = 0; i < kLanes; ++i) {
      scale[i] = 1.0f / __builtin_sqrtf(variance[i] * share + op.norm.eps);
    }
    for (int64_t j = 0; j < width; ++j) {
      float* const at = total + j * kBlock + c;
      const Vec normal = (Vec)((Bits)((load<Vec>(at) - mean) * scale) & there);
      const Vec g = load<Vec>(grad + j * kBlock + c);
      store(at, normal);
      add(sums.d_gamma + j * kLanes, g * normal);
      add(sums.d_beta + j * kLanes, g);
      sum += g * op.norm.gamma[j];
      product += g * op.norm.gamma[j] * normal;
    }
    sum *= share;
    product *= share;
    for (int64_t j = 0; j < width; ++j) {
      float* const at = total + j * kBlock + c;
      const Vec g = load<Vec>(grad + j * kBlock + c) * op.norm.gamma[j];
      const Vec d = (Vec)((Bits)(scale * (g - sum - load<Vec>(at) * product)) & there);
      store(at, d);
    }
  }
}

// kBlock lines of kBlock lanes, turned.
SLEEPTOOLS_INLINE void turn_block(const float* lines, float* out) {
  for (int i = 0; i < kBlock; i += kLanes) {
    for (int c = 0; c < kBlock; c += kLanes) {
      Vec block[kLanes];
#pragma GCC unroll 16
      for (int r = 0; r < kLanes; ++r) block[r] = load<Vec>(lines + (i + r) * kBlock + c);
      transpose(block);
#pragma GCC unroll 16
      for (int r = 0; r < kLanes; ++r) store(out + (c + r) * kBlock + i, block[r]);
    }
  }
}

// Of a head, for `rows` queries from token `first` on.
void head_backward(const Attention& op, const Slot& slot, int64_t head, int64_t first,
                   int64_t rows) {
  const int64_t size = op.width / op.heads, start = head * size, line = slot.line;
  const float* const weights = slot.weights + head * line * kBlock;
  const float* const kept = slot.kept + head * line * kBlock;
  const bool drops = op.drop_below > 0;
  float* const d_mixed = slot.d_mixed + start * kBlock;
  float* const queries = slot.queries + start * kBlock;
  float* const d_q = slot.d_qkv + start * line + first;
  float* const d_k = slot.d_qkv + (op.width + start) * line;
  float* const d_v = slot.d_qkv + (2 * op.width + start) * line;
  Vec product[kColumns] = {};
  for (int c = 0; c < kColumns; ++c) {
    const Vec share = load<Vec>(slot.shares + head * kBlock + c * kLanes);
    for (int64_t i = 0; i < size; ++i) {
      float* const at = d_mixed + i * kBlock + c * kLanes;
      const Vec g = load<Vec>(at) * share;
      store(at, g);
      product[c] += g * load<Vec>(slot.mixed + (start + i) * line + first + c * kLanes);
    }
  }
  for_sums(op.tokens, slot.values + start, op.width, d_mixed, kBlock, size,
           [&](int64_t j, int c, Vec sum) {
             const int64_t at = j * kBlock + c * kLanes;
             const Vec e = load<Vec>(weights + at);
             store(slot.d_scores + at,
                   drops ? load<Vec>(kept + at) * sum - e * product[c] : e * (sum - product[c]));
           });
  const float scale = 1.0f / __builtin_sqrtf(static_cast<float>(size));
  for_sums(size, slot.qkv + (op.width + start) * line, line, slot.d_scores, kBlock, op.tokens,
           [&](int64_t i, int c, Vec sum) { store(d_q + i * line + c * kLanes, sum * scale); });
  for (int64_t j = 0; j < op.tokens; j += kBlock) {
    turn_block(kept + j * kBlock, slot.turned);
    turn_block(slot.d_scores + j * kBlock, slot.d_turned);
    for_sums(size, d_mixed, kBlock, slot.turned, kBlock, rows,
             [&](int64_t i, int c, Vec sum) { add(d_v + i * line + j + c * kLanes, sum); });
    for_sums(size, queries, kBlock, slot.d_turned, kBlock, rows,
             [&](int64_t i, int c, Vec sum) { add(d_k + i * line + j + c * kLanes, sum * kLog2); });
  }
}

// Copies lines of a block to where they are in those of all tokens.
void keep_lines(const Slot& slot, int64_t count, const float* lines, float* out) {
  for (int64_t j = 0; j < count; ++j) {
    for (int c = 0; c < kBlock; c += kLanes) {
      store(out + j * slot.line + c, load<Vec>(lines + j * kBlock + c));
    }
  }
}

// From token `first` on: gradients before the LayerNorm and of the queries, and what its queries
// are to the gradients of all keys and values.
void block_backward(const AttentionBackward& all, const Slot& slot, const GroupSums& sums,
                    int64_t epoch, int64_t first) {
  const Attention& op = all.attention;
  const int64_t width = op.width, size = width / op.heads, line = slot.line;
  const int64_t rows = smaller(op.tokens - first, kBlock);
  const int64_t at = (epoch * op.tokens + first) * width;
  const bool drops = op.drop_below > 0;
  for (int64_t head = 0; head < op.heads; ++head) {
    Vec shares[kColumns];
    float* const weights = slot.weights + head * line * kBlock;
    float* const kept = slot.kept + head * line * kBlock;
    weigh(op, slot, head, first, slot.queries + head * size * kBlock, weights, shares);
    if (drops) {
      __builtin_memcpy(kept, weights, op.tokens * kBlock * sizeof(float));
      drop_weights(op, epoch, head, first, rows, kept);
    }
    mix(op, slot, head, kept, shares, slot.scratch + head * size * kBlock);
    for (int c = 0; c < kColumns; ++c) {
      store(slot.shares + head * kBlock + c * kLanes, shares[c]);
    }
  }
  affine<Fp32>(width, op.w_out, width, op.b_out, slot.scratch, kBlock, width, slot.total, kBlock);
  if (drops) drop_added(op, epoch, first, rows, slot.total);
  keep_lines(slot, width, slot.scratch, slot.mixed + first);
  read_rows<Fp32>(op.x + at, width, rows, width, nullptr, slot.in);
  read_rows<Fp32>(all.grad + at, width, rows, width, nullptr, slot.scratch);
  norm_backward(op, slot.in, slot.scratch, rows, slot.total, sums);
  keep_lines(slot, width, slot.total, slot.d_total + first);
  if (drops) {
    drop_added(op, epoch, first, rows, slot.total);
    keep_lines(slot, width, slot.total, slot.d_added + first);
  }
  affine<Fp32>(width, all.w_out_t, width, nullptr, slot.total, kBlock, width, slot.d_mixed, kBlock);
  for (int64_t head = 0; head < op.heads; ++head) head_backward(op, slot, head, first, rows);
}

// out += lines times rows over the tokens: (outputs, line) by (line, padded).
void add_products(const Slot& slot, int64_t tokens, int64_t outputs, const float* lines,
                  const float* rows, float* out) {
  for (int64_t j = 0; j < slot.padded; j += kBlock) {
    for_sums(outputs, lines, slot.line, rows + j, slot.padded, tokens,
             [&](int64_t o, int c, Vec sum) { add(out + o * slot.padded + j + c * kLanes, sum); });
  }
}

// out += the sums of lines of tokens, a vector of lanes each.
void add_lines(const Slot& slot, int64_t tokens, int64_t count, const float* lines, float* out) {
  for (int64_t j = 0; j < count; ++j) {
    for (int64_t t = 0; t < tokens; t += kLanes) {
      add(out + j * kLanes, load<Vec>(lines + j * slot.line + t));
    }
  }
}

void epoch_backward(const AttentionBackward& all, int64_t index, const Slot& slot,
                    const GroupSums& sums) {
  const Attention& op = all.attention;
  const int64_t width = op.width, tokens = op.tokens, line = slot.line;
  const int64_t start = index * tokens * width, padded = slot.padded;
  project<Fp32>(op, op.x + start, slot);
  turn_lines(slot.qkv + 2 * width * line, line, tokens, width, slot.values, width);
  __builtin_memset(slot.d_qkv, 0, 3 * width * line * sizeof(float));
  const int64_t behind = (line - tokens) * kBlock * sizeof(float);  // of lines without a key
  for (int64_t head = 0; head < op.heads; ++head) {
    __builtin_memset(slot.kept + (head * line + tokens) * kBlock, 0, behind);
  }
  __builtin_memset(slot.d_scores + tokens * kBlock, 0, behind);
  for (int64_t first = 0; first < tokens; first += kBlock) {
    block_backward(all, slot, sums, index, first);
  }

  __builtin_memset(slot.x_rows, 0, tokens * padded * sizeof(float));
  __builtin_memset(slot.mixed_rows, 0, tokens * padded * sizeof(float));
  for (int64_t t = 0; t < tokens; ++t) {
    __builtin_memcpy(slot.x_rows + t * padded, op.x + start + t * width, width * sizeof(float));
  }
  turn_lines(slot.mixed, line, tokens, width, slot.mixed_rows, padded);
  add_products(slot, tokens, 3 * width, slot.d_qkv, slot.x_rows, sums.d_w_in);
  add_products(slot, tokens, width, slot.d_added, slot.mixed_rows, sums.d_w_out);
  add_lines(slot, tokens, 3 * width, slot.d_qkv, sums.d_b_in);
  add_lines(slot, tokens, width, slot.d_added, sums.d_b_out);
  for (int64_t first = 0; first < tokens; first += kBlock) {
    affine<Fp32>(width, all.w_in_t, 3 * width, nullptr, slot.d_qkv + first, line, 3 * width,
                 slot.scratch, kBlock);
    for (int64_t j = 0; j < width; ++j) {
      for (int c = 0; c < kBlock; c += kLanes) {
        add(slot.scratch + j * kBlock + c, load<Vec>(slot.d_total + j * line + first + c));
      }
    }
    write_rows(slot.scratch, smaller(tokens - first, kBlock), width,
               all.d_x + start + first * width);
  }
}

// Joins the groups' gradients of row `o` of both matrices, one below the other, and of the vectors.
void join(const AttentionBackward& all, int64_t o) {
  const int64_t width = all.attention.width, padded = Attention::padded(width);
  const int64_t groups = AttentionBackward::groups(all.attention.batch);
  const int64_t size = AttentionBackward::group_floats(width);
  const GroupSums first(all, 0);
  const auto total = [&](const float* at) {
    Vec all_groups = load<Vec>(at);
    for (int64_t g = 1; g < groups; ++g) all_groups += load<Vec>(at + g * size);
    return all_groups;
  };
  float* const row = o < 3 * width ? all.d_w_in + o * width : all.d_w_out + (o - 3 * width) * width;
  for_maps(width, [&](int64_t j, auto lanes) {
    lanes.write(row + j, total(first.d_w_in + o * padded + j));
  });
  if (o < 3 * width) {
    all.d_b_in[o] = sum(total(first.d_b_in + o * kLanes));
    return;
  }
  const int64_t j = o - 3 * width;
  all.d_b_out[j] = sum(total(first.d_b_out + j * kLanes));
  all.d_gamma[j] = sum(total(first.d_gamma + j * kLanes));
  all.d_beta[j] = sum(total(first.d_beta + j * kLanes));
}

}  // namespace

void attention_backward(const AttentionBackward& all, int threads) {
  const Attention& op = all.attention;
  const int64_t groups = AttentionBackward::groups(op.batch);
  if (threads > op.slots) threads = static_cast<int>(op.slots);
#pragma omp parallel num_threads(threads) if (threads > 1)
  {
    const Slot slot(all, thread_number());
#pragma omp for schedule(dynamic)
    for (int64_t g = 0; g < groups; ++g) {
      const GroupSums sums(all, g);
      __builtin_memset(sums.d_w_in, 0, AttentionBackward::group_floats(op.width) * sizeof(float));
      for (int64_t b = op.batch * g / groups; b < op.batch * (g + 1) / groups; ++b) {
        epoch_backward(all, b, slot, sums);
      }
    }
#pragma omp for schedule(static)
    for (int64_t o = 0; o < 4 * op.width; ++o) join(all, o);
  }
}

}  // namespace sleeptools::SLEEPTOOLS_VARIANT
