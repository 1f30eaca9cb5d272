"""The report: one offline file, honest, escaped, and whole in a browser."""

import base64
import hashlib
import html
import json
import os
import re
import shutil
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import polars as pl
import pytest
from matplotlib.figure import Figure

import synthetic_epochs
import synthetic_run
from sleeptools import store
from sleeptools.commands.report import SECTIONS, ReportOptions, write_report
from sleeptools.errors import DataError, OutputError, UsageError
from sleeptools.evaluation.evaluation import compute_evaluation
from sleeptools.evaluation.subject_metrics import find_interval
from sleeptools.evaluation.uncertain_epochs import share_of_errors
from sleeptools.recording.recording import RECORDINGS_KIND, Recording, Signal, write_recording
from sleeptools.recording.stages import MOUSE_STAGES
from sleeptools.report import markup
from sleeptools.report.numbers import interval_text
from sleeptools.report.plots.canvas import PAPER, Plot
from sleeptools.report.plots.training import plot_training
from sleeptools.report.sections import methods, provenance, signals
from sleeptools.runs.logs import training_logs
from sleeptools.runs.run import open_run

BROWSERS = ("chromium", "chromium-browser", "google-chrome")
CHROMIUM = next(filter(None, map(shutil.which, BROWSERS)), None)
NOT_FOR_PEOPLE = {"day-1", "scorers-1"}  # mice; several scorers
AXE = os.environ.get("SLEEPTOOLS_AXE")  # axe.min.js of axe-core, where it is to be run
VOID = {"meta", "link", "br", "hr", "path", "rect", "line", "circle", "use"}


@pytest.fixture
def drawn():
    """The figures of matplotlib are looked at."""


@pytest.fixture(autouse=True)
def _undrawn(request, monkeypatch):
    """Draw them for `page` and where they are looked at: they take most of a report's time."""
    if "drawn" not in request.fixturenames:
        monkeypatch.setattr(
            Plot, "svg", lambda plot, _: markup.svg_element([], 900, 300, plot.description)
        )
        monkeypatch.setattr(Plot, "pdf", lambda _: b"%PDF-")
        monkeypatch.setattr(Plot, "png", lambda _: b"PNG")


def report(folders, out, **options):
    written = write_report(folders, out, ReportOptions(**options))
    assert written[0] == out
    return out


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "mmasleepnet"
    return synthetic_run.explain(synthetic_run.write(folder))


@pytest.fixture(scope="module")
def page(run):
    return report([run], run.parent / "report.html")


@pytest.mark.parametrize("kind", ["html", "md", "csv"])
def test_a_report_of_another_run_is_kept(run, tmp_path, kind):
    other = shutil.copytree(run, tmp_path / run.name)  # of the same name, elsewhere
    out = tmp_path / f"report.{kind}"
    write_report([run], out, ReportOptions(kind=kind))
    write_report([run], out, ReportOptions(kind=kind))  # its own is replaced
    for folders in ([other], [run, other]):
        with pytest.raises(OutputError, match="shows run mmasleepnet; this would be") as caught:
            write_report(folders, out, ReportOptions(kind=kind))
        assert "own" in caught.value.hint if kind == "csv" else "`out`" in caught.value.hint
    if kind != "csv":
        write_report([other], out, ReportOptions(kind=kind, force=True))
        write_report([other], out, ReportOptions(kind=kind))


def test_one_pass_is_seen_in_the_curves(tmp_path):
    run = open_run(synthetic_run.write(tmp_path / "run", passes=1, protocols=("leak-free",)))
    figure = Figure()
    plot_training(training_logs(run)).draw(figure, PAPER)
    loss = figure.axes[0]
    assert [line.get_marker() for line in loss.lines] == ["."]
    assert loss.get_xlim() == (0, 2)
    assert provenance.recipe_text({"passes": 1, "batch": 64}).startswith("Training: 1 pass, batch")


class Reader(HTMLParser):
    """Collects tags with their attributes, and checks that they close in order."""

    def __init__(self):
        super().__init__()
        self.tags, self.open = [], []

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        if tag not in VOID:
            assert self.open.pop() == tag


def read(path):
    reader = Reader()
    reader.feed(path.read_text())
    assert reader.open == []
    return reader.tags


def plain(path):
    body = re.sub(r"<(style|script|svg).*?</\1>", " ", path.read_text(), flags=re.S)
    return re.sub(r"\s+", " ", html.unescape(re.sub(r"<[^>]+>", " ", body)))


