"""`sleeptools report`: one HTML file that opens offline, and says how far to trust what it shows.

A section is a function from a `Page` (the numbers, gathered first) to blocks; `SECTIONS` lists them
in the order of the page. Blocks are shown as HTML, as Markdown, or as CSV files. The frame of the
page, its style and its one script are report.html, .css and .js of the room `report`; nothing is
fetched.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from sleeptools.commands.score.batch_page import batch_html
from sleeptools.commands.score.folder import is_scores_folder
from sleeptools.errors import UsageError
from sleeptools.evaluation import caveats
from sleeptools.report import html, markup, outputs, plain
from sleeptools.report.blocks import Block
from sleeptools.report.html import PURPOSE, Section, banner
from sleeptools.report.markup import Markup
from sleeptools.report.page import Page, gather_page
from sleeptools.report.page_source import PageSource, folder_source
from sleeptools.report.sections.calibration import calibration_section
from sleeptools.report.sections.explanations import explanations_section
from sleeptools.report.sections.held_out import held_out_section
from sleeptools.report.sections.hypnograms import hypnograms_section
from sleeptools.report.sections.methods import methods_section
from sleeptools.report.sections.metrics import (
    confusion_section,
    metrics_section,
    stages_section,
    subjects_section,
    summary_section,
)
from sleeptools.report.sections.overview import overview_section
from sleeptools.report.sections.provenance import data_section, provenance_section
from sleeptools.report.sections.published import published_section
from sleeptools.report.sections.selection import selection_section
from sleeptools.report.sections.signals import signals_section
from sleeptools.report.sections.sleep import day_section, scorers_section, sleep_section
from sleeptools.report.sections.training import training_section
from sleeptools.report.sections.uncertain_epochs import uncertain_epochs_section

REPORT_FORMATS: Final = ("html", "md", "csv")
IN_BANNERS: Final = {caveats.SIMULATED_DATA, caveats.UNKNOWN_ORIGIN}


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
        Folder for each figure as a file of its own: SVG, PDF and PNG.
    partial
        Take incomplete runs; the report says so.
    force
        Replace a page, a text or tables that this command did not write, or wrote of something
        else.
    """

    kind: str = "html"
    epochs: Path | None = None
    recordings: Path | None = None
    figures: Path | None = None
    partial: bool = False
    force: bool = False


def write_report(
    run_folders: Sequence[Path], out: Path, options: ReportOptions | None = None
) -> list[Path]:
    """Write the report of one run or several.

    Parameters
    ----------
    run_folders
        Run folders, or one folder of scores; nothing is written into them.
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
        If a file cannot be written, or what is there is a report of something else.
    """
    options = options or ReportOptions()
    _check(run_folders, options)
    if len(run_folders) == 1 and is_scores_folder(run_folders[0]):
        return _write_scores(run_folders[0], out, options)
    kind = "run" if len(run_folders) == 1 else "runs"
    source = folder_source(kind, run_folders, out)
    with outputs.holding(out, options.kind, options.figures, source, force=options.force):
        pages = [
            gather_page(
                folder,
                number,
                partial=options.partial,
                epochs=options.epochs,
                recordings=options.recordings,
            )
            for number, folder in enumerate(run_folders, 1)
        ]
        return _write(pages, out, options, source)


def _write_scores(folder: Path, out: Path, options: ReportOptions) -> list[Path]:
    """Write the page of a folder of scores."""
    if options.kind != "html" or options.epochs or options.recordings or options.figures:
        raise UsageError(
            f"{folder}: of scores there is one page, without epochs, recordings or figures",
            hint="sleep.csv in it has the numbers",
            code="USE-TOGETHER",
        )
    source = folder_source("scores", [folder], out)
    with outputs.holding(out, "html", None, source, force=options.force):
        outputs.write_page(out, "html", batch_html(folder), source)
    return [out]


def _write(
    pages: Sequence[Page], out: Path, options: ReportOptions, source: PageSource
) -> list[Path]:
    """Write what is asked for, and return the paths."""
    sections = [_sections(page) for page in pages]
    common = [Section("runs", "All runs", tuple(overview_section(pages)))] * (len(pages) > 1)
    names = (plain.safe_filename(page.run.name) for page in pages)
    prefixes = [f"{i}-{name}-" if common else "" for i, name in enumerate(names, 1)]
    groups = [(common, ""), *zip(sections, prefixes, strict=True)]
    tables: list[Path] = []
    figures: list[Path] = []
    if options.kind == "html":
        outputs.write_page(out, "html", _html(pages, sections, common), source)
    elif options.kind == "md":
        outputs.write_page(out, "md", _markdown(pages, groups, options), source)
    else:
        for group, prefix in groups:
            tables += plain.write_tables(group, prefix, out)
    if options.figures is not None:
        for group, prefix in groups:
            figures += plain.write_figures(group, prefix, options.figures)
    outputs.write_manifests(tables + figures, source)
    return tables + figures if options.kind == "csv" else [out, *figures]


def _check(run_folders: Sequence[Path], options: ReportOptions) -> None:
    if not run_folders:
        raise UsageError("no run to report on", hint="for example runs/mmasleepnet")
    if options.kind not in REPORT_FORMATS:
        raise UsageError(
            f"unknown format {options.kind!r}",
            hint=f"there are: {', '.join(REPORT_FORMATS)}",
            code="USE-NAME",
        )
    if options.recordings and not options.epochs:
        raise UsageError(
            "recordings are shown beside the epochs made of them",
            hint="give `epochs`, too",
            code="USE-TOGETHER",
        )


