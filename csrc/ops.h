// The ops of the native core: one struct of raw pointers and sizes each, and the list of them.
// Arrays are C-contiguous float32 unless the struct says otherwise; the caller owns all memory.
#pragma once

#include <cstdint>

namespace sleeptools {

// Modal-wise squeeze-and-excitation block (MMASleepNet), BatchNorm folded into w1 b1 w2 b2.
struct ModalSe {
  static constexpr int kMaxModalities = 16;  // up to 8 the kernels keep a column in registers

  const float* x;                                              // (batch, modalities, samples)
  const float *w1, *b1, *w2, *b2;                              // 1x1 convolutions, (M, M) and (M)
  const float *squeeze, *squeeze_bias, *excite, *excite_bias;  // gate, (M, M) and (M)
  float* out;                                                  // as x; must not overlap it
  int64_t batch;
  int64_t modalities;  // M, 1 to kMaxModalities
  int64_t samples;     // feature maps times time steps
  bool authors;        // relu(x + f * e) of the authors' code; otherwise Eq. 5, x + x * e
};

// LayerNorm over a row; gamma and beta are null where there is none.
struct Norm {
  const float *gamma, *beta;  // (width)
  float eps;
};

// Attention block of a Transformer layer that normalises last: out = norm(x + w_out a + b_out) for
// every token, a the multi-head self-attention among the tokens of an epoch, its queries, keys and
// values w_in x + b_in.
struct Attention {
  static constexpr int64_t kMaxBlock = 32;  // tokens that the CPU takes through a product

  // Tokens rounded up to whole blocks.
  static constexpr int64_t padded(int64_t tokens) {
    return (tokens + kMaxBlock - 1) / kMaxBlock * kMaxBlock;
  }

  // Floats of workspace for each thread on the CPU: queries, keys and values, the keys again by
  // rows, and for one block its input, its scores and the heads' output; a number for each head.
  static constexpr int64_t workspace_floats(int64_t tokens, int64_t width) {
    constexpr int64_t kAlignment = 16;
    return padded(tokens) * (4 * width + kMaxBlock) + 5 * width * kMaxBlock + kAlignment;
  }

  // Float operations for an epoch.
  static constexpr int64_t work(int64_t tokens, int64_t width) {
    return tokens * width * (8 * width + 4 * tokens);
  }

  const float* x;                              // (batch, tokens, width)
  const void *w_in, *w_out;                    // (3 width, width), (width, width): as FeedForward's
  const float *b_in, *b_out;                   // (3 width), (width)
  float* workspace;                            // CPU: slots * workspace_floats(tokens, width);
                                               // CUDA: batch * tokens * 4 * width
  float* out;                                  // as x; must not overlap it
  int64_t batch, tokens, width, heads, slots;  // slots: threads that the workspace is enough for
  bool bf16;  // round the operands of both projections to bfloat16; sums are float32
  // Dropout's probability times 2^32, and its seed: the weights of (batch * heads, query, key) are
  // dropped as Dropout's x, and with the next seed what is added to x.
  uint32_t drop_below;
  uint64_t seed;
  Norm norm;
};

// Gradients of Attention in float32, from its inputs and the gradient of its output; CPU only.
struct AttentionBackward {
  static constexpr int64_t kGroups = 16;  // of epochs, each with its own sums
  static constexpr int64_t kMaxBlock = Attention::kMaxBlock;
  static constexpr int64_t kMaxLanes = 16;  // of any variant
  static constexpr int64_t kAlignment = 16;

  static constexpr int64_t groups(int64_t batch) {
    return batch < 1 ? 1 : batch < kGroups ? batch : kGroups;
  }

  // A group's gradients of both matrices, and a vector of lanes for each number of the others.
  static constexpr int64_t group_floats(int64_t width) {
    return width * (4 * Attention::padded(width) + 6 * kMaxLanes);
  }

  // Queries, keys and values by lines and their gradients, keys and values by rows; the input and
  // the heads' output by rows, the latter by lines, and the gradient before the LayerNorm, also
  // behind the dropout; for a block its queries, its two ends and what lies between, a head's
  // gradients, the softmax of each head with dropout and without, and its sums; two turned blocks.
  static constexpr int64_t slot_floats(int64_t tokens, int64_t width, int64_t heads) {
    const int64_t line = Attention::padded(tokens);
    return line * (11 * width + 2 * Attention::padded(width) + (2 * heads + 1) * kMaxBlock) +
           kMaxBlock * (5 * width + heads + 2 * kMaxBlock) + heads + 2 * kAlignment;
  }

