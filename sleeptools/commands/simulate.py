"""`simulate`: raw files in the layout of a real data set, from a physiological model of the night.

They contain nothing recorded from a person; every file and manifest says that it is simulated.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any

from sleeptools import registry, store
from sleeptools.datasets import PlannedRecording
from sleeptools.datasets.simulation import true_stages
from sleeptools.datasets.simulation.night import SimulatedNight
from sleeptools.datasets.simulation.recordings import simulate_recording
from sleeptools.errors import OutputError, UsageError
from sleeptools.recording import simulators
from sleeptools.store import batch

SIMULATION_KIND = "sleeptools-simulated"
SIMULATION_VERSION = 1
SETTINGS = "simulation.toml"
HOURS = (0.5, 24.0)


def simulate(  # noqa: PLR0913 - one for each option of the command
    dataset: str,
    out: Path,
    *,
    subjects: int = 4,
    nights: int = 1,
    hours: float | None = None,
    seed: int = 0,
    subset: str | None = None,
    randomise: bool = False,
    fast: bool = False,
    jobs: int = 1,
    on_progress: batch.OnProgress = batch.ignore,
) -> Path:
    """Write simulated raw files of a data set.

    Parameters
    ----------
    dataset
        Name of a data set that can be simulated, for example "sleep-edf".
    out
        Folder to write.
    subjects, nights
        Number of subjects, and of nights of each; at most as many as the data set has.
    hours
        Length of a recording, 0.5 to 24 h; as in the real data set if left out.
    seed
        Seed of the simulation, 0 or more; the same seed gives the same files.
    subset
        One of the data set's subsets, for example "telemetry".
    randomise
        Whether to draw what is not known of a recording (gain, leads, filters, noise) anew for each
        night, for training sets; the stages are the same without it.
    fast
        Whether to simulate some epochs of each stage only, and repeat them over the night: for
        measurements of time and memory on many nights. The stages are the same without it.
    jobs
        Number of worker processes, each with one recording at a time.
    on_progress
        Called after every recording.

    Raises
    ------
    UsageError
        For a data set without a simulator, numbers out of range, or `fast` for one of mice, whose
        days take some seconds without it.
    OutputError
        If `out` holds a simulation with other settings, or other files.
    """
    module = _module(dataset)
    if not hasattr(module, "plan"):
        simulated = [n for n in registry.names("datasets") if hasattr(_module(n), "plan")]
        raise UsageError(
            f"data set {dataset!r} cannot be simulated",
            hint=f"there are: {', '.join(simulated)}",
            code="USE-NAME",
        )
    _check_numbers(hours, seed)
    planned: list[PlannedRecording] = module.plan(subjects, nights, subset)
    if fast and any(p.animal == "mouse" for p in planned):
        raise UsageError(
            f"`fast=true`: {dataset} is of mice, which are simulated fast as they are",
            code="USE-TOGETHER",
        )
    settings = {
        "simulator": simulators.SIMULATOR,
        "data_set": dataset,
        "subjects": subjects,
        "nights": nights,
        "hours": hours,
        "seed": seed,
        "subset": subset,
        "randomise": randomise,
        "fast": fast,
    }
    manifest = store.Manifest(SIMULATION_KIND, SIMULATION_VERSION, {"simulated": True, **settings})
    with store.lock(out, "*"):
        if _is_done(out, settings):
            return out
        fresh = not (out / "manifest.json").exists()  # else something in it is damaged
        _write_settings(out, settings)
        simulate_it = partial(
            simulate_recording, hours=hours, seed=seed, randomise=randomise, fast=fast
        )
        items = [
            (p.id, partial(_simulate_one, dataset, p, simulate_it, out, skip=fresh))
            for p in planned
        ]
        outcome = batch.run(items, out, on_progress, jobs=jobs)
        manifest.write(out, [out / SETTINGS, *(p for row in outcome.rows for p in row["files"])])
    outcome.raise_failures(out)
    return out


def _module(dataset: str) -> ModuleType:
    return registry.load("datasets", dataset)


def _check_numbers(hours: float | None, seed: int) -> None:
    if hours is not None and not HOURS[0] <= hours <= HOURS[1]:
        raise UsageError(f"`hours={hours:g}`; expected {HOURS[0]:g} to {HOURS[1]:g}")
    if seed < 0:
        raise UsageError(f"`seed={seed}`; expected 0 or more")


def _is_done(out: Path, settings: dict[str, Any]) -> bool:
    """Return whether the same simulation is finished; refuse a folder that holds anything else."""
    names = [p.name for p in out.iterdir() if p.name[0] != "."] if out.is_dir() else []
    if not names:
        return False
    if SETTINGS not in names:
        raise OutputError(
            f"{out}: holds files that are not of a simulation, such as {sorted(names)[0]}",
            hint="give a folder of its own",
            code="OUT-OURS",
        )
    defaults = {"simulator": 1, "randomise": False, "fast": False}  # versions that did not say so
    there = defaults | store.read_toml(out / SETTINGS)
    different = [
        f"{k}: {there.get(k)} there, {v} now" for k, v in settings.items() if there.get(k) != v
    ]
    if different:
        raise OutputError(
            f"{out}: holds another simulation ({'; '.join(different)})",
            hint="give another folder, or remove this one",
            code="OUT-SETTINGS",
        )
    return (out / "manifest.json").exists() and not store.verify(out)


def _write_settings(out: Path, settings: dict[str, Any]) -> None:
    """Write the settings before the first file."""
    given_settings = {k: v for k, v in settings.items() if v is not None}
    store.write_toml(
        out / SETTINGS, {"format": SIMULATION_KIND, "version": SIMULATION_VERSION, **given_settings}
    )


def _simulate_one(
    dataset: str,
    planned: PlannedRecording,
    simulate_it: Callable[[PlannedRecording], SimulatedNight],
    out: Path,
    *,
    skip: bool,
) -> tuple[dict[str, Any], str]:
    expected = [*(out / name for name in planned.files), true_stages.path_of(out, planned.id)]
    if skip and all(path.exists() for path in expected):  # no file exists in part
        return {"files": expected}, "as before"
    simulated = simulate_it(planned)
    paths = [
        *_module(dataset).write(simulated.recording, out, simulated.events),
        true_stages.write(out, planned.id, simulated.true_hypnogram()),
    ]
    return {"files": paths}, f"{simulated.recording.seconds / 3600:.1f} h"
