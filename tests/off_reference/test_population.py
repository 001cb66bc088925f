"""A projected population: exact moments, and samples whose products are those of explicit vectors."""

import numpy as np
import pytest

from bvpo_analysis.estimators import EmptyTrace, JackknifeMarginal, Marginal, Trace, mean_coefficients
from bvpo_analysis.objectives import DPO
from bvpo_analysis.off_reference.population import ProjectedPopulation
from bvpo_analysis.off_reference.replications import exact_moments
from bvpo_analysis.testing import toy_pair

LOSS = DPO(1.0)


def test_exact_moments_are_plain_averages_of_explicit_vectors(population_of):
    population = population_of(0.4)
    moments = exact_moments(population, LOSS)
    t, e, m = (
        np.array([mean_coefficients(g, p) @ v for p, v in zip(population.pairs, population.vectors, strict=True)])
        for g in (Trace(LOSS), EmptyTrace(LOSS), Marginal(LOSS))
    )
    assert moments.bias_t_sq[0] == pytest.approx(((t - m).mean(axis=0) ** 2).sum(), rel=1e-9)
    assert moments.bias_e_sq[0] == pytest.approx(((e - m).mean(axis=0) ** 2).sum(), rel=1e-9)
    assert moments.prompt_bias_t_sq[0] == pytest.approx(((t - m) ** 2).sum(axis=1).mean(), rel=1e-9)
    assert moments.target_sq[0] == pytest.approx((m.mean(axis=0) ** 2).sum(), rel=1e-9)


def test_a_sample_has_the_products_of_its_vectors(population_of):
    population, estimators = population_of(0.4), (Trace(LOSS), EmptyTrace(LOSS), JackknifeMarginal(LOSS, 5))
    scores = population.scores_of(population.draw(np.random.default_rng(0), 6, 5), *estimators)
    ids = [pair.prompt_id for pair in population.pairs]
    assert len(scores) == 6
    own = []
    for pair in scores.pairs:
        logs = pair.log_probs
        # The prompt is found by its log-probabilities: they are those of the checkpoint, untouched.
        i = next(i for i, full in enumerate(population.pairs) if full.log_prob is logs.log_prob)
        assert logs.prompt_id == ids[i]
        assert not logs.enumerated
        assert logs.draws.shape == (5, 2)
        assert set(logs.draws[:, 0]) <= set(population.pairs[i].support[0])
        assert set(logs.draws[:, 1]) <= set(population.pairs[i].support[1])
        vectors = population.vectors[i]
        np.testing.assert_allclose(pair.gram[0], vectors @ vectors.T, rtol=1e-12)
        own.append(np.array([mean_coefficients(g, logs) for g in estimators]) @ vectors)
    totals = np.sum(own, axis=0)
    np.testing.assert_allclose(scores.totals_gram[0], totals @ totals.T, rtol=1e-10, atol=1e-12)
    for pair, vectors in zip(scores.pairs, own, strict=True):
        np.testing.assert_allclose(pair.with_totals[0], vectors @ totals.T, rtol=1e-10, atol=1e-12)
        np.testing.assert_allclose(pair.sketches[0], vectors, rtol=1e-12, atol=1e-15)


def test_traces_follow_the_reference_posterior_and_not_that_of_the_policy(population_of):
    population = population_of(0.8, prompts=1)
    pair = population.pairs[0]
    sample = population.draw(np.random.default_rng(1), 1, 20_000)
    draws = population.scores_of(sample, Trace(LOSS)).pairs[0].log_probs.draws
    share = np.bincount(draws[:, 0], minlength=pair.size)[pair.support[0]] / len(draws)
    ref, current = (np.exp(x[pair.support[0]]) for x in (pair.log_prob_ref, pair.log_prob))
    ref, current = ref / ref.sum(), current / current.sum()
    assert np.abs(ref - current).max() > 0.1  # the power to tell them apart
    assert np.abs(share - ref).max() < 5 * 0.5 / np.sqrt(len(draws))


def test_what_is_no_population_is_refused(population_of):
    with pytest.raises(ValueError, match="at least 1"):
        population_of(0.1, prompts=1).draw(np.random.default_rng(0), 3, 0)
    with pytest.raises(ValueError, match="at least one prompt"):
        ProjectedPopulation.of([], [])
    with pytest.raises(ValueError, match="one vector per sequence"):
        ProjectedPopulation.of([toy_pair(enumerated=True)], [np.zeros((5, 2))])
    with pytest.raises(ValueError, match="enumerated"):
        ProjectedPopulation.of([toy_pair()], [np.zeros((6, 2))])
