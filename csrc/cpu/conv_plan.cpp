// A compiled network of convolutions, step after step, a few epochs a task; where there are fewer
// epochs than threads, all threads share the rows of each step. A row's result depends neither on
// the rows beside it nor on the thread. The convolutions are the products of strided_rows.h.
#include "activations.h"
#include "lanes.h"
#include "rows.h"
#include "strided_rows.h"
#include "transpose.h"

namespace sleeptools::SLEEPTOOLS_VARIANT {
namespace {

using Step = ConvPlan::Step;

// Some rows of an epoch's step, and what they are made from.
struct Rows {
  const ConvPlan& op;
  const Step& step;
  float* arena;
  int64_t first, last;

  const float* vector(int64_t place) const { return op.packed + place; }
  const float* source(int64_t row) const { return arena + step.source + row * step.source_row; }
  float* target(int64_t row) const { return arena + step.target + row * step.target_row; }
  const float* other(int which, int64_t row) const {
    return arena + step.other[which] + row * step.other_row[which];
  }
};

SLEEPTOOLS_INLINE Vec activated(const Rows& rows, int64_t o, Vec v) {
  switch (rows.step.activation) {
    case ConvPlan::kRelu:
      return relu(v);
    case ConvPlan::kGelu:
      return activate(TwoStreamConv::kGelu, 0.0f, v);
    case ConvPlan::kPrelu:
      return v > 0.0f ? v : v * load<Vec>(rows.vector(rows.step.slopes) + o);
    case ConvPlan::kTanh:
      return hyperbolic_tangent(v);
    case ConvPlan::kSigmoid:
      return sigmoid(v);
    default:
      return v;
  }
}

// Everything behind the sums or the pool: bias, added signals, activation, scale and shift.
template <class Lanes>
SLEEPTOOLS_INLINE void finish(const Rows& rows, int64_t t, int64_t o, Vec v, Lanes lanes) {
  const Step& step = rows.step;
  if (step.bias >= 0) v += load<Vec>(rows.vector(step.bias) + o);
  for (int i = 0; i < 2 && step.added[i] >= 0; ++i) {
    v += lanes.read(rows.arena + step.added[i] + t * step.added_row[i] + o);
  }
  v = activated(rows, o, v);
  if (step.scale >= 0) {
    v = v * load<Vec>(rows.vector(step.scale) + o) + load<Vec>(rows.vector(step.shift) + o);
  }
  lanes.write(rows.target(t) + o, v);
}

// --- convolution
// ----------------------------------------------------------------------------------

using Product = StridedProduct<Float32>;

// The sums of some rows for V vectors of outputs from `o` on, and what follows.
template <int V>
SLEEPTOOLS_INLINE void convolve_vectors(const Rows& rows, Product product, int64_t o) {
  blocks<Float32, V>(product, rows.last - rows.first);
  const float* sums = product.tile;
  for (int64_t t = rows.first; t < rows.last; ++t) {
#pragma GCC unroll 4
    for (int v = 0; v < V; ++v, sums += kLanes) {
      const int64_t map = o + v * kLanes, remaining = rows.step.outputs - map;
      const Vec sum = load<Vec>(sums);
      if (remaining >= kLanes) {
        finish(rows, t, map, sum, WholeLanes{});
      } else {
        finish(rows, t, map, sum, SomeLanes{remaining});
      }
    }
  }
}

// `count` is known at run time only: it is compared with V, V - 1, ... 1.
template <int V = kWidest * kPanelVecs>
SLEEPTOOLS_INLINE void convolve_some(const Rows& rows, const Product& product, int64_t o,
                                     int64_t count) {
  if (count == V) return convolve_vectors<V>(rows, product, o);
  if constexpr (V > 1) convolve_some<V - 1>(rows, product, o, count);
}

void convolve(const Rows& rows) {
  constexpr int64_t kSome = kManyRows<Float32>, kWide = kWidest * kPanel;
  alignas(64) float tile[kSome * kWide];
  const Step& step = rows.step;
  const bool joined = step.dilation == 1 && step.source_row == step.inputs;
  const int64_t taps = joined ? 1 : step.kernel, depth = step.kernel * step.inputs / taps;
  const int64_t panel = step.kernel * step.inputs * kPanel;
  for (int64_t first = rows.first, last = 0; first < rows.last; first = last) {
    last = next_rows<Float32>(first, rows.last);
    const Rows some = {rows.op, step, rows.arena, first, last};
    const float* in = rows.source(first * step.stride - step.pad);
    for (int64_t o = 0; o < step.outputs; o += kWide) {
      const int64_t width = smaller(step.outputs - o, kWide);
      const float* w = rows.vector(step.weight) + o / kPanel * panel;
      const Product product = {in,   step.stride * step.source_row,  depth, w, panel, tile,
                               taps, step.dilation * step.source_row};
      convolve_some(some, product, o, (width + kLanes - 1) / kLanes);
    }
  }
}

// --- the other kinds: a value from a column of the source
// ---------------------------------------------------------------------------------------

template <class Lanes>
SLEEPTOOLS_INLINE Vec depthwise(const Rows& rows, int64_t t, int64_t o, Lanes lanes) {
  const Step& step = rows.step;
  const int64_t row = ConvBlock::whole_panels(step.outputs);
  const float* w = rows.vector(step.weight) + o;
  Vec sum = {};
  for (int64_t k = 0; k < step.kernel; ++k, w += row) {
    const float* in = rows.source(t * step.stride - step.pad + k * step.dilation);
    sum += lanes.read(in + o) * load<Vec>(w);
  }
  return sum;
}

template <class Lanes>
SLEEPTOOLS_INLINE Vec highest(const Rows& rows, int64_t t, int64_t o, Lanes lanes) {
  const Step& step = rows.step;
  const int64_t start = t * step.stride - step.pad, first = start < 0 ? 0 : start;
  // dilated windows lie inside
  const int64_t last = smaller(start + step.kernel * step.dilation, step.source_steps);
  Vec best = lanes.read(rows.source(first) + o);
  for (int64_t r = first + step.dilation; r < last; r += step.dilation)
    best = maximum(best, lanes.read(rows.source(r) + o));
  return best;
}

// Of as many nearly equal windows as the target has steps, which overlap where they do not divide.
template <class Lanes>
SLEEPTOOLS_INLINE Vec mean(const Rows& rows, int64_t t, int64_t o, Lanes lanes) {
  const Step& step = rows.step;
  const int64_t first = t * step.source_steps / step.steps;
  const int64_t last = ((t + 1) * step.source_steps + step.steps - 1) / step.steps;
  constexpr int64_t kTogether = 64;  // a long sum of small numbers loses digits
  Vec sum = {};
  for (int64_t start = first; start < last; start += kTogether) {
    Vec some = {};
    for (int64_t r = start; r < smaller(start + kTogether, last); ++r) {
      some += lanes.read(rows.source(r) + o);
    }
    sum += some;
  }
  return sum / static_cast<float>(last - first);
}

template <class Lanes>
SLEEPTOOLS_INLINE Vec multiplied(const Rows& rows, int64_t t, int64_t o, Lanes lanes) {
  const int64_t row = rows.step.other_steps == 1 ? 0 : t;
  return lanes.read(rows.source(t) + o) * lanes.read(rows.other(0, row) + o);
}

template <class Lanes>
SLEEPTOOLS_INLINE Vec placed(const Rows& rows, int64_t t, int64_t o, Lanes lanes) {
  const float* w = rows.vector(rows.step.weight) + t * ConvBlock::whole_panels(rows.step.outputs);
  return lanes.read(rows.source(t) + o) + load<Vec>(w + o);
}

// Steps become maps.
template <class Lanes>
SLEEPTOOLS_INLINE Vec transposed(const Rows& rows, int64_t t, int64_t o, Lanes lanes) {
  Vec v = {};
  for (int64_t i = 0; i < lanes.count; ++i) v[i] = rows.source(o + i)[t];
  return v;
}

// `value(t, o, lanes)` for all rows and maps.
template <class Value>
SLEEPTOOLS_INLINE void for_values(const Rows& rows, const Value& value) {
  for (int64_t t = rows.first; t < rows.last; ++t) {
    for_maps(rows.step.outputs,
             [&](int64_t o, auto lanes) { finish(rows, t, o, value(t, o, lanes), lanes); });
  }
}

// Linear, between the centres of steps; the first and the last one go on outside.
void resize_rows(const Rows& rows) {
  const Step& step = rows.step;
  const int64_t unit = 2 * step.steps;
  for (int64_t t = rows.first; t < rows.last; ++t) {
    const int64_t centre = (2 * t + 1) * step.source_steps - step.steps;
    const int64_t place = centre < 0 ? 0 : centre, row = place / unit;
    const float share = static_cast<float>(place - row * unit) / static_cast<float>(unit);
    const float* const before = rows.source(row);
    const float* const after = rows.source(smaller(row + 1, step.source_steps - 1));
    for_maps(step.outputs, [&](int64_t o, auto lanes) {
      const Vec value = lanes.read(before + o) * (1.0f - share) + lanes.read(after + o) * share;
      finish(rows, t, o, value, lanes);
    });
  }
}

// --- normalisation of each row
// ----------------------------------------------------------------------------------

void normalise_rows(const Rows& rows) {
  const int64_t maps = rows.step.outputs;
  const auto width = static_cast<float>(maps);
  for (int64_t t = rows.first; t < rows.last; ++t) {
    const float* const in = rows.source(t);
    Vec total = {}, squares = {};
    for_maps(maps, [&](int64_t o, auto lanes) { total += lanes.read(in + o); });
    const float mean = sum(total) / width;
    for_maps(maps, [&](int64_t o, auto lanes) {
      float away[kLanes] = {};
      lanes.write(away, lanes.read(in + o) - mean);
      squares += load<Vec>(away) * load<Vec>(away);
    });
    const float factor = rows.step.kind == ConvPlan::kLayerNorm
                             ? 1.0f / __builtin_sqrtf(sum(squares) / width + 1e-5f)
                             : 1.0f / (__builtin_sqrtf(sum(squares) / (width - 1.0f)) + 1e-6f);
    for_maps(maps, [&](int64_t o, auto lanes) {
      finish(rows, t, o, (lanes.read(in + o) - mean) * factor, lanes);
    });
  }
}

// --- attention
// ----------------------------------------------------------------------------------
//
// Queries lie in lanes: their scores are lines, one a key, and what a head gives is lines, too, one
// a map. A row of keys or values serves kBlock queries. The softmax goes along: a block of keys
// after another, and what came before is scaled down where a larger score comes.

// sums[m] += w[m] in, over `count` lines of `in`; from a w to the next of a sum, `step`.
template <int M>
SLEEPTOOLS_INLINE void multiply_lines(const float* w, int64_t stride, int64_t step, const float* in,
                                      int64_t count, Sums<M>& sums) {
  for (int64_t k = 0; k < count; ++k, w += step, in += kBlock) {
    Vec columns[kColumns];
#pragma GCC unroll 2
    for (int c = 0; c < kColumns; ++c) columns[c] = load<Vec>(in + c * kLanes);
#pragma GCC unroll 16
    for (int m = 0; m < M; ++m) {
#pragma GCC unroll 2
      for (int c = 0; c < kColumns; ++c) sums[m][c] += w[m * stride] * columns[c];
    }
  }
}

// out[m] = factor * out[m] + w[m] in for M lines.
struct Lines {
  template <int M>
  static void run(const float* w, int64_t stride, int64_t step, const float* in, int64_t count,
                  const Vec* factor, float* out) {
    Sums<M> sums;
#pragma GCC unroll 16
    for (int m = 0; m < M; ++m) {
#pragma GCC unroll 2
      for (int c = 0; c < kColumns; ++c) {
        sums[m][c] = factor ? load<Vec>(out + m * kBlock + c * kLanes) * factor[c] : Vec{};
      }
    }
    multiply_lines<M>(w, stride, step, in, count, sums);
#pragma GCC unroll 16
    for (int m = 0; m < M; ++m) {
#pragma GCC unroll 2
      for (int c = 0; c < kColumns; ++c) store(out + m * kBlock + c * kLanes, sums[m][c]);
    }
  }
};

SLEEPTOOLS_INLINE void lines(int64_t outputs, const float* w, int64_t stride, int64_t step,
                             const float* in, int64_t count, const Vec* factor, float* out) {
  for (int64_t m = 0; m < outputs; m += kTile) {
    tile<Lines>(outputs - m, w + m * stride, stride, step, in, count, factor, out + m * kBlock);
  }
}

// Up to kBlock queries of a head, from row `first` on.
void attend_block(const Rows& rows, int64_t head, int64_t first) {
  constexpr int64_t kKeys = 256, kMost = ConvPlan::kMostMaps;
  alignas(64) float queries[kMost * kBlock], scores[kKeys * kBlock], mixed[kMost * kBlock];
  const Step& step = rows.step;
  const int64_t size = step.inputs / step.kernel, maps = step.outputs / step.kernel;
  const int64_t count = smaller(rows.last - first, kBlock);
  for (int64_t c = 0; c < kBlock; c += kLanes) {
    for_columns(rows.source(first + c) + head * size, step.source_row, count - c, size,
                [&](int64_t j, Vec values) { store(queries + j * kBlock + c, values); });
  }
  Vec largest[kColumns], total[kColumns] = {}, factor[kColumns];
  for (Vec& value : largest) value = Vec{} - __builtin_inff();
  for (int64_t i = 0; i < maps * kBlock; ++i) mixed[i] = 0.0f;
  for (int64_t key = 0; key < step.other_steps; key += kKeys) {
    const int64_t keys = smaller(step.other_steps - key, kKeys);
    lines(keys, rows.other(0, key) + head * size, step.other_row[0], 1, queries, size, nullptr,
          scores);
    for (int c = 0; c < kColumns; ++c) {
      float* const column = scores + c * kLanes;
      Vec top = largest[c];
      for (int64_t j = 0; j < keys; ++j) top = maximum(top, load<Vec>(column + j * kBlock));
      factor[c] = exponential(largest[c] - top);
      Vec added = {};
      for (int64_t j = 0; j < keys; ++j) {
        const Vec e = exponential(load<Vec>(column + j * kBlock) - top);
        store(column + j * kBlock, e);
        added += e;
      }
      total[c] = total[c] * factor[c] + added;
      largest[c] = top;
    }
    lines(maps, rows.other(1, key) + head * maps, 1, step.other_row[1], scores, keys, factor,
          mixed);
  }
  for (int c = 0; c < kColumns; ++c) {
    for (int64_t m = 0; m < maps; ++m) {
      float* const at = mixed + m * kBlock + c * kLanes;
      store(at, load<Vec>(at) / total[c]);
    }
    if (count > c * kLanes) {
      write_columns(mixed + c * kLanes, kBlock, count - c * kLanes, maps,
                    rows.target(first + c * kLanes) + head * maps, step.target_row);
    }
  }
}

void attend(const Rows& rows) {
  for (int64_t first = rows.first; first < rows.last; first += kBlock) {
    for (int64_t head = 0; head < rows.step.kernel; ++head) attend_block(rows, head, first);
  }
}

// --- LSTM
// ---------------------------------------------------------------------------------------

// gates = source + weights state, V vectors of them.
template <int V>
SLEEPTOOLS_INLINE void add_state(const float* in, const float* w, int64_t row, const float* state,
                                 int64_t maps, float* gates) {
  Vec sums[V];
#pragma GCC unroll 8
  for (int v = 0; v < V; ++v) sums[v] = load<Vec>(in + v * kLanes);
  for (int64_t k = 0; k < maps; ++k, w += row) {
#pragma GCC unroll 8
    for (int v = 0; v < V; ++v) sums[v] += state[k] * load<Vec>(w + v * kLanes);
  }
#pragma GCC unroll 8
  for (int v = 0; v < V; ++v) store(gates + v * kLanes, sums[v]);
}

// The whole of a signal, step after step, forwards or backwards.
void recur(const Rows& rows) {
  constexpr int64_t kMost = ConvPlan::kMostMaps, kWide = 8 * kLanes;
  alignas(64) float gates[4 * kMost + kPanel] = {}, state[kMost + kPanel] = {};
  alignas(64) float memory[kMost + kPanel] = {}, in[4 * kMost + kPanel] = {};
  const Step& step = rows.step;
  const int64_t maps = step.outputs, row = ConvBlock::whole_panels(4 * maps);
  const float* const w = rows.vector(step.weight);
  for (int64_t i = 0; i < step.steps; ++i) {
    const int64_t t = step.kind == ConvPlan::kLstmReversed ? step.steps - 1 - i : i;
    __builtin_memcpy(in, rows.source(t), 4 * maps * sizeof(float));
    int64_t o = 0;
    for (; o + kWide <= row; o += kWide) add_state<8>(in + o, w + o, row, state, maps, gates + o);
    for (; o < row; o += kLanes) add_state<1>(in + o, w + o, row, state, maps, gates + o);
    for (int64_t m = 0; m < maps; m += kLanes) {
      const float* const gate = gates + m;
      const Vec cell = sigmoid(load<Vec>(gate + maps)) * load<Vec>(memory + m) +
                       sigmoid(load<Vec>(gate)) * hyperbolic_tangent(load<Vec>(gate + 2 * maps));
      store(memory + m, cell);
      store(state + m, sigmoid(load<Vec>(gate + 3 * maps)) * hyperbolic_tangent(cell));
    }
    __builtin_memcpy(rows.target(t), state, maps * sizeof(float));
  }
}

void run_rows(const Rows& rows) {
  switch (rows.step.kind) {
    case ConvPlan::kConvolve:
      return convolve(rows);
    case ConvPlan::kDepthwise:
      return for_values(rows,
                        [&](int64_t t, int64_t o, auto l) { return depthwise(rows, t, o, l); });
    case ConvPlan::kMaximum:
      return for_values(rows, [&](int64_t t, int64_t o, auto l) { return highest(rows, t, o, l); });
    case ConvPlan::kMean:
      return for_values(rows, [&](int64_t t, int64_t o, auto l) { return mean(rows, t, o, l); });
    case ConvPlan::kResize:
      return resize_rows(rows);
    case ConvPlan::kMultiply:
      return for_values(rows,
                        [&](int64_t t, int64_t o, auto l) { return multiplied(rows, t, o, l); });
    case ConvPlan::kPositions:
      return for_values(rows, [&](int64_t t, int64_t o, auto l) { return placed(rows, t, o, l); });
    case ConvPlan::kTranspose:
      return for_values(rows,
                        [&](int64_t t, int64_t o, auto l) { return transposed(rows, t, o, l); });
    case ConvPlan::kAttend:
      return attend(rows);
    case ConvPlan::kLstm:
    case ConvPlan::kLstmReversed:
      if (rows.last == rows.step.steps) recur(rows);  // the thread of the last rows does all
      return;
    default:
      return normalise_rows(rows);
  }
}

// --- an epoch
// -------------------------------------------------------------------------------------

void clear_rows(float* first, int64_t rows, int64_t row, int64_t maps) {
  for (int64_t t = 0; t < rows; ++t) __builtin_memset(first + t * row, 0, maps * sizeof(float));
}

void read_input(const ConvPlan::Input& input, const float* x, float* arena) {
  float* const target = arena + input.target;
  clear_rows(target - input.before * input.row, input.before, input.row, 1);
  for (int64_t t = 0; t < input.steps; ++t) target[t * input.row] = x[input.start + t];
  clear_rows(target + input.steps * input.row, input.after, input.row, 1);
}

// Part `part` of `parts` of a step.
void run_step(const ConvPlan& op, const Step& step, float* arena, int64_t part, int64_t parts) {
  const Rows rows = {op, step, arena, step.steps * part / parts, step.steps * (part + 1) / parts};
  if (part == 0) {
    const float* const above = rows.target(-step.before);
    clear_rows(const_cast<float*>(above), step.before, step.target_row, step.outputs);
  }
  run_rows(rows);
  if (part + 1 == parts) {
    clear_rows(rows.target(step.steps), step.after, step.target_row, step.outputs);
  }
}

void write_output(const ConvPlan& op, const float* arena, float* out) {
  for (int64_t m = 0; m < op.maps; ++m) {
    for (int64_t t = 0; t < op.length; ++t, ++out) *out = arena[op.result + t * op.result_row + m];
  }
}

// Some epochs, each in its arena, step by step: the weights of a step come from afar once for all.
void run_epochs(const ConvPlan& op, int64_t first, int64_t count, float* arenas) {
  for (int64_t e = 0; e < count; ++e) {
    const float* const x = op.x + (first + e) * op.values;
    for (int64_t i = 0; i < op.input_count; ++i) {
      read_input(op.inputs[i], x, arenas + e * op.arena);
    }
  }
  for (int64_t i = 0; i < op.step_count; ++i) {
    for (int64_t e = 0; e < count; ++e) run_step(op, op.steps[i], arenas + e * op.arena, 0, 1);
  }
  for (int64_t e = 0; e < count; ++e) {
    write_output(op, arenas + e * op.arena, op.out + (first + e) * op.maps * op.length);
  }
}

// By all threads of a team together.
void share_epoch(const ConvPlan& op, int64_t epoch, float* arena, int64_t threads) {
  const float* x = op.x + epoch * op.values;
  const int64_t part = thread_number();
  for (int64_t i = part; i < op.input_count; i += threads) read_input(op.inputs[i], x, arena);
#pragma omp barrier
  for (int64_t i = 0; i < op.step_count; ++i) {
    run_step(op, op.steps[i], arena, part, threads);
#pragma omp barrier
  }
  if (part == 0) write_output(op, arena, op.out + epoch * op.maps * op.length);
#pragma omp barrier
}

}  // namespace

void conv_plan(const ConvPlan& op, int threads) {
  const bool alone = op.batch < op.team;
#pragma omp parallel num_threads(threads) if (threads > 1)
  {
    float* const arenas = aligned(op.workspace);
#ifdef _OPENMP
    const int64_t team = omp_get_num_threads();
#else
    const int64_t team = 1;
#endif
    if (alone) {
      for (int64_t b = 0; b < op.batch; ++b) share_epoch(op, b, arenas, team);
    } else {
#pragma omp for schedule(dynamic, 1)
      for (int64_t b = 0; b < op.batch; b += op.together) {
        const int64_t count = smaller(op.batch - b, op.together);
        run_epochs(op, b, count, arenas + thread_number() * op.together * op.arena);
      }
    }
  }
}

}  // namespace sleeptools::SLEEPTOOLS_VARIANT
