"""The K-trace marginal gradient on single inputs: worked values, limits, the law of levels, bad input."""

import numpy as np
import pytest
from scipy.special import expit

from bvpo_analysis.theory.marginal_estimator import (
    AnswerLaw,
    MarginalCoefficients,
    MarginalRate,
    antithetic_coefficients,
    expected_traces,
    level_probability,
    marginal_coefficients,
    marginal_rate,
)

EQUAL = np.array([0.5, 0.5])
SCORES = np.array([[0.0], [4.0]])
TILTED = AnswerLaw(EQUAL, np.log([0.5, 1.5]), SCORES)
FLAT = AnswerLaw(EQUAL, np.zeros(2), SCORES)


def test_worked_coefficients():
    """Catches sigmoid(+m), a sum for the mean of the weights, and beta left out of the margin."""
    found = marginal_coefficients(np.log([1.0, 3.0]), np.log([4.0]), beta=2.0)
    slope = 2.0 / (1 + (2.0 / 4.0) ** 2)
    np.testing.assert_allclose(found.chosen, [-slope / 4, -slope * 3 / 4])
    np.testing.assert_allclose(found.rejected, [slope])
    np.testing.assert_allclose(found.gradient([[1.0], [5.0]], [[2.0]]), [-slope * 4 + slope * 2])


def test_copies_of_a_trace_change_nothing():
    """Catches a margin that grows with the number of traces."""
    once = marginal_coefficients([0.3], [-0.2], beta=1.3)
    thrice = marginal_coefficients([0.3] * 3, [-0.2] * 2, beta=1.3)
    np.testing.assert_allclose(thrice.chosen, once.chosen / 3 * np.ones(3))
    np.testing.assert_allclose(thrice.rejected, once.rejected / 2 * np.ones(2))


def test_log_ratios_of_size_1e4_do_not_overflow():
    """Catches exp of a log-ratio: the coefficients saturate at 0 and beta."""
    found = marginal_coefficients([1e4, 1e4], [0.0, 0.0], beta=0.5)
    np.testing.assert_array_equal(found.chosen, [0.0, 0.0])
    found = marginal_coefficients([-1e4, -1e4], [0.0, 0.0], beta=0.5)
    np.testing.assert_array_equal(found.rejected, [0.25, 0.25])


def test_worked_limit_of_the_bias():
    """Catches a dropped factor of any term.

    Chosen: w = (1/2, 3/2), sbar = 3, v = 1/2 (1/4)(-3) + 1/2 (9/4)(1) = 3/4, V = 1/4. Rejected: w = 1, sbar = 2, v = V
    = 0. At m = 0, beta = 1: 1/2 (3/4) + 1/4 (3/4) - 1/8 (1/4)(1) = 17/32. With the sides swapped the first and the
    last term change sign, the last once more through the gap: -3/8 + 3/16 - 1/32.
    """
    np.testing.assert_allclose(marginal_rate(TILTED, FLAT, 1.0).bias, [17 / 32], rtol=1e-12)
    np.testing.assert_allclose(marginal_rate(FLAT, TILTED, 1.0).bias, [-3 / 8 + 3 / 16 - 1 / 32], rtol=1e-12)
    np.testing.assert_allclose(marginal_rate(TILTED, FLAT, 1.0).target, [-0.5], rtol=1e-12)


def test_worked_limit_of_the_variance():
    """Catches the cross term of the first-order expansion: chosen terms phi w (s - sbar) - p (w - 1) gap."""
    first = np.array([0.5 * 0.5 * -3 - 0.25 * -0.5, 0.5 * 1.5 * 1 - 0.25 * 0.5])
    second = 0.5 * np.array([-2.0, 2.0])
    expected = (first**2).mean() + (second**2).mean()
    assert marginal_rate(TILTED, FLAT, 1.0).variance == pytest.approx(expected, rel=1e-12)


def test_the_margin_enters_the_limit():
    """Catches tanh(m) for tanh(m/2) and phi for p, away from m = 0, where they all coincide."""
    shift, beta = 0.7, 1.4
    moved = AnswerLaw(EQUAL, np.log([0.5, 1.5]) + shift, SCORES)
    m = beta * shift
    phi, p = expit(-m), expit(m) * expit(-m)
    expected = beta * (phi * 0.75 + beta * p * 0.75 - beta * p / 2 * (0.25 + beta * np.tanh(m / 2) * 0.25))
    np.testing.assert_allclose(marginal_rate(moved, FLAT, beta).bias, [expected], rtol=1e-12)


def test_laws_of_answers():
    """Catches weights that are not normalised under the law of the traces."""
    law = AnswerLaw(np.array([0.2, 0.8]), np.array([3.0, 1.0]), SCORES)
    assert law.log_marginal_ratio == pytest.approx(np.log(0.2 * np.exp(3) + 0.8 * np.exp(1)))
    assert float(law.probabilities @ law.weights) == pytest.approx(1.0)
    assert law.chi_square == pytest.approx(float(law.probabilities @ law.weights**2) - 1)
    far = AnswerLaw(EQUAL, np.array([1e4, 1e4]), SCORES)
    assert (far.log_marginal_ratio, far.chi_square) == (1e4, 0.0)


