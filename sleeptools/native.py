"""The one door to the native core `sleeptools._core`: NumPy in, NumPy out, no torch.

The core holds every op once per CPU instruction set (a variant) and, where it was built with a CUDA
compiler, once for the GPU. It is optional: without it `available()` is False and the ops run their
reference in PyTorch. Environment: `SLEEPTOOLS_NATIVE=0` turns the core off, `SLEEPTOOLS_VARIANT`
forces a variant.
"""

from __future__ import annotations

import functools
import os
from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from sleeptools.errors import UnavailableError, UsageError

Floats = NDArray[np.float32]
Weights = NDArray[np.float32] | NDArray[np.uint16]  # the second: bfloat16
Kind = Literal["authors", "paper"]
Precision = Literal["fp32", "bf16"]

CPU = -1  # device number that means the CPU
MAX_MODALITIES = 16  # of modal_se; csrc/ops.h
MAX_BLOCK = 32  # columns that feed_forward_backward takes at a time; csrc/ops.h


class Shaped(Protocol):
    """A NumPy array or a torch tensor, as far as the checks here look at it."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Length of each axis."""


class _Core:
    """The loaded extension module, or why there is none, and the variant in use."""

    def __init__(self) -> None:
        self.module: Any = None
        self.variant = "reference"
        self.why = ""
        if os.environ.get("SLEEPTOOLS_NATIVE") == "0":
            self.why = "SLEEPTOOLS_NATIVE=0"
        else:
            self._import()
        wanted = os.environ.get("SLEEPTOOLS_VARIANT")
        if wanted:
            self.select(wanted, source="SLEEPTOOLS_VARIANT")

    def _import(self) -> None:
        try:
            from sleeptools import _core  # type: ignore[attr-defined, unused-ignore]
        except ImportError as error:
            missing = "cannot import name '_core'" in str(error)
            self.why = "not built" if missing else str(error)
        else:
            self.module = _core
            self.variant = _core.variant()

    def variants(self) -> list[str]:
        return ["reference", *(self.module.variants() if self.module else [])]

    def select(self, name: str, *, source: str = "variant") -> None:
        if name not in self.variants():
            raise UsageError(
                f"{source} {name!r}: this CPU and this build can do {', '.join(self.variants())}",
                hint="" if self.module else f"the native core is off ({self.why})",
            )
        if name != "reference":
            self.module.select(name)
        self.variant = name


@functools.cache
def _core() -> _Core:
    """Load the core on first use, so that a wrong environment variable does not break an import."""
    return _Core()


def available() -> bool:
    """Whether the native kernels are there and in use."""
    return _core().variant != "reference"


def has_cuda() -> bool:
    """Whether the native core is in use and holds CUDA kernels; a device may still be missing."""
    return available() and bool(_core().module.cuda_architectures())


def variant() -> str:
    """Name the instruction set in use, or "reference" for plain PyTorch."""
    return _core().variant


def variants() -> list[str]:
    """List the variants that this CPU can run, best last; "reference" is always one of them."""
    return _core().variants()


def set_variant(name: str) -> None:
    """Choose a variant for this process.

    Parameters
    ----------
    name
        One of `variants()`; "reference" turns the native core off.

    Raises
    ------
    UsageError
        For a name that this CPU or this build cannot do; the message lists those it can.
    """
    _core().select(name)


def set_threads(count: int) -> None:
    """Set how many threads an op may use on the CPU.

    Parameters
    ----------
    count
        1 or more; 0 goes back to the setting of OpenMP, which `torch.set_num_threads` and
        `OMP_NUM_THREADS` share. An op too small to gain from threads uses one all the same.

    Raises
    ------
    UsageError
        For a negative count.
    """
    if count < 0:
        raise UsageError(f"{count} threads; expected 1 or more, or 0 for the default")
    if _core().module:
        _core().module.set_threads(count)


def threads(tasks: int, work: int) -> int:
    """Say how many threads an op will use on the CPU.

    Parameters
    ----------
    tasks
        Independent tasks.
    work
        Float operations of each.
    """
    module = _core().module
    return int(module.threads(tasks, work)) if module else 1


def describe() -> str:
    """Say in one line what runs here, for example "native: avx512-bf16, cuda off"."""
    core = _core()
    if not core.module:
        return f"native: off ({core.why})"
    if not available():
        return "native: off (variant reference was asked for)"
    return f"native: {core.variant}, {_describe_cuda(core.module)}"


def _describe_cuda(module: Any) -> str:
    architectures, devices = module.cuda_architectures(), module.cuda_devices()
    if not architectures:
        return "cuda off"
    found = ", ".join(devices) if devices else "compiled; no device"
    return f"cuda {' '.join(architectures)} ({found})"


