"""The page of a scored night: what was scored, how sure of it the model is, and by what model."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from sleeptools import store
from sleeptools.commands.score.scoring import Scoring
from sleeptools.commands.score.sleep_table import BIN_HOURS, sleep_column
from sleeptools.evaluation.sleep_statistics import DEFINITIONS
from sleeptools.preprocessing.presets import Preset
from sleeptools.recording import montage
from sleeptools.recording.hypnogram import Hypnogram, add_seconds
from sleeptools.recording.recording import Samples, Signal
from sleeptools.recording.signals.spectrogram import spectrogram
from sleeptools.recording.stages import MOUSE_STAGES, UNSCORED
from sleeptools.report import html, markup, png
from sleeptools.report.blocks import Block, BulletList, Figure, Table, Text, Tiles
from sleeptools.report.html import PURPOSE, Section, banner
from sleeptools.report.hypnogram_figure import as_drawn
from sleeptools.report.svg import HypnogramNight, SpectrogramPicture, hypnogram_svg
from sleeptools.runs.parent import tuned_on_real

LISTED: Final = 25
"""Number of doubtful epochs in the table."""
COLUMNS: Final = 1440
"""Largest number of columns of a spectrogram; more epochs than this are averaged."""
DECIBELS: Final = 40.0  # of the colours
HIGH: Final = 98.0  # percentile of the levels that has the last colour
COLOURS: Final = (  # from dark blue over green to yellow; brightness rises evenly
    (18, 22, 60),
    (38, 62, 118),
    (37, 111, 130),
    (64, 158, 118),
    (146, 196, 84),
    (250, 226, 96),
)
ABBREVIATIONS: Final = ("tib", "spt", "tst", "se", "sme", "sol", "waso")
MODEL_FACTS: Final = {
    "model": "model",
    "selection": "chosen by",
    "pass": "passes of training",
    "protocol": "protocol",
    "fold": "fold",
    "seed": "seed",
}


@dataclass(frozen=True)
class NightPage:
    """How pages of the nights of one batch are made.

    Parameters
    ----------
    model
        The model's folder, as it was given.
    facts
        Contents of the model's config.json.
    preset
        How its signals are preprocessed.
    expected
        What agreement with which scorer can be expected.
    calibration
        What was done to the probabilities.
    """

    model: str
    facts: Mapping[str, Any] = field(repr=False)
    preset: Preset = field(repr=False)
    expected: str = ""
    calibration: str = "probabilities as the model gives them"

    def write(self, night: Scoring, path: Path) -> None:
        """Write the page of a night."""
        store.write_text(path, self._html(night))

    def _html(self, night: Scoring) -> str:
        sections = [
            Section("night", "The night", tuple(self._night(night))),
            Section("sleep", "Sleep statistics", tuple(_statistics(night))),
            Section("doubtful", "Doubtful epochs", tuple(_doubtful(night))),
            Section("signals", "Signals", tuple(_signals(night))),
            Section("model", "Who scored", tuple(self._model())),
        ]
        header = [
            markup.element("h1", markup.escape(f"Scored night: {night.name}")),
            markup.paragraph(_lead(night), class_="lead"),
            *(banner(head, text) for head, text in self._banners(night)),
            markup.paragraph(PURPOSE, class_="purpose"),
        ]
        body = [html.section_html(section, 1, "h2") for section in sections]
        footer = markup.paragraph(f"{PURPOSE} Written by sleeptools.")
        return html.page_html(f"Scored night: {night.name}", markup.join(header), body, footer)

    def _banners(self, night: Scoring) -> Iterator[tuple[str, str]]:
        if night.recording.facts.get("simulated"):
            yield "SIMULATED DATA", "This night comes from generated signals, not from a sleeper."
        for warning in night.warnings:
            yield "WARNING", warning

    def _night(self, night: Scoring) -> Iterator[Block]:
        if not np.any(night.hypnogram.stages != UNSCORED):
            yield Text("No epoch has a signal.")
            return
        drawn = as_drawn(night.name, night.hypnogram, night.hypnodensity)
        pictures = [_picture(signal, drawn) for signal in self._drawn_signals(night)]
        kinds = " and EMG" if _is_mouse(night) else ""
        caption = (
            "The likeliest stage of every epoch, over the probability of every stage, stacked, "
            f"over the multitaper spectrogram of each EEG{kinds} ({DECIBELS:g} dB from dark to "
            "light)."
        )
        drawing = hypnogram_svg(drawn, pictures)
        yield Figure(f"hypnogram-{night.name}", drawing, "Hypnogram", caption, zoom=True)

    def _drawn_signals(self, night: Scoring) -> list[Signal]:
        """Pick the EEG and, of mice, the EMG, which tells REM from waking."""
        signals = montage.pick(night.recording, night.montage.channels, self.preset.assume_unit)
        kinds = ("eeg", "emg") if _is_mouse(night) else ("eeg",)
        return [signal for signal in signals if signal.modality in kinds]

    def _model(self) -> Iterator[Block]:
        settings = self.preset
        facts = {name: self.facts.get(key) for key, name in MODEL_FACTS.items()}
        rows = [[name, value] for name, value in facts.items() if value is not None]
        rows += [
            ["folder", self.model],
            ["learnt from", self._origin()],
            ["expected agreement", self.expected],
            ["probabilities", self.calibration],
            ["preset", f"{settings.name}, {settings.sample_rate:g} Hz"],
        ]
        yield Table("model", ["", ""], rows, "The model and its data", texts=2)

    def _origin(self) -> str:
        data = self.preset.data_set or "unknown data"
        simulated = self.facts.get("simulated")
        if simulated is None:
            return f"{data}; whether simulated is not known"
        if tuned_on_real(self.facts):
            return f"{data}, SIMULATED nights, then fine-tuned on real recordings"
        return f"{data}, {'SIMULATED nights only' if simulated else 'real recordings'}"


def _is_mouse(night: Scoring) -> bool:
    return night.hypnogram.names == MOUSE_STAGES


def _lead(night: Scoring) -> str:
    hypnogram = night.hypnogram
    begin = hypnogram.begin
    hours = len(hypnogram) * hypnogram.epoch_seconds / 3600
    since = "" if begin is None else f"from {begin.isoformat(timespec='minutes')} on, "
    since = since.replace("T", " ")
    return f"{since}{hours:.1f} h in {len(hypnogram)} epochs of {hypnogram.epoch_seconds:g} s"


def _picture(signal: Signal, night: HypnogramNight) -> SpectrogramPicture:
    """Draw the spectrogram of a signal, epochs averaged where there are many."""
    onsets = np.asarray(night.begin + np.arange(night.count) * night.epoch_seconds, np.float64)
    hertz, level = spectrogram(signal, onsets, night.epoch_seconds)
    step = -(-night.count // COLUMNS)
    if step > 1:
        level = _averaged(level, step)
    pixels = _colour_numbers(level)
    picture = png.png(np.ascontiguousarray(pixels.T[::-1]), _palette(), hidden=1)
    return SpectrogramPicture(signal.label, png.data_uri(picture), float(hertz[-1]))


def _averaged(level: Samples, step: int) -> Samples:
    """Average every few epochs, those without a signal left out."""
    lacking = -len(level) % step
    padded = np.concatenate([level, np.full((lacking, level.shape[1]), np.nan, np.float32)])
    groups = padded.reshape(-1, step, level.shape[1])
    there = np.isfinite(groups)
    total = np.where(there, groups, 0).sum(1)
    with np.errstate(invalid="ignore"):
        mean: Samples = total / there.sum(1)
    return mean


def _colour_numbers(level: Samples) -> npt.NDArray[np.uint8]:
    """Return the number of each level's colour, from 1; 0 where there is none."""
    known = level[np.isfinite(level)]
    top = float(np.percentile(known, HIGH)) if len(known) else 0.0
    scaled = np.clip((level - top) / DECIBELS + 1, 0, 1)
    return np.where(np.isfinite(scaled), 1 + np.nan_to_num(scaled) * 254, 0).astype(np.uint8)


