"""Slack-free descent and free step sizes on single inputs: worked values, ascent, singular moments, and bad input."""

import numpy as np
import pytest

from bvpo_analysis.theory.descent import (
    cosine,
    cosine_optimal_weight,
    descent_bound,
    descent_optimal_weight,
    descent_weight_shift,
    retuned_step,
    retuned_weights,
)
from bvpo_analysis.theory.step_size import weighted_optimal_weight

# mu = (1, 0), g_t = (1, 1) or (1, -1), g_e = (1/2, 0).
LAW = {"second_t": 2.0, "second_e": 0.25, "second_te": 0.5, "signal_t": 1.0, "signal_e": 0.5}
TARGET = {"target_sq": 1.0}
# mu = (1, 0), fixed g_t = (1, 2) and g_e = (-1, 1): the weights Q^-1 u = (1/3, -2/3) have a negative sum.
UPHILL = {"second_t": 5.0, "second_e": 2.0, "second_te": 1.0, "signal_t": 1.0, "signal_e": -1.0}
CALLS = [
    (descent_bound, {"alpha": 0.5, **LAW, **TARGET, "step_size": 0.5, "smoothness": 1.0}),
    (descent_optimal_weight, {**LAW, "kappa": 0.5}),
    (descent_weight_shift, {"signal_t": 1.0, "signal_e": 0.5, "distance": 1.25, "kappa": 0.5}),
    (cosine, {"alpha": 0.5, **LAW, **TARGET}),
    (retuned_step, {"alpha": 0.5, **LAW, "smoothness": 1.0}),
    (cosine_optimal_weight, LAW),
]


def test_worked_bound():
    """Catches a lost 1/2: at alpha = 1/2, <mu, E g_c> = 3/4 and E|g_c|^2 = 13/16."""
    bound = descent_bound(0.5, **LAW, **TARGET, step_size=0.5, smoothness=2.0)
    assert float(bound.change) == pytest.approx(-0.5 * 0.75 + 0.25 * 0.8125)
    assert float(bound.best) == -0.25
    assert float(bound.excess) == pytest.approx(0.25 * (0.8125 - 2 * 0.75 + 1))


def test_worked_weights():
    """Catches kappa on the wrong term: D = 5/4, E<g_e, g_t - g_e> = 1/4, <mu, E(g_t - g_e)> = 1/2."""
    assert float(descent_optimal_weight(**LAW, kappa=1.0)) == pytest.approx(0.2)
    assert float(descent_optimal_weight(**LAW, kappa=0.5)) == pytest.approx(0.6)
    assert float(descent_optimal_weight(**LAW, kappa=0.1)) == pytest.approx(3.8)
    shift = descent_weight_shift(signal_t=1.0, signal_e=0.5, distance=1.25, kappa=0.1)
    assert float(shift) == pytest.approx(3.6)


def test_the_weight_can_leave_the_unit_interval_where_alpha_kappa_is_inside():
    """Catches a clip: it is 3.8 at kappa = .1, where b_t = 0, b_e = (-1/2, 0) and S_t = 1 give alpha_kappa = 5/7."""
    moments = {"bias_t_sq": 0.0, "bias_e_sq": 0.25, "bias_inner": 0.0, "var_t": 1.0, "var_e": 0.0, "cov_te": 0.0}
    assert float(weighted_optimal_weight(**moments, kappa=0.1)) == pytest.approx(5 / 7)
    assert float(descent_optimal_weight(**LAW, kappa=0.1)) == pytest.approx(3.8)


def test_worked_cosine():
    """Catches |mu|^2 for |mu|, and the sign: g_e is parallel to mu, g_t is at 45 degrees."""
    assert float(cosine(0.0, **LAW, **TARGET)) == pytest.approx(1.0)
    assert float(cosine(1.0, **LAW, **TARGET)) == pytest.approx(np.sqrt(0.5))
    assert float(cosine(-1.0, **UPHILL, **TARGET)) == pytest.approx(-3 / np.sqrt(5 + 4 * 2 - 4 * 1))
    quarter = {**LAW, "signal_t": 0.5, "signal_e": 0.25, "target_sq": 0.25}
    assert float(cosine(0.3, **quarter)) == pytest.approx(float(cosine(0.3, **LAW, **TARGET)))


