"""Whole-model inference on NumPy arrays: a model folder in, the hypnodensity of epochs out.

A model with a file in `networks` runs in the native core, and torch is never imported. Every other
model, and every model where the core is off, runs through torch behind the same interface;
`spectral`, which looks at a night as a whole, in NumPy.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from sleeptools import store
from sleeptools.errors import DataError, UsageError
from sleeptools.evaluation.calibration import scale_density
from sleeptools.inference import spectral
from sleeptools.inference.loading import Network, load_network
from sleeptools.inference.missing import filled, reduced_facts
from sleeptools.native import PRECISIONS, Floats, Precision
from sleeptools.native.check import check_shape
from sleeptools.native.threads import requested_threads, set_threads_here, usable_cpus
from sleeptools.preprocessing import sequences
from sleeptools.preprocessing.sequences import NONE, InputSpan, Windows
from sleeptools.runs.temperature import RAW, ModelCalibration

CHUNK = 64  # epochs at a time: their features stay in the L2 and L3 caches


class Engine:
    """A trained model that scores epochs.

    Parameters
    ----------
    facts
        Contents of the model folder's config.json.
    network
        From epochs (B, channels, samples) to their hypnodensity (B, stages), NaN where an epoch or
        what is computed from it is not finite; epochs of a model that looks at several are
        (B, epochs, channels, samples), and the result of a sequence model (B, epochs, stages). Any
        number of threads may call it. Of `spectral.Network` the whole night is asked at once.
    precision
        Precision of the products, in use.
    threads
        CPU threads.
    backend
        "native", "numpy", "torch" or "onnx".
    span
        Epochs that the network takes at once; one with kernels takes single epochs.
    calibration
        Whose temperature is applied, if any.
    files
        What it was loaded from; the scores depend on their content.

    Attributes
    ----------
    stages
        Names of the hypnodensity's columns.
    size
        Channels and samples of an epoch.
    temperature
        The logits are divided by it; 1 leaves the probabilities as the network gives them.
    """

    def __init__(
        self,
        facts: Mapping[str, Any],
        network: Network,
        *,
        precision: Precision,
        threads: int,
        backend: str,
        span: InputSpan,
        calibration: ModelCalibration = RAW,
        files: Sequence[Path] = (),
    ) -> None:
        self.facts = dict(facts)
        self.network = network
        self.precision: Precision = precision
        self.threads = threads
        self.backend = backend
        self.span = span
        self.calibration = calibration
        self.temperature = calibration.temperature or 1.0
        self.files = tuple(files)
        self.stages: tuple[str, ...] = tuple(facts["stages"])
        samples = round(facts["sample_rate"] * facts["epoch_seconds"])
        self.size = len(facts["montage"]), samples

    @classmethod
    def load(
        cls,
        folder: Path | str,
        *,
        precision: Precision = "fp32",
        threads: int | None = None,
        calibrated: bool = True,
        without: Sequence[str] = (),
    ) -> Engine:
        """Load a model folder, or a network in an ONNX file.

        Parameters
        ----------
        folder
            As `models.save_model` writes it, or a file NAME.onnx with its card.
        precision
            "bf16" multiplies in bfloat16 where the CPU has the arithmetic and the model kernels for
            it; the attribute `precision` tells what came of it.
        threads
            CPU threads; None for OMP_NUM_THREADS, SLURM_CPUS_PER_TASK or all that the process may
            use.
        calibrated
            Divide the logits by the temperature that the folder keeps, if it does: the stages are
            the same, their probabilities closer to how often they are right. `calibration` says
            what is applied.
        without
            Modalities whose channels are not there, for example "emg", of a model that was trained
            with modality dropout: `facts` and `size` are without them.

        Raises
        ------
        MissingInputError
            If the folder or a file is not there.
        DataError
            If the files are damaged or do not fit each other, or the model was not trained to do
            without a modality.
        UnavailableError
            If ONNX Runtime is needed and not installed.
        UsageError
            For another precision, fewer than one thread, or a modality that the model has not.
        """
        if precision not in PRECISIONS:
            raise UsageError(
                f"precision {precision!r}; there are: fp32, bf16",
                hint="models score on the CPU, which has no TF32"
                if str(precision) == "tf32"
                else "",
                code="USE-NAME",
            )
        folder = Path(folder)
        count = requested_threads(threads) or usable_cpus()
        loaded = load_network(folder, precision, count)
        facts, network = loaded.facts, loaded.network
        calibration = ModelCalibration.of_model(facts, loaded.files[0])
        if without:
            facts = reduced_facts(facts, without, folder)
            network = filled(network, loaded.facts["montage"], facts["without"])
            calibration = calibration.elsewhere("of the whole montage")
        return cls(
            facts,
            network,
            precision=loaded.precision,
            threads=count,
            backend=loaded.backend,
            span=loaded.span,
            calibration=calibration if calibrated else RAW,
            files=loaded.files,
        )

    def hypnodensity(self, x: ArrayLike | store.Scratch, onsets: ArrayLike | None = None) -> Floats:
        """Score the epochs of a recording.

        Parameters
        ----------
        x
            (epochs, channels, samples) float32 in the montage's order and unit; of a memory map or
            a scratch file a piece at a time is read.
        onsets
            (epochs,) s from the start of the recording, ascending. They matter to a model that
            looks at several epochs: it never looks past a gap. None for epochs without one.

        Returns
        -------
        ndarray
            (epochs, stages) float32: the probability of each stage, by `temperature`. An epoch with
            a value that is not finite has NaN in every stage, and no other epoch is touched by it,
            but for those that a model looks at together with it.

        Raises
        ------
        ValueError
            For another shape or a type that is not real numbers.
        """
        epochs = x if isinstance(x, np.ndarray | store.Scratch) else np.asarray(x)
        if not epochs.shape or epochs.shape[1:] != self.size:
            channels, samples = self.size
            raise ValueError(
                f"x has shape {epochs.shape}; expected (epochs, {channels}, {samples})"
            )
        if epochs.dtype.kind not in "fiu":
            raise ValueError(f"x holds {epochs.dtype}; expected float32")
        before = set_threads_here(self.threads)
        try:
            density = self._score(epochs, onsets)
        finally:
            set_threads_here(before)
        return density if self.temperature == 1 else scale_density(density, self.temperature)

    def check_input(self, source: str) -> None:
        """Score an epoch of zeros, so that a model that cannot take its own epochs is told at once.

        Raises
        ------
        DataError
            If the weights are those of epochs with other channels or another number of samples.
        """
        if self.backend == "yasa":  # takes signals of any length, in a process of its own
            return
        channels, samples = self.size
        try:
            self.hypnodensity(np.zeros((1, channels, samples), np.float32))
        except (ValueError, RuntimeError) as e:
            raise DataError(
                f"{source}: the network does not take its preset's epochs, {channels} channels of "
                f"{samples} samples: {str(e).splitlines()[0]}",
                code="MODEL-FIT",
            ) from e

    def _score(self, epochs: NDArray[Any] | store.Scratch, onsets: ArrayLike | None) -> Floats:
        if isinstance(self.network, spectral.Network):
            return self._score_night(self.network, epochs, onsets)
        if self.span.several:
            return self._score_windows(self.network, epochs, self._windows(len(epochs), onsets))
        if 0 < len(epochs) <= CHUNK:
            return self.network(np.ascontiguousarray(epochs[:], np.float32))
        out = np.empty((len(epochs), len(self.stages)), np.float32)
        for start in range(0, len(epochs), CHUNK):
            chunk = np.ascontiguousarray(epochs[start : start + CHUNK], np.float32)
            out[start : start + CHUNK] = self.network(chunk)
        return out

    def _score_night(
        self,
        network: spectral.Network,
        epochs: NDArray[Any] | store.Scratch,
        onsets: ArrayLike | None,
    ) -> Floats:
        levels = [
            network.levels(np.ascontiguousarray(epochs[start : start + CHUNK], np.float32))
            for start in range(0, len(epochs), CHUNK)
        ]
        numbers = np.rint(self._start_times(len(epochs), onsets) / self.facts["epoch_seconds"])
        return network.score_night(np.concatenate(levels), numbers.astype(np.int64))

    def _score_windows(
        self, network: Network, epochs: NDArray[Any] | store.Scratch, windows: Windows
    ) -> Floats:
        out = np.empty((len(epochs), len(self.stages)), np.float32)
        chunk_size = max(1, CHUNK * len(windows) // max(1, windows.inputs.size))
        for start in range(0, len(windows), chunk_size):
            chunk = windows.pick(slice(start, start + chunk_size))
            density = network(np.ascontiguousarray(epochs[chunk.inputs], np.float32))
            scored = chunk.targets != NONE
            out[chunk.targets[scored]] = density[scored]
        return out

    def _start_times(self, count: int, onsets: ArrayLike | None) -> NDArray[np.float64]:
        seconds = self.facts["epoch_seconds"]
        times = np.arange(count) * seconds if onsets is None else np.asarray(onsets, np.float64)
        check_shape("hypnodensity", "onsets", times.shape, (count,))
        return times

    def _windows(self, count: int, onsets: ArrayLike | None) -> Windows:
        seconds = self.facts["epoch_seconds"]
        segments = sequences.split_segments(
            np.arange(count), np.zeros(count, np.int64), self._start_times(count, onsets), seconds
        )
        return sequences.arrange_windows(
            segments, sequence=self.span.sequence, context=self.span.context
        )
