"""Weights, self-normalised means and their jackknife on single inputs: worked values, extreme logarithms, bad input."""

import numpy as np
import pytest

from bvpo_analysis.theory.importance_sampling import (
    chi_square,
    effective_sample_size,
    jackknife_corrected,
    jackknife_weights,
    leave_one_out_weights,
    limiting_sample_size,
    log_mean_weight,
    log_mean_weight_bias,
    normalised_weights,
    pooled_mean,
    self_normalised_bias,
    self_normalised_mean,
    self_normalised_variance,
)

LOGS = np.log([1.0, 2.0, 5.0])
VALUES = np.array([[1.0, 0.0], [0.0, 2.0], [3.0, -1.0]])


def test_worked_values():
    """Catches weights that are not divided by their sum, and a spread around the unweighted mean."""
    np.testing.assert_allclose(normalised_weights(LOGS), [1 / 8, 2 / 8, 5 / 8], rtol=1e-15)
    assert float(log_mean_weight(LOGS)) == pytest.approx(np.log(8 / 3))
    assert float(effective_sample_size(LOGS)) == pytest.approx(64 / 30)
    np.testing.assert_allclose(self_normalised_mean(LOGS, VALUES), [2.0, -1 / 8])
    pooled = pooled_mean(LOGS, VALUES)
    np.testing.assert_allclose(pooled.mean, [2.0, -1 / 8])
    # sum w |f|^2 - |fhat|^2 = (1 + 8 + 50) / 8 - (4 + 1/64)
    assert float(pooled.variance_saved) == pytest.approx(59 / 8 - 4 - 1 / 64)


def test_a_divergence_is_not_symmetric():
    """Catches the proposal for the target: chi^2(p || q) = sum p^2 / q - 1."""
    p, q = [0.5, 0.5], [0.8, 0.2]
    assert chi_square(p, q) == pytest.approx(0.25 / 0.8 + 0.25 / 0.2 - 1)
    assert chi_square(q, p) == pytest.approx(0.64 / 0.5 + 0.04 / 0.5 - 1)
    assert float(limiting_sample_size(100, chi_square(p, q))) == pytest.approx(64.0)


def test_leading_bias_and_variance_by_hand():
    """Catches w for w^2 and the expectation under the target: p = (1/2, 1/2), q = (3/4, 1/4), f = (0, 1)."""
    p, q, f = [0.5, 0.5], [0.75, 0.25], [[0.0], [1.0]]
    # E_q w^2 (f - 1/2) = 3/4 (4/9)(-1/2) + 1/4 (4)(1/2) = 1/3
    np.testing.assert_allclose(self_normalised_bias(p, q, f, 10), [-1 / 30])
    assert float(self_normalised_variance(p, q, f, 10)) == pytest.approx(1 / 30)
    assert float(log_mean_weight_bias(chi_square(p, q), 10)) == pytest.approx(-1 / 60)


def test_the_variance_is_that_of_both_coordinates():
    """Catches a mean over coordinates, and the plain variance of f under the proposal."""
    p, q = np.array([0.2, 0.3, 0.5]), np.array([0.5, 0.3, 0.2])
    w, centred = p / q, VALUES - p @ VALUES
    expected = (q * w**2) @ (centred**2).sum(axis=1) / 7
    assert float(self_normalised_variance(p, q, VALUES, 7)) == pytest.approx(expected, rel=1e-14)
    np.testing.assert_allclose(self_normalised_bias(p, q, VALUES, 7), -(q * w**2) @ centred / 7, rtol=1e-13)


def test_proposal_equal_to_target_has_no_bias():
    """Catches a bias that does not vanish for equal weights, where the variance is the plain Var f / M."""
    p = np.array([0.2, 0.3, 0.5])
    np.testing.assert_allclose(self_normalised_bias(p, p, VALUES, 1), [0.0, 0.0], atol=1e-15)
    expected = p @ ((VALUES - p @ VALUES) ** 2).sum(axis=1)
    assert float(self_normalised_variance(p, p, VALUES, 1)) == pytest.approx(expected)


def test_values_that_no_law_takes_change_nothing():
    """Catches 0/0: a value of probability zero under both laws has no weight."""
    p, q = [0.5, 0.5, 0.0], [0.75, 0.25, 0.0]
    assert chi_square(p, q) == chi_square(p[:2], q[:2])
    np.testing.assert_allclose(
        self_normalised_bias(p, q, VALUES, 3), self_normalised_bias(p[:2], q[:2], VALUES[:2], 3), rtol=1e-14
    )


@pytest.mark.parametrize("constant", [-1e4, 1e4, 1e300])
def test_extreme_logarithms(constant):
    """Catches exp before the shift: overflow, or 0/0 when all weights underflow."""
    logs = np.array([constant, constant])
    np.testing.assert_array_equal(normalised_weights(logs), [0.5, 0.5])
    assert float(effective_sample_size(logs)) == 2.0
    assert float(log_mean_weight(logs)) == constant
    np.testing.assert_array_equal(jackknife_weights(logs), [0.5, 0.5])
    np.testing.assert_array_equal(normalised_weights([0.0, -1e4, -2e4]), [1.0, 0.0, 0.0])


def test_leaving_out_a_dominating_draw():
    """Catches w_j / (1 - w_i), which is 0/0 when draw i has all the weight."""
    left = leave_one_out_weights([1e4, 0.0, np.log(3.0)])
    np.testing.assert_allclose(left[0], [0.0, 0.25, 0.75], rtol=1e-12)
    np.testing.assert_array_equal(left[1], [1.0, 0.0, 0.0])


