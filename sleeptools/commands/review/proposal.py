"""What is proposed for a night before a person corrects it: by scores, a scoring, or nothing."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from sleeptools import formats, store
from sleeptools.commands.review.options import ReviewOptions
from sleeptools.commands.score.folder import SCORES_VERSION, read_scores
from sleeptools.commands.score.lights import Lights, lights_of
from sleeptools.commands.score.paths import possible_names
from sleeptools.datasets.edf import files_of, read_scorings
from sleeptools.datasets.shared.edf_settings import EdfSettings, settings_of
from sleeptools.errors import DataError, UsageError
from sleeptools.formats import hypnodensity, review
from sleeptools.formats.parsing.review_times import GRID_SLACK, is_same_time
from sleeptools.formats.review import Floats, Review
from sleeptools.recording import placing
from sleeptools.recording.hypnogram import Hypnogram, add_seconds
from sleeptools.recording.label_schemes import label_scheme
from sleeptools.recording.recording import Recording
from sleeptools.recording.stages import MOUSE_STAGES, UNANNOTATED, UNSCORED

HUMAN_EPOCH, MOUSE_EPOCH = 30.0, 4.0  # s
SPECIES: Final = ("human", "mouse")
SLACK: Final = 1e-6  # s


@dataclass(frozen=True)
class Proposal:
    """The stages that a page begins with, and what is known of where they come from.

    Parameters
    ----------
    hypnogram
        On the whole of the recording; unannotated where nothing is proposed.
    density
        (epochs, stages) probabilities; NaN where there are none.
    model
        Who or what proposed.
    montage
        What each channel of the model was made of; empty if not known.
    assume_unit
        Unit that the model took voltages without one in.
    warnings
        Texts, for people.
    lights
        When the lights went off and on.
    """

    hypnogram: Hypnogram
    density: Floats = field(repr=False)
    model: str = ""
    montage: Mapping[str, str] = field(default_factory=dict)
    assume_unit: str = ""
    warnings: tuple[str, ...] = ()
    lights: Lights = field(default_factory=Lights)

    def as_review(self, recording: str, sha256: str, scorer: str) -> Review:
        """Return the review in which no hand has touched an epoch yet."""
        untouched = np.zeros(len(self.hypnogram), bool)
        named = replace(self.hypnogram, scorer=review.plain_name(scorer))
        return Review(
            review.plain_name(recording),
            sha256,
            named,
            self.hypnogram,
            untouched,
            untouched,
            self.density,
            self.lights.off,
            self.lights.on,
            review.plain_name(self.model),
        )


def propose(recording: Recording, path: Path, sha256: str, options: ReviewOptions) -> Proposal:
    """Read what is proposed for a recording.

    Parameters
    ----------
    path
        The recording's file.
    sha256
        Its SHA-256.

    Raises
    ------
    DataError
        If the scores are of another recording, or do not fit it.
    UsageError
        For an unknown species.
    """
    if options.species not in (None, *SPECIES):
        raise UsageError(
            f"no species {options.species!r}",
            hint=f"there are: {', '.join(SPECIES)}",
            code="USE-NAME",
        )
    lights = lights_of(recording, path=path)
    if options.scores is None:
        stored = _own(recording, path)
        if stored is None:
            empty = _empty(options, settings_of(path).settings)
            return Proposal(*_on_recording(empty, None, recording), lights=lights)
        return _as_proposed(stored, "", recording, lights)
    if options.scores.is_dir():
        return _of_folder(recording, path, sha256, options.scores, lights)
    source = files_of(path)
    if source and options.scheme is None and _is_among(options.scores, source.files[1:-1]):
        scorings = read_scorings(source, recording)
        scoring = next(h for file, h in scorings.items() if _is_among(options.scores, [file]))
        return _as_proposed(scoring, options.scores.name, recording, lights)
    return _of_file(recording, store.need(options.scores, "scoring"), sha256, options, lights)


def _own(recording: Recording, path: Path) -> Hypnogram | None:
    """Return the scoring that edf.toml names, the first of several, or that of the file itself."""
    source = files_of(path)
    scorings = [*read_scorings(source, recording).values()] if source else []
    return scorings[0] if scorings else recording.hypnogram


def _is_among(path: Path, files: Sequence[Path]) -> bool:
    return path.resolve() in [file.resolve() for file in files]


def _as_proposed(scoring: Hypnogram, name: str, recording: Recording, lights: Lights) -> Proposal:
    return Proposal(
        *_on_recording(scoring, None, recording),
        model=scoring.scorer or name,
        warnings=scoring.notes,
        lights=lights,
    )


def _empty(options: ReviewOptions, settings: EdfSettings | None) -> Hypnogram:
    settings = settings or EdfSettings(signals="")
    names = label_scheme(options.species).names if options.species else settings.names
    usual = MOUSE_EPOCH if names == MOUSE_STAGES else HUMAN_EPOCH
    seconds = options.epoch_seconds or settings.epoch_seconds or usual
    return Hypnogram(np.empty(0, np.int8), names, seconds)


def _of_folder(
    recording: Recording, path: Path, sha256: str, folder: Path, lights: Lights
) -> Proposal:
    facts, hypnograms = read_scores(folder, oldest=SCORES_VERSION)
    rows = facts["recordings"]
    names = [name for name in possible_names(path) if name in hypnograms]
    if not names:
        raise DataError(
            f"{folder}: holds no scores of {path.stem}",
            hint=f"it has: {', '.join([*hypnograms][:6])}; score this one into it as well",
            code="REV-NIGHT",
        )
    name = next((n for n in names if rows[n].get("sha256") == sha256), names[0])
    row = rows[name]
    _check_scored(row, path, sha256, folder)
    scored, density = _read(hypnograms[name])
    sleep = row.get("sleep", {})
    times = [sleep.get(key) for key in ("lights_off_s", "lights_on_s")]
    if any(t is not None for t in times):
        lights = Lights(*times)
    made_by = facts.get("made_by") or {}
    return Proposal(
        *_on_recording(placing.place(recording, scored, source=str(folder)), density, recording),
        model=_model_name(facts, made_by),
        montage=_texts(row.get("channels")),
        assume_unit=str((made_by.get("preset") or {}).get("assume_unit", "")),
        warnings=tuple(row["warnings"]),
        lights=lights,
    )


def _check_scored(row: Mapping[str, Any], path: Path, sha256: str, folder: Path) -> None:
    """Refuse scores of another recording of that name; those without a sum tell by the size."""
    scored_size, size = (row.get("input") or [None])[0], path.stat().st_size
    scored_sum, differs = row.get("sha256"), ""
    if isinstance(scored_size, int) and scored_size != size:
        differs = f"of {scored_size} bytes; {path} has {size}"
    elif isinstance(scored_sum, str) and scored_sum != sha256:
        differs = f"with SHA-256 {scored_sum[:12]}...; that of {path} is {sha256[:12]}..."
    if differs:
        raise DataError(
            f"{folder}: scored a recording {path.stem} {differs}: another night of that name?",
            hint="score the recording again, into another folder",
            code="REV-NIGHT",
        )


def _model_name(facts: Mapping[str, Any], made_by: Mapping[str, Any]) -> str:
    """Name a model with the beginning of its weights' SHA-256."""
    hashes = made_by.get("model") or {}
    weights = [h for file, h in hashes.items() if not file.endswith(".json")]
    return " ".join([str(facts.get("model", "a model")), *(str(h)[:12] for h in weights[:1])])


