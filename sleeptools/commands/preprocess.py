"""`preprocess`: recordings to epochs, by a preset: montage, rate, and which epochs are kept.

The order of dropping and trimming decides how many wake epochs a data set has, and with them every
published figure; both orders in use are here, and what each dropped is counted.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from sleeptools import datasets, registry, store
from sleeptools.datasets.simulation import true_stages
from sleeptools.errors import DataError, OutputError
from sleeptools.preprocessing import epoching, presets
from sleeptools.preprocessing.epochs import (
    EPOCHS_KIND,
    EPOCHS_VERSION,
    EpochFile,
    read_epoch_file,
    write_epoch_file,
)
from sleeptools.preprocessing.trimming import select_epochs
from sleeptools.recording import montage
from sleeptools.recording.hypnogram import Hypnogram
from sleeptools.recording.recording import (
    RECORDINGS_KIND,
    SUBJECT_FACTS,
    Recording,
    before_fact,
    past_fact,
    read_recording,
)
from sleeptools.store import batch


def preprocess(
    preset: presets.Preset,
    recordings: Path,
    out: Path,
    progress: batch.OnProgress = batch.ignore,
    *,
    subset: str | None = None,
    jobs: int = 1,
) -> Path:
    """Make epochs of every recording; what is done already is skipped.

    Parameters
    ----------
    preset
        See `presets.load`.
    recordings
        A folder that `convert` wrote, or the data set's raw folder, converted on the fly.
    out
        Folder to write: epochs.toml, index.parquet, manifest.json and a file per recording.
    progress
        Told after every recording.
    subset
        Take only a subset that the preset's data set names, for example "20".
    jobs
        How many recordings at a time, each in a process.

    Raises
    ------
    DataError
        If there are no recordings, or at the end, if any failed.
    OutputError
        If `out` holds epochs of another preset.
    """
    store.need(recordings, "folder")
    readers, lost = _readers(preset, recordings, subset)
    _refuse_other(preset, out)
    batch.refuse_mixing(recordings, out, EPOCHS_KIND, readers)
    manifest = store.Manifest(EPOCHS_KIND, EPOCHS_VERSION, {"subset": subset})
    known = store.listed_hashes(out, EPOCHS_KIND)
    with store.lock(out):
        items = [
            (n, partial(_one, preset, r, out / f"{n}.safetensors", known))
            for n, r in readers.items()
        ]
        outcome = batch.run(items, out, progress, jobs=jobs)
        if outcome.rows:
            _finish(preset, out, manifest, outcome, lost)
    outcome.raise_failures(out)
    return out


def _refuse_other(preset: presets.Preset, out: Path) -> None:
    path = out / "epochs.toml"
    if not path.exists():
        return
    there = presets.resolve(store.read_toml(path), where=str(path))
    found, wanted = there.model_dump(mode="json"), preset.model_dump(mode="json")
    differences = [
        f"{k}: {found.get(k)} there, {v} now" for k, v in wanted.items() if found.get(k) != v
    ]
    if differences:
        raise OutputError(
            f"{out}: holds epochs of another preset ({'; '.join(differences)})",
            hint="give another folder, or remove this one",
        )


Reader = tuple[Mapping[str, Path], Callable[[], Recording]]
"""The files a recording is made from, by name, and how to read it."""


def _readers(
    preset: presets.Preset, folder: Path, subset: str | None
) -> tuple[dict[str, Reader], dict[str, str]]:
    """Find the recordings, and those that were lost on the way here."""
    module = registry.load("datasets", preset.data_set)
    if (folder / "index.parquet").exists():
        facts = store.read_manifest(folder, RECORDINGS_KIND)
        names = [n for n in facts["recordings"] if datasets.in_subset(module, n, subset)]
        if not names:
            raise DataError(f"{folder}: holds no recordings of the subset {subset!r}")
        paths = {name: folder / f"{name}.safetensors" for name in names}
        lost = {n: w for n, w in facts["failed"].items() if datasets.in_subset(module, n, subset)}
        return {n: ({p.name: p}, partial(read_recording, p)) for n, p in paths.items()}, lost
    if any(folder.glob("*.safetensors")):
        raise DataError(
            f"{folder}: holds recordings but no index",
            hint="'sleeptools convert' was interrupted: run it again",
        )
    sources = datasets.find_recordings(module, folder, subset=subset)
    read = partial(true_stages.reading, module.read, folder)
    return {s.id: (s.inputs, partial(read, s)) for s in sources}, {}


def _one(
    preset: presets.Preset, reader: Reader, path: Path, known: Mapping[str, str]
) -> tuple[dict[str, Any], str]:
    files, read = reader
    stats = {name: file.stat() for name, file in files.items()}
    inputs = {name: [s.st_size, s.st_mtime_ns] for name, s in stats.items()}
    made_by: dict[str, Any] = {"inputs": inputs, "preset": preset.model_dump(mode="json")}
    done = batch.state(path, known, lambda: _made_by(path) == made_by)
    if done != batch.DONE:
        _write_epochs(preset, read(), path, made_by)
    row = _row(read_epoch_file(path), preset)
    dropped = ", ".join(f"{n} {k}" for k, n in row["excluded"].items() if n)
    texts = [
        f"{row['epochs']} epochs kept",
        f"dropped: {dropped}" if dropped else "",
        done,
        f"warning: {row['warnings']}" if row["warnings"] else "",
    ]
    return row, "; ".join(t for t in texts if t)


def _made_by(path: Path) -> dict[str, Any]:
    """Read what a file was made by; what an older version did not write has its default."""
    found: dict[str, Any] = read_epoch_file(path).facts["made_by"]
    preset = presets.resolve(found["preset"], where=str(path))
    return found | {"preset": preset.model_dump(mode="json")}


def _write_epochs(
    preset: presets.Preset, recording: Recording, path: Path, made_by: dict[str, Any]
) -> None:
    truth, others = _scorings(preset, recording)
    chosen = montage.pick(recording, preset.montage, preset.assume_unit)
    seconds = epoching.scorable_seconds(preset, chosen)
    scoring = truth.clipped(seconds)
    past = int(recording.facts.get(past_fact(preset.scorer), 0)) + len(truth) - len(scoring)
    scoring = scoring.padded(seconds)
    kept, excluded = select_epochs(scoring, preset.trim, past)
    excluded["before the signals"] = int(recording.facts.get(before_fact(preset.scorer), 0))
    excluded["past the signals"] = past
    if len(kept) == 0:
        raise DataError(f"{recording.id}: no scored epochs")
    onset = np.asarray(scoring.onset + kept * preset.epoch_seconds, np.float64)
    values, warnings = epoching.cut_epochs(preset, recording.id, chosen, onset, path.parent)
    write_epoch_file(
        path,
        signals=values,
        stages=scoring.stages[kept],
        onset=onset,
        hypnogram=scoring.stages,
        others={number: other.stages_at(onset) for number, other in others.items()},
        facts={
            "recording": recording.id,
            "subject": recording.subject,
            "night": recording.night,
            "hypnogram_onset": scoring.onset,
            "scorer": scoring.scorer,
            "excluded": excluded,
            "others": {number: other.scorer for number, other in others.items()},
            "simulated": bool(recording.facts.get("simulated", False)),
            "made_by": made_by,
            **{k: recording.facts.get(k) for k in SUBJECT_FACTS},
            "channels": {c.name: str(montage.match(recording, c)) for c in preset.montage},
            "warnings": warnings,
        },
    )


def _scorings(
    preset: presets.Preset, recording: Recording
) -> tuple[Hypnogram, dict[int, Hypnogram]]:
    """Take the scorer who is the truth, and the others by number."""
    found = dict(enumerate(recording.scorings, start=1))
    if preset.scorer not in found:
        raise DataError(
            f"{recording.id}: has no hypnogram of scorer {preset.scorer}",
            hint=f"scorers: {', '.join(map(str, found)) or 'none'}",
        )
    for scoring in found.values():
        if scoring.names != preset.stages or scoring.epoch_seconds != preset.epoch_seconds:
            raise DataError(
                f"{recording.id}: scored in {', '.join(scoring.names)} per "
                f"{scoring.epoch_seconds:g} s; the preset wants {', '.join(preset.stages)} per "
                f"{preset.epoch_seconds:g} s"
            )
    return found.pop(preset.scorer), found


def _row(file: EpochFile, preset: presets.Preset) -> dict[str, Any]:
    per_stage = np.bincount(file.stages, minlength=len(preset.stages))
    return {
        "recording": file.recording,
        "subject": file.subject,
        "night": file.night,
        "epochs": len(file),
        "simulated": bool(file.facts["simulated"]),
        "scorer": file.facts["scorer"],
        **{k: file.facts[k] for k in SUBJECT_FACTS},
        "excluded": file.facts["excluded"],
        "warnings": "; ".join(file.facts.get("warnings", [])),
        **{name: int(n) for name, n in zip(preset.stages, per_stage, strict=True)},
    }


def _finish(
    preset: presets.Preset,
    out: Path,
    manifest: store.Manifest,
    outcome: batch.Outcome,
    lost: Mapping[str, str],
) -> None:
    import polars as pl

    rows = outcome.rows
    excluded: Counter[str] = Counter()
    for row in rows:
        excluded.update(row["excluded"])
    settings = preset.model_dump(mode="json")
    store.write_toml(out / "epochs.toml", {"format": EPOCHS_KIND, "version": 1} | settings)
    flat = [{**{k: v for k, v in r.items() if k != "excluded"}, **r["excluded"]} for r in rows]
    store.write_table(out / "index.parquet", pl.DataFrame(flat, infer_schema_length=None), csv=True)
    manifest.facts |= {
        "preset": settings,
        "montage": preset.labels,
        "sample_rate": preset.sample_rate,
        "epoch_seconds": preset.epoch_seconds,
        "stages": preset.stages,
        "recordings": [r["recording"] for r in rows],
        "subjects": sorted({r["subject"] for r in rows}),
        "epochs": sum(r["epochs"] for r in rows),
        "counts": {name: sum(r[name] for r in rows) for name in preset.stages},
        "excluded": dict(excluded),
        "simulated": any(r["simulated"] for r in rows),
        "failed": {**lost, **outcome.failures},
        "warnings": {r["recording"]: r["warnings"] for r in rows if r["warnings"]},
    }
    names = [f"{r['recording']}.safetensors" for r in rows]
    manifest.write(out, [out / n for n in ("epochs.toml", "index.parquet", *names)])
