"""Fitting the simulator's constants to levels of real nights: guess, simulate and correct.

Levels of an epoch are those of `realism.band_levels`, of Fpz-Cz and Pz-Oz.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from sleeptools.datasets.simulation import architecture, eeg, realism, waves
from sleeptools.datasets.simulation.calibration import CODES, RHYTHMS, Calibration
from sleeptools.datasets.simulation.night import simulate_night
from sleeptools.datasets.simulation.traits import draw_traits
from sleeptools.datasets.sleep_edf import CASSETTE_CHANNELS
from sleeptools.recording.stages import HUMAN_STAGES

FIT_SEED = 303
DB = np.log(10) / 20  # of an amplitude's logarithm
BACKGROUND, DELTA = (RHYTHMS.index(name) for name in ("background", "delta"))
BAND_RHYTHMS = [i for i in range(len(RHYTHMS)) if i != BACKGROUND]  # of each band, and drift
WAKE, N1, REM = 0, 1, 4
GAMMA = list(realism.BANDS).index("gamma")
CONTRAST_ROUNDS = 3
BACKGROUND_SHARE = 0.5  # of the power of the band that has the least beside it
DEEPER = 1.12  # stage 4's delta against the level of N3, and the inverse of stage 3's
LEVEL_LIMITS, SPREAD_LIMITS = (0.1, 60.0), (0.02, 1.5)  # uV, and log


def rms(values: np.ndarray) -> float:
    return float(np.sqrt(np.mean(np.square(values))))


@dataclass(frozen=True)
class Nights:
    """Levels (epochs, 14), stages and night numbers of some nights, and the subject of each."""

    levels: np.ndarray
    stages: np.ndarray
    nights: np.ndarray
    subjects: np.ndarray

    def of(self, subjects: tuple[int, ...]) -> Nights:
        """Keep the nights of some subjects."""
        kept = np.isin(self.subjects, subjects)
        return Nights(self.levels[kept], self.stages[kept], self.nights[kept], self.subjects[kept])

    def statistics(self) -> dict[str, np.ndarray]:
        """Describe each stage, lead and band."""
        return realism.statistics(self.levels, self.stages, self.nights)

    def bands(self) -> np.ndarray:
        """Levels of the bands and of the drift, as `BAND_RHYTHMS`: (epochs, leads, 6) dB."""
        drift = realism.drift(self.levels)[..., None]
        return np.concatenate([realism.bands_only(self.levels), drift], -1)


def read(path: Path) -> Nights:
    with np.load(path, allow_pickle=False) as file:
        return Nights(
            file["features"].astype(float), file["stages"], file["night"], file["subject"]
        )


def simulate(count: int, constants: Calibration, *, seed: int, hours: float = 8.0) -> Nights:
    levels, stages = [], []
    for subject in range(count):
        night = simulate_night(
            subject,
            1,
            hours=hours,
            seed=seed,
            channels=CASSETTE_CHANNELS[: len(realism.LEADS)],
            calibration=constants,
        )
        of_night = realism.night_levels(night.recording)
        levels.append(of_night[0])
        stages.append(of_night[1])
    number = np.repeat(np.arange(count), [len(s) for s in stages])
    return Nights(np.concatenate(levels), np.concatenate(stages), number, number)


def fit(real: Nights, *, nights: int, rounds: int, seed: int = FIT_SEED) -> Calibration:
    """Fit levels and spreads: from the spectra's shapes, then by simulating and correcting."""
    wanted = to_fit(real)
    constants = first_guess(real, wanted)
    for number in range(rounds):
        ours = to_fit(simulate(nights, alike(constants), seed=seed))
        error = ours["median"] - wanted["median"]
        print(f"round {number}: {rms(error):.2f} dB, worst {abs(error).max():.2f}", flush=True)
        constants = corrected(constants, wanted, ours)
    for number in range(CONTRAST_ROUNDS):
        of_ours = stage_levels(simulate(2 * nights, constants, seed=seed + 1 + number))
        error = contrasts(of_ours - stage_levels(real))
        print(f"contrasts {number}: {rms(error):.2f} dB, worst {abs(error).max():.2f}", flush=True)
        constants = replace(constants, levels_uv=moved(constants.levels_uv, -error))
    return constants


def contrasts(levels: np.ndarray) -> np.ndarray:
    """Leave out what the stages have in common: (stages, leads, bands) dB.

    Where subjects and nights differ in rhythms that share a band, a stage that has little of it
    gains more than one that has much: levels fitted to nights that are `alike` are off by that.
    """
    return levels - levels.mean(0)


