// The fields of each op under the names by which Python passes them; a field of a struct inside the
// op goes by its own name. tests/native/test_fields.py compares with the structs of ops.h.
#pragma once

#include "field.h"
#include "ops.h"

namespace sleeptools {

// An op with its table of fields; derived from the op, so that the table may name them as they are.
template <class Op>
struct Fields;

#define SLEEPTOOLS_FIELDS(Op, ...)                      \
  template <>                                           \
  struct Fields<Op> : Op {                              \
    static constexpr const char* kNames = #__VA_ARGS__; \
    FieldTable table() { return {__VA_ARGS__}; }        \
  };

SLEEPTOOLS_FIELDS(ModalSe, x, w1, b1, w2, b2, squeeze, squeeze_bias, excite, excite_bias, out,
                  batch, modalities, samples, authors)

SLEEPTOOLS_FIELDS(Attention, x, w_in, w_out, b_in, b_out, workspace, out, batch, tokens, width,
                  heads, slots, bf16, drop_below, seed, norm.gamma, norm.beta, norm.eps)

// `attention.out` and `attention.bf16` are not used.
SLEEPTOOLS_FIELDS(AttentionBackward, attention.x, attention.w_in, attention.w_out, attention.b_in,
                  attention.b_out, attention.workspace, attention.batch, attention.tokens,
                  attention.width, attention.heads, attention.slots, attention.drop_below,
                  attention.seed, attention.norm.gamma, attention.norm.beta, attention.norm.eps,
                  w_in_t, w_out_t, grad, d_x, d_w_in, d_w_out, d_b_in, d_b_out, d_gamma, d_beta)

SLEEPTOOLS_FIELDS(Classifier, x, optional(gate), w1, b1, w2, b2, hidden_layer, out, batch, inputs,
                  hidden, stages, rectify)

SLEEPTOOLS_FIELDS(Hypnodensity, x, logits, out, batch, values, stages)

SLEEPTOOLS_FIELDS(FeedForward, x, w1, w2, b1, b2, workspace, out, rows, width, hidden, slots, bf16,
                  drop_below, seed, optional(norm.gamma), optional(norm.beta), norm.eps)

SLEEPTOOLS_FIELDS(FeedForwardBackward, x, grad, w1, w1t, w2t, b1, workspace, d_x, d_w1, d_b1, d_w2,
                  rows, width, hidden, slots, bf16, drop_below, seed)

SLEEPTOOLS_FIELDS(TwoStreamConv, x, packed, layers, streams, workspace, out, batch, channels,
                  samples, maps, steps, stream_count, input_size, rows_size, margin, activation,
                  slope, bf16, slots, work)

SLEEPTOOLS_FIELDS(ConvBlock, x, weight, optional(bias), optional(slopes), gamma, beta, layer,
                  convolved, mean, variance, out, workspace, batch, samples, slots, activation,
                  slope, eps, drop_below, seed, bf16, work)

// `block.out` is not used.
SLEEPTOOLS_FIELDS(ConvBlockBackward, block.x, block.weight, optional(block.bias),
                  optional(block.slopes), block.gamma, block.beta, block.layer, block.convolved,
                  block.mean, block.variance, block.workspace, block.batch, block.samples,
                  block.slots, block.activation, block.slope, block.eps, block.drop_below,
                  block.seed, block.bf16, block.work, grad, optional(d_x), d_weight, d_gamma,
                  d_beta, optional(d_bias), optional(d_slopes))

SLEEPTOOLS_FIELDS(Dropout, x, out, optional(seeds), batch, steps, maps, tasks, drop_below, seed)

SLEEPTOOLS_FIELDS(SeparableStream, x, weights, widths, space, out, batch, signals, samples, blocks,
                  kernel, slots, work)

SLEEPTOOLS_FIELDS(SeparableBlocks, x, weights, widths, maps, marks, moments, mean, variance, out,
                  workspace, signals, samples, blocks, kernel, slots, eps, drop_below, seed, work)

// `blocks.out` is not used.
SLEEPTOOLS_FIELDS(SeparableBlocksBackward, blocks.x, blocks.weights, blocks.widths, blocks.maps,
                  blocks.marks, blocks.moments, blocks.mean, blocks.variance, blocks.workspace,
                  blocks.signals, blocks.samples, blocks.blocks, blocks.kernel, blocks.slots,
                  blocks.eps, blocks.drop_below, blocks.seed, blocks.work, grad, d_weights)

SLEEPTOOLS_FIELDS(ConvPlan, x, packed, inputs, steps, workspace, out, batch, values, input_count,
                  step_count, arena, result, result_row, maps, length, team, together, scratch,
                  bf16, work)

SLEEPTOOLS_FIELDS(SectionFilter, x, sections, steady, rows, samples, count, memory, backwards,
                  from_rest)

SLEEPTOOLS_FIELDS(Polyphase, x, taps, out, rows, padded, size, up, down, width)

// Where an op runs.
struct Launch {
  int device;    // -1 for the CPU, or a CUDA device
  void* stream;  // of that device, a cudaStream_t
};

SLEEPTOOLS_FIELDS(Launch, device, stream)

}  // namespace sleeptools
