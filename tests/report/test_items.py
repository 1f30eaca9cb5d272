"""Tables and figures of the papers: every item has its rows and columns, and known numbers."""

import csv
import dataclasses
import functools
import io
import math
import re
import shutil
from statistics import fmean, stdev

import numpy as np
import pytest

import synthetic_epochs
import synthetic_run
from sleeptools import store
from sleeptools.commands.published import ItemOptions, gather_request, write_item
from sleeptools.errors import DataError, OutputError, UsageError
from sleeptools.evaluation import published
from sleeptools.evaluation.confusion import LevelConfusions
from sleeptools.recording.stages import HUMAN_STAGES, MOUSE_STAGES
from sleeptools.report import markup
from sleeptools.report.items.arrangements import ARRANGEMENTS
from sleeptools.report.items.content import ItemContent
from sleeptools.report.items.item_page import item_html
from sleeptools.report.items.item_table import ItemColumn, ItemRow, ItemTable
from sleeptools.report.items.item_text import csv_rows, item_latex, item_markdown, item_title
from sleeptools.report.items.latex import latex_table, latex_text
from sleeptools.report.items.printed_numbers import printed_number
from sleeptools.report.items.run_source import RunSource, standard_error
from sleeptools.report.plots.canvas import Plot
from typesetting import check_structure, need_latex, typeset

NO_NUMBERS = "printed, not at hand"
MOUSE = {"names": MOUSE_STAGES, "prefix": "m", "epochs": 300}
SLUMBERNET = {"model": "slumbernet", "preset": "slumbernet", "epoch_seconds": 4.0, **MOUSE}
KJAERBY = {"preset": "kjaerby", "epoch_seconds": 1.0, "subjects": 4, "folds": 4, **MOUSE}


@pytest.fixture
def drawn():
    """The figures of matplotlib are looked at."""


@pytest.fixture(autouse=True)
def _undrawn(request, monkeypatch):
    """Draw them only where they are looked at: they take most of the time."""
    if "drawn" not in request.fixturenames:
        monkeypatch.setattr(
            Plot, "svg", lambda plot, _: markup.svg_element([], 900, 300, plot.description)
        )
        monkeypatch.setattr(Plot, "pdf", lambda _: b"%PDF-")
        monkeypatch.setattr(Plot, "png", lambda _: b"\x89PNG")


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """Synthetic runs and epochs for every item."""
    home = tmp_path_factory.mktemp("items")
    synthetic_run.explain(synthetic_run.write(home / "mmasleepnet"))
    for model in ("attnsleep", "sleepprintnet", "masleepnet", "ulw-sleepnet"):
        synthetic_run.write(home / model, model=model)
    synthetic_run.write(home / "isruc", preset="isruc", subjects=5)
    variants = {
        "mbfe": ("mmasleepnet", {"fusion": "mbfe"}),
        "eeg": ("mmasleepnet", {"modalities": "eeg"}),
        "no-se": ("masleepnet", {"excitation": False}),
    }
    for name, (model, settings) in variants.items():
        configure(synthetic_run.write(home / name), model={"name": model, **settings})
    for model in ("mouse-cnn", "mouse-cnn-attention", "mouse-transformer"):
        synthetic_run.write(home / model, model=model, **KJAERBY)
    synthetic_run.write(home / "kjaerby-slumbernet", **{**KJAERBY, "model": "slumbernet"})
    synthetic_run.write(home / "slumbernet", subjects=10, folds=5, **SLUMBERNET)
    external = {**SLUMBERNET, "prefix": "x", "epochs": 9000}
    run = synthetic_run.write(
        home / "unseen", subjects=3, folds=1, protocols=("external",), **external
    )
    facts = store.read_json(run / "manifest.json")
    store.write_json(run / "manifest.json", {**facts, "wall_seconds": 60.0})
    synthetic_run.write(home / "people-slumbernet", model="slumbernet")
    human = ["EEG Fpz-Cz", "EEG Pz-Oz", "EOG horizontal", "EMG submental"]
    synthetic_epochs.write_epochs(home / "epochs", subjects=2, montage=human)
    synthetic_epochs.write_epochs(
        home / "mouse-epochs",
        subjects=2,
        montage=["EEG", "EMG"],
        channels=2,
        names=MOUSE_STAGES,
        sample_rate=64.0,
        epoch_seconds=4.0,
    )
    (home / "phases.toml").write_text(PHASES)
    return home


PHASES = """
[start]
x00 = 0.0
x01 = 1.0
x02 = 22.0
[[phase]]
name = "baseline"
from = 0
to = 6
[[phase]]
name = "deprivation"
from = 6
to = 48
"""


def configure(run, **changed):
    store.write_toml(run / "config.toml", store.read_toml(run / "config.toml") | changed)


def build(item, home, *names, **options):
    sources = [str(home / name) if "=" not in name else named(name, home) for name in names]
    arrangement = ARRANGEMENTS[item]
    request = gather_request(item, arrangement, sources, ItemOptions(**options))
    arrangement.check(request)
    return arrangement.build(request)


def named(text, home):
    row, _, name = text.partition("=")
    return f"{row}={home / name}"


def labels(table, origin):
    """Labels of the lines of an origin, in their order."""
    return [row.labels for row in table.rows if row.origin.startswith(origin)]


# --- every item -----------------------------------------------------------------------------------

