"""`sleeptools report`: one HTML file that opens offline, and says how far to trust what it shows.

A section is a function from a `Page` (the numbers, gathered first) to blocks; `SECTIONS` lists them
in the order of the page. Blocks are shown as HTML, as Markdown, or as CSV files. The frame of the
page, its style and its one script are report.html, .css and .js in sleeptools/report; nothing is fetched.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from sleeptools import store
from sleeptools.errors import MissingInputError, UsageError
from sleeptools.evaluation import caveats
from sleeptools.report import html, markup, plain
from sleeptools.report.blocks import Block
from sleeptools.report.html import Section
from sleeptools.report.markup import Markup
from sleeptools.report.page import Page, gather
from sleeptools.report.sections.calibration import calibration, optimism, second_look
from sleeptools.report.sections.hypnograms import hypnograms, inside, training
from sleeptools.report.sections.metrics import confusions, results, stages, subjects, summary
from sleeptools.report.sections.overview import overview
from sleeptools.report.sections.provenance import data, literature, provenance
from sleeptools.report.sections.signals import signals
from sleeptools.report.sections.sleep import day, scorers, statistics

PURPOSE: Final = "Research software, not a medical device; not for diagnosis."
FORMATS: Final = ("html", "md", "csv")
IN_BANNERS: Final = {caveats.SIMULATED, caveats.UNKNOWN}


@dataclass(frozen=True)
class ReportOptions:
    """What to show, and how.

    Parameters
    ----------
    kind
        "html" (one page), "md" (one text) or "csv" (a folder with a file per table).
    epochs, recordings
        Folders of the epochs that the runs were trained on, and of the recordings behind them, for
        the section on the signals.
    figures
        Folder for each figure as a file of its own: SVG, and PDF where matplotlib draws it.
    partial
        Take incomplete runs; the report says so.
    """

    kind: str = "html"
    epochs: Path | None = None
    recordings: Path | None = None
    figures: Path | None = None
    partial: bool = False


def report(
    run_folders: Sequence[Path], out: Path, options: ReportOptions | None = None
) -> list[Path]:
    """Write the report of one run or several.

    Parameters
    ----------
    run_folders
        Run folders; nothing is written into them.
    out
        The file; a folder for CSV files.
    options
        What to show, and how.

    Returns
    -------
    written
        `out` first; then the figures. The CSV files where there are such.

    Raises
    ------
    MissingInputError
        If there is no such run, or no such folder of epochs or recordings.
    DataError
        If it is no run, lacks folds, or its predictions do not fit its folds; or if the epochs are
        others than it was trained on.
    UsageError
        For an unknown format, or recordings without epochs.
    OutputError
        If a file cannot be written.
    """
    asked = options or ReportOptions()
    _checked(run_folders, asked)
    given = {"partial": asked.partial, "epochs": asked.epochs, "recordings": asked.recordings}
    pages = [gather(folder, i, **given) for i, folder in enumerate(run_folders, 1)]  # type: ignore[arg-type]
    shown = [_sections(page) for page in pages]
    common = [Section("runs", "All runs", tuple(overview(pages)))] if len(pages) > 1 else []
    names = (plain.filename(p.found.run.name) for p in pages)
    prefixes = [f"{i}-{name}-" if common else "" for i, name in enumerate(names, 1)]
    groups = [(common, ""), *zip(shown, prefixes, strict=True)]
    written = []
    if asked.kind == "html":
        store.write_text(out, _page(pages, shown, common))
    elif asked.kind == "md":
        store.write_text(out, _markdown(pages, groups, asked))
    else:
        written += [p for some, prefix in groups for p in plain.write_tables(some, prefix, out)]
    if asked.figures is not None:
        for some, prefix in groups:
            written += plain.write_figures(some, prefix, asked.figures)
    return [out, *written] if asked.kind != "csv" else written


def _checked(run_folders: Sequence[Path], options: ReportOptions) -> None:
    if not run_folders:
        raise MissingInputError("no run to report on", hint="for example runs/mmasleepnet")
    if options.kind not in FORMATS:
        raise UsageError(
            f"unknown format {options.kind!r}", hint=f"there are: {', '.join(FORMATS)}"
        )
    if options.recordings and not options.epochs:
        raise UsageError(
            "recordings are shown beside the epochs made of them", hint="give `epochs`, too"
        )


def _sections(page: Page) -> list[Section]:
    """Make every section of a run that has something to show."""
    made = [Section(k, title, tuple(render(page))) for k, (title, render) in SECTIONS.items()]
    return [section for section in made if section.blocks]


def _page(
    pages: Sequence[Page], shown: Sequence[Sequence[Section]], common: Sequence[Section]
) -> str:
    title = "Sleep staging: " + ", ".join(p.found.run.name for p in pages)
    level = "h3" if common else "h2"
    body = [html.section(s, 0, "h2") for s in common]
    for page, sections in zip(pages, shown, strict=True):
        if common:
            name = markup.text(f"Run {page.found.run.name}")
            body.append(markup.element("h2", name, class_="run-title", id=f"run-{page.number}"))
        body += [html.section(s, page.number, level) for s in sections]
    return html.page(title, _header(pages, shown), body, markup.paragraph(_footnote()))


def _markdown(
    pages: Sequence[Page], groups: Sequence[tuple[Sequence[Section], str]], options: ReportOptions
) -> str:
    heads = ["", *(f"# Run {p.found.run.name}\n\n" for p in pages)] if len(pages) > 1 else [""] * 2
    figures = str(options.figures) if options.figures else ""
    notes = [f"> **{head}** {said}\n" for page in pages for head, said in _warnings([page])]
    parts = [
        head + plain.markdown(some, prefix, figures)
        for head, (some, prefix) in zip(heads, groups, strict=True)
    ]
    names = ", ".join(p.found.run.name for p in pages)
    title = f"# Sleep staging report: {names}\n"
    return "\n".join([title, PURPOSE, "", *notes, *parts, _footnote(), ""])


def _header(pages: Sequence[Page], shown: Sequence[Sequence[Section]]) -> Markup:
    names = ", ".join(p.found.run.name for p in pages)
    notes = dict.fromkeys(note for p in pages for note in p.found.notes)
    now = f"{datetime.now(UTC):%d %B %Y, %H:%M} UTC"
    return markup.join(
        [
            markup.element("h1", markup.text(f"Sleep staging report: {names}")),
            markup.paragraph(f"Written by sleeptools on {now}", class_="lead"),
            *(_banner(head, said) for head, said in _warnings(pages)),
            markup.paragraph(PURPOSE, class_="purpose"),
            markup.items(note for note in notes if note not in IN_BANNERS),
            _contents(pages, shown),
        ]
    )


def _warnings(pages: Sequence[Page]) -> Iterator[tuple[str, str]]:
    """Say what must be seen first: simulated data, incomplete runs, leaks."""
    simulated = [p.found.run.name for p in pages if p.found.run.simulated]
    if simulated:
        which = "" if len(simulated) == len(pages) else f" in {', '.join(simulated)}"
        yield (
            f"SIMULATED DATA{which}",
            "These numbers come from generated signals. They show that the programs work; they say "
            "nothing about sleep in people or animals, nor about how well a model would do there.",
        )
    for page in pages:
        if page.found.run.simulated is None:
            said = f"No file of {page.found.run.name} says whether its data is simulated."
            yield "ORIGIN UNKNOWN", said
        if page.found.run.missing:
            missing = ", ".join(map(str, page.found.run.missing))
            yield f"INCOMPLETE: {page.found.run.name}", f"Not trained yet: {missing}"
        if page.found.leakage.startswith("LEAKY"):
            yield "LEAKY SPLIT", page.found.leakage


def _banner(head: str, said: str) -> Markup:
    return markup.element(
        "div",
        markup.element("strong", markup.text(head)),
        markup.paragraph(said),
        class_="banner",
        role="note",
    )


def _contents(pages: Sequence[Page], shown: Sequence[Sequence[Section]]) -> Markup:
    """Links to the sections of the run, or to the runs where there are several."""
    if len(pages) == 1:
        links = [(f"#{s.key}-1", s.title) for s in shown[0]]
    else:
        links = [(f"#run-{p.number}", p.found.run.name) for p in pages]
    listed = (
        markup.element("li", markup.element("a", markup.text(t), href=link)) for link, t in links
    )
    return markup.element("nav", markup.element("ul", *listed), aria_label="Contents")


def _footnote() -> str:
    return (
        f"{PURPOSE} Definitions of the metrics: precision, recall, F1 and specificity one stage "
        "against the rest; a stage that is not in the scored epochs is left out of the means; "
        "kappa after Cohen (1960)."
    )


SECTIONS: Final[dict[str, tuple[str, Callable[[Page], Iterator[Block]]]]] = {
    "summary": ("Summary", summary),
    "results": ("Metrics", results),
    "published": ("Beside the publications", literature),
    "confusion": ("Confusion matrix", confusions),
    "stages": ("Per stage", stages),
    "subjects": ("Per subject and fold", subjects),
    "hypnograms": ("Hypnogram", hypnograms),
    "sleep": ("Sleep statistics", statistics),
    "day": ("Minutes over the day", day),
    "scorers": ("Model and scorers", scorers),
    "calibration": ("Calibration", calibration),
    "review": ("Worth a second look", second_look),
    "signals": ("Signals", signals),
    "inside": ("What the model sees", inside),
    "training": ("Training", training),
    "optimism": ("What choosing on the test fold gains", optimism),
    "data": ("Data", data),
    "provenance": ("How it was made", provenance),
}
"""Anchor to heading and function, in the order of the page."""
