"""Epochs on disk: one memory-mapped file per recording, and a folder of them as one set.

A model's input is (epochs, channels, samples) float32; the files are mapped, so that a set of any
size costs no memory and is shared by all processes that read it. Format: docs/folders.md.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from sleeptools import store
from sleeptools.errors import DataError
from sleeptools.preprocessing import sequences
from sleeptools.preprocessing.sequences import Windows
from sleeptools.recording.hypnogram import Stages
from sleeptools.recording.montage import modality
from sleeptools.recording.simulators import is_fast, is_randomised, simulators_of

EPOCHS_KIND = "sleeptools-epochs"
FILE_KIND = "sleeptools-epochs-file"
EPOCHS_VERSION = 1
OTHER_STAGES = "stages_"
"""Name of an array before the number of a scorer other than the preset's."""


@dataclass(frozen=True)
class EpochFile:
    """The kept epochs of one recording.

    Parameters
    ----------
    recording, subject, night
        As in `Recording`.
    tensors
        The file.
    stages
        (epochs,) int8, index into the set's stage names; every kept epoch is scored.
    onset
        (epochs,) float64, s from the start of the recording.
    hypnogram
        (all epochs of the recording,) int8, untrimmed, -1 where unscored; its first epoch starts
        at `facts["hypnogram_onset"]`.
    facts
        `excluded` (number of epochs by reason), `simulated`, and further facts of the recording.
    other_stages
        By scorer's number: (epochs,) int8, how the scorers other than the preset's scored the same
        epochs, -1 where they did not.
    """

    recording: str
    subject: str
    night: int
    tensors: store.Tensors = field(repr=False)
    stages: Stages = field(repr=False)
    onset: npt.NDArray[np.float64] = field(repr=False)
    hypnogram: Stages = field(repr=False)
    facts: dict[str, Any] = field(repr=False)
    other_stages: Mapping[int, Stages] = field(default_factory=dict, repr=False)

    def __len__(self) -> int:
        return len(self.stages)

    @cached_property
    def signals(self) -> npt.NDArray[np.float32]:
        """(epochs, channels, samples) float32, mapped when it is first used."""
        return self.tensors.arrays.take_last("signals")

    @property
    def epoch_shape(self) -> tuple[int, ...]:
        """Channels and samples of an epoch."""
        return self.tensors.layout("signals").shape[1:]