DATASETS = ["Sleep-EDF-20", "Sleep-EDF-78", "ISRUC-Sleep-1", "ISRUC-Sleep-3"]
BASELINES = ["AttnSleepNet", "SleepPrintNet", "SalientSleepNet", "MMASleepNet"]
OVERALL = ["ACC", "MF1", "kappa", "MGm"]
BY_STAGE = [
    f"{s} {m}" for s in MOUSE_STAGES for m in ("accuracy", "precision", "recall", "F1", "kappa")
]
MARGINS = [
    *(f"True {s}" for s in (*MOUSE_STAGES, "SUM")),
    *(f"Share of all, % {s}" for s in MOUSE_STAGES),
    "Of the row right, %",
    "Of the row wrong, %",
]
STAGE_SCORES = ["Precision", "1 - Precision", "Recall", "1 - Recall", "F1"]
CONFUSION = ["Predicted Wake", "Predicted NREM", "Predicted REM"]
LOGGED = ["training accuracy, %", "validation accuracy, %", "test accuracy, %", "training loss"]
LAYERS = ["Conv1D-1", "MaxPooling-1", "Conv1D-2", "Conv1D-3", "Conv1D-4", "MaxPooling-2", "Width d"]
LISTED = ["Value", "Unit", "Note"]
MICE = [(str(i),) for i in range(1, 9)]
FOLDS = [(str(i),) for i in range(1, 6)]
ENDS = [("Mean",), ("SEM",)]

PRINTED = {  # item: labels of the printed lines, and the columns, in the order of the print
    "s0-table-1": (
        [(d,) for d in DATASETS],
        ["Subjects", "Epochs", *(f"Share, % {s}" for s in HUMAN_STAGES), "Rules", "k"],
    ),
    "s0-table-2": (
        [(m, s) for m in ("EEG", "EOG", "EMG") for s in ("small", "large")],
        LAYERS,
    ),
    "s0-table-3": (
        [(d, m) for d in DATASETS for m in BASELINES],
        [*(f"F1 {s}" for s in HUMAN_STAGES), *(f"Overall {m}" for m in OVERALL)],
    ),
    "s0-fig-4a": ([("MBFE",), ("MBFE + encoder",), ("MMASleepNet3",)], OVERALL),
    "s0-fig-4b": (
        [
            ("MMASleepNet1 (EEG)",),
            ("MMASleepNet2 (EEG, EOG)",),
            ("MMASleepNet3 (EEG, EOG, EMG)",),
        ],
        OVERALL,
    ),
    "s0-training-hours": (
        [(m,) for m in BASELINES],
        ["Hours of 100 passes one fold", "Hours of 100 passes all folds", "Device", "Parameters"],
    ),
    "s1-accuracies": ([("Sleep-EDF-78",), ("Sleep-EDF-20",)], ["Accuracy"]),
    "s1-figures": ([("No-MSConv",), ("EEG-Only",), ("No-SE",), ("MASleepNet",)], OVERALL),
    "s3-headline": (
        [("ULW-SleepNet",)],
        [
            "Accuracy, % Sleep-EDF-20",
            "Accuracy, % Sleep-EDF-78",
            "Cost K parameters",
            "Cost M operations",
            "Cost fewer parameters, %",
        ],
    ),
    "s2-fig-5": ([(s,) for s in ("Awake", "NREM", "REM")], STAGE_SCORES),
    "s2-fig-7": ([(s,) for s in ("Awake", "NREM", "REM")], STAGE_SCORES),
    "s2-transformer": ([(s,) for s in ("Awake", "NREM", "REM")], STAGE_SCORES),
    "s2-fig-6": (
        [(s,) for s in (*MOUSE_STAGES, "SUM", "right, %", "wrong, %")],
        MARGINS,
    ),
    "s2-fig-8": (
        [(s,) for s in (*MOUSE_STAGES, "SUM", "right, %", "wrong, %")],
        MARGINS,
    ),
    "s2-table-i": ([*MICE, ("Avg",)], ["CNN", "CNN + Attention", "Transformer"]),
    "s4-table-1": ([*FOLDS, *ENDS], BY_STAGE),
    "s4-table-3": ([*FOLDS[:3], *ENDS], BY_STAGE),
    "s4-table-2": (
        [
            ("few", "SlumberNet", "9"),
            ("few", "MC-SleepNet", "14"),
            ("few", "Random Forest", "14"),
            ("few", "FASTER", "14"),
            ("few", "MASC", "14"),
            ("few", "LSTM", "14"),
            ("many", "MC-SleepNet", "4,200"),
        ],
        [
            *(f"{s} {m}" for s in MOUSE_STAGES for m in ("recall", "precision")),
            *(f"Overall {m}" for m in ("recall", "precision", "accuracy", "F1", "kappa")),
        ],
    ),
    "s4-fig-5b": ([("1 to 3",), ("Mean",), ("SD",)], ["bins x stages", "r", "p"]),
    "s4-fig-1a": (
        [("baseline",), ("deprivation",), ("recovery",)],
        ["from, ZT h", "to, ZT h"],
    ),
    "s4-scoring-time": (
        [("model",), ("human",)],
        ["Hours of a 72-h recording", "Times faster than the printed human"],
    ),
    **dict.fromkeys(("s0-text", "s2-text", "s4-text", "scorers", "s4-fig-1b"), (None, LISTED)),
}
OURS = {  # item: what feeds it, its columns (None: as printed), its panels or None
    "s0-fig-1": (["epochs"], None, "EEG, EOG, EMG"),
    "s0-table-1": (["mmasleepnet", "isruc"], None, None),
    "s0-table-2": (["mmasleepnet"], None, None),
    "s0-table-3": (["mmasleepnet", "attnsleep", "Sleep-EDF-78=sleepprintnet"], None, None),
    "s0-fig-3": (
        ["mmasleepnet", "isruc"],
        [f"Predicted {s}" for s in HUMAN_STAGES],
        "Sleep-EDF-78: no run",
    ),
    "s0-fig-4a": (["mbfe", "mmasleepnet"], None, "MBFE: ACC"),
    "s0-fig-4b": (["eeg", "mmasleepnet"], None, "MMASleepNet1 (EEG): ACC"),
    "s0-fig-5": (["mmasleepnet"], None, "Before and After"),
    "s0-training-hours": (["mmasleepnet", "attnsleep"], None, "printed: AttnSleepNet 0.4"),
    "s1-accuracies": (["masleepnet"], None, None),
    "s1-figures": (["masleepnet", "no-se"], None, "No-SE: ACC"),
    "s3-headline": (["ulw-sleepnet"], None, None),
    "s3-tables": (
        ["ulw-sleepnet", "mmasleepnet"],
        [
            "Accuracy, % Sleep-EDF-20",
            "Accuracy, % Sleep-EDF-78",
            "Parameters",
            "M multiply-accumulates",
            "ULW-SleepNet has fewer parameters by, %",
        ],
        None,
    ),
    "s2-fig-1": (["kjaerby-slumbernet"], LOGGED, "Accuracy on the training set"),
    "s2-fig-2": (["kjaerby-slumbernet"], CONFUSION, "kjaerby-slumbernet: right"),
    "s2-fig-3": (["mouse-epochs"], None, "EMG, EEG"),
    "s2-fig-4": (["mouse-cnn"], list(MOUSE_STAGES), "b: test set"),
    "s2-fig-5": (["mouse-cnn"], None, None),
    "s2-fig-6": (["mouse-cnn"], None, "Printed: 95,470 of 111,254 right"),
    "s2-fig-7": (["mouse-cnn-attention"], None, None),
    "s2-fig-8": (["mouse-cnn-attention"], None, "Printed: 88,898 of 111,264 right"),
    "s2-table-i": (["mouse-cnn", "mouse-transformer"], None, None),
    "s2-transformer": (["mouse-transformer"], None, "Ours: mouse-transformer"),
    "s4-fig-2a": (["mouse-epochs"], None, "before and after preparation"),
    "s4-fig-2b": (["mouse-epochs"], None, "EEG spectra in Wake, NREM, REM"),
    "s4-fig-4a": (["slumbernet"], LOGGED, "Training loss, fold 5"),
    "s4-fig-4b": (["slumbernet"], CONFUSION, "Fold 5: right of the true"),
    "s4-fig-4c": (
        ["slumbernet"],
        ["precision", "recall", "F1", "accuracy", "kappa", "explained variance", "log loss"],
        "Fold 5: precision",
    ),
    "s4-table-1": (["slumbernet"], None, None),
    "s4-table-2": (["slumbernet"], None, None),
    "s4-fig-5a": (["unseen"], ["true, min", "predicted, min"], "x02: Wake"),
    "s4-fig-5b": (["unseen"], None, "x02: r = "),
    "s4-table-3": (["unseen"], None, None),
    "s4-fig-6": (["people-slumbernet"], STAGE_SCORES, None),
    "s4-scoring-time": (["unseen"], None, None),
}
REASONS = {"s4-fig-1a", "s4-fig-1b", "s0-text", "s2-text", "s4-text", "scorers"}
"""Items that no run feeds, with a reason."""
UNJUDGED = {"s0-table-1", "s0-table-2", "s0-training-hours", "s4-scoring-time"}
"""Items whose numbers are no scores."""
NOT_SYNTHETIC = {"s4-table-s1"}
"""Items that need what a synthetic run does not have."""