def launch(op: str, *arguments: int | float | bool) -> None:
    """Run an op of the core on raw addresses; the caller has checked shapes, types and contiguity.

    Parameters
    ----------
    op
        Its name in csrc/ops.h.
    arguments
        Addresses and sizes in the order of its function in csrc/bindings.cpp; the last two are the
        device number (`CPU` or a CUDA index) and the address of the CUDA stream (0 for the CPU).

    Raises
    ------
    UnavailableError
        If the core is off, or if a CUDA device was asked for and there is none that fits.
    """
    module = _loaded(op)
    try:
        getattr(module, op)(*arguments)
    except module.Unavailable as error:
        raise UnavailableError(str(error), hint="run on the CPU with --device cpu") from None


def _loaded(op: str) -> Any:
    core = _core()
    if core.module is None:
        raise UnavailableError(
            f"{op}: the native core is off ({core.why})",
            hint="install with a C++ compiler and without SLEEPTOOLS_NATIVE=0",
        )
    return core.module


def check_shape(op: str, name: str, array: Shaped, expected: tuple[int, ...]) -> None:
    """Compare the shape of an argument with what the op expects.

    Raises
    ------
    ValueError
        Naming the argument, the shape expected and the shape got.
    """
    if array.shape != expected:
        raise ValueError(f"{op}: {name} has shape {tuple(array.shape)}; expected {expected}")


def check_modal_se(  # noqa: PLR0913, PLR0917 - the op has nine arrays
    x: Shaped,
    w1: Shaped,
    b1: Shaped,
    w2: Shaped,
    b2: Shaped,
    squeeze: Shaped,
    squeeze_bias: Shaped,
    excite: Shaped,
    excite_bias: Shaped,
    kind: str,
) -> None:
    """Check the arguments of `modal_se`, NumPy arrays or torch tensors alike.

    Raises
    ------
    ValueError
        Naming the argument, what it must be and what it is.
    """
    if len(x.shape) != 4:  # noqa: PLR2004
        shape = tuple(x.shape)
        raise ValueError(f"modal_se: x has shape {shape}; expected (batch, modalities, maps, time)")
    if kind not in ("authors", "paper"):
        raise ValueError(f"modal_se: kind is {kind!r}; expected 'authors' or 'paper'")
    vector = (x.shape[1],)
    matrix = vector * 2
    check_shape("modal_se", "w1", w1, matrix)
    check_shape("modal_se", "b1", b1, vector)
    check_shape("modal_se", "w2", w2, matrix)
    check_shape("modal_se", "b2", b2, vector)
    check_shape("modal_se", "squeeze", squeeze, matrix)
    check_shape("modal_se", "squeeze_bias", squeeze_bias, vector)
    check_shape("modal_se", "excite", excite, matrix)
    check_shape("modal_se", "excite_bias", excite_bias, vector)


def modal_se(  # noqa: PLR0913, PLR0917 - the op has nine arrays
    x: Floats,
    w1: Floats,
    b1: Floats,
    w2: Floats,
    b2: Floats,
    squeeze: Floats,
    squeeze_bias: Floats,
    excite: Floats,
    excite_bias: Floats,
    kind: Kind = "authors",
) -> Floats:
    """Run the modal-wise squeeze-and-excitation block; see `sleeptools.ops.modal_se`.

    Parameters
    ----------
    x
        Features (batch, modalities, maps, time), 1 to `MAX_MODALITIES` modalities.
    w1, b1, w2, b2
        The two 1x1 convolutions with BatchNorm folded in, (M, M) and (M,).
    squeeze, squeeze_bias, excite, excite_bias
        The gate, (M, M) and (M,).
    kind
        "authors" for relu(F + F' * E), "paper" for Eq. 5, F + F * E.

    Returns
    -------
    ndarray
        As `x`.

    Raises
    ------
    ValueError
        For wrong shapes.
    UnavailableError
        If the native core is off.
    """
    weights = (w1, b1, w2, b2, squeeze, squeeze_bias, excite, excite_bias)
    check_modal_se(x, *weights, kind)
    if not 1 <= x.shape[1] <= MAX_MODALITIES:
        raise ValueError(f"modal_se: {x.shape[1]} modalities; expected 1 to {MAX_MODALITIES}")
    arrays = [np.ascontiguousarray(array, np.float32) for array in (x, *weights)]
    out = np.empty(x.shape, np.float32)
    sizes = (x.shape[0], x.shape[1], x.shape[2] * x.shape[3])
    addresses = [_address(array) for array in (*arrays, out)]
    launch("modal_se", *addresses, *sizes, kind == "authors", CPU, 0)
    return out


