"""`score`: score recordings with a trained model, as files that people and programs can use.

The model's folder has the preset of its training data, by which the recordings are preprocessed. A
recording is scored from its first sample on, whether or not it has a hypnogram. Of each night there
are an EDF+ hypnogram, BIDS events, a table and a page; of the batch, sleep.csv and manifest.json.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sleeptools import store
from sleeptools.commands.score import files, sleep_table
from sleeptools.commands.score.expected_agreement import CARD, expected_agreement
from sleeptools.commands.score.folder import (
    SCORES_KIND,
    SCORES_VERSION,
    SHIPS,
    read_scores_manifest,
)
from sleeptools.commands.score.follow import OnEpoch, follow
from sleeptools.commands.score.lights import Lights, lights_of
from sleeptools.commands.score.montage import check_names
from sleeptools.commands.score.options import ScoreOptions
from sleeptools.commands.score.paths import SHIPPED, model_at, night_names, recordings_among
from sleeptools.commands.score.scoring import Scoring, score_file, score_recording, summary
from sleeptools.datasets.shared.edf_settings import settings_of
from sleeptools.errors import DataError, OutputError, Stopped, stoppable
from sleeptools.formats import edf
from sleeptools.inference.engine import Engine
from sleeptools.inference.loading import unverified
from sleeptools.inference.yasa_network import RELEASE
from sleeptools.preprocessing import presets
from sleeptools.recording.recording import IGNORED, Recording, check_ignored, ignored_channels
from sleeptools.store import batch

if TYPE_CHECKING:
    from sleeptools.commands.score.night_page import NightPage

NOTHING_YET = (
    "EDF-FORM",
    "EDF-HEADER",
    "EDF-FIELD",
    "EDF-RANGE",
    "EDF-NREC",
    "EDF-EMPTY",
    "EDF-CUT",
    "REC-SHORT",
)
"""Codes of the errors of a recording that has not one epoch yet."""

__all__ = ["ScoreOptions", "follow_recording", "score"]


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
        Model folder of a fold, or `final`, or an ONNX file with its card; the text "default" is the
        one of the package, which learnt from simulated nights alone.
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
        If two recordings differ in nothing but the ending, or for an unknown kind of file.
    OutputError
        If `out` holds other files, or the scores of another model.
    """
    options = options or ScoreOptions()
    recordings, scorings = recordings_among(sources)
    if scorings:
        names = store.short_names([*recordings, *scorings])[len(recordings) :]
        log(f"left out, without signals: {store.listing(names)}")
    for text in dict.fromkeys(settings_of(path).text for path in recordings):
        if text:
            log(text)
    scorer = _open_scorer(model, out, options, log)
    manifest = scorer.manifest
    with store.lock(out):
        named, done = scorer.begin(recordings)
        items = [(n, partial(scorer.score, n, p, done.get(n))) for n, p in named.items()]
        outcome = batch.run(items, out, on_progress)
        manifest.facts["recordings"] = done | {r["recording"]: r for r in outcome.rows}
        manifest.facts["failed"] = outcome.failure_facts()
        _write(manifest, out)
    outcome.raise_failures(out)
    check_ignored(options.ignore_channels, (n for r in outcome.rows for n in r.get(IGNORED, [])))
    return out


def follow_recording(
    model: Path | str,
    path: Path,
    out: Path,
    on_epoch: OnEpoch,
    *,
    options: ScoreOptions | None = None,
    idle: float | None = None,
    log: Callable[[str], None] = lambda _: None,
) -> Path:
    """Score the epochs of a recording while its file grows; at the end, write what `score` writes.

    Parameters
    ----------
    path
        EDF or BDF file that a recorder is writing.
    on_epoch
        Called with every epoch as soon as it is complete.
    idle
        End after so many seconds in which nothing was written; only at the header's number of
        records if left out.
    model, out, options, log
        As of `score`.

    Raises
    ------
    UsageError
        If the model or its preset looks ahead.
    Stopped
        At a stop signal, with the epochs so far written.
    SleeptoolsError
        As `score`.
    """
    options = options or ScoreOptions()
    store.need(path, "recording")
    scorer = _open_scorer(model, out, options, log)
    with store.lock(out):
        (name,), done = scorer.begin([path])
        try:
            with stoppable():
                follow(
                    scorer.engine, scorer.preset, path, out, options, on_epoch, idle=idle, log=log
                )
        except Stopped:
            scorer.keep_complete(name, path, done)
            raise
        scorer.keep_complete(name, path, done)
    return out