def test_report_is_well_formed_with_unique_ids_and_working_links(page):
    tags = read(page)
    ids = [a["id"] for _, a in tags if "id" in a]
    assert len(ids) == len(set(ids))
    targets = {a["href"][1:] for t, a in tags if t == "a" and a["href"].startswith("#")}
    assert targets <= set(ids)
    absent = NOT_FOR_PEOPLE | {"signals-1", "unseen-1"}  # no epochs given, nobody held out
    assert {f"{key}-1" for key in SECTIONS} - absent == targets - {"content"}


def test_report_fetches_nothing(page):
    tags = read(page)
    (script,) = [attributes for tag, attributes in tags if tag == "script"]
    assert script == {}
    policy = next(a["content"] for t, a in tags if t == "meta" and "http-equiv" in a)
    text = re.search(r"<script>(.*?)</script>", page.read_text(), re.S)[1]
    digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
    assert f"script-src 'sha256-{digest}'" in policy
    assert "default-src 'none'" in policy
    for tag, attributes in tags:
        assert tag not in {"iframe", "img", "object", "embed", "base"}
        for name in ("src", "href", "xlink:href", "srcset", "action", "data"):
            assert attributes.get(name, "#").startswith(("#", "data:"))
        assert not any(name.startswith("on") for name in attributes)
    assert "@import" not in page.read_text()
    assert not re.search(r"url\((?!#)", page.read_text())


def test_report_is_honest(page):
    text = plain(page)
    assert "SIMULATED DATA" in text
    assert "not a medical device; not for diagnosis" in text
    assert "best-on-test (optimistic)" in text
    assert "Not directly comparable with the printed MMASleepNet on Sleep-EDF-20" in text
    assert "no subject trains or validates and is tested in the same fold" in text
    assert text.index("SIMULATED DATA") < text.index("Accuracy")


def test_report_sets_the_printed_row_beside_ours(page):
    text = plain(page)
    assert re.search(
        r"MMASleepNet Sleep-EDF-20, n = 20 20 subjects the test fold \(optimistic\) 87\.30", text
    )
    assert "ours, mmasleepnet sleep-edf, SIMULATED, n = 4 2 subjects validation subjects" in text
    assert "doi:10.3389/fnins.2022.973761, Table 3" in text


def test_report_shows_what_was_left_out_and_how_it_was_made(page):
    text = plain(page)
    for fact in ("movement 7", "wake trimmed 430", "EEG Fpz-Cz", "1,581,637", "Environment"):
        assert fact in text
    assert "How often a test fold was read" in text


def test_report_is_accessible(page):
    tags = read(page)
    assert dict(tags)["html"]["lang"] == "en"
    assert all(a.get("scope") in {"row", "col"} for t, a in tags if t == "th")
    tables = sum(t == "table" for t, _ in tags)
    assert tables == sum(t == "caption" for t, _ in tags) > 5
    assert all(a["aria-label"] for t, a in tags if t == "svg" and a.get("class") != "time")
    scrolled = [a for _, a in tags if a.get("class") == "scroll"]
    assert all(a["tabindex"] == "0" and a["aria-label"] for a in scrolled)


def test_report_writes_nothing_into_the_run(tmp_path):
    run = synthetic_run.write(tmp_path / "run")
    before = {p: p.stat().st_mtime_ns for p in [run, *run.rglob("*")]}
    report([run], tmp_path / "report.html")
    assert {p: p.stat().st_mtime_ns for p in [run, *run.rglob("*")]} == before


def test_best_on_test_never_stands_without_its_mark(page):
    text = plain(page).replace("best-on-test (optimistic)", "")
    explained = (
        "best-on-test: the pass is chosen on the scored",
        "best-on-test keeps the pass",
        "under best-on-test that of the scored test fold (optimistic)",
        "best-on-test at most",
        "protocols leak-free, best-on-test",
        "under best-on-test",
    )
    for words in explained:
        text = text.replace(words, "")
    assert "best-on-test" not in text


def configure(run, **changed):
    config = store.read_toml(run / "config.toml")
    store.write_toml(run / "config.toml", config | changed)


def test_settings_of_the_model_are_shown_and_compared(tmp_path):
    run = synthetic_run.write(tmp_path / "run")
    settings = {"name": "mmasleepnet", "modalities": "eeg", "fusion": "mbfe", "kernels": "paper"}
    configure(run, model=settings, recipe={"variant": "default", "batch": 64})
    text = plain(report([run], tmp_path / "r.html"))
    assert "Settings of the model mmasleepnet" in text
    assert "modalities eeg" in text
    assert "setting modalities eeg against all of the paper" in text
    assert "setting fusion mbfe against full of the paper" in text
    assert "setting kernels" not in text
    assert "recipe batch 64 against 256 of the paper" in text


