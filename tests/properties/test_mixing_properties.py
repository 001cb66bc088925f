"""Invariants of the convex mix on finite laws of (g_t, g_e): the closed forms against sums over explicit vectors.

Numbered G1 to G24.
"""

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from strategies import ENTRIES, KAPPAS, REL, WEIGHTS, Law, close, laws, two_ended

from bvpo_analysis import theory


@given(laws(), WEIGHTS)
def test_g01_curve_is_the_mean_squared_error_of_the_mix(law, a):
    """Catches a dropped, doubled or sign-flipped cross term, and swapped weights."""
    assert abs(law.curve(a) - law.mse(a)) <= REL * max(1, a * a) * law.scale


@given(laws(), WEIGHTS)
def test_g01_the_curve_from_bias_and_covariance_is_the_same(law, a):
    """Catches a dropped or doubled S_te, and a bias product left out of the cross moment."""
    split = float(theory.weighted_error_curve(a, **law.moments))
    assert abs(split - law.mse(a)) <= REL * max(1, a * a) * law.scale


@given(laws(), WEIGHTS)
def test_g02_regret_is_a_parabola_around_the_optimum(law, a):
    """Catches (A - B)/D for (C - B)/D, and an optimum that is clipped before errors are taken."""
    excess = law.mse(a) - law.mse(law.alpha)
    bound = REL * max(1, a * a, law.alpha**2) * law.scale
    assert abs(excess - float(theory.regret(a, law.alpha, law.distance))) <= bound


@given(laws())
def test_g03_value_at_the_optimum(law):
    """Catches a wrong optimum through its value (AC - B^2)/D."""
    best = (law.error_t * law.error_e - law.cross**2) / law.distance
    assert abs(law.mse(law.alpha) - best) <= 1e-6 * law.scale
    assert best >= -REL * law.scale


@given(laws())
def test_g04_clipping_gives_the_best_weight_of_the_unit_interval(law):
    """Catches clipping to the wrong end."""
    best = float(np.clip(law.alpha, 0, 1))
    grid = np.linspace(0, 1, 101)
    values = theory.error_curve(grid, law.error_t, law.error_e, law.cross)
    assert (law.curve(best) <= values + 1e-12 * max(law.error_t, law.error_e)).all()


@given(laws())
def test_g05_mixing_helps_exactly_when_the_cross_moment_is_small(law):
    """Catches an optimum on the wrong side (Corollary 1), and a wrong gain."""
    better = min(law.error_t, law.error_e)
    assume((better - law.cross) ** 2 > REL * better * law.distance)
    gain = better - law.curve(float(np.clip(law.alpha, 0, 1)))
    slack = REL * law.scale
    if law.cross < better:
        assert gain > 0
        assert abs(gain - (better - law.cross) ** 2 / law.distance) <= slack
    else:
        assert abs(gain) <= slack


@given(laws())
def test_g06_the_optimum_leaves_the_unit_interval_iff_the_cross_moment_is_large(law):
    """Catches swapped roles of A and C."""
    if abs(law.cross - law.error_t) > REL * law.scale:
        assert (law.alpha > 1) == (law.cross > law.error_t)
    if abs(law.cross - law.error_e) > REL * law.scale:
        assert (law.alpha < 0) == (law.cross > law.error_e)


@given(laws())
def test_g07_swapping_the_estimators_mirrors_the_weight(law):
    """Catches an asymmetric denominator."""
    assert close(float(theory.optimal_weight(law.error_e, law.error_t, law.cross)), 1 - law.alpha)


@given(laws(), st.floats(0.01, 100), st.booleans(), st.integers(0, 2**32 - 1))
def test_g08_rotation_scaling_and_shift_leave_the_weight_alone(law, factor, negative, seed):
    """Catches a weight that depends on units or on the origin, such as one built from uncentred moments."""
    rng = np.random.default_rng(seed)
    d = len(law.mu)
    q, _ = np.linalg.qr(rng.normal(size=(d, d)))
    c = -factor if negative else factor
    v = rng.normal(size=d) * np.sqrt(law.scale)
    moved = Law(law.p, c * law.t @ q + v, c * law.e @ q + v, c * law.mu @ q + v)
    slack = 1e-7 * max(1, abs(law.alpha)) * max(1, float(v @ v) / (c * c * law.scale))
    assert abs(moved.alpha - law.alpha) <= slack
    bound = slack * max(1, law.alpha**2) * c * c * law.scale
    assert abs(moved.mse(moved.alpha) - c * c * law.mse(law.alpha)) <= bound