@dataclass(frozen=True)
class _Scorer:
    """What scores every recording of a batch."""

    engine: Engine
    preset: presets.Preset
    page: Callable[[], NightPage]
    kinds: tuple[str, ...]
    out: Path
    options: ScoreOptions
    manifest: store.Manifest
    log: Callable[[str], None]

    def begin(self, recordings: Sequence[Path]) -> tuple[dict[str, Path], dict[str, Any]]:
        """Mark the folder as ours; return the names of the recordings, and what was scored."""
        done = _scored_before(self.out, self.manifest.facts["made_by"])
        named = night_names(recordings, done)
        asked = {name: files.file_names(name, self._kinds(name)) for name in named}
        files.check_apart({name: row["files"] for name, row in done.items()} | asked)
        self.manifest.facts["recordings"] = done
        _write(self.manifest, self.out)
        return named, done

    def score(
        self, name: str, path: Path, before: Mapping[str, Any] | None
    ) -> tuple[dict[str, Any], str]:
        """Score one recording, unless the row `before` shows that this file has been scored."""
        fingerprint = self._fingerprint(store.need(path, "recording"))
        names = files.file_names(name, self.kinds)
        if before and before.get("input") == fingerprint and set(names) <= set(before["files"]):
            return dict(before), "; ".join(filter(None, [before.get("spans", ""), batch.DONE]))
        night = score_file(self.engine, self.preset, path, self.out, self.options)
        row = self._keep(replace(night, name=name), path, fingerprint)
        row["sha256"] = store.sha256(path)
        return row, summary(row, self.engine.facts.get(CARD, {}).get("summary", ""))

    def keep_complete(self, name: str, path: Path, done: Mapping[str, Any]) -> None:
        """Score and keep what is complete of a file that may be cut short, if any epoch is."""
        fingerprint = self._fingerprint(path)
        settings = settings_of(path)
        try:
            ignored = edf.present_channels(path, settings.ignore_channels)
            recording = edf.read(path, allow_truncated=True, ignore_channels=ignored)
            recording = settings.named(recording)
            lights = self._lights_so_far(recording, path)
            night = score_recording(
                self.engine,
                self.preset,
                recording,
                self.out,
                self.options.called(settings.names),
                lights,
            )
        except DataError as e:
            if e.code in NOTHING_YET:
                self.log(f"warning: not one epoch is complete: {e}")
                return
            raise
        row = self._keep(replace(night, name=name), path, fingerprint)
        self.manifest.facts["recordings"] = {**done, name: row}
        _write(self.manifest, self.out)
        check_ignored(self.options.ignore_channels, ignored_channels(recording.facts))

    def _fingerprint(self, path: Path) -> list[object]:
        """List what the score of a file depends on: the file, the options, and its edf.toml."""
        stat, settings = path.stat(), settings_of(path).path
        called = [f"{settings.name} {store.sha256(settings)}"] if settings else []
        return [stat.st_size, stat.st_mtime_ns, *self.options.night_facts(), *called]

    def _lights_so_far(self, recording: Recording, path: Path) -> Lights:
        """Find the lights' times; one that the recording has not reached is not known."""
        off, on = self.options.lights_off, self.options.lights_on
        try:
            return lights_of(recording, off, on, path)
        except DataError as e:
            if e.code != "REC-LIGHTS":
                raise
            self.log(f"warning: {e}; no time of lights off and on is known")
            return Lights()

    def _kinds(self, name: str) -> list[str]:
        """List the kinds asked for, and those there, so that none is left of another scoring."""
        of_kind = {kind: {*files.file_names(name, [kind])} for kind in files.KINDS}
        return [
            kind
            for kind, names in of_kind.items()
            if kind in self.kinds
            or any((self.out / n).exists() for n in names.difference(files.BATCH_FILES))
        ]

    def _keep(self, night: Scoring, path: Path, fingerprint: Sequence[object]) -> dict[str, Any]:
        """Write the files of a night, and return its row of the manifest."""
        kinds = self._kinds(night.name)
        files.write_files(night, self.page, kinds, self.out)
        names = files.file_names(night.name, kinds)
        folder = path.absolute().parent.name
        return night.row() | {"input": list(fingerprint), "folder": folder, "files": names}


