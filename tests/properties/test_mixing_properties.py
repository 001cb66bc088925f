"""Invariants of the convex mix on finite laws of (g_t, g_e): the closed forms against sums over explicit vectors.

Numbered G1 to G20, G68 and G69.
"""

import mpmath
import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from strategies import ENTRIES, REL, WEIGHTS, Law, close, laws

from bvpo_analysis import mixing, theory
from bvpo_analysis.estimators import EmptyTrace, Marginal, Trace
from bvpo_analysis.moments import enumerated_moments, population_moments
from bvpo_analysis.objectives import DPO
from bvpo_analysis.theory.equal_weight import equal_mix, equal_mix_ratio
from bvpo_analysis.theory.mixing import (
    DEGENERATE_TOLERANCE_FLOAT32,
    ClippedOptimum,
    OptimumRange,
    clipped_optimum,
    optimal_error,
    optimal_error_from_distance,
    optimal_weight_dual,
    optimum_range,
    weight_change_with_target,
)
from bvpo_analysis.theory.total_variance import (
    conditional_variance_of_mix,
    mixing_raises_total_variance,
    variance_of_mix,
)


def clipped(law: Law) -> ClippedOptimum:
    return clipped_optimum(law.error_t, law.error_e, law.cross)


def located(law: Law) -> OptimumRange:
    return optimum_range(law.error_t, law.error_e, law.cross)


def numerators(law: Law) -> tuple[float, float]:
    """E<g_t - mu, g_t - g_e> and E<g_e - mu, g_e - g_t>, from differences."""
    x, z = law.t - law.mu, law.e - law.mu
    return law.mean_product(x, law.t - law.e), law.mean_product(z, law.e - law.t)


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
    """Catches a wrong optimum through its value (AC - B^2)/D, and a wrong form of that value."""
    from_moments = float(optimal_error(law.error_t, law.error_e, law.cross))
    from_distance = float(optimal_error_from_distance(law.error_t, numerators(law)[0], law.distance))
    for best in (from_moments, from_distance):
        assert abs(law.mse(law.alpha) - best) <= 1e-6 * law.scale
        assert best >= 0


@given(laws())
def test_g04_clipping_gives_the_best_weight_of_the_unit_interval(law):
    """Catches clipping to the wrong end, and an error that is reported for the unclipped weight."""
    best = clipped(law)
    assert 0 <= best.weight <= 1
    assert abs(law.mse(float(best.weight)) - float(best.error)) <= REL * law.scale
    grid = np.linspace(0, 1, 101)[:, None, None]
    errors = ((grid * law.t + (1 - grid) * law.e - law.mu) ** 2).sum(axis=2) @ law.p
    assert (law.mse(float(best.weight)) <= errors + 1e-12 * max(law.error_t, law.error_e)).all()


@given(laws())
def test_g05_mixing_helps_exactly_when_the_cross_moment_is_small(law):
    """Catches an optimum on the wrong side (Corollary 1), a wrong gain, and a flag that contradicts it."""
    better = min(law.error_t, law.error_e)
    assume((better - law.cross) ** 2 > REL * better * law.distance)
    best = clipped(law)
    gain = better - law.mse(float(best.weight))
    assert bool(best.strict) == (law.cross < better)
    assert abs(gain - float(best.gain)) <= REL * law.scale
    if law.cross < better:
        expected = (better - law.cross) ** 2 / law.distance
        assert abs(gain - expected) <= REL * law.scale
        # Below the rounding of the errors themselves a gain cannot be seen in them.
        assert gain > 0 or expected <= 1e-12 * law.scale
    else:
        assert best.gain == 0


