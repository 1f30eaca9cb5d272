"""Calibrated constants of simulated human nights: levels and spreads of the EEG, in `human.toml`.

benches/calibrate_simulator.py fits them to spectra of real Sleep-Cassette nights, of Fpz-Cz (here
frontal) and Pz-Oz (posterior), and writes the file; `realism` holds what they were fitted to.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Final

import numpy as np

from sleeptools import store
from sleeptools.datasets.simulation.waves import Floats

FILE: Final = Path(__file__).with_name("human.toml")

REGIONS: Final = ("frontal", "posterior")
CODES: Final = ("wake", "stage 1", "stage 2", "stage 3", "stage 4", "REM")
RHYTHMS: Final = ("background", "delta", "theta", "alpha", "beta", "muscle", "drift")
"""What the EEG is made of: `muscle` is of the scalp and the face, `drift` lies below 0.5 Hz."""


@dataclass(frozen=True)
class Calibration:
    """Levels and spreads of the EEG's rhythms.

    Parameters
    ----------
    levels_uv
        (regions, codes, rhythms) root mean square, uV; of wake, with closed eyes.
    noise_uv
        (regions,) root mean square of the electrodes' white noise, uV.
    background_slope
        Exponent of the background's power spectrum, f to the power of -slope.
    subject_spread, night_spread
        (regions, rhythms) standard deviation of the logarithm of a level between subjects, and
        between nights of one subject.
    epoch_spread
        (regions, codes, rhythms) the same from epoch to epoch.
    slow_share
        (codes,) share of the variance between epochs that changes slowly.
    slow_memory
        Correlation of the slow changes from one epoch to the next.
    """

    levels_uv: Floats
    noise_uv: Floats
    background_slope: float
    subject_spread: Floats
    night_spread: Floats
    epoch_spread: Floats
    slow_share: Floats
    slow_memory: float

    @classmethod
    def from_table(cls, table: Mapping[str, Any]) -> Calibration:
        """Read the content of a file such as `human.toml`."""
        regions = [table[name] for name in REGIONS]

        def by_code(key: str) -> Floats:
            return np.array([[region[key][code] for code in CODES] for region in regions], float)

        return cls(
            levels_uv=by_code("levels_uv"),
            noise_uv=np.array([region["noise_uv"] for region in regions], float),
            background_slope=float(table["background_slope"]),
            subject_spread=np.array([region["subject_spread"] for region in regions], float),
            night_spread=np.array([region["night_spread"] for region in regions], float),
            epoch_spread=by_code("epoch_spread"),
            slow_share=np.array([table["slow_share"][code] for code in CODES], float),
            slow_memory=float(table["slow_memory"]),
        )

    def table(self) -> dict[str, Any]:
        """Return the content of a file, to be read by `from_table`."""

        def rounded(values: Floats) -> list[float]:
            return [round(value, 3) for value in values.tolist()]

        def by_code(values: Floats) -> dict[str, list[float]]:
            return {code: rounded(row) for code, row in zip(CODES, values, strict=True)}

        regions = {
            name: {
                "noise_uv": round(float(self.noise_uv[i]), 3),
                "subject_spread": rounded(self.subject_spread[i]),
                "night_spread": rounded(self.night_spread[i]),
                "levels_uv": by_code(self.levels_uv[i]),
                "epoch_spread": by_code(self.epoch_spread[i]),
            }
            for i, name in enumerate(REGIONS)
        }
        return {
            "rhythms": list(RHYTHMS),
            "background_slope": round(self.background_slope, 3),
            "slow_memory": round(self.slow_memory, 3),
            "slow_share": dict(zip(CODES, rounded(self.slow_share), strict=True)),
            **regions,
        }


@cache
def calibrated() -> Calibration:
    """Return the constants that ship with the package."""
    return Calibration.from_table(store.read_toml(FILE))