@dataclass(frozen=True)
class EpochSet:
    """All epoch files of a folder, in the order of their recordings.

    The epochs of the set are numbered from 0, file after file.

    Parameters
    ----------
    folder
        The folder that `preprocess` wrote.
    montage
        Labels of the channels.
    sample_rate
        Sample rate of all channels, Hz.
    epoch_seconds
        Length of an epoch, s.
    names
        Stage names.
    files
        One per recording.
    manifest
        The folder's manifest: preset, counts, exclusions, `simulated`.
    """

    folder: Path
    montage: tuple[str, ...]
    sample_rate: float
    epoch_seconds: float
    names: tuple[str, ...]
    files: tuple[EpochFile, ...] = field(repr=False)
    manifest: dict[str, Any] = field(repr=False)

    def __len__(self) -> int:
        return int(self._bounds[-1])

    @cached_property
    def _bounds(self) -> npt.NDArray[np.int64]:
        return np.cumsum([0, *map(len, self.files)])

    @cached_property
    def subjects(self) -> tuple[str, ...]:
        """Every subject once, sorted."""
        return tuple(sorted({f.subject for f in self.files}))

    @cached_property
    def stages(self) -> Stages:
        """(epochs,) int8 of the whole set."""
        return np.concatenate([f.stages for f in self.files])

    @property
    def modalities(self) -> tuple[str, ...]:
        """Modality of each channel of the montage."""
        return tuple(map(modality, self.montage))

    @property
    def simulated(self) -> bool:
        """Whether any of the recordings is simulated."""
        return any(f.facts.get("simulated") for f in self.files)

    @property
    def simulators(self) -> list[int]:
        """Versions of the simulators that made recordings."""
        return simulators_of(f.facts for f in self.files)

    @property
    def randomised(self) -> bool:
        """Whether any of the recordings was simulated with randomised signals."""
        return any(is_randomised(f.facts) for f in self.files)

    @property
    def fast(self) -> bool:
        """Whether any of the recordings was simulated from few epochs, which it repeats."""
        return any(is_fast(f.facts) for f in self.files)

    def numbers_of(self, subjects: set[str]) -> npt.NDArray[np.int64]:
        """Return the numbers of all epochs of these subjects."""
        numbers = [
            np.arange(self._bounds[i], self._bounds[i + 1])
            for i, f in enumerate(self.files)
            if f.subject in subjects
        ]
        return np.concatenate(numbers) if numbers else np.empty(0, np.int64)

    def gather(
        self, numbers: npt.NDArray[np.int64], out: npt.NDArray[np.float32] | None = None
    ) -> npt.NDArray[np.float32]:
        """Copy epochs out of the mapped files, in the order of `numbers`.

        Parameters
        ----------
        numbers
            Numbers of the epochs, of any shape.
        out
            Where to; None for a new array.

        Returns
        -------
        signals
            (*numbers.shape, channels, samples) float32.
        """
        shape = (*numbers.shape, *self.files[0].epoch_shape)
        out = np.empty(shape, np.float32) if out is None else out
        owner = self._owner(numbers)
        for i in np.unique(owner):
            in_file = owner == i
            out[in_file] = self.files[i].signals[numbers[in_file] - self._bounds[i]]
        return out

    def _owner(self, numbers: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        """Return the index in `files` of the recording of each epoch."""
        return np.searchsorted(self._bounds, numbers, "right") - 1

    def windows(
        self, numbers: npt.NDArray[np.int64], *, sequence: int = 1, context: int = 0
    ) -> Windows:
        """Arrange epochs for a model; see `sequences.arrange_windows`.

        Parameters
        ----------
        numbers
            Numbers of the epochs, ascending.
        sequence
            Number of epochs that the model takes and scores at once.
        context
            Number of epochs on either side that the model takes to score one.
        """
        owner = self._owner(numbers)
        onsets = np.concatenate([f.onset for f in self.files])[numbers]
        segments = sequences.split_segments(numbers, owner, onsets, self.epoch_seconds)
        return sequences.arrange_windows(segments, sequence=sequence, context=context)

    def locate(
        self, numbers: npt.NDArray[np.int64]
    ) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
        """Return each epoch's index in `files`, and its index within that file."""
        owner = self._owner(numbers)
        return owner, numbers - self._bounds[owner]

    def find_epoch(self, number: int) -> tuple[EpochFile, int]:
        """Return the file that holds an epoch, and the epoch's index within it."""
        i = int(np.searchsorted(self._bounds, number, "right")) - 1
        return self.files[i], int(number - self._bounds[i])


def write_epoch_file(
    path: Path,
    *,
    signals: store.Scratch | npt.NDArray[np.float32],
    stages: Stages,
    onset: npt.NDArray[np.float64],
    hypnogram: Stages,
    facts: dict[str, Any],
    other_stages: Mapping[int, Stages] | None = None,
) -> None:
    """Write one recording's epochs; arguments as the fields of `EpochFile`."""
    assert len(signals) == len(stages) == len(onset)
    assert (stages >= 0).all()
    arrays: dict[str, store.Array] = {"stages": stages, "onset": onset, "hypnogram": hypnogram}
    arrays |= {f"{OTHER_STAGES}{number}": array for number, array in (other_stages or {}).items()}
    layout = {"signals": (signals.dtype, signals.shape)}
    layout |= {name: (array.dtype, array.shape) for name, array in arrays.items()}

    def fill(name: str) -> Iterable[store.Array]:
        if name != "signals":
            return [arrays[name]]
        return signals.pieces() if isinstance(signals, store.Scratch) else [signals]

    store.write_tensors(
        path, layout, fill, {"format": FILE_KIND, "version": EPOCHS_VERSION, **facts}
    )


def read_epoch_file(path: Path) -> EpochFile:
    """Map one recording's epochs.

    Raises
    ------
    DataError
        If the file is damaged, of another kind or of a newer version.
    """
    tensors = store.read_tensors(path, FILE_KIND, EPOCHS_VERSION)
    facts = dict(tensors.facts)
    store.check_facts(facts, path, {"recording": "text", "subject": "text", "night": "whole"})
    with store.building(path):
        other_stages = {
            int(name.removeprefix(OTHER_STAGES)): np.asarray(tensors[name])
            for name in tensors.arrays
            if name.startswith(OTHER_STAGES)
        }
    _check_arrays(tensors)
    return EpochFile(
        str(facts["recording"]),
        str(facts["subject"]),
        int(facts["night"]),
        tensors,
        np.asarray(tensors["stages"]),
        np.asarray(tensors["onset"]),
        np.asarray(tensors["hypnogram"]),
        facts,
        other_stages,
    )


def _check_arrays(tensors: store.Tensors) -> None:
    """Check the axes and types of an epoch file's arrays."""
    axes = {"signals": 3, "stages": 1, "onset": 1, "hypnogram": 1}
    arrays = {name: tensors.layout(name) for name in axes}
    wrong = [name for name, count in axes.items() if len(arrays[name].shape) != count]
    count = arrays["signals"].shape[:1]
    wrong += [name for name in ("stages", "onset") if arrays[name].shape != count]
    wrong += [name for name in ("stages", "hypnogram") if arrays[name].dtype != np.int8]
    wrong += [name for name in ("signals", "onset") if arrays[name].dtype.kind != "f"]
    if wrong:
        raise DataError(
            f"{tensors.path}: array {wrong[0]!r} is {arrays[wrong[0]].dtype} "
            f"{arrays[wrong[0]].shape}; that is none of these epochs",
            code="ARR-SHAPE",
        )


EPOCHS_FACTS = {
    "recordings": "texts",
    "montage": "texts",
    "sample_rate": "positive",
    "epoch_seconds": "positive",
    "stages": "texts",
}


def open_epochs(folder: Path) -> EpochSet:
    """Open a folder that `preprocess` wrote.

    Raises
    ------
    MissingInputError
        If there is no such folder.
    DataError
        If the folder holds no epochs of ours, or files of different shapes.
    """
    manifest = store.read_manifest(folder, EPOCHS_KIND, EPOCHS_VERSION)
    store.check_facts(manifest, folder / "manifest.json", EPOCHS_FACTS)
    files = tuple(
        read_epoch_file(folder / f"{name}.safetensors") for name in manifest["recordings"]
    )
    if not files:
        raise DataError(f"{folder}: holds no recordings", code="SET-EMPTY")
    shapes = {f.epoch_shape for f in files}
    if len(shapes) > 1:
        raise DataError(f"{folder}: epochs of different shapes {sorted(shapes)}", code="ARR-SHAPE")
    return EpochSet(
        folder,
        tuple(manifest["montage"]),
        float(manifest["sample_rate"]),
        float(manifest["epoch_seconds"]),
        tuple(manifest["stages"]),
        files,
        manifest,
    )


def check_epochs(folder: Path) -> None:
    """Compare a folder's files with the hashes in its manifest.

    Raises
    ------
    DataError
        If a file is missing or has changed since `preprocess` wrote it.
    """
    problems = store.verify(folder)
    if problems:
        raise DataError(
            f"{folder}: damaged since it was written: {'; '.join(problems)}",
            hint="'sleeptools preprocess' with the same settings makes again what is damaged",
            code="MAN-HASH",
        )