def test_every_item_has_an_arrangement_and_a_test():
    items = published.published_items()["item"].to_list()
    assert sorted(ARRANGEMENTS) == sorted(items)
    assert set(OURS) | REASONS | NOT_SYNTHETIC == set(items)
    assert {name for name, a in ARRANGEMENTS.items() if a.reason} == REASONS
    for row in published.published_items().to_dicts():
        if row["numbers"].startswith("all printed"):
            assert row["item"] in PRINTED, row["item"]


@pytest.mark.parametrize("item", sorted(ARRANGEMENTS))
def test_an_item_without_a_run_has_the_rows_and_columns_of_the_print(item, tmp_path):
    content = build(item, tmp_path)
    assert content.tables
    table = content.tables[0]
    if item not in PRINTED:
        printed = [row.remark for row in table.rows if row.origin == "printed"]
        assert printed
        assert set(printed) == {NO_NUMBERS}
        return
    rows, columns = PRINTED[item]
    assert [column.title for column in table.columns] == columns
    assert rows is None or labels(table, "printed") == rows
    assert {row.origin.split(",")[0].split()[0] for row in table.rows} <= {
        "printed",
        "recomputed",
        *(["ours"] if item in {"s0-table-2", "s3-headline"} else []),  # from the model alone
    }


def printed_values(table):
    return [row.values for row in table.rows if row.origin == "printed" and row.values]


@pytest.mark.parametrize("item", sorted(OURS))
def test_an_item_with_runs_has_ours_beside_the_print(item, home):
    names, columns, figure = OURS[item]
    content = build(item, home, *names)
    if figure is None or content.tables:
        table = content.tables[0]
        expected = columns or PRINTED[item][1]
        assert [column.title for column in table.columns] == expected
        assert any(row.values for row in table.rows if row.origin.startswith("ours"))
        alone = build(item, home).tables[0]
        assert printed_values(table) == printed_values(alone)
    assert bool(content.figures) == (figure is not None)
    if figure:
        descriptions = " ".join(f.drawing.description for f in content.figures)
        assert figure in descriptions
    judged = [*content.verdicts, *(r.comparable for t in content.tables for r in t.rows)]
    assert any(judged) or item not in set(PRINTED) - UNJUDGED


# --- numbers that follow from print ---------------------------------------------------------------


def with_matrices(source, matrices):
    """Give a run the confusion matrices of its folds and subjects: (fold, subject) to matrix."""
    keys = [(source.protocol, source.seed, *key) for key in matrices]
    counts = np.stack(list(matrices.values())).astype(np.int64)
    folds = sorted({key[2] for key in keys})
    of_folds = [counts[[k[2] == f for k in keys]].sum(0) for f in folds]
    confusions = {
        "pooled": LevelConfusions("pooled", [keys[0][:2]], counts.sum(0)[None]),
        "fold": LevelConfusions("fold", [(*keys[0][:2], f) for f in folds], np.stack(of_folds)),
        "subject": LevelConfusions("subject", keys, counts),
    }
    evaluation = dataclasses.replace(source.evaluation, confusions=confusions)
    return RunSource(evaluation, source.protocol, source.row)