def test_a_parallel_estimator_gets_all_the_weight():
    """Catches swapped numerators: alpha_cos = (Q_ee u_t - Q_te u_e)/... = 0, and the free step removes all error."""
    mix = cosine_optimal_weight(**LAW)
    assert (float(mix.weight_t), float(mix.weight_e), float(mix.alpha)) == pytest.approx((0.0, 2.0, 0.0))
    assert not mix.ascent
    assert not mix.singular
    assert bool(mix.descends)
    step = retuned_step(0.0, **LAW, smoothness=4.0)
    assert (float(step.step_size), float(step.change)) == pytest.approx((0.5, -0.125))


def test_an_affine_ascent_direction_is_flagged_and_replaced_by_the_better_end():
    """Catches cos^2 without the sign: the formula gives -1, an uphill direction; g_t alone is the best mix."""
    mix = cosine_optimal_weight(**UPHILL)
    assert (float(mix.weight_t), float(mix.weight_e)) == pytest.approx((3 / 9, -6 / 9))
    assert bool(mix.ascent)
    assert float(mix.alpha) == float(mix.convex_alpha) == 1.0
    assert bool(mix.descends)
    formula = float(mix.weight_t) / (float(mix.weight_t) + float(mix.weight_e))
    assert float(cosine(formula, **UPHILL, **TARGET)) < 0
    assert float(cosine(formula, **UPHILL, **TARGET)) ** 2 > float(cosine(1.0, **UPHILL, **TARGET)) ** 2


def test_where_nothing_descends_the_flag_says_so():
    """Catches a flag about the formula only: both estimators point uphill."""
    mix = cosine_optimal_weight(second_t=1, second_e=1, second_te=0, signal_t=-0.5, signal_e=-0.25)
    assert bool(mix.ascent)
    assert not mix.descends
    assert float(mix.alpha) == 0.0
    step = retuned_step(0.5, second_t=1, second_e=1, second_te=0, signal_t=-0.5, signal_e=-0.25, smoothness=1)
    assert float(step.step_size) == float(step.change) == 0.0


def test_outside_the_unit_interval_the_nearer_end_is_the_best_convex_weight():
    """Catches the wrong end: g_t = (1, 0) is exact, g_e = (1, 1) is dominated, and beyond it lies more."""
    mix = cosine_optimal_weight(second_t=1.25, second_e=2.0, second_te=1.5, signal_t=1.0, signal_e=1.0)
    assert float(mix.alpha) == pytest.approx(2.0)  # 2 (1, 1/2) - (1, 1) = (1, 0)
    assert float(mix.convex_alpha) == 1.0


@pytest.mark.parametrize("factor", [1.0, 3.0, 1e-3, 1e3, -0.5])
def test_proportional_estimators(factor):
    """Catches 0/0: for g_e = c g_t every combination is the same direction; the shortest weights split it evenly."""
    law = {"second_t": 2.0, "second_e": 2 * factor**2, "second_te": 2 * factor, "signal_t": 1.0, "signal_e": factor}
    mix = cosine_optimal_weight(**law)
    assert bool(mix.singular)
    assert (float(mix.weight_t), float(mix.weight_e) * factor) == pytest.approx((0.25, 0.25))
    if factor > 0:
        assert float(mix.alpha) == pytest.approx(factor / (1 + factor))
        assert bool(mix.descends)
    else:
        assert bool(mix.ascent)
        assert float(mix.alpha) == 1.0
    both = retuned_weights([[2.0, 2 * factor], [2 * factor, 2 * factor**2]], [1.0, factor])
    np.testing.assert_allclose(both.weights, [0.25, 0.25 / factor], rtol=1e-12)
    assert both.rank == 1
    assert both.progress == pytest.approx(0.5)
    assert both.ascent == bool(mix.ascent)