  static constexpr int64_t workspace_floats(int64_t batch, int64_t tokens, int64_t width,
                                            int64_t heads, int64_t slots) {
    return groups(batch) * group_floats(width) + slots * slot_floats(tokens, width, heads) +
           kAlignment;
  }

  Attention attention;  // `out` and `bf16` are not used; the workspace is for these gradients
  const float *w_in_t, *w_out_t;  // the matrices transposed, (width, 3 width) and (width, width)
  const float* grad;              // as `out`
  float* d_x;                     // as x
  float *d_w_in, *d_w_out;        // as the matrices
  float *d_b_in, *d_b_out, *d_gamma, *d_beta;  // (3 width), (width)
};

// Two dense layers over an epoch's features: out = w2 relu(w1 (x * gate) + b1) + b2. Without a gate
// (null) over x alone, and without `rectify` the first layer is linear.
struct Classifier {
  const float *x, *gate;           // (batch, inputs)
  const float *w1, *b1, *w2, *b2;  // (hidden, inputs), (hidden), (stages, hidden), (stages)
  float* hidden_layer;             // workspace (batch, hidden)
  float* out;                      // (batch, stages)
  int64_t batch, inputs, hidden, stages;
  bool rectify;
};

// The probability of each stage, the softmax of the logits; NaN for an epoch of which a sample or a
// logit is not finite. CPU only.
struct Hypnodensity {
  const float* x;       // (batch, values)
  const float* logits;  // (batch, stages)
  float* out;           // as the logits
  int64_t batch, values, stages;
};

// Feed-forward block of a Transformer layer: out = w2 drop(relu(w1 x + b1)) + b2 for every row of
// x. Dropout sets a hidden unit to zero where its random word (cpu/dropout.h) is below drop_below
// and scales the others up; drop_below is the probability times 2^32.
struct FeedForward {
  static constexpr int64_t kHiddenAtOnce = 128;  // 32-bit units of the hidden layer in memory
  static constexpr int64_t kMaxBlock = 32;       // rows that the CPU takes through both layers
  static constexpr int64_t kBlocks = 8;          // of them, for each part of the hidden layer

  // Floats of workspace for each thread: some blocks' rows, and their sums over each half of the
  // hidden layer; and a block's part of the hidden layer.
  static constexpr int64_t workspace_floats(int64_t width) {
    constexpr int64_t kAlignment = 16;
    return (3 * kBlocks * width + kHiddenAtOnce) * kMaxBlock + kAlignment;
  }

  const float* x;                      // (rows, width)
  const void *w1, *w2;                 // (hidden, width), (width, hidden): float32; with bf16 set,
                                       // bfloat16 with both widths rounded up by zeros, to even
                                       // ones on the CPU and to multiples of 8 on CUDA
  const float *b1, *b2;                // (hidden), (width)
  float* workspace;                    // CPU only: slots * workspace_floats(width)
  float* out;                          // as x; must not overlap it
  int64_t rows, width, hidden, slots;  // slots: threads that the workspace is enough for
  bool bf16;  // round x, both weights and the hidden layer to bfloat16; sums are float32
  uint32_t drop_below;
  uint64_t seed;
  Norm norm;  // CPU only; where it is set, out = norm(x + the above)
};

// Gradients of FeedForward from its inputs and the gradient of its output. On CUDA in bf16 only: x
// and grad are then bfloat16, too, with rows as the weights'.
struct FeedForwardBackward {
  static constexpr int64_t kWidest = 128;  // CUDA: columns that fit into a block
  static constexpr int64_t kMarked = 64;   // CUDA: units whose dropout is four words of 16 bits
  static constexpr int64_t kHiddenAtOnce = 96;  // hidden units in memory
  static constexpr int64_t kRowsAtOnce = 512;   // of which they are
  static constexpr int64_t kMaxBlock = FeedForward::kMaxBlock;
  static constexpr int64_t kMaxLanes = 16;  // of any variant
  static constexpr int64_t kAlignment = 16;
  static constexpr int64_t kStride = kRowsAtOnce + kAlignment;  // units do not share cache sets
  static constexpr int64_t kGroups = 16;                        // of rows, each with its own sums

