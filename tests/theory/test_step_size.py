"""Step-size aware weights on single inputs: worked values, degenerate ends, schedules, horizons, and bad input."""

import numpy as np
import pytest

from bvpo_analysis.theory.step_size import (
    bias_optimal_weight,
    cosine_step_sizes,
    horizon_kappa,
    scheduled_weights,
    step_size_regret,
    step_size_regret_factor,
    unit_kappa_horizon,
    variance_optimal_weight,
    weight_path,
    weight_shift,
    weighted_error_curve,
    weighted_optimal_weight,
)

BIASES = {"bias_t_sq": 0.04, "bias_e_sq": 0.25, "bias_inner": 0.06}
VARIANCES = {"var_t": 2.0, "var_e": 0.5, "cov_te": 0.3}
LAW = {**BIASES, **VARIANCES}
EXTREMAL = {"bias_t_sq": 0.0, "bias_e_sq": 1.0, "bias_inner": 0.0, "var_t": 1.0, "var_e": 0.0, "cov_te": 0.0}
CALLS = [
    (weighted_error_curve, {"alpha": 0.5, **LAW, "kappa": 0.5}),
    (weighted_optimal_weight, {**LAW, "kappa": 0.5}),
    (bias_optimal_weight, BIASES),
    (variance_optimal_weight, VARIANCES),
    (weight_path, LAW),
    (weight_shift, {**LAW, "kappa": 0.5}),
    (step_size_regret, {**LAW, "kappa": 0.5}),
    (scheduled_weights, {"step_sizes": 0.5, "smoothness": 1.0, **LAW}),
]


def test_worked_ends():
    """Catches p0 with b_t for b_e: d0 = .17 and p0 = .19; d1 = 1.9 and p1 = .2."""
    assert float(bias_optimal_weight(**BIASES)) == pytest.approx(0.19 / 0.17)
    assert float(variance_optimal_weight(**VARIANCES)) == pytest.approx(0.2 / 1.9)
    path = weight_path(**LAW)
    assert float(path.bias_distance) == pytest.approx(0.17)
    assert float(path.variance_distance) == pytest.approx(1.9)
    assert (float(path.bias_end), float(path.variance_end)) == pytest.approx((0.19 / 0.17, 0.2 / 1.9))
    assert float(path.direction) == 1.0
    assert not path.degenerate


def test_without_a_bias_gap_every_step_wants_the_variance_optimum():
    """Catches 0/0 at b_t = b_e: each weight is bias-optimal, the limit of alpha_kappa is alpha_var, nothing moves."""
    same = {"bias_t_sq": 0.25, "bias_e_sq": 0.25, "bias_inner": 0.25}
    assert float(bias_optimal_weight(**same)) == 0.5
    path = weight_path(**same, **VARIANCES)
    assert float(path.bias_end) == float(path.variance_end) == pytest.approx(0.2 / 1.9)
    assert float(path.direction) == 0.0
    for kappa in (1e-9, 1.0, 1e9):
        assert float(weighted_optimal_weight(**same, **VARIANCES, kappa=kappa)) == pytest.approx(0.2 / 1.9)
        assert float(weight_shift(**same, **VARIANCES, kappa=kappa)) == 0.0
        assert float(step_size_regret(**same, **VARIANCES, kappa=kappa)) == 0.0
    assert float(scheduled_weights(0.0, 1.0, **same, **VARIANCES)) == pytest.approx(0.2 / 1.9)


def test_without_a_variance_gap_every_step_wants_the_bias_optimum():
    """Catches 0/0 at Var(g_t - g_e) = 0."""
    same = {"var_t": 2.0, "var_e": 2.0, "cov_te": 2.0}
    assert float(variance_optimal_weight(**same)) == 0.5
    path = weight_path(**BIASES, **same)
    assert float(path.variance_end) == float(path.bias_end) == pytest.approx(0.19 / 0.17)
    assert float(step_size_regret(**BIASES, **same, kappa=0.1)) == 0.0
    assert float(weighted_optimal_weight(**BIASES, **same, kappa=0.0)) == pytest.approx(0.19 / 0.17)


def test_identical_estimators_are_flagged():
    """Catches a number without the flag where g_t = g_e."""
    path = weight_path(bias_t_sq=1, bias_e_sq=1, bias_inner=1, var_t=2, var_e=2, cov_te=2)
    assert bool(path.degenerate)
    assert float(path.bias_end) == float(path.variance_end) == 0.5


