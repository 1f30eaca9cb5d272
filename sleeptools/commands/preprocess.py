"""`preprocess`: recordings to epochs, by a preset: montage, rate, and which epochs are kept.

The work on one recording is `preprocessing.recording_epochs`; here are the folder and its batch.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from sleeptools import datasets, registry, store
from sleeptools.datasets.simulation import true_stages
from sleeptools.errors import DataError, OutputError, UsageError
from sleeptools.preprocessing import presets
from sleeptools.preprocessing.epochs import EPOCHS_KIND, EPOCHS_VERSION, read_epoch_file
from sleeptools.preprocessing.recording_epochs import (
    index_row,
    read_made_by,
    write_recording_epochs,
)
from sleeptools.recording import simulators
from sleeptools.recording.recording import (
    IGNORED,
    RECORDINGS_KIND,
    Recording,
    check_ignored,
    read_recording,
)
from sleeptools.store import batch


def preprocess(
    preset: presets.Preset,
    recordings: Path,
    out: Path,
    on_progress: batch.OnProgress = batch.ignore,
    *,
    subset: str | None = None,
    ignore_unmatched: bool = False,
    ignore_channels: Sequence[str] = (),
    jobs: int = 1,
) -> Path:
    """Make epochs of every recording of a folder; finished recordings are skipped.

    Parameters
    ----------
    preset
        Montage, sample rate, steps and trimming rule; see `presets.load`.
    recordings
        A folder that `convert` wrote, or the data set's raw folder, converted on the fly.
    out
        Folder to write: epochs.toml, index.parquet, manifest.json and a file per recording.
    on_progress
        Called after every recording.
    subset
        Only the recordings of a subset that the data set names, for example "20"; None for all.
    ignore_unmatched
        Pass over files beside raw recordings that end like data and belong to none of them.
    ignore_channels
        Labels of signals to leave out of raw recordings; listed in the manifest.
    jobs
        Number of worker processes, each with one recording at a time.

    Raises
    ------
    DataError
        If there are no recordings, or, after all others are done, if any recording failed, or none
        has a signal to be left out.
    UsageError
        For `ignore_channels` of recordings that were converted before.
    OutputError
        If `out` is the input, or holds other files or epochs of another preset.
    """
    store.need(recordings, "folder")
    readers, failed = _readers(
        preset,
        recordings,
        subset,
        ignore_unmatched=ignore_unmatched,
        ignore_channels=ignore_channels,
    )
    manifest = store.Manifest(EPOCHS_KIND, EPOCHS_VERSION, {"subset": subset})
    batch.refuse_input(recordings, out)
    with store.lock(out):
        batch.refuse_mixing(recordings, out, EPOCHS_KIND, readers)
        _refuse_other_preset(preset, out)
        hashes = store.listed_hashes(out, EPOCHS_KIND)
        items = [
            (
                n,
                partial(
                    _preprocess_one, preset, r, out / f"{n}.safetensors", hashes, ignore_channels
                ),
            )
            for n, r in readers.items()
        ]
        outcome = batch.run(items, out, on_progress, jobs=jobs)
        if outcome.rows:
            _write_index(preset, out, manifest, outcome, failed)
    outcome.raise_failures(out)
    check_ignored(ignore_channels, (n for r in outcome.rows for n in r[IGNORED]))
    return out


def _refuse_other_preset(preset: presets.Preset, out: Path) -> None:
    path = out / "epochs.toml"
    if not path.exists():
        return
    stored_preset = presets.resolve(store.read_toml(path), source=str(path))
    stored, settings = stored_preset.model_dump(mode="json"), preset.model_dump(mode="json")
    differences = [
        f"{k}: {stored.get(k)} there, {v} now" for k, v in settings.items() if stored.get(k) != v
    ]
    if differences:
        raise OutputError(
            f"{out}: holds epochs of another preset ({'; '.join(differences)})",
            hint="give another folder, or remove this one",
            code="OUT-SETTINGS",
        )


Reader = tuple[Mapping[str, Path], Callable[[], Recording]]
"""The files a recording is made from, by name, and how to read it."""


def _readers(
    preset: presets.Preset,
    folder: Path,
    subset: str | None,
    *,
    ignore_unmatched: bool,
    ignore_channels: Sequence[str],
) -> tuple[dict[str, Reader], dict[str, batch.FailureFacts]]:
    """Find the recordings, and why others of the folder could not be converted."""
    module = registry.load("datasets", preset.data_set)
    if (folder / "index.parquet").exists():
        if ignore_channels:
            raise UsageError(
                f"{folder}: holds recordings; `ignore_channels={ignore_channels[0]}` is for raw "
                "files",
                hint=f"'sleeptools convert' takes it; {preset.name} uses its own channels only",
            )
        facts = store.read_manifest(folder, RECORDINGS_KIND)
        names = [n for n in facts["recordings"] if datasets.in_subset(module, n, subset)]
        if not names:
            raise DataError(
                f"{folder}: holds no recordings of the subset {subset!r}", code="SET-SUBSET"
            )
        paths = {name: folder / f"{name}.safetensors" for name in names}
        failed = {
            n: batch.listed_failure(e)
            for n, e in facts["failed"].items()
            if datasets.in_subset(module, n, subset)
        }
        sums = facts.get("files", {})
        return {
            n: ({p.name: p}, partial(_read_listed, p, sums.get(p.name))) for n, p in paths.items()
        }, failed
    if any(folder.glob("*.safetensors")):
        raise DataError(
            f"{folder}: holds recordings but no index",
            hint="'sleeptools convert' was interrupted: run it again",
            code="MAN-MISSING",
        )
    sources = datasets.find_recordings(
        module,
        folder,
        subset=subset,
        ignore_unmatched=ignore_unmatched,
        ignore_channels=ignore_channels,
    )
    read = partial(true_stages.read_recording, module.read, folder)
    return {store.check_id(s.id, folder): (s.inputs, partial(read, s)) for s in sources}, {}


def _read_listed(path: Path, expected: str | None) -> Recording:
    """Read a recording, after its file was compared with the folder's manifest."""
    store.check_hash(path, expected)
    return read_recording(path)


