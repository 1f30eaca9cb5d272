"""Printed results: the shipped figures are the papers', and comparison says what differs."""

import dataclasses
import json
import os
import re
from pathlib import Path
from statistics import fmean, stdev

import numpy as np
import polars as pl
import pytest

import synthetic_run
from sleeptools import registry
from sleeptools.commands.report import ReportOptions, write_report
from sleeptools.evaluation import comparison, published
from sleeptools.evaluation.evaluation import compute_evaluation
from sleeptools.evaluation.metrics import stage_metrics
from sleeptools.evaluation.published import study_design
from sleeptools.evaluation.published.study_design import compare_designs
from sleeptools.recording.stages import MOUSE_STAGES
from sleeptools.runs.folds import make_folds, published_folds
from sleeptools.runs.run import open_run

STAGES = ("W", "N1", "N2", "N3", "REM")
TABLE_3 = {  # 10.3389/fnins.2022.973761: F1 per stage, accuracy, macro-F1, kappa, geometric mean
    ("Sleep-EDF-20", "attnsleep"): "79.02 32.70 87.03 85.67 72.36 79.10 71.35 71.43 66.34",
    ("Sleep-EDF-20", "sleepprintnet"): "88.77 47.99 86.72 86.21 80.26 83.08 77.99 76.67 76.34",
    ("Sleep-EDF-20", "salientsleepnet"): "90.79 49.86 89.03 84.77 88.44 86.28 80.58 81.02 77.32",
    ("Sleep-EDF-20", "mmasleepnet"): "92.20 54.75 89.70 90.20 86.41 87.30 82.65 82.63 81.67",
    ("Sleep-EDF-78", "attnsleep"): "92.08 36.98 84.70 81.63 73.61 81.12 73.80 73.75 68.64",
    ("Sleep-EDF-78", "sleepprintnet"): "92.65 47.39 83.59 79.97 78.75 81.64 76.47 74.70 74.27",
    ("Sleep-EDF-78", "salientsleepnet"): "92.28 50.52 84.37 71.17 84.19 82.61 76.51 75.92 73.42",
    ("Sleep-EDF-78", "mmasleepnet"): "92.85 49.05 84.94 81.26 79.75 82.67 77.60 76.12 76.06",
    ("ISRUC-Sleep-1", "attnsleep"): "84.19 43.80 71.52 81.93 61.12 71.65 68.53 63.70 67.43",
    ("ISRUC-Sleep-1", "sleepprintnet"): "79.12 40.12 58.22 68.80 73.67 65.40 63.99 56.02 62.47",
    ("ISRUC-Sleep-1", "salientsleepnet"): "85.24 51.34 76.41 83.50 79.25 76.95 75.15 70.31 74.25",
    ("ISRUC-Sleep-1", "mmasleepnet"): "87.83 54.03 77.05 85.29 83.31 79.02 77.51 73.02 76.79",
    ("ISRUC-Sleep-3", "attnsleep"): "67.58 26.91 66.31 84.08 54.33 64.24 59.85 54.88 55.83",
    ("ISRUC-Sleep-3", "sleepprintnet"): "85.15 52.53 74.95 87.28 74.84 76.88 74.95 70.29 73.69",
    ("ISRUC-Sleep-3", "salientsleepnet"): "78.37 50.64 77.33 87.99 75.47 76.11 73.96 69.39 73.20",
    ("ISRUC-Sleep-3", "mmasleepnet"): "88.87 59.57 82.00 87.00 86.87 81.92 80.64 76.79 80.00",
}
MICE = {  # Mashrur et al., Table I: accuracy of mouse 1 to 8, printed mean, recomputed mean
    "mouse-cnn": "90.92 82.3 87.97 83.23 89.83 91.2 71.73 84.79 85.5 85.25",
    "mouse-cnn-attention": "88.60 80.23 86.92 83.02 88.95 90.23 78.94 80.32 84.65 84.65",
    "mouse-transformer": "77.88 85.20 62.25 51.42 80.37 84.29 82.27 84.76 76.05 76.06",
}