  static constexpr int64_t padded(int64_t width) {
    return (width + kMaxBlock - 1) / kMaxBlock * kMaxBlock;
  }

  static constexpr int64_t groups(int64_t rows) {
    const int64_t full = (rows + kRowsAtOnce - 1) / kRowsAtOnce;
    return full < 1 ? 1 : full < kGroups ? full : kGroups;
  }

  // A group's gradients of the weights.
  static constexpr int64_t group_floats(int64_t width, int64_t hidden) {
    return hidden * (2 * padded(width) + 1);
  }

  // Some rows in three layouts and their gradients, and a part of the hidden layer, twice.
  static constexpr int64_t slot_floats(int64_t width) {
    return kRowsAtOnce * (3 * width + 2 * padded(width)) + kAlignment +
           kHiddenAtOnce * (2 * kStride + 2 * kMaxBlock + kMaxLanes);
  }

  static constexpr int64_t workspace_floats(int64_t rows, int64_t width, int64_t hidden,
                                            int64_t slots) {
    return groups(rows) * group_floats(width, hidden) + slots * slot_floats(width);
  }

  // CUDA: the groups' sums, and which hidden units dropout keeps.
  static constexpr int64_t cuda_workspace_floats(int64_t rows, int64_t width, int64_t hidden) {
    return groups(rows) * hidden * (2 * width + 1) + rows * ((hidden + kMarked - 1) / kMarked) * 2;
  }

  const float *x, *grad;               // (rows, width)
  const void *w1, *w1t, *w2t;          // (hidden, width), (width, hidden), (hidden, width): as
                                       // FeedForward's weights, two of them transposed
  const float* b1;                     // (hidden)
  float* workspace;                    // workspace_floats(rows, width, hidden, slots), CUDA:
                                       // cuda_workspace_floats(rows, width, hidden)
  float* d_x;                          // (rows, width)
  float *d_w1, *d_b1, *d_w2;           // (hidden, width), (hidden), (width, hidden)
  int64_t rows, width, hidden, slots;  // slots: threads that the workspace is enough for
  bool bf16;  // round x, grad, the weights, the hidden layer and its gradient to bfloat16
  uint32_t drop_below;
  uint64_t seed;

  int64_t padded() const { return padded(width); }
};

// One convolution of a stream with the activation and the pool after it. All sizes in elements.
struct ConvLayer {
  int64_t inputs, outputs, kernel, stride, pad;
  int64_t pool_kernel, pool_stride, pool_pad;  // 1, 1, 0 where there is none
  int64_t rows;                                // time steps of the convolution's output
  int64_t steps;                               // time steps after the pool
  int64_t bias, weight;                        // where they start in TwoStreamConv::packed
};

// A chain of layers over some channels of the input, and its place in the output.
struct ConvStream {
  int64_t channel, channels;  // first channel and their number
  int64_t layer, layers;      // first entry in TwoStreamConv::layers and their number
  int64_t map, step;          // where its output starts: feature map and time step
};

// Convolution streams of one or more modalities, BatchNorm folded.
// `sleeptools.native.two_stream_conv` makes the tables and the packed weights.
struct TwoStreamConv {
  static constexpr int kPanel = 16;      // outputs of a panel of `packed`, on every instruction set
  static constexpr int64_t kEpochs = 8;  // that a CPU thread takes through a layer together
  enum Activation { kLeakyRelu, kRelu, kGelu };

  const float* x;  // (batch, channels, samples)
  // A layer's biases, filled up with zeros to whole panels; then, for each panel of outputs, a row
  // of kPanel weights for each (tap, input), tap by tap. With bf16, rows 2j and 2j + 1 are joined:
  // the two weights of an output lie side by side as bfloat16. On CUDA, with bf16, a row of
  // bfloat16 for each output: the weights of all (tap, input), filled up with zeros to a multiple
  // of 8.
  const float* packed;
  const ConvLayer* layers;
  const ConvStream* streams;
  float* workspace;  // CPU: slots for each thread's epochs; CUDA: for each epoch, twice as many as
                     // the larger of the sizes below
  float* out;        // (batch, maps, steps)
  int64_t batch, channels, samples, maps, steps;
  int64_t stream_count;
  int64_t input_size, rows_size;  // CPU: a slot is one part of the first and two of the second
  int64_t margin;                 // CPU: zeros before and after the input, in time steps
  int64_t activation;             // an Activation
  float slope;                    // of kLeakyRelu
  bool bf16;                      // arithmetic in bfloat16 with float32 sums; see `has_bf16`
  int64_t slots;                  // CPU: threads that the workspace is enough for
  int64_t work;                   // CPU: float operations of a stream on an epoch