def test_per_stage_numbers_are_means_over_the_seeds(tmp_path):
    run = synthetic_run.write(tmp_path / "run", seeds=(0, 1))
    text = plain(report([run], tmp_path / "r.html"))
    assert "summed over 2 seeds" in text
    assert "mean of 2 seeds, epochs of one" in text


def test_a_run_without_validation_says_that_the_last_pass_is_kept(tmp_path):
    run = synthetic_run.write(tmp_path / "run", subjects=2, protocols=("leak-free",))
    table = store.read_table(run / "folds.parquet")
    store.write_table(run / "folds.parquet", table.filter(pl.col("role") != "val"))
    text = plain(report([run], tmp_path / "r.html"))
    assert "leak-free: nothing chooses the pass, the last is kept" in text
    assert "2 subjects nothing: the last pass" in text
    assert "chosen on validation subjects" not in text
    assert "validation subjects taken" not in text


def test_one_subject_is_one(tmp_path):
    run = synthetic_run.write(tmp_path / "run", subjects=2)
    for path in run.glob("*/*/fold-01/predictions.parquet"):
        path.unlink()
    text = plain(report([run], tmp_path / "r.html", partial=True))
    assert "on 1 subject, 160 scored epochs, 1 fold," in text
    assert "1 subject against 20" in text


def test_real_data_has_no_banner(tmp_path):
    run = synthetic_run.write(tmp_path / "run", simulated=False, protocols=("leak-free",))
    text = plain(report([run], tmp_path / "r.html"))
    assert "SIMULATED" not in text
    assert "less leak-free" not in text


def test_a_run_without_manifest_is_not_shown_as_real(tmp_path):
    run = synthetic_run.write(tmp_path / "run")
    (run / "manifest.json").unlink()
    text = plain(report([run], tmp_path / "r.html"))
    assert "SIMULATED DATA" in text
    assert "Not directly comparable" in text
    for path in run.glob("*/*/*/config.json"):
        store.write_json(path, {"format": "sleeptools-model", "version": 1})
    assert "ORIGIN UNKNOWN" in plain(report([run], tmp_path / "r.html"))


def test_incomplete_run_is_refused_or_labelled(tmp_path):
    run = synthetic_run.write(tmp_path / "run")
    (run / "leak-free/seed-0/fold-01/predictions.parquet").unlink()
    with pytest.raises(DataError, match="fold-01"):
        report([run], tmp_path / "r.html")
    text = plain(report([run], tmp_path / "r.html", partial=True))
    assert "INCOMPLETE: run" in text


def test_no_run_at_all(tmp_path):
    with pytest.raises(UsageError):
        report([], tmp_path / "r.html")


def test_hostile_names_do_nothing(tmp_path):
    evil = "<script>alert(1)</script>"
    run = synthetic_run.write(tmp_path / 'a"><img src=x onerror=alert(2)>$title', prefix=evil)
    facts = store.read_json(run / "manifest.json")
    facts["data"]["excluded"] = {evil: 3, "${body}": 4}
    facts[evil] = {evil: [evil]}
    store.write_json(run / "manifest.json", facts)
    out = report([run], tmp_path / "r.html")
    tags = [tag for tag, _ in read(out)]
    assert tags.count("script") == 1  # our own
    assert "img" not in tags
    assert f"{evil}00" in plain(out)
    assert "${body} 4" in plain(out)


@pytest.mark.parametrize(
    ("quality", "fate"), [("count", "counted and kept"), ("exclude", "left out")]
)
def test_epochs_without_a_signal_are_counted_by_channel(tmp_path, quality, fate):
    run = synthetic_run.write(tmp_path / "run")
    facts = store.read_json(run / "manifest.json")
    eeg = {"EEG Fpz-Cz": {"flat": 40, "clipped": 3}}
    facts["data"]["quality"] = {"A1": eeg, "B1": eeg | {"EMG <b>": {"railed": 7}}}
    facts["data"]["preset"]["quality"] = quality
    store.write_json(run / "manifest.json", facts)
    text = plain(report([run], tmp_path / "r.html"))
    assert f"Epochs of poor signal quality by channel: {fate}" in text
    assert "EEG Fpz-Cz clipped 6 EEG Fpz-Cz flat 80 EMG <b> railed 7" in text
    facts["data"]["quality"] = {}
    store.write_json(run / "manifest.json", facts)
    assert "no epoch is flat, railed" in plain(report([run], tmp_path / "s.html"))
    del facts["data"]["quality"]  # a run of an older version
    store.write_json(run / "manifest.json", facts)
    assert "railed" not in plain(report([run], tmp_path / "t.html"))


