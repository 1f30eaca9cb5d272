"""The page of a night in a browser: what a person types is what the exported file says."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from instruments.browser import Page, browsing, need_browser
from reviews import assert_same, random_hypnogram
from sleeptools import cli, formats
from sleeptools.commands.hypnogram import convert_hypnogram
from sleeptools.commands.review import ReviewOptions, review
from sleeptools.commands.simulate import simulate
from sleeptools.formats import hypnodensity
from sleeptools.formats.parsing.stage_words import stage_names
from sleeptools.formats.review import read_review, write_review
from sleeptools.recording.hypnogram import Hypnogram
from sleeptools.recording.stages import HUMAN_STAGES

AXE = os.environ.get("SLEEPTOOLS_AXE")  # axe.min.js of axe-core, where it is to be run
KEYS = {"w": "W", "1": "N1", "2": "N2", "3": "N3", "r": "REM", "?": "unknown", "m": "movement"}


@pytest.fixture(scope="module")
def night(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Half an hour, 60 epochs, with proposals beside it."""
    need_browser()
    folder = tmp_path_factory.mktemp("night")
    raw = simulate("sleep-edf", folder / "raw", subjects=1, hours=0.5)
    path = next(raw.glob("*PSG.edf"))
    rng = np.random.default_rng(5)
    begin = formats.read(path).start
    proposed = random_hypnogram(rng, epochs=60, begin=begin)
    write_density(folder / "proposed.csv", proposed, rng)
    return path


def write_density(path: Path, proposed: Hypnogram, rng: np.random.Generator) -> None:
    density = rng.dirichlet(np.ones(len(proposed.names)), len(proposed)).astype(np.float32)
    hypnodensity.write_table(path, proposed, density)


@pytest.fixture(scope="module")
def page(night: Path) -> Path:
    options = ReviewOptions(scores=night.parents[1] / "proposed.csv", scorer="Ada")
    return review(night, night.parents[1] / "review.html", options)