  int64_t epochs_at_once() const { return batch < kEpochs ? batch : kEpochs; }
  int64_t slot_floats() const { return input_size + 2 * rows_size; }  // of an epoch on a CPU
};

// A layer of a stream in training: convolution, PReLU where there are slopes, BatchNorm with the
// statistics of the batch, activation, max-pool, dropout. Signals are (batch, time, map). A map of
// a step is zero where its random word (cpu/dropout.h) is below drop_below, which is the
// probability times 2^32.
struct ConvBlock {
  static constexpr int64_t kPanel = TwoStreamConv::kPanel;

  static constexpr int64_t whole_panels(int64_t count) {
    return (count + kPanel - 1) / kPanel * kPanel;
  }

  // An epoch with its padding, and what a product may read behind its last row.
  static constexpr int64_t padded_floats(const ConvLayer& layer, int64_t samples) {
    const int64_t behind = (kPanel + 2) * layer.stride * layer.inputs + 2 * kPanel;
    return whole_panels((samples + 2 * layer.pad) * layer.inputs + behind);
  }

  // Packed weights, `depth` products for each of some outputs.
  static constexpr int64_t packed_floats(int64_t depth, int64_t outputs) {
    return whole_panels(outputs) * (depth + 2 * kPanel);
  }

  // Packed weights; sums of each epoch and four numbers of BatchNorm for each map; an epoch for
  // each thread.
  static constexpr int64_t workspace_floats(const ConvLayer& layer, int64_t batch, int64_t samples,
                                            int64_t slots) {
    return packed_floats(layer.kernel * layer.inputs, layer.outputs) +
           whole_panels(layer.outputs) * (2 * batch + 4) + slots * padded_floats(layer, samples) +
           kPanel;
  }

  // CUDA: groups of rows, each with its own sums.
  static constexpr int64_t kCudaGroups = 128, kCudaRows = 64;

  static constexpr int64_t cuda_groups(const ConvLayer& layer, int64_t batch) {
    const int64_t full = (batch * layer.rows + kCudaRows - 1) / kCudaRows;
    return full < 1 ? 1 : full < kCudaGroups ? full : kCudaGroups;
  }

  static constexpr int64_t cuda_workspace_floats(const ConvLayer& layer, int64_t batch, bool) {
    return 2 * cuda_groups(layer, batch) * layer.outputs;
  }

  // On CUDA with bf16, x is bfloat16, and the weights are a row of bfloat16 for each output, tap by
  // tap, filled up with zeros to a multiple of 8. On CUDA in float32 the convolution is made
  // already: `convolved` is what is read, and neither x nor the weights are.
  const float* x;                 // (batch, samples, inputs)
  const float* weight;            // (outputs, inputs, kernel)
  const float *bias, *slopes;     // (outputs), null for none
  const float *gamma, *beta;      // (outputs)
  const ConvLayer* layer;         // its bias and weight are not used
  float* convolved;               // (batch, rows, outputs): what comes before PReLU and BatchNorm
  float *mean, *variance;         // (outputs), of what BatchNorm sees; divided by the count
  float* out;                     // (batch, steps, outputs)
  float* workspace;               // workspace_floats, CUDA: cuda_workspace_floats
  int64_t batch, samples, slots;  // slots: threads that the workspace is enough for
  int64_t activation;             // a TwoStreamConv::Activation
  float slope, eps;               // of kLeakyRelu and of BatchNorm
  uint32_t drop_below;
  uint64_t seed;
  bool bf16;     // products of operands rounded to bfloat16 where the instruction set has them
  int64_t work;  // CPU: float operations of an epoch
};

// Gradients of ConvBlock from its inputs, its results but `out`, and the gradient of `out`.
struct ConvBlockBackward {
  static constexpr int64_t kSteps = 512;  // that a thread takes through a product together
  static constexpr int64_t kTasks = 16;   // of epochs, at least
  static constexpr int64_t kTile = 32;    // rows of a tile product, and its least depth
  static constexpr int64_t kInputs = 64;  // whose weights' gradients are a task, at most

