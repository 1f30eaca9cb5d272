"""Simulated nights whose constants are others than those that ship: no network has learnt them.

Each night has a calibration of its own, whose levels and slope are moved as far as randomised
nights move theirs; leads and recorder are as they are. A process with torch and one with YASA make
the same nights from a number.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from sleeptools.datasets.simulation import randomisation
from sleeptools.datasets.simulation.calibration import Calibration, calibrated
from sleeptools.datasets.simulation.night import EXTRAS, SimulatedNight, simulate_night
from sleeptools.datasets.sleep_edf import CASSETTE_CHANNELS

SEED = 11  # of neither training nor test


def moved_constants(number: int) -> Calibration:
    """Move each region's rhythms by a factor, alike in all stages, and the background's slope."""
    rng = np.random.default_rng([SEED, number])
    shipped = calibrated()
    regions, _, rhythms = shipped.levels_uv.shape
    factors = np.exp(randomisation.RHYTHM * rng.standard_normal((regions, 1, rhythms)))
    slope = rng.uniform(-randomisation.SLOPE, randomisation.SLOPE)
    return replace(
        shipped,
        levels_uv=shipped.levels_uv * factors,
        background_slope=shipped.background_slope + float(slope),
    )


def moved_night(number: int, *, hours: float) -> SimulatedNight:
    """Simulate a night of moved constants, with the signals that YASA needs."""
    return simulate_night(
        number,
        1,
        hours=hours,
        seed=SEED,
        channels=(*CASSETTE_CHANNELS, *EXTRAS),
        calibration=moved_constants(number),
    )