@pytest.fixture(scope="module")
def chromium(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    with browsing(tmp_path_factory.mktemp("browser")) as started:
        yield started


@pytest.fixture
def browser(chromium: Page, page: Path) -> Iterator[Page]:
    """The page, opened in a browser that has never seen it."""
    chromium.resize(1366, 768)
    chromium.open_anew(page)
    yield chromium
    assert chromium.complaints() == []


def exported(browser: Page, key: str = "e") -> Path:
    """Export, and return the file under a name of its own."""
    name = {"e": "SC4001E0-PSG-review.csv", "b": "SC4001E0-PSG_events.tsv"}[key]
    (browser.downloads / name).unlink(missing_ok=True)
    browser.press(key)
    return browser.downloaded(name)


def said(browser: Page) -> str:
    return str(browser.evaluate("document.getElementById('said').textContent"))


def test_a_whole_night_is_typed_key_by_key(browser: Page, night: Path, tmp_path: Path) -> None:
    keys = list(np.random.default_rng(1).choice([*KEYS, " "], 60))
    before = read_density_stages(night)
    for key in keys:
        browser.press(key)
    path = exported(browser)
    read = read_review(path)
    expected = [KEYS.get(key, old) for key, old in zip(keys, before, strict=True)]
    assert stage_names(read.hypnogram) == expected
    assert stage_names(read.proposed) == before
    hands = ["changed" if e != b else "confirmed" for e, b in zip(expected, before, strict=True)]
    assert read.hands() == hands
    assert (read.recording, read.hypnogram.scorer) == (night.stem, "Ada")
    target = tmp_path / "out-hypnogram.edf"
    assert cli.run(["hypnogram", str(path), str(target), "--recording", str(night)]) == 0
    assert stage_names(formats.read_hypnogram(target)) == expected


def read_density_stages(night: Path) -> list[str]:
    proposed = hypnodensity.read_hypnogram(night.parents[1] / "proposed.csv")
    return stage_names(proposed)


class Typist:
    """What a row of keys does to a night, told again without the page."""

    def __init__(self, stages: list[str]) -> None:
        self.at, self.undone, self.done = 0, [], []
        self.state = (
            *(tuple(stages), (False,) * len(stages), (False,) * len(stages), (None, None)),
        )
        self.proposed = tuple(stages)

    def press(self, key: str) -> None:
        stages, touched, artefact, lights = self.state
        i, last = self.at, len(stages) - 1
        if key in KEYS:
            self._edit((put(stages, i, KEYS[key]), put(touched, i, True), artefact, lights), i)
            self.at = min(last, i + 1)
        elif key == " ":
            self._edit((stages, put(touched, i, True), artefact, lights), i)
            self.at = min(last, i + 1)
        elif key == "a":
            self._edit((stages, touched, put(artefact, i, not artefact[i]), lights), i)
        elif key in "ol":
            k = "ol".index(key)
            marked = None if lights[k] == i * 30.0 else i * 30.0
            self._edit((stages, touched, artefact, put(lights, k, marked)), None)
        elif key == "u" and self.done:
            before, i = self.done.pop()
            self.undone.append((self.state, i))
            self.state = before
            self.at = self.at if i is None else i
        elif key == "U" and self.undone:
            after, i = self.undone.pop()
            self.done.append((self.state, i))
            self.state = after
            self.at = self.at if i is None else i
        else:
            moves = {"ArrowRight": 1, "ArrowLeft": -1, "PageDown": 10, "PageUp": -10}
            self.at = max(0, min(last, i + moves.get(key, 0)))

    def _edit(self, state: tuple, epoch: int | None) -> None:
        if state != self.state:
            self.done.append((self.state, epoch))
            self.undone = []
            self.state = state


def put(values: tuple, i: int, value: object) -> tuple:
    return (*values[:i], value, *values[i + 1 :])


@pytest.mark.parametrize("count", [150, pytest.param(1000, marks=pytest.mark.slow)])
def test_random_edits_come_back_exactly(
    count: int, browser: Page, page: Path, night: Path, tmp_path: Path
) -> None:
    choices = [*KEYS, " ", "a", "o", "l", "u", "U", "ArrowRight", "ArrowLeft", "PageDown", "PageUp"]
    typist = Typist(read_density_stages(night))
    for key in np.random.default_rng(count).choice(choices, count):
        typist.press(key)
        browser.press(str(key).lower() if key == "U" else str(key), shift=key == "U")
    stages, touched, artefact, lights = typist.state
    path = exported(browser)
    read = read_review(path)
    assert stage_names(read.hypnogram) == list(stages)
    assert read.touched.tolist() == list(touched)
    assert read.artefact.tolist() == list(artefact)
    assert (read.lights_off, read.lights_on) == lights
    write_review(read, tmp_path / "ours.csv")
    assert (tmp_path / "ours.csv").read_bytes() == path.read_bytes()
    events = exported(browser, "b")
    table = events.read_bytes()
    assert_same(read_review(events), read)
    write_review(read, tmp_path / "ours_events.tsv")
    for ending in (".tsv", ".json"):
        same = browser.downloaded(f"SC4001E0-PSG_events{ending}")
        assert (tmp_path / f"ours_events{ending}").read_bytes() == same.read_bytes()
    content = path.read_bytes()
    again = review(night, tmp_path / "again.html", ReviewOptions(edits=path))  # by the command
    browser.open_anew(again)
    assert exported(browser).read_bytes() == content
    (tmp_path / "kept_events.tsv").write_bytes(table)
    browser.open_anew(page)  # and by the page's own button
    browser.choose_file("#file", tmp_path / "kept_events.tsv")
    browser.wait("!document.getElementById('notice').hidden")
    assert exported(browser).read_bytes() == content


def test_edits_are_kept_by_the_browser(browser: Page, page: Path, tmp_path: Path) -> None:
    browser.type("w12a")
    browser.wait("localStorage.length === 1")
    browser.wait("document.getElementById('progress').textContent.includes('kept in this browser')")
    first = exported(browser).read_bytes()
    browser.open(page)
    assert "Goes on with the edits" in browser.evaluate(
        "document.getElementById('notice').textContent"
    )
    assert browser.evaluate("view.epoch") == 3
    assert exported(browser).read_bytes() == first
    browser.evaluate("document.querySelector('#notice button')?.click()")


def test_another_page_of_the_night_writes_over_no_edits(
    browser: Page, page: Path, night: Path, tmp_path: Path
) -> None:
    """Edits of one page stay, whatever is done on another that begins with other proposals."""
    browser.type("w12a")
    browser.wait("localStorage.length === 1")
    first = read_review(exported(browser))
    fresh = review(night, tmp_path / "fresh.html", ReviewOptions(scorer="Ada"))
    browser.open(fresh)
    notice = "document.getElementById('notice')"
    assert "made on another page" in browser.evaluate(f"{notice}.textContent")
    browser.type("rr")
    browser.wait("localStorage.length === 2")
    browser.open(page)
    assert "Goes on with the edits" in browser.evaluate(f"{notice}.textContent")
    assert_same(read_review(exported(browser)), first)
    other = review(night, tmp_path / "other.html", ReviewOptions(scores=proposals(tmp_path, 7)))
    browser.open(other)
    browser.evaluate(f"{notice}.querySelector('button').click()")
    loaded = read_review(exported(browser))
    assert stage_names(loaded.proposed) == stage_names(first.proposed)  # which was open last
    assert not np.isfinite(loaded.density).any()  # this page's are of other stages
    browser.evaluate("localStorage.clear()")


def proposals(folder: Path, seed: int) -> Path:
    """Other proposals for the night, with probabilities."""
    rng = np.random.default_rng(seed)
    write_density(folder / "other.csv", random_hypnogram(rng, epochs=60, begin=None), rng)
    return folder / "other.csv"


def test_a_kept_night_of_other_stages_is_not_loaded(
    browser: Page, night: Path, tmp_path: Path
) -> None:
    browser.open(review(night, tmp_path / "fresh.html"))
    browser.type("ww1")
    browser.wait("localStorage.length === 1")
    options = ReviewOptions(species="mouse", epoch_seconds=30.0)
    browser.open(review(night, tmp_path / "mouse.html", options))
    assert browser.evaluate("document.getElementById('notice').hidden")
    assert browser.evaluate("review.count('changed')") == 0
    browser.evaluate("localStorage.clear()")


def test_edits_of_another_night_are_refused(browser: Page, tmp_path: Path) -> None:
    browser.type("w12")
    path = exported(browser)
    read = read_review(path)
    alien = tmp_path / "alien.csv"
    alien.write_text(path.read_text().replace(read.sha256, "ab" * 32))
    before = browser.evaluate("csvText(review)")
    for file, says in ((alien, "another night"), (shortened(path), "59 epochs, this night 60")):
        browser.evaluate("document.getElementById('notice').hidden = true")
        browser.choose_file("#file", file)
        browser.wait("!document.getElementById('notice').hidden")
        assert says in browser.evaluate("document.getElementById('notice').textContent")
        assert browser.evaluate("csvText(review)") == before


def shortened(path: Path) -> Path:
    short = path.with_name("short.csv")
    short.write_text("".join(path.read_text().splitlines(keepends=True)[:-1]))
    return short


def test_doubtful_epochs_come_first_on_request(browser: Page, night: Path) -> None:
    density = hypnodensity.read_density(night.parents[1] / "proposed.csv").round(4)
    ranked = np.sort(density, 1)
    margin = np.round(ranked[:, -1] - ranked[:, -2], 4)
    order = [i for i in np.argsort(margin, kind="stable") if np.isfinite(margin[i])]
    browser.press("d")
    seen = [browser.evaluate("view.epoch")]
    for _ in range(len(order) - 1):
        browser.press(" ")
        seen.append(browser.evaluate("view.epoch"))
    assert sorted(seen) == sorted(order)
    assert np.all(np.diff(margin[seen]) >= -1e-6)
    browser.press("d")
    browser.press("Home")
    assert browser.evaluate("view.epoch") == 0


def test_a_screen_reader_is_told_epoch_and_stage(browser: Page) -> None:
    browser.press("2")
    assert said(browser).startswith("Epoch 1: N2. Epoch 2, ")
    browser.press("ArrowLeft")
    assert "Epoch 1, " in said(browser)
    assert "N2" in said(browser)
    assert browser.evaluate("document.getElementById('said').getAttribute('aria-live')") == "polite"
    unnamed = browser.evaluate(
        "[...document.querySelectorAll('button, canvas, input:not([hidden])')].filter(e => "
        "!(e.getAttribute('aria-label') || e.textContent.trim() || e.labels?.length)).length"
    )
    assert unnamed == 0


def test_gain_filter_and_view_follow_their_keys(browser: Page) -> None:
    gains = "channels.map(c => c.gain)"
    before = browser.evaluate(gains)
    browser.press("ArrowDown")
    browser.press("+")
    after = browser.evaluate(gains)
    assert after[0] < before[0]
    assert after[1:] == before[1:]
    at = "channels[0].shown(1000, 4000, view).reduce((a, b) => a + b * b, 0)"
    filtered = browser.evaluate(at)
    browser.press("f")
    assert browser.evaluate(at) != pytest.approx(filtered)
    browser.press("]")
    assert browser.evaluate("view.span") == 60
    browser.press("i")
    browser.press("v")
    browser.press("k")
    for text in ("60 s", "as recorded", "negative up", "50 Hz removed"):
        browser.wait(f"document.getElementById('view').textContent.includes('{text}')")


def test_the_page_draws_the_samples_that_were_recorded(browser: Page, night: Path) -> None:
    recorded = formats.read(night).signals["EEG Fpz-Cz"].samples()
    browser.press("f")
    drawn = np.array(browser.evaluate("[...channels[0].shown(90000, 93000, view)]"))
    steps = np.array(browser.evaluate("[...channels[0].step.subarray(90, 93)]"))
    error = np.abs(drawn - recorded[90000:93000]).reshape(3, 1000)
    assert np.all(error <= 0.51 * steps[:, None] + 1e-3)


def test_the_display_filter_keeps_its_band_and_moves_no_wave(browser: Page) -> None:
    waves = (
        "[0.05, 10, 45].map(f => zeroPhase(Float32Array.from({length: 6000}, (_, i) => "
        "Math.cos(2 * Math.PI * f * (i - 3000) / 200)), sectionsFor([0.3, 35], 0, 200))[3000])"
    )
    low, kept, high = browser.evaluate(waves)
    assert abs(low) < 0.05
    assert kept == pytest.approx(1, abs=0.02)
    assert 0 <= high < 0.35


@pytest.mark.parametrize("size", [(1366, 768), (400, 800)])
@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_the_page_fits_its_window(size: tuple[int, int], dark: bool, browser: Page) -> None:
    browser.resize(*size, dark=dark)
    browser.wait("document.getElementById('signals').width > 100")
    width, height = size
    assert browser.evaluate("document.documentElement.scrollWidth") <= width
    if width > 1000:
        assert browser.evaluate("document.documentElement.scrollHeight") <= height
    inks = (
        "(() => { const c = document.getElementById('signals'), d = c.getContext('2d')"
        ".getImageData(0, 0, c.width, c.height).data; let n = 0; for (let i = 3; i < d.length; "
        "i += 4) n += d[i] > 0; return n / (d.length / 4); })()"
    )
    browser.wait(f"{inks} > 0.02")


def test_help_lists_every_key_and_keeps_keys_to_itself(browser: Page) -> None:
    browser.press("h")
    assert browser.evaluate("document.getElementById('help').open")
    rows = browser.evaluate("document.querySelectorAll('#help dl > div').length")
    assert rows == browser.evaluate("COMMANDS.length")
    browser.press("2")
    browser.press("Escape")
    assert not browser.evaluate("document.getElementById('help').open")
    assert browser.evaluate("review.done.length") == 0


def test_a_click_into_the_overview_goes_there(browser: Page) -> None:
    box = browser.evaluate(
        "(({x, y}) => [x, y])(document.getElementById('night').getBoundingClientRect())"
    )
    for kind in ("mousePressed", "mouseReleased"):
        browser.call(
            *("Input.dispatchMouseEvent",),
            type=kind,
            x=box[0] + 124 + 600,
            y=box[1] + 30,
            button="left",
            clickCount=1,
        )
    assert 25 < browser.evaluate("view.epoch") < 35
    browser.press("w")
    assert browser.evaluate("review.done.length") == 1


def test_hostile_names_stay_text(chromium: Page, night: Path, tmp_path: Path) -> None:
    names = [
        "</script><script>hacked=1</script>",
        '"><img src=x onerror=hacked=1>',
        "\u202eevil\u202c",
        "$digest ${1}",
    ]
    hostile = tmp_path / ("x'\"><img src=x onerror=hacked=1>&amp;" + night.suffix)
    hostile.write_bytes(night.read_bytes())
    options = ReviewOptions(
        scores=night.parents[1] / "proposed.csv",
        scorer=names[0],
        channels=["EEG Fpz-Cz"],
    )
    page = review(hostile, tmp_path / "page.html", options)
    text = page.read_text("utf-16")
    assert "<img" not in text
    assert text.count("</script>") == text.count("<script")
    browser = chromium
    browser.open_anew(page)
    browser.evaluate(f"channels[0].label = {json.dumps(names[1])}; review.model = 'x'; show()")
    for name in names:
        browser.evaluate(f"notice({json.dumps(name)}); tell({json.dumps(name)})")
    browser.press("h")
    assert browser.evaluate("typeof hacked") == "undefined"
    assert browser.evaluate("document.images.length") == 0
    blocked = (
        "new Promise(r => { const s = document.createElement('script'); s.textContent = "
        "'hacked = 1'; document.body.append(s); setTimeout(() => r(typeof hacked), 50); })"
    )
    assert browser.evaluate(blocked) == "undefined"  # by the policy of the page


def test_mice_have_their_stages_and_neighbours(chromium: Page, tmp_path: Path) -> None:
    need_browser()
    raw = simulate("slumbernet", tmp_path / "raw", subjects=1, hours=0.5)
    path = next(raw.rglob("*Hz.txt"))
    page = review(path, tmp_path / "mouse.html", ReviewOptions(species="mouse", scorer="M"))
    browser = chromium
    browser.open_anew(page)
    assert browser.evaluate("night.names.join()") == "Wake,NREM,REM"
    assert browser.evaluate("view.span") == 20
    browser.type("nnwr?")
    browser.press("e")
    read = read_review(browser.downloaded(f"{path.stem}-review.csv"))
    assert stage_names(read.hypnogram)[:6] == [
        "NREM",
        "NREM",
        "Wake",
        "REM",
        "unknown",
        "unannotated",
    ]
    assert browser.complaints() == []
    target = tmp_path / "mouse.csv"
    convert_hypnogram(browser.downloads / f"{path.stem}-review.csv", target, to="accusleepy")


def test_a_page_without_a_name_asks_before_it_exports(
    chromium: Page, night: Path, tmp_path: Path
) -> None:
    page = review(night, tmp_path / "bare.html", ReviewOptions())
    browser = chromium
    browser.open_anew(page)
    browser.type("23")
    browser.press("e")
    assert browser.evaluate("document.activeElement.id") == "scorer"
    browser.call("Input.insertText", text='=Bo, "B"')
    browser.press("Enter")
    browser.press("e")
    read = read_review(browser.downloaded(f"{night.stem}-review.csv"))
    assert read.hypnogram.scorer == "Bo, B"
    assert stage_names(read.hypnogram)[:3] == ["N2", "N3", "unannotated"]
    assert read.hypnogram.names == HUMAN_STAGES


@pytest.mark.slow
@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_axe_finds_nothing(dark: bool, browser: Page, skip_loudly: Callable[[str], None]) -> None:
    if AXE is None:
        skip_loudly("SLEEPTOOLS_AXE names no axe.min.js: the page was not audited")
    browser.resize(1366, 768, dark=dark)
    browser.type("2a")
    for opening in ("", "h"):  # without and with the help
        browser.type(opening)
        browser.evaluate(Path(str(AXE)).read_text() + "; 0")
        audit = browser.evaluate(
            "axe.run(document).then(({violations, passes}) => [passes.length, "
            "violations.map(v => [v.impact, v.id, v.nodes[0].html.slice(0, 200)])])"
        )
        assert audit[0] > 15
        assert audit[1] == []
