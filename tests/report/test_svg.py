"""Figures: well-formed, truthful, escaped, small."""

import re
from xml.etree import ElementTree

import numpy as np
import polars as pl
import pytest

from sleeptools.recording.stages import HUMAN_STAGES, MOUSE_STAGES
from sleeptools.report import colours, markup
from sleeptools.report.numbers import interval_text, metric_text
from sleeptools.report.plots.calibration import ReliabilityBins, plot_reliability
from sleeptools.report.plots.canvas import SENTINELS
from sleeptools.report.plots.signals import thin_trace
from sleeptools.report.plots.sleep import AgreementPanel, plot_bland_altman, plot_day
from sleeptools.report.plots.training import plot_training
from sleeptools.report.svg import HypnogramNight, confusion_svg, hypnogram_svg

SVG = "{http://www.w3.org/2000/svg}"


def night(
    names=HUMAN_STAGES, epochs=60, *, label="SC4001", gap=False, epoch_seconds=30.0, start=0.0
):
    rng = np.random.default_rng(5)
    truth = np.sort(rng.integers(0, len(names), epochs))
    p = rng.dirichlet(np.ones(len(names)), epochs)
    index = np.arange(epochs) + (10 * (np.arange(epochs) >= epochs // 2) if gap else 0)
    onset = start + index * epoch_seconds
    return HypnogramNight(label, tuple(names), truth, p.argmax(1), p, onset, epoch_seconds)


def parsed(drawing):
    return ElementTree.fromstring(drawing)


def density(drawing):
    (group,) = (g for g in parsed(drawing).iter(f"{SVG}g") if g.get("class") == "density")
    return group


def texts(root):
    return ["".join(t.itertext()) for t in root.iter(f"{SVG}text")]


@pytest.mark.parametrize("names", [HUMAN_STAGES, MOUSE_STAGES])
def test_hypnogram_names_every_stage_from_the_top(names):
    root = parsed(hypnogram_svg(night(names)))
    heights = {t.text: float(t.get("y")) for t in root.iter(f"{SVG}text")}
    order = [name for name in ("W", "Wake", "REM", "N1", "N2", "N3", "NREM") if name in names]
    assert [heights[name] for name in order] == sorted(heights[name] for name in order)


def test_hypnogram_says_what_it_shows():
    n = night()
    root = parsed(hypnogram_svg(n))
    agreed = f"{(n.truth == n.predicted).mean():.1%}"
    assert root.get("role") == "img"
    assert agreed in root.get("aria-label")
    assert root.find(f"{SVG}title").text == root.get("aria-label")


def test_hypnogram_hours_count_from_the_start_of_the_recording():
    root = parsed(hypnogram_svg(night(epochs=240, start=3600.0)))
    assert [t for t in texts(root) if re.fullmatch(r"\d+:\d\d", t)] == [
        "1:00",
        "1:15",
        "1:30",
        "1:45",
        "2:00",
        "2:15",
        "2:30",
        "2:45",
        "3:00",
    ]


def test_gaps_are_left_open():
    closed, opened = (hypnogram_svg(night(gap=gap)) for gap in (False, True))

    def areas(drawing):
        group = density(drawing)
        return [p.get("d").count("M") for p in group]

    assert areas(closed) == [1] * 5
    assert areas(opened) == [2] * 5


def test_the_density_has_the_right_heights():
    p = np.array([[0.2, 0.3, 0.5], [0.0, 0.0, 1.0]])
    n = HypnogramNight(
        "m", MOUSE_STAGES, np.array([0, 2]), p.argmax(1), p, np.array([0.0, 4.0]), 4.0
    )
    group = density(hypnogram_svg(n))
    # from the bottom NREM, REM, Wake; the highest is drawn first
    assert [path.get("d") for path in group] == [
        "M0 0V100h2V0z",
        "M0 0V80h1V100h1V0z",
        "M0 0V30h1V0h1V0z",
    ]


def test_a_night_without_errors_and_one_of_a_single_epoch():
    p = np.eye(5)[[0]]
    single = HypnogramNight(
        "x", HUMAN_STAGES, np.array([0]), np.array([0]), p, np.array([0.0]), 30.0
    )
    assert "100.0%" in parsed(hypnogram_svg(single)).get("aria-label")


def test_a_mouse_day_stays_small():
    drawing = hypnogram_svg(night(MOUSE_STAGES, 21600, epoch_seconds=4.0))
    assert len(drawing) < 1_000_000
    assert max(map(float, re.findall(r"h(\d+)", drawing))) <= 1440


def test_hostile_names_are_escaped():
    drawing = hypnogram_svg(night(label="<script>alert(1)</script>\"'&"))
    assert "<script" not in drawing
    assert "<script>" in parsed(drawing).get("aria-label")
    matrix = confusion_svg(np.eye(2, dtype=int), ("<b>", "&"), "<i>")
    assert "<b>" in texts(parsed(matrix))


def test_confusion_shows_counts_and_shares():
    root = parsed(confusion_svg(np.array([[30, 10], [0, 0]]), ("W", "N1"), "Matrix"))
    labels = texts(root)
    assert "75.0 %" in labels
    assert "30" in labels
    assert labels.count("0.0 %") == 2  # a stage that is not there divides by nothing
    assert "W: 75% W, 25% N1" in root.get("aria-label")


def logs(*, leak_free=True):
    passes = list(range(1, 11))
    nothing = [None] * 10
    kappa = [0.1 * i for i in passes]
    return pl.DataFrame(
        {
            "protocol": "leak-free" if leak_free else "best-on-test",
            "seed": 0,
            "fold": 0,
            "pass": passes,
            "loss": [2 / i for i in passes],
            "val_kappa": kappa if leak_free else nothing,
            "test_kappa": nothing if leak_free else kappa,
            "selected": [i == 10 for i in passes],
        },
        schema_overrides={"val_kappa": pl.Float64, "test_kappa": pl.Float64},
    )


def svg(table, ident):
    return plot_training(table).svg(ident)


def test_training_curves_take_the_colours_of_the_page():
    drawing = svg(pl.concat([logs(), logs(leak_free=False)]), "one")
    root = parsed(drawing)
    assert "leak-free" in texts(root)
    assert "best-on-test (optimistic)" in texts(root)
    assert "var(--accent" in drawing
    assert "var(--second" in drawing
    assert not any(sentinel in drawing for sentinel in SENTINELS.values())
    assert "<style" not in drawing
    assert "dc:date" not in drawing


def test_training_curves_count_whole_passes():
    first = logs().filter(pl.col("pass") <= 3)
    assert {"1", "2", "3"} <= set(texts(parsed(svg(first, "few"))))


def test_training_curves_are_the_same_twice_and_their_ids_differ_between_figures():
    a, b = (svg(logs(), "a") for _ in range(2))
    assert a == b
    third = svg(logs(), "b")
    ids = [set(re.findall(r'\sid="([^"]+)"', drawing)) for drawing in (a, third)]
    assert ids[0]
    assert not ids[0] & ids[1]


def test_training_curves_without_any_kappa():
    parsed(svg(logs().with_columns(val_kappa=pl.lit(None, pl.Float64)), "x"))


def test_markup_escapes_texts_and_attributes():
    assert markup.element("p", markup.escape("<&>"), class_='"x"', aria_label=None) == (
        '<p class="&quot;x&quot;">&lt;&amp;&gt;</p>'
    )
    table = markup.table_element(["<a>"], [["<b>", 1]], caption="<c>")
    assert "<a>" not in table
    assert "<b>" not in table
    assert 'scope="row"' in table
    assert 'scope="col"' in table


def test_a_rounded_zero_has_no_sign():
    assert interval_text("kappa", 0.02, -0.0002, 0.04) == "0.020 [0.000, 0.040]"
    assert interval_text("kappa", -0.0, None, None, signed=True) == "+0.000"
    assert metric_text("kappa", -0.0004) == "0.000"


def test_numbers_are_shortened_in_paths_and_never_in_texts():
    minutes = np.array([[10.0, 20.0], [30.0, 20.0]])
    hours, three = np.array([0.0, 2.0]), np.hstack([minutes, minutes[:, :1]])
    plot = plot_day(hours, three, three, MOUSE_STAGES, [0.996, 0.12, None])
    root = parsed(plot.svg("day"))
    assert {"Wake, r = 0.996", "NREM, r = 0.120", "REM"} <= set(texts(root))
    assert not re.search(r"\d\.\d{3}", " ".join(p.get("d", "") for p in root.iter(f"{SVG}path")))


def test_bland_altman_and_reliability_draw_what_they_are_given():
    truth = np.array([400.0, 420.0, np.nan, 380.0])
    predicted = truth + np.array([5, -5, 1, 9])
    limits = (3, -8, 14), (-11, -20, -5), (17, 11, 25)
    panel = AgreementPanel("TST", "min", truth, predicted, *limits)
    root = parsed(plot_bland_altman([panel]).svg("ba"))
    assert "TST, min" in texts(root)
    assert len(list(root.iter(f"{SVG}use"))) >= 3  # a dot per night that has both
    assert "bias 3 min" in root.get("aria-label")
    bins = ReliabilityBins(np.array([np.nan, 0.8]), np.array([np.nan, 0.75]), np.array([0, 40]))
    label = parsed(plot_reliability({"as predicted": bins}).svg("r")).get("aria-label")
    assert "as predicted: 80% right 75%" in label


def test_a_thinned_trace_keeps_its_extremes():
    values = np.random.default_rng(2).normal(0, 1, 5000).astype(np.float32)
    values[1234] = 99
    time, thinned = thin_trace(np.arange(5000) / 500, values)
    assert len(time) == len(thinned) <= 900
    assert thinned.max() == 99
    assert thinned.min() == values.min()
    assert abs(time[thinned.argmax()] - 1234 / 500) < 0.03


def test_drawings_leave_the_page_with_colours_of_their_own():
    alone = markup.standalone(hypnogram_svg(night()))
    assert "var(" not in alone
    assert "currentColor" not in alone
    assert colours.STAGES["N3"] in alone
