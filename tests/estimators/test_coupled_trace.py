"""Trace pairs matched by probability: exactly unbiased by enumeration, and a variance that the model decides."""

from dataclasses import replace

import numpy as np
import pytest

from bvpo_analysis.estimators import CoupledTrace, MultiTrace, Trace
from bvpo_analysis.log_linear import LogLinearModel
from bvpo_analysis.objectives import DPO, IPO, SimPO
from bvpo_analysis.testing import toy_pair

LOSSES = (DPO(0.7), IPO(0.4))


@pytest.mark.parametrize("traces", [1, 2, 3])
@pytest.mark.parametrize("loss", LOSSES, ids=repr)
def test_a_random_rank_is_unbiased_at_the_reference(at_reference, loss, traces):
    """Catches a rank that is picked, not averaged over, and a sort that drops or repeats a trace (G36)."""
    for prompt in at_reference:
        found = prompt.from_draws(CoupledTrace(loss, traces), traces)
        assert found.p.sum() == pytest.approx(1.0, abs=1e-12)
        np.testing.assert_allclose(found.mean, prompt.target(loss), atol=1e-12 * np.abs(found.g).max())


def test_no_single_rank_is_unbiased(at_reference):
    """Power of the test above: the least probable of two traces is no posterior draw."""
    for prompt in at_reference:
        groups, p = prompt.groups(2)
        pair, scores = prompt.pair(groups.reshape(-1, 2).tolist())
        first = CoupledTrace(LOSSES[0], 2).coefficients(pair)[::2]
        assert np.linalg.norm(p @ first @ scores - prompt.target(LOSSES[0])) > 1e-3


@pytest.mark.parametrize("loss", LOSSES, ids=repr)
def test_the_mean_over_ranks_is_the_mean_of_the_draws_at_the_reference(at_reference, loss):
    """Catches a claim that coupling lowers the variance of a K-trace average: each trace is used once either way."""
    for prompt in at_reference:
        groups, _ = prompt.groups(3)
        pair, _ = prompt.pair(groups.reshape(-1, 2).tolist())
        ranks = CoupledTrace(loss, 3).coefficients(pair).reshape(-1, 3, pair.size)
        np.testing.assert_allclose(ranks.mean(axis=1), MultiTrace(loss, 3).coefficients(pair), atol=1e-14)


def opposed(sign: float, make_prompt_like):
    """Scores that rise with the probability of the trace on one side, and rise or fall on the other."""
    size = np.array([0.0, 1.0, 2.0])
    features = np.zeros((3, 2, 3))
    features[:, :, 0] = size[:, None]  # weight 1: probability of the trace
    features[:, 0, 1], features[:, 1, 1] = 2 * size, sign * 2 * size  # weight 0: scores only
    features[:, 1, 2] = 1.0
    theta = np.array([1.0, 0.0, 0.0])
    return make_prompt_like(LogLinearModel(features), theta, theta)


@pytest.mark.parametrize(("sign", "lower"), [(1.0, True), (-1.0, False)])
def test_whether_the_variance_falls_is_a_property_of_the_model(at_reference, sign, lower):
    """Catches a matching in opposite orders: scores that rise with the probability on both sides must gain by it."""
    prompt = opposed(sign, type(at_reference[0]))
    loss = LOSSES[0]
    single = prompt.from_draws(Trace(loss), 1).variance
    chosen, rejected = (np.trace(prompt.model.posterior_covariance(prompt.ref, y)) for y in (0, 1))
    assert single == pytest.approx(loss.beta**2 / 4 * (chosen + rejected), rel=1e-12)
    coupled = [prompt.from_draws(CoupledTrace(loss, k), k).variance for k in (1, 2, 3)]
    assert coupled[0] == pytest.approx(single, rel=1e-12)
    assert (np.diff(coupled) < -0.02 * single).all() if lower else (np.diff(coupled) > 0.02 * single).all()


def test_a_reference_free_loss_stays_biased(at_reference):
    """Catches unbiasedness claimed for every loss: SimPO's coefficients vary with the trace at the reference too."""
    loss = SimPO(2.0, 0.5)
    for prompt in at_reference:
        for k in (1, 2):
            assert np.linalg.norm(prompt.from_draws(CoupledTrace(loss, k), k).mean - prompt.target(loss)) > 1e-3


def test_ranks_follow_the_probability_of_the_trace_not_of_the_sequence():
    """Catches a sort by log pi(r, y | x), and ties that are broken against file order."""
    pair = toy_pair(log_prob_ref=np.array([-5.0, -4.0, -4.0, -5.0, -4.0, -4.0]))
    pair = replace(pair, log_prob_answer=np.array([-4.5, -0.5, -0.5, -1.0, -2.0, -2.0]))  # traces -.5, -3.5; -3.5, -4
    c = CoupledTrace(DPO(2.0), 2).coefficients(pair)
    np.testing.assert_array_equal(c[:, :4], [[0, -1, 0, 1], [-1, 0, 1, 0]])
    tied = CoupledTrace(DPO(2.0), 2).coefficients(toy_pair())
    np.testing.assert_array_equal(tied, Trace(DPO(2.0)).coefficients(toy_pair()))


def test_what_it_refuses():
    with pytest.raises(ValueError, match="traces must be at least 1, got 0"):
        CoupledTrace(DPO(), 0)
    with pytest.raises(ValueError, match="'toy' has 2 trace draws, 3 are needed"):
        CoupledTrace(DPO(), 3).coefficients(toy_pair())
    with pytest.raises(ValueError, match="its draws are enumerated"):
        CoupledTrace(DPO(), 2).coefficients(toy_pair(enumerated=True))