  // Taps that fall on the same place of a stride count once.
  static constexpr int64_t strides(const ConvLayer& layer) {
    return (layer.kernel + layer.stride - 1) / layer.stride;
  }

  // Steps of nothing but padding before an epoch; the epoch before has them as its last ones.
  static constexpr int64_t lead(const ConvLayer& layer) { return layer.pad / layer.stride; }

  // Steps of an epoch on a time axis where all epochs follow each other: as many as the convolution
  // has rows, the samples take, and gradients of different epochs need between them.
  static constexpr int64_t steps(const ConvLayer& layer, int64_t samples) {
    const int64_t input_steps = (samples + layer.pad + layer.stride - 1) / layer.stride;
    const int64_t reach = layer.rows + strides(layer) - 1 - lead(layer);
    const int64_t longest = input_steps > reach ? input_steps : reach;
    return ((longest > layer.rows ? longest : layer.rows) + 1) / 2 * 2;
  }

  // Epochs of a task.
  static constexpr int64_t epochs_at_once(const ConvLayer& layer, int64_t batch, int64_t samples) {
    const int64_t fit = kSteps / steps(layer, samples), share = (batch + kTasks - 1) / kTasks;
    return fit < 1 || share < 1 ? 1 : fit < share ? fit : share;
  }

  // From an input to the next, on that time axis; not the same cache sets.
  static constexpr int64_t line(const ConvLayer& layer, int64_t batch, int64_t samples) {
    const int64_t needed = batch * steps(layer, samples) + strides(layer) + kTile;
    return (needed / (2 * kTile) * 2 + 1) * kTile + (needed % (2 * kTile) > kTile ? 2 * kTile : 0);
  }

  // The gradients of some epochs, row by row, zeros before them, and what a product may read behind
  // the last row.
  static constexpr int64_t rows_floats(const ConvLayer& layer, int64_t batch, int64_t samples) {
    const int64_t rows = epochs_at_once(layer, batch, samples) * steps(layer, samples) +
                         2 * strides(layer) + lead(layer);
    return ConvBlock::whole_panels((rows + kTile) * layer.outputs + kTile);
  }

  // An epoch's padded input, its gradient, some epochs' gradients, sums of the weights' gradients.
  static constexpr int64_t slot_floats(const ConvLayer& layer, int64_t batch, int64_t samples) {
    return ConvBlock::padded_floats(layer, samples) +
           ConvBlock::whole_panels(layer.rows * layer.outputs) +
           rows_floats(layer, batch, samples) + strides(layer) * kInputs * 2 * ConvBlock::kPanel +
           ConvBlock::kPanel;
  }

  // Packed weights; sums of each epoch, before and behind BatchNorm, and of the batch and four
  // numbers of BatchNorm for each map; the batch's inputs and gradients, time by time; a slot for
  // each thread.
  static constexpr int64_t workspace_floats(const ConvLayer& layer, int64_t batch, int64_t samples,
                                            int64_t slots) {
    const int64_t maps = ConvBlock::whole_panels(layer.outputs);
    const int64_t inputs = layer.stride * layer.inputs;
    return ConvBlock::packed_floats(strides(layer) * layer.outputs, inputs) +
           maps * (4 * batch + 6) + (inputs + kTile / 2) * line(layer, batch, samples) +
           ConvBlock::packed_floats(batch * steps(layer, samples), layer.outputs) +
           slots * slot_floats(layer, batch, samples) + 4 * ConvBlock::kPanel;
  }

  // CUDA: groups of rows with sums of their own of the weights' gradients.
  static constexpr int64_t kCudaGroups = 32, kCudaRows = 256;

  static constexpr int64_t cuda_groups(const ConvLayer& layer, int64_t batch) {
    const int64_t full = (batch * layer.rows + kCudaRows - 1) / kCudaRows;
    return full < 1 ? 1 : full < kCudaGroups ? full : kCudaGroups;
  }

  // From row to row of the gradients in bfloat16.
  static constexpr int64_t cuda_line(const ConvLayer& layer) { return (layer.outputs + 7) / 8 * 8; }

