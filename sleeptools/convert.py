"""`convert`: raw files of a data set to recordings, each signal as stored and at its own rate."""

from __future__ import annotations

import math
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any

from sleeptools import batch, registry, store
from sleeptools import recording as rec
from sleeptools.datasets import Source

KIND = "sleeptools-recordings"
VERSION = 1


def convert(
    dataset: str, raw: Path, recordings: Path, progress: batch.Progress = batch.ignore
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

    Raises
    ------
    DataError
        If `raw` holds none of the data set's files; at the end, if any recording failed.
    """
    module = registry.load("datasets", dataset)
    sources: list[Source] = module.find(raw)
    manifest = store.Manifest(KIND, VERSION)
    with store.lock(recordings):
        items = [(s.id, partial(_convert_one, module, s, recordings)) for s in sources]
        outcome = batch.run(items, recordings, progress)
        if outcome.rows:
            _finish(recordings, manifest, module, outcome)
    outcome.raise_failures(recordings)
    return recordings


def _convert_one(module: ModuleType, source: Source, folder: Path) -> tuple[dict[str, Any], str]:
    path = folder / f"{source.id}.safetensors"
    done = _is_done(path, source)
    if not done:
        recording: rec.Recording = module.read(source)
        usable = {n: s for n, s in recording.signals.items() if math.isfinite(s.gain)}
        inputs = {f.name: store.fingerprint(f) for f in source.files}
        rec.write(path, replace(recording, signals=usable), inputs)
    recording = rec.read(path)
    note = str(recording.facts.get("notes", ""))
    text = f"{len(recording.signals)} signals, {recording.seconds / 3600:.1f} h"
    return _row(recording, path), f"{text}{' (as before)' if done else ''} {note}".strip()


def _is_done(path: Path, source: Source) -> bool:
    if not path.exists():
        return False
    known = store.read_tensors(path, rec.KIND, rec.VERSION).facts["inputs"]
    return set(known) == {f.name for f in source.files} and all(
        store.unchanged(f, known[f.name]) for f in source.files
    )


def _row(recording: rec.Recording, path: Path) -> dict[str, Any]:
    scoring = recording.hypnogram
    return {
        "recording": recording.id,
        "subject": recording.subject,
        "night": recording.night,
        "file": path.name,
        "start": recording.start,
        "hours": round(recording.seconds / 3600, 4),
        "signals": ", ".join(recording.signals),
        "scorer": scoring.scorer if scoring else None,
        "simulated": bool(recording.facts.get("simulated", False)),
        **(scoring.counts() if scoring else {}),
    }


def _finish(
    folder: Path, manifest: store.Manifest, module: ModuleType, outcome: batch.Outcome
) -> None:
    import polars as pl

    rows = outcome.rows
    store.write_table(folder / "index.parquet", pl.DataFrame(rows), csv=True)
    manifest.facts |= {
        "data_set": module.__name__.rsplit(".", 1)[-1].replace("_", "-"),
        "citation": module.CITATION,
        "simulated": any(r["simulated"] for r in rows),
        "recordings": [r["recording"] for r in rows],
        "subjects": len({r["subject"] for r in rows}),
        "failed": outcome.failures,
    }
    manifest.write(folder, [folder / "index.parquet", *(folder / r["file"] for r in rows)])
