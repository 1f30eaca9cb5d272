"""Ops and networks of the native core prepared once and run many times, on NumPy arrays.

To check arguments, to allocate results and to look up addresses takes longer than an op on one
epoch does; a network does all three once for a size of its input.
"""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import Any, Generic, NamedTuple, ParamSpec

import numpy as np
from numpy.typing import NDArray

from sleeptools import native
from sleeptools.native import Floats, threads

P = ParamSpec("P")
Arrays = Mapping[str, NDArray[Any] | None]


class PreparedOp(NamedTuple):
    """An op with its arguments; two threads may not run one at the same time.

    Parameters
    ----------
    inner
        The op as the core holds it.
    arrays
        Arrays whose addresses the op has, and which must live as long.
    out
        The result, which each run overwrites.
    """

    inner: Any
    arrays: Sequence[NDArray[Any] | None]
    out: Floats

    def __call__(self) -> Floats:
        """Run the op."""
        self.inner.run()
        return self.out


class Op(Generic[P]):
    """An op on NumPy arrays: called, it runs at once.

    Parameters
    ----------
    prepare
        Checks the arguments and prepares the op to be run.
    """

    def __init__(self, prepare: Callable[P, PreparedOp]) -> None:
        self.prepare = prepare
        functools.update_wrapper(self, prepare)

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> Floats:
        """Run the op once."""
        return self.prepare(*args, **kwargs)()


def on_cpu(op: str, arrays: Arrays, out: Floats, **numbers: float) -> PreparedOp:
    """Prepare an op of the core for the CPU.

    Parameters
    ----------
    op
        Name of the op in csrc/ops.h.
    arrays
        C-contiguous arrays under the names of csrc/fields.h; None for one that is left out.
    out
        The result, the field `out`.
    numbers
        The other fields.
    """
    prepare = getattr(native.module(op).prepare, op)
    inner = prepare(**arrays, out=out, **numbers, device=native.CPU, stream=0)
    return PreparedOp(inner, tuple(arrays.values()), out)


def contiguous(array: Floats) -> PreparedOp:
    """Prepare the copy of an array whose axes were swapped."""
    out = np.empty(array.shape, np.float32)
    return by_numpy(functools.partial(np.copyto, out, array), (array,), out)


def by_numpy(work: Callable[[], object], arrays: Sequence[Floats], out: Floats) -> PreparedOp:
    """Prepare work that NumPy does.

    Parameters
    ----------
    work
        Fills `out`.
    arrays
        Arrays that must live as long.
    """
    return PreparedOp(native.module("by_numpy").PreparedOp(work), tuple(arrays), out)


class PreparedNetwork:
    """The ops of a network for one size of its input, with the hypnodensity at their end.

    Two threads may not run one at the same time.

    Parameters
    ----------
    x
        An input of that size.
    ops
        The first on `x`, the others on results of those before them; the last one leaves logits
        (B, stages).
    """

    def __init__(self, x: Floats, ops: Sequence[PreparedOp]) -> None:
        self.ops = ops
        batch, stages = self.size = ops[-1].out.shape
        self.inner = native.module("hypnodensity").PreparedNetwork(
            [op.inner for op in ops],
            logits=native.address(ops[-1].out),
            batch=batch,
            values=x.size // max(batch, 1),
            stages=stages,
        )

    def __call__(self, x: Floats) -> Floats:
        """Score epochs, float32 and C-contiguous: the probability of each stage (B, stages)."""
        out = np.empty(self.size, np.float32)
        self.inner.run(x, out)
        return out


class NetworkPool:
    """A network prepared for each size of its input, variant and number of threads in use.

    Any number of threads may call it: each gets a network that no other one is running.

    Parameters
    ----------
    prepare
        Prepares the network for the shape of an input.
    """

    MOST_IDLE = 4  # networks that no thread is running; the last ones used

    def __init__(self, prepare: Callable[[tuple[int, ...]], PreparedNetwork]) -> None:
        self.prepare = prepare
        self.idle: list[tuple[Hashable, PreparedNetwork]] = []
        self.lock = threading.Lock()

    def __call__(self, x: Floats) -> Floats:
        """Score epochs, float32 and C-contiguous: the probability of each stage (B, stages)."""
        key = (x.shape, native.variant(), threads.most_threads())
        network = self._take(key) or self.prepare(x.shape)
        try:
            return network(x)
        finally:
            with self.lock:
                self.idle = [(key, network), *self.idle[: self.MOST_IDLE - 1]]

    def _take(self, key: Hashable) -> PreparedNetwork | None:
        with self.lock:
            for index, (idle_key, network) in enumerate(self.idle):
                if idle_key == key:
                    del self.idle[index]
                    return network
        return None