def test_the_shift_is_the_difference_of_the_weights_and_keeps_its_digits():
    """Catches a sign, and a difference of two rounded weights: near kappa = 1 the shift is exact."""
    for kappa in (0.01, 0.5, 3.0):
        direct = weighted_optimal_weight(**LAW, kappa=kappa) - weighted_optimal_weight(**LAW)
        assert float(weight_shift(**LAW, kappa=kappa)) == pytest.approx(float(direct), rel=1e-12)
    slope = (1.9 * 0.19 - 0.17 * 0.2) / (0.17 + 1.9) ** 2
    assert float(weight_shift(**LAW, kappa=1 - 2.0**-40)) == pytest.approx(slope * 2.0**-40, rel=1e-10)
    assert float(weight_shift(**LAW, kappa=1.0)) == 0.0


@pytest.mark.parametrize("kappa", [0.01, 0.5, 3.0])
def test_regret_is_the_difference_of_the_curves(kappa):
    """Catches a missing square, and (d0 + d1) for (d0 + kappa d1)."""
    curve = [
        float(weighted_error_curve(weighted_optimal_weight(**LAW, kappa=k), **LAW, kappa=kappa)) for k in (1.0, kappa)
    ]
    assert float(step_size_regret(**LAW, kappa=kappa)) == pytest.approx(curve[0] - curve[1], rel=1e-10)


def test_regret_of_huge_moments_does_not_overflow():
    """Catches products of four moments: the regret scales like one."""
    huge = {name: value * 1e100 for name, value in LAW.items()}
    expected = float(step_size_regret(**LAW, kappa=0.1))
    assert float(step_size_regret(**huge, kappa=0.1)) == pytest.approx(expected * 1e100, rel=1e-12)


@pytest.mark.parametrize(("kappa", "factor"), [(1.0, 1.0), (0.5, 1.125), (0.1, 3.025), (0.01, 25.5025), (100, 25.5025)])
def test_the_factor_and_its_extremal_law(kappa, factor):
    """Catches a factor that bounds without being attained: b_t = 0, S_e = 0, |b_e|^2 = S_t is extremal."""
    assert float(step_size_regret_factor(kappa)) == pytest.approx(factor, rel=1e-12)
    least = float(weighted_error_curve(weighted_optimal_weight(**EXTREMAL, kappa=kappa), **EXTREMAL, kappa=kappa))
    assert float(step_size_regret(**EXTREMAL, kappa=kappa)) == pytest.approx((factor - 1) * least, rel=1e-9, abs=1e-15)


# --- schedules -------------------------------------------------------------------------------------------


def test_cosine_decay():
    """Catches a half period too many, a missing end, and digits lost where the schedule is small."""
    eta = cosine_step_sizes(0.3, 4)
    np.testing.assert_allclose(eta, 0.3 * np.array([1, 0.5 + np.sqrt(0.125), 0.5, 0.5 - np.sqrt(0.125), 0]), atol=1e-16)
    assert cosine_step_sizes(2.0, 3, floor=0.5)[[0, -1]].tolist() == [2.0, 0.5]
    late = cosine_step_sizes(1.0, 10**6)[-2]
    assert late == pytest.approx((np.pi / 2 / 10**6) ** 2, rel=1e-9)


def test_a_decreasing_schedule_moves_the_weight_to_the_bias_optimum():
    """Catches a schedule that runs to alpha_var, and kappa_t without the smoothness."""
    weights = scheduled_weights(cosine_step_sizes(2.0, 50), 0.5, **LAW)
    assert weights[0] == pytest.approx(float(weighted_optimal_weight(**LAW)))
    assert weights[25] == pytest.approx(float(weighted_optimal_weight(**LAW, kappa=0.5)))
    assert weights[-1] == float(bias_optimal_weight(**BIASES))
    assert (np.diff(weights) > 0).all()
    swapped = {"bias_t_sq": 0.25, "bias_e_sq": 0.04, "bias_inner": 0.06, "var_t": 0.5, "var_e": 2.0, "cov_te": 0.3}
    np.testing.assert_allclose(scheduled_weights(cosine_step_sizes(2.0, 50), 0.5, **swapped), 1 - weights, atol=1e-12)


def test_horizon_tuned_step():
    """Catches a lost factor of 2 and the missing cap: 2 Delta L / sigma^2 = 8 steps have kappa = 1."""
    task = {"initial_gap": 1.0, "smoothness": 2.0, "noise_var": 0.5}
    assert float(unit_kappa_horizon(**task)) == 8.0
    np.testing.assert_allclose(horizon_kappa([1, 8, 32, 800], **task), [1.0, 1.0, 0.5, 0.1], rtol=1e-15)
    kappas = np.linspace(1e-3, 1, 10**5)
    for steps in (3, 20, 500):
        bound = 2 * 1.0 * 2.0 / (kappas * steps) + kappas * 0.5
        assert float(horizon_kappa(steps, **task)) == pytest.approx(kappas[bound.argmin()], abs=2e-5)