  // Sums of each group, before and behind BatchNorm, and of the batch; with bf16 also the gradient
  // of `convolved` in bfloat16, the gradient behind BatchNorm, and groups of the weights'.
  static constexpr int64_t cuda_workspace_floats(const ConvLayer& layer, int64_t batch, bool bf16) {
    const int64_t rows = batch * layer.rows;
    const int64_t products =
        rows * cuda_line(layer) / 2 + rows * layer.outputs +
        cuda_groups(layer, batch) * layer.outputs * layer.kernel * layer.inputs;
    return (4 * ConvBlock::cuda_groups(layer, batch) + 2) * layer.outputs + (bf16 ? products : 0);
  }

  // On CUDA with bf16 the weights are those of the gradient of x: a row of bfloat16 for each (place
  // in a stride, input), in it, from the last stride to the first, those of all outputs, the latter
  // filled up with zeros to a multiple of 8. On CUDA in float32, d_x is the gradient of `convolved`
  // instead, (batch, rows, outputs), and d_weight is not written.
  ConvBlock block;           // `out` is not used; the workspace is for these gradients
  const float* grad;         // (batch, steps, outputs)
  float* d_x;                // as x; null if it is not wanted
  float* d_weight;           // as the weight
  float *d_gamma, *d_beta;   // (outputs)
  float *d_bias, *d_slopes;  // (outputs); null where the block has none
};

// Dropout of maps: out is x / (1 - probability), or zero where the random word is below drop_below.
struct Dropout {
  const float* x;  // (batch, steps, maps)
  float* out;
  const int64_t* seeds;  // CUDA only: (tasks), where they are on the device: the batch is that of
                         // several tasks, one after the other, with seeds[task] + seed each
  int64_t batch, steps, maps, tasks;
  uint32_t drop_below;
  uint64_t seed;
};

// Blocks of separable convolutions over every signal by itself, with the same weights, and the mean
// over time (the extractor of ULW-SleepNet); BatchNorm and the shortcuts are folded. A block is two
// units, each a depthwise convolution, a pointwise one, ReLU and a pool over two steps, beside a
// matrix on every 4th step. Padding is "same" throughout: an odd length has a last window of one.
struct SeparableStream {
  static constexpr int kMaxBlocks = 8;      // a step of the last one is 4^8 samples
  static constexpr int64_t kMaxLanes = 16;  // of any CPU variant
  static constexpr int64_t kPairs = 4;      // CPU: pools whose depthwise results exist at a time
  static constexpr int64_t kMaxShared = 24576;  // floats: 96 KiB, two blocks of threads on sm_90

  // CPU: floats of a thread's workspace in its parts, two of the first.
  struct Workspace {
    int64_t maps;    // a block's input or output
    int64_t middle;  // between a block's units
    int64_t pairs;   // depthwise results
    int64_t floats;  // of the whole, from any address on
  };

