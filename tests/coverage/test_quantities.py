"""The list of covered numbers: complete, uniquely named, and read from the right place of the moments."""

import numpy as np
import pytest

from bvpo_analysis import mixing
from bvpo_analysis.coverage import QUANTITIES, FinitePopulation, draw_sample, sample_moments
from bvpo_analysis.objectives import DPO

BY_NAME = {quantity.name: quantity for quantity in QUANTITIES}


@pytest.fixture(scope="module")
def population(by_hand):
    rng = np.random.default_rng(1)
    pairs = [by_hand.pair(rng, 3) for _ in range(6)]
    vectors = [rng.normal(size=(pair.size, 4)) + np.linspace(0, 1, pair.size)[:, None] for pair in pairs]
    return FinitePopulation.from_scores(pairs, vectors, DPO(1.5))


def test_names_are_unique_and_say_what_they_estimate(population):
    """Catches a number under the name of another: each against its definition in the exact moments."""
    truth = population.truth
    assert len(BY_NAME) == len(QUANTITIES)
    expected = {
        "bias_e_sq": truth.bias_e_sq[0],
        "prompt_bias_e_sq": truth.prompt_bias_e_sq[0],
        "trace_var": truth.trace_var[0],
        "alpha_star.population.B64.K1.kappa1": mixing.optimal_alpha(truth.population(64)).estimate.value,
        "alpha_star.per_prompt.K1.kappa1": mixing.optimal_alpha(truth.per_prompt()).estimate.value,
        "mse.alpha0.B16": truth.bias_e_sq[0] + truth.var_e[0] / 16,
        "mse.alpha1.B64": truth.var_t[0] / 64,
        "traces_worth": truth.trace_var[0] / truth.prompt_bias_e_sq[0],
        "cosine_e": truth.target_dot_e[0] / np.sqrt(truth.target_sq[0] * truth.mean_e_sq[0]),
    }
    for name, value in expected.items():
        assert BY_NAME[name].estimate(truth).value == pytest.approx(value, rel=1e-12), name
    for size in (1, 16, 64):
        best = BY_NAME[f"mse.recommended.B{size}"].estimate(truth).value
        half, alone = (BY_NAME[f"mse.alpha{a}.B{size}"].estimate(truth).value for a in ("0.5", "1"))
        assert BY_NAME[f"regret.alpha0.5.B{size}"].estimate(truth).value == pytest.approx(half / best - 1)
        assert BY_NAME[f"batch_size_equivalent.B{size}"].estimate(truth).value == pytest.approx(alone / best)


def test_a_sample_gives_every_number_an_interval_where_its_traces_identify_it(population):
    """Catches a split asked of one trace per answer, and ends in the wrong order."""
    for traces in (1, 3):
        moments = sample_moments(population, draw_sample(population, np.random.default_rng(2), 40, traces))
        for quantity in QUANTITIES:
            if quantity.split and traces == 1:
                with pytest.raises((ValueError, TypeError)):
                    quantity.estimate(moments)
                continue
            estimate = quantity.estimate(moments)
            assert estimate.ci_low <= estimate.value <= estimate.ci_high or quantity.name == "cosine_e", quantity.name
