"""Modal-wise squeeze-and-excitation block of MMASleepNet (its Eq. 3-6), BatchNorm folded.

The modalities take the place of an image's channels: two 1x1 convolutions mix them, a gate weighs
them, and the input is added. The kernel serves evaluation and fine-tuning with frozen statistics;
a BatchNorm that uses the statistics of the batch cannot be folded, so a model in training mode runs
its layers one by one.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from sleeptools.models import ops
from sleeptools.native.check import check_choice
from sleeptools.native.modal_se import KINDS, MAX_MODALITIES, SHAPES

TOLERANCE = {"rtol": 1e-5, "atol": 1e-5}

Example = tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, str]


def modal_se(  # noqa: PLR0913, PLR0917 - the block has eight weights
    x: Tensor,
    w1: Tensor,
    b1: Tensor,
    w2: Tensor,
    b2: Tensor,
    squeeze: Tensor,
    squeeze_bias: Tensor,
    excite: Tensor,
    excite_bias: Tensor,
    kind: str = "authors",
) -> Tensor:
    """Weigh the modalities and add the input.

    Float32 on the CPU and on CUDA runs natively where the core is built; everything else runs
    `reference`. Any strides are taken; the output is contiguous.

    Parameters
    ----------
    x
        Features F, (B, M, H, T): batch, modalities, feature maps, time.
    w1, b1, w2, b2
        The two 1x1 convolutions with BatchNorm folded in (`ops.fold_batch_norm`), (M, M) and (M,).
    squeeze, squeeze_bias, excite, excite_bias
        The two layers of the gate, (M, M) and (M,).
    kind
        "authors": relu(F + F' * E), the released code. "paper": F + F * E, the printed Eq. 5. F'
        are the convolved features and E the gate computed from them.

    Returns
    -------
    Tensor
        (B, M, H, T).

    Raises
    ------
    ValueError
        For wrong shapes, and for weights of another type or device than `x`.
    """
    weights = (w1, b1, w2, b2, squeeze, squeeze_bias, excite, excite_bias)
    ops.check(SHAPES, x, *weights)
    check_choice("modal_se", "kind", kind, KINDS)
    return _operator(x, *weights, kind)


def reference(  # noqa: PLR0913, PLR0917
    x: Tensor,
    w1: Tensor,
    b1: Tensor,
    w2: Tensor,
    b2: Tensor,
    squeeze: Tensor,
    squeeze_bias: Tensor,
    excite: Tensor,
    excite_bias: Tensor,
    kind: str = "authors",
) -> Tensor:
    """As `modal_se`, in plain PyTorch: the specification."""
    hidden = functional.relu(functional.conv2d(x, w1[:, :, None, None], b1))  # (B, M, H, T)
    f = functional.conv2d(hidden, w2[:, :, None, None], b2)  # (B, M, H, T)
    e = functional.relu(functional.linear(f.mean((2, 3)), squeeze, squeeze_bias))  # (B, M)
    e = torch.sigmoid(functional.linear(e, excite, excite_bias))[:, :, None, None]  # (B, M, 1, 1)
    return functional.relu(x + f * e) if kind == "authors" else x + x * e


def examples(device: torch.device | str = "cpu", *, batch: int = 2) -> list[Example]:
    """Arguments to try the op with: the published size at `batch` first, then odd ones."""
    generator = torch.Generator().manual_seed(1)
    sizes = [(batch, 4, 64, 24), (0, 4, 3, 5), (1, 1, 1, 1), (2, 2, 4, 8), (3, 3, 5, 7)]
    sizes += [(1, 4, 3, 11), (2, 5, 1, 17), (1, 6, 9, 5), (1, 16, 3, 6)]
    return [
        _example(generator, torch.device(device), size, kind)
        for size in sizes
        for kind in ("authors", "paper")
    ]


def _example(
    generator: torch.Generator, device: torch.device, size: tuple[int, int, int, int], kind: str
) -> Example:
    def normal(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator).to(device)

    m = size[1]
    w1, w2, squeeze, excite = (normal(m, m) / m**0.5 for _ in range(4))
    b1, b2, squeeze_bias, excite_bias = (normal(m) for _ in range(4))
    return normal(*size), w1, b1, w2, b2, squeeze, squeeze_bias, excite, excite_bias, kind


WEIGHTS = ("w1", "b1", "w2", "b2", "squeeze", "squeeze_bias", "excite", "excite_bias")


def _forward(x: Tensor, *arguments: Any) -> Tensor:
    *weights, kind = arguments
    batch, modalities, maps, time = x.shape
    if not ops.runs_native(x) or not 1 <= modalities <= MAX_MODALITIES:
        return reference(x, *arguments).contiguous()
    out = torch.empty(x.shape, dtype=x.dtype, device=x.device)
    tensors = {name: w.contiguous() for name, w in zip(WEIGHTS, weights, strict=True)}
    tensors["x"], tensors["out"] = x.contiguous(), out
    ops.launch(
        "modal_se",
        x,
        tensors,
        batch=batch,
        modalities=modalities,
        samples=maps * time,
        authors=kind == "authors",
    )
    return out


def _fake(x: Tensor, *arguments: Any) -> Tensor:
    return x.new_empty(x.shape)


def _setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    *tensors, ctx.kind = inputs
    ctx.save_for_backward(*tensors)


def _mix(w: Tensor, x: Tensor) -> Tensor:
    return torch.einsum("ij,bjht->biht", w, x)


def _backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
    """Recompute the block from its input, then apply the chain rule; only inputs are kept."""
    x, w1, b1, w2, b2, squeeze, squeeze_bias, excite, excite_bias = ctx.saved_tensors
    hidden = functional.relu(_mix(w1, x) + b1[:, None, None])  # (B, M, H, T)
    f = _mix(w2, hidden) + b2[:, None, None]  # (B, M, H, T)
    mean = f.mean((2, 3))  # (B, M)
    gate = functional.relu(functional.linear(mean, squeeze, squeeze_bias))  # (B, M)
    e = torch.sigmoid(functional.linear(gate, excite, excite_bias))  # (B, M)
    scale = e[:, :, None, None]  # (B, M, 1, 1)

    if ctx.kind == "authors":
        d_x = grad * (x + f * scale > 0)
        d_e, d_f = (d_x * f).sum((2, 3)), d_x * scale
    else:
        d_x = grad * (1 + scale)
        d_e, d_f = (grad * x).sum((2, 3)), torch.zeros_like(f)

    d_logit = d_e * e * (1 - e)  # (B, M)
    d_gate = (d_logit @ excite) * (gate > 0)  # (B, M)
    d_f = d_f + (d_gate @ squeeze)[:, :, None, None] / (x.shape[2] * x.shape[3])
    d_hidden = _mix(w2.T, d_f) * (hidden > 0)  # (B, M, H, T)
    return (
        d_x + _mix(w1.T, d_hidden),
        torch.einsum("biht,bjht->ij", d_hidden, x),
        d_hidden.sum((0, 2, 3)),
        torch.einsum("biht,bjht->ij", d_f, hidden),
        d_f.sum((0, 2, 3)),
        d_gate.T @ mean,
        d_gate.sum(0),
        d_logit.T @ gate,
        d_logit.sum(0),
        None,
    )


_operator = ops.define(
    "modal_se",
    "(Tensor x, Tensor w1, Tensor b1, Tensor w2, Tensor b2, Tensor squeeze, Tensor squeeze_bias, "
    "Tensor excite, Tensor excite_bias, str kind) -> Tensor",
    forward=_forward,
    fake=_fake,
    backward=_backward,
    setup_context=_setup_context,
)
