"""What the scorings of a folder need to be read: words of their own, a scheme, the epochs' length.

Each scoring is read as `convert` would read it. Where that is refused, the setting that it lacks is
taken down and the scoring is read again with it, so that every fault of it is known at the end.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from sleeptools import formats
from sleeptools.errors import DataError, NoStagesError, SleeptoolsError, UndecidedError
from sleeptools.formats import edf
from sleeptools.recording import label_schemes, placing
from sleeptools.recording.hypnogram import Event, Hypnogram
from sleeptools.recording.label_schemes import Scheme
from sleeptools.recording.placing import EPOCHS_OF_THE_FIELD
from sleeptools.recording.recording import Recording
from sleeptools.recording.stages import EITHER, HUMAN_STAGES, MOUSE_STAGES

MOST_TRIES: Final = 60  # an unknown word may come to light each time that a scoring is read


@dataclass
class Survey:
    """What was seen in the scorings of a folder.

    Parameters
    ----------
    files
        Number of scorings that were looked at.
    stages
        Epochs by stage that the files' own words name.
    words
        Epochs by label whose meaning is not known.
    names
        The stage list.
    scorers
        Scorers in tables that name several.
    lengths
        Number of files by length of an epoch, s, that they do not tell and their signals do.
    from_onsets, bad_annotations
        Files whose stages have no durations, and with malformed annotations.
    misplaced
        Why scorings cannot be laid on their signals by the clock, by file.
    refused
        Why scorings cannot be read at all, by file.
    """

    files: int = 0
    stages: Counter[str] = field(default_factory=Counter)
    words: Counter[str] = field(default_factory=Counter)
    names: tuple[str, ...] = HUMAN_STAGES
    scorers: list[str] = field(default_factory=list)
    lengths: Counter[float] = field(default_factory=Counter)
    from_onsets: list[str] = field(default_factory=list)
    bad_annotations: list[str] = field(default_factory=list)
    misplaced: dict[str, str] = field(default_factory=dict)
    refused: dict[str, str] = field(default_factory=dict)

    def look_at(self, path: Path, name: str, recording: Recording) -> None:
        """Read a scoring, and take down what it needs.

        Parameters
        ----------
        path
            The scoring.
        name
            What the file is called in the survey.
        recording
            The signals that it is of.
        """
        self.files += 1
        reading = _Reading(path, recording)
        try:
            hypnogram = reading.run()
            counts = reading.counts(hypnogram)
        except SleeptoolsError as e:
            self.refused[name] = str(e)
            return
        unknown = set(reading.words)
        for label, count in counts.items():
            (self.words if label in unknown else self.stages)[label] += count
        self.words.update(dict.fromkeys(unknown, 0))
        if reading.names == MOUSE_STAGES or set(MOUSE_STAGES[1:2]) & set(hypnogram.names):
            self.names = MOUSE_STAGES
        self.scorers = list(dict.fromkeys([*self.scorers, *reading.scorers]))
        if reading.epoch_seconds:
            self.lengths[reading.epoch_seconds] += 1
        if reading.from_onsets:
            self.from_onsets.append(name)
        if reading.ignores_bad:
            self.bad_annotations.append(name)
        if reading.misplaced:
            self.misplaced[name] = reading.misplaced

    @property
    def is_of_either(self) -> bool:
        """Whether no stage that is known tells people from mice: the epochs are wake and REM."""
        known = {*HUMAN_STAGES} & {name for name, count in self.stages.items() if count}
        return self.names == HUMAN_STAGES and known <= EITHER

    @property
    def schemes(self) -> list[str]:
        """Schemes that know all the unknown labels, if these are numbers."""
        if not self.words or not all(label_schemes.is_number(w) for w in self.words):
            return []
        return [n for n, s in label_schemes.SCHEMES.items() if set(self.words) <= set(s.labels)]


class _Reading:
    """One scoring, read again and again with the settings that it turned out to need."""

    def __init__(self, path: Path, recording: Recording) -> None:
        self.path, self.recording = path, recording
        self.words: list[str] = []
        self.scorers: list[str] = []
        self.names: tuple[str, ...] = HUMAN_STAGES
        self.epoch_seconds: float | None = None
        self.from_onsets = self.ignores_bad = False
        self.misplaced = ""

    def run(self) -> Hypnogram:
        """Read it; if a setting helps, again with that.

        Raises
        ------
        SleeptoolsError
            If no setting helps.
        """
        for tries_left in reversed(range(MOST_TRIES)):
            try:
                return self._placed(self._read(self.epoch_seconds))
            except DataError as e:
                if not tries_left or not self._mends(e):
                    raise
        raise AssertionError("the last try returns or raises")

    def counts(self, hypnogram: Hypnogram) -> dict[str, int]:
        """Count the epochs of each stage, reason and unknown word of what has been read."""
        if not self.words:
            return hypnogram.counts()
        words = {word: word for word in self.words}
        scheme = Scheme((*self.names, *self.words), words, completes=True)
        return self._read(hypnogram.epoch_seconds, scheme).counts()

    def _read(self, epoch_seconds: float | None, scheme: Scheme | None = None) -> Hypnogram:
        unknown = dict.fromkeys(self.words, "unknown")
        return formats.read_hypnogram(
            self.path,
            scheme=scheme or (Scheme(self.names, unknown, completes=True) if unknown else None),
            epoch_seconds=epoch_seconds,
            epoch_from_onsets=self.from_onsets,
            scorer=self.scorers[0] if self.scorers else None,
            ignore_bad_annotations=self.ignores_bad,
        )

    def _placed(self, hypnogram: Hypnogram) -> Hypnogram:
        try:
            placing.place(self.recording, hypnogram, source=self.path.name)
        except DataError as e:
            if e.code == "HYP-LENGTH" and self.epoch_seconds is None:
                raise
            self.misplaced = str(e)
        return hypnogram

    def _mends(self, error: DataError) -> bool:
        """Change a setting so that an error does not come again; tell whether there is one."""
        before = self._settings()
        match error.code:
            case "HYP-TEXT" | "HYP-SCHEME" if isinstance(error, UndecidedError):
                self._learn(error.texts)
            case "HYP-SCHEME":
                self.names = MOUSE_STAGES
            case "HYP-SCORER" if isinstance(error, UndecidedError):
                self.scorers = self.scorers or [*error.texts]
            case "HYP-EPOCH" | "HYP-LENGTH":
                self.epoch_seconds = self.epoch_seconds or self._fitting_length()
            case "HYP-DURATION":
                self.from_onsets = True
            case "EDF-TAL":
                self.ignores_bad = True
            case _ if isinstance(error, NoStagesError) and formats.find(self.path) is edf:
                events = edf.read_annotations(self.path, ignore_bad_annotations=True)
                self._learn(_filling_epochs(events))
        return self._settings() != before

    def _settings(self) -> tuple[object, ...]:
        flags = (self.from_onsets, self.ignores_bad, self.epoch_seconds, self.names)
        return (*flags, *self.words, *self.scorers)

    def _learn(self, words: Sequence[str]) -> None:
        self.words += [w for w in words if w not in self.words]

    def _fitting_length(self) -> float | None:
        """Find the length of an epoch with which the scoring covers the signals."""
        seconds = self.recording.seconds
        fitting = []
        for length in EPOCHS_OF_THE_FIELD:
            try:
                hypnogram = self._read(length)
            except DataError:
                continue
            if hypnogram.timing == "times" or abs(hypnogram.end - seconds) <= 2 * length:
                fitting.append(length)
        return max(fitting, default=None)


def _filling_epochs(events: Sequence[Event]) -> list[str]:
    """List the unknown texts that last whole epochs and together most of the time."""
    texts: dict[str, list[float]] = {}
    for _, duration, text in events:
        texts.setdefault(text, []).append(duration)
    for length in sorted(EPOCHS_OF_THE_FIELD, reverse=True):
        filling = [t for t, ds in texts.items() if all(_is_whole(d, length) for d in ds)]
        if 2 * sum(sum(texts[t]) for t in filling) > sum(d for _, d, _ in events):
            return [t for t in filling if not label_schemes.word_meaning(t)]
    return []


def _is_whole(seconds: float, length: float) -> bool:
    return seconds > 0 and abs(seconds / length - round(seconds / length)) < 1e-6  # noqa: PLR2004
