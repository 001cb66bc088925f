"""Gradients with prior traces by enumeration: their common bias, what sharing does, what the control variate takes."""

from dataclasses import replace

import numpy as np
import pytest

from bvpo_analysis.estimators import ControlledPriorTrace, IndependentPriorTraces, PriorTrace
from bvpo_analysis.objectives import DPO, IPO, SimPO
from bvpo_analysis.testing import toy_pair
from bvpo_analysis.theory.trace_bias import prior_trace_bias
from bvpo_analysis.theory.trace_laws import LossAtReference, TraceLaw

LOSSES = ((DPO(0.7), LossAtReference.dpo(0.7)), (IPO(0.4), LossAtReference.ipo(0.4)))


@pytest.mark.parametrize(("loss", "local"), LOSSES, ids=["dpo", "ipo"])
def test_the_bias_at_the_reference_is_a_difference_of_covariances(at_reference, loss, local):
    """Catches posterior traces, traces of the other answer, and a slope with the wrong sign (G39)."""
    for prompt in at_reference:
        prior, scores = prompt.model.prior(prompt.ref), prompt.model.scores(prompt.ref)
        sides = [TraceLaw(prior, scores[:, y]) for y in (0, 1)]
        likelihoods = [prompt.model.likelihood(prompt.ref, y) for y in (0, 1)]
        predicted = prior_trace_bias(*sides, *likelihoods, local)
        assert np.linalg.norm(predicted) > 1e-2 * np.linalg.norm(prompt.target(loss))
        for estimator, size in ((PriorTrace(loss), 1), (IndependentPriorTraces(loss), 2)):
            found = prompt.from_prior(estimator, size)
            assert found.p.sum() == pytest.approx(1.0, abs=1e-12)
            np.testing.assert_allclose(found.mean - prompt.target(loss), predicted, atol=1e-12)


@pytest.mark.parametrize("a", [-0.5, 0.0, 0.7, 1.0])
def test_the_control_variate_leaves_the_mean_as_it_is_at_the_reference(at_reference, a):
    """Catches a control variate with a mean, as the score of a whole sequence would have."""
    for prompt in at_reference:
        plain = prompt.from_prior(IndependentPriorTraces(DPO(0.7)), 2)
        controlled = prompt.from_prior(ControlledPriorTrace(DPO(0.7), a), 2)
        np.testing.assert_allclose(controlled.mean, plain.mean, atol=1e-13)
        assert (controlled.variance == pytest.approx(plain.variance, rel=1e-9)) == (a == 0.0)


def test_the_control_variate_moves_the_mean_off_the_reference(off_reference):
    """Power of the test above: traces of the reference are no draws of the policy, so its scores have a mean."""
    for prompt in off_reference:
        plain = prompt.from_prior(IndependentPriorTraces(DPO(0.7)), 2)
        controlled = prompt.from_prior(ControlledPriorTrace(DPO(0.7)), 2)
        assert np.linalg.norm(controlled.mean - plain.mean) > 1e-4


def test_with_coefficient_one_only_the_answers_are_scored(at_reference):
    """Catches trace rows of the wrong trace or side: s(r, y) - z(r) is the score of the answer after r."""
    for prompt in at_reference:
        for r, q in ((0, 2), (1, 1), (2, 0)):
            pair, scores = prompt.pair([(0, 0)], [r, q])
            g = ControlledPriorTrace(DPO(2.0)).coefficients(pair)[0] @ scores
            expected = -prompt.model.answer_score(prompt.ref, r, 0) + prompt.model.answer_score(prompt.ref, q, 1)
            np.testing.assert_allclose(g, expected, atol=1e-13)


def test_a_shared_trace_is_the_same_without_a_control_variate(at_reference):
    """Catches two traces where one is to serve both answers: then the score of the trace cancels by itself."""
    for prompt in at_reference:
        for r in range(3):
            pair, scores = prompt.pair([(0, 0)], [r])
            g = PriorTrace(DPO(2.0)).coefficients(pair)[0] @ scores
            expected = prompt.model.answer_score(prompt.ref, r, 1) - prompt.model.answer_score(prompt.ref, r, 0)
            np.testing.assert_allclose(g, expected, atol=1e-13)


def test_traces_are_taken_two_by_two_in_file_order():
    """Catches trace m used for both sides, overlapping pairs, and a left-over trace put to use."""
    pair = toy_pair(further=True)
    for loss in (DPO(2.0), IPO(0.4), SimPO(2.0, 0.5)):
        c = IndependentPriorTraces(loss).coefficients(pair)
        assert [np.flatnonzero(row).tolist() for row in c] == [[6, 10]]
        controlled = ControlledPriorTrace(loss, 0.25).coefficients(pair)
        np.testing.assert_allclose(controlled[0, [12, 13]], -0.25 * c[0, [6, 10]], rtol=1e-14)
        assert [np.flatnonzero(row).tolist() for row in PriorTrace(loss).coefficients(pair)] == [
            [6, 9],
            [7, 10],
            [8, 11],
        ]


def test_what_they_refuse():
    with pytest.raises(ValueError, match="'toy' has 0 scored prior traces, 1 are needed"):
        PriorTrace(DPO()).coefficients(toy_pair())
    with pytest.raises(ValueError, match="'toy' has 0 scored prior traces, 2 are needed"):
        IndependentPriorTraces(DPO()).coefficients(toy_pair())
    with pytest.raises(ValueError, match="coefficient must be finite, got nan"):
        ControlledPriorTrace(DPO(), float("nan"))
    with pytest.raises(ValueError, match="prior traces were not scored without an answer"):
        ControlledPriorTrace(DPO()).coefficients(replace(toy_pair(further=True), trace_only=np.empty(0, np.int64)))
