"""The native ops, a file each: the torch operator, its reference in plain PyTorch, and examples.

Every op of this drawer has the public function (named as the file), `reference` (the specification
and the fallback), `examples(device, batch=2)` (argument tuples, the published model's size first)
and `TOLERANCE` (for `torch.testing.assert_close`, float32).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import torch
from torch import Tensor
from torch.nn import functional

from sleeptools import native
from sleeptools.native import devices
from sleeptools.native.check import Shapes

R = TypeVar("R")  # a Tensor or several
LIBRARY = torch.library.Library("sleeptools", "FRAGMENT")  # type: ignore[no-untyped-call]


def define(
    name: str,
    schema: str,
    *,
    forward: Callable[..., R],
    fake: Callable[..., R],
    backward: Callable[..., Any],
    setup_context: Callable[..., None],
) -> Callable[..., R]:
    """Register the operator `sleeptools::NAME`.

    Parameters
    ----------
    name
        As the file.
    schema
        "(Tensor x, ...) -> Tensor".
    forward
        The implementation for the CPU and for CUDA.
    fake
        Makes an empty output from shapes alone, for torch.compile and torch.export.
    backward, setup_context
        As for `torch.library.register_autograd`; `backward` in PyTorch operations, so that it can
        be traced and differentiated again.

    Returns
    -------
    callable
        The operator.
    """
    tags = (torch.Tag.pt2_compliant_tag,)
    LIBRARY.define(name + schema, tags=tags)  # type: ignore[no-untyped-call]
    for device in ("CPU", "CUDA"):
        LIBRARY.impl(name, forward, device)  # type: ignore[no-untyped-call]
    qualified = f"sleeptools::{name}"
    torch.library.register_fake(qualified, fake, lib=LIBRARY)
    torch.library.register_autograd(qualified, backward, setup_context=setup_context, lib=LIBRARY)
    operator: Callable[..., R] = getattr(torch.ops.sleeptools, name).default
    return operator


def define_gradients(
    name: str, schema: str, *, forward: Callable[..., R], fake: Callable[..., Any]
) -> Callable[..., R]:
    """Register the operator `sleeptools::NAME`, as a backward pass calls it.

    It has no gradient itself. Parameters as for `define`; the outputs may be several.
    """
    LIBRARY.define(name + schema, tags=(torch.Tag.pt2_compliant_tag,))  # type: ignore[no-untyped-call]
    for device in ("CPU", "CUDA"):
        LIBRARY.impl(name, forward, device)  # type: ignore[no-untyped-call]
    torch.library.register_fake(f"sleeptools::{name}", fake, lib=LIBRARY)
    operator: Callable[..., R] = getattr(torch.ops.sleeptools, name).default
    return operator


def runs_native(x: Tensor) -> bool:
    """Whether the core serves this tensor's device and type; otherwise the reference runs."""
    if x.dtype != torch.float32:
        return False
    if not x.is_cuda:
        return x.is_cpu and native.available()
    with torch.cuda.device(x.device):
        return devices.runs_kernels(x.device.index)


def launch(op: str, x: Tensor, tensors: dict[str, Tensor], **fields: native.Field) -> None:
    """Run an op of the core on contiguous tensors of the device of `x`, on its current stream.

    Parameters
    ----------
    op
        Name of the op in csrc/ops.h.
    x
        Any of the tensors; tells the device.
    tensors
        Inputs, outputs and workspace under the names of csrc/fields.h.
    fields
        The other fields.
    """
    for name, tensor in tensors.items():
        fields[name] = tensor.data_ptr()
    if not x.is_cuda:
        fields["device"], fields["stream"] = native.CPU, 0
        native.launch(op, fields)
        return
    with torch.cuda.device(x.device):
        fields["device"] = x.device.index
        fields["stream"] = torch.cuda.current_stream().cuda_stream
        native.launch(op, fields)


def check(shapes: Shapes, x: Tensor, *tensors: Tensor | None) -> None:
    """Check the shapes of an op's tensors, and that the others have the type and device of `x`.

    Raises
    ------
    ValueError
        Naming the first that is wrong.
    """
    if torch.compiler.is_compiling():
        shapes.check_shapes(x.shape, *[None if t is None else t.shape for t in tensors])
    else:
        shapes.check(x, *tensors)
    check_alike(shapes.op, x, tensors)


def check_alike(op: str, x: Tensor, tensors: tuple[Tensor | None, ...]) -> None:
    """Check that all tensors that are not None have the type and the device of `x`.

    Raises
    ------
    ValueError
        Naming both.
    """
    dtype, device = x.dtype, x.device
    for tensor in tensors:
        if tensor is not None and (tensor.dtype != dtype or tensor.device != device):
            raise ValueError(
                f"{op}: a weight is {tensor.dtype} on {tensor.device}; "
                f"expected {dtype} on {device}, as x"
            )


def rounded(tensor: Tensor) -> Tensor:
    """Round to bfloat16 and keep the type."""
    return tensor.bfloat16().to(tensor.dtype)


def rounding(precision: str) -> Callable[[Tensor], Tensor]:
    """Give what a precision does to the operands of a product."""
    return rounded if precision == "bf16" else lambda tensor: tensor


class _Rounded(torch.autograd.Function):
    """`rounded`, of whose steps the gradient sees nothing."""

    @staticmethod
    def forward(ctx: Any, tensor: Tensor) -> Tensor:
        return rounded(tensor)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        return grad


class _RoundedGradient(torch.autograd.Function):
    """Nothing to the values; rounds their gradient to bfloat16."""

    @staticmethod
    def forward(ctx: Any, tensor: Tensor) -> Tensor:
        return tensor.view_as(tensor)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        return rounded(grad)


def rounded_operand(tensor: Tensor) -> Tensor:
    """Round to bfloat16, with the gradient of something that does not."""
    out: Tensor = _Rounded.apply(tensor)  # type: ignore[no-untyped-call]
    return out


def with_rounded_gradient(tensor: Tensor) -> Tensor:
    """Give the tensor; its gradient is rounded to bfloat16 on the way back."""
    out: Tensor = _RoundedGradient.apply(tensor)  # type: ignore[no-untyped-call]
    return out


def paired(w: Tensor) -> Tensor:
    """Round a matrix to bfloat16 as the core takes it, with rows of even length, on CUDA of 8 n."""
    return functional.pad(w, (0, -w.shape[1] % (8 if w.is_cuda else 2))).bfloat16()


def activate(y: Tensor, activation: str, slope: float) -> Tensor:
    """Apply one of `conv_streams.ACTIVATIONS`; the slope is leaky_relu's."""
    if activation == "leaky_relu":
        return functional.leaky_relu(y, slope)
    return functional.relu(y) if activation == "relu" else functional.gelu(y)
