"""Recordings from and to MNE-Python, where it is installed (`pip install mne`)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import numpy as np

from sleeptools.errors import UsageError
from sleeptools.recording.recording import Recording, Samples, Signal
from sleeptools.recording.signals import resampling
from sleeptools.recording.stages import UNSCORED

if TYPE_CHECKING:
    from mne.io import BaseRaw

MICROVOLTS, MICRO = "uV", 1e6  # and how many a volt is
VOLTAGES: Final = ("eeg", "eog", "emg", "ecg")
"""Channel types that MNE keeps in volts, and modalities of ours of the same name."""
TEXTS: Final = {"REM": "Sleep stage R", "Wake": "Sleep stage W", "NREM": "Sleep stage N"}
GAP: Final = "BAD_ACQ_SKIP"
"""Annotation by which MNE knows a stretch that was not recorded."""


def from_mne(raw: BaseRaw, name: str = "recording") -> Recording:
    """Take a recording from MNE; its samples are read when they are used.

    Parameters
    ----------
    raw
        Voltages become microvolts; signals of other types keep their unit, which MNE does not name.
        Annotations are not taken: `read_hypnogram` reads a scoring from its file.
    name
        Id of the recording.

    Returns
    -------
    recording
        With the date of measurement as its start, without a hypnogram.
    """
    kinds = raw.get_channel_types()
    rate, size = float(raw.info["sfreq"]), len(raw.times)
    signals = {
        label: Signal(
            label,
            rate,
            MICROVOLTS if kind in VOLTAGES else "",
            kind if kind in VOLTAGES else "other",
            size,
            _reader(raw, label, MICRO if kind in VOLTAGES else 1.0),
        )
        for label, kind in zip(raw.ch_names, kinds, strict=True)
    }
    began = raw.info["meas_date"]
    return Recording(name, name, 1, signals, start=began and began.replace(tzinfo=None))


def _reader(raw: BaseRaw, label: str, factor: float) -> Any:
    def read() -> Samples:
        values: Samples = (factor * raw.get_data(picks=[label])[0]).astype(np.float32)
        return values

    return read


def to_mne(recording: Recording, sample_rate: float | None = None) -> BaseRaw:
    """Give a recording to MNE, with its hypnogram and its gaps as annotations.

    Parameters
    ----------
    sample_rate
        Rate of all signals, Hz, to which others are resampled; needed where rates differ.

    Raises
    ------
    ImportError
        If MNE is not installed.
    UsageError
        If the signals have different rates and no `sample_rate` is given.
    """
    import mne

    rates = {s.sample_rate for s in recording.signals.values()}
    if sample_rate is None and len(rates) > 1:
        listed = ", ".join(f"{s.label} {s.sample_rate:g} Hz" for s in recording.signals.values())
        raise UsageError(
            f"{recording.id}: MNE has one rate for all signals; here: {listed}",
            hint=f"give `sample_rate={max(rates):g}`, for example",
        )
    rate = sample_rate or rates.pop()
    labels = list(recording.signals)
    data = [_on_time_axis(recording.signals[label], rate) for label in labels]
    size = min(map(len, data))
    kinds = [s.modality if s.modality in VOLTAGES else "misc" for s in recording.signals.values()]
    info = mne.create_info(labels, rate, kinds)
    raw = mne.io.RawArray(np.stack([d[:size] for d in data]), info, verbose="error")
    if recording.start is not None:
        from datetime import UTC

        raw.set_meas_date(recording.start.replace(tzinfo=UTC))
    events = _annotations(recording)
    if events:
        onset, duration, text = zip(*events, strict=True)
        raw.set_annotations(mne.Annotations(onset, duration, text, raw.info["meas_date"]))
    return raw


def _on_time_axis(signal: Signal, rate: float) -> Any:
    """Return samples in volts, or the signal's own unit; zeros where nothing was recorded."""
    stretches = signal.stretches
    pieces = np.split(signal.samples(), stretches.firsts[1:])
    pieces = [resampling.resample(p, signal.sample_rate, rate) for p in pieces]
    starts = np.rint(stretches.begins * rate).astype(int)
    out = np.zeros(starts[-1] + len(pieces[-1]))
    for start, piece in zip(starts.tolist(), pieces, strict=True):
        out[start : start + len(piece)] = piece[: len(out) - start]
    return out / MICRO if signal.unit == MICROVOLTS else out


def _annotations(recording: Recording) -> list[tuple[float, float, str]]:
    """Onset, duration (s) and text of every scored epoch and every gap."""
    events = [
        (begin, end - begin, GAP) for begin, end in next(iter(recording.signals.values())).gaps
    ]
    hypnogram = recording.hypnogram
    if hypnogram is None:
        return events
    for number, stage in enumerate(hypnogram.stages.tolist()):
        if stage != UNSCORED:
            name = hypnogram.names[stage]
            onset = hypnogram.onset + number * hypnogram.epoch_seconds
            text = TEXTS.get(name, f"Sleep stage {name}")
            events.append((onset, hypnogram.epoch_seconds, text))
    return sorted(events)
