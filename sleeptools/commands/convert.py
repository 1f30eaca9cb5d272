"""`convert`: raw files of a data set to recordings, each signal at its own sample rate."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any

from sleeptools import datasets, registry, store
from sleeptools.datasets import RecordingFiles
from sleeptools.datasets.shared.subjects import TABLE, look_alike
from sleeptools.datasets.simulation import true_stages
from sleeptools.errors import DataError
from sleeptools.preprocessing import presets
from sleeptools.recording import montage, placing, simulators
from sleeptools.recording.recording import (
    IGNORED,
    RECORDING_KIND,
    RECORDING_VERSION,
    RECORDINGS_KIND,
    SUBJECT_FACTS,
    Recording,
    before_fact,
    check_ignored,
    ignored_channels,
    past_fact,
    read_recording,
    write_recording,
)
from sleeptools.recording.signals import quality
from sleeptools.store import batch

FOLDER_VERSION = 1
EPOCH_SECONDS = 30.0  # of a recording without a hypnogram
SHOWN = 20  # files in a message
ENDS = (before_fact(1), past_fact(1), "epochs past the labels")


def convert(  # noqa: PLR0913 - one for each option of the command
    dataset: str,
    raw: Path,
    recordings: Path,
    on_progress: batch.OnProgress = batch.ignore,
    *,
    allow_truncated: bool = False,
    subset: str | None = None,
    settings: Path | None = None,
    ignore_unmatched: bool = False,
    ignore_channels: Sequence[str] = (),
    jobs: int = 1,
    log: Callable[[str], None] = lambda _: None,
) -> Path:
    """Convert every recording of a data set below `raw`; finished recordings are skipped.

    Parameters
    ----------
    dataset
        Name of a data set, for example "sleep-edf".
    raw
        Folder of raw files; never written to.
    recordings
        Folder to write: index.parquet, manifest.json and a file per recording.
    on_progress
        Called after every recording.
    allow_truncated
        Read the complete data records of files that are cut short, and note their number.
    subset
        Only the recordings of a subset that the data set names, for example "20"; None for all.
    settings
        File that names the files of the data set `edf`; `raw`/edf.toml if left out.
    ignore_unmatched
        Pass over files beside the recordings that end like data and belong to none of them.
    ignore_channels
        Labels of signals to leave out of the recordings that have them; noted, and listed in the
        manifest.
    jobs
        Number of worker processes, each with one recording at a time.
    log
        Called with lines on which file is whose, where the files' names tell it, and on files that
        are passed over.

    Raises
    ------
    DataError
        If `raw` holds none of the data set's files, or, after all others are done, if any recording
        failed, or none has a signal to be left out.
    OutputError
        If the two folders are the same, or `recordings` holds other files, or recordings that
        `raw` does not.
    """
    module = registry.load("datasets", dataset)
    sources = datasets.find_recordings(
        module,
        raw,
        subset=subset,
        settings=settings,
        ignore_unmatched=ignore_unmatched,
        ignore_channels=ignore_channels,
    )
    passed_over = [
        p.relative_to(raw).as_posix()
        for p in datasets.unmatched_files(
            module,
            raw,
            datasets.find_recordings(module, raw, settings=settings, ignore_unmatched=True),
            settings,
        )
    ]
    for text in (*_who_is_who(module, raw, sources), *_passed_over(raw, passed_over)):
        log(text)
    ids = [store.check_id(s.id, raw) for s in sources]
    missing = datasets.absent_recordings(module, raw, sources, subset)
    manifest = store.Manifest(
        RECORDINGS_KIND,
        FOLDER_VERSION,
        {"subset": subset, "absent": missing, "passed over": passed_over},
    )
    reader = partial(module.read, allow_truncated=allow_truncated)
    read = partial(true_stages.read_recording, reader, raw)
    batch.refuse_input(raw, recordings)
    with store.lock(recordings):
        batch.refuse_mixing(raw, recordings, RECORDINGS_KIND, ids)
        hashes = store.listed_hashes(recordings, RECORDINGS_KIND)
        items = [(s.id, partial(_convert_one, read, s, recordings, hashes)) for s in sources]
        outcome = batch.run(items, recordings, on_progress, jobs=jobs)
        if outcome.rows:
            _write_index(recordings, manifest, module, outcome)
    outcome.raise_failures(recordings)
    check_ignored(ignore_channels, (n for r in outcome.rows for n in r[IGNORED]))
    return recordings


def _who_is_who(module: ModuleType, raw: Path, sources: list[RecordingFiles]) -> list[str]:
    """List files and subjects where the names of the files, which anybody may choose, tell them."""
    if not getattr(module, "FREE_NAMES", False):
        return []
    lines = [
        f"{s.files[0].relative_to(raw).as_posix()}: subject {s.subject}, night {s.night}"
        for s in sources
    ]
    if not (raw / TABLE).exists():
        lines += [
            f"warning: {' and '.join(names)} may be one subject: {raw / TABLE} (columns "
            "file,subject,night) would say so"
            for names in look_alike([s.subject for s in sources])
        ]
    return lines


def _passed_over(raw: Path, files: list[str]) -> list[str]:
    if not files:
        return []
    shown = ", ".join(files[:SHOWN]) + (", ..." if len(files) > SHOWN else "")
    return [f"{raw}: {len(files)} files belong to no recording and are passed over: {shown}"]


def _convert_one(
    read: Callable[[RecordingFiles], Recording],
    source: RecordingFiles,
    folder: Path,
    hashes: Mapping[str, str],
) -> tuple[dict[str, Any], str]:
    path = folder / f"{source.id}.safetensors"
    state = batch.state(path, hashes, lambda: _is_current(path, source))
    if state != batch.DONE:
        recording = read(source)
        usable = {n: s for n, s in recording.signals.items() if math.isfinite(s.gain)}
        inputs = {name: store.fingerprint(f) for name, f in source.inputs.items()}
        settings = {"ignore_channels": source.ignore_channels} if source.ignore_channels else {}
        write_recording(path, replace(recording, signals=usable), inputs, settings)
    recording = read_recording(path)
    counts = _quality(recording)
    row = _row(recording, path) | {"quality": quality.counts_text(counts)}
    text = f"{len(recording.signals)} signals, {recording.seconds / 3600:.1f} h"
    poor = f"signal quality: {row['quality']}" if row["quality"] else ""
    interrupted = f"{row[quality.GAP]} epochs touch a gap" if row[quality.GAP] else ""
    span = placing.span_text(recording)
    notes = [text, span, state, str(recording.facts.get("notes", "")), interrupted, poor]
    nested = {"signal_quality": counts, IGNORED: ignored_channels(recording.facts)}
    return row | nested, "; ".join(n for n in notes if n)


def _quality(recording: Recording) -> dict[str, dict[str, int]]:
    """Count the epochs of every signal that are flat, railed, ..., before any filter."""
    length, onset = _grid(recording)
    counts = {
        label: quality.counts(quality.judge_whole(signal, signal.read(), length, onset))
        for label, signal in recording.signals.items()
    }
    return {label: kinds for label, kinds in counts.items() if kinds}


def _grid(recording: Recording) -> tuple[float, float]:
    """Return the length of an epoch and the onset of one, s: the scoring's, if there is one."""
    scoring = recording.hypnogram
    return (scoring.epoch_seconds, scoring.onset) if scoring else (EPOCH_SECONDS, 0.0)