def fed(item, home, name, matrices):
    arrangement = ARRANGEMENTS[item]
    request = gather_request(item, arrangement, [str(home / name)], ItemOptions())
    runs = [with_matrices(source, matrices) for source in request.runs]
    return arrangement.build(dataclasses.replace(request, runs=runs))


def lines(table, origin):
    return {row.labels: row.values for row in table.rows if row.origin.startswith(origin)}


def printed_matrix(result):
    return np.array(
        [[printed_number(result, f"predicted {p}", t) for p in MOUSE_STAGES] for t in MOUSE_STAGES]
    ).astype(int)


@pytest.mark.parametrize(
    ("model", "scores", "matrix"),
    [("mouse-cnn", "s2-fig-5", "s2-fig-6"), ("mouse-cnn-attention", "s2-fig-7", "s2-fig-8")],
)
def test_the_mouse_reports_matrices_give_its_figures(home, model, scores, matrix):
    counts = {(0, "m00"): printed_matrix(f"{model}-pooled")}
    (table,) = fed(scores, home, model, counts).tables
    ours, printed = lines(table, "ours"), lines(table, "printed")
    for label, values in printed.items():
        assert [round(v, 4) for v in ours[label]] == list(values)
    (table,) = fed(matrix, home, model, counts).tables
    ours, printed = lines(table, "ours"), lines(table, "printed")
    assert ours == printed
    facts = published.published_facts().filter(item=matrix)["value"].to_list()
    shown = {round(v, 2) for row in printed.values() for v in row if isinstance(v, float | int)}
    assert {round(float(f), 2) for f in facts} <= shown | {int(np.trace(counts[0, "m00"]))}


def slumbernet_matrix(result, size=4_000_000, **about):
    """Matrix of three stages with the printed recall, precision and accuracy of each."""
    recall, precision, accuracy = (
        np.array([printed_number(result, m, s, **about) for s in MOUSE_STAGES])
        for m in ("recall", "precision", "stage_accuracy")
    )
    true = (1 - accuracy) / (1 + recall / precision - 2 * recall)
    true = size * true / true.sum()
    hit = true * recall
    missed, false = true - hit, hit / precision - hit
    false *= missed.sum() / false.sum()
    guess = np.ones((3, 3)) - np.eye(3)
    for _ in range(
        500
    ):  # off the diagonal, rows sum to what is missed and columns to what is false
        guess *= (missed / guess.sum(1))[:, None]
        guess *= false / guess.sum(0)
    return np.rint(guess + np.diag(hit)).astype(int)


@pytest.mark.parametrize(
    ("item", "run", "result", "count", "wrong_sem"),
    [
        ("s4-table-1", "slumbernet", "slumbernet-mice", 5, True),
        ("s4-table-3", "unseen", "slumbernet-unseen", 3, False),
    ],
)
def test_slumbernets_folds_give_its_tables(home, item, run, result, count, wrong_sem):
    numbers = range(1, count + 1)
    about = [{"fold": i} if count == 5 else {"subject": f"mouse {i}"} for i in numbers]
    fold = (lambda i: i) if count == 5 else (lambda _: 0)
    matrices = {(fold(i), f"m{i:02d}"): slumbernet_matrix(result, **a) for i, a in enumerate(about)}
    (table,) = fed(item, home, run, matrices).tables
    ours, printed, again = (lines(table, o) for o in ("ours", "printed", "recomputed"))
    ours, printed = ({k[0].split(" ")[0]: v for k, v in t.items()} for t in (ours, printed))
    units = np.tile([0.01, 0.01, 0.01, 0.01, 1e-4], 3)
    for i in map(str, [*numbers, "Mean"]):
        difference = np.abs(np.array(ours[i]) - printed[i]) / units
        assert difference.max() < 3, difference  # within what the print's rounding leaves open
    columns = np.array([ours[str(i)] for i in numbers])
    assert ours["Mean"] == pytest.approx(columns.mean(0))
    assert ours["SEM"] == pytest.approx(columns.std(0, ddof=1) / math.sqrt(count))
    assert (("SEM",) in again) == wrong_sem
    assert ("Mean",) not in again
    if wrong_sem:  # the print counted its mean row as a sixth fold
        short = np.array(again["SEM",]) * math.sqrt(2 / 3)
        assert np.abs(short - printed["SEM"]).max() < 0.011


def test_standard_error_is_that_of_the_sample():
    assert standard_error([1.0, 2.0, 4.0]) == pytest.approx(stdev([1, 2, 4]) / math.sqrt(3))
    assert math.isnan(standard_error([1.0]))
    assert standard_error([1.0, math.nan, 2.0]) == pytest.approx(stdev([1, 2]) / math.sqrt(2))


@pytest.mark.parametrize(
    "item", ["s2-table-i", "s2-fig-5", "s2-fig-6", "s2-fig-7", "s2-fig-8", "s2-transformer"]
)
def test_mice_of_another_data_set_do_not_stand_beside_the_mouse_reports(home, item, tmp_path):
    model = next(iter(ARRANGEMENTS[item].models & {"mouse-cnn"} or ARRANGEMENTS[item].models))
    other = {**SLUMBERNET, "model": model}
    synthetic_run.write(tmp_path / "other", subjects=8, folds=8, **other)
    with pytest.raises(DataError, match="it is on data of the preset slumbernet"):
        build(item, home, str(tmp_path / "other"))


def test_the_mouse_reports_table_recomputes_its_means(home):
    (table,) = build("s2-table-i", home, "mouse-cnn").tables
    assert lines(table, "printed")["Avg",] == (85.5, 84.65, 76.05)
    again = lines(table, "recomputed")["Avg",]
    assert [round(v, 2) for v in again] == [85.25, 84.65, 76.06]
    ours = lines(table, "ours")
    mice = [v for (label,), v in ours.items() if label != "Avg" and v]
    assert ours["Avg",][0] == pytest.approx(fmean(v[0] for v in mice))
    assert ours["Avg",][1] is None


