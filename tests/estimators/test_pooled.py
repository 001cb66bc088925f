"""The pooled estimator by enumeration of every posterior trace and every pool of prior traces."""

import itertools
from dataclasses import replace

import numpy as np
import pytest

from bvpo_analysis.estimators import Pooled, Trace
from bvpo_analysis.objectives import DPO, IPO, SimPO
from bvpo_analysis.records import PairLogProbs
from bvpo_analysis.testing import toy_pair

REFERENCE_LOSSES = (DPO(0.7), IPO(0.4))


@pytest.mark.parametrize("pool", [1, 2, 3, 4])
@pytest.mark.parametrize("loss", REFERENCE_LOSSES, ids=repr)
def test_unbiased_at_the_reference_for_every_pool(at_reference, loss, pool):
    """Catches prior traces that are not shared out by pi(y | x, r), and a pool without its posterior trace (G71)."""
    for prompt in at_reference:
        found = prompt.from_pools(Pooled(loss, pool), pool - 1)
        assert found.p.sum() == pytest.approx(1.0, abs=1e-12)
        np.testing.assert_allclose(found.mean, prompt.target(loss), atol=1e-12 * np.abs(found.g).max())


def test_it_is_the_posterior_trace_that_makes_it_unbiased(at_reference):
    """Power of the test above: a prior trace in its place gives plain importance sampling, biased by O(1/M)."""
    loss, bias = REFERENCE_LOSSES[0], []
    for prompt in at_reference:
        prior = prompt.model.prior(prompt.ref)
        wrong = [prompt.from_pools(Pooled(loss, m), m - 1, first=np.outer(prior, prior)).mean for m in (1, 2, 4)]
        bias.append(
            [np.linalg.norm(mean - prompt.target(loss)) / np.linalg.norm(prompt.target(loss)) for mean in wrong]
        )
    assert np.min(bias) > 1e-3
    assert (np.diff(bias, axis=1) < 0).all()


def test_weights_with_the_probability_of_the_trace_are_wrong(at_reference):
    """Power: weights pi(r, y | x) count the prior twice, since the traces are drawn from it already."""
    loss, prompt = REFERENCE_LOSSES[0], at_reference[0]
    pairs, p = prompt.trace_pairs()
    prior = prompt.model.prior(prompt.ref)
    both = [(i, r) for i in range(len(pairs)) for r in range(3)]
    pair, scores = prompt.pair([pairs[i] for i, _ in both], [r for _, r in both])
    chance = np.array([p[i] * prior[r] for i, r in both])
    right = chance @ Pooled(loss, 2).coefficients(pair) @ scores
    wrong = chance @ Pooled(loss, 2).coefficients(replace(pair, log_prob_answer=pair.log_prob)) @ scores
    np.testing.assert_allclose(right, prompt.target(loss), atol=1e-12)
    assert np.linalg.norm(wrong - right) > 1e-3 * np.linalg.norm(right)


def test_the_variance_is_at_most_that_of_one_trace_and_falls_with_the_pool(at_reference):
    """Catches members that are counted but carry no weight: averaging over the pool takes variance off."""
    for prompt in at_reference:
        single = prompt.from_draws(Trace(DPO(0.7)), 1).variance
        pooled = [prompt.from_pools(Pooled(DPO(0.7), m), m - 1).variance for m in (1, 2, 3, 4)]
        assert pooled[0] == pytest.approx(single, rel=1e-12)
        assert (np.diff(pooled) < -1e-6 * single).all()


def test_with_coupled_posterior_traces_the_variance_can_rise():
    """The limit of the statement above, by hand: r- = 1 - r+ leaves g_t constant and the pooled estimator not."""
    scores = np.array([[0.0], [1.0], [1.0], [0.0]])  # s(a, y+), s(b, y+), s(a, y-), s(b, y-)
    log_answer = np.log([0.8, 0.2, 0.2, 0.8])
    prior = [0, 1, 0, 1]
    draws = [(0, 1), (0, 1), (1, 0), (1, 0)]
    pair = PairLogProbs(
        prompt_id="coupled",
        log_prob=log_answer + np.log(0.5),
        log_prob_ref=log_answer + np.log(0.5),
        log_prob_answer=log_answer,
        tokens=np.full(4, 2),
        tokens_answer=np.ones(4, dtype=np.int64),
        draws=np.array([(a, 2 + b) for a, b in draws]),
        weights=np.full(4, 0.25),
        enumerated=False,
        support=np.empty((2, 0), dtype=np.int64),
        empty=np.array([0, 2]),
        prior=np.array([(r, 2 + r) for r in prior]),
    )
    chance = np.array([0.4, 0.4, 0.1, 0.1])
    for estimator, expected in ((Trace(DPO(2.0)), 0.0), (Pooled(DPO(2.0), 2), 0.16)):
        g = estimator.coefficients(pair) @ scores
        mean = chance @ g
        # Given r- = 1 - r+, s+ equals s-, so one trace pair gives zero every time.
        assert chance @ ((g - mean) ** 2).sum(axis=1) == pytest.approx(expected, abs=1e-12)


def test_a_reference_free_loss_is_consistent_and_not_unbiased(at_reference):
    """Catches the marginal of another loss: the bias falls towards zero, and is not zero for any pool."""
    loss = SimPO(2.0, 0.5)
    for prompt in at_reference:
        mu = prompt.target(loss)
        bias = [np.linalg.norm(prompt.from_pools(Pooled(loss, m), m - 1).mean - mu) for m in (1, 3, 6)]
        assert bias[0] > bias[1] > bias[2] > 1e-6 * np.linalg.norm(mu)
        assert bias[2] < 0.4 * bias[0]


