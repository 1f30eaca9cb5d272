"""The page of `agree` in a browser: offline, readable at any width, and what stands on it."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

from sleeptools import formats
from sleeptools.commands.agree import AgreeOptions, agree_files
from sleeptools.commands.simulate import simulate
from sleeptools.recording.hypnogram import Hypnogram
from tests.report import test_report
from tests.report.test_report import AUDIT, AXE, browse, console, probe

START = datetime(2024, 3, 9, 22)
NAMES = ("scorer 1", "<b>model</b>", "yasa & co")


def night(seed: int, wrong: float, scorer: int) -> np.ndarray:
    """Stages of a night, of which a scorer has some wrong."""
    rng = np.random.default_rng(seed)
    bouts = [np.full(rng.integers(1, 12), rng.integers(5)) for _ in range(600)]
    truth = np.concatenate(bouts)[:600]
    rng = np.random.default_rng([seed, scorer])
    return np.where(rng.random(600) < wrong, (truth + 1) % 5, truth).astype(np.int8)


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three scorings of four nights, of which one is shifted by two epochs."""
    folder = tmp_path_factory.mktemp("agree")
    for scorer in range(3):
        (folder / f"s{scorer}").mkdir()
        for number in range(4):
            late = timedelta(seconds=60 * (scorer == 2 and number == 1))
            hypnogram = Hypnogram(night(number, 0.08 * scorer, scorer), begin=START + late)
            formats.write_hypnogram(hypnogram, folder / f"s{scorer}/P{number}.edf")
    sources = [folder / f"s{scorer}" for scorer in range(3)]
    agree_files(sources, folder / "out", options=AgreeOptions(names=NAMES))
    return folder / "out/agreement.html"


class Ids(HTMLParser):
    """Collects ids."""

    def __init__(self) -> None:
        super().__init__()
        self.ids: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.ids += [value for name, value in attrs if name == "id" and value]


def test_the_page_says_what_matters(page: Path) -> None:
    text = re.sub(r"<[^>]+>", " ", page.read_text())
    text = re.sub(r"\s+", " ", text)
    assert "P1: yasa &amp; co agrees best 2 epochs earlier" in text
    assert "nothing was shifted" in text
    assert text.index("SHIFTED") < text.index("Two by two")
    assert "not a medical device" in text
    assert "SIMULATED" not in text
    assert "4 nights, 2,398 epochs that all scored; scorer 1 is the reference" in text
    ids = Ids()
    ids.feed(page.read_text())
    assert len(ids.ids) == len({*ids.ids})


def test_simulated_nights_are_called_so(tmp_path: Path) -> None:
    raw = simulate("sleep-edf", tmp_path / "raw", subjects=1, hours=0.5)
    (scored,) = raw.glob("*-Hypnogram.edf")
    agree_files([scored, scored], tmp_path / "out")
    assert "SIMULATED DATA" in (tmp_path / "out/agreement.html").read_text()
    consensus = formats.read_hypnogram(tmp_path / "out/SC4001-consensus.edf")
    assert consensus.scorer == "simulated"


def test_a_name_is_text_everywhere(page: Path) -> None:
    assert "<b>model" not in page.read_text()
    assert "&lt;b&gt;model" in page.read_text()


def test_it_opens_offline_without_a_word_on_the_console(page: Path, tmp_path: Path) -> None:
    done = browse(page, tmp_path / "profile", "--dump-dom")
    assert console(done) == []
    assert "Bland-Altman" in done.stdout


@pytest.mark.parametrize("size", ["1400,900", "500,900"])
def test_figures_are_visible_and_the_page_does_not_scroll_sideways(
    page: Path, tmp_path: Path, size: str
) -> None:
    probed = probe(page, tmp_path, f"--window-size={size}")
    assert probed["failed"] == probed["fetched"] == []
    # three matrices, Bland-Altman plots, hours, and a night of four
    assert (len(probed["shown"]), len(probed["all"])) == (6, 11)
    assert all(width > 150 and height > 80 for width, height, _ in probed["all"])
    assert probed["wide"] <= 0


@pytest.mark.slow
@pytest.mark.parametrize("mode", [[], ["--blink-settings=preferredColorScheme=0"]])
def test_axe_finds_nothing(
    page: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    skip_loudly: Callable[[str], None],
    mode: list[str],
) -> None:
    if AXE is None:
        skip_loudly("SLEEPTOOLS_AXE names no axe.min.js: the page of agree was not audited")
    script = AUDIT.replace("__AXE__", Path(AXE or "").read_text())
    monkeypatch.setattr(test_report, "PROBE", script)
    audit = probe(page, tmp_path, "--virtual-time-budget=60000", *mode)
    assert audit["passes"] > 20
    assert audit["found"] == []


def test_one_night_of_two_mice_has_a_page_too(tmp_path: Path) -> None:
    """Without intervals, Bland-Altman plots or sleep statistics of people."""
    mouse = Hypnogram(
        np.array([0, 1, 1, 2] * 50, np.int8), ("Wake", "NREM", "REM"), 4.0, begin=START
    )
    for name in ("a.edf", "b.edf"):
        formats.write_hypnogram(mouse, tmp_path / name)
    flipped = replace(mouse, stages=mouse.stages[::-1].copy())
    formats.write_hypnogram(flipped, tmp_path / "b.edf")
    agree_files([tmp_path / "a.edf", tmp_path / "b.edf"], tmp_path / "out")
    text = (tmp_path / "out/agreement.html").read_text()
    assert "Total sleep time" not in text
    assert "Minutes NREM" in text
