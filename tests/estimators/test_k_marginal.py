"""The K-trace marginal gradient by enumeration of all groups of draws, against mu and against its 1/K law."""

import numpy as np
import pytest

from bvpo_analysis.estimators import KMarginal, MultiTrace, Trace
from bvpo_analysis.objectives import DPO, IPO, SimPO
from bvpo_analysis.testing import toy_pair
from bvpo_analysis.theory import marginal_estimator

LOSSES = (DPO(1.5), IPO(0.8))


@pytest.mark.parametrize("loss", LOSSES, ids=repr)
def test_one_trace_is_the_joint_gradient(off_reference, loss):
    """Catches another margin or another weight than that of g_t at K = 1 (G44), coefficient by coefficient."""
    for prompt in off_reference:
        groups, _ = prompt.groups(1)
        pair, _ = prompt.pair(groups[:, 0].tolist())
        np.testing.assert_allclose(KMarginal(loss, 1).coefficients(pair), Trace(loss).coefficients(pair), rtol=1e-13)


@pytest.mark.parametrize("loss", LOSSES, ids=repr)
def test_at_the_reference_it_is_the_mean_of_the_joint_gradients(at_reference, loss):
    """Catches weights that are not equal where policy and reference are: then it is exactly unbiased for every K."""
    for prompt in at_reference:
        groups, p = prompt.groups(2)
        pair, scores = prompt.pair(groups.reshape(-1, 2).tolist())
        c = KMarginal(loss, 2).coefficients(pair)
        np.testing.assert_allclose(c, MultiTrace(loss, 2).coefficients(pair), rtol=1e-12)
        np.testing.assert_allclose(p @ c @ scores, prompt.target(loss), atol=1e-12 * np.abs(scores).max())


def errors(prompt, estimator_of, loss, sizes):
    """E g - mu [len(sizes), d]."""
    mu = prompt.target(loss)
    return np.array([prompt.from_draws(estimator_of(loss, k), k, ordered=False).mean - mu for k in sizes])


def test_the_bias_times_k_tends_to_the_predicted_coefficient(off_reference):
    """Catches a missing term of c in bias = c/K, or a log-mean without its 1/K: extrapolated from K = 4, 8, 16."""
    for prompt in off_reference:
        found = np.array([4, 8, 16])[:, None] * errors(prompt, KMarginal, LOSSES[0], (4, 8, 16))
        limit = (8 * found[2] - 6 * found[1] + found[0]) / 3
        predicted = marginal_estimator.marginal_rate(*laws(prompt), LOSSES[0].beta).bias
        assert np.linalg.norm(predicted) > 1e-3
        np.testing.assert_allclose(limit, predicted, atol=0.02 * np.linalg.norm(predicted))
        assert np.linalg.norm(found[2] - predicted) < 0.2 * np.linalg.norm(predicted)


def laws(prompt):
    rho = prompt.model.log_probs(prompt.theta) - prompt.model.log_probs(prompt.ref)
    scores = prompt.model.scores(prompt.theta)
    return [
        marginal_estimator.AnswerLaw(prompt.model.posterior(prompt.ref, y), rho[:, y], scores[:, y]) for y in (0, 1)
    ]


@pytest.mark.parametrize("loss", LOSSES, ids=repr)
def test_the_bias_falls_with_k_where_that_of_the_mean_does_not(off_reference, loss):
    """Catches an average of joint gradients under another name; for IPO too, whose loss is no log-sigmoid."""
    for prompt in off_reference:
        marginal = np.linalg.norm(errors(prompt, KMarginal, loss, (1, 4, 16)), axis=1)
        mean = np.linalg.norm(errors(prompt, MultiTrace, loss, (1, 4)), axis=1)
        np.testing.assert_allclose(mean, mean[0], rtol=1e-9)
        assert marginal[0] == pytest.approx(mean[0], rel=1e-9)
        assert 3 < marginal[1] / marginal[2] < 5


def test_the_variance_is_that_of_the_predicted_rate(off_reference):
    """Catches draws of the two sides that move together, which would add cross terms."""
    for prompt in off_reference:
        found = [k * prompt.from_draws(KMarginal(LOSSES[0], k), k, ordered=False).variance for k in (4, 8, 16)]
        limit = (8 * found[2] - 6 * found[1] + found[0]) / 3
        predicted = marginal_estimator.marginal_rate(*laws(prompt), LOSSES[0].beta).variance
        assert limit == pytest.approx(predicted, rel=0.02)


def test_a_constant_added_to_the_log_ratios_of_a_side_moves_the_margin_only():
    """Catches weights that are normalised over both sides; log-ratios of a thousand nats must not overflow (G45)."""
    ref = np.random.default_rng(0).normal(-4.0, 1.0, 6)
    shift = np.array([0.3, -0.2, 0.1, 0.4, 0.0, 0.0])
    shares = []
    for constant in (0.0, 1000.0):
        pair = toy_pair(log_prob=ref + shift + constant * np.array([1, 1, 1, 1, 0, 0]), log_prob_ref=ref)
        shares.append(KMarginal(DPO(0.7), 2).coefficients(pair)[0, :4])
    np.testing.assert_allclose(shares[1], shares[0], rtol=1e-9)
    assert (np.abs(shares[0]) > 0.05).all()


def test_what_it_refuses():
    with pytest.raises(ValueError, match="traces must be at least 1, got 0"):
        KMarginal(DPO(), 0)
    with pytest.raises(ValueError, match="the simpo loss depends on log pi"):
        KMarginal(SimPO(), 2)
    with pytest.raises(ValueError, match="'toy' has 2 trace draws, 3 are needed"):
        KMarginal(DPO(), 3).coefficients(toy_pair())
    with pytest.raises(ValueError, match="its draws are enumerated"):
        KMarginal(DPO(), 2).coefficients(toy_pair(enumerated=True))
