"""Invariants of the slack-free descent bound and of the weights of a free step size. G27, G28, G29 and G73."""

import numpy as np
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from strategies import ENTRIES, KAPPAS, REL, WEIGHTS, Law, close, laws

from bvpo_analysis.theory.combination import scaling_combination
from bvpo_analysis.theory.descent import (
    cosine,
    cosine_optimal_weight,
    descent_bound,
    descent_optimal_weight,
    descent_weight_shift,
    retuned_step,
    retuned_weights,
)

POINTS = hnp.arrays(float, 6, elements=st.one_of(st.just(0.0), st.floats(1e-3, 3.0), st.floats(-3.0, -1e-3)))
SCALES = st.floats(-2.0, 2.0).map(lambda x: 10.0**x)


def seconds(law: Law) -> dict[str, float]:
    """Second moments and signals from vectors, by argument name."""
    return {
        "second_t": law.mean_product(law.t, law.t),
        "second_e": law.mean_product(law.e, law.e),
        "second_te": law.mean_product(law.t, law.e),
        "signal_t": float(law.mu @ (law.p @ law.t)),
        "signal_e": float(law.mu @ (law.p @ law.e)),
    }


def change_on_a_quadratic(law: Law, alpha: float, step: float, smoothness: float) -> float:
    """E f(x - eta g_c) - f(x) for f = (L/2)|x|^2 at the point x = mu/L, where the gradient is mu."""
    x = law.mu / smoothness
    after = x - step * (alpha * law.t + (1 - alpha) * law.e)
    return smoothness / 2 * float(law.p @ ((after - x) * (after + x)).sum(axis=1))


def conditioning(law: Law) -> float:
    """1 minus the squared correlation of g_t and g_e as random vectors; 1 where one of them is zero."""
    q = seconds(law)
    both = q["second_t"] * q["second_e"]
    return 1 - q["second_te"] ** 2 / both if both > 0 else 1.0


@given(laws(), WEIGHTS, KAPPAS, SCALES)
def test_g27_the_bound_is_attained_on_a_quadratic_and_splits_into_a_rescaled_error(law, alpha, k, smoothness):
    """Catches a sign, a lost 1/2 and kappa in the wrong place: against explicit steps and explicit errors."""
    step = k / smoothness
    bound = descent_bound(
        alpha, **seconds(law), target_sq=float(law.mu @ law.mu), step_size=step, smoothness=smoothness
    )
    error = Law(law.p, law.t, law.e, law.mu / k).mse(alpha)
    slack = REL * max(1, alpha**2) * max(1, k**2) * law.scale / smoothness
    assert abs(float(bound.change) - change_on_a_quadratic(law, alpha, step, smoothness)) <= slack
    assert abs(float(bound.excess) - smoothness * step**2 / 2 * error) <= slack
    assert abs(float(bound.best) + float(law.mu @ law.mu) / (2 * smoothness)) <= slack
    assert abs(float(bound.change) - float(bound.best) - float(bound.excess)) <= slack


@given(laws(), WEIGHTS, st.floats(0.01, 3.0), POINTS)
@settings(max_examples=60)
def test_g27_the_bound_holds_off_quadratics(law, alpha, step, point):
    """Catches a bound that is no bound: f = sum log cosh is 1-smooth, its gradient is tanh."""
    x = point[: len(law.mu)]
    at_x = Law(law.p, law.t, law.e, np.tanh(x))
    after = x - step * (alpha * law.t + (1 - alpha) * law.e)
    change = float(law.p @ (np.logaddexp(after, -after) - np.logaddexp(x, -x)).sum(axis=1))
    target_sq = float(at_x.mu @ at_x.mu)
    bound = descent_bound(alpha, **seconds(at_x), target_sq=target_sq, step_size=step, smoothness=1.0)
    assert change <= float(bound.change) + REL * max(1, alpha**2) * max(1, step**2) * (at_x.scale + 1)


@given(laws(), KAPPAS)
def test_g27_the_optimum_of_the_bound(law, k):
    """Catches kappa on the wrong term, and the sign of <mu, E(g_t - g_e)>: no weight takes the quadratic lower."""
    best = float(descent_optimal_weight(**seconds(law), kappa=k))
    slack = REL * max(1, best**2) * max(1, k**2) * law.scale
    least = change_on_a_quadratic(law, best, k, 1.0)
    for step in (-1.0, -0.1, 0.1, 1.0):
        excess = change_on_a_quadratic(law, best + step, k, 1.0) - least
        assert abs(excess - k**2 / 2 * law.distance * step**2) <= slack