def test_slumbernets_rivals_have_the_papers_weighting(home):
    (table,) = build("s4-table-2", home, "slumbernet").tables
    source = gather_request(
        "s4-table-2", ARRANGEMENTS["s4-table-2"], [str(home / "slumbernet")], ItemOptions()
    ).runs[0]
    values = lines(table, "ours")["few", "SlumberNet", "9"]
    heads = [column.title for column in table.columns]
    expected = source.score("mean of folds", "slumbernet_recall")
    assert values[heads.index("Overall recall")] == pytest.approx(100 * expected)
    faster = lines(table, "printed")["few", "FASTER", "14"]
    assert faster[heads.index("Wake precision")] is None
    assert faster[heads.index("Overall accuracy")] == 91.1


def test_table_3_stands_pooled_and_in_per_cent(home):
    (table,) = build("s0-table-3", home, "mmasleepnet").tables
    ours = lines(table, "ours")["Sleep-EDF-20", "MMASleepNet"]
    request = gather_request(
        "s0-table-3", ARRANGEMENTS["s0-table-3"], [str(home / "mmasleepnet")], ItemOptions()
    )
    assert request.runs[0].protocol == "best-on-test"  # as in print
    pooled = request.runs[0].evaluation.pooled["best-on-test"]
    assert ours[5:] == pytest.approx(
        [
            100 * pooled.overall_metrics()[m]
            for m in ("accuracy", "macro_f1", "kappa", "g_mean_recalls")
        ]
    )
    assert ours[:5] == pytest.approx(100 * pooled.stage_metrics()["f1"])
    best = {(table.rows[i].labels, j) for i, j in table.bold() if table.rows[i].origin == "printed"}
    assert (("Sleep-EDF-20", "SalientSleepNet"), 4) in best
    assert (("Sleep-EDF-20", "MMASleepNet"), 4) not in best
    missing = [r for r in table.rows if r.remark]
    assert len(missing) == 15
    assert {r.remark for r in missing} == {"no run given"}


def test_scores_are_means_over_the_seeds_and_matrices_of_the_first(tmp_path):
    run = synthetic_run.write(tmp_path / "run", seeds=(3, 5), protocols=("leak-free",))
    arrangement = ARRANGEMENTS["s0-fig-3"]
    (source,) = gather_request("s0-fig-3", arrangement, [str(run)], ItemOptions()).runs
    pooled = source.evaluation.pooled["leak-free"]
    assert pooled.seeds == (3, 5)
    assert source.score("pooled", "kappa") == pytest.approx(pooled.overall_metrics()["kappa"])
    np.testing.assert_array_equal(source.matrices("pooled")[""], pooled.matrices[0])
    np.testing.assert_array_equal(sum(source.matrices("fold").values()), pooled.matrices[0])
    np.testing.assert_array_equal(sum(source.matrices("subject").values()), pooled.matrices[0])


def test_an_incomplete_run_is_taken_on_request(tmp_path):
    run = synthetic_run.write(tmp_path / "run")
    shutil.rmtree(run / "best-on-test" / "seed-0" / "fold-01")
    with pytest.raises(DataError, match="incomplete"):
        write_item("s0-table-3", [str(run)], tmp_path / "out")
    write_item("s0-table-3", [str(run)], tmp_path / "out", ItemOptions(partial=True))
    assert "INCOMPLETE: run" in (tmp_path / "out" / "s0-table-3.html").read_text()


def test_the_headline_of_ulw_is_computed_from_the_model(home):
    (table,) = build("s3-headline", home).tables
    ours = lines(table, "ours")["ULW-SleepNet",]
    printed = lines(table, "printed")["ULW-SleepNet",]
    assert ours[:2] == (None, None)
    assert [round(v, d) for v, d in zip(ours[2:], (1, 2, 1), strict=True)] == [*printed[2:]]


def test_the_layers_are_the_printed_ones(home):
    (table,) = build("s0-table-2", home, "mmasleepnet").tables
    assert lines(table, "ours") == lines(table, "printed")


def test_the_layers_of_slumbernet_are_those_of_the_runs_model(tmp_path):
    run = synthetic_run.write(tmp_path / "run", **SLUMBERNET)
    arrays = {
        "block.0.conv.weight": np.zeros((8, 1, 2, 1), np.float32),
        "block.0.conv.bias": np.zeros(8, np.float32),
        "block.0.norm.weight": np.zeros(8, np.float32),
        "block.0.norm.running_mean": np.zeros(8, np.float32),
        "linear.weight": np.zeros((3, 8), np.float32),
    }
    folder = run / "leak-free" / "seed-0" / "fold-00"
    store.write_arrays(folder / "model.safetensors", arrays, {})
    (table,) = build("s4-table-s1", tmp_path, "run").tables
    assert lines(table, "ours") == {
        ("block.0.conv",): ("8x1x2x1", 24),
        ("block.0.norm",): ("8", 8),
        ("linear",): ("3x8", 24),
        ("all",): ("", 56),
    }


def test_the_data_sets_have_counts_and_shares(home):
    (table,) = build("s0-table-1", home, "mmasleepnet").tables
    ours = lines(table, "ours")["Sleep-EDF-20",]
    assert ours[:2] == (4, 640)
    assert ours[2:7] == (20.0,) * 5
    assert lines(table, "printed")["ISRUC-Sleep-1",][:2] == (100, 87187)


