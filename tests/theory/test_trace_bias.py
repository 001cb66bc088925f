"""Trace bias in closed form on single inputs: worked values, extreme numbers, bad input."""

import numpy as np
import pytest

from bvpo_analysis.theory import empty_trace, trace_bias
from bvpo_analysis.theory.trace_laws import LossAtReference, TraceLaw, difference_covariance, posterior_divergence

DPO = LossAtReference.dpo(2.0)
WIDE = TraceLaw([0.5, 0.5], [[0.0, 0.0], [2.0, 0.0]])  # C = diag(1, 0)
TALL = TraceLaw([0.5, 0.5], [[0.0, 0.0], [0.0, 4.0]])  # C = diag(0, 4)
DIAGONAL = np.diag([0.5, 0.5])


def test_losses_have_the_slope_and_curvature_of_their_derivatives():
    """Catches beta for beta/2, beta^2/2 for beta^2/4, and IPO's curvature taken for 1."""
    h = 1e-4
    for beta in (0.1, 1.0, 3.0):
        for loss, shape in (
            (lambda u, b=beta: np.logaddexp(0.0, -b * u), LossAtReference.dpo(beta)),
            (lambda u, b=beta: (u - 0.5 / b) ** 2, LossAtReference.ipo(beta)),
        ):
            assert (loss(-h) - loss(h)) / (2 * h) == pytest.approx(shape.slope, rel=1e-6)
            assert (loss(h) - 2 * loss(0.0) + loss(-h)) / h**2 == pytest.approx(shape.curvature, rel=1e-5)


def test_worked_values_at_the_reference():
    """Catches a square that is missing on the slope, and a covariance counted once instead of twice."""
    np.testing.assert_allclose(difference_covariance(WIDE, TALL), np.diag([1.0, 4.0]))
    np.testing.assert_allclose(difference_covariance(WIDE, TALL, DIAGONAL), [[1.0, -2.0], [-2.0, 4.0]])
    assert trace_bias.trace_variance_at_reference(WIDE, TALL, LossAtReference.dpo(4.0)) == 4 * 5.0
    assert trace_bias.trace_variance_at_reference(WIDE, WIDE, DPO) == 2.0
    assert trace_bias.trace_variance_at_reference(WIDE, WIDE, DPO, DIAGONAL) == 0.0
    assert trace_bias.trace_variance_at_reference(WIDE, WIDE, DPO, DIAGONAL[::-1]) == 4.0


def test_worked_values_off_the_reference():
    """Catches the two terms exchanged, and the rejected covariance with the sign of the chosen one."""
    d = [1.0, 1.0]
    np.testing.assert_allclose(trace_bias.on_policy_trace_bias(WIDE, TALL, d, DPO), [1.0, 4.0])
    np.testing.assert_allclose(trace_bias.on_policy_trace_bias(WIDE, TALL, d, LossAtReference.dpo(4.0)), [4.0, 16.0])
    np.testing.assert_allclose(trace_bias.offline_trace_bias(WIDE, TALL, d, DPO), [2.0, 0.0])
    np.testing.assert_allclose(trace_bias.offline_trace_bias(WIDE, TALL, d, DPO, DIAGONAL), [0.0, -2.0])


def test_worked_value_with_prior_traces():
    """Catches chosen and rejected exchanged, and likelihoods that are not normalised by the evidence."""
    bias = trace_bias.prior_trace_bias(WIDE, TALL, [0.1, 0.3], [0.0, 0.7], DPO)
    np.testing.assert_allclose(bias, [0.5, -2.0])  # w+ = (.5, 1.5), w- = (0, 2)
    np.testing.assert_array_equal(trace_bias.prior_trace_bias(WIDE, TALL, [0.3, 0.3], [0.2, 0.2], DPO), [0.0, 0.0])


def test_worked_value_for_small_beta():
    """Catches the forgotten shift of the means by KL+ - KL-."""
    rho = np.log([1.5, 0.5])
    kl = 0.5 * (rho[0] + rho[1]) + np.log(0.5 / 1.5 + 0.5 / 0.5)
    bias = trace_bias.small_beta_bias(WIDE, TALL, rho, [0.3, 0.3], DPO)
    np.testing.assert_allclose(bias, np.array([-np.log(3) / 2, 0.0]) + kl * np.array([1.0, -2.0]), rtol=1e-12)
    dependent = trace_bias.small_beta_bias(WIDE, TALL, rho, [0.3, 0.3], DPO, DIAGONAL)
    np.testing.assert_allclose(dependent - bias, [0.0, np.log(3)], atol=1e-12)


