"""The one door to the native core `sleeptools._core`: NumPy in, NumPy out, no torch.

The core holds every op once per CPU instruction set (a variant) and, where it was built with a CUDA
compiler, once for the GPU. It is optional: without it `available()` is False and the ops run their
reference in PyTorch. Environment: `SLEEPTOOLS_NATIVE=0` turns the core off, `SLEEPTOOLS_VARIANT`
forces a variant.

Loading it also has the C library keep freed memory, up to 2 GiB, for the whole process: otherwise
every large array goes back to the system when it is freed, and the next one is filled with zeros
page by page. Where the environment sets the C library's own variables, they are left as they are.
"""

from __future__ import annotations

import contextlib
import functools
import os
from collections.abc import Iterator, Mapping
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from sleeptools.errors import UnavailableError, UsageError

Floats = NDArray[np.float32]
Field = NDArray[Any] | float | None
Fields = Mapping[str, Field]
Precision = Literal["fp32", "bf16"]  # of products; sums are float32
PRECISIONS: tuple[Precision, ...] = get_args(Precision)

BF16 = ("avx512-bf16", "amx-bf16")  # variants
CACHE_LINE = 64  # bytes
ALLOCATOR = ("MALLOC_", "GLIBC_TUNABLES")  # variables by which glibc's is set
CPU = -1  # device number that means the CPU


class _Core:
    """The loaded extension module, or why there is none, and the variant in use."""

    def __init__(self) -> None:
        self.module: Any = None
        self.variant = "reference"
        self.why = ""
        self.threads = 0
        self.obstacles: dict[int, str] = {}  # of the CUDA devices that were asked; "" for none
        if os.environ.get("SLEEPTOOLS_NATIVE") == "0":
            self.why = "SLEEPTOOLS_NATIVE=0"
        else:
            self._import()
        forced_variant = os.environ.get("SLEEPTOOLS_VARIANT")
        if forced_variant:
            self.select(forced_variant, source="SLEEPTOOLS_VARIANT")

    def _import(self) -> None:
        try:
            from sleeptools import _core  # type: ignore[attr-defined, unused-ignore]
        except ImportError as error:
            missing = "cannot import name '_core'" in str(error)
            self.why = "not built" if missing else str(error)
        else:
            self.module = _core
            self.variant = _core.variant()
            if not any(name.startswith(ALLOCATOR) for name in os.environ):
                _core.keep_freed_memory()

    def variants(self) -> list[str]:
        return ["reference", *(self.module.variants() if self.module else [])]

    def select(self, name: str, *, source: str = "variant") -> None:
        if name not in self.variants():
            raise UsageError(
                f"{source} {name!r}: this CPU and this build can do {', '.join(self.variants())}",
                hint="" if self.module else f"the native core is off ({self.why})",
                code="USE-NAME",
            )
        if name != "reference":
            self.module.select(name)
        self.variant = name


@functools.cache
def loaded_core() -> _Core:
    """Load the core on first use, so that a wrong environment variable does not break an import."""
    return _Core()


def available() -> bool:
    """Whether the native kernels are there and in use."""
    return loaded_core().variant != "reference"


def has_cuda() -> bool:
    """Whether the native core is in use and holds CUDA kernels.

    A device may still be missing, or not fit: see `devices.runs_kernels`.
    """
    return available() and bool(loaded_core().module.cuda_architectures())


def has_bf16() -> bool:
    """Whether the variant in use multiplies bfloat16; elsewhere rounding to it only costs."""
    return variant() in BF16


def variant() -> str:
    """Name the instruction set in use, or "reference" for plain PyTorch."""
    return loaded_core().variant


def variants() -> list[str]:
    """List the variants that this CPU can run, best last; "reference" is always one of them."""
    return loaded_core().variants()


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
    loaded_core().select(name)


@contextlib.contextmanager
def using_variant(name: str) -> Iterator[None]:
    """Choose a variant as `set_variant` does, and the one before at the end."""
    before = variant()
    set_variant(name)
    try:
        yield
    finally:
        set_variant(before)


def describe() -> str:
    """Say in one line what runs here, for example "native: avx512-bf16, cuda off"."""
    core = loaded_core()
    if not core.module:
        return f"native: off ({core.why})"
    if not available():
        return "native: off (variant reference was asked for)"
    return f"native: {core.variant}, {_describe_cuda(core)}"


def _describe_cuda(core: _Core) -> str:
    architectures, devices = core.module.cuda_architectures(), core.module.cuda_devices()
    if not architectures:
        return "cuda off"
    device_text = ", ".join(devices) if devices else "compiled; no device"
    unused = "".join(f"; not on cuda:{i}: {why}" for i, why in core.obstacles.items() if why)
    return f"cuda {' '.join(architectures)} ({device_text}{unused})"


def launch(op: str, fields: Fields) -> None:
    """Run an op of the core on raw memory; the caller has checked shapes, types and contiguity.

    Parameters
    ----------
    op
        Name of the op in csrc/ops.h.
    fields
        Under the names of csrc/fields.h: addresses, or C-contiguous arrays in their place; None for
        one that may be left out; numbers; with the `device` (`CPU` or a CUDA index) and the address
        of its CUDA `stream` (0 for the CPU).

    Raises
    ------
    TypeError
        If a field is unknown, missing or of a wrong type.
    ValueError
        If a number is out of range.
    UnavailableError
        If the core is off, or if a CUDA device was asked for and there is none that fits.
    """
    run = _function(op)
    try:
        run(**fields)
    except module(op).Unavailable as error:
        raise UnavailableError(
            str(error), hint="run on the CPU with `device=cpu`", code="DEVICE-NONE"
        ) from None


@functools.cache
def _function(op: str) -> Any:
    return getattr(module(op), op)


def launch_on_cpu(op: str, **fields: Field) -> None:
    """Run an op of the core on the CPU; see `launch`."""
    launch(op, fields | {"device": CPU, "stream": 0})


def module(op: str) -> Any:
    """Get the loaded core for an op; `UnavailableError` naming the op where it is off."""
    core = loaded_core()
    if core.module is None:
        raise UnavailableError(
            f"{op}: the native core is off ({core.why})",
            hint="install with a C++ compiler and without SLEEPTOOLS_NATIVE=0",
            code="NATIVE-OFF",
        )
    return core.module


def as_floats(array: NDArray[Any]) -> Floats:
    """Make an array C-contiguous float32; one that is stays as it is."""
    return np.ascontiguousarray(array, np.float32)


def aligned(array: NDArray[Any]) -> NDArray[Any]:
    """Copy an array to memory that starts with a cache line.

    The rows of a tile register are cache lines: products take a third longer where each row lies
    in two.
    """
    raw = np.empty(array.nbytes + CACHE_LINE, np.uint8)
    start = -address(raw) % CACHE_LINE
    out: NDArray[Any] = raw[start : start + array.nbytes].view(array.dtype).reshape(array.shape)
    out[...] = array
    return out


def address(array: NDArray[Any]) -> int:
    """Address of an array's first element, as the core takes it."""
    return int(array.__array_interface__["data"][0])