def _texts(table: object) -> dict[str, str]:
    return {str(k): str(v) for k, v in table.items()} if isinstance(table, dict) else {}


def _read(path: Path) -> tuple[Hypnogram, Floats | None]:
    """Read a night of a folder of scores, with its probabilities where its file has them."""
    if formats.find(path) is hypnodensity:
        return hypnodensity.read_hypnogram(path), hypnodensity.read_density(path)
    return formats.read_hypnogram(path), None


def _of_file(
    recording: Recording, path: Path, sha256: str, options: ReviewOptions, lights: Lights
) -> Proposal:
    module = formats.find(path)
    density = None
    if module is review:
        earlier = review.read_review(path)
        check_night(earlier, recording.id, sha256, path)
        scoring, density = earlier.hypnogram, earlier.density
    elif module is hypnodensity:
        scoring, density = _read(path)
    else:
        scoring = formats.read_hypnogram(
            path, scheme=options.scheme, epoch_seconds=options.epoch_seconds
        )
    placed = placing.place(recording, scoring, source=path.name)
    return Proposal(
        *_on_recording(placed, density, recording),
        model=scoring.scorer or path.name,
        warnings=scoring.notes,
        lights=lights,
    )


def check_night(edits: Review, recording: str, sha256: str, path: Path) -> None:
    """Refuse a review of another recording than the one with this SHA-256.

    Raises
    ------
    DataError
        Naming both.
    """
    if edits.sha256 != sha256:
        raise DataError(
            f"{path}: holds edits of {edits.recording}, SHA-256 {edits.sha256[:12]}...; that of "
            f"{recording} is {sha256[:12]}...",
            hint="give the recording that was reviewed, unchanged",
            code="REV-NIGHT",
        )


