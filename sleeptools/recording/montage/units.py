"""Units of voltages: conversion to microvolts, and a check for physiologically plausible values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Final

import numpy as np
import numpy.typing as npt

from sleeptools.errors import DataError
from sleeptools.recording.montage.names import CHANNEL_TABLE
from sleeptools.recording.recording import Samples, Signal

MICROVOLTS: Final[Mapping[str, float]] = {
    name: unit["factor"] for unit in CHANNEL_TABLE["units"].values() for name in unit["names"]
}
"""Factor to microvolts, by unit as files write it."""

VOLTAGE_MODALITIES: Final = ("eeg", "eog", "emg", "ecg")
"""Modalities measured as voltages, whose unit must be known."""

UNIT_FACTORS: Final = (1e3, 1e6, 1e-3, 1e-6)
MOST_SAMPLES: Final = 20_000  # samples at most, spread over the signal


def decoded_unit(unit: str) -> tuple[str, float]:
    """Return the unit of decoded samples, and the factor to it: "uV" for voltages, else as is."""
    return ("uV", MICROVOLTS[unit]) if unit in MICROVOLTS else (unit, 1.0)


def in_microvolts(signal: Signal, assumed: str = "") -> Signal:
    """Return a signal that is a voltage with its unit converted to microvolts.

    Parameters
    ----------
    assumed
        Unit if the file gives none: one of `MICROVOLTS`, or empty.

    Raises
    ------
    DataError
        If the unit is not one of a voltage, or is missing and none is assumed.
    """
    if signal.unit == "uV":
        return signal
    if signal.unit or not assumed:
        unit = f"unit {signal.unit!r}" if signal.unit else "no unit"
        hint = f"known units: {', '.join(CHANNEL_TABLE['units'])}"
        hint += "" if signal.unit else "; `assume_unit=uV` takes it as microvolts"
        raise DataError(
            f"signal {signal.label!r} has {unit}; expected a voltage", hint=hint, code="SIG-UNIT"
        )
    factor = MICROVOLTS[assumed]
    return replace(signal, unit="uV", gain=signal.gain * factor, offset=signal.offset * factor)


def suspicion(samples: Samples, modality: str) -> str:
    """Describe why an amplitude is implausible for its modality; "" if it is plausible.

    The median absolute deviation from the median must lie in the range that names.toml has for the
    modality; if a factor of 1,000 or 1,000,000 would bring it there, the text says so.

    Parameters
    ----------
    samples
        (n,) float32, uV.
    modality
        One of `MODALITIES`; those without a range are always plausible.
    """
    if modality not in CHANNEL_TABLE["amplitudes"] or not len(samples):
        return ""
    low, high = CHANNEL_TABLE["amplitudes"][modality]
    subset = samples[:: -(-len(samples) // MOST_SAMPLES)].astype(np.float64)
    amplitude = _median(np.abs(subset - _median(subset)))
    if low <= amplitude <= high or not np.isfinite(amplitude):
        return ""
    text = f"median amplitude {amplitude:.3g} uV; expected {low:g} to {high:g} uV"
    factor = next((f for f in UNIT_FACTORS if low <= amplitude * f <= high), None)
    if amplitude == 0:
        return f"flat: half of its samples or more are equal; {text}"
    if factor is None:
        return text
    deviation = f"{factor:,.0f}x too small" if factor > 1 else f"{1 / factor:,.0f}x too large"
    return f"{text}: perhaps {deviation} (a wrong unit in the file?)"


def _median(values: npt.NDArray[np.float64]) -> float:
    """As numpy.median, without the masked arrays that it imports."""
    ordered = np.sort(values)
    middle = ordered[(len(ordered) - 1) // 2], ordered[len(ordered) // 2]
    return float(np.mean(middle))
