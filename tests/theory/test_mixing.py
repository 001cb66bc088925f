"""Closed forms on single inputs: worked values, cancellation against 50 digits, degenerate and non-finite inputs."""

import mpmath
import numpy as np
import pytest

from bvpo_analysis import theory

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


@pytest.mark.parametrize("arguments", [(-1.0, 1.0, 0.0), (1.0, -1.0, 0.0)])
def test_a_negative_squared_error_raises(arguments):
    """Catches an unbiased (possibly negative) square fed into the closed form."""
    with pytest.raises(ValueError, match="must not be negative"):
        theory.optimal_weight(*arguments)


@pytest.mark.parametrize("cross", [2.0, -2.0])
def test_an_impossible_cross_moment_raises(cross):
    """Catches a covariance on the wrong scale, of either sign."""
    with pytest.raises(ValueError, match="Cauchy-Schwarz"):
        theory.optimal_weight(1.0, 3.0, cross)
