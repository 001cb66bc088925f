"""Weights predicted before training: exact algebra on the committed moments."""

import numpy as np
import pytest

from bvpo_analysis.preferences.shipped import REGIMES
from bvpo_analysis.sgd.measured import measured_smoothness
from bvpo_analysis.training_study.arms import ADAMW_RATE, BATCH, LEARNING_RATES, WEIGHTS
from bvpo_analysis.training_study.predictions import exact_moments, predictions, run_kappa, second_moments


@pytest.fixture(params=REGIMES)
def found(request):
    kappa = run_kappa(request.param)
    rows = predictions(
        exact_moments(request.param), request.param, optimiser="sgd", source="exact", pairs=224, kappa=kappa
    )
    return request.param, {row.criterion: row for row in rows}


def test_scores_are_least_near_the_predicted_weight(found):
    """Catches a criterion that is ranked the wrong way round: the best of the sweep is next to the optimum."""
    _, rows = found
    for row in rows.values():
        best = WEIGHTS[int(np.argmin(row.scores))]
        near = float(np.clip(row.alpha.value, 0, 1))
        assert abs(best - near) <= 0.25 / 2 + 1e-9 or row.criterion == "cosine", row.criterion


def test_the_mean_squared_error_is_the_formula(found):
    regime, rows = found
    m = exact_moments(regime)
    for alpha, score in zip(WEIGHTS, rows["mse"].scores, strict=True):
        variance = alpha**2 * m.var_t[0] + (1 - alpha) ** 2 * m.var_e[0] + 2 * alpha * (1 - alpha) * m.cov_te[0]
        assert score == pytest.approx((1 - alpha) ** 2 * max(m.bias_e_sq[0], 0.0) + variance / BATCH)


def test_small_steps_and_large_data_ask_for_more_of_the_trace(found):
    _, rows = found
    assert rows["kappa"].alpha.value >= rows["mse"].alpha.value - 1e-9
    assert rows["data"].alpha.value >= rows["mse"].alpha.value - 1e-9
    assert rows["kappa"].kappa < 1


def test_the_descent_bound_is_that_of_a_step(found):
    """By hand: -eta <mu, E g_c> + L eta^2 / 2 E|g_c|^2 with eta = kappa and L = 1."""
    regime, rows = found
    m = exact_moments(regime)
    q = second_moments(m, m.population(BATCH))
    kappa = rows["descent"].kappa
    for alpha, score in zip(WEIGHTS, rows["descent"].scores, strict=True):
        signal = alpha * q["signal_t"] + (1 - alpha) * q["signal_e"]
        square = alpha**2 * q["second_t"] + (1 - alpha) ** 2 * q["second_e"] + 2 * alpha * (1 - alpha) * q["second_te"]
        assert score == pytest.approx(-kappa * signal + kappa**2 / 2 * square)


def test_kappa_is_rate_times_committed_curvature():
    for regime in REGIMES:
        smooth = measured_smoothness(regime)
        assert run_kappa(regime) == pytest.approx(LEARNING_RATES[regime] * smooth["SGD"].smoothness)
        assert run_kappa(regime, "adamw") == pytest.approx(ADAMW_RATE * smooth["Adam"].smoothness)
