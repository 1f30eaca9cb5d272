"""`convert`: raw files of a data set to recordings, each signal as stored and at its own rate."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any

from sleeptools import datasets, registry, store
from sleeptools.datasets import Source
from sleeptools.datasets.simulation import true_stages
from sleeptools.recording.recording import (
    RECORDING_KIND,
    RECORDING_VERSION,
    RECORDINGS_KIND,
    SUBJECT_FACTS,
    Recording,
    before_fact,
    past_fact,
    read_recording,
    write_recording,
)
from sleeptools.store import batch

KIND = RECORDINGS_KIND
VERSION = 1
ENDS = (before_fact(1), past_fact(1), "epochs past the labels")


def convert(
    dataset: str,
    raw: Path,
    recordings: Path,
    progress: batch.OnProgress = batch.ignore,
    *,
    allow_truncated: bool = False,
    subset: str | None = None,
    settings: Path | None = None,
    jobs: int = 1,
) -> Path:
    """Convert every recording of a data set below `raw`; what is done already is skipped.

    Parameters
    ----------
    dataset
        Name of a data set, for example "sleep-edf".
    raw
        Folder of raw files; never written to.
    recordings
        Folder to write: index.parquet, manifest.json and a file per recording.
    progress
        Told after every recording.
    allow_truncated
        Take the whole records of files that are cut short; what was taken is noted.
    subset
        Convert only a subset that the data set names, for example "20".
    settings
        What the files of the data set `edf` are called; `raw`/edf.toml if left out.
    jobs
        How many recordings at a time, each in a process.

    Raises
    ------
    DataError
        If `raw` holds none of the data set's files; at the end, if any recording failed.
    UsageError
        If the two folders are the same.
    OutputError
        If `recordings` holds recordings of other files.
    """
    module = registry.load("datasets", dataset)
    sources = datasets.find_recordings(module, raw, subset=subset, settings=settings)
    batch.refuse_mixing(raw, recordings, KIND, [s.id for s in sources])
    lacking = datasets.absent(module, raw, sources, subset)
    manifest = store.Manifest(KIND, VERSION, {"subset": subset, "absent": lacking})
    known = store.listed_hashes(recordings, KIND)
    reader = partial(module.read, allow_truncated=allow_truncated)
    read = partial(true_stages.reading, reader, raw)
    with store.lock(recordings):
        items = [(s.id, partial(_convert_one, read, s, recordings, known)) for s in sources]
        outcome = batch.run(items, recordings, progress, jobs=jobs)
        if outcome.rows:
            _finish(recordings, manifest, module, outcome)
    outcome.raise_failures(recordings)
    return recordings


def _convert_one(
    read: Callable[[Source], Recording],
    source: Source,
    folder: Path,
    known: Mapping[str, str],
) -> tuple[dict[str, Any], str]:
    path = folder / f"{source.id}.safetensors"
    done = batch.state(path, known, lambda: _is_of(path, source))
    if done != batch.DONE:
        recording = read(source)
        usable = {n: s for n, s in recording.signals.items() if math.isfinite(s.gain)}
        inputs = {name: store.fingerprint(f) for name, f in source.inputs.items()}
        write_recording(path, replace(recording, signals=usable), inputs)
    recording = read_recording(path)
    text = f"{len(recording.signals)} signals, {recording.seconds / 3600:.1f} h"
    notes = [text, done, str(recording.facts.get("notes", ""))]
    return _row(recording, path), "; ".join(n for n in notes if n)


def _is_of(path: Path, source: Source) -> bool:
    known = store.read_tensors(path, RECORDING_KIND, RECORDING_VERSION).facts["inputs"]
    return set(known) == set(source.inputs) and all(
        store.unchanged(f, known[name]) for name, f in source.inputs.items()
    )


def _row(recording: Recording, path: Path) -> dict[str, Any]:
    scoring = recording.hypnogram
    return {
        "recording": recording.id,
        "subject": recording.subject,
        "night": recording.night,
        "file": path.name,
        "start": recording.start,
        "hours": round(recording.seconds / 3600, 4),
        "signals": ", ".join(recording.signals),
        "scorer": ", ".join(h.scorer for h in recording.scorings),
        **{name: recording.facts.get(name) for name in SUBJECT_FACTS},
        "simulated": bool(recording.facts.get("simulated", False)),
        **_ends(recording),
        **(scoring.counts() if scoring else {}),
    }


def _ends(recording: Recording) -> dict[str, int]:
    """Count what the first scoring and the signals have beyond each other, in epochs."""
    scoring = recording.hypnogram
    beyond = 0.0
    if scoring is not None:
        last = scoring.onset + len(scoring) * scoring.epoch_seconds
        beyond = max(0.0, recording.seconds - last + 1e-6) // scoring.epoch_seconds
    counts = (recording.facts.get(before_fact(1), 0), recording.facts.get(past_fact(1), 0), beyond)
    return {name: int(count) for name, count in zip(ENDS, counts, strict=True)}


def _finish(
    folder: Path, manifest: store.Manifest, module: ModuleType, outcome: batch.Outcome
) -> None:
    import polars as pl

    rows = outcome.rows
    store.write_table(
        folder / "index.parquet", pl.DataFrame(rows, infer_schema_length=None), csv=True
    )
    manifest.facts |= {
        "data_set": module.__name__.rsplit(".", 1)[-1].replace("_", "-"),
        "citation": module.CITATION,
        "simulated": any(r["simulated"] for r in rows),
        "recordings": [r["recording"] for r in rows],
        "subjects": len({r["subject"] for r in rows}),
        "failed": outcome.failures,
        **{name: sum(r[name] for r in rows) for name in ENDS},
    }
    manifest.write(folder, [folder / "index.parquet", *(folder / r["file"] for r in rows)])
