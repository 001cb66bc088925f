"""The fast moments of a sampled study equal those of the estimators and moments that any study uses."""

import numpy as np
import pytest

from bvpo_analysis.mixing import optimal_alpha
from bvpo_analysis.objectives import DPO
from bvpo_analysis.off_reference.replications import sampled_study
from bvpo_analysis.off_reference.results import TARGETS
from bvpo_analysis.off_reference.studies import StudyTables

LAW = ("bias_t_sq", "bias_e_sq", "bias_inner", "bias_diff_sq", "bias_t_diff", "var_t", "var_e", "cov_te", "var_diff")


@pytest.mark.parametrize("length", [0.0, 0.3, 1.5])
@pytest.mark.parametrize("traces", [2, 5])
def test_fast_moments_equal_joint_moments(population_of, length, traces):
    population, objective = population_of(length), DPO(0.7)
    sample = population.draw(np.random.default_rng(traces), 9, traces)
    fast = StudyTables(population, objective).moments(sample, *TARGETS)
    slow = sampled_study(population, sample, objective)
    assert set(fast) == set(slow) == set(TARGETS)
    for target in TARGETS:
        moments = fast[target].moments
        ours, theirs = moments.population(16), slow[target].law("trace", "empty", 16)
        for name in (*LAW, "cov_t_diff"):
            scale = np.abs(theirs.var_t).max()
            np.testing.assert_allclose(getattr(ours, name), getattr(theirs, name), rtol=1e-9, atol=1e-12 * scale)
        np.testing.assert_allclose(moments.target_sq, slow[target].target_sq, rtol=1e-9)
        first, second = optimal_alpha(ours).estimate, optimal_alpha(theirs).estimate
        for name in ("value", "se", "ci_low", "ci_high"):
            assert getattr(first, name) == pytest.approx(getattr(second, name), rel=1e-7, abs=1e-9), name
        for found, name in ((fast[target].bias_t_sq, "trace"), (fast[target].bias_e_sq, "empty")):
            plain = slow[target].bias_sq(name)
            assert (found.value, found.se) == pytest.approx((plain.value, plain.se), rel=1e-7, abs=1e-12)
            assert found.ci_low <= found.value <= found.ci_high


def test_weights_of_any_size(population_of):
    """Log-ratios of thousands neither overflow nor leave the leave-one-out weights to cancellation."""
    from dataclasses import replace

    population, objective = population_of(0.5), DPO(0.1)
    pairs = [replace(pair, log_prob=4000 * pair.log_prob) for pair in population.pairs]
    far = type(population).of(pairs, population.vectors)
    sample = far.draw(np.random.default_rng(0), 6, 4)
    fast, slow = StudyTables(far, objective).moments(sample, *TARGETS), sampled_study(far, sample, objective)
    for target in TARGETS:
        np.testing.assert_allclose(
            fast[target].moments.bias_t_sq, slow[target].law("trace", "empty", 1).bias_t_sq, rtol=1e-8, atol=1e-12
        )


def test_too_small_a_sample_is_refused(population_of):
    population = population_of(0.1)
    tables = StudyTables(population, DPO())
    for prompts, traces in ((3, 4), (6, 1)):
        with pytest.raises(ValueError, match="at least four prompts and two traces"):
            tables.moments(population.draw(np.random.default_rng(0), prompts, traces), "plug-in")
