"""Whole-model inference on NumPy arrays: a model folder in, the hypnodensity of epochs out.

A model with a file in this package runs in the native core, and torch is never imported. Every
other model, and every model where the core is off, runs through torch behind the same interface.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from sleeptools import native, registry, trained
from sleeptools.engine._weights import Weights
from sleeptools.errors import UsageError

Precision = Literal["fp32", "bf16"]
Floats = NDArray[np.float32]
Network = Callable[[Floats], Floats]

CHUNK = 64  # epochs at a time: their features stay in the L2 and L3 caches


class Engine:
    """A trained model that scores epochs.

    Parameters
    ----------
    facts
        Of the model folder's config.json.
    network
        From epochs (B, channels, samples) to logits (B, stages).
    precision
        In use.
    threads
        CPU threads.
    how
        "native" or "torch".
    """

    def __init__(
        self,
        facts: Mapping[str, Any],
        network: Network,
        *,
        precision: Precision,
        threads: int,
        how: str,
    ) -> None:
        self.facts = dict(facts)
        self.network = network
        self.precision: Precision = precision
        self.threads = threads
        self.how = how

    @classmethod
    def load(
        cls, folder: Path | str, *, precision: Precision = "fp32", threads: int | None = None
    ) -> Engine:
        """Load a model folder.

        Parameters
        ----------
        folder
            As `models.save` writes it.
        precision
            "bf16" multiplies in bfloat16 where the CPU has the arithmetic and the model kernels for
            it; the attribute `precision` tells what came of it.
        threads
            CPU threads; None for OMP_NUM_THREADS, SLURM_CPUS_PER_TASK or all that the process may
            use.

        Raises
        ------
        MissingInputError
            If the folder or a file is not there.
        DataError
            If the files are damaged or do not fit each other.
        UsageError
            For another precision or fewer than one thread.
        """
        if precision not in ("fp32", "bf16"):
            raise UsageError(f"precision {precision!r}; there are: fp32, bf16")
        folder = Path(folder)
        facts = trained.read_config(folder)
        count = native.wanted_threads(threads) or native.usable_cpus()
        name = str(facts["model"])
        if not native.available() or name not in registry.names("engine"):
            from sleeptools.engine import _torch

            network = _torch.Network(folder)
            return cls(facts, network, precision="fp32", threads=count, how="torch")
        used: Precision = "bf16" if precision == "bf16" and native.has_bf16() else "fp32"
        weights = Weights(trained.read_weights(folder), folder / "model.safetensors")
        native_network = registry.load("engine", name).Network(facts["config"], weights, used)
        weights.finish()
        return cls(facts, native_network, precision=used, threads=count, how="native")

    @property
    def stages(self) -> tuple[str, ...]:
        """Names of the hypnodensity's columns."""
        return tuple(self.facts["stages"])

    @property
    def size(self) -> tuple[int, int]:
        """Channels and samples of an epoch."""
        samples = round(self.facts["sample_rate"] * self.facts["epoch_seconds"])
        return len(self.facts["montage"]), samples

    def hypnodensity(self, x: ArrayLike) -> Floats:
        """Score epochs.

        Parameters
        ----------
        x
            (epochs, channels, samples) float32 in the montage's order and unit; may be a memory
            map, of which a piece at a time is read.

        Returns
        -------
        ndarray
            (epochs, stages) float32: the probability of each stage. An epoch with a value that is
            not finite has NaN in every stage, and no other epoch is touched by it.

        Raises
        ------
        ValueError
            For another shape or a type that is not real numbers.
        """
        epochs = x if isinstance(x, np.ndarray) else np.asarray(x)
        expected = (len(epochs) if epochs.ndim else 0, *self.size)
        if epochs.shape != expected:
            channels, samples = self.size
            raise ValueError(
                f"x has shape {epochs.shape}; expected (epochs, {channels}, {samples})"
            )
        if epochs.dtype.kind not in "fiu":
            raise ValueError(f"x holds {epochs.dtype}; expected float32")
        out = np.empty((len(epochs), len(self.stages)), np.float32)
        with native.using_threads(self.threads):
            for start in range(0, len(epochs), CHUNK):
                part = np.ascontiguousarray(epochs[start : start + CHUNK], np.float32)
                out[start : start + CHUNK] = self._score(part)
        return out

    def _score(self, x: Floats) -> Floats:
        with np.errstate(invalid="ignore", over="ignore"):
            # the sum of an epoch is finite only if all of it is; a maximum could hide a value
            whole = np.isfinite(x.sum((1, 2)))
            density = softmax(self.network(x))
        density[~(whole & np.isfinite(density).all(1))] = np.nan
        return density


def softmax(logits: Floats) -> Floats:
    """Turn logits (epochs, stages) into probabilities."""
    e = np.exp(logits - logits.max(1, keepdims=True, initial=-np.inf))
    density: Floats = e / e.sum(1, keepdims=True)
    return density
