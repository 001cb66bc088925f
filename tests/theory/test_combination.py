"""J estimators at once on single matrices: worked values, singular matrices, certificates, bad input."""

import numpy as np
import pytest

from bvpo_analysis.theory import combination, optimal_weight
from bvpo_analysis.theory.combination import (
    affine_combination,
    error_moments,
    scaling_combination,
    simplex_combination,
    weighted_moments,
)

THREE = np.array([[2.0, 0.5, 0.2], [0.5, 1.0, 0.8], [0.2, 0.8, 3.0]])


def test_worked_values_of_three_estimators():
    """Catches a wrong border of the linear system: against M^-1 1 / 1'M^-1 1 of an invertible matrix."""
    expected = np.linalg.solve(THREE, np.ones(3))
    best = affine_combination(THREE)
    np.testing.assert_allclose(best.weights, expected / expected.sum(), rtol=1e-12)
    assert best.value == pytest.approx(1 / expected.sum(), rel=1e-12)
    assert best.multiplier == pytest.approx(best.value, rel=1e-12)
    assert not best.active.any()


def test_the_simplex_drops_an_estimator_that_affine_weights_subtract():
    """Catches clipping a negative weight to zero without solving again for the others."""
    moments = np.array([[1.0, 1.2, 0.4], [1.2, 4.0, 0.3], [0.4, 0.3, 2.0]])
    free, best = affine_combination(moments), simplex_combination(moments)
    assert free.weights[1] < 0
    np.testing.assert_array_equal(best.active, [False, True, False])
    pair = float(optimal_weight(1.0, 2.0, 0.4))
    np.testing.assert_allclose(best.weights, [pair, 0.0, 1 - pair], atol=1e-12)
    clipped = np.maximum(free.weights, 0) / np.maximum(free.weights, 0).sum()
    assert best.value < clipped @ moments @ clipped - 1e-4


@pytest.mark.parametrize("solve", [affine_combination, simplex_combination])
def test_g63_an_exact_estimator_has_value_zero(solve):
    """Catches the pseudo-inverse formula, which gives 1 for M = diag(0, 1)."""
    best = solve(np.diag([0.0, 1.0]))
    assert best.value == pytest.approx(0.0, abs=1e-15)
    np.testing.assert_allclose(best.weights, [1.0, 0.0], atol=1e-15)


@pytest.mark.parametrize("solve", [affine_combination, simplex_combination])
def test_singular_matrices_have_a_solution(solve):
    """Catches division by a singular matrix: no errors at all, equal estimators, a duplicated best one."""
    np.testing.assert_allclose(solve(np.zeros((3, 3))).weights.sum(), 1.0, rtol=1e-14)
    assert solve(np.zeros((3, 3))).value == 0.0
    assert solve(np.ones((4, 4))).value == pytest.approx(1.0, rel=1e-14)
    twice = THREE[np.ix_([0, 1, 2, 1], [0, 1, 2, 1])]
    assert solve(twice).value == pytest.approx(solve(THREE).value, rel=1e-12)
    np.testing.assert_allclose(solve([[7.0]]).weights, [1.0], rtol=1e-14)


@pytest.mark.parametrize("scale", [1e-200, 1e-12, 1e12, 1e200])
def test_units_do_not_matter(scale):
    """Catches an absolute tolerance in the solver or in the checks."""
    for solve in (affine_combination, simplex_combination):
        best, scaled = solve(THREE), solve(THREE * scale)
        np.testing.assert_allclose(scaled.weights, best.weights, rtol=1e-12)
        assert scaled.value == pytest.approx(best.value * scale, rel=1e-12)
        assert scaled.residual <= 1e-13 * scale


def test_errors_of_very_different_sizes():
    """Catches a small error lost beside a large one: independent errors have weights in proportion to 1/error."""
    errors = np.array([1e-12, 1e-6, 1.0, 1e6])
    for solve in (affine_combination, simplex_combination):
        best = solve(np.diag(errors))
        np.testing.assert_allclose(best.weights, (1 / errors) / (1 / errors).sum(), rtol=1e-6, atol=1e-15)
        assert best.value == pytest.approx(1 / (1 / errors).sum(), rel=1e-6)


