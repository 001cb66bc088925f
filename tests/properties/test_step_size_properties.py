"""Invariants of the weight under a step size: bias counts once, variance kappa times. G21 to G26."""

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from strategies import ENTRIES, KAPPAS, REL, Law, close, laws, two_ended

from bvpo_analysis import theory
from bvpo_analysis.theory.combination import simplex_combination, weighted_moments
from bvpo_analysis.theory.step_size import (
    bias_optimal_weight,
    scheduled_weights,
    step_size_regret,
    step_size_regret_factor,
    variance_optimal_weight,
    weight_path,
    weight_shift,
)

BIASES, VARIANCES = ("bias_t_sq", "bias_e_sq", "bias_inner"), ("var_t", "var_e", "cov_te")


def weighted_error(law: Law, alpha: float, kappa: float) -> float:
    """F_kappa(alpha) from vectors."""
    mixed = alpha * law.t + (1 - alpha) * law.e
    bias = law.p @ mixed - law.mu
    return float(bias @ bias) + kappa * law.cov(mixed, mixed)


@given(laws(atoms=(2, 4)))
def test_g21_weight_moves_from_bias_optimum_to_variance_optimum(law):
    """Catches kappa on the bias or on D as a whole: the direction would turn round."""
    bias, d0, variance, d1 = two_ended(law).ends
    kappas = np.logspace(-6, 6, 25)
    path = theory.weighted_optimal_weight(**law.moments, kappa=kappas)
    expected = (bias * d0 + kappas * d1 * variance) / (d0 + kappas * d1)
    scale = max(1.0, abs(bias), abs(variance))
    np.testing.assert_allclose(path, expected, rtol=0, atol=REL * scale)
    assert (np.diff(path) * np.sign(variance - bias) >= -REL * scale).all()
    first, last = theory.weighted_optimal_weight(**law.moments, kappa=np.array([1e-10, 1e10]) * d0 / d1)
    assert abs(float(first) - bias) <= 1e-8 * scale
    assert abs(float(last) - variance) <= 1e-8 * scale


@given(laws(atoms=(2, 4)))
def test_g21_the_ends_minimise_bias_and_variance_of_explicit_mixes(law):
    """Catches swapped ends, p0 with b_t for b_e, and the sign of the direction."""
    bias, d0, variance, d1 = two_ended(law).ends
    path = weight_path(**law.moments)
    ends = (
        bias_optimal_weight(**{name: law.moments[name] for name in BIASES}),
        variance_optimal_weight(**{name: law.moments[name] for name in VARIANCES}),
    )
    scale = max(1.0, abs(bias), abs(variance))
    for found in ((path.bias_end, path.variance_end), ends):
        np.testing.assert_allclose([float(x) for x in found], [bias, variance], rtol=0, atol=REL * scale)
    assert abs(float(path.bias_distance) - d0) <= REL * law.scale
    assert abs(float(path.variance_distance) - d1) <= REL * law.scale
    if abs(bias - variance) > 1e-8 * scale:
        assert float(path.direction) == np.sign(bias - variance)
    for step in (-0.5, 0.5):
        at_bias, off_bias = (weighted_error(law, bias + x, 0.0) for x in (0.0, step))
        assert abs(off_bias - at_bias - d0 * step**2) <= REL * law.scale * scale**2


@given(laws(atoms=(2, 4)), st.lists(st.floats(0.0, 1.0), min_size=2, max_size=6))
def test_g21_a_decreasing_schedule_moves_the_weight_towards_the_bias_optimum(law, shares):
    """Catches a schedule in the wrong direction, and a smoothness that is left out of kappa."""
    bias, _, variance, _ = two_ended(law).ends
    smoothness = 40.0
    eta = np.sort(shares)[::-1] / smoothness
    weights = scheduled_weights(eta, smoothness, **law.moments)
    scale = max(1.0, abs(bias), abs(variance))
    assert (np.diff(weights) * np.sign(bias - variance) >= -REL * scale).all()
    for weight, kappa in zip(weights, eta * smoothness, strict=True):
        least = weighted_error(law, float(weight), kappa)
        for step in (-0.1, 0.1):
            assert least <= weighted_error(law, float(weight) + step, kappa) + REL * law.scale * scale**2


