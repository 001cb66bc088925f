"""Closed forms on single inputs: worked values, cancellation against 50 digits, degenerate and non-finite inputs."""

import mpmath
import numpy as np
import pytest

from bvpo_analysis import theory
from bvpo_analysis.theory.mixing import (
    DEGENERATE_TOLERANCE_FLOAT32,
    clipped_optimum,
    optimal_error,
    optimal_error_from_distance,
    optimal_weight_dual,
    optimum_range,
    weight_change_with_target,
)

LAW = {"bias_t_sq": 0.04, "bias_e_sq": 0.25, "bias_inner": 0.06, "var_t": 2.0, "var_e": 0.5, "cov_te": 0.3}


def test_worked_values():
    """Catches swapped roles: with A = 1, C = 3, B = 0 the weight of g_t is C/(A + C) = 3/4."""
    assert float(theory.optimal_weight(1.0, 3.0, 0.0)) == 0.75
    assert float(theory.error_curve(0.75, 1.0, 3.0, 0.0)) == 0.75
    assert float(theory.error_curve(1.0, 1.0, 3.0, 0.5)) == 1.0
    assert float(theory.error_curve(0.0, 1.0, 3.0, 0.5)) == 3.0


def test_the_weight_is_not_clipped():
    """Catches clipping inside the closed form: B > A puts the optimum above 1, B > C below 0."""
    assert float(theory.optimal_weight(1.0, 4.0, 1.5)) == pytest.approx(1.25)
    assert float(theory.optimal_weight(4.0, 1.0, 1.5)) == pytest.approx(-0.25)


def test_both_dual_forms_and_the_value_at_the_optimum():
    """Catches N and D - N swapped, and q* of another weight: A = 1, C = 4, B = 0 give 4/5 and q* = 4/5."""
    assert float(optimal_weight_dual(4.0, distance=5.0, scale=5.0)) == 0.8
    assert float(theory.optimal_weight_from_distance(1.0, distance=5.0, scale=5.0)) == 0.8
    assert float(optimal_error(1.0, 4.0, 0.0)) == pytest.approx(0.8, rel=1e-15)
    assert float(optimal_error_from_distance(1.0, numerator=1.0, distance=5.0)) == pytest.approx(0.8, rel=1e-15)
    assert float(optimal_error(1.0, 4.0, -2.0)) == 0.0  # errors in opposite directions cancel exactly


def test_the_optimum_on_the_unit_interval():
    """Catches clipping to the wrong end, a gain of clipping, and strictness at a tie (B = A: g_t alone is optimal)."""
    best = clipped_optimum([1.0, 1.0, 1.0, 4.0], [4.0, 4.0, 4.0, 1.0], [0.0, 1.0, 1.5, 1.5])
    np.testing.assert_allclose(best.unclipped, [0.8, 1.0, 1.25, -0.25], rtol=1e-15)
    np.testing.assert_allclose(best.weight, [0.8, 1.0, 1.0, 0.0], rtol=1e-15)
    np.testing.assert_allclose(best.error, [0.8, 1.0, 1.0, 1.0], rtol=1e-15)
    np.testing.assert_allclose(best.gain, [0.2, 0.0, 0.0, 0.0], rtol=1e-15)
    assert best.strict.tolist() == [True, False, False, False]
    assert not best.degenerate.any()


def test_where_the_optimum_lies_and_what_leaving_the_interval_gains():
    """Catches swapped ends: B > A asks to subtract g_e; the gain is (B - A)^2/D = 1/8; none inside or at an end."""
    where = optimum_range([1.0, 4.0, 1.0, 1.0], [4.0, 1.0, 4.0, 4.0], [1.5, 1.5, 0.0, 1.0])
    assert where.above_one.tolist() == [True, False, False, False]
    assert where.below_zero.tolist() == [False, True, False, False]
    assert where.interior.tolist() == [False, False, True, False]
    np.testing.assert_allclose(where.gain_of_leaving, [0.125, 0.125, 0.0, 0.0], rtol=1e-15)