def test_minutes_of_the_days_by_zeitgeber_and_phase(home):
    content = build("s4-fig-5a", home, "unseen", phases=home / "phases.toml")
    bins, phases = content.tables
    run = gather_request(
        "s4-fig-5a", ARRANGEMENTS["s4-fig-5a"], [str(home / "unseen")], ItemOptions()
    )
    tested = run.runs[0].evaluation.tested.filter(subject="x01")
    hour = tested["onset"].to_numpy() / 3600 + 1.0
    stage = tested["stage"].to_numpy()
    wanted = ((hour >= 4) & (hour < 6) & (stage == 1)).sum() * 4 / 60
    assert lines(bins, "ours")["x01", "4", "baseline", "NREM"][0] == pytest.approx(wanted)
    assert ("x02", "24", "deprivation", "Wake") in lines(bins, "ours")
    whole = ((hour < 6) & (stage == 2)).sum() * 4 / 3600
    columns = [c.title for c in phases.columns]
    assert lines(phases, "ours")["x01", "baseline"][columns.index("REM true, h")] == pytest.approx(
        whole
    )
    alone = build("s4-fig-5a", home, "unseen")
    assert any("counted from the start" in note for note in alone.notes)
    assert {row.labels[2] for row in alone.tables[0].rows} == {""}


def test_the_correlation_is_over_the_bins_of_all_stages(home):
    from scipy.stats import pearsonr

    (amounts,) = build("s4-fig-5b", home, "unseen").tables
    (bins,) = build("s4-fig-5a", home, "unseen").tables
    pairs = [v for key, v in lines(bins, "ours").items() if key[0] == "x00"]
    expected = pearsonr(*zip(*pairs, strict=True))
    count, r, p = lines(amounts, "ours")["x00",]
    assert (count, r, p) == (len(pairs), pytest.approx(expected[0]), pytest.approx(expected[1]))


# --- which runs feed which row --------------------------------------------------------------------


@pytest.mark.parametrize(
    ("item", "run", "why"),
    [
        ("s0-table-3", "slumbernet", "its stages are Wake, NREM, REM; the item is of people"),
        ("s4-table-1", "mmasleepnet", "the item is of mice"),
        ("s0-table-3", "masleepnet", "it is of masleepnet; the rows are of attnsleep"),
        ("s4-table-1", "kjaerby-slumbernet", "data of the preset kjaerby"),
        ("s4-table-1", "unseen", "it is a test of unseen subjects"),
        ("s2-fig-6", "mouse-transformer", "it is of mouse-transformer; the item is of mouse-cnn"),
        ("s0-fig-1", "mmasleepnet", "a run holds no signals"),
        ("s0-fig-1", "mouse-epochs", "the item is of people"),
        ("s0-table-3", "epochs", "drawn from runs, not from epochs"),
        ("s0-fig-4a", "eeg", "no row has its settings (fusion full, modalities eeg)"),
        ("s0-fig-5", "isruc", "it has no features"),
        ("s0-text", "mmasleepnet", "it lists printed numbers"),
        ("s4-fig-1b", "slumbernet", "no measured data"),
        ("s4-scoring-time", "slumbernet", "its time is that of a training"),
        ("s4-table-s1", "slumbernet", "holds no model.safetensors"),
        ("s0-table-1", "epochs", "its data is none of Sleep-EDF-20"),
    ],
)
def test_a_run_that_cannot_feed_an_item_is_refused(home, item, run, why):
    with pytest.raises(DataError, match=re.escape(why)) as caught:
        build(item, home, run)
    assert caught.value.code == "ITEM-RUN"
    assert run in str(caught.value)


def test_animals_that_were_trained_on_are_not_unseen(home, tmp_path):
    run = synthetic_run.write(tmp_path / "mixed", subjects=4, folds=2, **SLUMBERNET)
    request = gather_request("s4-table-3", ARRANGEMENTS["s4-table-3"], [str(run)], ItemOptions())
    (source,) = request.runs
    folds = source.evaluation.run.folds.with_columns(
        role=np.full(len(source.evaluation.run.folds), "mixed")
    )
    mixed = dataclasses.replace(source.evaluation.run, folds=folds)
    evaluation = dataclasses.replace(source.evaluation, run=mixed)
    leaky = dataclasses.replace(request, runs=[RunSource(evaluation, source.protocol)])
    with pytest.raises(DataError, match="were trained on"):
        ARRANGEMENTS["s4-table-3"].check(leaky)
    ARRANGEMENTS["s4-table-3"].check(request)


@pytest.mark.parametrize(
    ("item", "runs"),
    [
        ("s0-table-3", ["mmasleepnet", "mmasleepnet"]),
        ("s0-fig-4a", ["mbfe", "mbfe"]),
        ("s4-table-1", ["slumbernet", "slumbernet"]),
        ("s2-table-i", ["mouse-cnn", "mouse-cnn"]),
        ("s0-training-hours", ["attnsleep", "attnsleep"]),
        ("s0-table-1", ["mmasleepnet", "attnsleep"]),
        ("s0-fig-1", ["epochs", "epochs"]),
        ("s3-tables", ["mmasleepnet", "mmasleepnet"]),
    ],
)
def test_two_runs_for_a_row_are_a_usage_error(home, item, runs):
    with pytest.raises(UsageError, match="both feed the row") as caught:
        build(item, home, *runs)
    assert caught.value.code == "ITEM-TWICE"


def test_the_caller_may_say_which_data_set_a_run_is_of(home):
    (table,) = build("s0-table-3", home, "mmasleepnet", "Sleep-EDF-78=mmasleepnet").tables
    assert labels(table, "ours,") == [
        ("Sleep-EDF-20", "MMASleepNet"),
        ("Sleep-EDF-78", "MMASleepNet"),
    ]
    with pytest.raises(UsageError, match="no data set") as caught:
        build("s0-table-3", home, "Sleep-EDF-7=mmasleepnet")
    assert "did you mean 'Sleep-EDF-78'" in caught.value.hint


def test_the_protocol_can_be_chosen(home):
    (table,) = build("s0-table-3", home, "mmasleepnet", protocol="leak-free").tables
    (row,) = [row for row in table.rows if row.origin.startswith("ours,")]
    assert row.origin == "ours, leak-free, SIMULATED"
    assert "pass chosen without the test fold" in row.differences
    with pytest.raises(UsageError, match="no protocol 'nonsense'"):
        build("s0-table-3", home, "mmasleepnet", protocol="nonsense")