def moved(levels_uv: np.ndarray, decibel: np.ndarray) -> np.ndarray:
    """Move each rhythm's level by most of what its band is to move, (stages, leads, bands) dB."""
    levels = levels_uv.copy()
    of_codes = np.clip(decibel, -4, 4).swapaxes(0, 1)[:, architecture.HUMAN_OF_CODE]
    levels[..., BAND_RHYTHMS] *= np.exp(0.8 * DB * of_codes)
    crowded = ((levels[..., BAND_RHYTHMS] < 2 * LEVEL_LIMITS[0]) & (of_codes < -0.5)).any(-1)
    levels[..., BACKGROUND] *= np.where(crowded, 0.85, 1.0)
    return np.clip(levels, *LEVEL_LIMITS)


def alike(constants: Calibration) -> Calibration:
    """Make all subjects and nights alike, so that a few of them show the levels without chance."""
    none = np.zeros_like(constants.subject_spread)
    return replace(constants, subject_spread=none, night_spread=none)


def to_fit(nights: Nights) -> dict[str, np.ndarray]:
    """Return statistics, the levels half-way between the nights' medians and `stage_levels`."""
    statistics = realism.describe(nights.bands(), nights.stages, nights.nights)
    return statistics | {"median": 0.5 * (statistics["median"] + stage_levels(nights))}


def first_guess(real: Nights, wanted: dict[str, np.ndarray]) -> Calibration:
    """Levels as if the bands were separate; spreads and memory as measured."""
    slope = np.median(realism.exponents(wanted["median"], "theta", "beta")[[N1, REM]])
    subject, night = spreads_between(real)
    memory, share = memory_of(real)
    noise_db = quietest(real)
    constants = Calibration(
        levels_uv=np.ones((2, len(CODES), len(RHYTHMS))),
        noise_uv=np.sqrt(10 ** (noise_db / 10) * 49.0),
        background_slope=float(slope),
        subject_spread=subject,
        night_spread=night,
        epoch_spread=np.ones((2, len(CODES), len(RHYTHMS))),
        slow_share=share[architecture.HUMAN_OF_CODE],
        slow_memory=memory,
    )
    gains = band_gains(constants)
    power = 10 ** (wanted["median"].swapaxes(0, 1) / 10)  # (leads, stages, bands) uV^2/Hz
    background = BACKGROUND_SHARE * (power / gains[BACKGROUND])[..., :4].min(-1)
    rest = np.maximum(power - background[..., None] * gains[BACKGROUND], 0.05 * power)
    levels = np.empty((2, len(HUMAN_STAGES), len(RHYTHMS)))
    levels[..., BACKGROUND] = np.sqrt(background)
    for band, rhythm in enumerate(BAND_RHYTHMS):
        levels[..., rhythm] = np.sqrt(rest[..., band] / gains[rhythm, band])
    levels = by_code(levels)
    levels[:, [architecture.S3, architecture.S4], DELTA] *= [1 / DEEPER, DEEPER]
    return replace(
        constants,
        levels_uv=levels,
        epoch_spread=by_code(with_background(0.8 * DB * wanted["within"].swapaxes(0, 1))),
    )


def band_gains(constants: Calibration) -> np.ndarray:
    """Mean power density in each band, and power below them, of 1 uV: (rhythms and noise, 6)."""
    person = replace(
        draw_traits(np.random.default_rng(0), constants),
        slope=constants.background_slope,
        alpha_hz=9.9,
        theta_hz=5.6,
    )
    power = eeg.spectra_of(person)
    density = power / (waves.FREQUENCIES[1] - waves.FREQUENCIES[0])
    inside = [
        (low <= waves.FREQUENCIES) & (high >= waves.FREQUENCIES)
        for low, high in realism.BANDS.values()
    ]
    below = power[:, realism.BANDS["delta"][0] > waves.FREQUENCIES].sum(1)
    return np.stack([*(density[:, band].mean(1) for band in inside), below], 1)


def by_code(of_stages: np.ndarray) -> np.ndarray:
    """Spread values of the five stages over the six codes: (leads, codes, rhythms)."""
    return of_stages[:, architecture.HUMAN_OF_CODE].copy()


def with_background(of_bands: np.ndarray) -> np.ndarray:
    """(..., bands) to (..., rhythms): the background varies as delta and theta do."""
    return np.concatenate([of_bands[..., :2].mean(-1, keepdims=True), of_bands], -1)


def corrected(
    constants: Calibration, wanted: dict[str, np.ndarray], ours: dict[str, np.ndarray]
) -> Calibration:
    """Move each rhythm's level and spread by what its band is off."""
    ratio = (wanted["within"] / ours["within"]).swapaxes(0, 1)
    spread = constants.epoch_spread * by_code(with_background(np.clip(ratio, 0.5, 2.0) ** 0.7))
    return replace(
        constants,
        levels_uv=moved(constants.levels_uv, wanted["median"] - ours["median"]),
        epoch_spread=np.clip(spread, *SPREAD_LIMITS),
    )