  const float* x;  // (batch, signals, samples)
  // Of each block in turn: depthwise (inputs, kernel), pointwise (inputs, outputs) and bias
  // (outputs) of its two units, then matrix (inputs, outputs) and bias (outputs) of its shortcut.
  const float* weights;
  const int64_t* widths;  // outputs of each block
  float* space;           // CPU: workspace(op, kMaxLanes).floats for each thread
                          // CUDA: task_floats(op) for each task where they exceed kMaxShared
  float* out;             // (batch, signals, outputs of the last block)
  int64_t batch, signals, samples, blocks;
  int64_t kernel;  // of the depthwise convolutions; odd
  int64_t slots;   // CPU: threads that the workspace is enough for
  int64_t work;    // CPU: float operations of a signal
};

// The functions on it have internal linkage, so that no CPU variant runs another one's copy
// (cpu/variant.h).

// CPU: steps of a segment when a signal is cut into one for each lane: whole windows down to the
// last pool, and at least half a kernel where the last kernel reads it.
static inline int64_t segment(const SeparableStream& op, int64_t lanes) {
  const int64_t window = int64_t{1} << 2 * op.blocks;  // samples of the signal in a last step
  const int64_t needed = (op.samples + lanes * window - 1) / (lanes * window);
  const int64_t least = op.kernel > 1 ? (op.kernel / 2 + 1) / 2 : 1;
  return (needed > least ? needed : least) * window;
}

// CPU: with so many lanes.
static inline SeparableStream::Workspace workspace(const SeparableStream& op, int64_t lanes) {
  constexpr int64_t kAlignment = 16;
  const int64_t margin = op.kernel - 1;
  int64_t steps = segment(op, lanes), maps = steps + margin, middle = 0, widest = 1;  // vectors
  for (int64_t i = 0; i < op.blocks; ++i) {
    const int64_t width = op.widths[i], between = width * (steps / 2 + margin);
    steps /= 4;
    const int64_t after = width * (steps + margin);
    middle = between > middle ? between : middle;
    maps = after > maps ? after : maps;
    widest = width > widest ? width : widest;
  }
  const int64_t pairs = widest * SeparableStream::kPairs * 2;
  const int64_t floats = (2 * maps + middle + pairs) * lanes + kAlignment;
  return {maps * lanes, middle * lanes, pairs * lanes, floats};
}

// CUDA: floats that a task keeps: input, middle and output of a block.
static inline int64_t task_floats(const SeparableStream& op) {
  int64_t largest = 0, inputs = 1, steps = op.samples;
  for (int64_t i = 0; i < op.blocks; ++i) {
    const int64_t half = (steps + 1) / 2, quarter = (half + 1) / 2;
    const int64_t floats = inputs * steps + op.widths[i] * (half + quarter);
    largest = floats > largest ? floats : largest;
    inputs = op.widths[i];
    steps = quarter;
  }
  return largest;
}

// The blocks of SeparableStream in training: BatchNorm with the statistics of the batch stands
// before each ReLU, and dropout behind each block. A map of a step is zero where its random word
// (cpu/dropout.h; the signal is the epoch, and the seed of block i is seed + i) is below
// drop_below. `separable_layout.h` says what is where; CPU only.
struct SeparableBlocks {
  static constexpr int kMaxBlocks = SeparableStream::kMaxBlocks;
  static constexpr int kMaxUnits = 2 * kMaxBlocks;
  static constexpr int64_t kSignals = 16;  // that go through the blocks side by side, at most

  const float* x;  // (signals, samples)
  // Of each block in turn: depthwise (inputs, kernel), pointwise (inputs, outputs), bias, gamma and
  // beta (outputs) of its two units, then matrix (inputs, outputs) and bias (outputs) of its
  // shortcut.
  const float* weights;
  const int64_t* widths;   // outputs of each block
  float* maps;             // what the gradients need besides: the signals and the units' outputs,
  uint32_t* marks;         // which steps the pools and dropout let through,
  float* moments;          // mean and covariance of each unit's depthwise results
  float *mean, *variance;  // of what each unit's BatchNorm sees; divided by the count
  float* out;              // (signals, outputs of the last block)
  float* workspace;
  int64_t signals, samples, blocks;
  int64_t kernel;  // of the depthwise convolutions; odd
  int64_t slots;   // threads that the workspace is enough for
  float eps;       // of BatchNorm
  uint32_t drop_below;
  uint64_t seed;
  int64_t work;  // float operations of a signal
};

// Gradients of SeparableBlocks from its inputs, its results but `out`, and the gradient of `out`;
// CPU only.
struct SeparableBlocksBackward {
  SeparableBlocks blocks;  // `out` is not used; the workspace is for these gradients
  const float* grad;       // as `out`
  float* d_weights;        // as the weights
};

// A network of convolutions compiled to steps that follow each other, in an arena of floats where
// every signal has its place: rows of maps, one for each step in time, with rows of zeros around
// them where a later step reads such. `sleeptools.native.conv_plan` makes the tables.
struct ConvPlan {
  static constexpr int64_t kPanel = TwoStreamConv::kPanel;
  static constexpr int64_t kParts = 8;         // that an epoch is divided into, where it is alone
  static constexpr int64_t kMostMaps = 256;    // of a head, or of an LSTM
  static constexpr int64_t kMostTogether = 8;  // epochs that a thread takes through a step
  enum Kind {
    kConvolve,
    kDepthwise,
    kMaximum,
    kMean,
    kResize,
    kMultiply,
    kTranspose,
    kLayerNorm,
    kUnbiasedNorm,
    kPositions,
    kAttend,
    kLstm,
    kLstmReversed
  };
  enum Activation { kNone, kRelu, kGelu, kPrelu, kTanh, kSigmoid };

  // A channel of the input, to a column of a signal's rows.
  struct Input {
    int64_t start;        // in the epoch's values; they follow each other
    int64_t target, row;  // first value in the arena, and from a row to the next
    int64_t steps, before, after;
  };