def _sections(page: Page) -> list[Section]:
    """Make every section of a run that has something to show."""
    noun = page.subject_noun
    sections = [
        Section(k, title.format(subject=noun), tuple(blocks(page)))
        for k, (title, blocks) in SECTIONS.items()
    ]
    return [section for section in sections if section.blocks]


def _html(
    pages: Sequence[Page], by_run: Sequence[Sequence[Section]], common: Sequence[Section]
) -> str:
    title = f"Sleep staging: {_run_names(pages)}"
    level = "h3" if common else "h2"
    body = [html.section_html(section, 0, "h2") for section in common]
    for page, sections in zip(pages, by_run, strict=True):
        if common:
            name = markup.escape(f"Run {page.run.name}")
            body.append(markup.element("h2", name, class_="run-title", id=f"run-{page.number}"))
        body += [html.section_html(section, page.number, level) for section in sections]
    return html.page_html(title, _header(pages, by_run), body, markup.paragraph(_footnote()))


def _markdown(
    pages: Sequence[Page], groups: Sequence[tuple[Sequence[Section], str]], options: ReportOptions
) -> str:
    heads = ["", *(f"# Run {p.run.name}\n\n" for p in pages)] if len(pages) > 1 else [""] * 2
    figures = str(options.figures) if options.figures else ""
    notes = [f"> **{head}** {text}\n" for page in pages for head, text in _warnings([page])]
    bodies = [
        head + plain.markdown(sections, prefix, figures)
        for head, (sections, prefix) in zip(heads, groups, strict=True)
    ]
    title = f"# Sleep staging report: {_run_names(pages)}\n"
    return "\n".join([title, PURPOSE, "", *notes, *bodies, _footnote(), ""])


def _run_names(pages: Sequence[Page]) -> str:
    return ", ".join(page.run.name for page in pages)


def _header(pages: Sequence[Page], by_run: Sequence[Sequence[Section]]) -> Markup:
    shown_elsewhere = {*IN_BANNERS, *(page.evaluation.ceiling for page in pages)}
    notes = dict.fromkeys(note for page in pages for note in page.evaluation.notes)
    time = f"{datetime.now(UTC):%d %B %Y, %H:%M} UTC"
    return markup.join(
        [
            markup.element("h1", markup.escape(f"Sleep staging report: {_run_names(pages)}")),
            markup.paragraph(f"Written by sleeptools on {time}", class_="lead"),
            *(banner(head, text) for head, text in _warnings(pages)),
            markup.paragraph(PURPOSE, class_="purpose"),
            markup.bullet_list(note for note in notes if note not in shown_elsewhere),
            _contents(pages, by_run),
        ]
    )


def _warnings(pages: Sequence[Page]) -> Iterator[tuple[str, str]]:
    """Say what must be seen first: simulated data, incomplete runs, leaks."""
    simulated = [page.run.name for page in pages if page.run.simulated]
    if simulated:
        runs = "" if len(simulated) == len(pages) else f" in {', '.join(simulated)}"
        yield (
            f"SIMULATED DATA{runs}",
            "These numbers come from generated signals. They show that the programs work; they say "
            "nothing about sleep in people or animals, nor about how well a model would do there.",
        )
    for page in pages:
        run = page.run
        if run.simulated is None:
            yield "ORIGIN UNKNOWN", f"No file of {run.name} says whether its data is simulated."
        if run.missing:
            missing = ", ".join(map(str, run.missing))
            yield f"INCOMPLETE: {run.name}", f"Not trained yet: {missing}"
        if page.evaluation.leakage.startswith("LEAKY"):
            yield "LEAKY SPLIT", page.evaluation.leakage


def _contents(pages: Sequence[Page], by_run: Sequence[Sequence[Section]]) -> Markup:
    """Links to the sections of the run, or to the runs where there are several."""
    if len(pages) == 1:
        links = [(f"#{section.key}-1", section.title) for section in by_run[0]]
    else:
        links = [(f"#run-{page.number}", page.run.name) for page in pages]
    entries = (
        markup.element("li", markup.element("a", markup.escape(title), href=href))
        for href, title in links
    )
    return markup.element("nav", markup.element("ul", *entries), aria_label="Contents")


def _footnote() -> str:
    return (
        f"{PURPOSE} Definitions of the metrics: precision, recall, F1 and specificity one stage "
        "against the rest; a stage that is not in the scored epochs is left out of the means; "
        "kappa after Cohen (1960)."
    )


SECTIONS: Final[dict[str, tuple[str, Callable[[Page], Iterator[Block]]]]] = {
    "summary": ("Summary", summary_section),
    "results": ("Metrics", metrics_section),
    "published": ("Beside the publications", published_section),
    "confusion": ("Confusion matrix", confusion_section),
    "stages": ("Per stage", stages_section),
    "subjects": ("Per {subject} and fold", subjects_section),
    "unseen": ("Unseen {subject}s", held_out_section),
    "hypnograms": ("Hypnogram", hypnograms_section),
    "sleep": ("Sleep statistics", sleep_section),
    "day": ("Minutes over the day", day_section),
    "scorers": ("Model and scorers", scorers_section),
    "calibration": ("Calibration", calibration_section),
    "review": ("Worth a second look", uncertain_epochs_section),
    "signals": ("Signals", signals_section),
    "inside": ("What the model sees", explanations_section),
    "training": ("Training", training_section),
    "optimism": ("What choosing on the test fold gains", selection_section),
    "data": ("Data", data_section),
    "provenance": ("How it was made", provenance_section),
    "methods": ("For a methods section", methods_section),
}
"""Anchor to heading and function, in the order of the page."""