@given(laws())
def test_g22_without_weighting_it_is_the_mse_optimum(law):
    """Catches (A - B)/D in one of the two forms, and a cross moment without <b_t, b_e>."""
    assert close(float(theory.weighted_optimal_weight(**law.moments)), law.alpha)
    dual = theory.optimal_weight_from_distance(
        law.mean_product(law.t - law.mu, law.t - law.e), law.distance, law.error_t + law.error_e
    )
    assert close(float(dual), law.alpha)


@given(laws(atoms=(2, 4)), KAPPAS)
def test_g22_the_optima_differ_unless_kappa_is_one_or_the_ends_agree(law, k):
    """Catches a lost (1 - kappa), and the roles of the ends: Theorem 4 with its condition."""
    bias, d0, variance, d1 = two_ended(law).ends
    first, best = ((d0 * bias + x * d1 * variance) / (d0 + x * d1) for x in (1.0, k))
    shift = float(weight_shift(**law.moments, kappa=k))
    scale = max(1.0, abs(bias), abs(variance))
    assert abs(shift - (best - first)) <= REL * scale
    assert float(weight_shift(**law.moments, kappa=1.0)) == 0.0
    if abs(bias - variance) > 1e-8 * scale and k != 1:
        assert np.sign(shift) == np.sign((1 - k) * (bias - variance))


@given(laws(atoms=(2, 4)), KAPPAS)
def test_g23_price_of_the_mse_optimum_under_weighted_variance(law, k):
    """Catches a wrong place of kappa in the regret, the curve or the optimum: against explicit mixes."""
    bias, d0, variance, d1 = two_ended(law).ends
    first, best = (float(theory.weighted_optimal_weight(**law.moments, kappa=x)) for x in (1.0, k))
    excess = weighted_error(law, first, k) - weighted_error(law, best, k)
    bound = REL * max(1, first**2, best**2) * max(1, k) * law.scale
    assert abs(excess - float(step_size_regret(**law.moments, kappa=k))) <= bound
    expected = d0**2 * d1**2 * (1 - k) ** 2 * (variance - bias) ** 2 / ((d0 + d1) ** 2 * (d0 + k * d1))
    assert abs(excess - expected) <= bound


@given(laws(), KAPPAS)
def test_g24_that_price_is_bounded_clipped_or_not(law, k):
    """Catches the same through the sharp bound (1 + k)^2/(4k)."""
    first, best = (float(theory.weighted_optimal_weight(**law.moments, kappa=x)) for x in (1.0, k))
    factor = float(step_size_regret_factor(k))
    for a, b in ((first, best), (float(np.clip(first, 0, 1)), float(np.clip(best, 0, 1)))):
        slack = 1e-12 * max(1, a * a) * max(1, k, 1 / k) * law.scale
        assert weighted_error(law, a, k) <= factor * weighted_error(law, b, k) * (1 + 1e-9) + slack


@st.composite
def three_estimators(draw: st.DrawFn):
    """Probabilities [n], three estimators [3, n, d] and a target [d]."""
    n, d = draw(st.integers(1, 4)), draw(st.integers(1, 4))
    p = np.array(draw(st.lists(st.integers(1, 9), min_size=n, max_size=n)), dtype=float)
    g = draw(hnp.arrays(float, (3, n, d), elements=ENTRIES))
    return p / p.sum(), g, draw(hnp.arrays(float, d, elements=ENTRIES))


def grid_of_the_simplex(points: int) -> np.ndarray:
    first, second = np.meshgrid(np.linspace(0, 1, points), np.linspace(0, 1, points))
    grid = np.stack([first.ravel(), second.ravel(), 1 - first.ravel() - second.ravel()], axis=1)
    return grid[grid[:, 2] >= 0]


SIMPLEX = grid_of_the_simplex(31)


