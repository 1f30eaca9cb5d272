"""How near simulated nights are to real ones: the spectra of ten Sleep-Cassette nights beside them.

`sleep_cassette_spectra.csv` holds aggregate statistics of the nights of SC400 to SC404 of Sleep-EDF
Expanded 1.0.0 (Kemp et al. 2000, IEEE Trans Biomed Eng 47:1185; PhysioNet; Open Data Commons
Attribution License 1.0), computed by benches/calibrate_simulator.py from the features of each
epoch that matteo-omizzolo/sleep-EDF published (MIT). No epoch of a person is in it.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt

from sleeptools.datasets.simulation.waves import Floats
from sleeptools.recording.recording import Recording
from sleeptools.recording.signals.band_levels import BANDS, LEVELS, RATE, band_levels
from sleeptools.recording.stages import HUMAN_STAGES

SPECTRA: Final = Path(__file__).with_name("sleep_cassette_spectra.csv")
LEADS: Final = ("EEG Fpz-Cz", "EEG Pz-Oz")
SAMPLES: Final = round(30 * RATE)  # of an epoch
WAKE_EPOCHS: Final = 60  # wake before and after sleep that counts
LEAST_EPOCHS: Final = 10  # a night with fewer of a stage has no median of it
NORMAL_QUARTILES: Final = (
    1.349  # distance of a normal distribution's quartiles, in standard deviations
)
MIDDLES: Final = {name: float(np.sqrt(low * high)) for name, (low, high) in BANDS.items()}  # Hz
FEATURES: Final = len(LEVELS)


def night_levels(recording: Recording) -> tuple[Floats, npt.NDArray[np.int8]]:
    """Return the levels of both leads, (epochs, 14), and the scored stages of the same epochs.

    From half an hour before sleep to half an hour after it, without what is unscored.
    """
    assert recording.hypnogram is not None
    stages = recording.hypnogram.stages
    scored = np.flatnonzero(stages >= 0)
    asleep = np.flatnonzero(stages[scored] > 0)
    kept = scored[max(0, asleep[0] - WAKE_EPOCHS) : asleep[-1] + WAKE_EPOCHS + 1]
    leads = [recording.signal(lead).samples() for lead in LEADS]
    levels = [
        band_levels(lead[: len(stages) * SAMPLES].reshape(-1, SAMPLES)[kept]) for lead in leads
    ]
    return np.hstack(levels), stages[kept]


def bands_only(levels: Floats) -> Floats:
    """Leave out variance and mobility: (epochs, 14) to (epochs, leads, bands)."""
    return levels.reshape(len(levels), len(LEADS), FEATURES)[:, :, : len(BANDS)]


def drift(levels: Floats) -> Floats:
    """Return the variance that the bands leave, which is mostly below 0.5 Hz: (epochs, leads) dB.

    Of (epochs, 14) as `night_levels` gives them; at least a fiftieth of the variance.
    """
    power = 10 ** (levels.reshape(len(levels), len(LEADS), FEATURES)[..., :-1] / 10)
    widths = np.array([high - low for low, high in BANDS.values()])
    rest = power[..., -1] - power[..., :-1] @ widths
    decibel: Floats = 10 * np.log10(np.maximum(rest, 0.02 * power[..., -1]))
    return decibel


def statistics(
    levels: Floats, stages: npt.NDArray[np.int8], nights: npt.NDArray[np.integer]
) -> dict[str, Floats]:
    """Describe each stage, lead and band of some nights: (stages, leads, bands) dB.

    Parameters
    ----------
    levels, stages, nights
        (epochs, 14) from `night_levels`, and of the same epochs the stage and the number of the
        night; of each stage at least two nights have `LEAST_EPOCHS`.

    Returns
    -------
    statistics
        `median` (of the nights' medians), `between` (their standard deviation), `within` (median
        over nights of the standard deviation, from quartiles), `lower` and `upper` (quartiles of
        all epochs).
    """
    return describe(bands_only(levels), stages, nights)


def describe(
    bands: Floats, stages: npt.NDArray[np.int8], nights: npt.NDArray[np.integer]
) -> dict[str, Floats]:
    """Describe levels of any bands, (epochs, leads, bands) dB, as `statistics` does."""
    rows: dict[str, list[Floats]] = {
        k: [] for k in ("median", "between", "within", "lower", "upper")
    }
    for stage in range(len(HUMAN_STAGES)):
        of_nights = [bands[(stages == stage) & (nights == night)] for night in np.unique(nights)]
        of_nights = [epochs for epochs in of_nights if len(epochs) >= LEAST_EPOCHS]
        medians = np.array([np.median(epochs, axis=0) for epochs in of_nights])
        spans = [np.subtract(*np.percentile(epochs, [75, 25], axis=0)) for epochs in of_nights]
        lower, upper = np.percentile(bands[stages == stage], [25, 75], axis=0)
        rows["median"].append(np.median(medians, axis=0))
        rows["between"].append(np.std(medians, axis=0, ddof=1))
        rows["within"].append(np.median(spans, axis=0) / NORMAL_QUARTILES)
        rows["lower"].append(lower)
        rows["upper"].append(upper)
    return {name: np.array(values) for name, values in rows.items()}


def exponents(medians: Floats, low: str = "theta", high: str = "gamma") -> Floats:
    """Return the exponents of 1/f between the middles of two bands: (stages, leads)."""
    names = list(BANDS)
    drop = medians[..., names.index(low)] - medians[..., names.index(high)]
    slope: Floats = drop / (10 * np.log10(MIDDLES[high] / MIDDLES[low]))
    return slope


def read_spectra() -> dict[str, Floats]:
    """Read the statistics of the real nights: (stages, leads, bands) of each."""
    import polars as pl

    table = pl.read_csv(SPECTRA, comment_prefix="#")
    shape = (len(HUMAN_STAGES), len(LEADS), len(BANDS))
    names = [name for name in table.columns if name not in ("stage", "lead", "band")]
    return {name: table[name].to_numpy().reshape(shape) for name in names}
