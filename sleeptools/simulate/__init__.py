"""`simulate`: files shaped like a real data set's, from a physiological model of the night.

Nothing recorded from a person is in them; every file and manifest says that it is simulated.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any

from sleeptools import batch, registry, store
from sleeptools.errors import OutputError, UsageError
from sleeptools.simulate import night as nights_of

KIND = "sleeptools-simulated"
VERSION = 1
SETTINGS = "simulation.toml"
MOST_SUBJECTS = 100  # two digits of a Sleep-EDF file name
MOST_NIGHTS = 2
HOURS = (0.5, 24.0)


def simulate(
    dataset: str,
    out: Path,
    *,
    subjects: int = 4,
    nights: int = 1,
    hours: float | None = None,
    seed: int = 0,
    progress: batch.Progress = batch.ignore,
) -> Path:
    """Write simulated raw files of a data set.

    Parameters
    ----------
    dataset
        "sleep-edf".
    out
        Folder to write.
    subjects
        How many, 1 to 100.
    nights
        Of each subject, 1 or 2.
    hours
        Length of a recording, 0.5 to 24 h; left out, whole ones of about 22 h with a day of wake
        around the night, as the real set's.
    seed
        The same seed gives the same files.

    Raises
    ------
    UsageError
        For a data set without a simulator, or numbers out of range.
    OutputError
        If `out` holds a simulation with other settings.
    """
    module = registry.load("datasets", dataset)
    if not hasattr(module, "write"):
        raise UsageError(
            f"data set {dataset!r} cannot be simulated", hint="sleep-edf can be simulated"
        )
    _check(subjects, nights, hours, seed)
    settings = {
        "data_set": dataset, "subjects": subjects, "nights": nights, "hours": hours, "seed": seed,
    }  # fmt: skip
    names = [f"SC4{s:02d}{n}" for s in range(subjects) for n in range(1, nights + 1)]
    if _is_done(out, settings):
        return out
    manifest = store.Manifest(KIND, VERSION, {"simulated": True, **settings})
    fresh = not (out / "manifest.json").exists()  # else something in it is damaged
    with store.lock(out):
        _begin(out, settings)
        items = [
            (name, partial(_one, module, name, hours, seed, out, skip=fresh)) for name in names
        ]
        outcome = batch.run(items, out, progress)
        manifest.write(out, [out / SETTINGS, *(p for row in outcome.rows for p in row["files"])])
    outcome.raise_failures(out)
    return out


def _check(subjects: int, nights: int, hours: float | None, seed: int) -> None:
    if not 1 <= subjects <= MOST_SUBJECTS:
        raise UsageError(f"--subjects is {subjects}; expected 1 to {MOST_SUBJECTS}")
    if not 1 <= nights <= MOST_NIGHTS:
        raise UsageError(f"--nights is {nights}; expected 1 or {MOST_NIGHTS}")
    if hours is not None and not HOURS[0] <= hours <= HOURS[1]:
        raise UsageError(f"--hours is {hours:g}; expected {HOURS[0]:g} to {HOURS[1]:g}")
    if seed < 0:
        raise UsageError(f"--seed is {seed}; expected 0 or more")


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
    module: ModuleType, name: str, hours: float | None, seed: int, out: Path, *, skip: bool
) -> tuple[dict[str, Any], str]:
    there = sorted(out.glob(f"{name}*"))
    if skip and len(there) == 2:  # noqa: PLR2004 - signals and hypnogram, each written whole
        return {"files": there}, "as before"
    made = nights_of.simulate_night(int(name[3:5]), int(name[5]), hours=hours, seed=seed)
    facts = made.recording.facts
    sex = "Female" if facts.get("sex") == "F" else "Male"
    paths = module.write(made.recording, out, made.events, patient=f"{sex}_{facts.get('age', 0)}yr")
    return {"files": paths}, f"{made.recording.seconds / 3600:.1f} h"