def test_without_noise_the_tuned_step_is_always_the_largest():
    """Catches 0/0 and a warning at sigma = 0."""
    task = {"initial_gap": 1.0, "smoothness": 2.0, "noise_var": 0.0}
    assert float(unit_kappa_horizon(**task)) == np.inf
    assert float(horizon_kappa(10**9, **task)) == 1.0


# --- arguments -------------------------------------------------------------------------------------------


def test_everything_broadcasts():
    """Catches scalar-only branches, also in the degenerate ones."""
    several = {**LAW, "bias_t_sq": np.array([0.04, 0.25]), "bias_inner": np.array([0.06, 0.25])}
    kappa = np.array([[0.0], [0.5], [1.0]])
    assert weight_shift(**several, kappa=kappa).shape == (3, 2)
    path = weight_path(**several)
    for name in ("bias_end", "variance_end", "bias_distance", "variance_distance", "direction", "degenerate"):
        assert getattr(path, name).shape == (2,)
    assert path.direction.tolist() == [1.0, 0.0]
    assert scheduled_weights([0.0, 0.5], 1.0, **several)[1] == pytest.approx(0.2 / 1.9)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize(
    ("function", "arguments", "name"),
    [pytest.param(f, a, name, id=f"{f.__name__}-{name}") for f, a in CALLS for name in a],
)
def test_g13_a_non_finite_input_raises(function, arguments, name, bad):
    """Catches a finite weight that comes out of NaN, alone or inside an array."""
    for value in (bad, np.array([0.5, bad])):
        with pytest.raises(ValueError, match=f"^{name} must be finite"):
            function(**{**arguments, name: value})


@pytest.mark.parametrize(
    ("function", "arguments", "name"),
    [
        pytest.param(f, a, name, id=f"{f.__name__}-{name}")
        for f, a in CALLS
        for name in a
        if name not in ("alpha", "bias_inner", "cov_te")
    ],
)
def test_negative_squares_variances_and_step_sizes_raise(function, arguments, name):
    """Catches an unbiased (possibly negative) square fed into a closed form of exact moments."""
    with pytest.raises(ValueError, match=f"^{name} must (not be negative|be positive), got -0.1"):
        function(**{**arguments, name: -0.1})


@pytest.mark.parametrize(
    ("function", "arguments", "name"),
    [
        pytest.param(f, a, name, id=f"{f.__name__}-{name}")
        for f, a in CALLS
        for name in ("bias_inner", "cov_te")
        if name in a
    ],
)
@pytest.mark.parametrize("sign", [1, -1])
def test_an_impossible_inner_product_raises(function, arguments, name, sign):
    """Catches a covariance on another scale than the variances, of either sign."""
    with pytest.raises(ValueError, match=f"^{name} violates Cauchy-Schwarz"):
        function(**{**arguments, name: sign * 1.01})


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: step_size_regret_factor(0.0), "kappa must be positive"),
        (lambda: step_size_regret_factor([]), "kappa must not be empty"),
        (lambda: scheduled_weights([0.5, 1.1], 1.0, **LAW), "step_sizes must not exceed 1/smoothness"),
        (lambda: scheduled_weights([0.5], 0.0, **LAW), "smoothness must be positive"),
        (lambda: cosine_step_sizes(0.0, 4), "peak must be positive"),
        (lambda: cosine_step_sizes(1.0, 0), "steps must be at least 1"),
        (lambda: cosine_step_sizes(1.0, 2.5), "steps must be a whole number"),
        (lambda: cosine_step_sizes(1.0, 4, floor=1.5), "floor must not exceed peak"),
        (lambda: cosine_step_sizes(1.0, 4, floor=-0.5), "floor must not be negative"),
        (lambda: horizon_kappa(0, initial_gap=1.0, smoothness=1.0, noise_var=1.0), "steps must be at least 1"),
        (lambda: horizon_kappa(1, initial_gap=0.0, smoothness=1.0, noise_var=1.0), "initial_gap must be positive"),
        (lambda: unit_kappa_horizon(initial_gap=1.0, smoothness=np.nan, noise_var=1.0), "smoothness must be finite"),
        (lambda: unit_kappa_horizon(initial_gap=1.0, smoothness=1.0, noise_var=-1.0), "noise_var must not be negative"),
    ],
)
def test_what_a_statement_does_not_cover_raises(call, message):
    """Catches a bound evaluated outside its assumptions."""
    with pytest.raises(ValueError, match=message):
        call()


def test_a_step_of_exactly_one_over_smoothness_is_allowed():
    """Catches rounding of (1/L) L taken for a step that is too large."""
    for smoothness in (3.0, 49.0, 0.1):
        weight = scheduled_weights(1 / smoothness, smoothness, **LAW)
        assert float(weight) == pytest.approx(float(weighted_optimal_weight(**LAW)), rel=1e-12)
