"""Calibration against scikit-learn, against a naive program, and what a temperature may see."""

import numpy as np
import pytest
from scipy import optimize
from sklearn import metrics as sk

from sleeptools.evaluation import calibration


def predictions(seed, count=4000, stages=5, heat=1.0):
    """Probabilities that mean what they say, then sharpened or flattened by 1 / heat."""
    rng = np.random.default_rng(seed)
    p = rng.dirichlet([0.4] * stages, count)
    truth = np.array([rng.choice(stages, p=row) for row in p])
    return calibration.scale_by_temperature(p, heat), truth


def naive_ece(p, truth):
    sure, right = p.max(1), p.argmax(1) == truth
    total = 0.0
    for i in range(15):
        in_bin = (sure >= i / 15) & ((sure < (i + 1) / 15) | (i == 14))
        if in_bin.any():
            total += in_bin.mean() * abs(right[in_bin].mean() - sure[in_bin].mean())
    return total


def test_log_loss_as_in_scikit_learn_and_error_as_computed_naively():
    p, truth = predictions(0)
    sums = calibration.calibration_sums(p, truth, np.arange(len(p)) % 3, 3)
    loss, error = calibration.losses_from_sums(sums.sum(0))
    assert loss == pytest.approx(sk.log_loss(truth, p, labels=range(5)), rel=1e-6)
    assert error == pytest.approx(naive_ece(p, truth))


def test_an_impossible_epoch_costs_a_finite_amount():
    loss = calibration.negative_log_likelihood(np.array([[1.0, 0.0]]), np.array([1]))
    assert loss[0] == pytest.approx(15.94, abs=0.01)


@pytest.mark.parametrize("heat", [0.5, 1.0, 2.5])
def test_the_temperature_is_the_one_of_the_least_loss(heat):
    p, truth = predictions(1, heat=heat)
    temperature = calibration.fit_temperature(p, truth)

    def loss(t):
        return calibration.negative_log_likelihood(
            calibration.scale_by_temperature(p, t), truth
        ).mean()

    expected = optimize.minimize_scalar(loss, bounds=(0.1, 10), method="bounded").x
    assert temperature == pytest.approx(expected, rel=1e-3)
    assert temperature == pytest.approx(1 / heat, rel=0.15)  # undoes what was done
    assert loss(temperature) <= loss(1.0)


def test_a_temperature_changes_no_stage():
    p, _ = predictions(2, heat=0.4)
    np.testing.assert_array_equal(calibration.scale_by_temperature(p, 3.0).argmax(1), p.argmax(1))


@pytest.mark.parametrize("temperature", [0.3, 1.7, 20.0])
def test_a_scaled_density_is_the_softmax_of_divided_logits_with_the_same_stages(temperature):
    rng = np.random.default_rng(3)
    logits = rng.normal(0, 8, (2000, 5))

    def softmax(x):
        e = np.exp(x - x.max(1, keepdims=True))
        return e / e.sum(1, keepdims=True)

    p = softmax(logits).astype(np.float32)
    assert p.min() < calibration.SMALLEST_PROBABILITY  # nothing is cut off
    q = calibration.scale_density(p, temperature)
    np.testing.assert_allclose(q, softmax(logits / temperature), rtol=1e-5, atol=1e-7)
    # neighbours in float32, the larger one last: alike after scaling, but for their order
    low = np.float32(0.4)
    close = np.array([[0.2, low, np.nextafter(low, np.float32(1))], [np.nan] * 3], np.float32)
    near = calibration.scale_density(close, temperature)
    assert near[0].argmax() == 2
    assert np.isnan(near[1]).all()
    assert (q.argmax(1) == p.argmax(1)).all()


def test_a_perfect_and_an_empty_validation():
    p = np.full((50, 3), 0.1)
    p[:, 0] = 0.8
    assert calibration.fit_temperature(p, np.zeros(50, int)) < 0.1
    assert np.isnan(calibration.fit_temperature(np.empty((0, 3)), np.empty(0, int)))


def test_an_interval_holds_its_value_and_widens_with_fewer_subjects():
    width = []
    for subjects in (40, 8):
        p, truth = predictions(3, heat=0.6)
        sums = calibration.calibration_sums(p, truth, np.arange(len(p)) % subjects, subjects)
        bounds = calibration.calibration_bounds(sums[:, None])
        assert (bounds.low <= bounds.value).all()
        assert (bounds.value <= bounds.high).all()
        width.append(bounds.high - bounds.low)
    assert np.isfinite(width).all()


def test_reliability_rows_add_up():
    p, truth = predictions(4)
    rows = calibration.reliability_rows(
        calibration.calibration_sums(p, truth, np.zeros(len(p), int), 1)[0]
    )
    assert sum(row["epochs"] for row in rows) == len(p)
    for row in rows:
        assert row["from"] <= row["probability"] <= row["to"]
    right = sum(row["right"] * row["epochs"] for row in rows) / len(p)
    assert right == pytest.approx((p.argmax(1) == truth).mean())
