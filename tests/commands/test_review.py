"""`review` from the command line: which night, which signals, which edits, and what is refused."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import shutil
from dataclasses import replace
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from reviews import edited, random_hypnogram
from sleeptools import cli, formats, store
from sleeptools.commands.review import ReviewOptions, review
from sleeptools.commands.score import score
from sleeptools.commands.simulate import simulate
from sleeptools.errors import DataError, OutputError, UsageError
from sleeptools.formats import hypnodensity
from sleeptools.formats.parsing.stage_words import stage_names
from sleeptools.formats.review import Review, read_review, write_review
from sleeptools.preprocessing import presets
from sleeptools.preprocessing.epochs import read_epoch_file
from sleeptools.recording.hypnogram import Hypnogram
from sleeptools.recording.recording import Recording, Signal, write_recording


@pytest.fixture(scope="module")
def raw(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return simulate("sleep-edf", tmp_path_factory.mktemp("raw"), subjects=1, nights=2, hours=2.1)


@pytest.fixture(scope="module")
def nights(raw: Path) -> list[Path]:
    return sorted(raw.glob("*PSG.edf"))


@pytest.fixture(scope="module")
def scores(nights: list[Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    return score("default", nights, tmp_path_factory.mktemp("scored") / "scores")


def facts_of(page: Path) -> dict[str, Any]:
    text = page.read_text("utf-16")
    match = re.search(r'<script type="application/json" id="facts">(.*?)</script>', text, re.S)
    assert match
    facts: dict[str, Any] = json.loads(match[1])
    return facts


def as_corrected(page: Path, path: Path, recording: Path) -> Review:
    """Write what the page would export after some edits, and return it."""
    facts = facts_of(page)
    stages = np.array(facts["stages"], np.int8)
    begin = formats.read(recording).start
    scoring = Hypnogram(stages, tuple(facts["names"]), facts["epochSeconds"], begin=begin)
    none = np.zeros(len(stages), bool)
    p = np.array(facts["density"], np.float32).reshape(len(stages), -1) / 1e4
    fresh = Review(facts["id"], facts["sha256"], scoring, scoring, none, none, p.round(4))
    done = edited(np.random.default_rng(4), fresh, 60)
    write_review(done, path)
    return done


def test_a_scored_night_has_its_stages_and_probabilities(
    nights: list[Path], scores: Path, tmp_path: Path
) -> None:
    page = review(nights[0], tmp_path / "review.html", ReviewOptions(scores=scores))
    facts, table = facts_of(page), scores / f"{nights[0].stem}.csv"
    hypnogram = hypnodensity.read_hypnogram(table)
    assert facts["stages"] == hypnogram.stages.tolist()
    density = np.array(facts["density"]).reshape(len(hypnogram), -1) / 1e4
    assert np.allclose(density, hypnodensity.read_density(table), atol=6e-5)
    assert facts["sha256"] == store.sha256(nights[0])
    assert re.fullmatch(r"spectral [0-9a-f]{12}", facts["model"])
    assert [c["label"] for c in facts["channels"]] == [
        *("EEG Fpz-Cz", "EEG Pz-Oz", "EOG horizontal", "EMG submental"),
    ]


def test_the_command_says_how_large_the_page_is(
    nights: list[Path], scores: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "page.html"
    line = ["review", str(nights[0]), "--scores", str(scores), "--out", str(out)]
    assert cli.run([*line, "--channel", "EOG horizontal", "--channel", "Fpz-Cz"]) == 0
    assert f"{out.stat().st_size / 1e6:.1f} MB" in capsys.readouterr().err
    assert [c["label"] for c in facts_of(out)["channels"]] == ["EOG horizontal", "Fpz-Cz"]
    assert cli.run(line) == 0  # a page of ours is replaced


def test_edits_of_another_night_are_refused(
    nights: list[Path], scores: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    page = review(nights[0], tmp_path / "review.html", ReviewOptions(scores=scores))
    edits = tmp_path / "one-review.csv"
    as_corrected(page, edits, nights[0])
    out = str(tmp_path / "other.html")
    assert cli.run(["review", str(nights[1]), "--edits", str(edits), "--out", out]) == 65
    assert "[REV-NIGHT]" in capsys.readouterr().err
    assert cli.run(["review", str(nights[1]), "--scores", str(edits), "--out", out]) == 65
    assert not Path(out).exists()
    copy = tmp_path / "renamed.edf"
    shutil.copy(nights[0], copy)
    assert cli.run(["review", str(copy), "--edits", str(edits), "--out", out]) == 0
    assert "its file is the same" in capsys.readouterr().err


def test_edits_go_on_where_they_ended(nights: list[Path], scores: Path, tmp_path: Path) -> None:
    page = review(nights[0], tmp_path / "review.html", ReviewOptions(scores=scores))
    edits = tmp_path / "one_events.tsv"
    done = as_corrected(page, edits, nights[0])
    again = facts_of(review(nights[0], tmp_path / "again.html", ReviewOptions(edits=edits)))
    h = done.hypnogram
    assert again["stages"] == np.where(h.reasons == 0, h.stages, -h.reasons).tolist()
    assert again["touched"] == "".join(str(int(t)) for t in done.touched)
    assert again["artefact"] == "".join(str(int(t)) for t in done.artefact)
    assert again["lights"] == [done.lights_off, done.lights_on]
    assert again["scorer"] == "A. Scorer"
    assert again["fingerprint"] != facts_of(page)["fingerprint"]


@pytest.mark.parametrize("gain", ["eeg", "75", "=75", "eeg=", "eeg=loud"])
def test_a_gain_without_a_name_or_a_number_is_told(
    gain: str, nights: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["review", str(nights[0]), "--gain", gain, "--out", str(tmp_path / "a.html")]
    assert cli.run(words) == 2
    assert "expected NAME=VALUE" in capsys.readouterr().err


@pytest.mark.parametrize("what", ["cut", "later", "shorter", "clock", "lights"])
def test_edits_that_no_page_of_the_night_has_are_refused(
    what: str, nights: list[Path], scores: Path, tmp_path: Path
) -> None:
    """The SHA-256 alone does not say that the rows are those that the page exported."""
    page, edits = tmp_path / "review.html", tmp_path / "one-review.csv"
    done = as_corrected(review(nights[0], page, ReviewOptions(scores)), edits, nights[0])
    h = done.hypnogram
    size = len(h) // 2 if what == "cut" else len(h)
    moved = {
        "later": {"onset": 30.0},
        "shorter": {"epoch_seconds": 10.0},
        "clock": {"begin": h.begin + timedelta(hours=1)},
    }.get(what, {})
    lights = 1e8 if what == "lights" else None
    parts = {
        name: replace(grid, stages=grid.stages[:size], reasons=grid.reasons[:size], **moved)
        for name, grid in (("hypnogram", h), ("proposed", done.proposed))
    }
    flags = {name: getattr(done, name)[:size] for name in ("touched", "artefact", "density")}
    write_review(replace(done, **parts, **flags, lights_on=lights), edits)
    with pytest.raises(DataError, match="altered since it was exported"):
        review(nights[0], page, ReviewOptions(edits=edits))


def test_scores_of_another_night_are_refused(
    nights: list[Path], scores: Path, tmp_path: Path
) -> None:
    other = tmp_path / "unscored.edf"
    shutil.copy(nights[0], other)
    with pytest.raises(DataError, match="holds no scores of unscored"):
        review(other, tmp_path / "a.html", ReviewOptions(scores=scores))
    namesake = tmp_path / nights[0].name
    content = bytearray(nights[0].read_bytes())
    content[-1] ^= 1  # as long, and with the same start
    for other_content in (nights[1].read_bytes() + b"\0", bytes(content)):
        namesake.write_bytes(other_content)
        with pytest.raises(DataError, match="another night of that name"):
            review(namesake, tmp_path / "a.html", ReviewOptions(scores=scores))


def test_preprocess_takes_the_corrected_file(
    nights: list[Path], scores: Path, tmp_path: Path
) -> None:
    from sleeptools.commands import preprocess

    page = review(nights[0], tmp_path / "review.html", ReviewOptions(scores=scores))
    settings = presets.load("sleep-edf").model_dump(mode="json")
    settings |= {"name": "own", "data_set": "edf", "trim": {"rule": "none"}}
    preset = presets.resolve(settings, source="own")
    for number, ending in enumerate((".csv", "_events.tsv")):
        folder = tmp_path / f"raw-{number}"
        folder.mkdir()
        done = as_corrected(page, folder / f"SC_1{ending}", nights[0])
        shutil.copy(nights[0], folder / "SC_1.edf")
        name = "{subject}_{night}"
        text = f'signals = "{name}.edf"\nhypnograms = "{name}{ending}"\n'
        (folder / "edf.toml").write_text(text)
        epochs = preprocess.preprocess(preset, folder, tmp_path / f"epochs-{number}")
        kept = read_epoch_file(next(epochs.glob("*.safetensors")))
        numbers = np.rint(kept.onset / 30).astype(int)
        assert np.array_equal(kept.stages, done.hypnogram.stages[numbers])
        assert len(kept.stages) == (done.hypnogram.stages >= 0).sum()


def test_a_page_that_is_not_ours_is_kept(nights: list[Path], tmp_path: Path) -> None:
    for text, says in (("<!doctype html>mine", "`force` replaces"), ("notes", "give another")):
        out = tmp_path / "mine.html"
        out.write_text(text)
        with pytest.raises(OutputError) as caught:
            review(nights[0], out)
        assert says in (caught.value.hint or "")
        assert out.read_text() == text
    out.write_text("<!doctype html>mine")
    review(nights[0], out, ReviewOptions(force=True))
    assert facts_of(out)["count"] == 252


def test_the_page_of_another_night_is_kept(nights: list[Path], tmp_path: Path) -> None:
    out = review(nights[0], tmp_path / "review.html")
    renamed = tmp_path / f"same{nights[0].suffix}"
    shutil.copy(nights[0], renamed)
    review(renamed, out)  # the content decides, not the name
    before = out.read_bytes()
    with pytest.raises(OutputError, match=f"shows recording same; .* {nights[1].stem}") as caught:
        review(nights[1], out)
    assert "`out`" in (caught.value.hint or "")
    assert out.read_bytes() == before
    review(nights[1], out, ReviewOptions(force=True))
    assert facts_of(out)["id"] == nights[1].stem


def test_edf_toml_says_whose_stages_and_which_scoring(nights: list[Path], tmp_path: Path) -> None:
    shutil.copy(nights[0], tmp_path / "M1.edf")
    shutil.copy(nights[0], tmp_path / "M2.edf")
    labels = np.random.default_rng(1).integers(1, 4, 7560 // 4)
    rows = "\n".join(map(str, labels))
    (tmp_path / "M1.csv").write_text(f"brain_state\n{rows}\n")
    settings = 'signals = "{subject}.edf"\nhypnograms = "{subject}.csv"\nepoch_seconds = 4\n'
    (tmp_path / "edf.toml").write_text(f'{settings}scheme = "accusleepy"\n')
    scored = facts_of(review(tmp_path / "M1.edf", tmp_path / "1.html"))
    assert (scored["names"], scored["epochSeconds"]) == (["Wake", "NREM", "REM"], 4)
    assert scored["stages"] == np.array([None, 2, 0, 1])[labels].tolist()
    named = ReviewOptions(scores=tmp_path / "M1.csv")
    assert facts_of(review(tmp_path / "M1.edf", tmp_path / "1.html", named)) == scored
    bare = facts_of(review(tmp_path / "M2.edf", tmp_path / "2.html"))
    assert (bare["names"], bare["epochSeconds"]) == (["Wake", "NREM", "REM"], 4)
    assert set(bare["stages"]) == {-3}
    person = ReviewOptions(species="human", epoch_seconds=30.0)
    assert facts_of(review(tmp_path / "M2.edf", tmp_path / "2.html", person))["count"] == 252


def test_from_scratch_nothing_is_proposed(nights: list[Path], tmp_path: Path) -> None:
    facts = facts_of(review(nights[0], tmp_path / "a.html", ReviewOptions(epoch_seconds=20)))
    assert set(facts["stages"]) == {-3}
    assert facts["density"] == []
    assert facts["count"] == 378
    with pytest.raises(UsageError):
        review(nights[0], tmp_path / "b.html", ReviewOptions(species="cat"))
    for gains in ({"ekg": 3.0}, {"eeg": 0.0}, {"eeg": float("nan")}):
        with pytest.raises(UsageError):
            review(nights[0], tmp_path / "b.html", ReviewOptions(gains=gains))


def a_recording(path: Path, rate: float, gaps: tuple[tuple[float, float], ...] = ()) -> np.ndarray:
    seconds = 300 - sum(b - a for a, b in gaps)
    t = np.arange(round(seconds * rate)) / rate
    wave = (30 * np.sin(2 * np.pi * 2 * t)).astype(np.float32)
    signals = {}
    for label, modality in (("EEG C4-M1", "eeg"), ("</script><b>EMG", "emg"), ("Flow", "resp")):
        unit = "uV" if modality != "resp" else "l/min"
        signals[label] = Signal(
            *(label, rate, unit, modality, len(wave), partial(np.asarray, wave)),
            gaps=gaps,
        )
    write_recording(path, Recording("x", "x", 1, signals), {})
    return wave


def test_a_fast_channel_is_resampled_and_said_so(tmp_path: Path) -> None:
    a_recording(tmp_path / "fast.safetensors", 512.0)
    notes: list[str] = []
    page = review(tmp_path / "fast.safetensors", tmp_path / "a.html", log=notes.append)
    assert {c["rate"] for c in facts_of(page)["channels"]} == {200.0}
    assert any("EEG C4-M1 is shown at 200 Hz; it was recorded at 512 Hz" in n for n in notes)
    assert "recorded at 512 Hz" in page.read_text("utf-16")


def test_an_interruption_is_drawn_as_one(tmp_path: Path) -> None:
    from sleeptools.commands.review.shown_signals import show
    from sleeptools.report.packed_signals import unpack

    wave = a_recording(tmp_path / "gap.safetensors", 100.0, gaps=((60.0, 120.0),))
    recording = formats.read_any(tmp_path / "gap.safetensors")
    shown = show(recording.signals["EEG C4-M1"], recording.seconds, mouse=False, gains={})
    back = unpack(shown.packed)
    assert len(back) == 30_000
    assert np.isnan(back[6000:12_000]).all()
    assert np.allclose(back[:6000], wave[:6000], atol=0.2)
    assert np.allclose(back[12_000:], wave[6000:], atol=0.2)


def test_hostile_texts_end_no_element(tmp_path: Path) -> None:
    path = tmp_path / '"><img src=x onerror=alert(1)>.safetensors'
    a_recording(path, 100.0)
    scorer = "</script><script>alert(1)</script>\0\u202e"
    scoring = replace(random_hypnogram(np.random.default_rng(0), epochs=10), scorer="<i>m</i>")
    formats.write_hypnogram(scoring, tmp_path / "x_events.tsv")
    options = ReviewOptions(
        scores=tmp_path / "x_events.tsv",
        scorer=scorer,
        channels=["</script><b>EMG", "Flow", "EEG C4-M1"],
    )
    page = review(path, tmp_path / "page.html", options)
    text = page.read_text("utf-16")
    assert "\0" not in text
    assert not re.search(r"<(img|b|i)\b", text)
    assert len(re.findall("</script", text)) == len(re.findall("<script", text)) == 5
    facts = facts_of(page)
    assert facts["channels"][0]["label"] == "</script><b>EMG"
    policy = re.search(r'Content-Security-Policy" content="([^"]*)"', text)
    assert policy
    script = text[text.rindex("<script>") + 8 : text.rindex("</script>")]
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert policy[1].startswith("default-src 'none'; ")
    assert f"script-src 'sha256-{digest}';" in policy[1]


def test_the_scripts_name_no_address_and_no_way_around_escaping() -> None:
    folder = Path(review.__code__.co_filename).parents[2] / "report/review_page"
    for path in folder.glob("*.*"):
        text = path.read_text()
        assert not re.search(
            r"https?://|innerHTML|outerHTML|insertAdjacent|eval\(|fetch\(", text
        ), path


@pytest.mark.slow
@pytest.mark.parametrize("name", ["4 channels at 200 Hz", "8 channels at 100 Hz"])
def test_a_whole_night_has_a_page_of_limited_size(name: str, tmp_path: Path) -> None:
    import review_page

    labels, rate, limit = review_page.NIGHTS[name]
    path = review_page.night(tmp_path, labels, rate, 8.0, 1)
    page = review(path, tmp_path / "page.html", ReviewOptions(channels=labels))
    facts = facts_of(page)
    assert [c["size"] for c in facts["channels"]] == [8 * 3600 * rate] * len(labels)
    assert page.stat().st_size < limit * 1e6


def test_a_review_can_be_read_back_as_python(
    nights: list[Path], scores: Path, tmp_path: Path
) -> None:
    page = review(nights[0], tmp_path / "review.html", ReviewOptions(scores=scores))
    done = as_corrected(page, tmp_path / "a.csv", nights[0])
    read = read_review(tmp_path / "a.csv")
    assert stage_names(read.hypnogram) == stage_names(done.hypnogram)
    assert read.changed.sum() == done.changed.sum() > 5