@given(three_estimators(), KAPPAS)
@settings(max_examples=60)
def test_g24_three_estimators_on_the_simplex_pay_no_more(case, k):
    """Catches a bound for two estimators only, and simplex weights that are no optimum: against a grid of mixes."""
    p, g, mu = case
    bias = np.einsum("n,jnd->jd", p, g) - mu
    centred = g - np.einsum("n,jnd->jd", p, g)[:, None]
    gram, covariance = bias @ bias.T, np.einsum("n,ind,jnd->ij", p, centred, centred)

    def error(weights: np.ndarray) -> np.ndarray:
        mixed, spread = weights @ bias, np.einsum("aj,jnd->and", weights, centred)
        return (mixed**2).sum(axis=1) + k * np.einsum("n,and,and->a", p, spread, spread)

    first, best = (simplex_combination(weighted_moments(gram, covariance, x)).weights[None] for x in (1.0, k))
    scale = float((p @ (g**2).sum(axis=2).T).sum() + mu @ mu)
    slack = 1e-7 * max(1, k) * scale
    assert error(best)[0] <= error(SIMPLEX).min() + slack
    # The weights solve a quadratic programme to 1e-8 of its matrix; against a small optimum that is what remains.
    assert error(first)[0] <= float(step_size_regret_factor(k)) * (error(best)[0] * (1 + 1e-9) + 1e-8 * scale)


@given(laws(atoms=(2, 2)), KAPPAS, st.sampled_from([-3.0, -0.5, 0.0, 0.5, 2.0]), st.integers(0, 2**32 - 1))
def test_g25_the_bound_is_attained_in_any_dimension(law, k, along, seed):
    """Catches a bound that holds because the regret is understated: S_e = 0, |b_e - b_t|^2 = S_t, biases on a line."""
    noise = law.t - law.p @ law.t
    size = np.sqrt(law.cov(law.t, law.t))
    assume(size > 1e-3 * np.sqrt(law.scale))
    towards = np.random.default_rng(seed).normal(size=len(law.mu))
    shift = size * towards / np.linalg.norm(towards)
    extremal = Law(law.p, noise, np.broadcast_to(shift, noise.shape), along * shift)
    first, best = (float(theory.weighted_optimal_weight(**extremal.moments, kappa=x)) for x in (1.0, k))
    ratio = weighted_error(extremal, first, k) / weighted_error(extremal, best, k)
    assert ratio == pytest.approx(float(step_size_regret_factor(k)), rel=REL)


@pytest.mark.parametrize(("kappa", "factor"), [(0.5, 1.125), (0.1, 3.025), (0.01, 25.5025)])
def test_g25_the_price_at_three_step_sizes(kappa, factor):
    """Catches a factor with kappa and 1/kappa mixed up, by its worked values on explicit vectors."""
    law = Law(np.array([0.5, 0.5]), np.array([[1.0], [-1.0]]), np.ones((2, 1)), np.zeros(1))
    best = float(theory.weighted_optimal_weight(**law.moments, kappa=kappa))
    assert law.alpha == 0.5
    assert weighted_error(law, 0.5, kappa) / weighted_error(law, best, kappa) == pytest.approx(factor, rel=1e-12)


@given(laws(atoms=(2, 4)))
def test_g26_vanishing_steps_do_not_mix_an_unbiased_trace_gradient(law):
    """Catches kappa on the bias: with b_t = 0, (1 - alpha_k)/k -> (S_t - S_te)/|b_e|^2, and alpha_k -> 1."""
    unbiased = Law(law.p, law.t, law.e, law.p @ law.t)
    _, d0, _, d1 = two_ended(unbiased).ends
    k = 1e-6 * d0 / max(d1, d0)
    alpha = float(theory.weighted_optimal_weight(**unbiased.moments, kappa=k))
    slope = unbiased.cov(unbiased.t, unbiased.t - unbiased.e) / d0
    assert abs((1 - alpha) / k - slope) <= 1e-5 * max(abs(slope), 1.0) * max(1.0, d1 / d0)
    assert abs(1 - alpha) <= 1e-5 * max(1.0, abs(slope))
