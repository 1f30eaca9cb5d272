"""Ops of the native core made ready once and run many times, on NumPy arrays.

To check arguments, to allocate results and to look up addresses takes longer than an op on one
epoch does; a network does all three once for a size of its input.
"""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable, Hashable, Sequence
from typing import Any, Generic, NamedTuple, ParamSpec

import numpy as np
from numpy.typing import NDArray

from sleeptools import native
from sleeptools.native import Floats, threads

P = ParamSpec("P")


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
        self.inner.run(x, out)
        return out


class Ready:
    """A network made ready once for a size of its input, and for the variant and threads in use.

    Any number of threads may call it: each gets a network of its own.

    Parameters
    ----------
    make
        Of the shape of an input.
    """

    KEPT = 4  # while nobody has them, the last ones used

    def __init__(self, make: Callable[[tuple[int, ...]], Network]) -> None:
        self.make = make
        self.idle: list[tuple[Hashable, Network]] = []
        self.lock = threading.Lock()

    def __call__(self, x: Floats) -> Floats:
        """Score epochs, float32 and C-contiguous: the probability of each stage (B, stages)."""
        key = (x.shape, native.variant(), threads.most_threads())
        network = self._take(key) or self.make(x.shape)
        try:
            return network(x)
        finally:
            with self.lock:
                self.idle = [(key, network), *self.idle[: self.KEPT - 1]]

    def _take(self, key: Hashable) -> Network | None:
        with self.lock:
            for place, (known, network) in enumerate(self.idle):
                if known == key:
                    del self.idle[place]
                    return network
        return None