def test_several_runs_on_one_page(tmp_path):
    folders = [
        synthetic_run.write(tmp_path / "a"),
        synthetic_run.write(tmp_path / "b", simulated=False, model="attnsleep"),
    ]
    out = report(folders, tmp_path / "r.html")
    ids = [a["id"] for _, a in read(out) if "id" in a]
    assert len(ids) == len(set(ids))
    text = plain(out)
    assert "All runs" in text
    assert "SIMULATED DATA in a" in text


def test_a_mouse_run_stands_beside_printed_mice(tmp_path):
    options = {"names": MOUSE_STAGES, "epoch_seconds": 4.0, "model": "mouse-cnn", "prefix": "M"}
    run = synthetic_run.write(tmp_path / "m", preset="kjaerby", **options)
    text = plain(report([run], tmp_path / "r.html"))
    assert "Not directly comparable with the printed CNN on Kjaerby, 8 mice" in text
    assert re.search(
        r"CNN Kjaerby, 8 mice, n = 8 8 animals the test fold \(optimistic\) 85.81", text
    )
    assert "two human scorers" not in text.lower()
    assert re.search(r"\d+ animals? against 8", text)
    run = synthetic_run.write(tmp_path / "own", preset="mine", **options)
    text = plain(report([run], tmp_path / "own.html"))
    assert "No printed result for data of this kind" in text


def test_run_without_logs_and_data(tmp_path):
    run = synthetic_run.write(tmp_path / "run")
    for path in run.rglob("log.csv"):
        path.unlink()
    facts = store.read_json(run / "manifest.json")
    del facts["data"]
    store.write_json(run / "manifest.json", facts)
    page = report([run], tmp_path / "r.html")
    assert 'id="training-1"' not in page.read_text()  # no heading over nothing
    text = plain(page)
    assert "Epochs left out" not in text


@pytest.mark.usefixtures("drawn")
def test_twenty_nights_stay_below_two_megabytes(tmp_path):
    folder = synthetic_run.write(tmp_path / "run", subjects=20, folds=4, epochs=960)
    run = synthetic_run.explain(folder)
    assert report([run], tmp_path / "r.html").stat().st_size < 2_000_000


def test_numbers_have_intervals_and_runs_are_compared(tmp_path, run, page):
    evaluation = compute_evaluation(open_run(run))
    kappa, low, high = find_interval(evaluation.intervals["leak-free"], "kappa")[:3]
    text = plain(page)
    assert f"Cohen's kappa {kappa:.3f} [{low:.3f}, {high:.3f}]" in text
    assert f"{kappa:.3f} 95 % interval {low:.3f} to {high:.3f}; median subject" in text
    second = synthetic_run.write(tmp_path / "other", seeds=(7,), model="attnsleep")
    comparison = plain(report([run, second], tmp_path / "both.html"))
    assert "other less mmasleepnet leak-free Cohen's kappa 4" in comparison
    assert "NO" in comparison  # the scored epochs of the two are others


def test_sleep_calibration_and_review_are_shown(page, run):
    text, evaluation = plain(page), compute_evaluation(open_run(run))
    bias = evaluation.table("agreement").filter(protocol="leak-free", statistic="tst").to_dicts()[0]
    assert f"Total sleep time min 4 0 {bias['bias']:.1f}" in text
    assert "Time in bed min 0 4 –" in text  # lights-off is not known  # noqa: RUF001
    raw = evaluation.table("calibration").filter(protocol="leak-free", variant="raw")
    ece = raw.filter(measure="ece")["value"][0]
    assert f"Calibration error (ECE) leak-free as predicted {ece:.3f}" in text
    assert f"hold {100 * share_of_errors(evaluation.ranking):.2f} % of its errors" in text


def test_the_result_and_its_ceiling_come_before_what_forbids_a_comparison(page):
    text = plain(page)
    order = ["Summary Metrics", "95 % interval", "Leakage check", "Not directly comparable"]
    places = [text.index(words) for words in order]
    assert places == sorted(places)
    folded = [a for tag, a in read(page) if tag == "details"]
    assert all("open" not in attributes for attributes in folded)


def test_no_section_is_empty_and_no_key_is_raw(page):
    text = page.read_text()
    for body in re.findall(r"<section[^>]*>(.*?)</section>", text, flags=re.S):
        assert re.search(r"<(p|ul|dl|table|figure|details)", body)
    for raw in ("wall_seconds", "peak memory mib", "None", "with the folders of its epochs"):
        assert raw not in plain(page)