@given(laws())
def test_g06_the_optimum_leaves_the_unit_interval_iff_the_cross_moment_is_large(law):
    """Catches swapped roles of A and C, and a wrong gain of a weight outside [0, 1]."""
    where = located(law)
    if abs(law.cross - law.error_t) > REL * law.scale:
        assert (law.alpha > 1) == (law.cross > law.error_t) == bool(where.above_one)
    if abs(law.cross - law.error_e) > REL * law.scale:
        assert (law.alpha < 0) == (law.cross > law.error_e) == bool(where.below_zero)
    if min(abs(law.cross - law.error_t), abs(law.cross - law.error_e)) > REL * law.scale:
        assert bool(where.interior) == (0 < law.alpha < 1)
    saved = law.mse(float(np.clip(law.alpha, 0, 1))) - law.mse(law.alpha)
    assert abs(saved - float(where.gain_of_leaving)) <= REL * max(1, law.alpha**2) * law.scale


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
    expected = float(weight_change_with_target(v @ (law.p @ (law.t - law.e)), law.distance))
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


@st.composite
def near_identical(draw: st.DrawFn) -> Law:
    """g_t and g_e that differ by 1e-8 of their size: D / (A + C) between 1e-24 and 1e-14."""
    law = draw(laws(atoms=(2, 4)))
    u = draw(hnp.arrays(float, law.e.shape, elements=st.floats(-1, 1)))
    close_by = Law(law.p, law.e * (1 + 1e-8 * u), law.e, law.mu)
    scale = close_by.error_t + close_by.error_e
    assume(1e-24 * scale < close_by.distance < 1e-14 * scale)
    return close_by


@given(near_identical())
@settings(max_examples=50)
def test_g12_near_identical_estimators_are_told_apart_to_ten_digits(law):
    """Catches D formed as A + C - 2B, and a threshold of degeneracy that swallows a real difference."""
    scale = law.error_t + law.error_e
    assert not theory.is_degenerate(law.distance, scale)
    terms = (law.e - law.mu) * (law.e - law.t)
    n_t, n_e = numerators(law)
    # The inner product itself must not cancel: that would be the conditioning of the law and not of the form.
    assume(abs(n_e) > 1e-4 * law.p @ np.abs(terms).sum(axis=1))
    with mpmath.workdps(50):
        exact = np.vectorize(mpmath.mpf, otypes=[object])
        p, t, e, mu = (exact(x) for x in (law.p, law.t, law.e, law.mu))
        truth = float((p @ ((e - mu) * (e - t)).sum(axis=1)) / (p @ ((e - t) ** 2).sum(axis=1)))
    assert float(optimal_weight_dual(n_e, law.distance, scale)) == pytest.approx(truth, rel=1e-10)
    other = float(theory.optimal_weight_from_distance(n_t, law.distance, scale))
    assert abs(other - truth) <= 1e-10 * max(1, abs(truth))


TAKES_NUMBERS = [
    (theory.optimal_weight, ("error_t", "error_e", "cross")),
    (optimal_error, ("error_t", "error_e", "cross")),
    (clipped_optimum, ("error_t", "error_e", "cross")),
    (optimum_range, ("error_t", "error_e", "cross")),
    (equal_mix, ("error_t", "error_e", "cross")),
    (theory.error_curve, ("alpha", "error_t", "error_e", "cross")),
    (theory.optimal_weight_from_distance, ("numerator", "distance", "scale")),
    (optimal_weight_dual, ("numerator_e", "distance", "scale")),
    (optimal_error_from_distance, ("error_t", "numerator", "distance")),
    (weight_change_with_target, ("move", "distance")),
    (theory.weighted_optimal_weight, ("bias_t_sq", "bias_e_sq", "bias_inner", "var_t", "var_e", "cov_te", "kappa")),
    (conditional_variance_of_mix, ("alpha", "trace_var")),
    (mixing_raises_total_variance, ("alpha", "var_t", "var_e", "cov_te")),
]


@given(laws(), st.sampled_from(TAKES_NUMBERS), st.sampled_from([np.nan, np.inf, -np.inf]), st.data())
def test_g13_no_number_comes_out_of_a_number_that_is_not_finite(law, taken, bad, data):
    """Catches min(1, max(0, nan)) = 0: whichever input is spoilt, alone or in an array, the function raises."""
    function, names = taken
    n_t, n_e = numerators(law)
    values = {
        **law.moments,
        **{"error_t": law.error_t, "error_e": law.error_e, "cross": law.cross, "distance": law.distance},
        **{"numerator": n_t, "numerator_e": n_e, "scale": law.error_t + law.error_e, "move": 1.0},
        **{"kappa": 0.5, "alpha": 0.5, "trace_var": 1.0},
    }
    arguments = {name: values[name] for name in names}
    function(**arguments)
    spoilt = data.draw(st.sampled_from(names))
    for value in (bad, np.array([arguments[spoilt], bad])):
        with pytest.raises(ValueError, match=f"^{spoilt} must be finite"):
            function(**{**arguments, spoilt: value})