def test_an_unknown_item_is_a_usage_error_with_a_hint(tmp_path):
    with pytest.raises(UsageError, match="no item 's0-table-33'") as caught:
        write_item("s0-table-33", [], tmp_path / "out")
    assert caught.value.hint == "did you mean 's0-table-3'?"


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "lacks start"),
        ("[start]\nx00 = 'a'\n[[phase]]\nname='a'\nfrom=0\nto=1", "start.x00 is 'a'"),
        ("[start]\nx00 = 0\n[[phase]]\nname='a'\nfrom=0\nto='1'", "phase 1.to is '1'"),
        ("[start]\nx00 = 0\n[[phase]]\nname='a'\nfrom=2\nto=1", "phase 'a' is from 2 to 1 h"),
        (
            "[start]\nx=0\n[[phase]]\nname='a'\nfrom=0\nto=6\n[[phase]]\nname='b'\nfrom=4\nto=9",
            "phase 'b' is from 4 to 9 h",
        ),
        ("[start]\nx00 = 0\n[[phase]]\nname='a'\nfrom=0\nto=1", "neither x011 nor x01"),
    ],
)
def test_a_wrong_table_of_phases_is_refused(home, tmp_path, text, why):
    (tmp_path / "phases.toml").write_text(text)
    with pytest.raises(DataError, match=re.escape(why)):
        build("s4-fig-5a", home, "unseen", phases=tmp_path / "phases.toml")


# --- what is written ------------------------------------------------------------------------------


def test_the_folder_has_every_format(home, tmp_path, drawn):
    out = tmp_path / "out"
    written = write_item("s2-fig-6", [str(home / "mouse-cnn")], out)
    assert {p.name for p in written} == {
        f"s2-fig-6.{kind}" for kind in ("html", "md", "tex", "csv", "svg", "pdf", "png")
    }
    assert set(store.read_json(out / "manifest.json")["files"]) == {p.name for p in written}
    assert (out / "s2-fig-6.png").read_bytes().startswith(b"\x89PNG")
    assert (out / "s2-fig-6.pdf").read_bytes().startswith(b"%PDF")
    assert "var(--" not in (out / "s2-fig-6.svg").read_text()
    page = (out / "s2-fig-6.html").read_text()
    assert "SIMULATED DATA" in page
    assert "not directly comparable" in page
    assert "95,470" in page
    assert "best-on-test" not in page.replace("best-on-test (optimistic)", "")
    for line in ("![Matrix with margins](<s2-fig-6.svg>)", "| Wake | printed | 32,895 |"):
        assert line in (out / "s2-fig-6.md").read_text()
    tex = (out / "s2-fig-6.tex").read_text()
    assert r"\includegraphics[width=\linewidth]{s2-fig-6.pdf}" in tex
    assert r"\multicolumn{4}{c}{True}" in tex
    write_item("s2-fig-6", [], out)  # ours is written again
    assert "SIMULATED DATA" not in (out / "s2-fig-6.html").read_text()


def test_cells_of_csv_are_numbers(home, tmp_path):
    write_item("s4-table-1", [str(home / "slumbernet")], tmp_path / "out")
    text = (tmp_path / "out" / "s4-table-1.csv").read_text()
    rows = list(csv.DictReader(io.StringIO(text)))
    assert {row["result"].split(",")[0] for row in rows} == {
        "ours",
        "printed",
        "recomputed from the printed numbers",
    }
    for row in rows:
        for column in BY_STAGE:
            float(row[column])
        assert row["comparable"] == ("no" if row["run"] else "")


@pytest.mark.parametrize("suffix", ["html", "md", "tex"])
def test_a_single_file_is_written_and_known_again(tmp_path, suffix):
    out = tmp_path / f"table.{suffix}"
    assert write_item("s4-table-2", [], out) == [out]
    assert "Random Forest" in out.read_text()
    write_item("s4-table-2", [], out)
    with pytest.raises(OutputError, match=r"shows item s4-table-2; this would be item s4-table-1"):
        write_item("s4-table-1", [], out)
    out.write_text("mine")
    with pytest.raises(OutputError):
        write_item("s4-table-2", [], out)


def test_other_files_are_not_replaced(tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "notes.txt").write_text("mine")
    with pytest.raises(OutputError):
        write_item("s4-table-2", [], tmp_path / "out")
    with pytest.raises(UsageError, match=r"\.html, \.md, \.tex"):
        write_item("s4-table-2", [], tmp_path / "table.docx")


HOSTILE = "</td><script>alert(1)</script> a|b `c` $x$ %\n\\input{/etc/passwd} & _ ^ ~ # {[*]} é"


@pytest.fixture
def hostile():
    rows = (
        ItemRow((HOSTILE,), f"ours, {HOSTILE}", (1.5, HOSTILE), HOSTILE, "", "no", HOSTILE),
        ItemRow(("=1+1",), "printed", (2.5, "@SUM(A1)")),
        ItemRow(("[x]",), "printed", remark=HOSTILE),
    )
    columns = (ItemColumn(HOSTILE, HOSTILE), ItemColumn("-2+3", "", ".1f"))
    table = ItemTable("", HOSTILE, (HOSTILE,), columns, rows)
    return ItemContent([table], [], [HOSTILE], [HOSTILE])


@pytest.fixture
def item():
    return published.published_items().to_dicts()[0]


def test_hostile_labels_are_escaped_in_html(item, hostile):
    page = item_html(item, hostile, [(HOSTILE, HOSTILE)])
    assert "<script>alert" not in page
    assert page.count("<script>") == 1
    assert "&lt;script&gt;alert(1)" in page


def test_hostile_labels_are_escaped_in_latex(item, hostile):
    text = item_latex(item, hostile, [(HOSTILE, HOSTILE)], {})
    assert r"\input" not in text
    assert not re.search(r"(?<!\\)[$#~^_]", text.replace(r"\textasciicircum", ""))
    for line in text.splitlines():
        if not line.startswith("%"):
            assert not re.search(r"(?<!\\)%", line)
            assert not line.startswith("[")
    assert latex_text(r"\x{y}[z]") == r"\textbackslash{}x\{y\}{[}z]"
    begins, ends = (len(re.findall(rf"(?<!\\)\{c}", text)) for c in "{}")
    assert begins == ends