def check_feed_forward(
    x: Shaped,
    w1: Shaped,
    b1: Shaped,
    w2: Shaped,
    b2: Shaped,
    precision: str,
    dropout: float = 0.0,
    seed: int = 0,
) -> None:
    """Check the arguments of `feed_forward`, NumPy arrays or torch tensors alike.

    Raises
    ------
    ValueError
        Naming the argument, what it must be and what it is.
    """
    op = "feed_forward"
    for name, array, axes in (("x", x, "tokens, width"), ("w1", w1, "hidden, width")):
        if len(array.shape) != 2:  # noqa: PLR2004
            raise ValueError(f"{op}: {name} has shape {tuple(array.shape)}; expected ({axes})")
    if precision not in ("fp32", "bf16"):
        raise ValueError(f"{op}: precision is {precision!r}; expected 'fp32' or 'bf16'")
    if not 0 <= dropout < 1:
        raise ValueError(f"{op}: dropout is {dropout}; expected 0 to below 1")
    if not 0 <= seed < 2**63:
        raise ValueError(f"{op}: seed is {seed}; expected 0 to 2^63 - 1")
    width, hidden = x.shape[1], w1.shape[0]
    check_shape(op, "w1", w1, (hidden, width))
    check_shape(op, "b1", b1, (hidden,))
    check_shape(op, "w2", w2, (width, hidden))
    check_shape(op, "b2", b2, (width,))


def drop_below(dropout: float) -> int:
    """Threshold for a random 32-bit word below which a unit is dropped."""
    return min(round(dropout * 2**32), 2**32 - 1)


def feed_forward_workspace(width: int) -> int:
    """Floats of workspace that `feed_forward` needs for each thread on the CPU."""
    return int(_loaded("feed_forward").feed_forward_workspace(width))


def feed_forward_backward_workspace(rows: int, width: int) -> int:
    """Floats of workspace that `feed_forward_backward` needs on the CPU."""
    return int(_loaded("feed_forward").feed_forward_backward_workspace(rows, width))


def separable_stream_workspace(*sizes: int) -> int:
    """Floats of workspace that `separable_stream` needs; see `sleeptools.separable.plan`."""
    return int(_loaded("separable_stream").separable_stream_workspace(*sizes))


def feed_forward(
    x: Floats, w1: Weights, b1: Floats, w2: Weights, b2: Floats, precision: Precision = "fp32"
) -> Floats:
    """Run the feed-forward block of a Transformer layer; see `sleeptools.ops.feed_forward`.

    Parameters
    ----------
    x
        (tokens, width).
    w1, b1, w2, b2
        The two layers, (hidden, width), (hidden,), (width, hidden) and (width,).
    precision
        "fp32", or "bf16" for products of operands rounded to bfloat16; `w1` and `w2` of even
        sizes may then come from `round_to_bf16`, which takes longer than the op on one epoch.

    Returns
    -------
    ndarray
        As `x`.

    Raises
    ------
    ValueError
        For wrong shapes.
    UnavailableError
        If the native core is off.
    """
    check_feed_forward(x, w1, b1, w2, b2, precision)
    sizes = (x.shape[0], x.shape[1], w1.shape[0])
    slots = threads(sizes[0], 4 * sizes[1] * sizes[2])
    if precision == "bf16":
        w1, w2 = round_to_bf16(w1), round_to_bf16(w2)
    else:
        w1, w2 = np.ascontiguousarray(w1, np.float32), np.ascontiguousarray(w2, np.float32)
    x, b1, b2 = (np.ascontiguousarray(array, np.float32) for array in (x, b1, b2))
    workspace = np.empty(slots * feed_forward_workspace(sizes[1]), np.float32)
    out = np.empty(x.shape, np.float32)
    addresses = [_address(array) for array in (x, w1, b1, w2, b2, workspace, out)]
    launch("feed_forward", *addresses, *sizes, slots, precision == "bf16", 0, 0, CPU, 0)
    return out


def round_to_bf16(w: Weights) -> NDArray[np.uint16]:
    """Round a matrix to the nearest bfloat16, ties to even.

    Parameters
    ----------
    w
        (rows, columns); the result of this function is returned as it is.

    Returns
    -------
    ndarray
        The upper half of each number, with a column of zeros added where their count is odd.
    """
    if w.dtype == np.uint16:
        return np.ascontiguousarray(w)
    even = np.ascontiguousarray(np.pad(w, ((0, 0), (0, w.shape[1] % 2))), np.float32)
    bits = even.view(np.uint32)
    rounded = bits + np.uint32(0x7FFF) + ((bits >> np.uint32(16)) & np.uint32(1))
    quiet = bits | np.uint32(0x400000)  # a NaN may have nothing else in its upper half
    return (np.where(np.isnan(even), quiet, rounded) >> np.uint32(16)).astype(np.uint16)


def _address(array: NDArray[Any]) -> int:
    return int(array.__array_interface__["data"][0])