def _palette() -> npt.NDArray[np.uint8]:
    """Return the colours: (256, 3), the first for what is not there."""
    places = np.linspace(0, 254, len(COLOURS))
    shades = [np.interp(np.arange(255), places, shade) for shade in zip(*COLOURS, strict=True)]
    return np.concatenate([np.zeros((1, 3)), np.stack(shades, 1)]).round().astype(np.uint8)


def _statistics(night: Scoring) -> Iterator[Block]:
    row = night.row()
    sleep = row["sleep"]
    shares = DEFINITIONS["share"].split(";")
    if "tst_min" in sleep:
        yield Tiles(
            [
                ("sleep", _minutes(sleep["tst_min"]), "TST"),
                ("sleep efficiency", _percent(sleep["se_percent"]), "TST / TIB"),
                ("sleep onset", _minutes(sleep["sol_min"]), "after lights off"),
                ("wake after sleep onset", _minutes(sleep["waso_min"]), "WASO"),
            ]
        )
    yield Table(
        "sleep",
        ["statistic", "value", "definition"],
        [
            [_title(column), _shown(column, sleep[column]), DEFINITIONS[key]]
            for key in DEFINITIONS
            if (column := sleep_column(key)) in sleep
        ],
        "Sleep statistics, as in sleep.csv",
        texts=3,
    )
    yield Table(
        "stages",
        ["stage", "minutes", "share"],
        [
            [
                name,
                _shown("", sleep[f"{name}_min"]),
                _percent(sleep[share]) if (share := f"{name}_percent") in sleep else "",
            ]
            for name in night.hypnogram.names
        ],
        f"Minutes of each stage; share {shares[0] if 'tst_min' in sleep else 'of the scored time'}",
        narrow=True,
    )
    if sleep["undefined"]:
        yield Text(sleep["undefined"], bold="Undefined:")
        if "lights" in sleep["undefined"]:
            yield Text("They can be given when the night is scored, as times of day.")
    if row["bins"]:
        head = ["hours", *(f"{name}, min" for name in night.hypnogram.names)]
        cells = [_bin_cells(values, night.hypnogram) for values in row["bins"]]
        caption = f"Minutes of each stage in bins of {BIN_HOURS:g} h from the recording's start"
        yield Table("bins", head, cells, caption)