def _open_scorer(
    model: Path | str, out: Path, options: ScoreOptions, log: Callable[[str], None]
) -> _Scorer:
    """Load what a batch needs, and say what is to be known of the model."""
    kinds = files.chosen_kinds(options.only)
    name, model = str(model), model_at(model)
    engine, preset = open_model(model, options)
    ships = model in SHIPPED.values()
    if card := engine.facts.get(CARD):
        log(f"{name if ships else engine.facts['model']}: {card['summary']}")
    if not ships and (warning := unverified(model, engine.facts)):
        log(f"warning: {warning}")
    if engine.precision != options.precision:
        log(f"computed in {engine.precision}: no {options.precision} for this model on this CPU")
    log(f"probabilities are {engine.calibration}")
    page = cache(partial(_night_page, model, engine, preset))
    facts = _made_by(engine, preset) | ({SHIPS: name} if ships else {})
    manifest = store.Manifest(SCORES_KIND, SCORES_VERSION, facts)
    return _Scorer(engine, preset, page, kinds, out, options, manifest, log)


def _night_page(model: Path, engine: Engine, preset: presets.Preset) -> NightPage:
    """Load what draws the pages of nights, which takes longer than to score one."""
    from sleeptools.commands.score.night_page import NightPage

    expected = expected_agreement(model, engine.facts)
    return NightPage(str(model), engine.facts, preset, expected, str(engine.calibration))


def open_model(model: Path, options: ScoreOptions) -> tuple[Engine, presets.Preset]:
    """Load a model and the preset by which its signals are preprocessed.

    Raises
    ------
    DataError
        If the model's folder has no preset, or one whose epochs its network does not take.
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
    preset = presets.of_model(engine.facts, str(model))
    preset = presets.changed(preset, assume_unit=options.assume_unit)
    check_names(preset.montage, options.channels)
    _check_epochs(engine, preset, str(model))
    return engine, preset


def _check_epochs(engine: Engine, preset: presets.Preset, source: str) -> None:
    """Check that the epochs that the preset makes are those that the network takes."""
    made = len(preset.montage), preset.samples
    if made != engine.size:
        raise DataError(
            f"{source}: its preset makes epochs of {made[0]} channels and {made[1]} samples, its "
            f"network takes {engine.size[0]} and {engine.size[1]}",
            code="MODEL-FIT",
        )
    engine.check_input(source)


def _made_by(engine: Engine, preset: presets.Preset) -> dict[str, Any]:
    """Describe the engine for the manifest; `made_by` has what the scores depend on."""
    files = {path.name: store.sha256(path) for path in engine.files}
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
            **({RELEASE: engine.facts[RELEASE]} if RELEASE in engine.facts else {}),
        },
    }


def _scored_before(out: Path, made_by: Mapping[str, Any]) -> dict[str, Any]:
    """Rows of the recordings that the same model has scored before, if their files are intact."""
    store.refuse_foreign(out, SCORES_KIND)
    if not (out / "manifest.json").exists():
        return {}
    facts = read_scores_manifest(out, oldest=SCORES_VERSION)
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