def test_the_methods_can_be_pasted(page, tmp_path):
    text = plain(page)
    start = text.index("We staged 4 simulated recordings")
    paragraph = text[start : text.index("To be cited", start)]
    for words in (
        "epochs of 30 s",
        "The model was mmasleepnet",
        "folds over subjects",
        "sleeptools",
    ):
        assert words in paragraph
    assert "@article{mmasleepnet," in text
    mice = synthetic_run.write(
        tmp_path / "m", names=("Wake", "NREM", "REM"), preset="kjaerby", model="mouse-cnn"
    )
    text = plain(report([mice], tmp_path / "m.html"))
    assert "@misc{mouse-report," in text
    assert "bootstrap over animals" in text
    for of_people in ("G-mean go", "Two human scorers", "Table 3 of the MMASleepNet"):
        assert of_people not in text


@pytest.mark.parametrize(
    ("value", "low", "high", "text"),
    [
        (0.517123, 0.42, 0.69, "52 [42, 69]"),
        (0.517123, 0.481, 0.552, "51.7 [48.1, 55.2]"),
        (0.517123, 0.5151, 0.5192, "51.71 [51.51, 51.92]"),
        (0.517123, 0.517123, 0.517123, "51.71 [51.71, 51.71]"),
        (0.517123, None, None, "51.71"),
    ],
)
def test_the_interval_decides_the_decimals(value, low, high, text):
    shown = interval_text("accuracy", value, low, high)
    assert shown == text
    assert shown.numbers == pytest.approx(tuple(100 * n for n in (value, low, high) if n))


def test_cells_of_csv_files_are_numbers(tmp_path, run):
    write_report([run], tmp_path / "tables", ReportOptions(kind="csv"))
    metrics = pl.read_csv(tmp_path / "tables" / "metrics.csv")
    assert metrics.columns[1:4] == ["leak-free", "leak-free, low", "leak-free, high"]
    for name in ("metrics", "subjects", "folds-leak-free", "stages-leak-free", "published"):
        table = pl.read_csv(tmp_path / "tables" / f"{name}.csv")
        for column in table.columns:
            if re.search(r"Accuracy|Kappa|kappa|F1|Epochs|low$|high$", column):
                assert table[column].dtype.is_numeric(), (name, column)


def test_an_external_test_says_so(tmp_path):
    run = synthetic_run.write(tmp_path / "run", protocols=("external",))
    facts = store.read_json(run / "manifest.json")
    facts["external"] = {"leakage": "no subject of this set trained the model"}
    store.write_json(run / "manifest.json", facts)
    text = plain(report([run], tmp_path / "r.html"))
    assert "external test: a model that was trained on other data" in text
    assert re.search(r"ours, mmasleepnet sleep-edf, SIMULATED, n = 4 2 subjects other data", text)


def test_a_mouse_has_a_day(tmp_path):
    options = {"names": MOUSE_STAGES, "epoch_seconds": 10.0, "epochs": 3000, "preset": "kjaerby"}
    run = synthetic_run.write(tmp_path / "m", model="mouse-cnn", prefix="M", **options)
    text = plain(report([run], tmp_path / "r.html"))
    correlations = compute_evaluation(open_run(run)).table("day_correlation")
    r = correlations.filter(protocol="leak-free", stage="NREM")["r"][0]
    assert f"NREM 4 {r:.3f}" in text
    assert "a dot is a animal" not in text


def test_a_mouse_of_one_bin_has_no_course_of_a_day(tmp_path):
    options = {"names": MOUSE_STAGES, "epoch_seconds": 4.0, "preset": "kjaerby", "prefix": "M"}
    page = report([synthetic_run.write(tmp_path / "m", **options)], tmp_path / "r.html")
    assert "Pearson's r of scored and predicted minutes" not in plain(page)
    assert "per 2-h bin" not in plain(page)
    assert "nan" not in re.findall(r"[a-z]+", page.read_text().split("</style>")[1])


@pytest.mark.usefixtures("drawn")
def test_what_the_model_sees(tmp_path):
    run = synthetic_run.explain(synthetic_run.write(tmp_path / "run"))
    weights = [
        store.read_tensors(p) for p in sorted(run.glob("leak-free/seed-0/*/explain.safetensors"))
    ]
    emg = [t["modality weights"][t["modality stage"] == 4, 3] for t in weights]
    text = plain(report([run], tmp_path / "r.html"))
    rows = re.search(
        r"REM ([\d,]+) [\d.]+ [\d.]+ [\d.]+ ([\d.]+) ", text[text.index("Median weight") :]
    )
    assert int(rows[1]) == sum(map(len, emg))
    assert float(rows[2]) == pytest.approx(float(np.median(np.concatenate(emg))), abs=5e-4)
    assert "after the attention fusion" in (tmp_path / "r.html").read_text()