@given(laws(), hnp.arrays(float, 6, elements=ENTRIES))
def test_g09_the_target_enters_through_one_inner_product(law, move):
    """Catches the sign of the target's influence: alpha*(mu + v) - alpha*(mu) = <v, E[g_t - g_e]>/D."""
    v = move[: len(law.mu)]
    moved = Law(law.p, law.t, law.e, law.mu + v)
    expected = float(v @ (law.p @ (law.t - law.e))) / law.distance
    scale = max(1, float(v @ v) / law.scale)
    assert abs(moved.alpha - law.alpha - expected) <= REL * max(1, abs(law.alpha), abs(expected)) * scale


@given(laws())
def test_g09_moving_the_target_along_the_shift_has_slope_minus_one(law):
    """Catches the same sign along v = E[g_e - g_t], where the slope is -|v|^2/D; no movement across it."""
    shift = law.p @ (law.e - law.t)
    moved = Law(law.p, law.t, law.e, law.mu + shift)
    assert close(moved.alpha, law.alpha - float(shift @ shift) / law.distance)
    if len(shift) > 1:
        across = np.roll(shift, 1)
        norm = float(shift @ shift)
        across = across - (across @ shift) / norm * shift if norm > 0 else across
        assert close(Law(law.p, law.t, law.e, law.mu + across).alpha, law.alpha)


@given(laws(), hnp.arrays(float, 6, elements=ENTRIES))
def test_g10_the_curvature_does_not_depend_on_the_target(law, move):
    """Catches a distance that contains mu: second differences of the curve stay 2D."""
    moved = Law(law.p, law.t, law.e, move[: len(law.mu)])
    curvature = [x.curve(1.0) + x.curve(-1.0) - 2 * x.curve(0.0) for x in (law, moved)]
    assert abs(curvature[0] - 2 * law.distance) <= REL * law.scale
    assert abs(curvature[1] - 2 * law.distance) <= REL * moved.scale


@given(laws(), WEIGHTS)
def test_g11_identical_estimators_are_flagged_and_give_a_number(law, a):
    """Catches 0/0: no NaN, no warning, the curve is flat."""
    same = Law(law.p, law.t, law.t, law.mu)
    assert bool(theory.is_degenerate(same.distance, same.error_t + same.error_e))
    assert same.alpha == 0.5
    assert abs(same.curve(a) - same.error_t) <= REL * max(1, a * a) * same.scale


@given(laws())
def test_g14_price_of_the_equal_mix(law):
    """Catches a wrong optimum through q(1/2) - q* = (A - C)^2/(4D)."""
    excess = law.curve(0.5) - law.curve(law.alpha)
    bound = REL * max(1, law.alpha**2) * law.scale
    assert abs(excess - (law.error_t - law.error_e) ** 2 / (4 * law.distance)) <= bound


@given(laws(smallest=1e-3))
def test_g15_a_law_symmetric_under_swap_wants_equal_weights(law):
    """Catches any asymmetry between the two estimators."""
    x, z = law.t - law.mu, law.e - law.mu
    both = Law(
        np.concatenate([law.p, law.p]) / 2,
        np.concatenate([law.mu + x, law.mu + z]),
        np.concatenate([law.mu + z, law.mu + x]),
        law.mu,
    )
    assume(both.distance > 1e-3 * both.scale)
    assert abs(both.alpha - 0.5) <= 1e-12


@given(laws())
def test_g16_equal_mix_beats_both_iff(law):
    """Catches a wrong cross term in the curve: q(1/2) <= min(A, C) iff B <= (3 min - max)/2."""
    low, high = sorted((law.error_t, law.error_e))
    threshold = (3 * low - high) / 2
    assume(abs(law.cross - threshold) > REL * law.scale)
    assert (law.curve(0.5) <= low) == (law.cross <= threshold)


