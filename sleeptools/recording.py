"""A recording: one continuous night of one subject, its signals each at their own rate.

Samples are decoded when asked for, one signal at a time, so that a recording of any length costs
the memory of one signal.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime

import numpy as np
import numpy.typing as npt

from sleeptools.errors import DataError
from sleeptools.hypnogram import Hypnogram

Samples = npt.NDArray[np.float32]
Stored = npt.NDArray[np.int16] | npt.NDArray[np.int32] | Samples


@dataclass(frozen=True)
class Signal:
    """One channel.

    Parameters
    ----------
    label
        As the file names it, for example "EEG Fpz-Cz".
    sample_rate
        Hz.
    unit
        Unit of `samples()`: "uV" for electrode signals, the file's own otherwise.
    modality
        "eeg", "eog", "emg", ... or "other".
    size
        Number of samples.
    read
        Gives the stored numbers, (size,) int16, int32 or float32.
    gain, offset
        Stored number * gain + offset = value in `unit`.
    """

    label: str
    sample_rate: float
    unit: str
    modality: str
    size: int
    read: Callable[[], Stored] = field(repr=False)
    gain: float = 1.0
    offset: float = 0.0

    @property
    def seconds(self) -> float:
        """Length, s."""
        return self.size / self.sample_rate

    def samples(self) -> Samples:
        """Decode the whole signal: (size,) float32 in `unit`."""
        values = self.read().astype(np.float32)
        values *= np.float32(self.gain)
        values += np.float32(self.offset)
        return values


@dataclass(frozen=True)
class Recording:
    """One continuous night of one subject.

    Parameters
    ----------
    id
        "SC4001": subject and night.
    subject
        "SC400": who; the unit of every split.
    night
        Which of the subject's nights, from 1.
    signals
        By label, in the file's order.
    hypnogram
        The scoring, or None.
    start
        When it began, or None if unknown.
    facts
        What else is known and travels along, such as `simulated`; never a patient's name.
    """

    id: str
    subject: str
    night: int
    signals: Mapping[str, Signal]
    hypnogram: Hypnogram | None = None
    start: datetime | None = None
    facts: Mapping[str, str | int | float | bool] = field(default_factory=dict)

    @property
    def seconds(self) -> float:
        """Length of the shortest signal, s."""
        return min((s.seconds for s in self.signals.values()), default=0.0)

    def signal(self, label: str) -> Signal:
        """Return the signal of that label.

        Raises
        ------
        DataError
            If there is none; the message lists what is there.
        """
        if label not in self.signals:
            raise DataError(
                f"{self.id}: no signal {label!r}", hint=f"there are: {', '.join(self.signals)}"
            )
        return self.signals[label]
