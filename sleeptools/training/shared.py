"""One training on several devices: a process for each, of which every one takes a share of a batch.

The processes are those of `train` with several `devices` or of torchrun (RANK, WORLD_SIZE,
LOCAL_RANK). A step is that of one process: the shares make up the recipe's batch, and the loss of
all is the mean over all (Li et al. 2020, arXiv:2006.15704). Two things differ: each process draws
dropout of its own, and BatchNorm normalises by the statistics of its share alone; those of rank 0
are kept. Rank 0 judges, writes and reports; all others only compute. When a process is lost, all
end, and the same command continues from the last checkpoint: a new process cannot join those that
are left.
"""

from __future__ import annotations

import contextlib
import inspect
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any, Final

import torch
from torch import Tensor, distributed, nn
from torch.nn.parallel import DistributedDataParallel

from sleeptools.errors import Stopped, UsageError
from sleeptools.recording.stages import UNSCORED
from sleeptools.training.batches import EpochSource, Numbers
from sleeptools.training.loop import Training
from sleeptools.training.stop import Stop
from sleeptools.training.task import Task

WAITING: Final = timedelta(minutes=30)
"""For another process: rank 0 judges a pass while the others wait."""
LEAST: Final = 2  # windows of a share: BatchNorm needs two
TRANSPORTS: Final = ("gloo", "NCCL", "Connection", "rocess group", "Timed out")
"""Words of which one is in every message of a transport; not all have a class of their own."""
OWN_BUFFERS: Final = next(
    name
    for name in ("forward_sync_buffers", "broadcast_buffers")  # before and since PyTorch 2.13
    if name in inspect.signature(DistributedDataParallel.__init__).parameters
)
"""Option by which each process has BatchNorm's statistics of its own."""
BATCH_NORM: Final = "statistics of each process's share of a batch; those of rank 0 are kept"


@dataclass(frozen=True)
class Ranks:
    """The processes that train together.

    Parameters
    ----------
    rank, count
        The number of this process, from 0, and how many there are.
    local
        Its number on its machine, which is that of its device.
    """

    rank: int = 0
    count: int = 1
    local: int = 0

    @property
    def writes(self) -> bool:
        """Whether this process is the one that writes."""
        return self.rank == 0

    @contextlib.contextmanager
    def joined(self, device: torch.device) -> Iterator[None]:
        """Meet the other processes, for as long as they work together.

        Raises
        ------
        Stopped
            If one of them does not come, or is lost.
        """
        if self.count == 1:
            yield
            return
        if device.type == "cuda":
            torch.cuda.set_device(self.local)
        backend = "nccl" if device.type == "cuda" else "gloo"
        with lost_processes():
            distributed.init_process_group(backend, timeout=WAITING)
        try:
            yield
        finally:
            distributed.destroy_process_group()

    def agreed(self, value: Any) -> Any:
        """Give what rank 0 says; all wait for it."""
        if self.count == 1:
            return value
        values = [value]
        with lost_processes():
            distributed.broadcast_object_list(values)
        return values[0]

    def facts(self) -> dict[str, Any]:
        """Tell what a manifest says of them; nothing of one process."""
        return {"devices": {"count": self.count, "batch_norm": BATCH_NORM}} if self.shared else {}

    @property
    def shared(self) -> bool:
        """Whether there is more than one process."""
        return self.count > 1


def ranks_of_environment() -> Ranks:
    """Read which of several processes this one is, as torchrun tells.

    Raises
    ------
    UsageError
        If the variables contradict each other.
    """
    names = ("RANK", "WORLD_SIZE", "LOCAL_RANK")
    texts = [os.environ.get(name) for name in names]
    if texts[0] is None or texts[1] is None:
        return Ranks()
    try:
        rank, count, local = (int(text or 0) for text in texts)
        if not 0 <= rank < count:
            raise ValueError
    except ValueError as e:
        shown = ", ".join(f"{name}={text}" for name, text in zip(names, texts, strict=True))
        raise UsageError(
            f"{shown}: expected the number of a process and how many there are, as torchrun sets",
            code="USE-VALUE",
        ) from e
    return Ranks(rank, count, local)


