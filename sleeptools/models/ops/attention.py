"""Attention block of a Transformer layer that normalises last: LayerNorm(x + self-attention(x)).

`torch.nn.TransformerEncoderLayer` up to its first norm (Vaswani et al. 2017), with dropout of the
attention's weights and of what is added to x. The kernel keeps the queries, keys, values and scores
of an epoch in cache; that of the gradients makes them again, and draws the same masks, so that
training keeps nothing but the input.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from sleeptools.models import ops
from sleeptools.models.layers import philox
from sleeptools.native.attention import (
    SHAPES,
    attention_backward_slots,
    attention_slots,
    check_settings,
)
from sleeptools.native.dropout import check_dropout, drop_below

TOLERANCE = {"rtol": 1e-5, "atol": 1e-5}
LONGEST = 2048  # tokens that the CUDA kernel keeps the scores of

Example = tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, int, float, str, float, int]
Gradients = tuple[Tensor, ...]  # of the seven tensors


def attention(  # noqa: PLR0913, PLR0917 - the block has six weights
    x: Tensor,
    w_in: Tensor,
    b_in: Tensor,
    w_out: Tensor,
    b_out: Tensor,
    gamma: Tensor,
    beta: Tensor,
    heads: int,
    eps: float = 1e-5,
    precision: str = "fp32",
    dropout: float = 0.0,
    seed: int = 0,
) -> Tensor:
    """Let the tokens of each epoch attend to each other, add the input and normalise.

    Float32 on the CPU and on CUDA runs natively where the core is built; everything else runs
    `reference`. Any strides are taken; the output is contiguous.

    Parameters
    ----------
    x
        (B, T, D): batch, tokens, width.
    w_in, b_in
        Projection to queries, keys and values, (3 D, D) and (3 D,).
    w_out, b_out
        Projection of the output, (D, D) and (D,).
    gamma, beta, eps
        Weights of the LayerNorm, (D,) each, and what it adds to the variance.
    heads
        A divisor of D; scores are divided by the root of a head's width.
    precision
        "fp32", or "bf16": both projections take their operands rounded to bfloat16 and add in
        float32. The gradient is that of "fp32".
    dropout
        Probability of a zero, 0 to below 1, for each of the attention's weights, (B heads, T, T),
        and for each number that is added to `x`; the others are divided by 1 - dropout. Both are
        as `ops.dropout` has them.
    seed
        Seed of the weights' dropout, 0 to 2^63 - 2; the other has the next one.

    Returns
    -------
    Tensor
        (B, T, D).

    Raises
    ------
    ValueError
        For wrong shapes, for weights of another type or device than `x`, for heads that do not
        divide the width, for another precision, and for a dropout or seed out of range.
    """
    weights = (w_in, b_in, w_out, b_out, gamma, beta)
    ops.check(SHAPES, x, *weights)
    check_settings(x.shape[2], heads, precision)
    check_dropout("attention", dropout, seed + 1)
    return _operator(x, *weights, heads, eps, precision, dropout, seed)


def reference(  # noqa: PLR0913, PLR0917
    x: Tensor,
    w_in: Tensor,
    b_in: Tensor,
    w_out: Tensor,
    b_out: Tensor,
    gamma: Tensor,
    beta: Tensor,
    heads: int,
    eps: float = 1e-5,
    precision: str = "fp32",
    dropout: float = 0.0,
    seed: int = 0,
) -> Tensor:
    """As `attention`, in plain PyTorch: the specification."""
    batch, tokens, width = x.shape

    rounded = ops.rounding(precision)
    projected = functional.linear(rounded(x), rounded(w_in), b_in)  # (B, T, 3 D)
    heads_first = projected.view(batch, tokens, 3, heads, width // heads).permute(2, 0, 3, 1, 4)
    q, k, v = heads_first.unbind(0)  # (B, heads, T, D / heads)
    scores = q @ k.mT / (width // heads) ** 0.5  # (B, heads, T, T)
    weights = _dropped(scores.softmax(-1).flatten(0, 1), dropout, seed).view_as(scores)
    attended = (weights @ v).transpose(1, 2).reshape(x.shape)  # (B, T, D)
    added = functional.linear(rounded(attended), rounded(w_out), b_out)  # (B, T, D)
    out = x + _dropped(added, dropout, seed + 1)
    return functional.layer_norm(out, (width,), gamma, beta, eps)


def _dropped(x: Tensor, dropout: float, seed: int) -> Tensor:
    return x * philox.mask(x.shape, dropout, seed, x) if dropout > 0 else x


def examples(device: torch.device | str = "cpu", *, batch: int = 2) -> list[Example]:
    """Arguments to try the op with: the published size at `batch` epochs first, then odd ones."""
    generator = torch.Generator().manual_seed(1)
    sizes = [(batch, 64, 96, 4), (0, 3, 4, 2), (1, 1, 2, 1), (2, 3, 4, 2), (2, 33, 10, 5)]
    sizes += [(1, 5, 7, 7), (3, 31, 15, 3), (1, 96, 64, 4)]
    plain = [_example(generator, torch.device(device), *size) for size in sizes]
    return plain + [(*plain[n][:-2], 0.1, 0x123456789ABCDEF) for n in (0, 3, 4)]


def _example(
    generator: torch.Generator,
    device: torch.device,
    batch: int,
    tokens: int,
    width: int,
    heads: int,
) -> Example:
    def normal(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator).to(device)

    w_in, w_out = normal(3 * width, width) / width**0.5, normal(width, width) / width**0.5
    vectors = normal(3 * width), normal(width), normal(width), normal(width)
    b_in, b_out, gamma, beta = vectors
    x = normal(batch, tokens, width)
    return x, w_in, b_in, w_out, b_out, gamma, beta, heads, 1e-5, "fp32", 0.0, 0


def _forward(  # noqa: PLR0913, PLR0917
    x: Tensor,
    w_in: Tensor,
    b_in: Tensor,
    w_out: Tensor,
    b_out: Tensor,
    gamma: Tensor,
    beta: Tensor,
    heads: int,
    eps: float,
    precision: str,
    dropout: float,
    seed: int,
) -> Tensor:
    batch, tokens, width = x.shape
    if not ops.runs_native(x) or (x.is_cuda and tokens > LONGEST) or x.numel() == 0:
        weights = (w_in, b_in, w_out, b_out, gamma, beta)
        return reference(x, *weights, heads, eps, precision, dropout, seed).contiguous()
    if precision == "bf16":
        w_in, w_out = ops.paired(w_in), ops.paired(w_out)
    slots, size = 1, 4 * x.numel()
    if not x.is_cuda:
        slots, size = attention_slots(batch, tokens, width)
    out = torch.empty(x.shape, dtype=x.dtype, device=x.device)
    tensors = {
        "x": x.contiguous(),
        "w_in": w_in.contiguous(),
        "b_in": b_in.contiguous(),
        "w_out": w_out.contiguous(),
        "b_out": b_out.contiguous(),
        "gamma": gamma.contiguous(),
        "beta": beta.contiguous(),
        "workspace": x.new_empty(slots * size),
        "out": out,
    }
    ops.launch(
        "attention",
        x,
        tensors,
        batch=batch,
        tokens=tokens,
        width=width,
        heads=heads,
        slots=slots,
        eps=eps,
        bf16=precision == "bf16",
        drop_below=drop_below(dropout),
        seed=seed,
    )
    return out


def _fake(x: Tensor, *arguments: Any) -> Tensor:
    return x.new_empty(x.shape)


def _setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    *tensors, heads, eps, _, dropout, seed = inputs
    ctx.settings = heads, eps, dropout, seed
    ctx.save_for_backward(*tensors)


def _backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
    """Recompute the block from its input, then apply the chain rule; only inputs are kept."""
    native = not grad.is_cuda and grad.numel() > 0 and ops.runs_native(grad)
    again = torch.is_grad_enabled()
    gradients: Any = _native_gradients if native and not again else _gradients
    return (*gradients(grad, *ctx.saved_tensors, *ctx.settings), *[None] * 5)


def _on_cpu(grad: Tensor, *arguments: Any) -> Gradients:
    *tensors, heads, eps, dropout, seed = arguments
    x, w_in, b_in, w_out, b_out, gamma, beta = (t.contiguous() for t in tensors)
    gradients = d_x, d_w_in, d_b_in, d_w_out, d_b_out, d_gamma, d_beta = _fake_gradients(
        grad, x, w_in, b_in, w_out, b_out, gamma, beta
    )
    batch, tokens, width = x.shape
    slots, floats = attention_backward_slots(batch, tokens, width, heads)
    ops.launch(
        "attention_backward",
        x,
        {
            "x": x,
            "w_in": w_in,
            "b_in": b_in,
            "w_out": w_out,
            "b_out": b_out,
            "gamma": gamma,
            "beta": beta,
            "w_in_t": w_in.T.contiguous(),
            "w_out_t": w_out.T.contiguous(),
            "grad": grad.contiguous(),
            "workspace": x.new_empty(floats),
            "d_x": d_x,
            "d_w_in": d_w_in,
            "d_b_in": d_b_in,
            "d_w_out": d_w_out,
            "d_b_out": d_b_out,
            "d_gamma": d_gamma,
            "d_beta": d_beta,
        },
        batch=batch,
        tokens=tokens,
        width=width,
        heads=heads,
        slots=slots,
        eps=eps,
        drop_below=drop_below(dropout),
        seed=seed,
    )
    return gradients


def _fake_gradients(grad: Tensor, *arguments: Any) -> Gradients:
    return tuple(t.new_empty(t.shape) for t in arguments[:7])


def _gradients(  # noqa: PLR0913, PLR0917
    grad: Tensor,
    x: Tensor,
    w_in: Tensor,
    b_in: Tensor,
    w_out: Tensor,
    b_out: Tensor,
    gamma: Tensor,
    beta: Tensor,
    heads: int,
    eps: float,
    dropout: float,
    seed: int,
) -> Gradients:
    """Compute them in PyTorch, to be traced and differentiated again."""
    batch, tokens, width = x.shape
    size = width // heads

    projected = functional.linear(x, w_in, b_in)  # (B, T, 3 D)
    heads_first = projected.view(batch, tokens, 3, heads, size).permute(2, 0, 3, 1, 4)
    q, k, v = heads_first.unbind(0)  # (B, heads, T, size)
    p = (q @ k.mT / size**0.5).softmax(-1)  # (B, heads, T, T)

    def kept(t: Tensor) -> Tensor:
        return _dropped(t.flatten(0, 1), dropout, seed).view_as(t)

    attended = (kept(p) @ v).transpose(1, 2).reshape(x.shape)  # (B, T, D)
    total = x + _dropped(functional.linear(attended, w_out, b_out), dropout, seed + 1)
    away = total - total.mean(-1, keepdim=True)
    scale = torch.rsqrt(away.square().mean(-1, keepdim=True) + eps)
    normal = away * scale

    d_normal = grad * gamma
    means = d_normal.mean(-1, keepdim=True), (d_normal * normal).mean(-1, keepdim=True)
    d_total = scale * (d_normal - means[0] - normal * means[1])  # (B, T, D)
    d_added = _dropped(d_total, dropout, seed + 1)
    d_attended = (d_added @ w_out).view(batch, tokens, heads, size).transpose(1, 2)
    d_v = kept(p).mT @ d_attended
    d_p = kept(d_attended @ v.mT)
    d_scores = p * (d_p - (d_p * p).sum(-1, keepdim=True)) / size**0.5
    d_parts = torch.stack([d_scores @ k, d_scores.mT @ q, d_v])  # (3, B, heads, T, size)
    d_projected = d_parts.permute(1, 3, 0, 2, 4).reshape(projected.shape)  # (B, T, 3 D)
    return (
        d_total + d_projected @ w_in,
        torch.einsum("bto,bti->oi", d_projected, x),
        d_projected.sum((0, 1)),
        torch.einsum("bto,bti->oi", d_added, attended),
        d_added.sum((0, 1)),
        (grad * normal).sum((0, 1)),
        grad.sum((0, 1)),
    )


_operator = ops.define(
    "attention",
    "(Tensor x, Tensor w_in, Tensor b_in, Tensor w_out, Tensor b_out, Tensor gamma, Tensor beta, "
    "int heads, float eps, str precision, float dropout, int seed) -> Tensor",
    forward=_forward,
    fake=_fake,
    backward=_backward,
    setup_context=_setup_context,
)
_native_gradients = ops.define_gradients(
    "attention_backward",
    "(Tensor grad, Tensor x, Tensor w_in, Tensor b_in, Tensor w_out, Tensor b_out, Tensor gamma, "
    "Tensor beta, int heads, float eps, float dropout, int seed) -> "
    "(Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor)",
    forward=_on_cpu,
    fake=_fake_gradients,
)
