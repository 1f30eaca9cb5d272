"""SleepPrintNet's spectral-spatial map: the power of five bands, laid out on a picture of the head.

Jia et al. 2020 ("original") and the rewrite in MMASleepNet's comparison ("rewrite"):

          bands (Hz)                        power                         layout of 16 x 16 pixels
original  1-3 4-7 8-13 14-30 31-50          mean density, band-passed     5 x 5 grid of electrodes,
                                            0.5-50 Hz, z-score of each    interpolated cubically
                                            epoch over the electrodes
rewrite   0-4 4-8 8-13 13-30 30-50          sum, by multitaper            a pixel per electrode

Neither says which density estimate, which cubic or which cell belongs to an electrode. Here: Hann
windows of 2 s, half overlapping (original), four Slepian tapers of half bandwidth 2.5 / T
(rewrite), a radial cubic over the grid, and the 10-20 system's rows and columns.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Final, Literal

import numpy as np
import numpy.typing as npt

from sleeptools import filters
from sleeptools.errors import DataError
from sleeptools.recording import Samples

Variant = Literal["original", "rewrite"]
BANDS: Final[dict[Variant, tuple[tuple[float, float], ...]]] = {
    "original": ((1, 3), (4, 7), (8, 13), (14, 30), (31, 50)),
    "rewrite": ((0, 4), (4, 8), (8, 13), (13, 30), (30, 50)),
}
"""Hz, both ends included in "original", the upper one left out in "rewrite"."""
SIZE: Final = 16  # pixels
ROWS: Final = {"Fp": 0, "AF": 0, "F": 1, "C": 2, "T": 2, "P": 3, "O": 4}
COLUMNS: Final = {"7": 0, "3": 1, "1": 1, "z": 2, "4": 3, "2": 3, "8": 4}
BAND_PASS: Final = (0.5, 50.0)  # Hz, order 4
TAPERS, HALF_BANDWIDTH = 4, 2.5
BLOCK: Final = 64  # epochs at a time


def maps(
    samples: Samples, electrodes: tuple[str, ...], rate: float, variant: Variant = "original"
) -> Samples:
    """Make the maps of some epochs.

    Parameters
    ----------
    samples
        (epochs, electrodes, samples) float32, uV.
    electrodes
        Where each of them is drawn: canonical names, "Fpz" or "C4", of a pair the first.
    rate
        Hz; above 100, so that the highest band is there.

    Returns
    -------
    maps
        (epochs, 5, 16, 16) float32; row 0 is the forehead, column 0 the left. The z-score of
        "original" over electrodes, the power in uV^2 of "rewrite".

    Raises
    ------
    DataError
        For an electrode that has no place of its own, or too few of them to interpolate.
    """
    places = tuple(place(e) for e in electrodes)
    if len(set(places)) < len(places):
        raise DataError(f"two of the electrodes {', '.join(electrodes)} share a place on the map")
    lay = _spread(places) if variant == "original" else _dots(np.array(places))
    parts = [
        _power(samples[i : i + BLOCK], rate, variant) @ lay  # (E, 5, electrodes) @ (electrodes, P)
        for i in range(0, len(samples), BLOCK)
    ]
    flat = np.concatenate(parts) if parts else np.empty((0, len(BANDS[variant]), SIZE * SIZE))
    return flat.reshape(-1, len(BANDS[variant]), SIZE, SIZE).astype(np.float32)


def place(electrode: str) -> tuple[int, int]:
    """Row and column of an electrode on the 5 x 5 grid; row 0 is the forehead, column 0 the left.

    Raises
    ------
    DataError
        If it is none of the 10-20 system's.
    """
    row, column = electrode.rstrip("z123456789"), electrode[-1:]
    if row not in ROWS or column not in COLUMNS:
        raise DataError(f"electrode {electrode!r} has no place on the map")
    return ROWS[row], COLUMNS[column]


def _power(samples: Samples, rate: float, variant: Variant) -> npt.NDArray[np.float64]:
    """Give the power per band: (epochs, 5, electrodes)."""
    if variant == "original":
        frequency, density = _welch(_band_passed(samples, rate), rate)
    else:
        frequency, density = _multitaper(samples, rate)
    power = np.stack([_of_band(density, frequency, b, variant) for b in BANDS[variant]], 1)
    if variant == "rewrite":
        return power
    power -= power.mean(-1, keepdims=True)
    spread = power.std(-1, keepdims=True)
    return np.asarray(np.divide(power, spread, out=np.zeros_like(power), where=spread > 0))


def _of_band(
    density: npt.NDArray[np.float64],
    frequency: npt.NDArray[np.float64],
    band: tuple[float, float],
    variant: Variant,
) -> npt.NDArray[np.float64]:
    low, high = band
    if variant == "original":
        inside = (frequency >= low) & (frequency <= high)
        return np.asarray(density[..., inside].mean(-1))
    inside = (frequency >= low) & (frequency < high)
    return np.asarray(density[..., inside].sum(-1) * frequency[1])


def _band_passed(samples: Samples, rate: float) -> Samples:
    return filters.zero_phase(samples, filters.butterworth("bandpass", BAND_PASS, 4, rate))


def _welch(
    samples: Samples, rate: float
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    from scipy.signal import welch

    frequency, density = welch(samples, rate, nperseg=round(2 * rate))
    return frequency, density


def _multitaper(
    samples: Samples, rate: float
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Density by the mean over Slepian tapers (Thomson 1982), uV^2 / Hz."""
    from scipy.signal.windows import dpss

    n = samples.shape[-1]
    tapers = dpss(n, HALF_BANDWIDTH, TAPERS)  # of energy 1
    density = np.zeros((*samples.shape[:-1], n // 2 + 1))
    for taper in tapers:
        density += np.abs(np.fft.rfft(samples * taper)) ** 2
    density *= 2 / (rate * len(tapers))
    density[..., 0] /= 2  # the two ends have no mirror image
    if n % 2 == 0:
        density[..., -1] /= 2
    return np.fft.rfftfreq(n, 1 / rate).astype(np.float64), density


def _dots(places: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
    """Weights (electrodes, pixels) that set one pixel per electrode."""
    lay = np.zeros((len(places), SIZE, SIZE))
    middle = np.rint((places + 0.5) * SIZE / 5 - 0.5).astype(int)
    lay[np.arange(len(places)), middle[:, 0], middle[:, 1]] = 1
    return lay.reshape(len(places), -1)


@lru_cache(8)
def _spread(places: tuple[tuple[int, int], ...]) -> npt.NDArray[np.float64]:
    """Weights (electrodes, pixels) of the cubic interpolation, which is linear in the values."""
    from scipy.interpolate import RBFInterpolator

    points = np.array(places, float)
    if np.linalg.matrix_rank(points - points[0]) < 2:  # noqa: PLR2004 - a plane
        raise DataError(
            f"{len(places)} electrodes do not span a map",
            hint='give three or more that are not in a line, or take the variant "rewrite"',
        )
    axis = np.linspace(0, 4, SIZE)
    pixels = np.stack(np.meshgrid(axis, axis, indexing="ij"), -1).reshape(-1, 2)
    found = RBFInterpolator(points, np.eye(len(points)), kernel="cubic")(pixels)
    return np.asarray(found.T)
