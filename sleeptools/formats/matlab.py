"""MATLAB files (.mat, version 5 and 7.3) of mice with the layout of Kjaerby et al. 2022.

doi:10.1038/s41593-022-01102-9. `eeg` and `emg` are vectors in volts at `eeg_frequency` Hz, which
is 511.95964 and not 512; `sleep_scores` has one number per second. Version 7.3 is HDF5 and needs
h5py. Only vectors of plain numbers are read, no objects, functions or links.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from sleeptools import store
from sleeptools.errors import DataError, NoStagesError, SleeptoolsError, UnavailableError
from sleeptools.formats.parsing import matlab5
from sleeptools.recording import label_schemes, montage, simulators, stages
from sleeptools.recording.hypnogram import Hypnogram
from sleeptools.recording.recording import Recording, Samples, Signal
from sleeptools.store.libraries import install_line

SIGNALS: Final[Mapping[str, str]] = {"EEG": "eeg", "EMG": "emg"}
RATE, SCORES = "eeg_frequency", "sleep_scores"
MOST_VERSIONS: Final = 1000  # of the simulator; a version beyond is damage
SIMULATED: Final = "simulated"  # a variable that only simulated files have: the simulator's version
RANDOMISED: Final = "randomised"  # and one of those with randomised signals: 1
LOWEST_RATE, HIGHEST_RATE = 0.01, 1e5  # Hz
EPOCH_SECONDS: Final = 1.0
HEAD: Final = b"MATLAB 5.0 MAT-file, written by sleeptools"
HEAD_BYTES: Final = 116  # of text; scipy's has the time, and equal content must give equal files
HDF5: Final = b"\x89HDF\r\n\x1a\n"
USER_BLOCK: Final = 512  # bytes of text before the HDF5 data of a MATLAB file
CLASSES: Final = (
    "double",
    "single",
    "int8",
    "uint8",
    "int16",
    "uint16",
    "int32",
    "uint32",
    "int64",
    "uint64",
    "logical",
    "float64",
    "float32",
)


def accepts(path: Path, head: bytes) -> bool:
    """Recognise a MATLAB file by its first bytes."""
    del path
    return head.startswith(b"MATLAB 5.0 MAT-file") or _is_hdf5(head)


def _head(path: Path) -> bytes:
    with store.need(path).open("rb") as file:
        return file.read(USER_BLOCK + len(HDF5))


def _is_hdf5(head: bytes) -> bool:
    return HDF5 in (head[: len(HDF5)], head[USER_BLOCK : USER_BLOCK + len(HDF5)])


def read(path: Path) -> Recording:
    """Read a recording; samples stay on the disk until they are used.

    Raises
    ------
    DataError
        If the file is damaged, or a variable is missing or is not a vector of numbers.
    UnavailableError
        If the file is of version 7.3 and h5py is not installed.
    """
    variables = _variables(path)
    rate = _vector(path, RATE, variables)
    if len(rate) != 1 or not LOWEST_RATE <= rate[0] <= HIGHEST_RATE:
        raise DataError(
            f"{path.name}: {RATE} is {rate[0]:g}, of {len(rate)}; expected one, in Hz",
            code="MAT-RATE",
        )
    signals = {
        label: Signal(
            label,
            float(rate[0]),
            "uV",
            montage.modality(label),
            _size(path, name, variables),
            partial(_volts, path, name, variables),
            gain=1e6,
        )
        for label, name in SIGNALS.items()
    }
    facts: dict[str, str | int | float | bool] = {stages.SPECIES: stages.MOUSE}
    if SIMULATED in variables:
        facts |= simulators.made_by(_simulator(path, variables), randomised=RANDOMISED in variables)
    if note := _unequal_note(signals.values()):
        facts["notes"] = note
    return Recording(path.stem, path.stem, 1, signals, facts=facts)


def _unequal_note(signals: Iterable[Signal]) -> str:
    """Say which signal ends before the other, whose rest then belongs to no epoch; or ""."""
    shortest, longest = sorted(signals, key=lambda s: s.size)
    lacking = longest.seconds - shortest.seconds
    if not lacking:
        return ""
    return f"{shortest.label} ends {lacking:.6g} s before {longest.label}, which is cut there"


def _simulator(path: Path, variables: Variables) -> int:
    """Read the version of the simulator."""
    version = _vector(path, SIMULATED, variables)
    if len(version) != 1 or not 1 <= version[0] < MOST_VERSIONS or version[0] % 1:
        raise DataError(
            f"{path.name}: variable {SIMULATED!r} is {version}; expected one version, 1 or more",
            code="MAT-VECTOR",
        )
    return int(version[0])


def _volts(path: Path, name: str, variables: Variables) -> Samples:
    return _vector(path, name, variables).astype(np.float32)


def read_hypnogram(
    path: Path, *, scheme: str | None = None, epoch_seconds: float | None = None
) -> Hypnogram:
    """Read the scores; NaN is read as -1.

    Parameters
    ----------
    scheme
        "kjaerby" if left out.
    epoch_seconds
        Length of an epoch; 1 s if left out.

    Raises
    ------
    NoStagesError
        If the file has no scores.
    DataError
        If the file is damaged, or a score is unknown.
    """
    variables = _variables(path)
    if SCORES not in variables:
        raise NoStagesError(
            f"{path.name}: no variable {SCORES!r}",
            hint=_variables_hint(variables),
            code="MAT-VARIABLE",
        )
    scores = np.nan_to_num(_vector(path, SCORES, variables).astype(np.float64), nan=-1.0)
    values, index = np.unique(scores, return_inverse=True)
    labels = [f"{v:g}" for v in values]
    meaning, names = label_schemes.translate_labels(
        labels, by=label_schemes.of_form("kjaerby", scheme, labels, path.name), source=path.name
    )
    resolved = np.array([stages.stage_number(meaning[f"{v:g}"], names) for v in values], np.int8)
    return Hypnogram(
        resolved[index, 0],
        names,
        epoch_seconds or EPOCH_SECONDS,
        0.0,
        resolved[index, 1],
        timing="length",
    )


def write(path: Path, recording: Recording, scores: npt.NDArray[np.float64]) -> None:
    """Write a recording's EEG and EMG, which share one sample rate, as a version 5 file.

    Parameters
    ----------
    scores
        (seconds,) one score per second, as scheme "kjaerby" has them.
    """
    from scipy.io import savemat

    rate = recording.signal("EEG").sample_rate
    content: dict[str, object] = {
        name: recording.signal(label).samples()[None] * np.float32(1e-6)
        for label, name in SIGNALS.items()
    }
    content |= {RATE: np.array([[rate]]), SCORES: scores[None]}
    version = simulators.simulator_of(recording.facts)
    if version is not None:
        content[SIMULATED] = np.array([[float(version)]])
    if simulators.is_randomised(recording.facts):
        content[RANDOMISED] = np.ones((1, 1))
    with store.atomic_write(path) as file:
        savemat(file, content)
        file.seek(0)
        file.write(HEAD.ljust(HEAD_BYTES))


# --- variables of either version ------------------------------------------------------------------


Variables = Mapping[str, tuple[tuple[int, ...], str]]
"""Shape and MATLAB class of each variable, by name."""


def _variables(path: Path) -> Variables:
    """List a file's variables without reading them."""
    if _is_hdf5(_head(path)):
        with _open_hdf5(path) as h5:
            return {name: _shape_and_class(h5, name) for name in h5}
    with _naming_damage(path):
        found = matlab5.list_variables(path)
        return {name: (variable.shape, variable.kind) for name, variable in found.items()}