@given(laws())
def test_g14_price_of_the_equal_mix(law):
    """Catches a wrong optimum through q(1/2) - q* = (A - C)^2/(4D), and a wrong ratio of the two."""
    mix, bound = equal_mix(law.error_t, law.error_e, law.cross), REL * max(1, law.alpha**2) * law.scale
    excess = law.mse(0.5) - law.mse(law.alpha)
    assert abs(law.mse(0.5) - float(mix.error)) <= REL * law.scale
    assert abs(excess - (law.error_t - law.error_e) ** 2 / (4 * law.distance)) <= bound
    assert abs(excess - float(mix.regret)) <= bound
    least = law.mse(law.alpha)
    if least > 1e-3 * max(law.error_t, law.error_e):
        ratio = law.mse(0.5) / least
        root = np.sqrt(law.error_t) * np.sqrt(law.error_e)
        m = max((law.error_t + law.error_e) / (2 * root), 1.0)
        tolerance = 10 * bound / least * ratio
        assert abs(float(mix.ratio) - ratio) <= tolerance
        assert abs(float(equal_mix_ratio(m, law.cross / root)) - ratio) <= tolerance


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
    assert (law.mse(0.5) <= low) == (law.cross <= threshold)
    assert bool(equal_mix(law.error_t, law.error_e, law.cross).beats_both) == (law.mse(0.5) < low)


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
    variance = conditional_variance_of_mix(a, law.moments["var_t"])
    mixed = a * law.t + (1 - a) * law.e
    bound = 1e-12 * max(1, a * a) * law.scale
    assert abs(float(variance) - law.cov(mixed, mixed)) <= bound
    assert abs(a * a * law.cov(law.t, law.t) - law.cov(mixed, mixed)) <= bound


@st.composite
def traces_within_prompts(draw: st.DrawFn) -> tuple[Law, np.ndarray]:
    """A law whose atoms are (prompt, trace), g_e constant within a prompt; and the prompt [n] of every atom."""
    prompts, d = draw(st.integers(2, 3)), draw(st.integers(1, 4))
    traces = [draw(st.integers(1, 3)) for _ in range(prompts)]
    prompt = np.repeat(np.arange(prompts), traces)
    p = np.array(draw(st.lists(st.integers(1, 9), min_size=len(prompt), max_size=len(prompt))), dtype=float)
    t = draw(hnp.arrays(float, (len(prompt), d), elements=ENTRIES))
    e = draw(hnp.arrays(float, (prompts, d), elements=ENTRIES))
    return Law(p / p.sum(), t, e[prompt], np.zeros(d)), prompt


@given(traces_within_prompts(), WEIGHTS)
def test_g19_total_variance_is_that_of_traces_plus_that_of_data(drawn, a):
    """Catches trace noise counted with g_e, alpha for alpha^2, and a dropped covariance over prompts."""
    law, prompt = drawn
    mean = np.zeros_like(law.t)
    for i in np.unique(prompt):
        mean[prompt == i] = law.p[prompt == i] @ law.t[prompt == i] / law.p[prompt == i].sum()
    mixed, given_data = a * law.t + (1 - a) * law.e, a * mean + (1 - a) * law.e
    parts = variance_of_mix(
        a,
        trace_var=law.mean_product(law.t - mean, law.t - mean),
        data_var_t=law.cov(mean, mean),
        data_var_e=law.cov(law.e, law.e),
        data_cov=law.cov(mean, law.e),
    )
    slack = 1e-10 * max(1, a * a) * law.scale
    assert abs(float(parts.total) - law.cov(mixed, mixed)) <= slack
    assert abs(float(parts.trace) - law.mean_product(mixed - given_data, mixed - given_data)) <= slack
    assert abs(float(parts.data) - law.cov(given_data, given_data)) <= slack