def _preprocess_one(
    preset: presets.Preset,
    reader: Reader,
    path: Path,
    hashes: Mapping[str, str],
    ignore_channels: Sequence[str],
) -> tuple[dict[str, Any], str]:
    files, read = reader
    inputs = {name: store.fingerprint(file) for name, file in files.items()}
    made_by: dict[str, Any] = {"inputs": inputs, "preset": preset.model_dump(mode="json")}
    if ignore_channels:
        made_by["ignore_channels"] = [*ignore_channels]
    state = batch.state(path, hashes, lambda: read_made_by(path) == made_by)
    if state != batch.DONE:
        write_recording_epochs(preset, read(), path, made_by)
    file = read_epoch_file(path)
    row = index_row(file, preset)
    dropped = ", ".join(f"{n} {k}" for k, n in row["excluded"].items() if n)
    texts = [
        f"{row['epochs']} epochs kept",
        file.facts.get("spans", ""),
        f"dropped: {dropped}" if dropped else "",
        state,
        f"warning: {row['warnings']}" if row["warnings"] else "",
        f"signal quality: {row['quality']}" if row["quality"] else "",
    ]
    row["channel_quality"] = file.facts.get("quality", {})
    row[IGNORED] = file.facts.get(IGNORED, [])
    return row, "; ".join(t for t in texts if t)


def _write_index(
    preset: presets.Preset,
    out: Path,
    manifest: store.Manifest,
    outcome: batch.Outcome,
    failed: dict[str, batch.FailureFacts],
) -> None:
    import polars as pl

    rows = outcome.rows
    excluded: Counter[str] = Counter()
    for row in rows:
        excluded.update(row["excluded"])
    settings = preset.model_dump(mode="json")
    store.write_toml(out / "epochs.toml", {"format": EPOCHS_KIND, "version": 1} | settings)
    nested = ("excluded", "channel_quality", IGNORED)
    flat = [
        {**{k: v for k, v in r.items() if k not in nested}, **dict.fromkeys(excluded, 0)}
        | r["excluded"]
        for r in rows
    ]
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
        "simulators": simulators.simulators_of(rows),
        "randomised": any(r["randomised"] for r in rows),
        "fast": any(r["fast"] for r in rows),
        "failed": failed | outcome.failure_facts(),
        "warnings": {r["recording"]: r["warnings"] for r in rows if r["warnings"]},
        "quality": {r["recording"]: r["channel_quality"] for r in rows if r["channel_quality"]},
        IGNORED: {r["recording"]: r[IGNORED] for r in rows if r[IGNORED]},
    }
    names = [f"{r['recording']}.safetensors" for r in rows]
    manifest.write(out, [out / n for n in ("epochs.toml", "index.parquet", "index.csv", *names)])
