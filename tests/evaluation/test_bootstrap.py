"""Intervals against scipy, coverage against a known truth, and what has no interval."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as hy
from scipy import stats

from sleeptools.evaluation import bootstrap, metrics


def subjects(seed, count=20, stages=5, skill=0.75, spread=0.1):
    """(count, stages, stages) confusion matrices of subjects who are scored unequally well."""
    rng = np.random.default_rng(seed)
    right = rng.normal(skill, spread, count).clip(0.3, 0.98)
    shares = rng.dirichlet([8] * stages, count)
    matrices = np.zeros((count, stages, stages), np.int64)
    for i in range(count):
        for s, n in enumerate(rng.multinomial(800, shares[i])):
            p = np.full(stages, (1 - right[i]) / (stages - 1))
            p[s] = right[i]
            matrices[i, s] = rng.multinomial(n, p)
    return matrices


def pooled(confusions, *names):
    return lambda w: np.stack(
        [metrics.OVERALL_METRICS[n](np.tensordot(w, confusions, 1)) for n in names], -1
    )


@pytest.mark.parametrize("name", ["kappa", "macro_f1", "accuracy", "g_mean_recalls"])
@pytest.mark.parametrize("count", [4, 20])
def test_bounds_are_those_of_scipy(name, count):
    """The same draws through scipy's BCa, which resamples the subjects' numbers itself."""
    matrices = subjects(1, count)
    statistic = pooled(matrices, name)
    bounds = bootstrap.bootstrap_interval(statistic, count)

    def of(index):
        return metrics.OVERALL_METRICS[name](matrices[np.asarray(index).astype(int)].sum(0))

    drawn = stats.bootstrap(
        (np.arange(count),),
        of,
        n_resamples=2,
        vectorized=False,
        method="percentile",
        rng=np.random.default_rng(0),
    )
    drawn.bootstrap_distribution = statistic(bootstrap.draw_subjects(count))[:, 0]
    expected = stats.bootstrap(
        (np.arange(count),),
        of,
        n_resamples=0,
        vectorized=False,
        method="BCa",
        bootstrap_result=drawn,
    ).confidence_interval
    assert bounds.value[0] == metrics.OVERALL_METRICS[name](matrices.sum(0))
    np.testing.assert_allclose([bounds.low[0], bounds.high[0]], expected, rtol=1e-12)
    assert bounds.low[0] < bounds.value[0] < bounds.high[0]


def test_bounds_are_those_of_scipy_s_own_draws():
    values = np.random.default_rng(3).gamma(2, 1, 60)
    bounds = bootstrap.bootstrap_interval(bootstrap.mean_statistic(values), 60, count=20000)
    expected = stats.bootstrap((values,), np.mean, n_resamples=20000, rng=np.random.default_rng(1))
    np.testing.assert_allclose(bounds[1:], expected.confidence_interval, rtol=0.01)


def test_an_interval_holds_the_truth_about_as_often_as_it_says():
    rng = np.random.default_rng(0)
    held = 0
    for _ in range(300):
        bounds = bootstrap.bootstrap_interval(
            bootstrap.mean_statistic(rng.normal(0, 1, 25)), 25, count=500
        )
        held += bounds.low <= 0 <= bounds.high
    assert 0.90 <= held / 300 <= 0.975


def test_subjects_not_epochs_make_the_width():
    """Ten times the epochs of the same subjects change nothing; ten times the subjects do."""
    twenty, hundreds = subjects(2, 20), subjects(2, 200)
    width = []
    for matrices in (twenty, 10 * twenty, hundreds):
        bounds = bootstrap.bootstrap_interval(pooled(matrices, "kappa"), len(matrices))
        width.append(float(bounds.high[0] - bounds.low[0]))
    assert width[1] == pytest.approx(width[0], rel=1e-9)
    assert width[2] < 0.5 * width[0]


def test_what_has_no_interval():
    single = bootstrap.bootstrap_interval(bootstrap.mean_statistic(np.array([0.5])), 1)
    assert single.value == 0.5
    assert np.isnan([single.low, single.high]).all()
    constant = bootstrap.bootstrap_interval(bootstrap.mean_statistic(np.ones(9)), 9)
    assert constant.value == 1
    assert np.isnan([constant.low, constant.high]).all()
    matrices = subjects(0, 6)
    matrices[1:, 4] = 0  # one subject alone has the last stage
    f1 = bootstrap.bootstrap_interval(lambda w: metrics.f1(np.tensordot(w, matrices, 1)), 6)
    assert np.isfinite(f1.value).all()
    assert np.isfinite(f1.low[:4]).all()
    assert np.isnan([f1.low[4], f1.high[4]]).all()


def test_a_rare_draw_without_a_value_does_not_hide_the_interval():
    values = np.array([0.5, 0.6, 0.7, 0.8, 0.9, np.nan])
    bounds = bootstrap.bootstrap_interval(bootstrap.mean_statistic(values), 6)
    assert bounds.value == pytest.approx(0.7)
    assert 0.5 < bounds.low < 0.7 < bounds.high < 0.9
    values[1:4] = np.nan  # two of six: in a tenth of the draws neither is there
    assert np.isnan(bootstrap.bootstrap_interval(bootstrap.mean_statistic(values), 6).low)


def test_draws_are_the_same_every_time_and_weigh_every_subject_alike():
    drawn = bootstrap.draw_subjects(30)
    assert drawn.shape == (bootstrap.DRAWS, 30)
    assert (drawn.sum(1) == 30).all()
    np.testing.assert_array_equal(drawn, bootstrap.draw_subjects(30))
    assert abs(drawn.mean(0) - 1).max() < 0.1


def test_paired_comparison_as_by_scipy():
    rng = np.random.default_rng(5)
    first = rng.uniform(0.5, 0.9, 25)
    second = first + rng.normal(0.02, 0.02, 25)
    paired = bootstrap.paired_comparison(first, second)
    assert paired.p == stats.wilcoxon(second - first).pvalue
    assert paired.difference.value == pytest.approx((second - first).mean())
    assert paired.difference.low > 0
    assert paired.subjects == 25
    assert (paired.better, paired.worse) == ((second > first).sum(), (second < first).sum())


def test_a_run_against_itself_differs_in_nothing():
    values = np.array([0.4, np.nan, 0.8])
    paired = bootstrap.paired_comparison(values, values)
    assert paired.difference.value == 0
    assert np.isnan(paired.p)
    assert (paired.subjects, paired.better, paired.worse) == (2, 0, 0)


def test_holm_by_hand():
    np.testing.assert_allclose(
        bootstrap.holm([0.01, 0.04, 0.03, np.nan, 0.005]), [0.03, 0.06, 0.06, np.nan, 0.02]
    )


@given(hy.lists(hy.floats(0, 1), min_size=1, max_size=12))
def test_holm_only_raises_keeps_the_order_and_stays_below_bonferroni(ps):
    adjusted = bootstrap.holm(ps)
    assert (adjusted >= np.array(ps)).all()
    assert (adjusted <= np.minimum(1, np.array(ps) * len(ps)) + 1e-15).all()
    assert (np.diff(adjusted[np.argsort(ps)]) >= 0).all()
