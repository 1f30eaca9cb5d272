"""Ops of the native core made ready once and run many times, on NumPy arrays.

To check arguments, to allocate results and to look up addresses takes longer than an op on one
epoch does; a network does all three once for a size of its input.
"""

from __future__ import annotations

import contextlib
import functools
import threading
from collections.abc import Callable, Hashable, Iterator, Sequence
from typing import Any, Generic, NamedTuple, ParamSpec, TypeVar

import numpy as np
from numpy.typing import NDArray

from sleeptools import native
from sleeptools.native import Floats

P = ParamSpec("P")
T = TypeVar("T")


class Call(NamedTuple):
    """An op with its arguments; two threads may not run one at the same time.

    Parameters
    ----------
    inner
        As the core holds it.
    arrays
        Whose addresses it has, and which must live as long.
    out
        The result, which each run overwrites.
    """

    inner: Any
    arrays: tuple[NDArray[Any] | None, ...]
    out: Floats

    def __call__(self) -> Floats:
        """Run the op."""
        self.inner.run()
        return self.out


class Op(Generic[P]):
    """An op on NumPy arrays: called, it runs at once.

    Parameters
    ----------
    ready
        Checks the arguments and gives a call that is ready to run.
    """

    def __init__(self, ready: Callable[P, Call]) -> None:
        self.ready = ready
        functools.update_wrapper(self, ready)

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> Floats:
        """Run the op once."""
        return self.ready(*args, **kwargs)()


def on_cpu(
    op: str,
    arrays: tuple[NDArray[Any] | None, ...],
    out: Floats,
    *settings: float,
    keep: tuple[NDArray[Any], ...] = (),
) -> Call:
    """Make a call of the core.

    Parameters
    ----------
    op
        Its name in csrc/ops.h.
    arrays, out
        In the order of its function in csrc/bindings.cpp; None for one that is left out.
    settings
        The arguments after them, without the device.
    keep
        Arrays whose addresses are among the settings.
    """
    addresses = (0 if array is None else native.address(array) for array in (*arrays, out))
    make = getattr(native.module(op).calls, op)
    return Call(make(*addresses, *settings, native.CPU, 0), (*arrays, *keep), out)


def contiguous(array: Floats) -> Call:
    """Make a call that copies an array whose axes were swapped."""
    out = np.empty(array.shape, np.float32)
    copy = functools.partial(np.copyto, out, array)
    return Call(native.module("contiguous").Call(copy), (array,), out)


class Network:
    """The calls of a network for one size of its input, with the hypnodensity at their end.

    Two threads may not run one at the same time.

    Parameters
    ----------
    x
        An input of that size.
    calls
        The first on `x`, each other on results of those before it; the last one leaves logits
        (B, stages).
    """

    def __init__(self, x: Floats, calls: Sequence[Call]) -> None:
        self.calls = calls
        batch, stages = self.size = calls[-1].out.shape
        inner = [call.inner for call in calls]
        at = native.address(calls[-1].out)
        core = native.module("hypnodensity")
        self.inner = core.Network(inner, at, batch, x.size // max(batch, 1), stages)

    def __call__(self, x: Floats) -> Floats:
        """Score epochs, float32 and C-contiguous: the probability of each stage (B, stages)."""
        out = np.empty(self.size, np.float32)
        self.inner.run(native.address(x), native.address(out))
        return out


class Pool(Generic[T]):
    """What is made once for a key, and lent to one borrower at a time.

    Parameters
    ----------
    make
        Of a key.
    most
        Things that are kept while nobody has them, the last ones returned.
    """

    def __init__(self, make: Callable[..., T], most: int = 4) -> None:
        self.make = make
        self.most = most
        self.idle: list[tuple[Hashable, T]] = []
        self.lock = threading.Lock()

    @contextlib.contextmanager
    def lend(self, *key: Hashable) -> Iterator[T]:
        """Lend one that is idle, or a new one."""
        with self.lock:
            places = (i for i, (known, _) in enumerate(self.idle) if known == key)
            place = next(places, None)
            found = None if place is None else self.idle.pop(place)[1]
        mine = self.make(*key) if found is None else found
        try:
            yield mine
        finally:
            with self.lock:
                self.idle = [(key, mine), *self.idle[: self.most - 1]]