def test_affine_weights_keep_the_guarantee_where_rounding_hides_the_difference():
    """Catches an affine optimum above the simplex optimum: E|g_1 - g_2|^2 = 1e-18 is below the rounding of M."""
    moments = np.array([[1.0, 1.0 - 1e-9], [1.0 - 1e-9, 1.0 - 2e-9]])
    assert affine_combination(moments).value <= simplex_combination(moments).value
    assert simplex_combination(moments).value == pytest.approx(1 - 2e-9, abs=1e-12)


def test_the_certificate_bounds_the_distance_to_the_optimum():
    """Catches a residual that is not computed from the weights returned."""
    rng = np.random.default_rng(0)
    for _ in range(50):
        j = int(rng.integers(1, 9))
        vectors = rng.normal(size=(int(rng.integers(1, 9)), j)) + 0.5
        moments = vectors.T @ vectors
        best = simplex_combination(moments)
        slope = moments @ best.weights
        violation = max(
            0.0,
            float((best.multiplier - slope).max()),
            float(np.abs((slope - best.multiplier) * (best.weights > 0)).max()),
        )
        assert best.residual == pytest.approx(violation, abs=1e-13 * np.abs(moments).max())
        assert best.residual <= 1e-12 * np.abs(moments).max()
        np.testing.assert_array_equal(best.active, best.weights == 0)


def test_large_opposite_weights_announce_their_rounding():
    """Catches a value of nearly equal estimators that looks as exact as any other."""
    gap = 1e-7
    errors = np.array([[1.0, 1.0], [1.0, 1.0 + gap]])  # rows: coordinates; x_2 = x_1 + gap along the second
    best = affine_combination(errors.T @ errors)
    assert np.abs(best.weights).max() > 1e6
    assert best.rounding > 1e-4
    assert simplex_combination(errors.T @ errors).rounding < 1e-14


# --- the moments -----------------------------------------------------------------------------------------


def test_error_moments_are_centred_on_the_target():
    """Catches a dropped or doubled cross term."""
    q, u = np.array([[5.0, 2.0], [2.0, 3.0]]), np.array([1.5, 0.5])
    np.testing.assert_allclose(error_moments(q, u, 2.0), [[4.0, 2.0], [2.0, 4.0]], rtol=1e-15)


def test_weighted_moments_weigh_the_variance_only():
    """Catches kappa on the bias."""
    moments = weighted_moments([[1.0, 0.5], [0.5, 2.0]], [[4.0, 1.0], [1.0, 3.0]], kappa=0.1)
    np.testing.assert_allclose(moments, [[1.4, 0.6], [0.6, 2.3]], rtol=1e-15)


def test_scaling_is_the_affine_mix_with_a_zero_estimator():
    """Catches an unconstrained optimum of the wrong sign or without the target's shrinkage."""
    q, u = np.array([[5.0, 2.0], [2.0, 3.0]]), np.array([1.5, 0.5])
    scaled = scaling_combination(q, u, 2.0)
    np.testing.assert_allclose(scaled.weights, np.linalg.solve(q, u), rtol=1e-12)
    assert scaled.residual < 1e-14
    extended = error_moments(np.pad(q, (0, 1)), np.append(u, 0.0), 2.0)
    affine = affine_combination(extended)
    np.testing.assert_allclose(affine.weights[:2], scaled.weights, rtol=1e-12)
    assert affine.value == pytest.approx(scaled.value, rel=1e-12)
    assert affine.multiplier == pytest.approx(scaled.multiplier, rel=1e-12)


def test_scaling_of_degenerate_estimators():
    """Catches division by zero: estimators that vanish, that coincide, and a target that vanishes."""
    nothing = scaling_combination(np.zeros((2, 2)), np.zeros(2), 3.0)
    assert nothing.weights.tolist() == [0.0, 0.0]
    assert nothing.value == 3.0
    equal = scaling_combination(np.full((2, 2), 4.0), np.full(2, 1.0), 1.0)
    np.testing.assert_allclose(equal.weights, [0.125, 0.125], rtol=1e-12)
    assert equal.value == pytest.approx(0.75, rel=1e-12)
    assert scaling_combination(THREE, np.zeros(3), 0.0).value == 0.0