def test_coinciding_estimators_gain_nothing_and_lie_nowhere():
    """Catches 0/0 in the gain, and a strict improvement by mixing a gradient with itself."""
    best, where = clipped_optimum(2.0, 2.0, 2.0), optimum_range(2.0, 2.0, 2.0)
    assert (float(best.weight), float(best.error), float(best.gain)) == (0.5, 2.0, 0.0)
    assert bool(best.degenerate)
    assert not best.strict
    assert not any(map(bool, (where.below_zero, where.interior, where.above_one)))
    assert float(where.gain_of_leaving) == 0.0
    assert float(optimal_error(2.0, 2.0, 2.0)) == 2.0
    assert float(optimal_error_from_distance(2.0, 0.0, 0.0)) == 2.0


def test_an_error_of_the_target_moves_the_weight_by_its_part_along_the_shift():
    """Catches the sign: a target moved towards g_t (v along E[g_t - g_e]) wants more of g_t."""
    assert float(weight_change_with_target(move=2.0, distance=4.0)) == 0.5
    with pytest.raises(ValueError, match=r"^distance must be positive"):
        weight_change_with_target(move=2.0, distance=0.0)


@pytest.mark.parametrize("size", [1e-300, 1e-150, 1e150, 1e300])
def test_gradients_of_any_size_give_the_same_weight_and_gain(size):
    """Catches squares that overflow or underflow, such as A C or B^2."""
    best = clipped_optimum(size, 4 * size, 0.5 * size)
    assert float(best.weight) == pytest.approx(3.5 / 4, rel=1e-14)
    assert float(best.error) / size == pytest.approx(3.75 / 4, rel=1e-14)
    assert float(best.gain) / size == pytest.approx(0.25 / 4, rel=1e-14)
    assert float(optimum_range(size, 4 * size, 1.5 * size).gain_of_leaving) / size == pytest.approx(0.125, rel=1e-14)


@pytest.mark.parametrize("kappa", [0.01, 0.5, 1.0, 3.0])
def test_weighted_optimum_is_where_the_curve_is_flat(kappa):
    """Catches a dropped, doubled or misplaced term of numerator or denominator at any kappa."""
    best = float(theory.weighted_optimal_weight(**LAW, kappa=kappa))
    up, down = (theory.weighted_error_curve(best + h, **LAW, kappa=kappa) for h in (1e-3, -1e-3))
    assert float(up - down) == pytest.approx(0.0, abs=1e-14)
    assert float(up + down) > 2 * float(theory.weighted_error_curve(best, **LAW, kappa=kappa))


def test_small_steps_undo_the_mixing_of_an_unbiased_trace_gradient():
    """Catches kappa on the bias (G26): with b_t = 0, (1 - alpha_kappa)/kappa -> (S_t - S_te)/|b_e|^2."""
    law = {**LAW, "bias_t_sq": 0.0, "bias_inner": 0.0}
    kappa = 1e-7
    slope = (1 - float(theory.weighted_optimal_weight(**law, kappa=kappa))) / kappa
    assert slope == pytest.approx((2.0 - 0.3) / 0.25, rel=1e-5)


def test_everything_broadcasts():
    """Catches scalar-only branches."""
    weights = theory.weighted_optimal_weight(**LAW, kappa=np.array([[0.1], [1.0]]))
    assert weights.shape == (2, 1)
    assert theory.weighted_error_curve(np.linspace(0, 1, 3), **LAW, kappa=np.array([[0.1], [1.0]])).shape == (2, 3)
    degenerate = theory.optimal_weight(np.array([1.0, 1.0]), np.array([1.0, 3.0]), np.array([1.0, 0.0]))
    np.testing.assert_array_equal(degenerate, [0.5, 0.75])


# --- cancellation ----------------------------------------------------------------------------------------


def _near_identical(seed: int):
    """g_t and g_e that differ by 1e-8 of their size, with probabilities and a target."""
    rng = np.random.default_rng(seed)
    p = rng.dirichlet(np.ones(5))
    e = rng.normal(size=(5, 4))
    t = e * (1 + 1e-8 * rng.normal(size=e.shape))
    return p, t, e, rng.normal(size=4)


