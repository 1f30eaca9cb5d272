"""Work on a GPU that is launched as one: a CUDA graph."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import torch

WARM_UP: Final = 3
"""Calls before the graph is made, in which libraries choose their kernels and lay out memory."""


class CapturedWork:
    """Work that is the same at every call, on the same memory.

    The first calls run it as it is, on a stream of its own; the next one makes the graph, which all
    later ones replay.

    Parameters
    ----------
    work
        Launches kernels on the current stream; reads nothing back, and takes nothing from the host
        that changes from call to call.
    """

    def __init__(self, work: Callable[[], None]) -> None:
        self.work = work
        self.calls = 0
        self.graph: torch.cuda.CUDAGraph | None = None

    def __call__(self) -> None:
        """Do the work once."""
        self.calls += 1
        if self.calls <= WARM_UP:
            current = torch.cuda.current_stream()
            stream = torch.cuda.Stream()  # type: ignore[no-untyped-call]
            stream.wait_stream(current)
            with torch.cuda.stream(stream):
                self.work()
            current.wait_stream(stream)
            return
        if self.graph is None:
            self.graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(self.graph):
                self.work()  # only recorded
        self.graph.replay()
