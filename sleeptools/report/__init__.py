"""`sleeptools report`: one HTML file that opens offline, and says how far to trust what it shows.

A section is a function from a `Page` (the numbers, gathered first) to markup; `SECTIONS` lists them
in the order of the page. The frame and the style are data/report.html. No script, nothing fetched.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from importlib import resources
from pathlib import Path
from string import Template
from typing import Final

from sleeptools import markup as m
from sleeptools import store
from sleeptools.errors import MissingInputError
from sleeptools.folds import NAMED
from sleeptools.markup import Markup
from sleeptools.report._drawings import hypnograms, training
from sleeptools.report._page import HEADLINE, LABELS, Page, gather, show
from sleeptools.report._results import confusions, results, stages, subjects, summary
from sleeptools.report._sources import data, literature, provenance

PURPOSE: Final = "Research software, not a medical device; not for diagnosis."


def report(run_folders: Sequence[Path], out: Path, *, partial: bool = False) -> Path:
    """Write the report of one run or several.

    Parameters
    ----------
    run_folders
        Run folders; nothing is written into them.
    out
        The HTML file.
    partial
        Take incomplete runs; the report says so.

    Raises
    ------
    MissingInputError
        If there is no such run.
    DataError
        If it is no run, lacks folds, or its predictions do not fit its folds.
    OutputError
        If the file cannot be written.
    """
    if not run_folders:
        raise MissingInputError("no run to report on", hint="for example runs/mmasleepnet")
    pages = [gather(f, i, partial) for i, f in enumerate(run_folders, 1)]
    frame = Template(resources.files("sleeptools").joinpath("data/report.html").read_text("utf-8"))
    several = len(pages) > 1
    body = m.join([*([_overview(pages)] if several else []), *(_run(p, several) for p in pages)])
    title = "Sleep staging: " + ", ".join(p.found.run.name for p in pages)
    store.write_text(
        out,
        frame.substitute(title=m.text(title), header=_header(pages), body=body, footer=_footer()),
    )
    return out


def _header(pages: Sequence[Page]) -> Markup:
    names = ", ".join(p.found.run.name for p in pages)
    notes = dict.fromkeys(note for p in pages for note in p.found.notes)
    now = f"{datetime.now(UTC):%d %B %Y, %H:%M} UTC"
    return m.join([
        m.element("h1", m.text(f"Sleep staging report: {names}")),
        m.paragraph(f"Written by sleeptools on {now}", class_="lead"),
        *_banners(pages),
        m.paragraph(PURPOSE, class_="purpose"),
        m.items(note for note in notes if "simulated" not in note),
        _contents(pages),
    ])  # fmt: skip


def _banners(pages: Sequence[Page]) -> Iterator[Markup]:
    """Say what must be seen first: simulated data, incomplete runs, leaks."""
    simulated = [p.found.run.name for p in pages if p.found.run.simulated]
    if simulated:
        which = "" if len(simulated) == len(pages) else f" in {', '.join(simulated)}"
        yield _banner(
            f"SIMULATED DATA{which}",
            "These numbers come from generated signals. They show that the programs work; they say "
            "nothing about sleep in people or animals, nor about how well a model would do there.",
        )
    for page in pages:
        if page.found.run.simulated is None:
            said = f"No file of {page.found.run.name} says whether its data is simulated."
            yield _banner("ORIGIN UNKNOWN", said)
        if page.found.run.missing:
            missing = ", ".join(map(str, page.found.run.missing))
            yield _banner(f"INCOMPLETE: {page.found.run.name}", f"Not trained yet: {missing}")
        if page.found.leakage.startswith("LEAKY"):
            yield _banner("LEAKY SPLIT", page.found.leakage)


def _known(value: bool | None) -> str:
    return "unknown" if value is None else "yes" if value else "no"


def _banner(head: str, said: str) -> Markup:
    return m.element(
        "div", m.element("strong", m.text(head)), m.paragraph(said), class_="banner", role="note"
    )


def _contents(pages: Sequence[Page]) -> Markup:
    """Links to the sections of the run, or to the runs where there are several."""
    if len(pages) == 1:
        links = [(f"#{key}-1", title) for key, (title, _) in SECTIONS.items()]
    else:
        links = [(f"#run-{p.number}", p.found.run.name) for p in pages]
    listed = (m.element("li", m.element("a", m.text(t), href=link)) for link, t in links)
    return m.element("nav", m.element("ul", *listed), aria_label="Contents")


def _overview(pages: Sequence[Page]) -> Markup:
    """All runs of the page in one table."""
    rows = [
        (p.found.run.name, p.found.run.model, NAMED[protocol], _known(p.found.run.simulated),
         p.ours[protocol].subjects, *(show(k, p.found.pooled(protocol)[k]) for k in HEADLINE))
        for p in pages for protocol in p.found.protocols
    ]  # fmt: skip
    head = ("Run", "Model", "Protocol", "Simulated", "Subjects", *(LABELS[k] for k in HEADLINE))
    table = m.table(
        head, rows, caption="Pooled test epochs, mean over seeds; per cent but for kappa", texts=4
    )
    heading = m.element("h2", m.text("All runs"))
    return m.element("section", heading, table)


def _run(page: Page, several: bool) -> Markup:
    """Draw every section of one run, under its name where there are several."""
    level, parts = "h3" if several else "h2", []
    if several:
        name = m.text(f"Run {page.found.run.name}")
        parts.append(m.element("h2", name, class_="run-title", id=f"run-{page.number}"))
    for key, (title, render) in SECTIONS.items():
        anchor = f"{key}-{page.number}"
        heading = m.element(level, m.text(title), id=f"{anchor}-h", class_="section")
        inside = m.join([heading, *render(page)])
        parts.append(m.element("section", inside, id=anchor, aria_labelledby=f"{anchor}-h"))
    return m.join(parts)


def _footer() -> Markup:
    return m.paragraph(
        f"{PURPOSE} Definitions of the metrics: precision, recall, F1 and specificity one stage "
        "against the rest; a stage that is not in the scored epochs is left out of the means; "
        "kappa after Cohen (1960)."
    )


Section = tuple[str, Callable[[Page], Iterator[Markup]]]
SECTIONS: Final[dict[str, Section]] = {
    "summary": ("Summary", summary),
    "results": ("Metrics", results),
    "confusion": ("Confusion matrix", confusions),
    "stages": ("Per stage", stages),
    "subjects": ("Per subject", subjects),
    "hypnograms": ("Hypnogram", hypnograms),
    "training": ("Training", training),
    "published": ("Beside the publications", literature),
    "data": ("Data", data),
    "provenance": ("How it was made", provenance),
}
"""Anchor to heading and function, in the order of the page."""