@given(laws(), KAPPAS)
def test_g27_at_kappa_one_it_is_the_mse_optimum_and_elsewhere_shifted(law, k):
    """Catches a shift of the wrong sign, and one that does not vanish at kappa = 1."""
    q = seconds(law)
    assert close(float(descent_optimal_weight(**q, kappa=1.0)), law.alpha)
    signals = {"signal_t": q["signal_t"], "signal_e": q["signal_e"]}
    shift = float(descent_weight_shift(**signals, distance=law.distance, kappa=k))
    assert close(law.alpha + shift, float(descent_optimal_weight(**q, kappa=k)), REL * max(1, 1 / k))
    gap = float(law.mu @ (law.p @ (law.e - law.t)))
    if abs(gap) > REL * law.scale and k != 1:
        assert (shift > 0) == ((1 - k) * gap < 0)


@given(laws(), SCALES, SCALES, SCALES)
def test_g28_units_of_target_and_estimators(law, of_mu, of_t, of_e):
    """Catches a direction that depends on |mu|, and weights that do not undo the unit of their estimator."""
    assume(conditioning(law) > 1e-4)
    plain = cosine_optimal_weight(**seconds(law))
    longer = cosine_optimal_weight(**seconds(Law(law.p, law.t, law.e, of_mu * law.mu)))
    scaled = cosine_optimal_weight(**seconds(Law(law.p, of_t * law.t, of_e * law.e, law.mu)))
    w = np.array([float(plain.weight_t), float(plain.weight_e)])
    sizes = np.sqrt([law.mean_product(law.t, law.t), law.mean_product(law.e, law.e)])
    slack = REL * np.sqrt(float(law.mu @ law.mu)) / np.where(sizes > 0, sizes, 1.0)
    assert (np.abs(np.array([float(longer.weight_t), float(longer.weight_e)]) / of_mu - w) <= slack).all()
    assert (np.abs(np.array([float(scaled.weight_t) * of_t, float(scaled.weight_e) * of_e]) - w) <= slack).all()
    if w.sum() > 1e-4 * np.abs(w).sum():
        assert not plain.ascent
        assert close(float(longer.alpha), float(plain.alpha), 1e-8 * max(1.0, float(plain.alpha) ** 2))


def directional(law: Law, weights: np.ndarray) -> np.ndarray:
    """<mu, E g>/sqrt(E|g|^2) of every row of weights [n, 2], from vectors; 0 where g vanishes."""
    g = np.einsum("aj,jnd->and", weights, np.stack([law.t, law.e]))
    signal = np.einsum("n,and,d->a", law.p, g, law.mu)
    square = np.einsum("n,and->a", law.p, g**2)
    vanishes = square <= 1e-24 * law.scale
    return np.where(vanishes, 0.0, signal / np.sqrt(np.where(vanishes, 1.0, square)))


ANGLES = np.linspace(0, np.pi, 181)
DIRECTIONS = np.stack([np.cos(ANGLES), np.sin(ANGLES)], axis=1)


@given(laws())
def test_g29_no_direction_has_a_larger_cosine(law):
    """Catches Q^{-1}u with a wrong entry or sign, also where g_t and g_e are proportional."""
    mix = cosine_optimal_weight(**seconds(law))
    assume(bool(mix.singular) or conditioning(law) > 1e-6)
    w = np.array([[float(mix.weight_t), float(mix.weight_e)]])
    largest = float(directional(law, w)[0])
    slack = 1e-8 * float(law.mu @ law.mu)
    sizes = np.sqrt([law.mean_product(law.t, law.t), law.mean_product(law.e, law.e)])
    grid = DIRECTIONS / np.where(sizes > 0, sizes, 1.0)
    assert largest >= -slack
    assert (directional(law, grid) ** 2 <= largest**2 + slack).all()
    general = retuned_weights(
        [[law.mean_product(x, y) for y in (law.t, law.e)] for x in (law.t, law.e)],
        [float(law.mu @ (law.p @ x)) for x in (law.t, law.e)],
    )
    assert abs(general.progress - largest**2) <= slack
    assert np.abs((general.weights - w[0]) * sizes).max() <= 1e-6 * np.sqrt(float(law.mu @ law.mu))