def test_a_length_normalised_loss_takes_the_mean_weight_of_the_pool_per_token_of_the_answer():
    """Catches a sum of weights for their mean, which cancels only where both answers have as many tokens."""
    log_prob = np.random.default_rng(2).normal(-4.0, 1.0, 21)
    pair = toy_pair(log_prob_ref=log_prob, further=True)
    lengths = pair.tokens_answer.copy()
    lengths[[2, 3, 9, 10, 11]] = 5
    pair = replace(pair, tokens_answer=lengths)
    c = Pooled(SimPO(2.0, 0.5), 4).coefficients(pair)[0]
    sides = [np.exp(pair.log_prob_answer[[i, *pair.prior[:, side]]]) for side, i in enumerate(pair.draws[0])]
    margin = 2.0 * (np.log(sides[0].mean()) / 3 - np.log(sides[1].mean()) / 5) - 0.5
    slope = 2.0 / (1 + np.exp(margin))
    np.testing.assert_allclose(c[[0, 6, 7, 8]], -slope / 3 * sides[0] / sides[0].sum(), rtol=1e-12)
    np.testing.assert_allclose(c[[2, 9, 10, 11]], slope / 5 * sides[1] / sides[1].sum(), rtol=1e-12)


@pytest.mark.parametrize("loss", REFERENCE_LOSSES, ids=repr)
def test_off_the_reference_its_bias_falls_with_the_pool(off_reference, loss):
    """Catches the policy's weights without the ratio of the traces, whose bias does not fall."""
    for prompt in off_reference:
        mu = prompt.target(loss)
        bias = [np.linalg.norm(prompt.from_pools(Pooled(loss, m), m - 1, known=True).mean - mu) for m in (1, 2, 4, 8)]
        assert (np.diff(bias) < 0).all()
        assert bias[3] < 0.3 * bias[0]


def test_off_the_reference_the_ratio_of_the_marginals_is_estimated_without_bias(off_reference):
    """The identity behind it, E sum_k q_k e^{rho_k} = e^h; and a pool of one is g_t."""
    for prompt in off_reference:
        single = prompt.from_pools(Pooled(DPO(0.7), 1), 0, known=True)
        np.testing.assert_allclose(single.g, prompt.from_draws(Trace(DPO(0.7)), 1).g, rtol=1e-12)
        ratio = prompt.model.log_marginal(prompt.theta) - prompt.model.log_marginal(prompt.ref)
        for size in (1, 2, 3):
            for side in (0, 1):
                assert mean_ratio(prompt, side, size) == pytest.approx(np.exp(ratio[side]), rel=1e-12)


def mean_ratio(prompt, answer, size):
    """E sum_k q_k e^{rho_k} over pools of one posterior and size - 1 prior traces, from the model's own tables."""
    rho = prompt.model.log_probs(prompt.theta)[:, answer] - prompt.model.log_probs(prompt.ref)[:, answer]
    weight = prompt.model.likelihood(prompt.ref, answer)
    laws = [prompt.model.posterior(prompt.ref, answer), *[prompt.model.prior(prompt.ref)] * (size - 1)]
    total = 0.0
    for pool in itertools.product(range(prompt.traces), repeat=size):
        k = list(pool)
        chance = np.prod([law[r] for law, r in zip(laws, pool, strict=True)])
        total += chance * weight[k] @ np.exp(rho[k]) / weight[k].sum()
    return total


def test_realisations_take_prior_traces_of_their_own():
    """Catches overlapping pools, a pool in another order, and more realisations than there are draws or pools."""
    log_prob = np.random.default_rng(1).normal(-4.0, 1.0, 21)
    pair = toy_pair(log_prob_ref=log_prob, further=True)
    two = Pooled(DPO(0.7), 2).coefficients(pair)
    assert [np.flatnonzero(row).tolist() for row in two] == [[0, 2, 6, 9], [1, 3, 7, 10]]
    for row, draw, (r, q) in zip(two, pair.draws, pair.prior[:2], strict=True):
        w = np.exp(pair.log_prob_answer)
        np.testing.assert_allclose(row[[draw[0], r]], -0.35 * w[[draw[0], r]] / w[[draw[0], r]].sum(), rtol=1e-13)
        np.testing.assert_allclose(row[[draw[1], q]], 0.35 * w[[draw[1], q]] / w[[draw[1], q]].sum(), rtol=1e-13)
    assert len(Pooled(DPO(0.7), 4).coefficients(pair)) == 1
    assert len(Pooled(DPO(0.7), 1).coefficients(pair)) == 2


def test_tiny_probabilities_of_the_answer_do_not_underflow():
    pair = toy_pair(log_prob_ref=np.where(np.arange(21) < 12, -4000.0, -2.0), further=True)
    np.testing.assert_allclose(Pooled(DPO(2.0), 4).coefficients(pair)[0, [0, 6, 7, 8]], -0.25, rtol=1e-12)


def test_what_it_refuses(at_reference):
    """Catches pools without enough prior traces, and weights of the wrong policy off the reference."""
    with pytest.raises(ValueError, match="pool must hold at least the posterior trace itself, got 0"):
        Pooled(DPO(), 0)
    with pytest.raises(ValueError, match="'toy' has 3 scored prior traces, 4 are needed"):
        Pooled(DPO(), 5).coefficients(toy_pair(further=True))
    with pytest.raises(ValueError, match="its draws are enumerated"):
        Pooled(DPO(), 2).coefficients(toy_pair(further=True, enumerated=True))
    off = toy_pair(further=True, log_prob=np.full(21, -3.0), log_prob_ref=np.full(21, -4.0))
    with pytest.raises(ValueError, match="not at its reference"):
        Pooled(DPO(), 2).coefficients(off)