def percent(text):
    return [float(n) / 100 for n in text.split()]


@pytest.mark.parametrize(("dataset", "model"), TABLE_3)
def test_human_results_are_those_of_table_3(dataset, model):
    (row,) = published.published_results("human").filter(dataset=dataset, model=model).to_dicts()
    names = [*(f"f1_{s}" for s in STAGES), *published.RESULT_METRICS]
    assert [row[n] for n in names] == pytest.approx(percent(TABLE_3[dataset, model]), abs=1e-9)
    assert (row["split"], row["selection"]) == ("subjects", "best pass on the test fold")
    assert row["source"] == "doi:10.3389/fnins.2022.973761"


def test_the_other_human_results():
    accuracies = {
        (r["model"], r["dataset"][-2:]): r["accuracy"]
        for r in published.published_results("human").to_dicts()
        if "973761" not in r["source"]
    }
    assert accuracies == {
        ("masleepnet", "20"): 0.8453,
        ("masleepnet", "78"): 0.8256,
        ("ulw-sleepnet", "20"): 0.869,
        ("ulw-sleepnet", "78"): 0.814,
    }
    assert len(published.published_results("human")) == 20


@pytest.mark.parametrize("model", MICE)
def test_every_mouse_of_the_mouse_report(model):
    *mice, printed, recomputed = percent(MICE[model])
    table = published.published_values().filter(id=f"{model}-mice", metric="accuracy")
    rows = table.filter(table["subject"].is_not_null())
    assert rows["subject"].to_list() == [f"mouse {i}" for i in range(1, 9)]
    assert rows["value"].to_list() == pytest.approx(mice)
    assert 100 * rows["value"].mean() == pytest.approx(100 * recomputed, abs=0.01)
    assert table.filter(table["subject"].is_null())["value"].to_list() == [pytest.approx(printed)]


def test_slumbernet_and_the_scorers():
    mice = published.published_results("mouse").filter(id="slumbernet-mice").to_dicts()[0]
    assert [mice[f"f1_{s}"] for s in ("Wake", "NREM", "REM")] == [0.9791, 0.963, 0.8874]
    assert mice["split"] == "epochs"  # the paper's folds have epochs of one mouse on both sides
    kappa = stage_values("slumbernet-unseen", "stage_kappa")
    assert kappa == {"Wake": 0.9542, "NREM": 0.9401, "REM": 0.8894}
    kappas = published.scorer_kappas()
    assert kappas["all"] == (0.76, 0.71, 0.81)
    assert kappas["N1"] == 0.24


def test_no_number_travels_without_source_and_protocol():
    table = published.published_values()
    for column in ("source", "place", "kind", "species", "items"):
        assert table[column].null_count() == 0
    for species in ("human", "mouse"):
        rows = published.published_results(species)
        for column in ("split", "members", "selection", "aggregate", "dataset", "subjects"):
            assert rows[column].null_count() == 0
    hours = table.filter(metric="hours_per_100_passes")
    assert dict(zip(hours["model"], hours["value"], strict=True))["salientsleepnet"] == 7
    shares = table.filter(metric="share").group_by("dataset").agg(pl.col("value").sum())
    assert shares["value"].to_list() == pytest.approx([1] * 4, abs=2e-4)


def test_every_number_belongs_to_an_item_and_every_result_to_a_design():
    items = set(published.published_items()["item"])
    named = {item for row in published.published_values()["items"] for item in row.split()}
    assert named | set(published.published_facts()["item"]) <= items
    drawn = {
        row["item"]
        for row in published.published_items().to_dicts()
        if row["numbers"].startswith("all printed") and row["item"] != "s0-table-2"
    }  # Table 2 of S0 is the network's layers
    assert drawn <= named | set(published.published_facts()["item"])
    results = [r for s in ("human", "mouse") for r in published.published_results(s).to_dicts()]
    used = {name for row in results for name in (row["designs"] or "").split()}
    assert used == set(study_design.printed_designs())