def night_medians(nights: Nights) -> np.ndarray:
    """Median levels of each stage and night: (stages, nights, leads, bands) dB, or NaN."""
    bands = nights.bands()
    numbers = np.unique(nights.nights)
    medians = np.full((len(HUMAN_STAGES), len(numbers), *bands.shape[1:]), np.nan)
    for stage in range(len(HUMAN_STAGES)):
        for i, night in enumerate(numbers):
            epochs = bands[(nights.stages == stage) & (nights.nights == night)]
            if len(epochs) >= realism.LEAST_EPOCHS:
                medians[stage, i] = np.median(epochs, axis=0)
    return medians


def stage_levels(nights: Nights) -> np.ndarray:
    """Levels of the stages, (stages, leads, bands) dB, whose differences are those within a night.

    A night that lacks a stage, or has a weak signal, shifts the median of the nights; the
    differences between stages stay. Least squares of night + stage, by turns.
    """
    medians = night_medians(nights)
    night = np.zeros(medians.shape[1:])
    for _ in range(20):
        stage = np.nanmean(medians - night, axis=1, keepdims=True)
        night = np.nanmean(medians - stage, axis=0)
    overall = np.median(np.nanmedian(medians, axis=1) - stage[:, 0], axis=0)
    return stage[:, 0] + overall


def night_deviations(real: Nights) -> tuple[np.ndarray, np.ndarray]:
    """Deviation of each night from the median night, mean over sleep: (nights, leads, bands).

    The band of muscle is taken from wake. Also the subject of each night.
    """
    medians, numbers = night_medians(real), np.unique(real.nights)
    apart = medians - np.nanmedian(medians, axis=1, keepdims=True)
    common = np.nanmean(apart[1:], axis=0)
    common[..., GAMMA] = apart[WAKE, ..., GAMMA]
    subjects = np.array([real.subjects[real.nights == night][0] for night in numbers])
    return common, subjects


def spreads_between(real: Nights) -> tuple[np.ndarray, np.ndarray]:
    """Log spread of levels between subjects and between a subject's nights: (leads, rhythms) each.

    Few nights say little about one band, so each variance is drawn half-way to the mean of all.
    """
    common, subjects = night_deviations(real)
    of_subject = [common[subjects == s] for s in np.unique(subjects)]
    night = np.mean([np.var(d, axis=0, ddof=1) for d in of_subject if len(d) > 1], axis=0)
    means = np.var([d.mean(0) for d in of_subject], axis=0, ddof=1)
    subject = np.maximum(means - night / 2, 0.0)
    return tuple(
        with_background(DB * np.sqrt(0.5 * (v + v.mean())))  # type: ignore[return-value]
        for v in (subject, night)
    )


def quietest(real: Nights) -> np.ndarray:
    """Level at 30-50 Hz of the quietest stage and night of each lead, (2,) dB: electrodes only."""
    bands = realism.bands_only(real.levels)[..., GAMMA]
    cells = [(real.stages == s) & (real.nights == n) for s in range(1, 5) for n in set(real.nights)]
    medians = [np.median(bands[c], axis=0) for c in cells if c.sum() >= realism.LEAST_EPOCHS]
    return np.min(medians, axis=0) - 0.5


def memory_of(real: Nights) -> tuple[float, np.ndarray]:
    """Correlation of slow changes from epoch to epoch, and their share of the variance by stage."""
    bands = realism.bands_only(real.levels).reshape(len(real.levels), -1)
    lags = (3, 10)
    by_stage = np.array(
        [
            [np.nanmean(autocorrelation(real, bands, stage, lag)) for lag in lags]
            for stage in range(len(HUMAN_STAGES))
        ]
    )
    near, far = np.nanmean(by_stage, axis=0)
    memory = float(np.clip((far / near) ** (1 / (lags[1] - lags[0])), 0.8, 0.99))
    return memory, np.clip(by_stage[:, 0] / memory ** lags[0], 0.05, 0.95)


def autocorrelation(real: Nights, bands: np.ndarray, stage: int, lag: int) -> np.ndarray:
    """Correlation with the epoch `lag` later in the same stage, by band; mean over nights."""
    rows = []
    for night in np.unique(real.nights):
        of_night = real.nights == night
        x, is_stage = bands[of_night], real.stages[of_night] == stage
        both = is_stage[:-lag] & is_stage[lag:]
        if both.sum() > 30:
            x = x - x[is_stage].mean(0)
            rows.append((x[:-lag][both] * x[lag:][both]).mean(0) / (x[is_stage] ** 2).mean(0))
    return np.mean(rows, axis=0) if rows else np.full(bands.shape[1], np.nan)