@pytest.mark.usefixtures("drawn")
def test_markdown_tables_and_figures(tmp_path, run):
    out = report([run], tmp_path / "r.md", kind="md", figures=tmp_path / "figures")
    text = out.read_text()
    evaluation = compute_evaluation(open_run(run))
    assert (
        f"| Cohen's kappa | {evaluation.pooled['leak-free'].overall_metrics()['kappa']:.3f} \\["
        in text
    )
    assert "**SIMULATED DATA**" in text
    links = re.findall(r"!\[[^]]*\]\(<(.*?)>\)", text)
    assert len(links) == 14
    for link in links:
        drawing = ElementTree.parse(link).getroot()
        assert "var(" not in ElementTree.tostring(drawing, "unicode")
    pdfs = [p.read_bytes()[:5] for p in (tmp_path / "figures").glob("*.pdf")]
    assert pdfs == [b"%PDF-"] * 14


def test_csv_tables(tmp_path, run):
    written = write_report([run], tmp_path / "tables", ReportOptions(kind="csv"))
    assert {p.name for p in written} >= {"metrics.csv", "published.csv", "subjects.csv"}
    table = pl.read_csv(tmp_path / "tables" / "folds-leak-free.csv")
    assert table["Epochs"].to_list() == [320, 320]
    with pytest.raises(UsageError, match="pdf"):
        write_report([run], tmp_path / "r.pdf", ReportOptions(kind="pdf"))


def test_hostile_names_in_markdown_and_file_names(tmp_path):
    evil = "../<b>|x"
    run = synthetic_run.write(tmp_path / "run", prefix=evil)
    out = report([run], tmp_path / "r.md", kind="md", figures=tmp_path / "figures")
    assert "<b>" not in out.read_text()
    assert {p.parent for p in tmp_path.rglob("*.svg")} == {tmp_path / "figures"}


def trained_on(run, data):
    facts = store.read_json(data / "manifest.json")["files"]
    digest = hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()
    configure(run, epochs={"sha256": digest})


@pytest.mark.usefixtures("drawn")
def test_signals_before_and_after(tmp_path):
    data = synthetic_epochs.write_epochs(tmp_path / "epochs", nights=1, prefix="SC4")
    run = synthetic_run.write(tmp_path / "run", epochs=20)
    trained_on(run, data)
    text = report([run], tmp_path / "r.html", epochs=data).read_text()
    assert "Power density of channel 0" in text
    assert "Waveforms after preprocessing" in text
    assert "Waveforms before preprocessing" not in text
    names = [p.stem for p in data.glob("*.safetensors")]
    for name in names:
        wave = np.zeros(3000 * 20, np.float32)
        source = Signal("channel 0", 100.0, "uV", "eeg", len(wave), lambda wave=wave: wave)
        recording = Recording(name, name[:-1], 1, {"channel 0": source})
        write_recording(tmp_path / "recordings" / f"{name}.safetensors", recording, {})
    store.Manifest(RECORDINGS_KIND, facts={"recordings": names}).write(tmp_path / "recordings")
    page = report([run], tmp_path / "r.html", epochs=data, recordings=tmp_path / "recordings")
    assert "Waveforms before preprocessing" in page.read_text()
    strange = synthetic_epochs.write_epochs(tmp_path / "other", seed=1, prefix="SC4")
    with pytest.raises(DataError, match="not the epochs"):
        report([run], tmp_path / "r.html", epochs=strange)


def test_spectra_peak_where_the_wave_is():
    time = np.arange(3000) / 100
    waves = [(100.0, (20 * np.sin(2 * np.pi * f * time)).astype(np.float32)) for f in (8, 8)]
    frequency, density = signals.power_density(waves)
    assert frequency[density.argmax()] == pytest.approx(8, abs=0.13)
    power = np.sum(10 ** (density / 10)) * (frequency[1] - frequency[0])
    assert power == pytest.approx(20**2 / 2, rel=0.02)  # Parseval


