"""`score`: score recordings with a trained model, as files that people and programs can use.

The model's folder has the preset of its training data, by which the recordings are preprocessed. A
recording is scored from its first sample on, whether or not it has a hypnogram. Of each night there
are an EDF+ hypnogram, BIDS events, a table and a page; of the batch, sleep.csv and manifest.json.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from sleeptools import store
from sleeptools.commands.score import files, sleep_table
from sleeptools.commands.score.expected_agreement import CARD, expected_agreement
from sleeptools.commands.score.folder import SCORES_KIND, SCORES_VERSION
from sleeptools.commands.score.montage import check_names
from sleeptools.commands.score.night_page import NightPage
from sleeptools.commands.score.options import ScoreOptions
from sleeptools.commands.score.paths import model_at, recordings_among
from sleeptools.commands.score.scoring import score_file, summary
from sleeptools.errors import DataError, OutputError
from sleeptools.inference.engine import Engine
from sleeptools.preprocessing import presets
from sleeptools.recording.recording import IGNORED, check_ignored
from sleeptools.runs import model_folder
from sleeptools.store import batch

__all__ = ["ScoreOptions", "score"]


def score(
    model: Path | str,
    sources: Sequence[Path],
    out: Path,
    on_progress: batch.OnProgress = batch.ignore,
    *,
    options: ScoreOptions | None = None,
    log: Callable[[str], None] = lambda _: None,
) -> Path:
    """Score recordings; those that are already scored are skipped.

    Parameters
    ----------
    model
        Model folder of a fold, or `final`; the text "default" is the one of the package, which
        learnt from simulated nights alone.
    sources
        Recordings of any known format, folders of them, and patterns; hypnograms are left out.
    out
        Folder to write, the files of each night NAME, sleep.csv and manifest.json.
    on_progress
        Called after every recording.
    options
        What to write of each night, and how to read its recording.
    log
        Called with what was left out, what the model says of itself, how the probabilities are
        calibrated, and a warning of a model folder that nothing has the sums of.

    Returns
    -------
    out
        The folder that was written.

    Raises
    ------
    MissingInputError
        If a file is not there, or there is no recording.
    DataError
        If the model's folder has no preset; at the end, if any recording failed, or none has a
        signal to be left out.
    UsageError
        If two recordings have the same name, or for an unknown kind of file.
    OutputError
        If `out` holds other files, or the scores of another model.
    """
    options = options or ScoreOptions()
    kinds = files.chosen_kinds(options.only)
    recordings, scorings = recordings_among(sources)
    if scorings:
        log(f"left out, without signals: {', '.join(path.name for path in scorings)}")
    model = model_at(model)
    engine, preset = open_model(model, options)
    if card := engine.facts.get(CARD):
        log(f"{engine.facts['model']}: {card['summary']}")
    if unverified := model_folder.unverified(model):
        log(f"warning: {unverified}")
    log(f"probabilities are {engine.calibration}")
    expected = expected_agreement(model, engine.facts)
    page = NightPage(str(model), engine.facts, preset, expected, str(engine.calibration))
    manifest = store.Manifest(SCORES_KIND, SCORES_VERSION, _made_by(engine, model, preset))
    scorer = _Scorer(engine, preset, page, kinds, out, options)
    with store.lock(out):
        done = _scored_before(out, manifest.facts["made_by"])
        manifest.facts["recordings"] = done
        _write(manifest, out)  # marks the folder as ours, if the command is interrupted
        items = [(p.stem, partial(scorer.score, p, done.get(p.stem))) for p in recordings]
        outcome = batch.run(items, out, on_progress)
        manifest.facts["recordings"] = done | {r["recording"]: r for r in outcome.rows}
        manifest.facts["failed"] = outcome.failure_facts()
        _write(manifest, out)
    outcome.raise_failures(out)
    check_ignored(options.ignore_channels, (n for r in outcome.rows for n in r.get(IGNORED, [])))
    return out


@dataclass(frozen=True)
class _Scorer:
    """What scores every recording of a batch."""

    engine: Engine
    preset: presets.Preset
    page: NightPage
    kinds: tuple[str, ...]
    out: Path
    options: ScoreOptions

    def score(self, path: Path, before: Mapping[str, Any] | None) -> tuple[dict[str, Any], str]:
        """Score one recording, unless the row `before` shows that this file has been scored."""
        stat = store.need(path, "recording").stat()
        fingerprint = [stat.st_size, stat.st_mtime_ns, *self.options.night_facts()]
        names = files.file_names(path.stem, self.kinds)
        if before and before["input"] == fingerprint and set(names) <= set(before["files"]):
            return dict(before), "; ".join(filter(None, [before.get("spans", ""), batch.DONE]))
        night = score_file(self.engine, self.preset, path, self.out, self.options)
        files.write_files(night, self.page, self.kinds, self.out)
        row = night.row() | {"input": fingerprint, "files": names}
        return row, summary(row)


def open_model(model: Path, options: ScoreOptions) -> tuple[Engine, presets.Preset]:
    """Load a model and the preset by which its signals are preprocessed.

    Raises
    ------
    DataError
        If the model's folder has no preset.
    UsageError
        If a channel is named that the model has not.
    """
    engine = Engine.load(
        model,
        precision=options.precision,
        threads=options.threads,
        calibrated=options.calibrated,
        without=options.without,
    )
    preset = presets.changed(_preset(engine.facts, model), assume_unit=options.assume_unit)
    check_names(preset.montage, options.channels)
    return engine, preset


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
        "calibration": engine.calibration.facts(),
        "without": engine.facts.get("without", []),
        **({CARD: engine.facts[CARD]} if CARD in engine.facts else {}),
        "made_by": {
            "model": files,
            "preset": settings,
            "precision": engine.precision,
            "temperature": engine.temperature,
        },
    }


def _scored_before(out: Path, made_by: Mapping[str, Any]) -> dict[str, Any]:
    """Rows of the recordings that the same model has scored before, if their files are intact."""
    store.refuse_foreign(out, SCORES_KIND)
    if not (out / "manifest.json").exists():
        return {}
    facts = store.read_manifest(out, SCORES_KIND, SCORES_VERSION)
    # older scores are raw, and say nothing of it
    stored: dict[str, Any] = {"temperature": 1.0, **facts.get("made_by", {})}
    if isinstance(stored.get("preset"), dict):  # settings that an older version did not have
        preset = presets.resolve(stored["preset"], source=str(out / "manifest.json"))
        stored["preset"] = preset.model_dump(mode="json")
    if stored != made_by:
        raise OutputError(
            f"{out}: holds what another model, preset, precision or temperature scored",
            hint="give another folder, or remove this one",
            code="OUT-SETTINGS",
        )
    rows: dict[str, Any] = facts["recordings"]
    return {name: row for name, row in rows.items() if _is_intact(out, row, facts["files"])}


def _is_intact(out: Path, row: Mapping[str, Any], hashes: Mapping[str, str]) -> bool:
    names = row.get("files", ())
    return bool(names) and all(
        (out / n).exists() and store.sha256(out / n) == hashes.get(n) for n in names
    )


def _write(manifest: store.Manifest, out: Path) -> None:
    """Write sleep.csv, for mice sleep_bins.csv, and the manifest, which names all files."""
    rows: dict[str, Any] = manifest.facts["recordings"]
    names = [file for row in rows.values() for file in row["files"]]
    tables = {
        sleep_table.SLEEP: [{"recording": name} | row["sleep"] for name, row in rows.items()],
        sleep_table.SLEEP_BINS: [
            {"recording": name} | values for name, row in rows.items() for values in row["bins"]
        ],
    }
    for file, table in tables.items():
        if table:
            sleep_table.write_rows(out / file, table)
            names.append(file)
    manifest.write(out, [out / name for name in names])