@given(laws(), st.lists(WEIGHTS, min_size=3, max_size=3))
def test_g29_g73_the_weight_descends_or_says_so_and_is_best_where_it_does(law, others):
    """Catches cos^2 maximised without its sign: an affine mix that points uphill and is not flagged."""
    mix = cosine_optimal_weight(**seconds(law))
    assume(bool(mix.singular) or conditioning(law) > 1e-6)
    alpha, convex = float(mix.alpha), float(mix.convex_alpha)
    mu = np.sqrt(float(law.mu @ law.mu))
    slack = 1e-7 * max(1.0, mu)

    def along(*weights: float) -> np.ndarray:
        return directional(law, np.array([[a, 1 - a] for a in weights]))

    if bool(mix.descends):
        assert float(law.mu @ (law.p @ (alpha * law.t + (1 - alpha) * law.e))) > 0
    else:
        assert float(along(alpha)[0]) <= slack
        assert (along(*np.linspace(0, 1, 21)) <= slack).all()
    assert 0 <= convex <= 1
    assert (along(*np.linspace(0, 1, 21)) <= float(along(convex)[0]) + slack).all()
    if not mix.ascent:
        assert bool(mix.descends)
        assert (along(*others) <= float(along(alpha)[0]) + slack).all()
    measured = float(cosine(convex, **seconds(law), target_sq=mu**2)) * mu
    assert abs(measured - float(along(convex)[0])) <= 1e-6 * max(1.0, mu)


@given(laws(), WEIGHTS, SCALES)
def test_g29_the_retuned_step_is_the_best_step(law, alpha, smoothness):
    """Catches a lost 1/2 or 1/L, and a negative step: against explicit steps on the quadratic."""
    found = retuned_step(alpha, **seconds(law), smoothness=smoothness)
    step, change = float(found.step_size), float(found.change)
    slack = REL * law.scale / smoothness
    assert step >= 0
    assert abs(change_on_a_quadratic(law, alpha, step, smoothness) - change) <= slack
    for factor in (0.0, 0.5, 0.9, 1.1, 2.0):
        assert change_on_a_quadratic(law, alpha, factor * step, smoothness) >= change - slack
    assert change_on_a_quadratic(law, alpha, 1e-3 / smoothness, smoothness) >= change - slack


@st.composite
def several(draw: st.DrawFn):
    """Probabilities [n], one to four estimators [J, n, d], the last one possibly a copy, and a target [d]."""
    j, n, d = draw(st.integers(1, 4)), draw(st.integers(1, 4)), draw(st.integers(1, 4))
    p = np.array(draw(st.lists(st.integers(1, 9), min_size=n, max_size=n)), dtype=float)
    g = draw(hnp.arrays(float, (j, n, d), elements=ENTRIES))
    if draw(st.booleans()):
        g = np.concatenate([g, 2 * g[:1]])
    return p / p.sum(), g, draw(hnp.arrays(float, d, elements=ENTRIES))


@given(several(), st.integers(0, 2**32 - 1))
def test_g28_g29_any_number_of_estimators_also_with_copies(case, seed):
    """Catches a plain inverse of a singular matrix, and weights that are not the best of random directions."""
    p, g, mu = case
    q, u = np.einsum("n,ind,jnd->ij", p, g, g), np.einsum("n,jnd,d->j", p, g, mu)
    sizes = np.sqrt(np.diag(q))
    spectrum = np.linalg.eigvalsh(q / np.maximum(np.outer(sizes, sizes), 1e-300))
    assume(not ((np.abs(spectrum) > 1e-15 * len(g)) & (spectrum < 1e-6)).any())
    found = retuned_weights(q, u)
    mu_sq = float(mu @ mu)
    mixed = np.einsum("j,jnd->nd", found.weights, g)
    square, signal = float(p @ (mixed**2).sum(axis=1)), float(mu @ (p @ mixed))
    # At w = Q^{-1} u signal, square and progress are one number.
    for value in (square, signal):
        assert abs(value - found.progress) <= 1e-8 * mu_sq
    assert 0 <= found.progress <= mu_sq * (1 + REL)
    trials = np.random.default_rng(seed).normal(size=(50, len(g))) / np.where(sizes > 0, sizes, 1.0)
    random = np.einsum("aj,jnd->and", trials, g)
    signals, squares = np.einsum("n,and,d->a", p, random, mu), np.einsum("n,and->a", p, random**2)
    assert (signals**2 <= (found.progress + 1e-8 * mu_sq) * squares).all()
    assert found.rank == int((spectrum > 1e-6).sum())
    if found.affine is None:
        assert found.ascent
    else:
        assert abs(found.affine.sum() - 1) <= 1e-9 * np.abs(found.affine).sum()
        assert float(mu @ (p @ np.einsum("j,jnd->nd", found.affine, g))) >= 0
    assert abs(scaling_combination(q, u, mu_sq).value - (mu_sq - found.progress)) <= 1e-7 * mu_sq