def test_an_envelope_is_not_shown_as_a_spectrum():
    rng = np.random.default_rng(0)
    time = np.arange(3000) / 100
    knots = np.abs(rng.normal(2, 1, 31))
    envelope = np.interp(time, np.arange(31), knots).astype(np.float32)
    smooth = np.convolve(envelope, np.hanning(200) / np.hanning(200).sum(), "same")
    eeg = rng.normal(0, 10, 3000).astype(np.float32)
    slow_eye = (200 * np.sin(2 * np.pi * 0.4 * time) + rng.normal(0, 5, 3000)).astype(np.float32)
    flat = np.zeros(3000, np.float32)
    channels = {"EMG": smooth.astype(np.float32), "EEG": eeg, "EOG": slow_eye, "flat": flat}
    pieces = {"W": {name: [(100.0, samples)] for name, samples in channels.items()}}
    found = [name for name in channels if signals._is_envelope(pieces, name)]
    assert found == ["EMG"]


def test_steps_of_a_preset_are_named_in_the_methods():
    step = {"do": "high-pass", "hz": 0.5, "order": 4, "of": []}
    assert methods._step(step) == "high-pass (hz 0.5, order 4)"


# --- in a browser ---------------------------------------------------------------------------------

PROBE = """<script>
const failed = [];
addEventListener("error", e => failed.push(String(e.message || e.target.outerHTML)), true);
addEventListener("load", () => {
  const seen = e => !e.closest("details:not([open])");
  const size = e => { const b = e.getBoundingClientRect(); return [b.width, b.height, b.right]; };
  const shown = [...document.querySelectorAll("svg[role=img]")].filter(seen).map(size);
  document.querySelectorAll("details").forEach(d => { d.open = true; });
  const all = [...document.querySelectorAll("svg[role=img]")].map(size);
  const fetched = performance.getEntriesByType("resource").map(e => e.name);
  const wide = document.documentElement.scrollWidth - document.documentElement.clientWidth;
  const found = {failed, shown, all, fetched, wide};
  document.body.innerHTML = "";
  document.body.append(Object.assign(document.createElement("pre"),
    {id: "probe", textContent: JSON.stringify(found)}));
});
</script>"""


def browse(path, profile, *options):
    """Open a file in headless Chromium that reaches no network; return stdout and stderr."""
    if CHROMIUM is None:
        if os.environ.get("SLEEPTOOLS_REQUIRE_BROWSER") == "1":
            pytest.fail("SLEEPTOOLS_REQUIRE_BROWSER=1 and no Chromium was found")
        pytest.skip("no Chromium was found: the report was not opened in a browser")
    command = [
        CHROMIUM,
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        "--disable-quic",
        "--no-first-run",
        "--disable-background-networking",
        "--disable-component-update",
        "--disable-sync",
        "--host-resolver-rules=MAP * ~NOTFOUND",
        f"--user-data-dir={profile}",
        "--enable-logging=stderr",
        "--v=0",
        *options,
        path.as_uri(),
    ]
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=120)


def console(done):
    return [line for line in done.stderr.splitlines() if "CONSOLE" in line]


def probe(page, folder, *options):
    copy = folder / "probed.html"
    text = re.sub(r"<meta http-equiv[^>]*>", "", page.read_text())  # it would forbid the probe
    copy.write_text(text.replace("<title>", PROBE + "<title>", 1))
    done = browse(copy, folder / "profile", "--dump-dom", *options)
    match = re.search(r'<pre id="probe">(.*?)</pre>', done.stdout, re.S)
    return json.loads(html.unescape(match[1]))


def test_the_console_is_watched(tmp_path):
    """The next test can fail: an error and a failed fetch are seen."""
    bad = tmp_path / "bad.html"
    bad.write_text("<title>x</title><script>nothing.there</script>")
    assert any(
        "nothing is not defined" in line
        for line in console(browse(bad, tmp_path / "p", "--dump-dom"))
    )
    bad.write_text("<head><title>x</title><img src='missing.png'>")
    assert probe(bad, tmp_path)["failed"]


def test_the_report_opens_offline_without_a_word_on_the_console(page, tmp_path):
    done = browse(page, tmp_path / "profile", "--dump-dom")
    assert console(done) == []
    assert "Sleep staging report" in done.stdout


@pytest.mark.parametrize("size", ["1280,900", "500,900"])
def test_every_figure_is_visible_and_nothing_is_fetched(page, tmp_path, size):
    probed = probe(page, tmp_path, f"--window-size={size}")
    assert probed["failed"] == []
    assert probed["fetched"] == []
    # matrices, dots, night, Bland-Altman, reliability, embeddings, modalities, training, shares
    assert len(probed["shown"]) == 11
    assert len(probed["all"]) == 14
    assert all(width > 150 and height > 80 for width, height, _ in probed["all"])
    assert probed["wide"] <= 0  # the page itself does not scroll sideways


