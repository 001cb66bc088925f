"""Invariants of J estimators at once and of weights per block, on finite laws given as explicit vectors (G63, G64).

The G24 bound for more than two estimators is here as well, because it needs the simplex optimum.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from strategies import ENTRIES, KAPPAS, REL, Law, laws

from bvpo_analysis import theory
from bvpo_analysis.records import Floats
from bvpo_analysis.theory.blocks import blockwise_gain
from bvpo_analysis.theory.combination import (
    affine_combination,
    error_moments,
    scaling_combination,
    simplex_combination,
    weighted_moments,
)


@dataclass(frozen=True)
class JointLaw:
    """Atoms with probabilities p [n], J gradients g [n, J, d], and a target mu [d]."""

    p: Floats
    g: Floats
    mu: Floats

    def gram(self, x: Floats) -> Floats:
        """E<x_i, x_j> of [n, J, d]."""
        return np.einsum("n,nid,njd->ij", self.p, x, x)

    def error(self, a: Floats) -> float:
        """E|sum a_i g_i - mu|^2 from vectors."""
        x = np.einsum("j,njd->nd", a, self.g) - self.mu
        return float(self.p @ (x * x).sum(axis=1))

    @cached_property
    def moments(self) -> Floats:
        return self.gram(self.g - self.mu)

    @cached_property
    def size(self) -> float:
        """max|M|, or 1 for exact estimators."""
        return float(np.abs(self.moments).max()) or 1.0

    @cached_property
    def biases(self) -> Floats:
        return np.einsum("n,njd->jd", self.p, self.g) - self.mu


@st.composite
def joint_laws(draw: st.DrawFn, *, estimators: tuple[int, int] = (1, 6), shared: bool = True) -> JointLaw:
    """A law of J gradients; with ``shared``, some are exact, equal to another, or constant."""
    n, j, d = draw(st.integers(1, 4)), draw(st.integers(*estimators)), draw(st.integers(1, 5))
    p = np.array(draw(st.lists(st.integers(1, 9), min_size=n, max_size=n)), dtype=float)
    g, mu = draw(hnp.arrays(float, (n, j, d), elements=ENTRIES)), draw(hnp.arrays(float, d, elements=ENTRIES))
    for i in range(j) if shared else ():
        kind = draw(st.sampled_from(["own", "own", "own", "equal", "exact", "constant"]))
        if kind == "equal":
            g[:, i] = g[:, 0]
        elif kind == "exact":
            g[:, i] = mu
        elif kind == "constant":
            g[:, i] = g[:1, i]
    return JointLaw(p / p.sum(), g, mu)


@given(laws())
def test_g63_two_estimators_give_the_clipped_closed_form(law):
    """Catches an optimum of the wrong role, or one that leaves the simplex."""
    moments = [[law.error_t, law.cross], [law.cross, law.error_e]]
    expected = float(np.clip(law.alpha, 0.0, 1.0))
    best = simplex_combination(moments)
    assert abs(best.weights[0] - expected) <= REL
    assert abs(best.value - law.mse(expected)) <= REL * law.scale
    free = affine_combination(moments)
    assert abs(free.value - law.mse(law.alpha)) <= REL * max(1.0, law.alpha**2) * law.scale


@given(joint_laws())
def test_g63_the_simplex_optimum_satisfies_the_kkt_conditions(law):
    """Catches any wrong optimum: the conditions, recomputed from vectors, are sufficient by convexity."""
    best = simplex_combination(law.moments)
    a = best.weights
    assert (a >= 0).all()
    assert abs(a.sum() - 1) <= 1e-12
    mixed = np.einsum("j,njd->nd", a, law.g) - law.mu
    slope = np.einsum("n,njd,nd->j", law.p, law.g - law.mu, mixed)
    value = law.error(a)
    assert (slope >= value - 1e-8 * law.size).all()
    assert (np.abs(slope - value)[a > 0] <= 1e-8 * law.size).all()
    assert best.residual <= 1e-8 * law.size
    assert abs(best.value - value) <= REL * law.size
    np.testing.assert_array_equal(best.active, a == 0)


@given(joint_laws(), st.integers(0, 2**32 - 1))
def test_g63_no_random_convex_weights_do_better(law, seed):
    """Catches a certificate and an optimum that are wrong together: corners, edges and the inside are searched."""
    j = law.g.shape[1]
    rng = np.random.default_rng(seed)
    tries = np.concatenate([np.eye(j), rng.dirichlet(np.ones(j), 100), rng.dirichlet(np.full(j, 0.2), 100)])
    values = [law.error(a) for a in tries]
    assert simplex_combination(law.moments).value <= min(values) + REL * law.size


@given(joint_laws(estimators=(2, 6)))
def test_g63_a_further_estimator_never_hurts(law):
    """Catches a solver that is led astray by a useless row; and the simplex inside the affine set."""
    for solve in (simplex_combination, affine_combination):
        all_of_them = solve(law.moments)
        slack = REL * law.size + 4 * all_of_them.rounding
        assert all_of_them.value <= solve(law.moments[:-1, :-1]).value + slack
    free, convex = affine_combination(law.moments), simplex_combination(law.moments)
    assert free.value <= convex.value + REL * law.size


@given(joint_laws(estimators=(2, 6), shared=False))
def test_g63_affine_weights_minimise_the_error(law):
    """Catches a wrong border or multiplier: against least squares on the stacked vectors, differences to the last."""
    assume(np.linalg.eigvalsh(law.moments)[0] > 1e-6 * law.size)
    root = np.sqrt(law.p)[:, None, None]
    x = root * (law.g - law.mu)
    base, steps = x[:, -1].ravel(), (x[:, :-1] - x[:, -1:]).transpose(0, 2, 1).reshape(-1, x.shape[1] - 1)
    free = np.linalg.lstsq(steps, -base, rcond=None)[0]
    expected = np.append(free, 1 - free.sum())
    best = affine_combination(law.moments)
    scale = max(1.0, float(np.abs(expected).sum()) ** 2)
    np.testing.assert_allclose(best.weights, expected, rtol=0, atol=1e-8 * scale)
    assert abs(best.value - law.error(expected)) <= REL * scale * law.size
    assert abs(best.multiplier - best.value) <= REL * scale * law.size


@given(joint_laws(), st.permutations(range(6)))
def test_g63_the_order_of_the_estimators_does_not_matter(law, order):
    """Catches a default that depends on the position of a row."""
    j = law.g.shape[1]
    order = [i for i in order if i < j]
    moved = law.moments[np.ix_(order, order)]
    assert abs(simplex_combination(moved).value - simplex_combination(law.moments).value) <= REL * law.size


@given(joint_laws())
def test_g63_moments_around_the_target(law):
    """Catches a dropped or doubled term in the centring: against the errors as vectors."""
    products, inner = law.gram(law.g), np.einsum("n,njd->jd", law.p, law.g) @ law.mu
    square = float(law.mu @ law.mu)
    got = error_moments(products, inner, square)
    np.testing.assert_allclose(got, law.moments, rtol=0, atol=REL * (np.abs(products).max() + square))


@given(joint_laws())
def test_g63_free_weights_are_the_affine_optimum_with_a_zero_estimator(law):
    """Catches a wrong sign of the target: against least squares on the stacked vectors, and the extended matrix."""
    products, inner = law.gram(law.g), np.einsum("n,njd->jd", law.p, law.g) @ law.mu
    square = float(law.mu @ law.mu)
    best = scaling_combination(products, inner, square)
    root = np.sqrt(law.p)[:, None]
    stacked = (root[:, :, None] * law.g).transpose(0, 2, 1).reshape(-1, law.g.shape[1])
    expected = np.linalg.lstsq(stacked, (root * law.mu).ravel(), rcond=1e-9)[0]
    scale = float(np.abs(products).max()) + square
    slack = REL * scale * max(1.0, float(np.abs(expected).sum()) ** 2) + 4 * best.rounding
    assert abs(best.value - law.error(expected)) <= slack
    extended = JointLaw(law.p, np.concatenate([law.g, np.zeros_like(law.g[:, :1])], axis=1), law.mu)
    affine = affine_combination(extended.moments)
    assert abs(affine.value - best.value) <= slack + 4 * affine.rounding
    assert best.value <= square


@given(joint_laws(estimators=(1, 3), shared=False), st.integers(0, 2**32 - 1))
def test_g29_free_weights_point_closest_to_the_target(law, seed):
    """Catches a direction that is not Q^-1 u: no random combination has a larger cosine with the target."""
    products, inner = law.gram(law.g), np.einsum("n,njd->jd", law.p, law.g) @ law.mu
    square = float(law.mu @ law.mu)
    assume(np.linalg.eigvalsh(products)[0] > 1e-6 * np.abs(products).max())
    best = scaling_combination(products, inner, square).weights
    tries = np.random.default_rng(seed).normal(size=(200, len(inner)))
    explained = (tries @ inner) ** 2 / np.einsum("ki,ij,kj->k", tries, products, tries)
    assert (best @ inner >= explained - REL * square).all()


@settings(max_examples=60)
@given(joint_laws(estimators=(3, 3)), KAPPAS)
def test_g24_price_of_the_mse_optimum_on_the_simplex(law, k):
    """Catches kappa on the bias: for three estimators the MSE optimum costs at most (1 + k)^2/(4k) at kappa = k."""
    centred = law.g - np.einsum("n,njd->jd", law.p, law.g)
    bias, noise = law.biases @ law.biases.T, law.gram(centred)
    np.testing.assert_allclose(weighted_moments(bias, noise), law.moments, rtol=0, atol=REL * law.size)
    at_k = weighted_moments(bias, noise, k)
    first = simplex_combination(law.moments).weights
    cost, least = float(first @ at_k @ first), simplex_combination(at_k).value
    slack = 1e-10 * max(1.0, k, 1 / k) * law.size
    assert cost <= (1 + k) ** 2 / (4 * k) * least * (1 + 1e-9) + slack


# --- blocks ----------------------------------------------------------------------------------------------


@given(laws(), st.lists(st.integers(0, 2), min_size=6, max_size=6))
def test_g64_a_weight_per_block_saves_the_spread_of_the_weights(law, assignment):
    """Catches an unweighted mean, a pooled weight other than alpha*, and a saving below zero."""
    labels = np.array(assignment[: len(law.mu)])
    blocks = [
        Law(law.p, law.t[:, keep], law.e[:, keep], law.mu[keep])
        for keep in (labels == label for label in np.unique(labels))
    ]
    assume(all(b.distance == 0 or b.distance > 1e-6 * law.scale for b in blocks))
    weights = np.array(
        [
            float(
                theory.optimal_weight_from_distance(
                    b.mean_product(b.t - b.mu, b.t - b.e), b.distance, b.error_t + b.error_e
                )
            )
            for b in blocks
        ]
    )
    saved = blockwise_gain(weights, [b.distance for b in blocks])
    slack = REL * max(1.0, float(np.abs(weights).max()) ** 2) * law.scale
    assert saved.gain >= 0
    assert abs(saved.pooled - law.alpha) <= REL * max(1.0, float(np.abs(weights).max()))
    single, separate = law.mse(saved.pooled), sum(b.mse(a) for b, a in zip(blocks, weights, strict=True))
    assert abs(single - separate - saved.gain) <= slack
    np.testing.assert_array_equal(saved.degenerate, [b.distance == 0 for b in blocks])
    assert abs(saved.shares.sum() - saved.gain) <= slack
