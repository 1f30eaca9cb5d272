"""Following a recording: the epochs of an EDF or BDF file that a recorder is writing, as they come.

Each epoch is scored when its last data record is complete, exactly as the whole file will be: so
nothing may look ahead, neither the preset (a filter or a scale over the recording, resampling) nor
the model (neighbouring epochs).
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np

from sleeptools import store
from sleeptools.commands.score.montage import choose_montage
from sleeptools.commands.score.options import ScoreOptions
from sleeptools.datasets.shared.edf_settings import FileSettings, settings_of
from sleeptools.errors import DataError, UsageError
from sleeptools.formats import edf
from sleeptools.formats.parsing.edf_header import (
    HEADER_BYTES,
    VERSION_BYTES,
    Header,
    blank_field,
    read_header,
    starts_like_edf,
)
from sleeptools.inference import spectral
from sleeptools.inference.engine import Engine
from sleeptools.inference.recordings import hypnodensity
from sleeptools.native import Floats
from sleeptools.preprocessing.presets import Preset
from sleeptools.preprocessing.steps import Clip, Filter, ProcessingStep
from sleeptools.recording import montage
from sleeptools.recording.recording import Recording

POLL_SECONDS: Final = 0.01
FORGOTTEN: Final = 1e-9
SLACK: Final = 1e-6  # s


@dataclass(frozen=True)
class FollowedEpoch:
    """One epoch of a growing recording.

    Parameters
    ----------
    number
        From 0.
    onset
        s from the start of the recording.
    density
        (stages,) probabilities; NaN where the epoch has no signal.
    stages
        Stage names.
    """

    number: int
    onset: float
    density: Floats
    stages: tuple[str, ...]

    @property
    def stage(self) -> str | None:
        """The likeliest stage; None where the epoch has no signal."""
        return self.stages[int(self.density.argmax())] if np.isfinite(self.density).all() else None


OnEpoch = Callable[[FollowedEpoch], None]


def follow(
    engine: Engine,
    preset: Preset,
    path: Path,
    folder: Path,
    options: ScoreOptions,
    on_epoch: OnEpoch,
    *,
    idle: float | None = None,
    log: Callable[[str], None] = lambda _: None,
) -> None:
    """Score the epochs of a file while it grows, until its header's records are there.

    A header that is cut short, or blank where it needs something, is waited for.

    Parameters
    ----------
    folder
        Where the samples of an epoch lie meanwhile, in a file without a name.
    on_epoch
        Called with every epoch.
    idle
        Stop after so many seconds in which nothing was written; never if left out.
    log
        Called once with what the header lacks, if it is not complete.

    Raises
    ------
    UsageError
        If the model or the preset looks ahead.
    DataError
        If the file is damaged, became shorter, or was replaced by another, or its header was not
        complete after `idle`.
    Stopped
        At a stop signal.
    """
    if engine.span.several or isinstance(engine.network, spectral.Network):
        raise UsageError(
            f"{engine.facts['model']} looks at neighbouring epochs, which are not there yet",
            hint="a model without context can follow: ulw-sleepnet, mmasleepnet",
        )
    done = 0
    settings = settings_of(path)
    for header in _grown(path, idle, log):
        ready = math.floor(header.records * header.record_seconds / preset.epoch_seconds + SLACK)
        for number in range(done, ready):
            try:
                epoch = _score_epoch(engine, preset, header, number, folder, options, settings)
            except FileNotFoundError as e:
                raise _changed(path, "was removed") from e
            on_epoch(epoch)
        done = max(done, ready)


def _grown(path: Path, idle: float | None, log: Callable[[str], None]) -> Iterator[Header]:
    """Yield the header of a file each time that it has grown, and end with it."""
    blank = ""
    stat = store.need(path, "recording").stat()
    file_id, size, since = (stat.st_dev, stat.st_ino), 0, time.monotonic()
    changed = 0
    while True:
        try:
            stat = path.stat()
        except FileNotFoundError as e:
            raise _changed(path, "was removed") from e
        if (stat.st_dev, stat.st_ino) != file_id:
            raise _changed(path, "was replaced by another file")
        if stat.st_size < size:
            raise _changed(path, f"became shorter: {stat.st_size} bytes after {size}")
        if stat.st_size > size or stat.st_mtime_ns != changed:  # a header is changed in place
            if stat.st_size > size or blank:
                since = time.monotonic()
            size, changed = stat.st_size, stat.st_mtime_ns
            said, blank = blank, _blank_field(path)
            if blank and not said:
                log(f"waiting for the header of {path.name}: {blank} is blank")
            elif not blank and (header := _header(path)) is not None:
                yield header
                if 0 < header.declared <= header.records:
                    return
        if idle is not None and time.monotonic() - since >= idle:
            if blank:
                raise DataError(
                    f"{path}: its header was never complete: {blank} is blank", code="EDF-HEADER"
                )
            return
        time.sleep(POLL_SECONDS)


def _changed(path: Path, what: str) -> DataError:
    return DataError(
        f"{path}: {what} while it was followed",
        hint="follow the file that the recorder writes now",
        code="FILE-CHANGED",
    )


def _blank_field(path: Path) -> str:
    """Name the first field of a header that is still blank, or not there yet; "" if none is."""
    with path.open("rb") as file:
        head = file.read(HEADER_BYTES)
        begins = len(head) >= VERSION_BYTES and head[:VERSION_BYTES].strip(b" \0")
        if begins and not starts_like_edf(head):
            raise DataError(
                f"{path}: is neither EDF nor BDF",
                hint="only files of these formats are followed",
                code="FILE-FORMAT",
            )
        count = head[252:].strip(b" \0")
        head += file.read(HEADER_BYTES * int(count)) if count.isdigit() else b""
    return blank_field(head)


def _header(path: Path) -> Header | None:
    """Read the header; None while the first data record is not complete."""
    try:
        header = read_header(path, allow_truncated=True)
    except DataError as e:
        if e.code in ("EDF-EMPTY", "EDF-CUT"):  # no complete record yet
            return None
        raise
    if header.kind.endswith("+D"):
        raise UsageError(
            f"{path.name}: is interrupted ({header.kind}); only continuous recordings are followed"
        )
    return header


def _score_epoch(
    engine: Engine,
    preset: Preset,
    header: Header,
    number: int,
    folder: Path,
    options: ScoreOptions,
    settings: FileSettings,
) -> FollowedEpoch:
    """Score one epoch from the data records that hold it, and those that filters still remember."""
    onset, length = number * preset.epoch_seconds, header.record_seconds
    last = min(math.ceil((onset + preset.epoch_seconds) / length - SLACK), header.records)
    first = math.floor(onset / length + SLACK)
    piece, preset = _piece(preset, header, slice(first, last), options, settings)
    memory = math.ceil(_memory_seconds(preset, piece) / length)
    if memory and first:
        first = max(0, first - memory)
        piece, preset = _piece(preset, header, slice(first, last), options, settings)
    density, _ = hypnodensity(engine, preset, piece, folder, begin=onset - first * length)
    return FollowedEpoch(number, onset, density[0], engine.stages)


def _piece(
    preset: Preset,
    header: Header,
    records: slice,
    options: ScoreOptions,
    settings: FileSettings,
) -> tuple[Recording, Preset]:
    """Read some records, and choose the model's channels among their signals."""
    ignored = [*settings.ignore_channels, *options.ignore_channels]
    piece = settings.named(edf.read_records(header, records).without(ignored))
    channels = options.called(settings.names).channels
    chosen = choose_montage(
        piece, preset.montage, channels, by_order=options.match_channels_by_order
    )
    return piece, preset.model_copy(update={"montage": chosen.channels})