def _vector(path: Path, name: str, variables: Variables) -> npt.NDArray[Any]:
    """Read a variable: (n,)."""
    size = _size(path, name, variables)
    if _is_hdf5(_head(path)):
        with _open_hdf5(path) as h5:
            _check_stored(path, name, h5[name])
            return np.asarray(h5[name][()]).reshape(size)
    with _naming_damage(path):
        return matlab5.read_numbers(path, matlab5.list_variables(path)[name])


def _check_stored(path: Path, name: str, stored: Any) -> None:
    """Refuse what a small file can claim: a vector, or chunks of it, that it cannot hold."""
    if stored.dtype.kind not in "fiub":
        raise DataError(
            f"{path.name}: variable {name!r} holds {stored.dtype}; expected numbers",
            code="MAT-VECTOR",
        )
    width = stored.dtype.itemsize + 4  # and float32 of them
    store.check_budget(path, math.prod(stored.shape) * width, f"variable {name!r}")
    store.check_budget(path, math.prod(stored.chunks or ()) * width, f"a chunk of {name!r}")


def _size(path: Path, name: str, variables: Variables) -> int:
    """Check that a variable is a vector of numbers, and count them."""
    if name not in variables:
        raise DataError(
            f"{path.name}: no variable {name!r}",
            hint=_variables_hint(variables),
            code="MAT-VARIABLE",
        )
    shape, kind = variables[name]
    size = math.prod(shape)
    if kind not in CLASSES or size == 0 or size != max(shape):
        raise DataError(
            f"{path.name}: variable {name!r} is {' x '.join(map(str, shape))} of class {kind}; "
            "expected a vector of numbers",
            code="MAT-VECTOR",
        )
    return size


def _variables_hint(variables: Variables) -> str:
    return f"there are: {', '.join(variables) or 'none'}"


@contextmanager
def _naming_damage(path: Path) -> Iterator[None]:
    """Turn the errors that reading and h5py raise for a damaged file into a DataError."""
    try:
        yield
    except (SleeptoolsError, MemoryError, ImportError):
        raise
    except Exception as e:
        message = str(e).split("\n", 1)[0]
        raise DataError(f"{path.name}: damaged MATLAB file: {message}", code="MAT-READ") from e


@contextmanager
def _open_hdf5(path: Path) -> Iterator[Any]:
    """Open a file of version 7.3."""
    try:
        import h5py
    except ImportError as e:
        raise UnavailableError(
            f"{path.name}: a MATLAB 7.3 file, for which the library h5py is needed",
            hint=f"{install_line('h5py>=3.10')}, or in MATLAB: save(..., '-v7')",
            code="MAT-HDF5",
        ) from e
    with _naming_damage(path), h5py.File(path, "r") as h5:
        yield h5


def _shape_and_class(h5: Any, name: str) -> tuple[tuple[int, ...], str]:
    """Shape and class of a variable; links to other files are not followed."""
    import h5py

    entry = h5[name] if isinstance(h5.get(name, getlink=True), h5py.HardLink) else None
    if not isinstance(entry, h5py.Dataset) or entry.external or entry.is_virtual:
        return (), "group" if isinstance(entry, h5py.Group) else "link"
    shape = (0,) if "MATLAB_empty" in entry.attrs else (entry.shape or ())[::-1]
    kind = entry.attrs.get("MATLAB_class", entry.dtype.name.encode())
    return shape, kind.decode("latin-1") if isinstance(kind, bytes) else str(kind)[:20]
