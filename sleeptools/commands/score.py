"""`score`: new recordings through a trained model, to hypnograms and hypnodensities.

What was done to the signals that the model was trained on stands in its folder, and is done to
these. A recording is scored from its first sample on, whether or not it has a hypnogram.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from sleeptools import formats, store
from sleeptools.errors import DataError, OutputError, UsageError
from sleeptools.inference.engine import Engine
from sleeptools.inference.recordings import hypnodensity, hypnogram_from
from sleeptools.native import Floats, Precision
from sleeptools.preprocessing import presets
from sleeptools.recording import montage
from sleeptools.recording.hypnogram import Hypnogram
from sleeptools.recording.recording import read_recording
from sleeptools.store import batch

KIND = "sleeptools-scores"
VERSION = 1
HYPNOGRAM, DENSITY = "-hypnogram.edf", "-hypnodensity.parquet"


def score(
    model: Path,
    sources: Sequence[Path],
    out: Path,
    progress: batch.Progress = batch.ignore,
    *,
    assume_unit: str | None = None,
    precision: Precision = "fp32",
    threads: int | None = None,
) -> Path:
    """Score recordings; those that are done already are skipped.

    Parameters
    ----------
    model
        A model folder: a fold's, or `final`.
    sources
        Recordings of any known format, each of a name of its own.
    out
        Folder to write: for each recording NAME-hypnogram.edf (EDF+) and
        NAME-hypnodensity.parquet, and manifest.json.
    progress
        Told after every recording.
    assume_unit
        Unit of voltages whose file names none; the preset's if left out.
    precision, threads
        As `Engine.load` takes them.

    Raises
    ------
    DataError
        If the model does not say how its signals were made; at the end, if any recording failed.
    UsageError
        If two recordings have one name.
    OutputError
        If `out` holds other files, or what another model scored.
    """
    names = [p.stem for p in sources]
    if twice := [name for name, count in Counter(names).items() if count > 1]:
        raise UsageError(f"two recordings are named {twice[0]}: their scores would have one name")
    engine = Engine.load(model, precision=precision, threads=threads)
    preset = presets.changed(_preset(engine.facts, model), assume_unit=assume_unit)
    manifest = store.Manifest(KIND, VERSION, _made_by(engine, model, preset))
    there = _there(out, manifest.facts["made_by"])
    with store.lock(out):
        manifest.facts["recordings"] = there
        _write(manifest, out)  # what an interrupted command leaves is known as ours
        items = [
            (path.stem, partial(_one, engine, preset, path, out, there.get(path.stem)))
            for path in sources
        ]
        outcome = batch.run(items, out, progress)
        manifest.facts["recordings"] = there | {r["recording"]: r for r in outcome.rows}
        manifest.facts["failed"] = outcome.failures
        _write(manifest, out)
    outcome.raise_failures(out)
    return out


def _preset(facts: Mapping[str, Any], model: Path) -> presets.Preset:
    found = facts["preprocessing"].get("preset")
    if not isinstance(found, dict):
        raise DataError(f"{model}: does not say how its signals were preprocessed")
    return presets.resolve(found, where=str(model / "config.json"))


def _made_by(engine: Engine, model: Path, preset: presets.Preset) -> dict[str, Any]:
    """Describe what scores; what changes a score stands in `made_by`."""
    files = {name: store.sha256(model / name) for name in ("config.json", "model.safetensors")}
    settings = preset.model_dump(mode="json")
    return {
        "model": engine.facts["model"],
        "stages": list(engine.stages),
        "epoch_seconds": preset.epoch_seconds,
        "how": engine.backend,
        "threads": engine.threads,
        "made_by": {"model": files, "preset": settings, "precision": engine.precision},
    }


def _there(out: Path, made_by: Mapping[str, Any]) -> dict[str, Any]:
    """Rows of what was scored before, by the same model, and is whole."""
    if not out.exists() or not any(out.iterdir()):
        return {}
    if not (out / "manifest.json").exists():
        raise OutputError(f"{out}: holds other files", hint="give a new folder")
    facts = store.read_manifest(out, KIND, VERSION)
    if facts.get("made_by") != made_by:
        raise OutputError(
            f"{out}: holds what another model, preset or precision scored",
            hint="give another folder, or remove this one",
        )
    rows: dict[str, Any] = facts["recordings"]
    return {n: r for n, r in rows.items() if _is_whole(out, n, facts["files"])}


def _is_whole(out: Path, name: str, known: Mapping[str, str]) -> bool:
    paths = (out / (name + HYPNOGRAM), out / (name + DENSITY))
    return all(p.exists() and store.sha256(p) == known.get(p.name) for p in paths)


def _write(manifest: store.Manifest, out: Path) -> None:
    names = [n + end for n in manifest.facts["recordings"] for end in (HYPNOGRAM, DENSITY)]
    manifest.write(out, [out / name for name in names])


def _one(
    engine: Engine, preset: presets.Preset, path: Path, out: Path, before: Mapping[str, Any] | None
) -> tuple[dict[str, Any], str]:
    """Score one recording; what is done of the same file is taken as it is."""
    stat = store.need(path, "recording").stat()
    fingerprint = [stat.st_size, stat.st_mtime_ns]
    if before and before["input"] == fingerprint:
        return dict(before), batch.DONE
    recording = read_recording(path) if path.suffix == ".safetensors" else formats.read(path)
    density, warnings = hypnodensity(engine, preset, recording, out)
    hypnogram = hypnogram_from(engine, recording, density)
    formats.write_hypnogram(hypnogram, out / (path.stem + HYPNOGRAM), to="edf")
    _write_density(path.stem, density, hypnogram, out / (path.stem + DENSITY))
    counts = {name: n for name, n in hypnogram.counts().items() if n}
    row = {
        "recording": path.stem,
        "input": fingerprint,
        "epochs": len(density),
        "counts": counts,
        "warnings": warnings,
        "simulated": hypnogram.scorer == "simulated",
        "channels": {c.name: str(montage.match(recording, c)) for c in preset.montage},
    }
    shown = ", ".join(f"{name} {n}" for name, n in counts.items())
    doubts = "".join(f"; warning: {w}" for w in warnings)
    return row, f"{len(density)} epochs: {shown}{doubts}"


def _write_density(name: str, density: Floats, hypnogram: Hypnogram, path: Path) -> None:
    import polars as pl

    number = np.arange(len(density), dtype=np.int32)
    columns: dict[str, Any] = {
        "recording": [name] * len(density),
        "epoch": number,
        "onset": number * hypnogram.epoch_seconds,
        "predicted": hypnogram.stages,
    }
    columns |= {f"p_{stage}": density[:, i] for i, stage in enumerate(hypnogram.names)}
    store.write_table(path, pl.DataFrame(columns))
