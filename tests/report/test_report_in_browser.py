"""The report in a browser and on paper, of people and of mice: nothing cut, raw or empty.

What is looked for is drawn by one run of people and one of mice, and by two runs of forty subjects
whose names are long.
"""

from __future__ import annotations

import base64
import hashlib
import io
import json
import os
import re
from collections import defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import synthetic_epochs
import synthetic_run
from instruments.browser import Page, browsing, need_browser
from pdf_text import page_texts
from sleeptools import store
from sleeptools.commands.report import ReportOptions, write_report
from sleeptools.recording.stages import MOUSE_STAGES

AXE = os.environ.get("SLEEPTOOLS_AXE")
LONG = "a-run-of-a-very-long-name-with-no-place-to-break-it-whatsoever-0000000000000001"
KINDS = ("people", "mice", "long")
MICE: dict[str, Any] = {"names": MOUSE_STAGES, "epoch_seconds": 10.0, "prefix": "M"}
PEOPLE: dict[str, Any] = {"prefix": "SC4", "montage": ["EEG 1", "EEG 2", "EOG", "EMG"]}


def with_epochs(run: Path, **options: Any) -> Path:
    """Write epochs beside a run, and let it have been trained on them."""
    data = synthetic_epochs.write_epochs(run.parent / f"{run.name}-epochs", subjects=4, **options)
    facts = store.read_json(data / "manifest.json")["files"]
    digest = hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()
    config = store.read_toml(run / "config.toml") | {"epochs": {"sha256": digest}}
    store.write_toml(run / "config.toml", config)
    return data


def people(folder: Path) -> Path:
    run = synthetic_run.explain(synthetic_run.write(folder / "people", seeds=(0, 1)))
    data = with_epochs(run, **PEOPLE)
    out = folder / "people.html"
    return write_report([run], out, ReportOptions(epochs=data))[0]


def mice(folder: Path) -> Path:
    run = synthetic_run.write(
        folder / "cohort", model="mouse-cnn", preset="kjaerby", epochs=1500, **MICE
    )
    synthetic_run.explain(run, names=MOUSE_STAGES, modalities=("EEG", "EMG"))
    data = with_epochs(run, channels=2, montage=["EEG", "EMG"], **MICE)
    return write_report([run], folder / "mice.html", ReportOptions(epochs=data))[0]


def long(folder: Path) -> Path:
    options: dict[str, Any] = {"prefix": "a-subject-of-a-very-long-name-", "subjects": 40}
    runs = [
        synthetic_run.write(folder / name, folds=10, protocols=("leak-free",), **options)
        for name in (LONG, "other")
    ]
    return write_report(runs, folder / "long.html")[0]