def test_an_estimator_that_is_zero():
    """Catches a division by its size: it gets no weight, and all weight goes to the other."""
    law = {"second_t": 2.0, "second_e": 0.0, "second_te": 0.0, "signal_t": 1.0, "signal_e": 0.0}
    mix = cosine_optimal_weight(**law)
    assert (float(mix.weight_t), float(mix.weight_e), float(mix.alpha)) == pytest.approx((0.5, 0.0, 1.0))
    assert float(cosine(0.0, **law, target_sq=1.0)) == 0.0
    step = retuned_step(0.0, **law, smoothness=1.0)
    assert float(step.step_size) == float(step.change) == 0.0
    general = retuned_weights(np.diag([2.0, 0.0]), [1.0, 0.0])
    assert general.weights == pytest.approx([0.5, 0.0])
    assert general.rank == 1


def test_a_trace_gradient_that_is_zero():
    """Catches roles exchanged, and a matrix with a zero row that counts as regular."""
    law = {"second_t": 0.0, "second_e": 2.0, "second_te": 0.0, "signal_t": 0.0, "signal_e": 1.0}
    mix = cosine_optimal_weight(**law)
    assert (float(mix.weight_t), float(mix.weight_e), float(mix.alpha)) == pytest.approx((0.0, 0.5, 0.0))
    assert bool(mix.singular)
    with pytest.raises(ValueError, match=r"^signal_t contradicts the second moments"):
        cosine_optimal_weight(**{**law, "signal_t": 0.5})


def test_no_signal_at_all():
    """Catches 0/0 at mu = 0: no weight, no progress, flagged."""
    law = {"second_t": 2.0, "second_e": 1.0, "second_te": 0.5, "signal_t": 0.0, "signal_e": 0.0}
    mix = cosine_optimal_weight(**law)
    assert (float(mix.weight_t), float(mix.weight_e)) == (0.0, 0.0)
    assert bool(mix.ascent)
    assert not mix.descends
    assert float(cosine(0.5, **law, target_sq=0.0)) == 0.0
    found = retuned_weights([[2.0, 0.5], [0.5, 1.0]], [0.0, 0.0])
    assert found.affine is None
    assert found.progress == 0.0


def test_three_estimators_by_hand():
    """Catches a normalisation inside the weights: Q = diag(1, 2, 4), u = (1, 1, -1)."""
    found = retuned_weights(np.diag([1.0, 2.0, 4.0]), [1.0, 1.0, -1.0])
    assert found.weights == pytest.approx([1.0, 0.5, -0.25])
    assert found.affine == pytest.approx(np.array([1.0, 0.5, -0.25]) / 1.25)
    assert found.progress == pytest.approx(1.75)
    assert (found.ascent, found.rank) == (False, 3)


def test_very_different_units_are_not_mistaken_for_a_singular_matrix():
    """Catches a rank taken from Q itself: estimators 1e-9 and 1e9 in size are two estimators."""
    found = retuned_weights(np.diag([1e-18, 1e18]), [1e-9, 1e9])
    assert found.rank == 2
    np.testing.assert_allclose(found.weights, [1e9, 1e-9], rtol=1e-12)


# --- arguments -------------------------------------------------------------------------------------------


def test_everything_broadcasts():
    """Catches scalar-only branches, also where one entry is degenerate."""
    several = {name: np.array([value, UPHILL[name]]) for name, value in LAW.items()}
    mix = cosine_optimal_weight(**several)
    assert mix.alpha.tolist() == pytest.approx([0.0, 1.0])
    assert mix.ascent.tolist() == [False, True]
    bound = descent_bound(np.array([[0.1], [0.2]]), **several, **TARGET, step_size=0.5, smoothness=1.0)
    assert bound.change.shape == bound.best.shape == bound.excess.shape == (2, 2)
    assert descent_optimal_weight(**several, kappa=np.array([[0.1], [1.0]])).shape == (2, 2)
    assert retuned_step(np.array([[0.0], [0.5]]), **several, smoothness=1.0).change.shape == (2, 2)