@contextlib.contextmanager
def lost_processes() -> Iterator[None]:
    """Say that another process is gone where a message to it fails.

    Raises
    ------
    Stopped
        If one is.
    """
    try:
        yield
    except (distributed.DistError, RuntimeError) as e:
        of_transport = isinstance(e, distributed.DistError)
        if not (of_transport or any(word in str(e) for word in TRANSPORTS)):
            raise
        raise Stopped(
            f"another process of this training has ended or does not answer: {_first_line(e)}",
            hint="run the same command again to continue from the last checkpoint",
        ) from e


def _first_line(error: Exception) -> str:
    return str(error).partition("\n")[0]


class SharedTraining(Training):
    """A task at work on several devices.

    Parameters
    ----------
    task, source, stop
        As of `Training`.
    """

    def __init__(self, task: Task, source: EpochSource, stop: Stop) -> None:
        self.ranks = ranks_of_environment()
        self.requested, self.lost = stop, False
        task = replace(task, facts={**task.facts, **self.ranks.facts()})
        super().__init__(task, source, Stop())  # all stop after the same step
        fewest = min(task.recipe.batch, len(self.windows))
        if fewest < LEAST * self.ranks.count:
            raise UsageError(
                f"a batch of {fewest} epochs for {self.ranks.count} devices: expected at least "
                f"{LEAST} for each",
                code="USE-TOGETHER",
            )
        devices = [self.ranks.local] if source.device.type == "cuda" else None
        options: dict[str, Any] = {"device_ids": devices, OWN_BUFFERS: False}
        with lost_processes():
            self.parallel = DistributedDataParallel(self.state.model, **options)
        self.smallest_step = LEAST * self.ranks.count
        self.steps = self.count_steps()

    @property
    def network(self) -> nn.Module:
        """The model, whose gradients become the mean over all processes."""
        return self.parallel

    def share(self, rows: Numbers) -> Numbers:
        """Take this process's part of a batch."""
        return rows[self.ranks.rank :: self.ranks.count]

    @property
    def on_gpu(self) -> bool:
        """Never: its processes wait for each other in every step."""
        return False

    @property
    def salt(self) -> list[int]:
        """What sets the dropout of a process apart."""
        return [self.ranks.rank] if self.ranks.rank else []

    def descend_from(self, loss: Tensor, stages: Tensor, sums: Tensor) -> Tensor:
        """Compute the gradients of the loss of all processes; give sums over all."""
        scored = stages[stages != UNSCORED]
        counts = self.weights is None or self.recipe.loss == "weighted_ce_n"
        weight = torch.tensor(float(len(scored))) if counts else self.weights[scored].sum()  # type: ignore[index]
        weight = weight.to(loss)
        stopping = torch.tensor([float(bool(self.requested.signal))]).to(loss)
        totals = torch.cat([(loss.detach() * weight)[None], weight[None], sums[1:], stopping])
        try:
            with lost_processes():
                distributed.all_reduce(totals)
                (loss * (weight * self.ranks.count / totals[1])).backward()  # type: ignore[no-untyped-call]
        except Stopped:
            self.lost = True
            raise
        if totals[-1]:
            self.stop.signal = self.requested.signal or "a signal to another process"
        return torch.stack([totals[0] / totals[1], *totals[2:4]])

    def save(self) -> None:
        """Write the checkpoint; none within a step that was broken off."""
        if self.ranks.writes and not self.lost:
            super().save()

    def finish_pass(self, charge: Callable[[], None]) -> float | None:
        """Judge a pass, or wait until that is done."""
        if self.ranks.writes:
            return super().finish_pass(charge)
        self.end_pass({"loss": self.state.loss / self.state.seen})
        return None

    def finish(self) -> None:
        """Write the results, or leave that to rank 0."""
        if self.ranks.writes:
            super().finish()