  // One step: out = scale * activate(kind(source) + bias + added signals) + shift, row by row.
  // Places are in floats from the start of the arena, or of `packed`; -1 where there is nothing.
  struct Step {
    int64_t kind, activation;
    int64_t bf16;  // 1: the operands of its products are rounded to bfloat16, sums are float32
    // 1: the signal is kept in bfloat16, and its places count these. Only between convolutions in
    // bfloat16.
    int64_t source_bf16, target_bf16;
    int64_t source, source_row, source_steps, inputs;
    int64_t target, target_row, steps, outputs;
    int64_t before, after;  // rows of zeros to be written around the target
    int64_t kernel, stride, dilation, pad;
    int64_t added[2], added_row[2];
    // What the source is joined with. kMultiply: the factor, of as many steps or one. kAttend: keys
    // and values of `kernel` heads; the source has the queries.
    int64_t other[2], other_row[2], other_steps;
    // kConvolve: for each panel of outputs a row of kPanel weights for each (tap, input), tap by
    // tap. kDepthwise: a row of weights for each tap. kPositions: one for each step. kLstm: one for
    // each map of the state, from it to the gates (input, forget, cell, output), which the source
    // has already; with bf16, panels as those of kConvolve. With bf16 weights are joined in pairs
    // as TwoStreamConv's. The other vectors have a number for each output. All are filled up with
    // zeros to whole panels.
    int64_t weight, bias, slopes, scale, shift;
  };

  const float* x;       // (batch, values)
  const float* packed;  // all weights
  const Input* inputs;
  const Step* steps;
  float* workspace;  // an arena for each epoch at work; one, if fewer epochs than threads; then
                     // for each thread what a step in bfloat16 rounds
  float* out;        // (batch, maps, length)
  int64_t batch, values, input_count, step_count;
  int64_t arena;               // floats
  int64_t result, result_row;  // where the output is in the arena
  int64_t maps, length;        // of the output
  int64_t team;                // threads that the workspace is enough for
  int64_t together;            // epochs that a thread takes through a step, for its weights' sake
  int64_t scratch;             // floats, of a thread
  bool bf16;                   // any step is in bfloat16
  int64_t work;                // float operations of an epoch
};

// Second-order sections one after the other along every row, in float64; CPU only.
struct SectionFilter {
  static constexpr int kMaxSections = 16;

  float* x;                // (rows, samples); replaced by the result
  const double* sections;  // (count, 5): b0 b1 b2 a1 a2, in transposed direct form II
  const double* steady;    // (count, 2): states after a constant 1 for ever; zeros from rest
  int64_t rows, samples, count;
  int64_t memory;  // samples after which the states no longer show how they began
  bool backwards;  // from the last sample to the first
  bool from_rest;  // zeros before the first sample; otherwise its value for ever
};

// Polyphase resampling by up / down; CPU only.
struct Polyphase {
  static constexpr int kPanel = 16;  // `width` is a multiple of it, on every instruction set

  const float* x;     // (rows, padded): the input of output 0 starts at 0
  const float* taps;  // (up, width), each phase in the order of the input
  float* out;         // (rows, size)
  int64_t rows, padded, size, up, down, width;
};

}  // namespace sleeptools

// Dispatch, CUDA declarations and the stand-ins for a build without CUDA are made from this list.
#define SLEEPTOOLS_OPS(OP)                               \
  OP(modal_se, ModalSe)                                  \
  OP(attention, Attention)                               \
  OP(attention_backward, AttentionBackward)              \
  OP(feed_forward, FeedForward)                          \
  OP(feed_forward_backward, FeedForwardBackward)         \
  OP(two_stream_conv, TwoStreamConv)                     \
  OP(classifier, Classifier)                             \
  OP(hypnodensity, Hypnodensity)                         \
  OP(conv_block, ConvBlock)                              \
  OP(conv_block_backward, ConvBlockBackward)             \
  OP(dropout, Dropout)                                   \
  OP(separable_stream, SeparableStream)                  \
  OP(separable_blocks, SeparableBlocks)                  \
  OP(separable_blocks_backward, SeparableBlocksBackward) \
  OP(conv_plan, ConvPlan)                                \
  OP(section_filter, SectionFilter)                      \
  OP(polyphase, Polyphase)