def stage_values(result, metric, **where):
    columns = ("fold", "subject", "statistic")
    table = published.published_values().filter(id=result, metric=metric)
    for column in columns:
        value = where.get(column)
        table = table.filter(pl.col(column).is_null() if value is None else pl.col(column) == value)
    return dict(zip(table["stage"], table["value"], strict=True))


MEASURES = ("stage_accuracy", "precision", "recall", "f1", "stage_kappa")


@pytest.mark.parametrize("metric", MEASURES)
def test_the_folds_of_slumbernet_give_its_printed_means(metric):
    """The printed SEM is that of six values: the mean was counted as one more fold."""
    folds = [stage_values("slumbernet-mice", metric, fold=i) for i in range(1, 6)]
    means = stage_values("slumbernet-mice", metric)
    errors = stage_values("slumbernet-mice", metric, statistic="sem")
    for stage in MOUSE_STAGES:
        values = [fold[stage] for fold in folds]
        assert fmean(values) == pytest.approx(means[stage], abs=1e-4)
        assert stdev([*values, fmean(values)]) / 6**0.5 == pytest.approx(errors[stage], abs=1.1e-4)


@pytest.mark.parametrize("metric", MEASURES)
def test_the_unseen_mice_give_their_printed_means_and_errors(metric):
    mice = [stage_values("slumbernet-unseen", metric, subject=f"mouse {i}") for i in (1, 2, 3)]
    means = stage_values("slumbernet-unseen", metric)
    errors = stage_values("slumbernet-unseen", metric, statistic="sem")
    for stage in MOUSE_STAGES:
        values = [mouse[stage] for mouse in mice]
        assert fmean(values) == pytest.approx(means[stage], abs=1.1e-4)
        assert stdev(values) / 3**0.5 == pytest.approx(errors[stage], abs=1.1e-4)


@pytest.mark.parametrize("model", ["mouse-cnn", "mouse-cnn-attention"])
def test_the_matrices_of_the_mouse_report_give_its_scores(model):
    matrix = np.array(
        [
            [stage_values(f"{model}-pooled", f"predicted {p}")[t] for p in MOUSE_STAGES]
            for t in MOUSE_STAGES
        ]
    )
    scores = stage_metrics(matrix)
    for metric in ("precision", "recall", "f1"):
        printed = stage_values(f"{model}-pooled", metric)
        assert scores[metric] == pytest.approx([printed[s] for s in MOUSE_STAGES], abs=6e-5)


TWENTY = published_folds([f"SC4{i:02d}" for i in range(20)])


def ours(**changed):
    """A result that agrees with the printed MMASleepNet on Sleep-EDF-20."""
    mmasleepnet = study_design.printed_designs()["mmasleepnet-released"]
    design = {
        "preset": "sleep-edf",
        "simulated": False,
        "subjects": 20,
        "epochs": 42308,
        "folds": 20,
        "rules": "R&K, stages 3 and 4 are N3",
        "optimistic": True,
        "model": "mmasleepnet",
        "settings": mmasleepnet["settings"],
        "recipe": mmasleepnet["recipe"],
        "members": tuple(frozenset(fold.test) for fold in TWENTY),
    }
    return study_design.StudyDesign(**(design | changed))


def test_the_nearest_data_set_and_the_own_model_come_first():
    small = published.nearest_results(ours(subjects=4, model="attnsleep"))
    assert set(small["dataset"]) == {"Sleep-EDF-20"}
    assert small["model"].to_list()[:2] == ["attnsleep", "mmasleepnet"]


def each(*subjects):
    return tuple(frozenset({subject}) for subject in subjects)