def test_leading_axes_broadcast():
    """Catches an axis of draws other than the last: each pool of a batch is treated alone."""
    rng = np.random.default_rng(0)
    logs, values = rng.normal(size=(4, 1, 3)), rng.normal(size=(2, 3, 5))
    found, pooled = self_normalised_mean(logs, values), pooled_mean(logs, values)
    signed, left = jackknife_weights(logs), leave_one_out_weights(logs)
    assert (found.shape, pooled.variance_saved.shape, left.shape) == ((4, 2, 5), (4, 2), (4, 1, 3, 3))
    np.testing.assert_allclose(found[3, 1], self_normalised_mean(logs[3, 0], values[1]))
    np.testing.assert_allclose(pooled.mean, found)
    assert pooled.variance_saved[3, 1] == pytest.approx(float(pooled_mean(logs[3, 0], values[1]).variance_saved))
    np.testing.assert_allclose(signed[2, 0], jackknife_weights(logs[2, 0]))
    np.testing.assert_allclose(signed.sum(axis=-1), 1.0)
    assert self_normalised_bias([0.5, 0.5], [0.75, 0.25], [[0.0], [1.0]], [[1, 2, 4]]).shape == (1, 3, 1)
    np.testing.assert_allclose(effective_sample_size(logs)[1, 0], effective_sample_size(logs[1, 0]))


def test_jackknife_keeps_the_shape_and_the_sign():
    """Catches (M - 1) T_M - M mean, and a correction of the wrong sign: T_M = theta + a/M is mended exactly."""
    theta, a, m = np.array([1.0, -2.0]), np.array([0.3, 4.0]), 5
    found = jackknife_corrected(theta + a / m, np.tile(theta + a / (m - 1), (m, 1)))
    np.testing.assert_allclose(found, theta, rtol=1e-14)


def test_signed_weights_by_hand():
    """Catches K for K - 1: w = (1, 1, 3)/5, and without a draw (0, 1, 3)/4, (1, 0, 3)/4, (1, 1, 0)/2."""
    left = np.array([[0, 1 / 4, 3 / 4], [1 / 4, 0, 3 / 4], [1 / 2, 1 / 2, 0]])
    expected = 3 * np.array([1, 1, 3]) / 5 - 2 * left.mean(axis=0)
    np.testing.assert_allclose(jackknife_weights(np.log([1.0, 1.0, 3.0])), expected, rtol=1e-12)


@pytest.mark.parametrize(
    ("function", "arguments", "message"),
    [
        (normalised_weights, ([0.0, np.nan],), "log_weights must be finite"),
        (normalised_weights, ([0.0, -np.inf],), "log_weights must be finite"),
        (normalised_weights, ([],), "log_weights must not be empty"),
        (effective_sample_size, (1.0,), "log_weights must have an axis of draws"),
        (log_mean_weight, (np.inf,), "log_weights must be finite"),
        (self_normalised_mean, ([0.0, 0.0], [[1.0]]), r"values must have shape \[.., 2, d\]"),
        (self_normalised_mean, ([0.0, 0.0], [1.0, 2.0]), "values must have shape"),
        (self_normalised_mean, ([0.0], [[np.nan]]), "values must be finite"),
        (pooled_mean, ([0.0, 0.0], [[1.0]]), "values must have shape"),
        (leave_one_out_weights, ([0.0],), "at least two draws"),
        (jackknife_weights, ([0.0],), "at least two draws"),
        (jackknife_corrected, (1.0, [1.0]), "M >= 2"),
        (jackknife_corrected, ([1.0, 2.0], [1.0, 2.0]), r"left_out must have shape"),
        (jackknife_corrected, (np.nan, [1.0, 2.0]), "value must be finite"),
        (chi_square, ([0.5, 0.6], [0.5, 0.5]), "target must sum to one"),
        (chi_square, ([0.5, 0.5], [1.5, -0.5]), "proposal must not be negative"),
        (chi_square, ([0.5, 0.5], [1.0, 0.0]), "proposal must be positive wherever target is"),
        (chi_square, ([0.5, 0.5], [1.0]), "on the same values"),
        (chi_square, ([[1.0]], [[1.0]]), "one axis"),
        (self_normalised_bias, ([1.0], [1.0], [[1.0]], 0.5), "count must be at least 1"),
        (self_normalised_variance, ([1.0], [1.0], [[1.0], [2.0]], 1), "values must have shape"),
        (limiting_sample_size, (0, 1.0), "count must be at least 1"),
        (limiting_sample_size, (10, -0.1), "divergence must not be negative"),
        (log_mean_weight_bias, (np.nan, 3), "divergence must be finite"),
    ],
)
def test_bad_input_raises(function, arguments, message):
    """Catches a number that comes out of input the statement does not cover, and a message without the name."""
    with pytest.raises(ValueError, match=message):
        function(*arguments)


@pytest.mark.parametrize("function", [self_normalised_bias, self_normalised_variance])
def test_less_than_one_draw_has_no_bias_and_no_variance(function):
    """Catches a number of draws that is only checked for being finite."""
    with pytest.raises(ValueError, match="count must be at least 1"):
        function([0.5, 0.5], [0.75, 0.25], [[0.0], [1.0]], count=0.5)
