// A compiled network of convolutions, step after step, an epoch a task; where there are fewer
// epochs than threads, all threads share the rows of each step. A row's result depends neither on
// the rows beside it nor on the thread. The convolutions are the products of strided_rows.h.
#include "activations.h"
#include "lanes.h"
#include "rows.h"
#include "strided_rows.h"

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
};

SLEEPTOOLS_INLINE Vec activated(const Rows& rows, int64_t o, Vec v) {
  switch (rows.step.activation) {
    case ConvPlan::kRelu:
      return relu(v);
    case ConvPlan::kGelu:
      return activate(TwoStreamConv::kGelu, 0.0f, v);
    case ConvPlan::kPrelu:
      return v > 0.0f ? v : v * load<Vec>(rows.vector(rows.step.slopes) + o);
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
  const int64_t last = smaller(start + step.kernel, step.source_steps);
  Vec best = lanes.read(rows.source(first) + o);
  for (int64_t r = first + 1; r < last; ++r) best = maximum(best, lanes.read(rows.source(r) + o));
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

// Linear, between the centres of steps; the first and the last one go on outside.
template <class Lanes>
SLEEPTOOLS_INLINE Vec resized(const Rows& rows, int64_t t, int64_t o, Lanes lanes) {
  const Step& step = rows.step;
  const int64_t unit = 2 * step.steps, centre = (2 * t + 1) * step.source_steps - step.steps;
  const int64_t place = centre < 0 ? 0 : centre, row = place / unit;
  const int64_t next = smaller(row + 1, step.source_steps - 1);
  const float share = static_cast<float>(place % unit) / static_cast<float>(unit);
  const Vec before = lanes.read(rows.source(row) + o), after = lanes.read(rows.source(next) + o);
  return before * (1.0f - share) + after * share;
}

// `value(t, o, lanes)` for all rows and maps.
template <class Value>
SLEEPTOOLS_INLINE void for_values(const Rows& rows, const Value& value) {
  for (int64_t t = rows.first; t < rows.last; ++t) {
    for_maps(rows.step.outputs,
             [&](int64_t o, auto lanes) { finish(rows, t, o, value(t, o, lanes), lanes); });
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
    default:
      return for_values(rows, [&](int64_t t, int64_t o, auto l) { return resized(rows, t, o, l); });
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

void run_epoch(const ConvPlan& op, int64_t epoch, float* arena) {
  const float* x = op.x + epoch * op.values;
  for (int64_t i = 0; i < op.input_count; ++i) read_input(op.inputs[i], x, arena);
  for (int64_t i = 0; i < op.step_count; ++i) run_step(op, op.steps[i], arena, 0, 1);
  write_output(op, arena, op.out + epoch * op.maps * op.length);
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
      for (int64_t b = 0; b < op.batch; ++b) {
        run_epoch(op, b, arenas + thread_number() * op.arena);
      }
    }
  }
}

}  // namespace sleeptools::SLEEPTOOLS_VARIANT
