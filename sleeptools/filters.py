"""Filters of a whole channel, or of every epoch by itself, as second-order sections.

Butterworth band-pass, high-pass and low-pass, and a notch. Zero-phase filters run forwards and
backwards, so that no wave moves in time: the attenuation is that of the filter twice, 6 dB at a
corner. Second-order sections stay sound where a corner is a ten-thousandth of the sample rate, at
which a transfer function's coefficients lose their meaning (Oppenheim & Schafer, ch. 6).
"""

from __future__ import annotations

import itertools
from typing import Final, Literal

import numpy as np
import numpy.typing as npt

from sleeptools.errors import DataError
from sleeptools.recording import Samples

Sections = npt.NDArray[np.float64]
"""(sections, 6): b0 b1 b2 1 a1 a2 of each."""
BLOCK: Final = 1 << 20  # samples in float64 at a time: a night in float64 would not fit


def check(corners: tuple[float, ...], rate: float) -> None:
    """Check corner frequencies, Hz, against a sample rate, Hz.

    Raises
    ------
    DataError
        If they do not ascend, or reach half the sample rate.
    """
    bounds = (0.0, *corners, rate / 2)
    if not all(a < b for a, b in itertools.pairwise(bounds)):
        raise DataError(
            f"filter at {' to '.join(f'{c:g}' for c in corners)} Hz: expected rising frequencies "
            f"below {rate / 2:g} Hz, half the sample rate",
            hint="resampling has removed what is above half the sample rate",
        )


def butterworth(
    kind: Literal["bandpass", "highpass", "lowpass"],
    corners: tuple[float, ...],
    order: int,
    rate: float,
) -> Sections:
    """Design a Butterworth filter.

    Parameters
    ----------
    corners
        Hz; two of them for a band-pass.
    order
        Of one run; a zero-phase filter makes two.
    rate
        Hz.

    Raises
    ------
    DataError
        If a corner is not below half the sample rate, or the band is empty.
    """
    from scipy.signal import butter

    check(corners, rate)
    sections: Sections = butter(order, np.squeeze(corners), kind, fs=rate, output="sos")
    return sections


def notch(hz: float, width: float, rate: float) -> Sections:
    """Design a second-order notch.

    Parameters
    ----------
    hz, width
        Middle, and distance of the points 3 dB down in one run, Hz.

    Raises
    ------
    DataError
        If it does not lie below half the sample rate.
    """
    from scipy.signal import iirnotch

    check((hz,), rate)
    b, a = iirnotch(hz, hz / width, rate)
    return np.concatenate([b, a])[None]


def edge(sections: Sections) -> int:
    """Count the samples until the slowest part of the impulse response is below a thousandth."""
    poles = np.abs(np.concatenate([np.roots(s[3:]) for s in sections])).max()
    return int(np.ceil(np.log(1e-3) / np.log(poles))) if poles > 0 else 1


def zero_phase(samples: Samples, sections: Sections) -> Samples:
    """Filter forwards and backwards along the last axis.

    Beyond the ends the signal is continued by its mirror image, for the length of the filter's
    edge or of the signal. Turned around its last sample, as other programs continue it, a wave that
    ends on its crest would go on one amplitude higher, and a high-pass rings for seconds.

    Parameters
    ----------
    samples
        (..., n) float32.

    Returns
    -------
    filtered
        (..., n) float32.
    """
    n = samples.shape[-1]
    pad = min(edge(sections), n - 1)
    ahead, behind = samples[..., pad:0:-1], samples[..., -2 : -pad - 2 : -1]
    long = np.concatenate([ahead, samples, behind], axis=-1)
    _run(long, sections)
    _run(long[..., ::-1], sections)
    return np.ascontiguousarray(long[..., pad : pad + n])


def causal(samples: Samples, sections: Sections) -> Samples:
    """Filter forwards only, from rest: what is before the first sample is taken as zero."""
    out = samples.copy()
    _run(out, sections, from_rest=True)
    return out


def _run(samples: Samples, sections: Sections, *, from_rest: bool = False) -> None:
    """Filter in place, in blocks of float64; the first value counts as having been for ever."""
    from scipy.signal import sosfilt, sosfilt_zi

    rows = samples.reshape(-1, samples.shape[-1]) if samples.ndim != 1 else samples[None]
    assert np.shares_memory(rows, samples)
    state = sosfilt_zi(sections)[:, None, :] * rows[None, :, :1] * (not from_rest)
    size = max(1, BLOCK // len(rows))
    for start in range(0, rows.shape[-1], size):
        part = rows[:, start : start + size]
        part[:], state = sosfilt(sections, part, zi=state)
