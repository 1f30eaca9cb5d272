// Convolution streams: convolution, activation and pool, layer after layer, in cache.
// The convolutions are the products of strided_rows.h. Some epochs go through a layer together, so
// that its weights, which with all others fill L2, are read from further away once for all of them.
#include "activations.h"
#include "strided_rows.h"

namespace sleeptools::SLEEPTOOLS_VARIANT {
namespace {

// The same buffer of each epoch of a group.
template <class T>
struct Buffers {
  T* first;
  int64_t stride, epochs;

  T* operator[](int64_t epoch) const { return first + epoch * stride; }
  Buffers from(int64_t offset) const { return {first + offset, stride, epochs}; }
};

// --- layers
// ---------------------------------------------------------------------------------------

// Floats of the sums of as many steps.
template <class P>
constexpr int kTileSize = kManyRows<P> * kWidest * kPanel;

// Convolves steps [rows.first, rows.last) for `panels` panels from `panel` on into `tile`.
template <class P>
SLEEPTOOLS_INLINE void convolve(const TwoStreamConv& op, const ConvLayer& layer,
                                const typename P::T* in, Window rows, int64_t panel, int panels,
                                float* tile) {
  const int64_t step = layer.stride * layer.inputs;
  const int64_t depth = layer.kernel * layer.inputs;
  const int64_t size = panel_size<P>(depth);
  const float* w = op.packed + layer.weight + panel * size;
  multiply<P>({in + rows.first * step, step, depth, w, size, tile}, rows.last - rows.first, panels);
}

// Convolution and activation of some panels of an epoch, from precision P to precision Q.
template <class P, class Q>
void convolve_panels(const TwoStreamConv& op, const ConvLayer& layer, const typename P::T* in,
                     int64_t panel, int panels, typename Q::T* out) {
  alignas(64) float tile[kTileSize<P>];
  const float* bias = op.packed + layer.bias + panel * kPanel;
  const int64_t width = layer.outputs - panel * kPanel;
  for (Window rows = {0, 0}; rows.first < layer.rows; rows.first = rows.last) {
    rows.last = next_rows<P>(rows.first, layer.rows);
    convolve<P>(op, layer, in, rows, panel, panels, tile);
    for (int64_t t = rows.first; t < rows.last; ++t) {
      const float* sums = tile + (t - rows.first) * panels * kPanel;
      typename Q::T* row = out + t * layer.outputs + panel * kPanel;
      for (int64_t o = 0; o < panels * kPanel && o < width; o += kLanes) {
        const Vec value = load<Vec>(sums + o) + load<Vec>(bias + o);
        write_some<Q>(row + o, activate(op.activation, op.slope, value), width - o);
      }
    }
  }
}

// Runs `some(panel, panels)` for all outputs of a layer.
template <class Some>
SLEEPTOOLS_INLINE void for_panels(const ConvLayer& layer, Some some) {
  const int64_t panel_count = (layer.outputs + kPanel - 1) / kPanel;
  int panels = 0;
  for (int64_t panel = 0; panel < panel_count; panel += panels) {
    panels = panel_count - panel < kWidest ? 1 : kWidest;
    some(panel, panels);
  }
}

// A layer without its pool; `in` starts with its padding.
template <class P, class Q>
void convolve_layer(const TwoStreamConv& op, const ConvLayer& layer, Buffers<typename P::T> in,
                    Buffers<typename Q::T> out) {
  for_panels(layer, [&](int64_t panel, int panels) {
    for (int64_t b = 0; b < in.epochs; ++b) {
      convolve_panels<P, Q>(op, layer, in[b], panel, panels, out[b]);
    }
  });
}

// Convolution, pool and activation of some panels of an epoch: what the pool drops is neither
// stored nor activated. For windows that do not overlap and an activation that never falls.
template <class P>
void convolve_and_pool_panels(const TwoStreamConv& op, const ConvLayer& layer,
                              const typename P::T* in, int64_t panel, int panels,
                              typename P::T* out) {
  alignas(64) float tile[kTileSize<P>];
  // Neighbouring windows at a time where several fit a block: the weights are then read less often.
  const bool adjoin = layer.pool_stride == layer.pool_kernel;
  const int64_t fit = adjoin ? kManyRows<P> / layer.pool_kernel : 1;
  const int64_t group = fit > 1 ? fit : 1;
  const float* bias = op.packed + layer.bias + panel * kPanel;
  const int64_t width = layer.outputs - panel * kPanel;
  for (int64_t t = 0; t < layer.steps; t += group) {
    const int64_t end = t + group < layer.steps ? t + group : layer.steps;
    const Window rows = {window(layer, t).first, window(layer, end - 1).last};
    convolve<P>(op, layer, in, rows, panel, panels, tile);
    for (int64_t u = t; u < end; ++u) {
      const Window own = window(layer, u);
      const float* sums = tile + (own.first - rows.first) * panels * kPanel;
      typename P::T* row = out + u * layer.outputs + panel * kPanel;
      for (int64_t o = 0; o < panels * kPanel && o < width; o += kLanes) {
        Vec best = load<Vec>(sums + o);
        for (int64_t r = 1; r < own.last - own.first; ++r) {
          best = maximum(best, load<Vec>(sums + r * panels * kPanel + o));
        }
        write_some<P>(row + o, activate(op.activation, op.slope, best + load<Vec>(bias + o)),
                      width - o);
      }
    }
  }
}

template <class P>
void convolve_and_pool_layer(const TwoStreamConv& op, const ConvLayer& layer,
                             Buffers<typename P::T> in, Buffers<typename P::T> out) {
  for_panels(layer, [&](int64_t panel, int panels) {
    for (int64_t b = 0; b < in.epochs; ++b) {
      convolve_and_pool_panels<P>(op, layer, in[b], panel, panels, out[b]);
    }
  });
}

// The maximum of lanes `o` and on over a window of `in` (layer.rows, layer.outputs).
template <class P>
SLEEPTOOLS_INLINE Vec pool(const ConvLayer& layer, const typename P::T* in, int64_t t, int64_t o) {
  const Window rows = window(layer, t);
  Vec best = P::read(in + rows.first * layer.outputs + o);
  for (int64_t r = rows.first + 1; r < rows.last; ++r) {
    best = maximum(best, P::read(in + r * layer.outputs + o));
  }
  return best;
}

template <class P>
void pool_layer(const ConvLayer& layer, const typename P::T* in, typename P::T* out) {
  for (int64_t t = 0; t < layer.steps; ++t) {
    for (int64_t o = 0; o < layer.outputs; o += kLanes) {
      write_some<P>(out + t * layer.outputs + o, pool<P>(layer, in, t, o), layer.outputs - o);
    }
  }
}

// The last pool of a stream, turned to (map, step) in the output.
void pool_to_output(const ConvLayer& layer, const float* in, float* out, int64_t steps) {
  for (int64_t o = 0; o < layer.outputs; o += kLanes) {
    const int64_t count = layer.outputs - o < kLanes ? layer.outputs - o : kLanes;
    for (int64_t t = 0; t < layer.steps; ++t) {
      float lanes[kLanes];
      store(lanes, pool<Float32>(layer, in, t, o));
      for (int64_t i = 0; i < count; ++i) out[(o + i) * steps + t] = lanes[i];
    }
  }
}

// Zeros after a signal: what a product may read behind its last row.
template <class P>
constexpr int kSlack = P::kTiled ? kTileDepth : kLanes;

// --- streams
// --------------------------------------------------------------------------------------

template <class T>
SLEEPTOOLS_INLINE void clear(T* p, int64_t count) {
  __builtin_memset(p, 0, count * sizeof(T));
}

// (C, samples) to (samples, C). A number of channels that the compiler knows lets it use vectors.
template <class P, int C>
SLEEPTOOLS_INLINE void interleave(const float* x, int64_t samples, int64_t channels,
                                  typename P::T* out) {
  const int64_t count = C > 0 ? C : channels;
  for (int64_t t = 0; t < samples; ++t) {
#pragma GCC unroll 4
    for (int64_t c = 0; c < count; ++c) out[t * count + c] = P::round(x[c * samples + t]);
  }
}

// The channels of a stream as (time, channel) with `op.margin` steps of zeros on both sides.
template <class P>
void read_input(const TwoStreamConv& op, const ConvStream& stream, int64_t epoch,
                typename P::T* out) {
  const int64_t channels = stream.channels;
  const float* x = op.x + (epoch * op.channels + stream.channel) * op.samples;
  clear(out, op.margin * channels);
  out += op.margin * channels;
  if (channels == 1) {
    interleave<P, 1>(x, op.samples, 1, out);
  } else if (channels == 2) {
    interleave<P, 2>(x, op.samples, 2, out);
  } else {
    interleave<P, 0>(x, op.samples, channels, out);
  }
  clear(out + op.samples * channels, op.margin * channels + kSlack<P>);
}

// One stream of a group of epochs. `in` starts with the padding of the first layer; the rows after
// a layer are written where the padding of the next one leaves room.
template <class P>
void run_stream(const TwoStreamConv& op, const ConvStream& stream, int64_t epoch,
                Buffers<typename P::T> in, Buffers<typename P::T> free,
                Buffers<typename P::T> other) {
  using T = typename P::T;
  for (int64_t i = 0; i < stream.layers; ++i) {
    const ConvLayer& layer = op.layers[stream.layer + i];
    if (i + 1 == stream.layers) {
      const int64_t stride = free.stride * static_cast<int64_t>(sizeof(T)) / sizeof(float);
      const Buffers<float> rows = {reinterpret_cast<float*>(free.first), stride, free.epochs};
      convolve_layer<P, Float32>(op, layer, in, rows);
      for (int64_t b = 0; b < rows.epochs; ++b) {
        float* out = op.out + ((epoch + b) * op.maps + stream.map) * op.steps + stream.step;
        pool_to_output(layer, rows[b], out, op.steps);
      }
      return;
    }
    const bool pools = layer.pool_kernel > 1 || layer.pool_stride > 1;
    const bool fused = pools && layer.pool_kernel <= kManyRows<P> &&
                       layer.pool_stride >= layer.pool_kernel &&
                       never_falls(op.activation, op.slope);
    if (pools && !fused) convolve_layer<P, P>(op, layer, in, free);
    // The convolution's input is no longer needed once its rows are in `free`.
    const bool apart = pools && !fused;
    const Buffers<T> rows = apart ? other : free;
    const int64_t pad = op.layers[stream.layer + i + 1].pad * layer.outputs;
    if (fused) {
      convolve_and_pool_layer<P>(op, layer, in, rows.from(pad));
    } else if (!pools) {
      convolve_layer<P, P>(op, layer, in, rows.from(pad));
    }
    for (int64_t b = 0; b < rows.epochs; ++b) {
      if (apart) pool_layer<P>(layer, free[b], rows[b] + pad);
      clear(rows[b], pad);
      clear(rows[b] + pad + layer.steps * layer.outputs, pad + kSlack<P>);
    }
    if (!apart) {
      free = other;
      other = rows;
    }
    in = rows;
  }
}

// Streams [first, last) of some epochs; neighbours that see the same channels read them once.
template <class P>
void run(const TwoStreamConv& op, int64_t epoch, int64_t epochs, int64_t first, int64_t last,
         float* slot) {
  using T = typename P::T;
  const int64_t stride = op.slot_floats() * static_cast<int64_t>(sizeof(float) / sizeof(T));
  const auto buffers = [&](int64_t offset) {
    return Buffers<T>{reinterpret_cast<T*>(slot + offset), stride, epochs};
  };
  const Buffers<T> input = buffers(0), a = buffers(op.input_size),
                   b = buffers(op.input_size + op.rows_size);
  for (int64_t i = first; i < last; ++i) {
    const ConvStream& stream = op.streams[i];
    const ConvStream& before = op.streams[i > first ? i - 1 : i];
    if (i == first || stream.channel != before.channel || stream.channels != before.channels) {
      for (int64_t e = 0; e < epochs; ++e) read_input<P>(op, stream, epoch + e, input[e]);
    }
    const int64_t spare = op.margin - op.layers[stream.layer].pad;
    run_stream<P>(op, stream, epoch, input.from(spare * stream.channels), a, b);
  }
}

constexpr int64_t kTasks = 4;  // for each thread, so that none waits long for the last one

}  // namespace

void two_stream_conv(const TwoStreamConv& op, int threads) {
  // One task for each stream keeps two cores busy with one epoch.
  const int64_t epochs_for_all = kTasks * threads, largest = op.epochs_at_once();
  const int64_t stream_tasks = op.batch < epochs_for_all * largest ? op.stream_count : 1;
  const int64_t width = op.stream_count / stream_tasks;
  const int64_t fit = op.batch * stream_tasks / epochs_for_all;
  const int64_t together = fit < 1 ? 1 : fit > largest ? largest : fit;
  const int64_t groups = (op.batch + together - 1) / together;
  const int64_t slot = op.epochs_at_once() * op.slot_floats();
#pragma omp parallel num_threads(threads) if (threads > 1)
  {
    float* const mine = aligned(op.workspace) + thread_number() * slot;
#pragma omp for schedule(dynamic, 1)
    for (int64_t task = 0; task < groups * stream_tasks; ++task) {
      const int64_t group = task / stream_tasks, first = task % stream_tasks * width;
      const int64_t epoch = op.batch * group / groups;
      const int64_t epochs = op.batch * (group + 1) / groups - epoch;
      if (op.bf16) {
        const TileScope tiles;
        run<Fastest>(op, epoch, epochs, first, first + width, mine);
      } else {
        run<Float32>(op, epoch, epochs, first, first + width, mine);
      }
    }
  }
}

}  // namespace sleeptools::SLEEPTOOLS_VARIANT