@pytest.mark.parametrize(
    ("changed", "dataset"),
    [
        ({"members": each("SC400", "SC419")}, "Sleep-EDF-20"),
        ({"members": each("SC400", "SC420"), "folds": 20, "subjects": 20}, "Sleep-EDF-78"),
        ({"members": each(*(f"SC4{n:02d}" for n in range(19))), "folds": 10}, "Sleep-EDF-20"),
        ({"members": (), "folds": 10}, "Sleep-EDF-78"),
        ({"members": (), "folds": 20, "subjects": 78}, "Sleep-EDF-20"),
        ({"preset": "isruc", "members": each("III-001"), "folds": 5}, "ISRUC-Sleep-3"),
        ({"preset": "isruc", "members": each("I-001", "I-002"), "folds": 10}, "ISRUC-Sleep-1"),
        ({"preset": "slumbernet", "subjects": 3, "members": each("m1")}, "SlumberNet"),
        ({"preset": "slumbernet", "subjects": 9, "unseen": True}, "SlumberNet unseen mice"),
    ],
)
def test_members_and_protocol_choose_the_data_set_and_no_count(changed, dataset):
    assert published.nearest_results(ours(**changed))["dataset"][0] == dataset


def test_presets_without_a_paper_have_no_rows():
    assert len(published.nearest_results(ours(preset="mine"))) == 0


def test_mice_are_set_beside_mice():
    kjaerby = published.nearest_results(
        ours(preset="kjaerby", subjects=8, model="mouse-transformer")
    )
    assert kjaerby["model"].to_list()[0] == "mouse-transformer"
    assert set(kjaerby["dataset"]) == {"Kjaerby, 8 mice"}
    nine = published.nearest_results(ours(preset="slumbernet", subjects=9, model="slumbernet"))
    assert nine["id"].to_list()[:2] == ["slumbernet-mice", "rival-slumbernet-9"]
    assert "MC-SleepNet" in nine["printed_model"].to_list()
    three = published.nearest_results(
        ours(preset="slumbernet", subjects=4, model="slumbernet", unseen=True)
    )
    assert three["id"][0] == "slumbernet-unseen"


def test_differences_are_named_the_heaviest_first():
    row = published.nearest_results(ours()).to_dicts()[0]
    assert compare_designs(ours(), row).comparable
    few = tuple(frozenset(fold.test) for fold in TWENTY[:2])
    compared = compare_designs(
        ours(
            simulated=True,
            subjects=4,
            epochs=3200,
            folds=2,
            rules="AASM",
            optimistic=False,
            recipe=ours().recipe | {"passes": 2},
            settings=ours().settings | {"fusion": "mbfe"},
            members=few,
        ),
        row,
    )
    starts = ["ours is simulated", "4 subjects", "3,200 epochs", "scoring rules", "pass chosen"]
    starts += ["2 folds", "setting fusion mbfe", "recipe passes 2"]
    assert [d[: len(s)] for d, s in zip(compared.differences, starts, strict=True)] == starts
    assert compared.unknown == ()


def test_folds_are_compared_by_who_is_in_them():
    row = published.nearest_results(ours()).to_dicts()[0]
    each = ours().members
    shuffled = ours(members=tuple(reversed(each)))
    assert compare_designs(shuffled, row).comparable  # the number of a fold says nothing
    pairs = tuple(a | b for a, b in zip(each[::2], each[1::2], strict=True))
    (ten,) = compare_designs(ours(members=pairs, folds=10), row).differences
    assert ten == "10 folds against 20"
    people = [f"SC4{n:02d}" for n in range(83) if n not in (39, 68, 69, 78, 79)]
    groups = tuple(frozenset(fold.test) for fold in published_folds(people))
    large = published.nearest_results(ours(subjects=78, members=groups)).to_dicts()[0]
    whole = {"subjects": 78, "epochs": 195_479, "folds": 10}
    assert compare_designs(ours(**whole, members=groups), large).comparable
    drawn = tuple(frozenset(fold.test) for fold in make_folds(people, 10, seed=0))
    (other,) = compare_designs(ours(**whole, members=drawn), large).differences
    assert other == "other subjects are tested together in a fold"
    assert not compare_designs(ours(members=()), row).comparable