def test_error_at_a_number_of_traces():
    """Catches |bias| for its square and K for K^2."""
    rate = MarginalRate(target=np.zeros(2), bias=np.array([3.0, 4.0]), variance=2.0)
    np.testing.assert_allclose(rate.error([1, 5]), [27.0, 1.4])


def test_antithetic_difference_by_hand():
    """Catches the halves summed instead of averaged, and halves interleaved."""
    plus, minus = np.array([0.1, 0.9, -0.4, 0.2]), np.array([0.5, -0.3, 0.0, 1.1])
    found = antithetic_coefficients(plus, minus, beta=1.2)
    whole = marginal_coefficients(plus, minus, 1.2)
    first, second = (marginal_coefficients(plus[c], minus[c], 1.2) for c in (slice(2), slice(2, 4)))
    np.testing.assert_allclose(found.chosen, whole.chosen - np.concatenate([first.chosen, second.chosen]) / 2)
    np.testing.assert_allclose(found.rejected, whole.rejected - np.concatenate([first.rejected, second.rejected]) / 2)


def test_law_of_levels():
    """Catches an exponent off by one: the law sums to one, and its mean cost to the closed form."""
    levels = np.arange(1, 400)
    for decay in (1.1, 1.5, 1.9):
        p = level_probability(levels, decay)
        assert p.sum() == pytest.approx(1.0, rel=1e-9)
        np.testing.assert_allclose(p[1:] / p[:-1], 2.0**-decay, rtol=1e-9)
        assert float(expected_traces(decay)) == pytest.approx(float((p * 2.0**levels).sum()), rel=1e-9)
    np.testing.assert_allclose(level_probability(1, [1.2, 1.5]), [1 - 2**-1.2, 1 - 2**-1.5])


def test_leading_axes_broadcast():
    """Catches an axis of traces other than the last, and beta that cannot vary."""
    rng = np.random.default_rng(0)
    plus, minus, beta = rng.normal(size=(3, 1, 4)), rng.normal(size=(2, 4)), np.array([0.5, 1.0])
    for function in (marginal_coefficients, antithetic_coefficients):
        found = function(plus, minus, beta)
        assert found.chosen.shape == found.rejected.shape == (3, 2, 4)
        alone = function(plus[2, 0], minus[1], beta[1])
        np.testing.assert_allclose(found.chosen[2, 1], alone.chosen, rtol=1e-13, atol=1e-16)
        np.testing.assert_allclose(found.rejected[2, 1], alone.rejected, rtol=1e-13, atol=1e-16)
        assert found.gradient(rng.normal(size=(4, 5)), rng.normal(size=(4, 5))).shape == (3, 2, 5)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: marginal_coefficients([np.nan], [0.0], 1.0), "log_ratios_chosen must be finite"),
        (lambda: marginal_coefficients([0.0], [np.inf], 1.0), "log_ratios_rejected must be finite"),
        (lambda: marginal_coefficients([0.0], [], 1.0), "log_ratios_rejected must not be empty"),
        (lambda: marginal_coefficients(0.0, [0.0], 1.0), "log_ratios_chosen must have an axis of traces"),
        (lambda: marginal_coefficients([0.0], [0.0], 0.0), "beta must be positive"),
        (lambda: antithetic_coefficients([0.0] * 3, [0.0] * 3, 1.0), "same even number"),
        (lambda: antithetic_coefficients([0.0] * 2, [0.0] * 4, 1.0), "same even number"),
        (lambda: AnswerLaw(np.array([0.5, 0.4]), np.zeros(2), SCORES), "probabilities must sum to one"),
        (lambda: AnswerLaw(EQUAL, np.zeros(3), SCORES), "log_ratio and scores must have shapes"),
        (lambda: AnswerLaw(EQUAL, np.zeros(2), np.zeros(2)), "log_ratio and scores must have shapes"),
        (lambda: AnswerLaw(EQUAL, np.array([0.0, np.nan]), SCORES), "log_ratio must be finite"),
        (lambda: marginal_rate(TILTED, FLAT, -1.0), "beta must be positive"),
        (lambda: marginal_rate(TILTED, AnswerLaw(EQUAL, np.zeros(2), np.zeros((2, 3))), 1.0), "one dimension"),
        (lambda: marginal_rate(TILTED, FLAT, 1.0).error(0), "traces must be at least 1"),
        (lambda: MarginalCoefficients(np.ones(2), np.ones(1)).gradient([[1.0]], [[1.0]]), "scores_chosen must have"),
        (lambda: MarginalCoefficients(np.ones(1), np.ones(2)).gradient([[1.0]], [[1.0]]), "scores_rejected must have"),
        (lambda: level_probability(0), "level must be at least 1"),
        (lambda: level_probability(1.5), "level must be a whole number, got 1.5"),
        (lambda: level_probability(1, 2.0), "decay must lie strictly between"),
        (lambda: expected_traces(1.0), "decay must lie strictly between"),
        (lambda: expected_traces(np.nan), "decay must be finite"),
    ],
)
def test_bad_input_raises(call, message):
    """Catches a number that comes out of input the statement does not cover, and a message without the name."""
    with pytest.raises(ValueError, match=message):
        call()
