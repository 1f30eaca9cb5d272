// A compiled network of convolutions, step after step, a few epochs a task; where there are fewer
// epochs than threads, all threads share the rows of each step. A row's result depends neither on
// the rows beside it nor on the thread.
#include "plan_attention.h"
#include "plan_products.h"

namespace sleeptools::SLEEPTOOLS_VARIANT {
namespace {

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

void run_rows(const Rows& rows) {
  switch (rows.step.kind) {
    case ConvPlan::kConvolve:
      return convolve_rows(rows);
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

void clear_target(const Rows& rows, int64_t first, int64_t count) {
  const Step& step = rows.step;
  if (!step.target_bf16) {
    return clear_rows(rows.target(first), count, step.target_row, step.outputs);
  }
  for (int64_t t = first; t < first + count; ++t) {
    __builtin_memset(rows.half_target(t), 0, step.outputs * sizeof(uint16_t));
  }
}

bool is_lstm(const Step& step) {
  return step.kind == ConvPlan::kLstm || step.kind == ConvPlan::kLstmReversed;
}

// A step in some epochs' arenas or, of a single epoch, part `part` of `parts` of it.
void run_step(const ConvPlan& op, const Step& step, float* arenas, int64_t epochs, float* scratch,
              int64_t part = 0, int64_t parts = 1) {
  const int64_t first = step.steps * part / parts, last = step.steps * (part + 1) / parts;
  for (int64_t e = 0; e < epochs; ++e) {
    const Rows rows = {op, step, arenas + e * op.arena, scratch, first, last};
    const bool begins = part == 0, ends = part + 1 == parts;
    if (begins) clear_target(rows, -step.before, step.before);
    if (!is_lstm(step)) run_rows(rows);
    if (ends) clear_target(rows, step.steps, step.after);
  }
  // the thread of the last rows does all
  if (is_lstm(step) && part + 1 == parts) recur_epochs(op, step, arenas, epochs);
}

void write_output(const ConvPlan& op, const float* arena, float* out) {
  for (int64_t m = 0; m < op.maps; ++m) {
    for (int64_t t = 0; t < op.length; ++t, ++out) *out = arena[op.result + t * op.result_row + m];
  }
}

// Some epochs, each in its arena, step by step: the weights of a step come from afar once for all.
void run_epochs(const ConvPlan& op, int64_t first, int64_t count, float* arenas, float* scratch) {
  for (int64_t e = 0; e < count; ++e) {
    const float* const x = op.x + (first + e) * op.values;
    for (int64_t i = 0; i < op.input_count; ++i) {
      read_input(op.inputs[i], x, arenas + e * op.arena);
    }
  }
  for (int64_t i = 0; i < op.step_count; ++i) {
    run_step(op, op.steps[i], arenas, count, scratch);
  }
  for (int64_t e = 0; e < count; ++e) {
    write_output(op, arenas + e * op.arena, op.out + (first + e) * op.maps * op.length);
  }
}

// By all threads of a team together.
void share_epoch(const ConvPlan& op, int64_t epoch, float* arena, float* scratch, int64_t threads) {
  const float* x = op.x + epoch * op.values;
  const int64_t part = thread_number();
  for (int64_t i = part; i < op.input_count; i += threads) read_input(op.inputs[i], x, arena);
#pragma omp barrier
  for (int64_t i = 0; i < op.step_count; ++i) {
    run_step(op, op.steps[i], arena, 1, scratch, part, threads);
#pragma omp barrier
  }
  if (part == 0) write_output(op, arena, op.out + epoch * op.maps * op.length);
#pragma omp barrier
}

// A thread's epochs.
void run_thread(const ConvPlan& op, bool alone) {
  float* const arenas = aligned(op.workspace);
  const int64_t thread = thread_number(), slot = op.together * op.arena;
  float* const scratch = arenas + (alone ? op.arena : op.team * slot) + thread * op.scratch;
#ifdef _OPENMP
  const int64_t team = omp_get_num_threads();
#else
  const int64_t team = 1;
#endif
  if (alone) {
    for (int64_t b = 0; b < op.batch; ++b) share_epoch(op, b, arenas, scratch, team);
    return;
  }
#pragma omp for schedule(dynamic, 1)
  for (int64_t b = 0; b < op.batch; b += op.together) {
    const int64_t count = smaller(op.batch - b, op.together);
    run_epochs(op, b, count, arenas + thread * slot, scratch);
  }
}

}  // namespace

void conv_plan(const ConvPlan& op, int threads) {
  const bool alone = op.batch < op.team;
#pragma omp parallel num_threads(threads) if (threads > 1)
  {
    if (op.bf16) {
      const TileScope tiles;
      run_thread(op, alone);
    } else {
      run_thread(op, alone);
    }
  }
}

}  // namespace sleeptools::SLEEPTOOLS_VARIANT