def test_a_split_by_epochs_is_named():
    row = published.nearest_results(
        ours(preset="slumbernet", subjects=9, model="slumbernet")
    ).to_dicts()[0]
    design = ours(preset="slumbernet", subjects=9, folds=5, model="slumbernet", rules=row["rules"])
    compared = compare_designs(dataclasses.replace(design, aggregates=frozenset({"pooled"})), row)
    assert any(
        "theirs epochs, so that it is tested on the animals" in line
        for line in compared.differences
    )
    assert any("theirs the mean of folds" in line for line in compared.differences)
    without = compare_designs(dataclasses.replace(design, split="epochs"), row)
    assert not any("divides" in line for line in without.differences)


def test_settings_and_recipes_that_differ_are_named():
    row = published.nearest_results(ours()).to_dicts()[0]
    compared = compare_designs(
        ours(
            settings=ours().settings | {"modalities": "eeg", "eeg": 6},
            recipe=ours().recipe | {"passes": 2},
        ),
        row,
    )
    assert compared.differences == (
        "setting modalities eeg against all of the paper",
        "recipe passes 2 against 150 of the paper",
    )
    silent = compare_designs(ours(settings={}, recipe={}), row)
    assert silent.unknown == ("with which settings and training ours was made",)


@pytest.mark.parametrize(
    "reading", ["printed", "printed-tokens", "released", "mixed", "mixed-paper"]
)
def test_no_reading_of_the_paper_differs_from_itself(reading):
    row = published.nearest_results(ours()).to_dicts()[0]
    assert f"mmasleepnet-{reading}" in row["designs"].split()
    design = study_design.printed_designs()[f"mmasleepnet-{reading}"]
    assert compare_designs(
        ours(settings=design["settings"], recipe=design["recipe"]), row
    ).comparable


def result_rows():
    return [
        row
        for species in ("human", "mouse")
        for row in published.published_results(species).to_dicts()
    ]


def best_case(row, model, settings, recipe):
    """The design of a run on the row's own data, with its folds, whatever its model."""
    family = next(
        (p for p, name in published.DATASET_FAMILIES.items() if row["dataset"].startswith(name)), ""
    )
    members = ()
    if row["split"] != "epochs":
        members = tuple(frozenset({f"s{i}"}) for i in range(row["subjects"]))
    if row["members"] == "held-out":
        members = (frozenset().union(*members),)
    if row["members"] == "published":
        people = {
            20: [f"SC4{i:02d}" for i in range(20)],
            78: [f"SC4{n:02d}" for n in range(83) if n not in (39, 68, 69, 78, 79)],
            10: [f"III-{i:03d}" for i in range(1, 11)],
        }[row["subjects"]]
        members = tuple(frozenset(fold.test) for fold in published_folds(people))
    return study_design.StudyDesign(
        preset=family,
        simulated=False,
        subjects=row["subjects"],
        epochs=row["epochs"] or 1,
        folds=row["folds"] or 1,
        rules=row["rules"] or "",
        optimistic=row["selection"].startswith("best pass on the test fold"),
        model=model,
        settings=settings,
        recipe=recipe,
        split=row["split"] if row["split"] != "unknown" else "subjects",
        members=members,
        unseen=row["members"] == "held-out",
    )