ZOOM = """<script>
addEventListener("load", () => {
  const region = document.querySelector(".zooms"), night = region.querySelector("svg.night");
  const time = night.querySelector(".time"), box = time.getBoundingClientRect(), found = {};
  const note = name => { found[name] = [time.getAttribute("viewBox").split(" ").map(Number),
    [...night.querySelectorAll(".hours text")].map(t => t.textContent),
    region.previousElementSibling.querySelector("output").textContent]; };
  const key = name => region.dispatchEvent(
    new KeyboardEvent("keydown", {key: name, bubbles: true}));
  const wheel = () => region.dispatchEvent(new WheelEvent("wheel", {deltaY: -1,
    clientX: box.left + 1, bubbles: true, cancelable: true}));
  note("whole");
  key("+"); note("in"); key("ArrowRight"); note("right"); key("-"); note("out");
  wheel(); note("unfocused"); region.focus(); wheel(); note("wheel");
  const point = (name, x) => region.dispatchEvent(new PointerEvent(name,
    {clientX: box.left + x, bubbles: true, button: 0}));
  key("+"); note("before"); point("pointerdown", 300); point("pointermove", 200);
  point("pointerup", 200); point("pointermove", 0); note("dragged");
  document.querySelector(".zoombar button:last-of-type").click(); note("reset");
  found.colour = getComputedStyle(document.body).backgroundColor;
  document.body.innerHTML = "";
  document.body.append(Object.assign(document.createElement("pre"),
    {id: "probe", textContent: JSON.stringify(found)}));
});
</script>"""


def test_hypnograms_zoom(page, tmp_path, monkeypatch):
    monkeypatch.setattr(sys.modules[__name__], "PROBE", ZOOM)
    probed = probe(page, tmp_path, "--window-size=1280,900")
    (start, _, width, height), hours, text = probed["whole"]
    assert (start, width, text) == (0, 166, "whole recording")  # 160 epochs and a gap of six
    assert probed["in"][0] == [41.5, 0, 83, height]
    assert probed["in"][1] != hours
    assert probed["in"][2] == "0:50 to 1:32"  # the first epoch starts after half an hour
    assert probed["right"][0] == [62.25, 0, 83, height]
    assert probed["out"][0] == probed["unfocused"][0] == [0, 0, 166, height]
    assert probed["wheel"][0][2] == pytest.approx(166 * 0.8)
    assert probed["wheel"][0][0] < 1  # about the pointer, which is at the left edge
    assert probed["dragged"][0][0] > probed["before"][0][0]
    assert probed["dragged"][0][2] == probed["before"][0][2]
    assert probed["reset"] == probed["whole"]


def test_nothing_but_the_own_script_runs(page, tmp_path):
    bad = tmp_path / "bad.html"
    bad.write_text(page.read_text().replace("</main>", "<script>boom()</script></main>"))
    (refused,) = console(browse(bad, tmp_path / "profile", "--dump-dom"))
    assert "Content Security Policy" in refused


AUDIT = """<script>__AXE__</script><script>
addEventListener("load", async () => {
  document.querySelectorAll("details").forEach(d => { d.open = true; });
  const {violations, passes} = await axe.run(document);
  document.body.append(Object.assign(document.createElement("pre"), {id: "probe",
    textContent: JSON.stringify({passes: passes.length, found: violations.map(
      v => [v.impact, v.id, v.nodes.length, v.nodes[0].html.slice(0, 200)])})}));
});
</script>"""


@pytest.mark.slow
@pytest.mark.parametrize("mode", [[], ["--blink-settings=preferredColorScheme=0"]])
@pytest.mark.parametrize("mice", [False, True], ids=["people", "mice"])
def test_axe_finds_nothing(page, tmp_path, monkeypatch, skip_loudly, mode, mice):
    if AXE is None:
        skip_loudly("SLEEPTOOLS_AXE names no axe.min.js: the report was not audited")
    monkeypatch.setattr(
        sys.modules[__name__], "PROBE", AUDIT.replace("__AXE__", Path(AXE).read_text())
    )
    if mice:
        options = {"names": MOUSE_STAGES, "epoch_seconds": 10.0, "epochs": 3000, "prefix": "M"}
        run = synthetic_run.write(tmp_path / "m", preset="kjaerby", model="mouse-cnn", **options)
        page = report([run], tmp_path / "mice.html")
    audit = probe(page, tmp_path, "--virtual-time-budget=60000", *mode)
    assert audit["passes"] > 20
    assert audit["found"] == []