def _is_current(path: Path, source: RecordingFiles) -> bool:
    """Return whether a recording was converted from the present files."""
    facts = store.read_tensors(path, RECORDING_KIND, RECORDING_VERSION).facts
    if (facts["subject"], facts["night"]) != (source.subject, source.night):
        return False
    if facts.get("settings", {}).get("ignore_channels", []) != [*source.ignore_channels]:
        return False
    fingerprints = facts["inputs"]
    return set(fingerprints) == set(source.inputs) and all(
        store.unchanged(f, fingerprints[name]) for name, f in source.inputs.items()
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
        "simulator": simulators.simulator_of(recording.facts),
        "randomised": simulators.is_randomised(recording.facts),
        "fast": simulators.is_fast(recording.facts),
        **_ends(recording),
        quality.GAP: quality.count_in_gaps(recording.signals.values(), *_grid(recording)),
        **(scoring.counts() if scoring else {}),
    }


def _ends(recording: Recording) -> dict[str, int]:
    """Count the epochs of the first hypnogram outside the signals, and those of signals past it."""
    scoring = recording.hypnogram
    beyond = 0.0
    if scoring is not None:
        last = scoring.onset + len(scoring) * scoring.epoch_seconds
        beyond = max(0.0, recording.seconds - last + 1e-6) // scoring.epoch_seconds
    counts = (recording.facts.get(before_fact(1), 0), recording.facts.get(past_fact(1), 0), beyond)
    return {name: int(count) for name, count in zip(ENDS, counts, strict=True)}


def _write_index(
    folder: Path, manifest: store.Manifest, module: ModuleType, outcome: batch.Outcome
) -> None:
    import polars as pl

    rows = outcome.rows
    nested = ("signal_quality", IGNORED)
    flat = [{k: v for k, v in r.items() if k not in nested} for r in rows]
    store.write_table(
        folder / "index.parquet", pl.DataFrame(flat, infer_schema_length=None), csv=True
    )
    manifest.facts |= {
        "data_set": module.__name__.rsplit(".", 1)[-1].replace("_", "-"),
        "citation": module.CITATION,
        "simulated": any(r["simulated"] for r in rows),
        "simulators": simulators.simulators_of(rows),
        "randomised": any(r["randomised"] for r in rows),
        "fast": any(r["fast"] for r in rows),
        "recordings": [r["recording"] for r in rows],
        "subjects": len({r["subject"] for r in rows}),
        "failed": outcome.failure_facts(),
        **{name: sum(r[name] for r in rows) for name in (*ENDS, quality.GAP)},
        "quality": {r["recording"]: r["signal_quality"] for r in rows if r["signal_quality"]},
        IGNORED: {r["recording"]: r[IGNORED] for r in rows if r[IGNORED]},
    }
    names = ("index.parquet", "index.csv", *(r["file"] for r in rows))
    manifest.write(folder, [folder / name for name in names])


def fitting_presets(recordings: Path) -> list[str]:
    """List the presets that suit a folder's first recording: channels, rate, epochs and stages."""
    path = next(iter(sorted(recordings.glob("*.safetensors"))), None)
    if path is None:
        return []
    recording = read_recording(path)
    return [name for name in presets.names() if _suits(presets.load(name), recording)]


def _suits(preset: presets.Preset, recording: Recording) -> bool:
    scoring = recording.hypnogram
    if scoring is None or scoring.names != preset.stages:
        return False
    if scoring.epoch_seconds != preset.epoch_seconds:
        return False
    try:
        signals = montage.pick(recording, preset.montage, preset.assume_unit)
    except DataError:
        return False
    return all(preset.rate_of(s.sample_rate) <= s.sample_rate for s in signals)
