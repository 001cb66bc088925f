"""The fast path of a replication against the estimators of a report on the same draws, and the law of the draws."""

from dataclasses import fields

import numpy as np
import pytest

from bvpo_analysis import mixing
from bvpo_analysis.coverage import FinitePopulation, Sample, draw_sample, sample_moments
from bvpo_analysis.estimators import EmptyTrace, Trace
from bvpo_analysis.moments import Moments, population_moments
from bvpo_analysis.moments.resampling import EnumeratedPopulation
from bvpo_analysis.objectives import DPO

LOSS = DPO(1.5)
TRACE, EMPTY = Trace(LOSS), EmptyTrace(LOSS)


def populations(by_hand, prompts=7, traces=4, d=5):
    """The same population as inner products and as vectors; the scores differ on average, so no moment is zero."""
    rng = np.random.default_rng(1)
    pairs = tuple(by_hand.pair(rng, traces) for _ in range(prompts))
    vectors = [rng.normal(size=(pair.size, d)) + np.linspace(0, 1, pair.size)[:, None] for pair in pairs]
    size = pairs[0].size
    rows = tuple(np.arange(i * size, (i + 1) * size) for i in range(prompts))
    stacked = np.concatenate(vectors)
    return EnumeratedPopulation(pairs, rows, stacked @ stacked.T), FinitePopulation.from_scores(pairs, vectors, LOSS)


def same_draws(enumerated, scores):
    """The sample that a score set was made from."""
    names = [pair.prompt_id for pair in enumerated.pairs]
    prompts = np.array([names.index(pair.log_probs.prompt_id) for pair in scores.pairs])
    first = np.array([pair.support[:, 0] for pair in enumerated.pairs])[prompts]
    return Sample(prompts, np.stack([pair.log_probs.draws for pair in scores.pairs]) - first[:, None])


@pytest.mark.parametrize("traces", [1, 2, 5])
@pytest.mark.parametrize("prompts", [4, 12])
def test_moments_are_those_of_the_estimators_on_the_same_draws(prompts, traces, by_hand):
    """Catches any difference between what is replicated and what a report computes, intervals included."""
    enumerated, population = populations(by_hand)
    scores = enumerated.sample(np.random.default_rng(2), prompts, traces, TRACE, EMPTY)
    expected = population_moments(scores, TRACE, EMPTY)
    found = sample_moments(population, same_draws(enumerated, scores))
    scale = np.abs(expected.var_t).max()
    for f in fields(Moments):
        theirs, ours = getattr(expected, f.name), getattr(found, f.name)
        if isinstance(theirs, np.ndarray):
            np.testing.assert_allclose(ours, theirs, rtol=1e-10, atol=1e-10 * scale, err_msg=f.name)
    assert found.n == prompts
    assert (found.trace_var is None) == (expected.trace_var is None) == (traces == 1)
    for f in fields(type(expected.bias_noise)):
        ours, theirs = getattr(found.bias_noise, f.name), getattr(expected.bias_noise, f.name)
        np.testing.assert_allclose(ours, theirs, rtol=1e-10, atol=1e-10 * scale**2, err_msg=f.name)
    ours, theirs = (mixing.optimal_alpha(m.population(16)).estimate for m in (found, expected))
    np.testing.assert_allclose((ours.ci_low, ours.ci_high), (theirs.ci_low, theirs.ci_high), rtol=1e-8)


def test_samples_draw_prompts_equally_and_traces_from_the_posterior(by_hand):
    """Catches uniform traces, sides that share a draw, and draws off by one: frequencies within 4.5 SE."""
    _, population = populations(by_hand, prompts=3)
    sample = draw_sample(population, np.random.default_rng(3), 9000, 2)
    assert sample.draws.shape == (9000, 2, 2)
    for prompt in range(3):
        here = sample.draws[sample.prompts == prompt].reshape(-1, 2)
        share = len(here) / 2 / 9000
        assert abs(share - 1 / 3) < 4.5 * np.sqrt(2 / 9 / 9000)
        joint = np.outer(population.posterior[prompt, 0], population.posterior[prompt, 1])
        counts = np.zeros((4, 4))
        np.add.at(counts, (here[:, 0], here[:, 1]), 1.0)
        bound = 4.5 * np.sqrt(joint * (1 - joint) / len(here))
        assert (np.abs(counts / len(here) - joint) < bound).all()


def test_too_few_draws_are_refused(by_hand):
    """Catches an empty sample, and an interval from three prompts."""
    _, population = populations(by_hand)
    rng = np.random.default_rng(4)
    for prompts, traces in ((0, 1), (5, 0)):
        with pytest.raises(ValueError, match="at least 1"):
            draw_sample(population, rng, prompts, traces)
    with pytest.raises(ValueError, match="at least four prompts"):
        sample_moments(population, draw_sample(population, rng, 3, 1))