@given(laws())
def test_g17_sign_of_the_covariance(law):
    """Catches +S_te for -S_te, dropped or doubled: flipping it moves q(1/2) by exactly -S_te."""
    m = law.moments
    flipped = {**m, "cov_te": -m["cov_te"]}
    change = theory.weighted_error_curve(0.5, **flipped) - theory.weighted_error_curve(0.5, **m)
    assert abs(float(change) + m["cov_te"]) <= 1e-12 * law.scale


@given(laws(fixed_e=True, atoms=(2, 4)), WEIGHTS)
def test_g18_conditional_variance_shrinks_by_alpha_squared(law, a):
    """Catches a mix that lets the fixed g_e contribute trace variance (Theorem 1)."""
    variance = theory.error_curve(a, *(law.moments[k] for k in ("var_t", "var_e", "cov_te")))
    mixed = a * law.t + (1 - a) * law.e
    bound = 1e-12 * max(1, a * a) * law.scale
    assert abs(float(variance) - a * a * law.cov(law.t, law.t)) <= bound
    assert abs(law.cov(mixed, mixed) - a * a * law.cov(law.t, law.t)) <= bound


def test_g20_the_total_variance_of_the_mix_may_rise():
    """Guards against the false strong form of Theorem 1: with S_t = 1 and S_e = 100 the equal mix has 25.25."""
    assert float(theory.error_curve(0.5, 1.0, 100.0, 0.0)) == 25.25


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


@given(laws())
def test_g22_without_weighting_it_is_the_mse_optimum(law):
    """Catches (A - B)/D in one of the two forms, and a cross moment without <b_t, b_e>."""
    assert close(float(theory.weighted_optimal_weight(**law.moments)), law.alpha)
    dual = theory.optimal_weight_from_distance(
        law.mean_product(law.t - law.mu, law.t - law.e), law.distance, law.error_t + law.error_e
    )
    assert close(float(dual), law.alpha)


@given(laws(atoms=(2, 4)), KAPPAS)
def test_g23_price_of_the_mse_optimum_under_weighted_variance(law, k):
    """Catches a wrong place of kappa in curve or optimum, through the closed form of the regret."""
    bias, d0, variance, d1 = two_ended(law).ends
    first, best = (float(theory.weighted_optimal_weight(**law.moments, kappa=x)) for x in (1.0, k))
    cost, least = (float(theory.weighted_error_curve(x, **law.moments, kappa=k)) for x in (first, best))
    expected = d0**2 * d1**2 * (1 - k) ** 2 * (variance - bias) ** 2 / ((d0 + d1) ** 2 * (d0 + k * d1))
    assert abs(cost - least - expected) <= REL * max(1, first**2, best**2) * max(1, k) * law.scale


@given(laws(), KAPPAS)
def test_g24_that_price_is_bounded_clipped_or_not(law, k):
    """Catches the same through the sharp bound (1 + k)^2/(4k)."""
    first, best = (float(theory.weighted_optimal_weight(**law.moments, kappa=x)) for x in (1.0, k))
    factor = (1 + k) ** 2 / (4 * k)
    for a, b in ((first, best), (np.clip(first, 0, 1), np.clip(best, 0, 1))):
        cost, least = (float(theory.weighted_error_curve(x, **law.moments, kappa=k)) for x in (a, b))
        slack = 1e-12 * max(1, a * a) * max(1, k, 1 / k) * law.scale
        assert cost <= factor * least * (1 + 1e-9) + slack


@pytest.mark.parametrize("kappa", [0.5, 0.1, 0.01])
def test_g24_the_bound_is_attained(kappa):
    """Catches a bound that holds because the regret is understated: b_t = 0, S_e = 0, |b_e|^2 = S_t is extremal."""
    law = {"bias_t_sq": 0.0, "bias_e_sq": 1.0, "bias_inner": 0.0, "var_t": 1.0, "var_e": 0.0, "cov_te": 0.0}
    cost, least = (
        theory.weighted_error_curve(theory.weighted_optimal_weight(**law, kappa=k), **law, kappa=kappa)
        for k in (1.0, kappa)
    )
    assert float(cost / least) == pytest.approx((1 + kappa) ** 2 / (4 * kappa), rel=1e-12)
