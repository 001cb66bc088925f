"""The exact shift of a trace posterior, and the weight that takes E g_t for the target."""

import numpy as np
import pytest

from bvpo_analysis.estimators import EmptyTrace, Trace
from bvpo_analysis.log_linear import LogLinearModel
from bvpo_analysis.mixing import optimal_alpha
from bvpo_analysis.moments import enumerated_moments
from bvpo_analysis.objectives import DPO
from bvpo_analysis.off_reference.population import ProjectedPopulation
from bvpo_analysis.off_reference.replications import exact_moments
from bvpo_analysis.off_reference.shift import enumeration_flag, trace_shift, weight_if_unbiased
from bvpo_analysis.testing import toy_pair


def drift(seed, length):
    rng = np.random.default_rng(seed)
    model = LogLinearModel.random(rng, traces=5, answers=3, parameters=6)
    ref = 0.3 * rng.normal(size=6)
    return model, ref, ref + length * rng.normal(size=6)


def test_shift_against_its_definitions():
    model, ref, theta = drift(0, 0.7)
    shift = trace_shift(model.pair(theta, ref, 0, 1)[0])
    for side, answer in enumerate((0, 1)):
        p, q = model.posterior(ref, answer), model.posterior(theta, answer)
        h = model.log_marginal(theta)[answer] - model.log_marginal(ref)[answer]
        assert shift.log_marginal_ratio[side] == pytest.approx(h, rel=1e-10)
        assert shift.divergence[side] == pytest.approx(float(p @ np.log(p / q)), rel=1e-10)
        assert shift.ess_share[side] == pytest.approx(1 / float(p @ (q / p) ** 2), rel=1e-10)
    assert shift.prior_mass == pytest.approx(1.0)


def test_at_the_reference_nothing_has_shifted():
    model, ref, _ = drift(1, 0.0)
    shift = trace_shift(model.pair(ref, ref, 0, 1)[0])
    np.testing.assert_allclose(shift.ess_share, 1.0, rtol=1e-12)
    np.testing.assert_allclose(shift.divergence, 0.0, atol=1e-15)


def test_sampled_traces_have_no_exact_shift():
    with pytest.raises(ValueError, match="enumerated"):
        trace_shift(toy_pair())


def test_lost_mass_is_flagged():
    def pair(mass):
        half = np.log(mass / 2)
        return toy_pair(enumerated=True, log_prob=np.array([2 * half, 2 * half, half, half, -1.0, -1.0]))

    # toy_pair takes half of each log-probability for the trace part.
    assert trace_shift(pair(0.9)).prior_mass == pytest.approx(0.9)
    assert enumeration_flag([pair(0.96), pair(0.94)]) is None
    flag = enumeration_flag([pair(0.96), pair(0.4)])
    assert flag.level == "warning"
    assert "68.0% of the probability" in flag.text
    assert "40.0% for the lowest prompt" in flag.text
    with pytest.raises(ValueError, match="no pairs"):
        enumeration_flag([])


def test_the_weight_if_unbiased_is_right_at_the_reference_only():
    rng, beta = np.random.default_rng(2), 1.0
    found = {}
    for length in (0.0, 0.8):
        pairs, vectors = [], []
        for _ in range(6):
            model = LogLinearModel.random(rng, traces=4, answers=3, parameters=5)
            ref = 0.3 * rng.normal(size=5)
            pair, scores = model.pair(ref + length * rng.normal(size=5), ref, 0, 1)
            pairs.append(pair)
            vectors.append(scores)
        population = ProjectedPopulation.of(pairs, vectors)
        moments = exact_moments(population, DPO(beta))
        found[length] = weight_if_unbiased(moments, 16) - optimal_alpha(moments.population(16)).estimate.value
        # Taking E g_t for mu is what moments against g_t itself give.
        against_itself = enumerated_moments(
            population.exact_scores(Trace(DPO(beta)), EmptyTrace(DPO(beta))),
            Trace(DPO(beta)),
            EmptyTrace(DPO(beta)),
            Trace(DPO(beta)),
        )
        assert weight_if_unbiased(moments, 16) == pytest.approx(
            optimal_alpha(against_itself.population(16)).estimate.value, rel=1e-9
        )
    assert found[0.0] == pytest.approx(0.0, abs=1e-12)
    assert abs(found[0.8]) > 1e-3