# --- bad input -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("solve", [affine_combination, simplex_combination])
@pytest.mark.parametrize(
    ("moments", "message"),
    [
        ([[1.0, np.nan], [np.nan, 1.0]], "moments must be finite"),
        ([[1.0, 0.0], [0.0, np.inf]], "moments must be finite"),
        (np.zeros((0, 0)), "moments must not be empty"),
        ([1.0, 2.0], "moments must be a square matrix"),
        ([[1.0, 2.0]], "moments must be a square matrix"),
        ([[1.0, 0.2], [0.1, 1.0]], "moments must be symmetric"),
        ([[1.0, 1.1], [1.1, 1.0]], "moments must be positive semidefinite"),
        ([[-1.0]], "moments must be positive semidefinite"),
    ],
)
def test_what_is_no_moment_matrix_raises(solve, moments, message):
    """Catches a number that comes out of NaN, or out of a matrix that no errors have."""
    with pytest.raises(ValueError, match=message):
        solve(moments)


def test_rounding_of_a_moment_matrix_is_forgiven():
    """Catches a check without slack: rank one, computed in float64."""
    x = np.random.default_rng(0).normal(size=(1, 6))
    moments = x.T @ x
    moments[0, 1] *= 1 + 1e-15
    assert simplex_combination(moments).value >= 0.0
    assert affine_combination(moments).value == pytest.approx(0.0, abs=1e-12)


@pytest.mark.parametrize("function", [error_moments, scaling_combination])
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (([[1.0]], [2.0], 1.0), "signals violates Cauchy-Schwarz"),
        (([[1.0, 1.0], [1.0, 1.0]], [0.5, -0.5], 1.0), "signals violates Cauchy-Schwarz"),
        (([[1.0]], [0.5], 0.0), "signals violates Cauchy-Schwarz"),
        (([[1.0]], [0.5, 0.5], 1.0), "signals must have shape"),
        (([[1.0]], [np.nan], 1.0), "signals must be finite"),
        (([[1.0]], [0.5], -1.0), "target_sq must not be negative"),
        (([[1.0]], [0.5], [1.0, 2.0]), "target_sq must be a number"),
        (([[-1.0]], [0.5], 1.0), "second_moments must be positive semidefinite"),
    ],
)
def test_a_target_that_contradicts_the_products_raises(function, arguments, message):
    """Catches moments of different targets or estimators put together."""
    with pytest.raises(ValueError, match=message):
        function(*arguments)


@pytest.mark.parametrize(
    ("bias", "noise", "kappa", "message"),
    [
        ([[1.0]], [[1.0]], 0.0, "kappa must be positive"),
        ([[1.0]], [[1.0]], np.nan, "kappa must be finite"),
        ([[-1.0]], [[1.0]], 1.0, "bias_gram must be positive semidefinite"),
        ([[1.0]], [[-1.0]], 1.0, "covariance must be positive semidefinite"),
        ([[1.0]], np.eye(2), 1.0, "covariance must have the shape of bias_gram"),
    ],
)
def test_weighted_moments_refuse_what_is_none(bias, noise, kappa, message):
    """Catches a bias Gram and a covariance that do not belong together."""
    with pytest.raises(ValueError, match=message):
        weighted_moments(bias, noise, kappa)


def test_residual_and_rounding_are_different_things():
    """Catches the two swapped: the first is what the solver left, the second what the digits of M allow."""
    best = simplex_combination(np.diag([1.0, 2.0]))
    assert best.residual <= 1e-14
    assert best.rounding == pytest.approx(2 * np.finfo(float).eps * 2.0, rel=1e-12)
    assert affine_combination(np.diag([1.0, 2.0])).rounding == pytest.approx(best.rounding, rel=1e-12)


def test_a_violated_condition_is_a_residual():
    """Catches a residual that forgets the estimators outside the support, which would pass a wrong optimum."""
    m = np.array([[2.0, 0.0], [0.0, 1.0]])
    assert combination._kkt_residual(m, np.array([1.0, 0.0])) == pytest.approx(2.0)
    assert combination._kkt_residual(m, np.array([1.0, 2.0]) / 3) == pytest.approx(0.0, abs=1e-15)
