"""Simulating the recordings that a data set's module plans, of humans and of mice."""

from __future__ import annotations

from dataclasses import replace

from sleeptools.datasets import PlannedRecording
from sleeptools.datasets.simulation import mouse, night
from sleeptools.datasets.simulation.night import SimulatedNight


def simulate_recording(
    planned: PlannedRecording,
    *,
    hours: float | None = None,
    seed: int = 0,
    randomise: bool = False,
    fast: bool = False,
) -> SimulatedNight:
    """Simulate a planned recording, with the plan's id, subject and night.

    Parameters
    ----------
    planned
        From a data set's `plan`.
    hours
        Length of the recording, h; the planned length if left out.
    seed
        Seed of the whole simulated data set, 0 or more.
    randomise
        Whether to draw what is not known of a recording, for training sets (`randomisation`).
    fast
        Whether to repeat few epochs of each stage over the night; of humans only.
    """
    if planned.animal == "mouse":
        simulated = mouse.simulate_night(
            planned.person,
            planned.night,
            channels=planned.channels,
            epoch_seconds=planned.epoch_seconds,
            hours=hours or planned.hours,
            seed=seed,
            randomise=randomise,
        )
    else:
        simulated = night.simulate_night(
            planned.person,
            planned.night,
            hours=hours or planned.hours,
            seed=seed,
            randomise=randomise,
            fast=fast,
            channels=planned.channels,
            scorers=planned.scorers,
        )
    recording = replace(
        simulated.recording, id=planned.id, subject=planned.subject, night=planned.night
    )
    return replace(simulated, recording=recording)