def test_a_divergence_keeps_its_digits():
    """Catches a small divergence lost against 1, an overflow, and an unlikely trace that is not counted."""
    tiny = posterior_divergence([0.5, 0.5], [0.0, 1e-6])
    assert tiny == pytest.approx(1e-12 / 8, rel=1e-5)
    assert posterior_divergence([0.5, 0.5], [2000.0, 0.0]) == pytest.approx(1000 - np.log(2), rel=1e-12)
    assert posterior_divergence([1.0, 0.0], [0.0, -1e5]) == 0.0
    assert posterior_divergence([0.25, 0.75], [1e4, 1e4]) == 0.0
    p, q = np.array([0.2, 0.3, 0.5]), np.array([0.6, 0.3, 0.1])
    for shift in (0.0, 7.0, -300.0):
        assert posterior_divergence(p, np.log(p / q) + shift) == pytest.approx(p @ np.log(p / q), rel=1e-9)


def test_the_loss_on_traces_lies_above_the_bound_and_meets_it_where_nothing_varies():
    """Catches KL with the sign of the other side: more divergence of the chosen posterior raises the loss."""
    assert float(trace_bias.trace_loss_lower_bound(0.3, 0.0, 0.0, 1.0)) == pytest.approx(np.log1p(np.exp(-0.3)))
    low, high = trace_bias.trace_loss_lower_bound(0.3, [0.0, 1.0], [1.0, 0.0], 2.0)
    assert low == pytest.approx(np.log1p(np.exp(-2.3)))
    assert high == pytest.approx(np.log1p(np.exp(1.7)))
    assert float(trace_bias.trace_loss_lower_bound(-1e4, 0.0, 0.0, 1.0)) == 1e4


def test_worked_values_of_the_empty_trace():
    """Catches the ascent sign, the weight of g_e for that of g_t, and p0/(1 - p0) for its inverse."""
    np.testing.assert_allclose(empty_trace.empty_trace_bias([3.0, 1.0], [1.0, 1.0], DPO), [-2.0, 0.0])
    several = empty_trace.empty_trace_bias([[3.0, 1.0], [5.0, 1.0]], [[1.0, 1.0]], DPO)
    np.testing.assert_allclose(several, [[-2.0, 0.0], [-4.0, 0.0]])
    assert float(empty_trace.initial_weight(gap_sq=3.0, score_var=1.0)) == 0.75
    np.testing.assert_array_equal(empty_trace.initial_weight([0.0, 1.0, 0.0], [0.0, 0.0, 1.0]), [0.5, 1.0, 0.0])
    np.testing.assert_allclose(
        empty_trace.initial_weight([5e-324, 1e-300, 1e308], [0.0, 3e-300, 1e308]), [1, 0.25, 0.5]
    )
    assert float(empty_trace.largest_gap(0.2, 3.0)) == pytest.approx(12.0)
    assert float(empty_trace.largest_gap(1.0, 3.0)) == 0.0
    np.testing.assert_allclose(empty_trace.largest_initial_weight(0.5, [0.5, 1.0, 1e-300]), [2 / 3, 0.5, 1.0])
    assert float(empty_trace.largest_initial_weight(1e-200, 1e-200)) == 1.0


def test_the_weighted_samuelson_bound_is_attained_by_two_traces():
    """Catches a constant that is too large: e = s_0 - sbar = -(1 - p0), Tr C = p0 (1 - p0)."""
    for p0 in (0.01, 0.3, 0.9):
        law = TraceLaw([p0, 1 - p0], [[0.0], [1.0]])
        assert float(empty_trace.largest_gap(p0, law.variance)) == pytest.approx((1 - p0) ** 2, rel=1e-12)


def test_the_largest_initial_weight_is_attained():
    """Catches k+ k- for k+ + k-: two traces per side, opposite gaps, Tr C+ / Tr C- = k+ / k-."""
    first, second = 0.3, 0.6
    sides = TraceLaw([first, 1 - first], [[0.0], [1 / first]]), TraceLaw([second, 1 - second], [[0.0], [-1 / second]])
    gap = sides[0].centred[0] - sides[1].centred[0]
    weight = empty_trace.initial_weight(float(gap @ gap), sides[0].variance + sides[1].variance)
    assert float(weight) == pytest.approx(float(empty_trace.largest_initial_weight(first, second)), rel=1e-12)


def test_posterior_variance_from_tokens():
    """Catches a sum over the wrong axis."""
    result = empty_trace.posterior_variance_from_tokens([[1.0, 2.0], [3.0, 0.0], [1.0, 1.0]], [3.0, 1.0, 0.5])
    np.testing.assert_array_equal(result, [0.0, 2.0, 1.5])
    # Equal energies may come out a rounding apart.
    equal = empty_trace.posterior_variance_from_tokens([1.0, 1.0], 2.0 * (1 + 1e-13))
    assert float(equal) == pytest.approx(0.0, abs=1e-12)


# --- bad input -------------------------------------------------------------------------------------------