def test_identical_estimators_have_the_documented_weight():
    """Catches 0/0 at D = 0."""
    same = {"second_t": 1.0, "second_e": 1.0, "second_te": 1.0, "signal_t": 0.5, "signal_e": 0.5}
    assert float(descent_optimal_weight(**same, kappa=0.3)) == 0.5
    assert float(cosine_optimal_weight(**same).alpha) == 0.5


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
        for name in ("second_t", "second_e", "target_sq", "step_size", "smoothness", "kappa", "distance")
        if name in a
    ],
)
def test_negative_squares_and_sizes_raise(function, arguments, name):
    """Catches an unbiased (possibly negative) square, and a step uphill."""
    with pytest.raises(ValueError, match=f"^{name} must (not be negative|be positive), got -0.1"):
        function(**{**arguments, name: -0.1})


@pytest.mark.parametrize("name", ["step_size", "smoothness", "kappa", "distance"])
def test_zero_sizes_raise(name):
    """Catches a division by zero: a step of size zero has no kappa."""
    for function, arguments in CALLS:
        if name in arguments:
            with pytest.raises(ValueError, match=f"^{name} must be positive"):
                function(**{**arguments, name: 0.0})


@pytest.mark.parametrize(
    ("function", "arguments"), [pytest.param(f, a, id=f.__name__) for f, a in CALLS if "second_te" in a]
)
def test_impossible_second_moments_raise(function, arguments):
    """Catches a product of other estimators."""
    with pytest.raises(ValueError, match=r"^second_te violates Cauchy-Schwarz"):
        function(**{**arguments, "second_te": -0.8})


@pytest.mark.parametrize("name", ["signal_t", "signal_e"])
def test_impossible_signals_raise(name):
    """Catches signals of another target: <mu, E g> cannot exceed |mu| sqrt(E|g|^2)."""
    for function in (descent_bound, cosine):
        arguments = dict(next(a for f, a in CALLS if f is function))
        with pytest.raises(ValueError, match=f"^{name} violates Cauchy-Schwarz"):
            function(**{**arguments, name: 1.5})


@pytest.mark.parametrize(
    ("law", "name"),
    [
        ({"second_t": 1, "second_e": 1, "second_te": 1, "signal_t": 1, "signal_e": 0}, "signal_t"),
        ({"second_t": 1, "second_e": 0, "second_te": 0, "signal_t": 1, "signal_e": 1}, "signal_e"),
    ],
)
def test_signals_of_what_vanishes_raise(law, name):
    """Catches least squares that hide a contradiction: g_t = g_e cannot differ in signal, nor can zero have one."""
    with pytest.raises(ValueError, match=f"^{name} contradicts the second moments"):
        cosine_optimal_weight(**law)
    q = [[law["second_t"], law["second_te"]], [law["second_te"], law["second_e"]]]
    with pytest.raises(ValueError, match="signals contradict second_moments"):
        retuned_weights(q, [law["signal_t"], law["signal_e"]])


@pytest.mark.parametrize(
    ("second_moments", "signals", "message"),
    [
        ([1.0, 2.0], [1.0, 2.0], "second_moments must be square"),
        (np.ones((2, 3)), [1.0, 2.0], "second_moments must be square"),
        (np.eye(2), [1.0], "signals must have one entry per estimator"),
        ([], [], "second_moments must not be empty"),
        ([[1.0, 0.5], [0.4, 1.0]], [1.0, 1.0], "second_moments must be symmetric"),
        ([[1.0, 2.0], [2.0, 1.0]], [1.0, 1.0], "second_moments must be positive semidefinite"),
        ([[-1.0, 0.0], [0.0, 1.0]], [1.0, 1.0], "second_moments must not be negative"),
        ([[np.nan, 0.0], [0.0, 1.0]], [1.0, 1.0], "second_moments must be finite"),
        (np.eye(2), [1.0, np.inf], "signals must be finite"),
    ],
)
def test_matrices_that_are_no_second_moments_raise(second_moments, signals, message):
    """Catches a covariance of the wrong shape, and eigenvalues that no law has."""
    with pytest.raises(ValueError, match=message):
        retuned_weights(second_moments, signals)
