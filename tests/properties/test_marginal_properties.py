"""Invariants of estimates of the marginal gradient, over all tuples of traces of log-linear models.

Numbered G44 to G46, G48 to G50, G71, G72. Expectations are sums over every tuple of traces, or over how often each of
two or three traces is drawn, with exact probabilities.
"""

import itertools
import math
from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy.special import expit

from bvpo_analysis.estimators import Marginal, Trace
from bvpo_analysis.log_linear import LogLinearModel
from bvpo_analysis.objectives import DPO
from bvpo_analysis.theory.importance_sampling import (
    chi_square,
    effective_sample_size,
    jackknife_weights,
    limiting_sample_size,
    log_mean_weight,
    log_mean_weight_bias,
    normalised_weights,
    pooled_mean,
    self_normalised_bias,
    self_normalised_mean,
    self_normalised_variance,
)
from bvpo_analysis.theory.marginal_estimator import (
    AnswerLaw,
    antithetic_coefficients,
    marginal_coefficients,
    marginal_rate,
)

BETAS = st.floats(0.05, 3.0)
LOGS = hnp.arrays(float, st.integers(1, 12), elements=st.floats(-20, 20))


@dataclass(frozen=True)
class Toy:
    """A log-linear model with two answers, its reference and a policy away from it."""

    model: LogLinearModel
    ref: np.ndarray
    theta: np.ndarray
    beta: float

    def side(self, answer: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Reference posterior [R], log-ratios [R] and scores [R, d]."""
        rho = self.model.log_probs(self.theta)[:, answer] - self.model.log_probs(self.ref)[:, answer]
        return self.model.posterior(self.ref, answer), rho, self.model.scores(self.theta)[:, answer]

    @property
    def laws(self) -> tuple[AnswerLaw, AnswerLaw]:
        return AnswerLaw(*self.side(0)), AnswerLaw(*self.side(1))

    @property
    def target(self) -> np.ndarray:
        """mu, by differentiating log-marginals."""
        now, before = self.model.log_marginal(self.theta), self.model.log_marginal(self.ref)
        margin = self.beta * ((now - before)[0] - (now - before)[1])
        gap = self.model.marginal_score(self.theta, 0) - self.model.marginal_score(self.theta, 1)
        return -self.beta * expit(-margin) * gap

    @property
    def scale(self) -> float:
        return self.beta * float(np.abs(self.model.scores(self.theta)).max())


@st.composite
def toys(draw, traces=(2, 3), *, at_reference=False) -> Toy:
    r, d = draw(st.integers(*traces)), draw(st.integers(1, 4))
    numbers = st.floats(-1.5, 1.5)
    features = draw(hnp.arrays(float, (r, 2, d), elements=numbers))
    assume(np.ptp(features, axis=0).max() > 1e-2)
    ref, shift = (draw(hnp.arrays(float, d, elements=numbers)) for _ in range(2))
    return Toy(LogLinearModel(features), ref, ref if at_reference else ref + shift, draw(BETAS))


def fixed_toy(seed, *, traces=2, shift=0.5, beta=1.5, spread=0.6) -> Toy:
    """A toy whose weights are moderate (chi^2 below 1), so that terms of the next order are small at K = 64."""
    rng = np.random.default_rng(seed)
    model = LogLinearModel.random(rng, traces=traces, answers=2, parameters=4, spread=spread)
    ref, direction = rng.normal(size=(2, 4))
    return Toy(model, ref, ref + shift * direction / np.linalg.norm(direction), beta)


def tuples(p, k):
    """All R^k tuples of traces [R^k, k] and their probabilities."""
    index = np.array(list(itertools.product(range(len(p)), repeat=k)), dtype=int)
    return index, p[index].prod(axis=1)


def multisets(p, k):
    """All ways to draw k of R traces irrespective of order, as sorted tuples [S, k], with their probabilities."""
    ways = [c for c in itertools.product(range(k + 1), repeat=len(p) - 1) if sum(c) <= k]
    tally = [(*c, k - sum(c)) for c in ways]
    chance = [
        math.exp(math.lgamma(k + 1) + sum(n * math.log(q) - math.lgamma(n + 1) for n, q in zip(c, p, strict=True)))
        for c in tally
    ]
    return np.array([np.repeat(np.arange(len(p)), c) for c in tally]), np.array(chance)


def law_of_estimate(toy, k, *, every_tuple=False):
    """All values of muhat_K [S+, S-, d] with their probabilities, the traces of the two sides independent."""
    draw = tuples if every_tuple else multisets
    (p0, rho0, s0), (p1, rho1, s1) = toy.side(0), toy.side(1)
    (i, a), (j, b) = draw(p0, k), draw(p1, k)
    c = marginal_coefficients(rho0[i][:, None], rho1[j][None, :], toy.beta)
    return c.gradient(s0[i][:, None], s1[j][None, :]), np.outer(a, b)


def mean_estimate(toy, k, **kwargs):
    values, chance = law_of_estimate(toy, k, **kwargs)
    return np.einsum("ab,abd->d", chance, values)


# --- the K-trace marginal gradient -----------------------------------------------------------------------


@given(toys())
def test_g44_one_trace_gives_the_joint_gradient(toy):
    """Catches weights or a margin that differ from those of the joint loss at K = 1."""
    pair, _ = toy.model.pair(toy.theta, toy.ref, 0, 1)
    rho = (pair.log_prob - pair.log_prob_ref)[pair.draws]
    found = marginal_coefficients(rho[:, :1], rho[:, 1:], toy.beta)
    rows = np.arange(len(pair.draws))
    expected = Trace(DPO(toy.beta)).coefficients(pair)
    np.testing.assert_allclose(found.chosen[:, 0], expected[rows, pair.draws[:, 0]], rtol=1e-12)
    np.testing.assert_allclose(found.rejected[:, 0], expected[rows, pair.draws[:, 1]], rtol=1e-12)


@given(toys())
def test_g44_the_limit_is_the_marginal_gradient(toy):
    """Catches a target that is not the gradient of the marginal loss: three routes to mu."""
    pair, scores = toy.model.pair(toy.theta, toy.ref, 0, 1)
    rate = marginal_rate(*toy.laws, toy.beta)
    np.testing.assert_allclose(rate.target, toy.target, atol=1e-12 * toy.scale)
    np.testing.assert_allclose(rate.target, (Marginal(DPO(toy.beta)).coefficients(pair) @ scores)[0], atol=1e-11)


@given(LOGS, LOGS, st.floats(-100, 100), BETAS)
def test_g45_a_constant_on_one_side_moves_the_margin_only(plus, minus, constant, beta):
    """Catches weights that are not normalised, a mean-exp that overflows, and the shift on the wrong side."""
    np.testing.assert_allclose(normalised_weights(plus + constant), normalised_weights(plus), rtol=1e-12)
    margin = beta * (np.log(np.exp(plus).mean()) - np.log(np.exp(minus).mean()))
    for found, shift in (
        (marginal_coefficients(plus + constant, minus, beta), constant),
        (marginal_coefficients(plus, minus + constant, beta), -constant),
    ):
        slope = beta * expit(-(margin + beta * shift))
        np.testing.assert_allclose(found.chosen, -slope * np.exp(plus) / np.exp(plus).sum(), rtol=1e-10)
        np.testing.assert_allclose(found.rejected, slope * np.exp(minus) / np.exp(minus).sum(), rtol=1e-10)


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("shift", [0.1, 0.5])
def test_g46_k_times_bias_tends_to_its_limit(seed, shift):
    """Catches any wrong term of the limit: the remainder must halve when K doubles."""
    toy = fixed_toy(seed, shift=shift)
    limit = marginal_rate(*toy.laws, toy.beta).bias
    rest = [np.linalg.norm(k * (mean_estimate(toy, k) - toy.target) - limit) for k in (64, 128)]
    assert np.linalg.norm(limit) > 1e-5
    assert rest[1] > 1e-10
    assert 1.8 <= rest[0] / rest[1] <= 2.2


@pytest.mark.parametrize("seed", range(3))
def test_g46_k_times_variance_tends_to_its_limit(seed):
    """Catches a covariance of margin and score difference that is dropped or has the wrong sign."""
    toy, rest = fixed_toy(seed), []
    limit = marginal_rate(*toy.laws, toy.beta).variance
    for k in (32, 64):
        values, chance = law_of_estimate(toy, k)
        centred = values - np.einsum("ab,abd->d", chance, values)
        rest.append(k * float((chance * (centred**2).sum(axis=-1)).sum()) - limit)
    assert 1.7 <= rest[0] / rest[1] <= 2.3
    assert abs(rest[1]) < 0.1 * limit


@settings(max_examples=30)
@given(toys(traces=(2, 2), at_reference=True), st.integers(1, 4))
def test_g46_every_member_is_unbiased_at_the_reference(toy, k):
    """Catches bias from unequal weights where all log-ratios vanish."""
    np.testing.assert_allclose(mean_estimate(toy, k, every_tuple=True), toy.target, atol=1e-12 * toy.scale)
    assert np.abs(marginal_rate(*toy.laws, toy.beta).bias).max() <= 1e-12 * toy.scale**2 / toy.beta


@settings(max_examples=25)
@given(toys(traces=(2, 2)), st.sampled_from([1, 2]))
def test_g48_differences_of_levels_telescope(toy, half):
    """Catches halves that overlap, a factor 1/2 left out, and weights of the whole normalised over a half."""
    (p0, rho0, s0), (p1, rho1, s1) = toy.side(0), toy.side(1)
    (i, a), (j, b) = tuples(p0, 2 * half), tuples(p1, 2 * half)
    c = antithetic_coefficients(rho0[i][:, None], rho1[j][None, :], toy.beta)
    expected = np.einsum("a,b,abd->d", a, b, c.gradient(s0[i][:, None], s1[j][None, :]))
    whole, part = (mean_estimate(toy, k, every_tuple=True) for k in (2 * half, half))
    np.testing.assert_allclose(expected, whole - part, atol=1e-12 * toy.scale)


@given(toys(at_reference=True), st.integers(1, 3), st.integers(0, 2**32 - 1))
def test_g49_no_difference_where_all_weights_are_equal(toy, half, seed):
    """Catches an antithetic difference that carries noise at the reference, where every level is the same mean."""
    rng, k = np.random.default_rng(seed), 2 * half
    (_, rho0, s0), (_, rho1, s1) = toy.side(0), toy.side(1)
    i, j = rng.integers(len(rho0), size=k), rng.integers(len(rho1), size=k)
    assert np.abs(antithetic_coefficients(rho0[i], rho1[j], toy.beta).gradient(s0[i], s1[j])).max() <= 1e-12 * toy.scale
    away = antithetic_coefficients(np.linspace(0, 1, k), np.linspace(0, 1, k) ** 2, toy.beta)
    assert np.abs(away.chosen).max() > 1e-3 * toy.beta


# --- weights ---------------------------------------------------------------------------------------------


@given(LOGS, st.sampled_from([-1e4, -3.0, 0.0, 1e4]))
def test_g50_effective_sample_size(logs, constant):
    """Catches overflow at log-weights of 1e4, dependence on scale, and a size outside [1, K]."""
    size, k = float(effective_sample_size(logs)), len(logs)
    assert 1 - 1e-12 <= size <= k * (1 + 1e-12)
    w = np.exp(logs - logs.mean())
    assert size == pytest.approx(w.sum() ** 2 / (w**2).sum(), rel=1e-10)
    assert float(effective_sample_size(logs + constant)) == pytest.approx(size, rel=1e-10)
    assert float(effective_sample_size(np.full(k, constant))) == k
    if np.ptp(logs) > 1e-3:
        assert size < k


@given(st.lists(st.tuples(st.integers(1, 9), st.integers(1, 9)), min_size=1, max_size=5))
def test_g50_draws_in_exact_proportion_reach_the_limit(table):
    """Catches 1 - chi^2 for 1 + chi^2, and the divergence taken the other way round."""
    target, copies = np.array(table).T
    p, q = target / target.sum(), copies / copies.sum()
    found = effective_sample_size(np.log(p / q)[np.repeat(np.arange(len(p)), copies)])
    assert float(found) == pytest.approx(float(limiting_sample_size(copies.sum(), chi_square(p, q))), rel=1e-10)


# --- one exact trace in the pool -------------------------------------------------------------------------


def pool(toy, size, first):
    """All pools [N^M, M] with the first member from ``first`` and the others from the prior, and their chances."""
    prior = toy.model.prior(toy.ref)
    index, _ = tuples(prior, size)
    return index, first[index[:, 0]] * prior[index[:, 1:]].prod(axis=1)


def pooled(toy, answer, size, *, first=None, log_weights=None):
    """E fhat, Tr Var fhat and E[variance saved] of the pooled score of an answer."""
    first = toy.model.posterior(toy.ref, answer) if first is None else first
    logs = np.log(toy.model.likelihood(toy.ref, answer)) if log_weights is None else log_weights
    index, chance = pool(toy, size, first)
    found = pooled_mean(logs[index], toy.model.scores(toy.ref)[index, answer])
    mean = chance @ found.mean
    return mean, float(chance @ ((found.mean - mean) ** 2).sum(axis=-1)), float(chance @ found.variance_saved)


@given(toys(traces=(1, 3)), st.integers(1, 4))
def test_g71_a_pool_with_one_exact_trace_is_unbiased(toy, size):
    """Catches weights with pi(r) in them twice, and a normalisation that forgets the exact trace."""
    mean, _, _ = pooled(toy, 0, size)
    np.testing.assert_allclose(mean, toy.model.marginal_score(toy.ref, 0), atol=1e-12 * toy.scale / toy.beta)


@given(toys(traces=(1, 3)), st.integers(1, 4))
def test_g71_the_variance_saved_is_the_expected_spread_of_the_pool(toy, size):
    """Catches an unweighted spread, or one around another mean: Tr Var = Tr Cov - E[spread]."""
    _, variance, saved = pooled(toy, 0, size)
    alone = float(np.trace(toy.model.posterior_covariance(toy.ref, 0)))
    assert abs(variance - (alone - saved)) <= 1e-11 * max(1.0, (toy.scale / toy.beta) ** 2)
    if size == 1:
        assert saved == 0.0
    elif alone > 1e-4 and toy.model.prior(toy.ref).min() > 1e-2:
        assert saved > 0


@pytest.mark.parametrize("size", [1, 2, 3, 4])
def test_g71_what_spoils_the_pool(size):
    """Catches a test that could not fail: a prior-drawn first member, and weights pi(r, y), are biased."""
    toy = fixed_toy(3, traces=3)
    sbar = toy.model.marginal_score(toy.ref, 0)
    drawn, _, _ = pooled(toy, 0, size, first=toy.model.prior(toy.ref))
    twice, _, _ = pooled(toy, 0, size, log_weights=toy.model.log_probs(toy.ref)[:, 0])
    assert np.linalg.norm(drawn - sbar) > 1e-2
    if size > 1:
        assert np.linalg.norm(twice - sbar) > 1e-2


@settings(max_examples=40)
@given(toys(traces=(2, 3)), st.integers(1, 3))
def test_g71_pooling_independent_traces_never_raises_the_variance(toy, size):
    """Catches pools drawn apart for the two answers, and answers that share their exact trace."""
    variance, alone = pair_variance(toy, size, None)
    assert variance <= alone + 1e-11 * max(1.0, (toy.scale / toy.beta) ** 2)


def pair_variance(toy, size, joint):
    """Tr Var of shat+ - shat- with M - 1 shared prior traces, and of s(r_0+) - s(r_0-), for a law of (r_0+, r_0-)."""
    prior, scores = toy.model.prior(toy.ref), toy.model.scores(toy.ref)
    if joint is None:
        joint = np.outer(toy.model.posterior(toy.ref, 0), toy.model.posterior(toy.ref, 1))
    values, alone, chance = [], [], []
    shared, share = tuples(prior, size - 1)
    logs = [np.log(toy.model.likelihood(toy.ref, y)) for y in (0, 1)]
    for plus, minus in np.ndindex(joint.shape):
        estimates = []
        for y, own in ((0, plus), (1, minus)):
            index = np.column_stack([np.full(len(shared), own), shared])
            estimates.append(self_normalised_mean(logs[y][index], scores[index, y]))
        values.append(estimates[0] - estimates[1])
        alone.append(np.broadcast_to(scores[plus, 0] - scores[minus, 1], values[-1].shape))
        chance.append(joint[plus, minus] * share)
    weight, both = np.concatenate(chance), [np.concatenate(v) for v in (values, alone)]
    return tuple(float(weight @ ((v - weight @ v) ** 2).sum(axis=1)) for v in both)


def test_g71_coupled_exact_traces_may_gain_nothing_from_a_pool():
    """Catches the unconditional claim: with r_0- = 1 - r_0+ the two scores cancel, and pooling adds noise."""
    log_p = np.log([[0.8, 0.2], [0.2, 0.8]]) + np.log(0.5)
    index, chance = tuples(np.array([0.5, 0.5]), 2)
    scores = np.array([0.0, 1.0])
    values, weight = [], []
    for plus, p in enumerate((0.8, 0.2)):
        for (_, other), q in zip(index, chance, strict=True):
            estimate = []
            for y, own in ((0, plus), (1, 1 - plus)):
                s = scores if y == 0 else 1 - scores
                members = [own, other]
                estimate.append(float(pooled_mean(log_p[members, y], s[members][:, None]).mean[0]))
            values.append(estimate[0] - estimate[1])
            weight.append(p * q)
    v, w = np.array(values), np.array(weight) / np.sum(weight)
    assert float(w @ (v - w @ v) ** 2) == pytest.approx(0.16, rel=1e-12)
    # One exact trace alone: s+(r) - s-(1 - r) = r - (1 - (1 - r)) = 0 for either r.
    assert all(scores[r] - (1 - scores)[1 - r] == 0 for r in (0, 1))


# --- self-normalised means -------------------------------------------------------------------------------


def importance_error(toy, count, weigh):
    """E of sum_k u_k s_k - sbar with u = weigh(log-likelihoods) of ``count`` prior traces, and the second moment."""
    prior, scores = toy.model.prior(toy.ref), toy.model.scores(toy.ref)[:, 0]
    index, chance = multisets(prior, count)
    u = weigh(np.log(toy.model.likelihood(toy.ref, 0))[index])
    error = np.einsum("sk,skd->sd", u, scores[index]) - toy.model.marginal_score(toy.ref, 0)
    return chance @ error, float(chance @ (error**2).sum(axis=1))


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("traces", [2, 3])
def test_g72_bias_and_variance_of_the_self_normalised_mean(seed, traces):
    """Catches w for w^2, the sign, prior and posterior swapped: remainders must halve from M = 32 to 64."""
    toy = fixed_toy(seed, traces=traces)
    target, prior = toy.model.posterior(toy.ref, 0), toy.model.prior(toy.ref)
    scores = toy.model.scores(toy.ref)[:, 0]
    limit, spread = (f(target, prior, scores, 1) for f in (self_normalised_bias, self_normalised_variance))
    bias, second = zip(*(importance_error(toy, m, normalised_weights) for m in (32, 64)), strict=True)
    rest = [np.linalg.norm(m * b - limit) for m, b in zip((32, 64), bias, strict=True)]
    assert 1.8 <= rest[0] / rest[1] <= 2.2
    assert rest[1] < 0.25 * np.linalg.norm(limit)
    rest = [abs(m * v - spread) for m, v in zip((32, 64), second, strict=True)]
    assert 1.7 <= rest[0] / rest[1] <= 2.3
    np.testing.assert_allclose(self_normalised_bias(target, prior, scores, 40), limit / 40, rtol=1e-12)


@pytest.mark.parametrize("seed", range(5))
def test_g72_the_jackknife_leaves_a_bias_of_second_order(seed):
    """Catches leave-one-out weights that are not renormalised: M^2 times the bias must settle."""
    toy = fixed_toy(seed)
    plain, _ = importance_error(toy, 48, normalised_weights)
    left = [np.linalg.norm(m**2 * importance_error(toy, m, jackknife_weights)[0]) for m in (24, 48)]
    assert left[1] < 1.3 * left[0]
    assert left[1] / 48**2 < 0.3 * np.linalg.norm(plain)


@pytest.mark.parametrize("seed", range(3))
def test_g72_bias_of_the_log_mean_weight(seed):
    """Catches a missing half, or the sign: the logarithm of a mean is low."""
    toy = fixed_toy(seed)
    target, prior = toy.model.posterior(toy.ref, 0), toy.model.prior(toy.ref)
    limit, rest = float(log_mean_weight_bias(chi_square(target, prior), 1)), []
    for m in (32, 64):
        index, chance = multisets(prior, m)
        logs = log_mean_weight(np.log(toy.model.likelihood(toy.ref, 0))[index])
        rest.append(m * float(chance @ logs - toy.model.log_marginal(toy.ref)[0]) - limit)
    assert limit < 0
    assert 1.7 <= rest[0] / rest[1] <= 2.3
    assert abs(rest[1]) < 0.1 * abs(limit)