ONE = TraceLaw([1.0], [[0.0]])
OTHER = TraceLaw([0.4, 0.6], [[0.0, 0.0], [0.0, 4.0]])


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: LossAtReference(0.0, 1.0), "slope must be positive"),
        (lambda: LossAtReference(1.0, -1.0), "curvature must not be negative"),
        (lambda: LossAtReference.dpo(0.0), "beta must be positive"),
        (lambda: LossAtReference.ipo(0.0), "beta must be positive"),
        (lambda: LossAtReference.ipo(-1.0), "beta must be positive"),
        (lambda: LossAtReference.ipo(np.nan), "beta must be finite"),
        (lambda: TraceLaw([0.5, 0.4], np.zeros((2, 1))), "sum to one"),
        (lambda: TraceLaw([1.5, -0.5], np.zeros((2, 1))), "probabilities must not be negative"),
        (lambda: TraceLaw([[1.0]], np.zeros((1, 1))), "probabilities must have one axis"),
        (lambda: TraceLaw([], np.zeros((0, 1))), "probabilities must not be empty"),
        (lambda: TraceLaw([0.5, 0.5], np.zeros((3, 1))), "scores must have shape"),
        (lambda: TraceLaw([1.0], [[np.inf]]), "scores must be finite"),
        (lambda: WIDE.covariance_with([1.0]), "values must have one number per trace"),
        (lambda: difference_covariance(WIDE, ONE), "scores must have one length"),
        (lambda: difference_covariance(WIDE, TALL, [[0.5, 0.5]]), "joint must have shape"),
        (lambda: difference_covariance(WIDE, TALL, [[0.5, 0.5], [0.0, 0.0]]), "marginals"),
        (lambda: difference_covariance(WIDE, TALL, [[0.6, -0.1], [0.0, 0.5]]), "joint must not be negative"),
        (lambda: trace_bias.prior_trace_bias(WIDE, TALL, [0.0, 0.0], [1.0, 1.0], DPO), "likelihood_chosen must be pos"),
        (lambda: trace_bias.prior_trace_bias(WIDE, TALL, [1.0, 1.0], [-1.0, 1.0], DPO), "likelihood_rejected must not"),
        (lambda: trace_bias.prior_trace_bias(WIDE, TALL, [1.0], [1.0, 1.0], DPO), "likelihood_chosen must have one"),
        (lambda: trace_bias.prior_trace_bias(WIDE, OTHER, [1.0, 1.0], [1.0, 1.0], DPO), "probabilities of chosen"),
        (lambda: trace_bias.prior_trace_bias(WIDE, ONE, [1.0, 1.0], [1.0], DPO), "scores must have one length"),
        (lambda: trace_bias.offline_trace_bias(WIDE, TALL, [1.0], DPO), "displacement must have the length"),
        (lambda: trace_bias.on_policy_trace_bias(WIDE, TALL, [1.0, np.nan], DPO), "displacement must be finite"),
        (lambda: trace_bias.small_beta_bias(WIDE, TALL, [1.0], [1.0, 2.0], DPO), "log_ratios_chosen must have one"),
        (lambda: trace_bias.small_beta_bias(WIDE, TALL, [1.0, 2.0], [1.0, np.inf], DPO), "log_ratios_rejected must be"),
        (lambda: trace_bias.small_beta_remainder(WIDE, TALL, [1.0, 2.0], [1.0, 2.0], -1.0), "beta must be positive"),
        (lambda: posterior_divergence([0.5, 0.5], [0.0]), "scores must have shape"),
        (lambda: posterior_divergence([1.0], [np.nan]), "log_ratios must be finite"),
        (lambda: trace_bias.trace_loss_lower_bound(0.0, -1.0, 0.0, 1.0), "divergence_chosen must not be negative"),
        (lambda: trace_bias.trace_loss_lower_bound(0.0, 1.0, 0.0, 0.0), "beta must be positive"),
        (lambda: empty_trace.empty_trace_bias([1.0], [1.0, 2.0], DPO), "gap_rejected must have the shape"),
        (lambda: empty_trace.initial_weight(-1.0, 1.0), "gap_sq must not be negative"),
        (lambda: empty_trace.initial_weight(np.inf, 1.0), "gap_sq must be finite"),
        (lambda: empty_trace.largest_gap(0.0, 1.0), "mass must be in"),
        (lambda: empty_trace.largest_gap(0.5, -1.0), "score_var must not be negative"),
        (lambda: empty_trace.largest_initial_weight(0.5, 1.1), "mass_rejected must be in"),
        (lambda: empty_trace.posterior_variance_from_tokens([1.0, 1.0], 2.1), "marginal_energy must not exceed"),
        (lambda: empty_trace.posterior_variance_from_tokens(1.0, 1.0), "one number per position"),
    ],
)
def test_bad_input_is_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()