def named_variants(model):
    """Each named recipe of a model with the network that it trains, and each printed design."""
    module = registry.load("models", model)
    for name, recipe in getattr(module, "RECIPES", {"default": module.RECIPE}).items():
        brought = getattr(module, "MODEL_SETTINGS", {}).get(name, {})
        settings = module.Config(**brought).model_dump(mode="json")
        yield f"recipe {name}", settings, recipe.model_dump(mode="json")
    for name, design in study_design.printed_designs().items():
        if set(design.get("settings", {})) <= set(module.Config.model_fields) and (
            name.startswith(f"{model}-") or name == model
        ):
            settings = module.Config().model_dump(mode="json") | design.get("settings", {})
            yield f"design {name}", settings, design["recipe"]


def test_every_verdict_is_the_one_that_was_agreed():
    """Every printed result, every model, every recipe: who may stand beside whom.

    SLEEPTOOLS_REDRAW=1 writes the table anew; what changed in it is to be read line by line.
    """
    comparable, undecided = [], []
    for row in result_rows():
        for model in registry.names("models"):
            for variant, settings, values in named_variants(model):
                compared = compare_designs(best_case(row, model, settings, values), row)
                name = f"{row['id']}: {model}, {variant}"
                if compared.comparable:
                    comparable.append(name)
                elif not compared.differences:
                    undecided.append(name)
    golden = Path(__file__).parents[1] / "data" / "verdicts.json"
    if os.environ.get("SLEEPTOOLS_REDRAW"):
        text = json.dumps({"comparable": comparable, "undecided": undecided}, indent=1)
        golden.write_text(text + "\n")
    assert {"comparable": comparable, "undecided": undecided} == json.loads(golden.read_text())


def test_unseen_mice_stand_beside_the_printed_ones(tmp_path):
    run = synthetic_run.write(
        tmp_path / "run",
        names=MOUSE_STAGES,
        preset="slumbernet",
        model="slumbernet",
        prefix="M",
        unseen=("X1", "X2", "X3"),
    )
    evaluation = compute_evaluation(open_run(run))
    rows = comparison.published_rows(evaluation)
    assert [row["id"] for row in rows if row["kind"] == "model"] == [
        "slumbernet-mice",
        "slumbernet-unseen",
    ]
    verdict = comparison.judge_protocol(evaluation, "held-out")
    assert verdict.printed == "SlumberNet on SlumberNet unseen mice"
    assert not any("tested on" in line or "subjects" in line for line in verdict.differences)
    folds = comparison.judge_protocol(evaluation, "leak-free")
    assert folds.printed == "SlumberNet on SlumberNet"
    text = write_report([run], tmp_path / "r.md", ReportOptions(kind="md"))[0].read_text()
    table = text[text.index("## Unseen animals") :]
    mean = evaluation.table("subjects").filter(protocol="held-out")["kappa"].mean()
    assert re.search(rf"ours, mean of animals \| 480 \| .* \| {mean:.3f} \|", table)
    assert re.search(r"SlumberNet, animal 1 .*\| 98\.63 \| 96\.78 \| 89\.85 \|", table)
    assert "SlumberNet, mean of animals" in table


def test_a_run_is_set_beside_the_papers(tmp_path):
    run = synthetic_run.write(
        tmp_path / "run", names=MOUSE_STAGES, preset="kjaerby", model="mouse-cnn"
    )
    evaluation = compute_evaluation(open_run(run))
    lines = comparison.result_lines(evaluation)
    assert [line.label for line in lines if line.ours] == [
        "ours, mouse-cnn",
        "ours, mouse-cnn, mean of animals",
    ] * 2
    mean = evaluation.table("subjects").filter(protocol="leak-free")["accuracy"].mean()
    assert lines[1].values["accuracy"] == pytest.approx(mean)
    assert (
        lines[0].values["accuracy"] == evaluation.pooled["leak-free"].overall_metrics()["accuracy"]
    )
    verdict = comparison.judge_comparability(evaluation)
    assert verdict.printed == "CNN on Kjaerby, 8 mice"
    assert not verdict.comparable
    assert verdict.protocol == "best-on-test"
    assert "better than experts" in comparison.scorer_agreement_text()