@pytest.fixture(scope="module")
def chromium(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    with browsing(tmp_path_factory.mktemp("browser")) as page:
        yield page


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    need_browser()
    folder = tmp_path_factory.mktemp("reports")
    paths: dict[str, Path] = {}

    def write(kind: str) -> Path:
        if kind not in paths:
            paths[kind] = {"people": people, "mice": mice, "long": long}[kind](folder)
        return paths[kind]

    return write


def show(browser: Page, path: Path, width: int, *, dark: bool = False) -> None:
    """Open a page anew, with all that is folded unfolded."""
    browser.call("Emulation.setEmulatedMedia", media="")
    browser.resize(width, 900, dark=dark)
    browser.call("Page.navigate", url=browser.empty.as_uri())
    browser.wait("document.title === 'empty'")
    browser.call("Page.navigate", url=path.as_uri())
    browser.wait("document.title !== 'empty' && document.readyState === 'complete'")
    browser.evaluate("document.querySelectorAll('details').forEach(d => { d.open = true; })")


CLIPPED = """(() => {
  const bad = [], walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  const width = document.documentElement.clientWidth;
  while (walker.nextNode()) {
    const node = walker.currentNode, parent = node.parentElement;
    if (!node.data.trim() || parent.closest("script,style,title,.skip")) continue;
    const range = document.createRange();
    range.selectNodeContents(node);
    const text = range.getBoundingClientRect(), drawing = parent.closest("svg[role=img]");
    if (!text.width) continue;
    const name = node.data.trim().slice(0, 40);
    if (drawing) {
      const box = drawing.getBoundingClientRect();
      if (text.left < box.left - 1 || text.right > box.right + 1 || text.top < box.top - 3
          || text.bottom > box.bottom + 3) bad.push(["figure", name]);
    }
    const region = parent.closest(".scroll");
    if (!region && (text.left < 0 || text.right > width)) bad.push(["page", name]);
  }
  for (const region of document.querySelectorAll(".scroll")) {
    const table = region.querySelector("table"), caption = region.getAttribute("aria-label");
    const over = region.scrollWidth - region.clientWidth;
    if (over > 0) bad.push(["region", caption, over]);
    if (table && table.getBoundingClientRect().width > region.scrollWidth + 1)
      bad.push(["table", caption]);
  }
  return bad;
})()"""


@pytest.mark.parametrize("kind", KINDS)
def test_nothing_is_cut_on_a_wide_page(
    kind: str, written: Callable[[str], Path], chromium: Page
) -> None:
    show(chromium, written(kind), 1400)
    assert chromium.evaluate(CLIPPED) == []
    assert chromium.evaluate("document.documentElement.scrollWidth") <= 1400


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("kind", KINDS)
def test_what_is_wider_than_a_narrow_page_scrolls_and_is_marked(
    kind: str, dark: bool, written: Callable[[str], Path], chromium: Page
) -> None:
    show(chromium, written(kind), 400, dark=dark)
    assert chromium.evaluate("document.documentElement.scrollWidth") <= 400
    assert [row for row in chromium.evaluate(CLIPPED) if row[0] != "region"] == []
    wide = chromium.evaluate(
        "[...document.querySelectorAll('.scroll')].map((r, i) => [i, r.scrollWidth - "
        "r.clientWidth]).filter(([, over]) => over > 0)"
    )
    assert len(wide) > 5
    for number, over in [pair for pair in wide if pair[1] > 40][::4]:
        middle, end = (edges(chromium, number, place) for place in (over // 2, over))
        start = edges(chromium, number, 0)
        assert start[1] > 25, "nothing tells that there is more on the right"
        assert middle[0] > 25, "nothing tells that there is more on the left"
        assert end[0] > 25
        assert start[0] < 20, "the left end is marked as if there were more"
        assert end[1] < 20, "the right end is marked as if there were more"


def edges(browser: Page, number: int, scrolled: int) -> tuple[float, float]:
    """Contrast of the left and the right edge of a region with the sheet, median of its rows."""
    from matplotlib.image import imread

    box = browser.evaluate(
        f"(() => {{ const r = document.querySelectorAll('.scroll')[{number}]; "
        f"r.scrollIntoView({{block: 'center'}}); r.scrollLeft = {scrolled}; "
        "const b = r.getBoundingClientRect(), "
        "s = getComputedStyle(r.closest('section')).backgroundColor.match(/\\d+/g); "
        "return [b.left, b.right, Math.max(0, b.top + 3), Math.min(innerHeight, b.bottom - 3), "
        "...s.map(Number)]; })()"
    )
    browser.evaluate("new Promise(r => requestAnimationFrame(() => requestAnimationFrame(r)))")
    picture = browser.call("Page.captureScreenshot", format="png")["data"]
    pixels = 255 * imread(io.BytesIO(base64.b64decode(picture)))[..., :3]
    left, right, top, bottom, *sheet = box
    rows = pixels[int(top) : int(bottom)]
    strips = rows[:, int(left) + 1 : int(left) + 4], rows[:, int(right) - 4 : int(right) - 1]
    contrast = [np.abs(strip - np.array(sheet[:3])).mean((1, 2)) for strip in strips]
    return float(np.median(contrast[0])), float(np.median(contrast[1]))


def texts(browser: Page) -> str:
    return str(browser.evaluate("document.body.innerText"))


@pytest.mark.parametrize("kind", KINDS[:2])
def test_no_key_is_raw_and_no_section_empty(
    kind: str, written: Callable[[str], Path], chromium: Page
) -> None:
    show(chromium, written(kind), 1400)
    chromium.evaluate("document.querySelectorAll('pre').forEach(e => e.remove())")
    text = texts(chromium)
    raw = re.findall(r"\b[a-z]+_[a-z_]+\b|\bNone\b|\bnan\b|\bnull\b|[{}]", text)
    assert raw == []
    sections = chromium.evaluate(
        "[...document.querySelectorAll('section')].map(s => [s.id, "
        "s.innerText.length - s.firstElementChild.innerText.length])"
    )
    assert len(sections) > 15
    assert [name for name, letters in sections if letters < 40] == []


def test_a_report_of_mice_speaks_of_animals_alone(
    written: Callable[[str], Path], chromium: Page
) -> None:
    show(chromium, written("mice"), 1400)
    chromium.evaluate("document.querySelectorAll('pre').forEach(e => e.remove())")
    text = texts(chromium).replace("nothing about sleep in people or animals", "")
    of_people = r"(?i).{,30}\b(?:subjects?|nights?|people|humans?|patients?|mice|mouse)\b.{,30}"
    allowed = ("Kjaerby, 8 mice", "its eight mice", "mouse-", "Mashrur", "Mice Sleep")
    lines = re.findall(of_people, text)
    assert [line for line in lines if not any(words in line for words in allowed)] == []
    assert "validation animals" in text
    show(chromium, written("people"), 1400)
    assert "animal" not in texts(chromium).replace("in people or animals", "")


MARKED = """(() => {
  const seen = e => !e.closest("details:not([open]):not(.printed)");
  const name = i => String(i).padStart(3, "0");
  const mark = (parent, text) => { const s = document.createElement("span");
    s.textContent = text; s.style.fontSize = "4px"; parent.append(s); };
  [...document.querySelectorAll("figure")].filter(seen).forEach((figure, i) => {
    const svg = figure.querySelector("svg"), height = svg.viewBox.baseVal.height;
    for (const [letter, y] of [["A", 4], ["B", height - 1]]) {
      const text = document.createElementNS(svg.namespaceURI, "text");
      text.setAttribute("x", 0); text.setAttribute("y", y); text.setAttribute("font-size", 3);
      text.textContent = `QF${name(i)}${letter}`; svg.append(text);
    }
    const caption = figure.querySelector("figcaption");
    if (caption) mark(caption, `QF${name(i)}C`);
  });
  [...document.querySelectorAll("table")].filter(seen).forEach((table, i) => {
    mark(table.caption.firstElementChild, `QT${name(i)}C`);
    mark(table.tHead.rows[0].cells[0], `QT${name(i)}H`);
    for (const row of table.tBodies[0].rows) mark(row.cells[0], `QT${name(i)}R`);
  });
})()"""


@pytest.mark.parametrize("kind", KINDS)
def test_on_paper_figures_are_whole_and_tables_keep_their_heads(
    kind: str, written: Callable[[str], Path], chromium: Page
) -> None:
    show(chromium, written(kind), 1400)
    chromium.evaluate("document.querySelectorAll('details').forEach(d => { d.open = false; })")
    chromium.evaluate(MARKED)
    pdf = chromium.call("Page.printToPDF", preferCSSPageSize=True)["data"]
    pages = page_texts(base64.b64decode(pdf))
    where: dict[str, list[int]] = defaultdict(list)
    for number, text in enumerate(pages):
        for mark in re.findall(r"Q[FT]\d{3}[ABCHR]", text):
            where[mark].append(number)
    figures = sorted({mark[:5] for mark in where if mark[1] == "F"})
    tables = sorted({mark[:5] for mark in where if mark[1] == "T"})
    assert len(figures) > 5
    assert len(tables) > 8
    for figure in figures:
        places = {page for letter in "ABC" for page in where.get(figure + letter, ())}
        assert len(places) == 1, f"{figure} is on pages {places}"
    for table in tables:
        rows = where[table + "R"]
        assert sorted({*rows}) == where[table + "H"], f"{table}: a page without its head, or rows"
        assert where[table + "C"] == rows[:1], f"{table}: the caption is elsewhere"
        alone = [page for page in {*rows} if rows.count(page) == 1]
        assert len(rows) == 1 or not alone, f"{table}: a row alone on page {alone}"
    if kind == "long":
        assert any(len({*where[table + "R"]}) > 1 for table in tables)
    assert "Not directly comparable" in "".join(pages)
    assert "ours is simulated data" in "".join(pages)  # folded on the screen
    assert "Zoom:" not in "".join(pages)
    assert not chromium.evaluate("document.querySelector('details.printed').open")


@pytest.mark.parametrize("kind", KINDS)
def test_on_paper_nothing_is_wider_than_the_page(
    kind: str, written: Callable[[str], Path], chromium: Page
) -> None:
    """A4 less its margins is 180 mm wide; Chromium makes all smaller where something is wider."""
    show(chromium, written(kind), 680)
    chromium.call("Emulation.setEmulatedMedia", media="print")
    assert chromium.evaluate("document.documentElement.scrollWidth") <= 680
    regions = chromium.evaluate(
        "[...document.querySelectorAll('.scroll')].map(r => [r.getAttribute('aria-label'), "
        "r.firstElementChild.getBoundingClientRect().width - r.clientWidth])"
    )
    assert [(name, over) for name, over in regions if over > 1] == []


def test_the_pages_say_nothing_on_the_console(
    written: Callable[[str], Path], chromium: Page
) -> None:
    chromium.events.clear()
    show(chromium, written("people"), 1400)
    assert chromium.complaints() == []


@pytest.mark.slow
@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("kind", KINDS)
def test_axe_finds_nothing(
    kind: str,
    dark: bool,
    written: Callable[[str], Path],
    chromium: Page,
    skip_loudly: Callable[[str], None],
) -> None:
    if AXE is None:
        skip_loudly("SLEEPTOOLS_AXE names no axe.min.js: the reports were not audited")
    show(chromium, written(kind), 1400, dark=dark)
    chromium.evaluate(Path(str(AXE)).read_text() + "; 0")
    audit = chromium.evaluate(
        "axe.run(document).then(({violations, passes}) => [passes.length, "
        "violations.map(v => [v.impact, v.id, v.nodes[0].html.slice(0, 200)])])"
    )
    assert audit[0] > 15
    assert audit[1] == []