def _alpha_50_digits(p, t, e, mu) -> mpmath.mpf:
    with mpmath.workdps(50):
        exact = np.vectorize(mpmath.mpf, otypes=[object])
        p, t, e, mu = (exact(x) for x in (p, t, e, mu))
        top = sum(w * x for w, x in zip(p, ((e - mu) * (e - t)).sum(axis=1), strict=True))
        return top / sum(w * x for w, x in zip(p, ((e - t) ** 2).sum(axis=1), strict=True))


@pytest.mark.parametrize("seed", range(20))
def test_g12_near_identical_estimators_against_50_digits(seed):
    """Catches a degeneracy threshold that swallows real differences, and D formed as A + C - 2B."""
    p, t, e, mu = _near_identical(seed)
    distance = p @ ((t - e) ** 2).sum(axis=1)
    numerator = p @ ((t - mu) * (t - e)).sum(axis=1)
    scale = p @ ((t - mu) ** 2 + (e - mu) ** 2).sum(axis=1)
    assert 1e-18 < distance / scale < 1e-14
    assert not theory.is_degenerate(distance, scale)
    alpha = theory.optimal_weight_from_distance(numerator, distance, scale)
    assert float(alpha) == pytest.approx(float(_alpha_50_digits(p, t, e, mu)), rel=1e-10)


@pytest.mark.parametrize("seed", range(5))
def test_g12_the_error_at_the_optimum_of_near_identical_estimators(seed):
    """Catches (AC - B^2)/D from A, B, C, whose digits are gone: from differences q* has ten digits."""
    p, t, e, mu = _near_identical(seed)
    distance, numerator = p @ ((t - e) ** 2).sum(axis=1), p @ ((t - mu) * (t - e)).sum(axis=1)
    found = float(optimal_error_from_distance(p @ ((t - mu) ** 2).sum(axis=1), numerator, distance))
    with mpmath.workdps(50):
        exact = np.vectorize(mpmath.mpf, otypes=[object])
        p, t, e, mu = (exact(x) for x in (p, t, e, mu))
        x, d = t - mu, t - e
        a, n, gap = (sum(w * y for w, y in zip(p, z.sum(axis=1), strict=True)) for z in (x * x, x * d, d * d))
        truth = float(a - n * n / gap)
    assert found == pytest.approx(truth, rel=1e-10)


def test_g12_has_power_the_form_with_cancellation_fails_it():
    """The same inputs through A, B, C lose every digit; only the form on differences may meet measurements."""
    p, t, e, mu = _near_identical(0)
    a, c, b = (p @ (x * y).sum(axis=1) for x, y in ((t - mu, t - mu), (e - mu, e - mu), (t - mu, e - mu)))
    exact = float(_alpha_50_digits(p, t, e, mu))
    assert abs(float(theory.optimal_weight(a, c, b)) / exact - 1) > 1e-3


# --- degenerate and non-finite inputs --------------------------------------------------------------------


@pytest.mark.parametrize(("ratio", "flagged"), [(0.0, True), (1e-29, True), (1e-27, False), (1e-16, False)])
def test_g11_degeneracy_is_relative_to_the_size_of_the_errors(ratio, flagged):
    """Catches an absolute threshold: rescaling all gradients changes nothing."""
    for scale in (1e-12, 1.0, 1e12):
        assert bool(theory.is_degenerate(ratio * scale, scale)) is flagged


def test_g11_single_precision_has_a_threshold_of_its_own():
    """Catches one threshold for both: rounding of float32 gradients is 1e-14 of the errors, not a difference."""
    assert not theory.is_degenerate(1e-14, 1.0)
    assert theory.is_degenerate(1e-14, 1.0, tolerance=DEGENERATE_TOLERANCE_FLOAT32)
    assert not theory.is_degenerate(1e-9, 1.0, tolerance=DEGENERATE_TOLERANCE_FLOAT32)


def test_g11_two_exact_estimators_are_degenerate():
    """Catches 0 <= tolerance * 0 evaluated as strict: A = C = 0."""
    assert bool(theory.is_degenerate(0.0, 0.0))
    assert float(theory.optimal_weight(0.0, 0.0, 0.0)) == 0.5


