"""`simulate`: files shaped like a real data set's, from a physiological model of the night.

Nothing recorded from a person is in them; every file and manifest says that it is simulated.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from sleeptools import registry, store
from sleeptools.datasets import Planned
from sleeptools.datasets.simulation import mouse, night, true_stages
from sleeptools.errors import OutputError, UsageError
from sleeptools.store import batch

KIND = "sleeptools-simulated"
VERSION = 1
SETTINGS = "simulation.toml"
HOURS = (0.5, 24.0)


def simulate(
    dataset: str,
    out: Path,
    *,
    subjects: int = 4,
    nights: int = 1,
    hours: float | None = None,
    seed: int = 0,
    subset: str | None = None,
    progress: batch.OnProgress = batch.ignore,
) -> Path:
    """Write simulated raw files of a data set.

    Parameters
    ----------
    dataset
        One that has a `plan`, for example "sleep-edf".
    out
        Folder to write.
    subjects, nights
        How many subjects, and nights of each; as many as the data set has.
    hours
        Length of a recording, 0.5 to 24 h; left out, as long as the real set's.
    seed
        The same seed gives the same files.
    subset
        Which of the data set's subsets, for example "telemetry".

    Raises
    ------
    UsageError
        For a data set without a simulator, or numbers out of range.
    OutputError
        If `out` holds a simulation with other settings.
    """
    module = _module(dataset)
    if not hasattr(module, "plan"):
        known = [n for n in registry.names("datasets") if hasattr(_module(n), "plan")]
        raise UsageError(
            f"data set {dataset!r} cannot be simulated", hint=f"there are: {', '.join(known)}"
        )
    _check(hours, seed)
    planned: list[Planned] = module.plan(subjects, nights, subset)
    settings = {
        "data_set": dataset,
        "subjects": subjects,
        "nights": nights,
        "hours": hours,
        "seed": seed,
        "subset": subset,
    }
    if _is_done(out, settings):
        return out
    manifest = store.Manifest(KIND, VERSION, {"simulated": True, **settings})
    fresh = not (out / "manifest.json").exists()  # else something in it is damaged
    with store.lock(out):
        _begin(out, settings)
        items = [(p.id, partial(_one, module, p, hours, seed, out, skip=fresh)) for p in planned]
        outcome = batch.run(items, out, progress)
        manifest.write(out, [out / SETTINGS, *(p for row in outcome.rows for p in row["files"])])
    outcome.raise_failures(out)
    return out


def _module(dataset: str) -> ModuleType:
    return registry.load("datasets", dataset)


def _check(hours: float | None, seed: int) -> None:
    if hours is not None and not HOURS[0] <= hours <= HOURS[1]:
        raise UsageError(f"`hours={hours:g}`; expected {HOURS[0]:g} to {HOURS[1]:g}")
    if seed < 0:
        raise UsageError(f"`seed={seed}`; expected 0 or more")


def _is_done(out: Path, settings: dict[str, Any]) -> bool:
    """Tell whether the same simulation is there; refuse a folder that holds anything else."""
    held = [p.name for p in out.iterdir() if p.name[0] != "."] if out.is_dir() else []
    if not held:
        return False
    if SETTINGS not in held:
        raise OutputError(
            f"{out}: holds files that are not of a simulation, such as {sorted(held)[0]}",
            hint="give a folder of its own",
        )
    found = store.read_toml(out / SETTINGS)
    different = [
        f"{k}: {found.get(k)} there, {v} now" for k, v in settings.items() if found.get(k) != v
    ]
    if different:
        raise OutputError(
            f"{out}: holds another simulation ({'; '.join(different)})",
            hint="give another folder, or remove this one",
        )
    return (out / "manifest.json").exists() and not store.verify(out)


def _begin(out: Path, settings: dict[str, Any]) -> None:
    """Say what is to be made before the first file stands there."""
    known = {k: v for k, v in settings.items() if v is not None}
    store.write_toml(out / SETTINGS, {"format": KIND, "version": VERSION, **known})


def _one(
    module: ModuleType, planned: Planned, hours: float | None, seed: int, out: Path, *, skip: bool
) -> tuple[dict[str, Any], str]:
    there = [*(out / name for name in planned.files), true_stages.path(out, planned.id)]
    if skip and all(path.exists() for path in there):  # each was written whole
        return {"files": there}, "as before"
    made = _night(planned, hours or planned.hours, seed)
    recording = replace(made.recording, id=planned.id, subject=planned.subject, night=planned.night)
    paths = module.write(recording, out, made.events)
    assert made.recording.hypnogram is not None
    truth = replace(made.recording.hypnogram, stages=made.truth, reasons=np.empty(0, np.int8))
    paths = [*paths, true_stages.write(out, planned.id, truth)]
    return {"files": paths}, f"{recording.seconds / 3600:.1f} h"


def _night(planned: Planned, hours: float | None, seed: int) -> night.SimulatedNight:
    if planned.animal == "mouse":
        return mouse.simulate_night(
            planned.person,
            planned.night,
            channels=planned.channels,
            epoch_seconds=planned.epoch_seconds,
            hours=hours,
            seed=seed,
        )
    return night.simulate_night(
        planned.person,
        planned.night,
        hours=hours,
        seed=seed,
        channels=planned.channels,
        scorers=planned.scorers,
    )
