"""Weights predicted before training: exact algebra on the committed moments."""

import numpy as np
import pytest

from bvpo_analysis.exact import load_table
from bvpo_analysis.lrm.loading import load_model
from bvpo_analysis.preferences.shipped import REGIMES
from bvpo_analysis.sgd.measured import measured_smoothness
from bvpo_analysis.training_study.arms import ADAMW_RATE, BATCH, LEARNING_RATES, WEIGHTS
from bvpo_analysis.training_study.predictions import predictions, regime_predictions, run_kappa, second_moments
from bvpo_analysis.training_study.run import TINY, training_pairs


@pytest.fixture(params=REGIMES)
def found(request):
    kappa = run_kappa(request.param)
    rows = predictions(
        load_table(request.param).sample_moments,
        request.param,
        optimiser="sgd",
        source="enumerated",
        pairs=208,
        kappa=kappa,
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
    m = load_table(regime).sample_moments
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
    m = load_table(regime).sample_moments
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


def test_products_with_the_target_are_not_clipped():
    """Catches <mu, E g_e> forced into the range of lengths that were themselves estimated as negative."""
    moments = load_table("valid").sample_moments
    assert moments.mean_e_sq[0] < 0
    found = second_moments(moments, moments.population(BATCH))
    assert found["signal_e"][0] == moments.target_dot_e[0] != 0
    assert found["second_e"][0] == pytest.approx(moments.var_e[0] / BATCH)


@pytest.mark.slow
def test_predictions_have_intervals_over_the_prompts():
    """Catches an interval without width: enumerated traces leave the prompts a sample."""
    pairs = training_pairs("correct", TINY)
    rows = regime_predictions(load_model(), pairs, "correct", adamw=False)
    assert [row.source for row in rows] == ["enumerated"] * 5 + ["sampled"] * 5
    for row in rows:
        assert row.alpha.ci_high - row.alpha.ci_low > 0.01, (row.source, row.criterion)
