"""Predictions as coefficients: equal to the closed forms on explicit matrices, and leading terms of the true bias."""

import numpy as np
import pytest

from bvpo_analysis.estimators import Marginal, Trace, mean_coefficients
from bvpo_analysis.log_linear import LogLinearModel
from bvpo_analysis.objectives import DPO, IPO
from bvpo_analysis.off_reference.leading_bias import (
    fresh_trace_bias,
    small_beta_trace_bias,
    stale_trace_bias,
    with_fresh_traces,
)
from bvpo_analysis.testing import toy_pair
from bvpo_analysis.theory.trace_bias import offline_trace_bias, on_policy_trace_bias, small_beta_bias
from bvpo_analysis.theory.trace_laws import LossAtReference, TraceLaw

LOSSES = [
    (DPO(0.1), LossAtReference.dpo(0.1)),
    (DPO(2.0), LossAtReference.dpo(2.0)),
    (IPO(0.5), LossAtReference.ipo(0.5)),
]
DPO_LOSSES = LOSSES[:2]


def random_prompt(seed):
    rng = np.random.default_rng(seed)
    model = LogLinearModel.random(rng, traces=5, answers=3, parameters=6)
    ref = 0.5 * rng.normal(size=6)
    direction = rng.normal(size=6)
    return model, ref, direction / np.linalg.norm(direction)


def laws(model, theta):
    scores = model.scores(theta)
    return [TraceLaw(model.posterior(theta, y), scores[:, y]) for y in (0, 1)]


def bias(model, ref, theta, objective, *, fresh):
    pair, scores = model.pair(theta, ref, 0, 1)
    pair = with_fresh_traces(pair) if fresh else pair
    return (mean_coefficients(Trace(objective), pair) - mean_coefficients(Marginal(objective), pair)) @ scores


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize(("objective", "loss"), LOSSES)
def test_coefficients_give_the_closed_forms_in_a_displacement(seed, objective, loss):
    model, ref, d = random_prompt(seed)
    pair, scores = model.pair(ref, ref, 0, 1)
    stale = stale_trace_bias(pair, scores @ d, loss) @ scores
    fresh = fresh_trace_bias(pair, scores @ d, loss) @ scores
    np.testing.assert_allclose(stale, offline_trace_bias(*laws(model, ref), d, loss), rtol=1e-10, atol=1e-14)
    np.testing.assert_allclose(fresh, on_policy_trace_bias(*laws(model, ref), d, loss), rtol=1e-10, atol=1e-14)
    assert fresh @ d >= 0  # a pull back to the reference
    assert np.linalg.norm(stale - fresh) > 1e-6 * np.linalg.norm(stale)


@pytest.mark.parametrize("seed", range(4))
def test_coefficients_give_the_closed_form_in_beta(seed):
    model, ref, d = random_prompt(seed)
    theta, loss = ref + 0.5 * d, LossAtReference.dpo(0.3)
    pair, scores = model.pair(theta, ref, 0, 1)
    rho = model.log_probs(theta) - model.log_probs(ref)
    expected = small_beta_bias(*laws(model, theta), rho[:, 0], rho[:, 1], loss)
    np.testing.assert_allclose(small_beta_trace_bias(pair, loss) @ scores, expected, rtol=1e-10, atol=1e-14)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize(("objective", "loss"), LOSSES)
@pytest.mark.parametrize("fresh", [False, True])
def test_the_remainder_is_of_second_order_in_the_displacement(seed, objective, loss, fresh):
    model, ref, d = random_prompt(seed)
    pair, scores = model.pair(ref, ref, 0, 1)
    lead_of = fresh_trace_bias if fresh else stale_trace_bias
    lead = lead_of(pair, scores @ d, loss) @ scores
    rest = [
        np.linalg.norm(bias(model, ref, ref + t * d, objective, fresh=fresh) - t * lead) for t in (1e-2, 1e-3, 1e-4)
    ]
    assert 80 < rest[0] / rest[1] < 125
    assert 80 < rest[1] / rest[2] < 125
    assert rest[2] < 0.01 * 1e-4 * np.linalg.norm(lead)


@pytest.mark.parametrize("seed", range(4))
def test_the_remainder_is_of_fourth_order_in_beta(seed):
    model, ref, d = random_prompt(seed)
    theta, rest = ref + 0.5 * d, []
    for beta in (0.2, 0.02):
        pair, scores = model.pair(theta, ref, 0, 1)
        lead = small_beta_trace_bias(pair, LossAtReference.dpo(beta)) @ scores
        rest.append(np.linalg.norm(bias(model, ref, theta, DPO(beta), fresh=True) - lead))
    assert 8_000 < rest[0] / rest[1] < 12_000


def test_without_the_shift_of_the_means_the_lead_in_beta_is_wrong():
    model, ref, d = random_prompt(0)
    theta, beta = ref + 0.5 * d, 1e-2
    pair, scores = model.pair(theta, ref, 0, 1)
    truth = bias(model, ref, theta, DPO(beta), fresh=True)
    lead = small_beta_trace_bias(pair, LossAtReference.dpo(beta)) @ scores
    chosen, rejected = laws(model, theta)
    rho = model.log_probs(theta) - model.log_probs(ref)
    covariances = beta**2 / 4 * (chosen.covariance_with(rho[:, 0]) + rejected.covariance_with(rho[:, 1]))
    assert np.linalg.norm(truth - lead) < 1e-3 * np.linalg.norm(truth)
    assert np.linalg.norm(truth - covariances) > 0.01 * np.linalg.norm(truth)


def test_fresh_traces_leave_everything_but_the_weights():
    model, ref, d = random_prompt(1)
    pair, _ = model.pair(ref + d, ref, 0, 1)
    fresh = with_fresh_traces(pair)
    np.testing.assert_allclose(
        fresh.weights, np.outer(model.posterior(ref + d, 0), model.posterior(ref + d, 1)).ravel(), rtol=1e-12
    )
    assert fresh.log_prob_ref is pair.log_prob_ref
    at_reference, _ = model.pair(ref, ref, 0, 1)
    np.testing.assert_allclose(with_fresh_traces(at_reference).weights, at_reference.weights, rtol=1e-12)


def test_sampled_traces_and_wrong_shapes_are_refused():
    loss = LossAtReference.dpo(0.1)
    for call in (
        lambda: with_fresh_traces(toy_pair()),
        lambda: stale_trace_bias(toy_pair(), np.zeros(6), loss),
        lambda: small_beta_trace_bias(toy_pair(), loss),
    ):
        with pytest.raises(ValueError, match="enumerated"):
            call()
    with pytest.raises(ValueError, match="one derivative per sequence"):
        fresh_trace_bias(toy_pair(enumerated=True), np.zeros(5), loss)