def _memory_seconds(preset: Preset, piece: Recording) -> float:
    """Return for how long the filters over the recording remember, s.

    Raises
    ------
    UsageError
        If the result for an epoch depends on what comes later.
    """
    longest = 0.0
    for signal in montage.pick(piece, preset.montage, preset.assume_unit):
        rate = signal.sample_rate
        steps = preset.steps(signal.label, signal.modality)
        over_recording = [step for step in steps if step.over == "recording"]
        ahead: list[str] = [s.do for s in over_recording if not _is_causal(s)]
        resampled = preset.rate_of(rate) != rate and all(s.do != "resample" for s in steps)
        if resampled and not ahead:
            ahead = [f"resampling from {rate:g} to {preset.sample_rate:g} Hz"]
        if ahead:
            raise UsageError(
                f"{signal.label}: {', '.join(ahead)} over the recording needs what is not recorded "
                "yet",
                hint="a model can follow whose preset filters causally or over each epoch only, at "
                "the recorder's own rate",
            )
        for step in over_recording:
            if isinstance(step, Filter):
                longest = max(longest, _ringing_seconds(step, rate))
    return longest


def _is_causal(step: ProcessingStep) -> bool:
    return isinstance(step, Clip) or (isinstance(step, Filter) and step.causal)


def _ringing_seconds(step: Filter, rate: float) -> float:
    """Return the time in which a filter forgets all but `FORGOTTEN` of what it had, s."""
    roots = [np.roots(section[3:]) for section in np.asarray(step.sections(rate))]
    slowest = float(np.abs(np.concatenate(roots)).max())
    return math.log(FORGOTTEN) / math.log(slowest) / rate if slowest > 0 else 0.0
