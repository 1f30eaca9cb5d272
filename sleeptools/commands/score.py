"""`score`: score recordings with a trained model, as hypnograms and hypnodensities.

The model's folder has the preset of its training data, by which the recordings are preprocessed. A
recording is scored from its first sample on, whether or not it has a hypnogram.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from sleeptools import formats, inference, store
from sleeptools.errors import DataError, OutputError, UsageError
from sleeptools.inference import leads
from sleeptools.inference.engine import Engine
from sleeptools.inference.recordings import hypnodensity, hypnogram_from
from sleeptools.native import Floats, Precision
from sleeptools.preprocessing import presets
from sleeptools.preprocessing.epoching import CutEpochs
from sleeptools.recording import montage, placing
from sleeptools.recording.hypnogram import Hypnogram
from sleeptools.recording.recording import IGNORED, check_ignored, ignored_channels
from sleeptools.recording.signals import quality
from sleeptools.runs import model_folder
from sleeptools.store import batch

SCORES_KIND = "sleeptools-scores"
SCORES_VERSION = 1
DEFAULT = "default"
DEFAULT_FOLDER = Path(inference.__file__).with_name("default_model")
HYPNOGRAM_SUFFIX, HYPNODENSITY_SUFFIX = "-hypnogram.edf", "-hypnodensity.parquet"


def score(  # noqa: PLR0913 - one for each option of the command
    model: Path | str,
    sources: Sequence[Path],
    out: Path,
    on_progress: batch.OnProgress = batch.ignore,
    *,
    assume_unit: str | None = None,
    ignore_channels: Sequence[str] = (),
    precision: Precision = "fp32",
    threads: int | None = None,
    log: Callable[[str], None] = lambda _: None,
) -> Path:
    """Score recordings; those that are already scored are skipped.

    Parameters
    ----------
    model
        Model folder of a fold, or `final`; the text "default" is the one of the package, which
        learnt from simulated nights alone, and a folder of that name is `Path("default")`.
    sources
        Recordings of any known format, with distinct file names.
    out
        Folder to write: for each recording NAME-hypnogram.edf (EDF+) and
        NAME-hypnodensity.parquet, and manifest.json.
    on_progress
        Called after every recording.
    assume_unit
        Unit of voltages for which the file gives none; the preset's if left out.
    ignore_channels
        Labels of signals to leave out of the recordings that have them; listed in the manifest.
    precision, threads
        As in `Engine.load`.
    log
        Called with a warning of a model folder that nothing has the sums of, and with what a model
        says of itself.

    Returns
    -------
    out
        The folder that was written.

    Raises
    ------
    DataError
        If the model's folder has no preset; at the end, if any recording failed, or none has a
        signal to be left out.
    UsageError
        If two recordings have the same name.
    OutputError
        If `out` holds other files, or the scores of another model.
    """
    names = [p.stem for p in sources]
    if twice := [name for name, count in Counter(names).items() if count > 1]:
        raise UsageError(f"two recordings are named {twice[0]}: their scores would have one name")
    for path in sources:
        store.check_id(path.stem, path)
    model = DEFAULT_FOLDER if model == DEFAULT else Path(model)
    engine = Engine.load(model, precision=precision, threads=threads)
    if unverified := model_folder.unverified(model):
        log(f"warning: {unverified}")
    if card := engine.facts.get("card"):
        log(f"{engine.facts['model']}: {card['summary']}")
    preset = presets.changed(_preset(engine.facts, model), assume_unit=assume_unit)
    manifest = store.Manifest(SCORES_KIND, SCORES_VERSION, _made_by(engine, model, preset))
    with store.lock(out):
        done = _scored_before(out, manifest.facts["made_by"])
        manifest.facts["recordings"] = done
        _write(manifest, out)  # marks the folder as ours, if the command is interrupted
        items = [
            (
                path.stem,
                partial(
                    _score_recording,
                    engine,
                    preset,
                    path,
                    out,
                    done.get(path.stem),
                    ignore_channels,
                ),
            )
            for path in sources
        ]
        outcome = batch.run(items, out, on_progress)
        manifest.facts["recordings"] = done | {r["recording"]: r for r in outcome.rows}
        manifest.facts["failed"] = outcome.failure_facts()
        _write(manifest, out)
    outcome.raise_failures(out)
    check_ignored(ignore_channels, (n for r in outcome.rows for n in r.get(IGNORED, [])))
    return out


def _preset(facts: Mapping[str, Any], model: Path) -> presets.Preset:
    settings = facts["preprocessing"].get("preset")
    if not isinstance(settings, dict):
        raise DataError(
            f"{model}: does not say how its signals were preprocessed", code="MODEL-PRESET"
        )
    return presets.resolve(settings, source=str(model / "config.json"))


def _made_by(engine: Engine, model: Path, preset: presets.Preset) -> dict[str, Any]:
    """Describe the engine for the manifest; `made_by` has what the scores depend on."""
    files = {name: store.sha256(model / name) for name in ("config.json", "model.safetensors")}
    settings = preset.model_dump(mode="json")
    return {
        "model": engine.facts["model"],
        "stages": list(engine.stages),
        "epoch_seconds": preset.epoch_seconds,
        "how": engine.backend,
        "threads": engine.threads,
        **({"card": engine.facts["card"]} if "card" in engine.facts else {}),
        "made_by": {"model": files, "preset": settings, "precision": engine.precision},
    }


def _scored_before(out: Path, made_by: Mapping[str, Any]) -> dict[str, Any]:
    """Rows of the recordings that the same model has scored before, if their files are intact."""
    store.refuse_foreign(out, SCORES_KIND)
    if not (out / "manifest.json").exists():
        return {}
    facts = store.read_manifest(out, SCORES_KIND, SCORES_VERSION)
    stored = dict(facts.get("made_by", {}))
    if isinstance(stored.get("preset"), dict):  # settings that an older version did not have
        preset = presets.resolve(stored["preset"], source=str(out / "manifest.json"))
        stored["preset"] = preset.model_dump(mode="json")
    if stored != made_by:
        raise OutputError(
            f"{out}: holds what another model, preset or precision scored",
            hint="give another folder, or remove this one",
            code="OUT-SETTINGS",
        )
    rows: dict[str, Any] = facts["recordings"]
    return {n: r for n, r in rows.items() if _is_intact(out, n, facts["files"])}


def _is_intact(out: Path, name: str, hashes: Mapping[str, str]) -> bool:
    paths = (out / (name + HYPNOGRAM_SUFFIX), out / (name + HYPNODENSITY_SUFFIX))
    return all(p.exists() and store.sha256(p) == hashes.get(p.name) for p in paths)


def _write(manifest: store.Manifest, out: Path) -> None:
    names = [
        n + end
        for n in manifest.facts["recordings"]
        for end in (HYPNOGRAM_SUFFIX, HYPNODENSITY_SUFFIX)
    ]
    manifest.write(out, [out / name for name in names])


def _score_recording(
    engine: Engine,
    preset: presets.Preset,
    path: Path,
    out: Path,
    before: Mapping[str, Any] | None,
    ignore_channels: Sequence[str],
) -> tuple[dict[str, Any], str]:
    """Score one recording, unless the row `before` shows that this file has been scored."""
    stat = store.need(path, "recording").stat()
    fingerprint = [stat.st_size, stat.st_mtime_ns, *ignore_channels]
    if before and before["input"] == fingerprint:
        return dict(before), "; ".join(filter(None, [before.get("spans", ""), batch.DONE]))
    store.check_listed(path)
    recording = formats.read_any(path, ignore_channels=ignore_channels)
    preset = leads.choose(engine.facts, preset, recording)
    density, cut = hypnodensity(engine, preset, recording, out)
    file_notes = str(recording.facts.get("notes", ""))
    warnings = [*cut.warnings, *([file_notes] if file_notes else [])]
    hypnogram = hypnogram_from(engine, preset, recording, density)
    formats.write_hypnogram(hypnogram, out / (path.stem + HYPNOGRAM_SUFFIX), to="edf")
    _write_density(path.stem, density, hypnogram, cut, out / (path.stem + HYPNODENSITY_SUFFIX))
    counts = {name: n for name, n in hypnogram.counts().items() if n}
    left_out = {kind: n for kind, n in cut.left_out.items() if n}
    spans = placing.span_text(recording)
    channels = {c.name: str(montage.match(recording, c)) for c in preset.montage}
    row = {
        "recording": path.stem,
        "input": fingerprint,
        "epochs": len(density),
        "counts": counts,
        "warnings": warnings,
        "quality": cut.counts,
        "unscored": left_out,
        "simulated": hypnogram.scorer == "simulated",
        "spans": spans,
        IGNORED: ignored_channels(recording.facts),
        "channels": channels,
    }
    stages = ", ".join(f"{name} {n}" for name, n in counts.items())
    notes = [f"{len(density)} epochs: {stages}", spans]
    if leads.LEADS in engine.facts:
        notes.append(f"scored from {' and '.join(channels.values())}")
    if left_out:
        why = ", ".join(f"{n} {kind}" for kind, n in left_out.items())
        notes.append(f"left unscored, without a signal: {why}")
    if cut.counts:
        notes.append(f"signal quality: {quality.counts_text(cut.counts)}")
    return row, "; ".join([*notes, *(f"warning: {w}" for w in warnings)])


def _write_density(
    name: str, density: Floats, hypnogram: Hypnogram, cut: CutEpochs, path: Path
) -> None:
    """Write the table of probabilities; where epochs were left out, also why."""
    number = np.arange(len(density), dtype=np.int32)
    columns: dict[str, Any] = {
        "recording": [name] * len(density),
        "epoch": number,
        "onset": number * hypnogram.epoch_seconds,
        "predicted": hypnogram.stages,
    }
    columns |= {f"p_{stage}": density[:, i] for i, stage in enumerate(hypnogram.names)}
    if not cut.kept.all():
        reasons = zip(cut.reasons, cut.kept.tolist(), strict=True)
        columns["unscored"] = ["" if kept else reason for reason, kept in reasons]
    store.write_table(path, pl.DataFrame(columns))
