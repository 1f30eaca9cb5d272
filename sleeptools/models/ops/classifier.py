"""Two dense layers over the features of an epoch, gated: what ends most stagers.

MMASleepNet classifies Z * encoder(Z), so that its encoder's output is a gate of its input; the
product is never in memory. ULW-SleepNet's first layer has no ReLU and no gate.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from sleeptools.models import ops
from sleeptools.native.classifier import SHAPES

TOLERANCE = {"rtol": 1e-5, "atol": 1e-5}

Example = tuple[Tensor, Tensor | None, Tensor, Tensor, Tensor, Tensor, bool]


def classifier(
    x: Tensor,
    gate: Tensor | None,
    w1: Tensor,
    b1: Tensor,
    w2: Tensor,
    b2: Tensor,
    rectify: bool = True,
) -> Tensor:
    """Compute w2 relu(w1 (x * gate) + b1) + b2 for every epoch.

    Float32 on the CPU and on CUDA runs natively where the core is built; everything else runs
    `reference`. Any strides are taken; the output is contiguous.

    Parameters
    ----------
    x, gate
        Features (B, F); no gate is a gate of ones.
    w1, b1
        First layer, (H, F) and (H,).
    w2, b2
        Second layer, (S, H) and (S,).
    rectify
        Whether a ReLU follows the first layer.

    Returns
    -------
    Tensor
        Logits, (B, S).

    Raises
    ------
    ValueError
        For wrong shapes, and for tensors of another type or device than `x`.
    """
    weights = (w1, b1, w2, b2)
    ops.check(SHAPES, x, gate, *weights)
    return _operator(x, gate, *weights, rectify)


def reference(
    x: Tensor,
    gate: Tensor | None,
    w1: Tensor,
    b1: Tensor,
    w2: Tensor,
    b2: Tensor,
    rectify: bool = True,
) -> Tensor:
    """As `classifier`, in plain PyTorch: the specification."""
    hidden = functional.linear(x if gate is None else x * gate, w1, b1)  # (B, H)
    return functional.linear(functional.relu(hidden) if rectify else hidden, w2, b2)  # (B, S)


def examples(device: torch.device | str = "cpu", *, batch: int = 2) -> list[Example]:
    """Arguments to try the op with: the published size at `batch` epochs first, then odd ones."""
    generator = torch.Generator().manual_seed(1)
    sizes = [(batch, 6144, 32, 5, True, True), (0, 3, 2, 2, True, True), (1, 1, 1, 1, True, True)]
    sizes += [(5, 17, 7, 3, True, True), (4, 128, 64, 5, False, False), (3, 9, 5, 2, True, False)]
    return [_example(generator, torch.device(device), *size) for size in sizes]


def _example(
    generator: torch.Generator,
    device: torch.device,
    batch: int,
    features: int,
    hidden: int,
    stages: int,
    gated: bool,
    rectify: bool,
) -> Example:
    def normal(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator).to(device)

    gate = normal(batch, features) if gated else None
    w1, w2 = normal(hidden, features) / features**0.5, normal(stages, hidden) / hidden**0.5
    return normal(batch, features), gate, w1, normal(hidden), w2, normal(stages), rectify


def _forward(
    x: Tensor,
    gate: Tensor | None,
    w1: Tensor,
    b1: Tensor,
    w2: Tensor,
    b2: Tensor,
    rectify: bool,
) -> Tensor:
    if not ops.runs_native(x):
        return reference(x, gate, w1, b1, w2, b2, rectify).contiguous()
    (batch, inputs), hidden, stages = x.shape, len(w1), len(w2)
    out = x.new_empty(batch, stages)
    tensors = {
        "x": x.contiguous(),
        "w1": w1.contiguous(),
        "b1": b1.contiguous(),
        "w2": w2.contiguous(),
        "b2": b2.contiguous(),
        "hidden_layer": x.new_empty(batch, hidden),
        "out": out,
    }
    if gate is not None:
        tensors["gate"] = gate.contiguous()
    ops.launch(
        "classifier",
        x,
        tensors,
        batch=batch,
        inputs=inputs,
        hidden=hidden,
        stages=stages,
        rectify=rectify,
    )
    return out


def _fake(
    x: Tensor, gate: Tensor | None, w1: Tensor, b1: Tensor, w2: Tensor, *settings: Any
) -> Tensor:
    return x.new_empty(len(x), len(w2))


def _setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    x, gate, w1, b1, w2, _, ctx.rectify = inputs
    ctx.save_for_backward(x, gate, w1, b1, w2)


def _backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
    x, gate, w1, b1, w2 = ctx.saved_tensors
    features = x if gate is None else x * gate
    hidden = functional.linear(features, w1, b1)  # (B, H)
    d_hidden = grad @ w2
    if ctx.rectify:
        d_hidden, hidden = d_hidden * (hidden > 0), functional.relu(hidden)
    d_features = d_hidden @ w1
    return (
        d_features if gate is None else d_features * gate,
        None if gate is None else d_features * x,
        d_hidden.T @ features,
        d_hidden.sum(0),
        grad.T @ hidden,
        grad.sum(0),
        None,
    )


_operator = ops.define(
    "classifier",
    "(Tensor x, Tensor? gate, Tensor w1, Tensor b1, Tensor w2, Tensor b2, bool rectify) -> Tensor",
    forward=_forward,
    fake=_fake,
    backward=_backward,
    setup_context=_setup_context,
)
