"""The program that instructions.py runs under callgrind: one call of every op on every variant.

Batch 1 at the published sizes, NumPy only. usage: counted.py MARKS_LIBRARY
"""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Callable
from functools import partial

import numpy as np

from sleeptools import native
from sleeptools.native import (
    bfloat16,
    conv_graph,
    conv_plan,
    conv_streams,
    plan_products,
    separable_stream,
    two_stream_conv,
)
from sleeptools.native.attention import attention
from sleeptools.native.classifier import classifier
from sleeptools.native.conv_streams import ConvLayer, ConvStream
from sleeptools.native.feed_forward import feed_forward
from sleeptools.native.layer_tables import slumbernet, ulw_sleepnet
from sleeptools.native.modal_se import modal_se

Calls = dict[str, Callable[[], object]]

RANDOM = np.random.default_rng(0)


def normal(*shape: int) -> np.ndarray:
    return RANDOM.standard_normal(shape, np.float32)


def modal_se_calls() -> Calls:
    matrices = [array for _ in range(4) for array in (normal(4, 4), normal(4))]
    return {"modal_se fp32": partial(modal_se, normal(1, 4, 64, 24), *matrices)}


def attention_calls() -> Calls:
    x, w_in, b_in = normal(1, 64, 96), normal(288, 96), normal(288)
    w_out, *vectors = normal(96, 96), normal(96), normal(96), normal(96)
    half = bfloat16.round_to_bf16(w_in), bfloat16.round_to_bf16(w_out)
    return {
        "attention fp32": partial(attention, x, w_in, b_in, w_out, *vectors, 4),
        "attention bf16": partial(
            attention, x, half[0], b_in, half[1], *vectors, 4, precision="bf16"
        ),
    }


def feed_forward_calls() -> Calls:
    x, w1, b1 = normal(64, 96), normal(2048, 96), normal(2048)
    w2, b2 = normal(96, 2048), normal(96)
    half = bfloat16.round_to_bf16(w1), bfloat16.round_to_bf16(w2)
    return {
        "feed_forward fp32": partial(feed_forward, x, w1, b1, w2, b2),
        "feed_forward bf16": partial(feed_forward, x, half[0], b1, half[1], b2, "bf16"),
    }


def classifier_calls() -> Calls:
    sizes = ((1, 6144), (1, 6144), (32, 6144), (32,), (5, 32), (5,))
    return {"classifier fp32": partial(classifier, *(normal(*size) for size in sizes))}


def two_stream_conv_calls() -> Calls:
    # the EEG's; bfloat16 is float32 here where there is no AVX-512
    short, long = ConvLayer(128, 8, 1, 4), ConvLayer(128, 6, 1, 4)
    small = (ConvLayer(64, 50, 8, 24, (8, 8, 4)), short, short, short._replace(pool=(4, 4, 2)))
    large = (ConvLayer(64, 500, 64, 24, (4, 4, 2)), long, long, long._replace(pool=(2, 2, 1)))
    described = [ConvStream(0, 2, small), ConvStream(0, 2, large)]
    weights = normal(conv_streams.stream_weight_count(described))
    shape = conv_streams.describe_streams(described)
    x, packed = normal(1, 2, 3000), two_stream_conv.pack_weights(weights, shape)
    run = partial(two_stream_conv.two_stream_conv, x, weights, shape, packed=packed)
    return {"two_stream_conv fp32": run}


def separable_stream_calls() -> Calls:
    weights = normal(
        separable_stream.separable_weight_count(ulw_sleepnet.WIDTHS, ulw_sleepnet.KERNEL)
    )
    sizes = ulw_sleepnet.WIDTHS, ulw_sleepnet.KERNEL
    run = partial(separable_stream.separable_stream, normal(1, 4, 3000), weights, *sizes)
    return {"separable_stream fp32": run}


def conv_plan_calls() -> Calls:
    # a pair of signals through three convolutions with a shortcut, as a block of SlumberNet
    def plane(outputs: int, width: int) -> slumbernet.PlaneConv:
        return slumbernet.PlaneConv(normal(outputs, 32, width, 2), normal(outputs))

    convs = [slumbernet.PlaneConv(normal(32, 1, 8, 2), normal(32)), plane(32, 5), plane(32, 3)]
    shortcut = slumbernet.PlaneConv(normal(32, 1, 1, 2), normal(32))
    blocks = [slumbernet.BlockWeights(convs, shortcut)]
    builder = slumbernet.slumbernet_graph(blocks, (normal(3, 32), normal(3)), 2, 256)
    graph, weights = builder.graph, builder.weights
    packed, numbers = plan_products.pack_graph(weights, graph), conv_graph.describe_graph(graph)
    run = partial(conv_plan.conv_plan, normal(1, builder.values), weights, numbers, packed=packed)
    return {"conv_plan fp32": run}


OPS = {
    "attention": attention_calls,
    "classifier": classifier_calls,
    "conv_plan": conv_plan_calls,
    "feed_forward": feed_forward_calls,
    "modal_se": modal_se_calls,
    "separable_stream": separable_stream_calls,
    "two_stream_conv": two_stream_conv_calls,
}
"""Every op that inference calls; a test compares with the drawer."""
TRAINING = ("conv_block", "dropout", "separable_blocks")
"""Ops that only torch calls, which is not run under valgrind."""


def main() -> None:
    marks = ctypes.CDLL(sys.argv[1])
    calls = {name: run for make in OPS.values() for name, run in make().items()}
    for variant in native.variants()[1:]:
        with native.using_variant(variant):
            for name, run in calls.items():
                run()  # fills the caches of plans
                marks.begin()
                run()
                marks.end(f"{name}, {variant}".encode())


if __name__ == "__main__":
    main()