@given(laws(atoms=(2, 4)), st.floats(0, 0.99))
def test_g20_when_mixing_raises_the_total_variance(law, a):
    """Guards against the strong form of Theorem 1, which it is not: the flag says when the variance rises."""
    mixed = a * law.t + (1 - a) * law.e
    rise = law.cov(mixed, mixed) - law.cov(law.t, law.t)
    assume(abs(rise) > REL * law.scale)
    m = law.moments
    assert bool(mixing_raises_total_variance(a, m["var_t"], m["var_e"], m["cov_te"])) == (rise > 0)


def test_g20_the_total_variance_of_the_mix_may_rise():
    """Guards against the false strong form of Theorem 1: with S_t = 1 and S_e = 100 the equal mix has 25.25."""
    assert float(theory.error_curve(0.5, 1.0, 100.0, 0.0)) == 25.25


@given(laws(smallest=1e-2))
def test_g68_single_precision_gives_the_same_weight(law):
    """Catches a form that needs more digits than gradients in float32 have, and a threshold that is too coarse."""
    single = Law(*(x.astype(np.float32) for x in (law.p, law.t, law.e, law.mu)))
    n_t, n_e = numerators(single)
    scale = single.error_t + single.error_e
    assert not theory.is_degenerate(single.distance, scale, tolerance=DEGENERATE_TOLERANCE_FLOAT32)
    for alpha in (
        theory.optimal_weight_from_distance(n_t, single.distance, scale),
        optimal_weight_dual(n_e, single.distance, scale),
    ):
        assert close(float(alpha), law.alpha, 1e-4)


LOSS = DPO(2.0)


@given(st.integers(0, 2**32 - 1))
@settings(max_examples=15)
def test_g69_neither_the_order_of_traces_nor_that_of_prompts_matters(by_hand, seed):
    """Catches a trace paired with the wrong coefficient, and a prompt with another prompt's totals."""
    rng = np.random.default_rng(seed)
    trace, empty, marginal = Trace(LOSS), EmptyTrace(LOSS), Marginal(LOSS)
    listed = [by_hand.pair(rng, 3) for _ in range(5)]
    vectors = [rng.normal(size=(pair.size, 4)) + rng.normal(size=4) for pair in listed]
    draws = [np.stack([rng.choice(side, 3) for side in pair.support], axis=1) for pair in listed]
    order = rng.permutation(5)

    def sampled(traces_in_order: bool, prompts_in_order: bool):
        pairs = [
            by_hand.sampled(pair, own if traces_in_order else rng.permutation(own))
            for pair, own in zip(listed, draws, strict=True)
        ]
        which = range(5) if prompts_in_order else order
        scores = by_hand.scores([pairs[i] for i in which], [vectors[i] for i in which], trace, empty)
        return population_moments(scores, trace, empty)

    first = sampled(True, True)
    for other in (sampled(False, True), sampled(True, False), sampled(False, False)):
        for law, moved in ((first.population(8, 2), other.population(8, 2)), (first.per_prompt(), other.per_prompt())):
            alpha, again = (float(mixing.weight_replicates(x)[0]) for x in (law, moved))
            assert abs(again - alpha) <= 1e-12 * max(1, abs(alpha)) * max(1, float(law.var_t[0] / law.var_diff[0]))
            error, repeated = (float(mixing.error_parts(x, 0.5).total[0]) for x in (law, moved))
            assert abs(repeated - error) <= 1e-12 * float(first.target_sq[0] + first.var_t[0] + first.var_e[0])
    exact, shuffled = (
        enumerated_moments(
            by_hand.scores([listed[i] for i in which], [vectors[i] for i in which], trace, empty, marginal),
            trace,
            empty,
            marginal,
        )
        for which in (range(5), order)
    )
    assert float(mixing.weight_replicates(shuffled.population(8))[0]) == pytest.approx(
        float(mixing.weight_replicates(exact.population(8))[0]), rel=1e-12
    )