def test_hostile_labels_are_escaped_in_csv_and_markdown(item, hostile):
    text = store.csv_text(csv_rows(hostile.tables[0]))
    rows = list(csv.reader(io.StringIO(text)))
    assert {len(row) for row in rows} == {len(rows[0])}
    assert rows[2][0] == "'=1+1"
    assert rows[2][4] == "'@SUM(A1)"
    assert rows[2][3] == "2.5"
    lines = item_markdown(item, hostile, [(HOSTILE, HOSTILE)], {}).splitlines()
    table = [line for line in lines if line.startswith("|")]
    assert {len(re.findall(r"(?<!\\)\|", line)) for line in table} == {5}
    assert not any("<script>" in line.replace(r"\<", "") for line in lines)


def test_latex_has_the_headings_over_the_columns():
    rows = (ItemRow(("a", "b"), "ours", (1.0, 2.0, 3)), ItemRow(("a", "c"), "printed", remark="-"))
    columns = (ItemColumn("x", "G"), ItemColumn("y", "G"), ItemColumn("z"))
    lines = latex_table(ItemTable("", "C", ("P", "Q"), columns, rows, best=True), "t").splitlines()
    assert lines[4].startswith(r"\resizebox{\ifdim\width>\linewidth")
    assert lines[4].endswith(r"{!}{\begin{tabular}{lllrrr}")
    assert lines[5:] == [
        r"\toprule",
        r" &  &  & \multicolumn{2}{c}{G} &  \\",
        r"\cmidrule(lr){4-5}",
        r"P & Q & Result & x & y & z \\",
        r"\midrule",
        r"a & b & ours & 1.00 & 2.00 & 3 \\",
        r" & c & printed & \multicolumn{3}{l}{-} \\",
        r"\bottomrule",
        r"\end{tabular}}",
        r"\end{table}",
    ]


@pytest.mark.parametrize(
    ("item", "title"),
    [
        ("s0-table-3", "Table 3 of MMASleepNet's paper"),
        ("s2-fig-6", "Fig. 6 of the mouse report"),
        ("s3-headline", "ULW-SleepNet's paper: abstract, headline"),
        ("scorers", "Kappa of two human scorers"),
    ],
)
def test_titles(item, title):
    (row,) = published.published_items().filter(item=item).to_dicts()
    assert item_title(row) == title


def test_labels_span_their_lines():
    rows = tuple(
        ItemRow(labels, "printed", (1,))
        for labels in (("a", "b"), ("a", "b"), ("a", "c"), ("d", "c"))
    )
    table = ItemTable("", "", ("P", "Q"), (ItemColumn("x"),), rows)
    assert [table.labels_of(i) for i in range(4)] == [("a", "b"), ("", ""), ("", "c"), ("d", "c")]
    assert (table.span(0, 0), table.span(0, 1), table.span(2, 1), table.span(3, 0)) == (3, 2, 1, 1)


def test_every_figure_draws(home, drawn):
    """Those that one run of each kind gives; the pictures were looked at."""
    for item in ("s2-fig-4", "s4-fig-4b", "s4-fig-5b", "s4-fig-1a"):
        for figure in build(item, home, *OURS.get(item, ([],))[0]).figures:
            svg = figure.drawing.svg(figure.name)
            assert r"\n" not in svg
            assert svg.startswith("<svg")


# --- typeset --------------------------------------------------------------------------------------

RARE = (
    "\u03ba \u2265 \xe9 e\u0301 \u2212 \u6a21 \ufb01 \u0141 \xbf \xbd \xf7 \xd7 \xdf \u201ca\u201d"
)
RARE += " \u2026 'a' \"b\""
"""Characters that a name may have, and pdflatex may not."""


@functools.cache
def latex_of(item, home, *names):
    (row,) = published.published_items().filter(item=item).to_dicts()
    return item_latex(row, build(item, home, *names), [(HOSTILE, HOSTILE)], {})


@pytest.mark.parametrize("item", ARRANGEMENTS)
def test_latex_has_its_structure(item, home):
    text = latex_of(item, home, *OURS.get(item, ([],))[0])
    check_structure(text)
    assert not re.search(r"[^\x00-\u00ff\u2013-\u2026]", text)


def test_latex_of_every_item_is_typeset_within_the_text(home, tmp_path):
    need_latex()
    texts = [latex_of(item, home, *OURS.get(item, ([],))[0]) for item in ARRANGEMENTS]
    log = typeset(texts, tmp_path)
    wide = re.findall(r"Overfull \\hbox \(([\d.]+)pt too wide\) in paragraph", log)
    assert [width for width in wide if float(width) > 1] == []


def test_latex_of_strange_names_is_typeset(hostile, item, tmp_path):
    need_latex()
    rare = ItemTable("", RARE, (RARE,), (ItemColumn(RARE),), (ItemRow((RARE,), RARE, (RARE,)),))
    typeset([item_latex(item, hostile, [(HOSTILE, HOSTILE)], {}), latex_table(rare, "a")], tmp_path)


def test_latex_with_a_figure_is_typeset(tmp_path, drawn):
    need_latex()
    write_item("s4-fig-1a", [], tmp_path)
    log = typeset([(tmp_path / "s4-fig-1a.tex").read_text()], tmp_path)
    assert "s4-fig-1a-printed.pdf" in log


def test_a_character_that_latex_does_not_know_is_a_number():
    assert latex_text("\u03ba \u6a21") == "{[}U+03BA] {[}U+6A21]"
    assert latex_text("e\u0301 2 \u2265 1 \u2212 0 'x'") == r"é 2 $\geq$ 1 $-$ 0 'x'"
