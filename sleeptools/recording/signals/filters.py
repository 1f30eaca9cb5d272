"""Butterworth and notch filters as second-order sections, zero-phase or causal.

They filter along the last axis: a whole channel, or every epoch by itself. Zero-phase filters run
forwards and backwards, so that no wave is shifted in time, and attenuate twice: 6 dB at a corner
frequency. Second-order sections stay accurate if a corner is a ten-thousandth of the sample rate,
where the coefficients of a transfer function are not (Oppenheim & Schafer, ch. 6).
"""

from __future__ import annotations

import itertools
from typing import Final, Literal

import numpy as np
import numpy.typing as npt

from sleeptools import native
from sleeptools.errors import DataError
from sleeptools.recording.recording import Samples

Sections = npt.NDArray[np.float64]
"""(sections, 6): b0 b1 b2 1 a1 a2 of each."""
BLOCK: Final = 1 << 20  # samples in float64 at a time: a night in float64 would not fit
REAL: Final = 1e-10  # imaginary part of a pole that counts as real
MAX_SECTIONS: Final = 16  # as in csrc/ops.h
MEMORY: Final = 4  # `edge` lengths after which a state has decayed to 1e-12


def check(corners: tuple[float, ...], rate: float) -> None:
    """Check corner frequencies, Hz, against a sample rate, Hz.

    Raises
    ------
    DataError
        If they are not in ascending order, or not below half the sample rate.
    """
    bounds = (0.0, *corners, rate / 2)
    if not all(a < b for a, b in itertools.pairwise(bounds)):
        raise DataError(
            f"filter at {' to '.join(f'{c:g}' for c in corners)} Hz: expected rising frequencies "
            f"below {rate / 2:g} Hz, half the sample rate",
            hint="resampling has removed what is above half the sample rate",
            code="SIG-FILTER",
        )


def butterworth(
    kind: Literal["bandpass", "highpass", "lowpass"],
    corners: tuple[float, ...],
    order: int,
    rate: float,
) -> Sections:
    """Design a Butterworth filter by the bilinear transform, with prewarped corner frequencies.

    Oppenheim & Schafer, sections 7.2 and B.1. Not scipy.signal, which takes longer to import than
    a night to filter.

    Parameters
    ----------
    corners
        Corner frequencies, Hz; two for a band-pass, otherwise one.
    order
        Order of one run; `zero_phase` makes two runs.
    rate
        Sample rate, Hz.

    Raises
    ------
    DataError
        If a corner is not below half the sample rate, or the band is empty.
    """
    check(corners, rate)
    low, *upper = 2 * np.tan(np.pi * np.array(corners) / rate)  # analog, at a sample rate of 1
    prototype = np.exp(1j * np.pi * (2 * np.arange(order) + order + 1) / (2 * order))
    if kind == "bandpass":
        half, middle = prototype * (upper[0] - low) / 2, np.sqrt(low * upper[0])
        root = np.sqrt(half**2 - middle**2)
        return _sections(
            np.concatenate([half + root, half - root]), (1, -1), 2 * np.arctan(middle / 2)
        )
    if kind == "lowpass":
        return _sections(prototype * low, (-1, -1), 0)
    return _sections(low / prototype, (1, 1), np.pi)


def _sections(analog: npt.NDArray[np.complex128], zeros: tuple[int, int], angle: float) -> Sections:
    """Turn analog poles into digital sections, with a gain of 1 at an angular frequency."""
    poles = (1 + analog / 2) / (1 - analog / 2)
    real = np.sort(poles[abs(poles.imag) <= REAL].real)
    pairs = [(p, p.conj()) for p in poles[poles.imag > REAL]]
    pairs += [tuple(real[i : i + 2]) for i in range(0, len(real), 2)]
    sections = np.zeros((len(pairs), 6))
    z = np.exp(1j * angle)
    for row, pair in zip(sections, pairs, strict=True):
        b, a = np.poly(zeros[: len(pair)]), np.poly(pair).real
        row[: len(b)] = b * abs(np.polyval(a, z) / np.polyval(b, z))
        row[3 : 3 + len(a)] = a
    return sections


def notch(hz: float, width: float, rate: float) -> Sections:
    """Design a second-order notch (Orfanidis, Introduction to Signal Processing, eq. 11.3.4).

    Parameters
    ----------
    hz, width
        Centre frequency, and bandwidth at -3 dB in one run, Hz.
    rate
        Sample rate, Hz.

    Raises
    ------
    DataError
        If the centre frequency is not below half the sample rate.
    """
    check((hz,), rate)
    gain = 1 / (1 + np.tan(np.pi * width / rate))
    middle = -2 * np.cos(2 * np.pi * hz / rate)
    return np.array([[gain, gain * middle, gain, 1, gain * middle, 2 * gain - 1]])


def edge(sections: Sections) -> int:
    """Count the samples within which the impulse response decays to a thousandth."""
    poles = np.abs(np.concatenate([np.roots(s[3:]) for s in sections])).max()
    return int(np.ceil(np.log(1e-3) / np.log(poles))) if poles > 0 else 1


def zero_phase(samples: Samples, sections: Sections) -> Samples:
    """Filter forwards and backwards along the last axis.

    Both ends of the signal are padded with its mirror image, by the length of `edge` or of the
    signal. Other programs pad with the point reflection at the last sample: a wave that ends on its
    crest then continues one amplitude higher, and a high-pass filter rings for seconds.

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
    _run(long, sections, backwards=True)
    return np.ascontiguousarray(long[..., pad : pad + n])


def causal(samples: Samples, sections: Sections) -> Samples:
    """Filter forwards only; the signal before the first sample is taken to be zero."""
    out = samples.copy()
    _run(out, sections, from_rest=True)
    return out


def _run(
    samples: Samples, sections: Sections, *, backwards: bool = False, from_rest: bool = False
) -> None:
    """Filter in place, from a state of rest or from the steady state of the first sample."""
    rows = samples.reshape(-1, samples.shape[-1])
    assert np.shares_memory(rows, samples)
    steady = _steady(sections) * (not from_rest)
    if native.available():
        assert len(sections) <= MAX_SECTIONS
        flat = np.ascontiguousarray(sections[:, [0, 1, 2, 4, 5]])
        memory = MEMORY * edge(sections)
        native.launch_on_cpu(
            "section_filter",
            x=rows,
            sections=flat,
            steady=steady,
            rows=rows.shape[0],
            samples=rows.shape[1],
            count=len(flat),
            memory=memory,
            backwards=backwards,
            from_rest=from_rest,
        )
        return
    from scipy.signal import sosfilt

    rows = rows[:, ::-1] if backwards else rows
    state = steady[:, None, :] * rows[None, :, :1]
    size = max(1, BLOCK // len(rows))
    for start in range(0, rows.shape[-1], size):
        block = rows[:, start : start + size]
        block[:], state = sosfilt(sections, block, zi=state)


def _steady(sections: Sections) -> npt.NDArray[np.float64]:
    """Compute the steady states, (sections, 2), of the cascade for a constant input of 1."""
    states, entering = [], 1.0
    for b0, b1, b2, _, a1, a2 in sections:
        leaving = entering * (b0 + b1 + b2) / (1 + a1 + a2)
        states.append((leaving - b0 * entering, b2 * entering - a2 * leaving))
        entering = leaving
    return np.array(states)
