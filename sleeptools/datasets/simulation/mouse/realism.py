"""How near simulated mice are to real ones, as far as numbers of C57BL/6 mice are published.

`published_sleep.csv` holds what tables, abstracts and matrices of papers print, each with its
source; no waveform or hypnogram of a real mouse was at hand. A quantity is named by three words:
what it is, when, and of which stage.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt

from sleeptools.datasets.simulation.mouse.architecture import LIGHT_SECONDS, NREM
from sleeptools.datasets.simulation.waves import Floats
from sleeptools.recording.stages import MOUSE_STAGES

FILE: Final = Path(__file__).with_name("published_sleep.csv")
Quantity = tuple[str, str, str]

HOURS: Final = {
    "day": (0, 24),
    "light": (0, 12),
    "dark": (12, 24),
    "first 4 h": (0, 4),
    "first 3 h of light": (0, 3),
    "last 3 h of light": (9, 12),
    "first 3 h of dark": (12, 15),
}
"""Parts of a day that begins when the light goes on."""
SHORT_SECONDS: Final = 40.0
BANDS: Final = {"delta": (0.5, 4.0), "theta": (6.0, 9.0), "alpha": (8.0, 11.0)}  # Hz
ALL_HZ: Final = (0.5, 30.0)  # what shares of power are of
PEAK_HZ: Final = {"NREM": (1.0, 5.0), "REM": (5.0, 11.0)}  # where a peak is looked for


@dataclass(frozen=True)
class Published:
    """A published quantity.

    Parameters
    ----------
    quantity
        Its name.
    low, high
        Smallest and largest published mean.
    tolerance
        What is allowed beyond them, as a fraction: 0.1 of shares, 0.2 of bouts, whose number
        depends on the length of an epoch and on the scorer, and of spectra; none of an order.
    unit, source
        Unit ("" for a fraction), and who published it.
    epoch_seconds
        Length of the epochs to compare with, s: the source's, or 10.
    """

    quantity: Quantity
    low: float
    high: float
    tolerance: float
    unit: str
    source: str
    epoch_seconds: int

    @property
    def goal(self) -> tuple[float, float]:
        """Smallest and largest value that is as published."""
        return self.low * (1 - self.tolerance), self.high * (1 + self.tolerance)

    def is_met(self, value: float) -> bool:
        """Return whether a simulated value lies within the goal."""
        return self.goal[0] <= value <= self.goal[1]


def read_published() -> list[Published]:
    """Read the published quantities."""
    import polars as pl

    table = pl.read_csv(FILE, comment_prefix="#")
    return [
        Published(
            (row["what"], row["when"], row["stage"]),
            row["low"],
            row["high"],
            row["tolerance"],
            row["unit"] or "",
            row["source"],
            row["epoch_seconds"],
        )
        for row in table.iter_rows(named=True)
    ]


def architecture_values(
    days: Iterable[npt.NDArray[np.int8]], epoch_seconds: int
) -> dict[Quantity, float]:
    """Describe the scorings of whole days that begin when the light goes on.

    Parameters
    ----------
    days
        Each (epochs,) index into `stages.MOUSE_STAGES`, -1 where unscored.
    epoch_seconds
        Length of an epoch, s.

    Returns
    -------
    values
        Means over days: share of time, number of bouts and their mean length in s, by part of the
        day and stage, and the fraction of all bouts shorter than `SHORT_SECONDS`.
    """
    rows: list[dict[Quantity, float]] = []
    for day in days:
        assert len(day) * epoch_seconds == 2 * LIGHT_SECONDS
        row: dict[Quantity, float] = {}
        for when, (first, last) in HOURS.items():
            part = day[first * 3600 // epoch_seconds : last * 3600 // epoch_seconds]
            part = part[part >= 0]
            starts = np.flatnonzero(np.diff(part, prepend=-1))
            lengths = np.diff(np.append(starts, len(part))) * epoch_seconds
            for stage, name in enumerate(MOUSE_STAGES):
                of_stage = lengths[part[starts] == stage]
                row["share", when, name] = float(np.mean(part == stage))
                row["bouts", when, name] = len(of_stage)
                row["bout length", when, name] = float(of_stage.mean()) if len(of_stage) else 0.0
            row["short bouts", when, "all"] = float(np.mean(lengths < SHORT_SECONDS))
        rows.append(row)
    return {quantity: float(np.mean([row[quantity] for row in rows])) for quantity in rows[0]}


def signal_values(
    eeg: npt.NDArray[np.float32],
    emg: npt.NDArray[np.float32],
    stages: npt.NDArray[np.int8],
    rate: float,
) -> dict[Quantity, float]:
    """Describe the signals of a recording.

    Parameters
    ----------
    eeg, emg
        (epochs, samples) uV; an epoch of 2 s or more.
    stages
        (epochs,) index into `stages.MOUSE_STAGES`, -1 where unscored.
    rate
        Sample rate, Hz.

    Returns
    -------
    values
        By stage: share of each of `BANDS` in the EEG's power, its peak in Hz, and EMG amplitude
        relative to NREM; delta power in parts of the day relative to the light's last 3 h.
    """
    from scipy import signal

    hertz, density = signal.welch(eeg, rate, nperseg=round(2 * rate), axis=-1)
    values: dict[Quantity, float] = {}
    spectra: list[Floats] = [density[stages == s].mean(0) for s in range(len(MOUSE_STAGES))]
    muscle = [float(np.median(emg[stages == s].std(1))) for s in range(len(MOUSE_STAGES))]
    inside = (hertz >= ALL_HZ[0]) & (hertz <= ALL_HZ[1])
    for stage, name in enumerate(MOUSE_STAGES):
        spectrum, total = spectra[stage], spectra[stage][inside].sum()
        for band, (low, high) in BANDS.items():
            share = spectrum[(hertz >= low) & (hertz < high)].sum() / total
            values[f"{band} share", "day", name] = float(share)
        values["EMG to NREM", "day", name] = muscle[stage] / muscle[NREM]
        if name in PEAK_HZ:
            low, high = PEAK_HZ[name]
            there = (hertz >= low) & (hertz <= high)
            values["peak", "day", name] = float(hertz[there][spectrum[there].argmax()])
    low, high = BANDS["delta"]
    delta = density[:, (hertz >= low) & (hertz < high)].sum(1)
    hour = np.arange(len(stages)) * eeg.shape[1] / rate / 3600
    for when in ("first 3 h of light", "first 3 h of dark"):
        means = [
            float(delta[(stages >= 0) & (hour >= first) & (hour < last)].mean())
            for first, last in (HOURS[when], HOURS["last 3 h of light"])
            if last <= hour[-1] + 1.0
        ]
        if len(means) > 1:
            values["delta to late light", when, "all"] = means[0] / means[1]
    return values
