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
        raise UsageError(f"data set {dataset!r} cannot be simulated")
    _check(subjects, nights, hours, seed)
    settings = {
        "data_set": dataset, "subjects": subjects, "nights": nights, "hours": hours, "seed": seed,
    }  # fmt: skip
    if _is_done(out, settings):
        return out
    manifest = store.Manifest(KIND, VERSION, {"simulated": True, **settings})
    with store.lock(out):
        items = [
            (f"subject {s}, night {n}", partial(_one, module, s, n, hours, seed, out))
            for s in range(subjects)
            for n in range(1, nights + 1)
        ]
        outcome = batch.run(items, out, progress)
        files = [Path(p) for row in outcome.rows for p in row["files"]]
        manifest.write(out, files)
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
    if not (out / "manifest.json").exists():
        return False
    found = store.read_manifest(out, KIND, VERSION)
    different = [
        f"{k}: {found.get(k)} there, {v} now" for k, v in settings.items() if found.get(k) != v
    ]
    if different:
        raise OutputError(
            f"{out}: holds another simulation ({'; '.join(different)})",
            hint="give another folder, or remove this one",
        )
    return not store.verify(out)


def _one(
    module: ModuleType, subject: int, night: int, hours: float | None, seed: int, out: Path
) -> tuple[dict[str, Any], str]:
    made = nights_of.simulate_night(subject, night, hours=hours, seed=seed)
    facts = made.recording.facts
    sex = "Female" if facts.get("sex") == "F" else "Male"
    paths = module.write(made.recording, out, made.events, patient=f"{sex}_{facts.get('age', 0)}yr")
    return {"files": [str(p) for p in paths]}, f"{made.recording.seconds / 3600:.1f} h"