CALLS = [
    (theory.optimal_weight, {"error_t": 1.0, "error_e": 3.0, "cross": 0.5}),
    (theory.optimal_weight_from_distance, {"numerator": 1.0, "distance": 4.0, "scale": 4.0}),
    (theory.is_degenerate, {"distance": 4.0, "scale": 4.0}),
    (theory.error_curve, {"alpha": 0.5, "error_t": 1.0, "error_e": 3.0, "cross": 0.5}),
    (theory.regret, {"alpha": 0.5, "best": 0.7, "distance": 4.0}),
    (optimal_weight_dual, {"numerator_e": 1.0, "distance": 4.0, "scale": 4.0}),
    (optimal_error, {"error_t": 1.0, "error_e": 3.0, "cross": 0.5}),
    (optimal_error_from_distance, {"error_t": 1.0, "numerator": 0.5, "distance": 4.0}),
    (clipped_optimum, {"error_t": 1.0, "error_e": 3.0, "cross": 0.5}),
    (optimum_range, {"error_t": 1.0, "error_e": 3.0, "cross": 0.5}),
    (weight_change_with_target, {"move": 0.5, "distance": 4.0}),
    (theory.weighted_optimal_weight, {**LAW, "kappa": 0.5}),
    (theory.weighted_error_curve, {"alpha": 0.5, **LAW, "kappa": 0.5}),
]


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize(
    ("function", "arguments", "name"),
    [pytest.param(f, a, name, id=f"{f.__name__}-{name}") for f, a in CALLS for name in a],
)
def test_g13_a_non_finite_input_raises(function, arguments, name, bad):
    """Catches min(1, max(0, nan)) = 0: a number must never come out of NaN, alone or inside an array."""
    for value in (bad, np.array([0.5, bad])):
        with pytest.raises(ValueError, match="must be finite"):
            function(**{**arguments, name: value})


@pytest.mark.parametrize(
    ("function", "arguments"),
    [pytest.param(f, a, id=f.__name__) for f, a in CALLS],
)
def test_the_error_names_the_argument_of_the_call(function, arguments):
    """Catches a message about an argument that the caller never gave."""
    for name in arguments:
        with pytest.raises(ValueError, match=f"^{name} must be finite"):
            function(**{**arguments, name: np.nan})


OF_SECOND_MOMENTS = pytest.mark.parametrize(
    "function", [theory.optimal_weight, optimal_error, clipped_optimum, optimum_range], ids=lambda f: f.__name__
)


@OF_SECOND_MOMENTS
@pytest.mark.parametrize("arguments", [(-1.0, 1.0, 0.0), (1.0, -1.0, 0.0)])
def test_a_negative_squared_error_raises(function, arguments):
    """Catches an unbiased (possibly negative) square fed into the closed form."""
    with pytest.raises(ValueError, match="must not be negative"):
        function(*arguments)


@OF_SECOND_MOMENTS
def test_an_empty_argument_raises(function):
    """Catches an empty answer to an empty question."""
    with pytest.raises(ValueError, match=r"^cross must not be empty"):
        function(1.0, 3.0, [])


def test_differences_that_no_law_has_raise():
    """Catches N^2 > A D, and a negative estimate of D taken for a distance."""
    with pytest.raises(ValueError, match="numerator violates Cauchy-Schwarz"):
        optimal_error_from_distance(1.0, numerator=3.0, distance=4.0)
    with pytest.raises(ValueError, match="distance must not be negative"):
        optimal_error_from_distance(1.0, numerator=0.0, distance=-1.0)


@OF_SECOND_MOMENTS
@pytest.mark.parametrize("cross", [2.0, -2.0])
def test_an_impossible_cross_moment_raises(function, cross):
    """Catches a covariance on the wrong scale, of either sign."""
    with pytest.raises(ValueError, match="Cauchy-Schwarz"):
        function(1.0, 3.0, cross)


def test_the_optimal_error_keeps_its_digits_for_estimators_that_nearly_coincide():
    """Catches sqrt(AC) - |B|, whose rounding is divided by a small D."""
    a, c, b = 1.1, 1.1 * (1 + 1e-13), 1.1 - 1e-13
    with mpmath.workdps(50):
        exact = (mpmath.mpf(a) * c - mpmath.mpf(b) ** 2) / (mpmath.mpf(a) + c - 2 * mpmath.mpf(b))
    assert float(theory.optimal_error(a, c, b)) == pytest.approx(float(exact), rel=1e-15)
