"""Sampled studies against enumerated truth: unbiased at the reference, shifted by a biased target elsewhere."""

import numpy as np
import pytest

from bvpo_analysis.estimators import JackknifeMarginal, KMarginal, Marginal, mean_coefficients
from bvpo_analysis.objectives import DPO
from bvpo_analysis.off_reference.replications import (
    replicate,
    sampled_study,
    target_bias_rate,
    target_estimator,
)
from bvpo_analysis.off_reference.results import SampledCell

BETA = 1.0


def by_name(cells: list[SampledCell]) -> dict[tuple[str, str], SampledCell]:
    return {(cell.target, cell.statistic): cell for cell in cells}


def test_at_the_reference_every_target_is_unbiased(population_of):
    cells = replicate(population_of(0.0), 0.0, beta=BETA, traces=4, prompts=8, replications=40)
    assert len(cells) == 6
    for cell in cells:
        assert cell.ess_share == pytest.approx(1.0)
        if cell.statistic == "bias_t_sq":
            assert cell.truth == pytest.approx(0.0, abs=1e-12)
        if cell.statistic != "alpha":  # a ratio is unbiased in the limit of many prompts only
            # Power: an error of half a spread would be 3.2 of these standard errors.
            assert abs(cell.mean - cell.truth) < 4 * cell.mean_se + 1e-12
        if cell.target == "plug-in":
            assert cell.predicted == pytest.approx(cell.truth, abs=1e-10)


def test_a_biased_target_shifts_squares_as_predicted(population_of):
    cells = by_name(replicate(population_of(0.25), 1.0, beta=BETA, traces=4, prompts=24, replications=40))
    plug_in, jackknife = cells["plug-in", "bias_t_sq"], cells["jackknife", "bias_t_sq"]
    assert abs(plug_in.mean - plug_in.truth) > 6 * plug_in.mean_se  # the shift is there
    # c/K is the leading term: most of the shift, not all of it.
    assert abs(plug_in.mean - plug_in.predicted) < 0.5 * abs(plug_in.mean - plug_in.truth)
    assert abs(jackknife.mean - jackknife.truth) < 0.5 * abs(plug_in.mean - plug_in.truth)
    assert jackknife.coverage > plug_in.coverage
    assert plug_in.relative_bias == pytest.approx((plug_in.mean - plug_in.truth) / plug_in.spread)


def test_the_rate_is_the_bias_of_many_traces(population_of):
    population, objective, traces = population_of(0.25, prompts=2), DPO(BETA), 16
    rng, target = np.random.default_rng(0), KMarginal(objective, traces)
    both = list(zip(population.pairs, population.vectors, strict=True))
    exact = np.mean([mean_coefficients(Marginal(objective), pair) @ vectors for pair, vectors in both], axis=0)
    draws = []
    for pair, vectors in both:
        one = type(population).of([pair], [vectors])
        found = one.scores_of(one.draw(rng, 1, traces * 20_000), target).pairs[0].log_probs
        draws.append(target.coefficients(found) @ vectors)
    mean, se = np.mean(draws, axis=0).mean(axis=0), np.std(draws, axis=1).max() / np.sqrt(20_000)
    rate = target_bias_rate(population, BETA)
    assert np.linalg.norm(rate) / traces > 10 * se  # power
    np.testing.assert_allclose(mean - exact, rate / traces, atol=5 * se + 0.2 * np.abs(rate).max() / traces)


def test_a_study_names_its_target_and_its_bias_order(population_of):
    population = population_of(0.3)
    studies = sampled_study(population, population.draw(np.random.default_rng(0), 6, 4), DPO(BETA))
    assert {name: joint.target_bias for name, joint in studies.items()} == {
        "plug-in": "O(1/K)",
        "jackknife": "O(1/K^2)",
    }
    for name, joint in studies.items():
        assert joint.target == name
        assert joint.names == ("trace", "empty", name)
        assert joint.unbiased == (name,)


def test_names_of_targets():
    assert target_estimator("plug-in", DPO(), 4) == KMarginal(DPO(), 4)
    assert target_estimator("jackknife", DPO(), 4) == JackknifeMarginal(DPO(), 4)


def test_no_prediction_where_the_expansion_means_nothing(population_of):
    cells = replicate(population_of(1.5), 1.0, beta=BETA, traces=2, prompts=6, replications=2)
    assert min(cell.ess_share for cell in cells) < 0.6
    assert all(np.isnan(cell.predicted) for cell in cells)
    with pytest.raises(ValueError, match="at least 2"):
        replicate(population_of(0.1), 1.0, beta=BETA, traces=2, replications=1)