def _bin_cells(values: Mapping[str, float], hypnogram: Hypnogram) -> list[str]:
    """Write a row of the bins; one that the scoring does not fill says how much it covers."""
    begin, end = values["from_h"], values["to_h"]
    first = hypnogram.onset / 3600
    last = first + len(hypnogram) * hypnogram.epoch_seconds / 3600
    covered = min(end, last) - max(begin, first)
    hours = f"{begin:g} to {end:g}"
    if covered < end - begin - hypnogram.epoch_seconds / 3600:
        hours += f" ({covered:.2g} h of it)"
    return [hours, *(f"{values[f'{name}_min']:.1f}" for name in hypnogram.names)]


def _title(column: str) -> str:
    """Write a column of sleep.csv for people: "rem latency from lights off", "TST"."""
    name = column.rpartition("_")[0] or column
    return name.upper() if name in ABBREVIATIONS else name.replace("_", " ").replace("rem", "REM")


def _shown(column: str, value: float | None) -> str:
    if column == "transitions" and value is not None:
        return f"{value:.0f}"
    unit = {"min": "\N{NO-BREAK SPACE}min", "percent": "\N{NO-BREAK SPACE}%"}.get(
        column.rpartition("_")[2], ""
    )
    return "unknown" if value is None else f"{value:.1f}{unit}"


def _minutes(value: float | None) -> str:
    return "unknown" if value is None else f"{value:.1f} min"


def _percent(value: float | None) -> str:
    return "unknown" if value is None else f"{value:.1f} %"


def _doubtful(night: Scoring) -> Iterator[Block]:
    """List the epochs in which the two likeliest stages lie closest together."""
    names = night.hypnogram.names
    ranked = np.sort(night.hypnodensity, axis=1)
    margin = np.where(np.isfinite(ranked[:, -1]), ranked[:, -1] - ranked[:, -2], np.inf)
    order = np.argsort(margin, kind="stable")[:LISTED]
    rows = []
    for number in order[np.isfinite(margin[order])].tolist():
        best, second = np.argsort(-night.hypnodensity[number], kind="stable")[:2].tolist()
        seconds = number * night.hypnogram.epoch_seconds
        begin = add_seconds(night.hypnogram.begin, seconds)
        p = night.hypnodensity[number]
        rows.append(
            [
                number,
                f"{begin:%H:%M:%S}" if begin else f"{seconds:g} s",
                f"{names[best]} {p[best]:.2f}",
                f"{names[second]} {p[second]:.2f}",
            ]
        )
    mean = night.row()["confidence"]
    if mean is not None:
        yield Text(f"Mean probability of the stages: {mean:.3f}.")
    head = ["epoch", "time", "stage", "or rather"]
    yield Table("doubtful", head, rows, "Epochs most worth a second look", texts=4, narrow=True)


def _faults(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{n} {kind}" for kind, n in counts.items() if n) or "0"


def _signals(night: Scoring) -> Iterator[Block]:
    rows = [
        [name, source, _faults(night.quality.get(name, {}))]
        for name, source in night.montage.made_of.items()
    ]
    head = ["channel of the model", "made of", "epochs with a fault"]
    yield Table("signals", head, rows, "Channels and their quality", texts=3)
    if unscored := night.row()["unscored"]:
        why = [f"{count} epochs: {reason}" for reason, count in unscored.items()]
        yield Text("Left unscored, without a signal:")
        yield BulletList(why)