def check_grid(edits: Review, fresh: Review, recording: Recording, path: Path) -> None:
    """Refuse a review whose epochs or times a page of its recording cannot have.

    Every page has all epochs of its recording; what is cut short or moved was altered since.

    Raises
    ------
    DataError
        Naming what differs.
    """
    h = edits.hypnogram
    end, wrong = h.onset + len(h) * h.epoch_seconds, ""
    if not -GRID_SLACK <= h.onset < h.epoch_seconds:
        wrong = f"begins at {h.onset:g} s"
    elif not abs(recording.seconds - end - h.epoch_seconds / 2) <= h.epoch_seconds / 2 + GRID_SLACK:
        wrong = f"has {len(h)} epochs of {h.epoch_seconds:g} s for {recording.seconds:g} s"
    start = placing.start_of(recording)
    due = add_seconds(start, h.onset)
    if not wrong and start is not None and not is_same_time(h.begin, due):
        begins = h.begin.isoformat() if h.begin else "at no time"
        wrong = f"begins {begins}, the recording {due.isoformat() if due else 'at no time'}"
    own = (fresh.lights_off, fresh.lights_on)
    for t in (edits.lights_off, edits.lights_on):
        if not wrong and t is not None and t not in own and not 0 <= t <= recording.seconds:
            wrong = f"has lights at {t:g} s of {recording.seconds:g} s"
    if wrong:
        raise DataError(
            f"{path}: {wrong}: altered since it was exported?",
            hint="give the file as the page exported it",
            code="HYP-ROW",
        )


def _on_recording(
    scoring: Hypnogram, density: Floats | None, recording: Recording
) -> tuple[Hypnogram, Floats]:
    """Extend or cut a scoring to the recording, on its own grid; with probabilities likewise."""
    seconds = scoring.epoch_seconds
    names = scoring.names
    if density is None or len(density) != len(scoring):
        density = np.full((len(scoring), len(names)), np.nan, np.float32)
    first = max(0, math.ceil((-scoring.onset - SLACK) / seconds))
    clipped = scoring.clipped(recording.seconds)
    lead = max(0, int((clipped.onset + SLACK) // seconds))
    ahead = replace(
        clipped,
        stages=np.concatenate([np.full(lead, UNSCORED, np.int8), clipped.stages]),
        reasons=np.concatenate([np.full(lead, UNANNOTATED, np.int8), clipped.reasons]),
        onset=max(0.0, clipped.onset - lead * seconds),
    )
    extended = ahead.padded(recording.seconds)
    if not len(extended):
        raise DataError(
            f"{recording.id}: {recording.seconds:g} s hold no epoch of {seconds:g} s",
            code="REC-SHORT",
        )
    rows: npt.NDArray[np.float32] = np.full((len(extended), len(names)), np.nan, np.float32)
    rows[lead : lead + len(clipped)] = density[first : first + len(clipped)]
    begin = add_seconds(placing.start_of(recording), extended.onset)
    return replace(extended, begin=begin or extended.begin, scorer="", notes=()), np.round(rows, 4)
