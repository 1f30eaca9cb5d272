"""`report` of one table or figure of the papers: ours in its arrangement, beside the printed.

What is written is a folder with the item as a page, as Markdown and LaTeX, its tables as CSV and
its figures as SVG, PDF and PNG; or one of the three texts alone, by the name of the file.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from sleeptools import store
from sleeptools.commands.list import list_drawer
from sleeptools.errors import UsageError, did_you_mean
from sleeptools.evaluation import published
from sleeptools.evaluation.evaluation import compute_evaluation
from sleeptools.preprocessing.epochs import EPOCHS_KIND, EpochSet, check_epochs, open_epochs
from sleeptools.report import markup, outputs
from sleeptools.report.items.arrangement import Arrangement
from sleeptools.report.items.arrangements import ARRANGEMENTS
from sleeptools.report.items.content import ItemContent, ItemRequest
from sleeptools.report.items.item_page import item_html
from sleeptools.report.items.item_text import csv_rows, item_latex, item_markdown
from sleeptools.report.items.matching import SIZES
from sleeptools.report.items.phases import read_phases
from sleeptools.report.items.printed_numbers import results_of
from sleeptools.report.items.run_source import RunSource, choose_protocol
from sleeptools.report.page_source import PageSource, page_source
from sleeptools.report.plots.canvas import Plot
from sleeptools.runs.folds import BEST_ON_TEST, NAMED
from sleeptools.runs.run import open_run

FILE_KINDS: Final = {".html": "html", ".md": "md", ".tex": "tex"}


@dataclass(frozen=True)
class ItemOptions:
    """What feeds an item beside the runs, and how it is written.

    Parameters
    ----------
    epochs, recordings
        Folders of epochs, and of the recordings behind them, for figures of signals.
    phases
        Table of the phases of an experiment; see `report.items.phases`.
    protocol
        Protocol of the runs; that of the print, where they have it, if left out.
    partial
        Take incomplete runs; the page says so.
    force
        Replace files that this command did not write.
    """

    epochs: Path | None = None
    recordings: Path | None = None
    phases: Path | None = None
    protocol: str | None = None
    partial: bool = False
    force: bool = False


def write_item(
    name: str, sources: Sequence[str], out: Path, options: ItemOptions | None = None
) -> list[Path]:
    """Draw a table or figure of the papers from runs of ours, beside the printed numbers.

    Parameters
    ----------
    name
        Id of the item, for example "s0-table-3"; see `published_items`.
    sources
        Run folders or folders of epochs. "Sleep-EDF-78=runs/a" says which data set a run is of,
        where its own data do not tell. Without any, the printed numbers stand alone.
    out
        A folder, or a file that ends with .html, .md or .tex.
    options
        What feeds the item beside the runs, and how it is written.

    Returns
    -------
    written
        The files; the page first.

    Raises
    ------
    UsageError
        For an unknown item, or two runs for one row.
    MissingInputError
        If there is no such folder.
    DataError
        If a run cannot feed the item, or is damaged.
    OutputError
        If something else is at `out`.
    """
    options = options or ItemOptions()
    kind = _kind(out)
    arrangement = find_arrangement(name)
    request = gather_request(name, arrangement, sources, options)
    arrangement.check(request)
    content = arrangement.build(request)
    banners = list(_banners(request))
    source = page_source("item", [name], name)
    with outputs.holding(out, kind, None, source, force=options.force):
        if kind == "csv":  # a folder
            return _write_folder(out, request, content, banners, source)
        writers = {"html": item_html, "md": _markdown_alone, "tex": _latex_alone}
        outputs.write_page(out, kind, writers[kind](request.item, content, banners), source)
    return [out]


def _kind(out: Path) -> str:
    """Tell what `out` is by its ending: a folder has none."""
    suffix = out.suffix.lower()
    if suffix and suffix not in FILE_KINDS:
        raise UsageError(
            f"{out}: an item is written to a folder, or to a file that ends with "
            f"{', '.join(FILE_KINDS)}",
            hint=f"{out.with_suffix('')} for the folder, with CSV, SVG, PDF and PNG in it",
            code="USE-VALUE",
        )
    return FILE_KINDS.get(suffix, "csv")


def find_arrangement(name: str) -> Arrangement:
    """Find the arrangement of an item.

    Raises
    ------
    UsageError
        If there is no such item.
    """
    if name not in ARRANGEMENTS:
        names = list(ARRANGEMENTS)
        raise UsageError(
            f"no item {name!r} of the papers is known",
            hint=did_you_mean(name, names) or f"there are: {', '.join(names)}",
            code="USE-NAME",
        )
    return ARRANGEMENTS[name]


def gather_request(
    name: str, arrangement: Arrangement, sources: Sequence[str], options: ItemOptions
) -> ItemRequest:
    """Open everything that feeds an item."""
    (item,) = published.published_items().filter(item=name).to_dicts()
    results = [
        row
        for row in results_of(*(arrangement.results or (name,)))
        if not arrangement.models or row["model"] in (None, *arrangement.models)
    ]
    runs: list[RunSource] = []
    epochs: list[EpochSet] = []
    rows: dict[Path, str] = {}
    folders = [_named(text) for text in sources]
    folders += [("", options.epochs)] if options.epochs else []
    for row, folder in folders:
        if _holds_epochs(folder):
            check_epochs(folder)
            epochs.append(open_epochs(folder))
            rows[folder] = row
        else:
            runs.append(_run(folder, row, results, options))
    return ItemRequest(
        item,
        results,
        runs,
        epochs,
        options.recordings,
        read_phases(options.phases) if options.phases else None,
        rows,
        {facts["name"]: facts for facts in list_drawer("models")},
    )


def _named(text: str) -> tuple[str, Path]:
    """Split ROW=FOLDER; a folder of that whole name is meant where there is one."""
    row, equals, folder = text.partition("=")
    if not equals or Path(text).exists():
        return "", Path(text)
    if row not in SIZES:
        raise UsageError(
            f"{text}: {row!r} is no data set of the papers",
            hint=did_you_mean(row, [*SIZES]) or f"there are: {', '.join(SIZES)}",
            code="USE-NAME",
        )
    return row, Path(folder)


def _holds_epochs(folder: Path) -> bool:
    path = folder / store.MANIFEST
    if not path.exists():
        return False
    facts = store.read_json(path)
    return isinstance(facts, dict) and facts.get("format") == EPOCHS_KIND


def _run(
    folder: Path, row: str, results: Sequence[Mapping[str, Any]], options: ItemOptions
) -> RunSource:
    evaluation = compute_evaluation(open_run(folder, partial=options.partial))
    protocol = options.protocol or choose_protocol(evaluation, results)
    if protocol not in evaluation.protocols:
        raise UsageError(
            f"{folder}: has no protocol {protocol!r}",
            hint=f"it has: {', '.join(evaluation.protocols)}",
            code="USE-NAME",
        )
    return RunSource(evaluation, protocol, row)


def _banners(request: ItemRequest) -> Iterator[tuple[str, str]]:
    """Say what must be seen first: simulated data, optimism, leaks, missing folds."""
    runs = [source.evaluation.run for source in request.runs]
    simulated = [run.name for run in runs if run.simulated]
    simulated += [data.folder.name for data in request.epochs if data.simulated]
    if simulated:
        yield (
            f"SIMULATED DATA: {', '.join(simulated)}",
            "Ours comes from generated signals. It shows that the programs work, and says nothing "
            "about sleep in people or animals.",
        )
    unknown = [run.name for run in runs if run.simulated is None]
    if unknown:
        text = "No file of them says whether their data is simulated."
        yield f"ORIGIN UNKNOWN: {', '.join(unknown)}", text
    if any(source.protocol == BEST_ON_TEST for source in request.runs):
        yield (
            f"Ours is {NAMED[BEST_ON_TEST]}",
            "As in print, the kept pass was chosen on the fold that is scored.",
        )
    for run in runs:
        if run.missing:
            missing = ", ".join(map(str, run.missing))
            yield f"INCOMPLETE: {run.name}", f"Not trained yet: {missing}"
    leaky = [s.evaluation for s in request.runs if s.evaluation.leakage.startswith("LEAKY")]
    for evaluation in leaky:
        yield f"LEAKY SPLIT: {evaluation.run.name}", evaluation.leakage


def _markdown_alone(
    item: Mapping[str, Any], content: ItemContent, banners: Sequence[tuple[str, str]]
) -> str:
    return item_markdown(item, content, banners, {})


def _latex_alone(
    item: Mapping[str, Any], content: ItemContent, banners: Sequence[tuple[str, str]]
) -> str:
    return item_latex(item, content, banners, {})


def _write_folder(
    out: Path,
    request: ItemRequest,
    content: ItemContent,
    banners: Sequence[tuple[str, str]],
    source: PageSource,
) -> list[Path]:
    """Write everything of an item into a folder."""
    name, written = request.name, []
    texts = {
        f"{name}.html": item_html(request.item, content, banners),
        f"{name}.md": item_markdown(
            request.item, content, banners, {f.name: f"{f.name}.svg" for f in content.figures}
        ),
        f"{name}.tex": item_latex(
            request.item, content, banners, {f.name: f"{f.name}.pdf" for f in content.figures}
        ),
    }
    for table in content.tables:
        file = "-".join(filter(None, (name, table.name)))
        texts[f"{file}.csv"] = store.csv_text(csv_rows(table))
    for file, text in texts.items():
        written.append(out / file)
        if file.endswith(".csv"):
            store.write_text(written[-1], text)
        else:
            outputs.write_page(written[-1], Path(file).suffix[1:], text, source)
    for figure in content.figures:
        assert isinstance(figure.drawing, Plot)
        written += _write_figure(figure.drawing, out / figure.name)
    outputs.write_manifests(written, source)
    return written


def _write_figure(plot: Plot, path: Path) -> Iterator[Path]:
    """Write a figure as SVG, PDF and PNG."""
    svg = path.with_name(f"{path.name}.svg")
    store.write_text(svg, markup.standalone(plot.svg(path.name)))
    yield svg
    for suffix, draw in (("pdf", plot.pdf), ("png", plot.png)):
        picture = path.with_name(f"{path.name}.{suffix}")
        with store.atomic_write(picture) as file:
            file.write(draw())
        yield picture
