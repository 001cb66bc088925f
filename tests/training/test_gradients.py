"""The gradient that is trained is the gradient that is analysed."""

import numpy as np
import pytest
import torch

from bvpo_analysis.errors import StudyError
from bvpo_analysis.estimators import EmptyTrace, MultiTrace, Pooled, Trace, mean_coefficients
from bvpo_analysis.lrm.loading import load_model
from bvpo_analysis.objectives import DPO, IPO, SimPO
from bvpo_analysis.preferences.shipped import shipped_pairs
from bvpo_analysis.scores import VmapEngine
from bvpo_analysis.scores.log_probs import sequence_log_probs
from bvpo_analysis.scores.plan import pair_log_probs, plan_pair
from bvpo_analysis.training import batch_gradient, bvpo_loss
from bvpo_analysis.training.problem import reference_log_probs


@pytest.fixture(scope="module")
def moved():
    """A model a little off its reference, with plans and reference log-probabilities of three pairs."""
    lrm = load_model()
    plans = [plan_pair(lrm.assembler, pair, traces=2, prior=6) for pair in shipped_pairs("correct", limit=3)]
    references = reference_log_probs(lrm, plans)
    generator = torch.Generator().manual_seed(0)
    for p in lrm.model.parameters():
        p.data += 0.01 * p.std() * torch.randn(p.shape, generator=generator)
    parameters = {name: p.requires_grad_(True) for name, p in lrm.model.named_parameters()}
    return lrm, plans, references, parameters


@pytest.mark.parametrize("objective", [DPO(0.3), IPO(0.3), SimPO(2.0)], ids=lambda o: o.name)
@pytest.mark.parametrize("kind", ["trace", "mean", "pooled", "empty"])
def test_it_is_the_combination_of_scores(moved, objective, kind):
    """Catches a wrong coefficient, a wrong row, or a second gradient through the coefficients."""
    lrm, plans, references, parameters = moved
    estimator = {
        "trace": Trace(objective),
        "mean": MultiTrace(objective, 2),
        "pooled": Pooled(objective, 4),
        "empty": EmptyTrace(objective),
    }[kind]
    found = batch_gradient(
        lrm.model, parameters, plans, references, estimator, objective, empty=kind == "empty", token_budget=128
    ).vector
    engine = VmapEngine(lrm.model)
    expected = np.zeros(engine.size)
    for plan, reference in zip(plans, references, strict=True):
        rows = engine.buffer(len(plan.sequences))
        trace, answer = engine.fill(plan.sequences, rows)
        logs = pair_log_probs(
            plan, trace.numpy(), answer.numpy(), reference.log_prob, log_prob_answer_ref=reference.log_prob_answer
        )
        expected += mean_coefficients(estimator, logs) @ rows.double().numpy()
    places = engine.places()
    ordered = np.concatenate([expected[places[name]] for name in parameters])
    assert np.abs(found.numpy() - ordered).max() <= 1e-5 * np.abs(ordered).max()
    assert np.linalg.norm(found.numpy() - ordered) <= 1e-5 * np.linalg.norm(ordered)


@pytest.mark.parametrize("objective", [DPO(0.3), IPO(0.3), SimPO(2.0)], ids=lambda o: o.name)
def test_the_exported_loss_has_the_mixed_gradient(moved, objective):
    """Catches a weight on the wrong term: autograd through bvpo_loss against alpha g_t + (1 - alpha) g_e."""
    lrm, plans, references, parameters = moved
    alpha = 0.3

    def log_probs(rows):
        sequences = [plan.sequences[r] for plan, r in zip(plans, rows, strict=True)]
        values = []
        for s in sequences:
            ids = torch.tensor([s.ids])
            token = torch.log_softmax(lrm.model(ids, use_cache=False).logits[0, :-1], -1).gather(1, ids[0, 1:, None])[
                :, 0
            ]
            values.append(token[s.score_start - 1 :].sum())
        reference = torch.tensor([ref.log_prob[r] for ref, r in zip(references, rows, strict=True)])
        return torch.stack(values), reference, torch.tensor([float(s.tokens) for s in sequences])

    sides = {
        "trace": [log_probs([plan.draws[0][side] for plan in plans]) for side in (0, 1)],
        "empty": [log_probs([plan.empty[side] for plan in plans]) for side in (0, 1)],
    }
    (trace, trace_ref, trace_tokens), (empty, empty_ref, empty_tokens) = (
        tuple(tuple(side[k] for side in sides[name]) for k in range(3)) for name in ("trace", "empty")
    )
    value = bvpo_loss(
        objective, trace, trace_ref, empty, empty_ref, alpha, trace_tokens=trace_tokens, empty_tokens=empty_tokens
    )
    expected = torch.cat([g.flatten() for g in torch.autograd.grad(value, list(parameters.values()))])
    single = [plan_pair(lrm.assembler, plan.pair, traces=1) for plan in plans]
    at_start = load_model()
    first = reference_log_probs(at_start, single)
    g_t, g_e = (
        batch_gradient(lrm.model, parameters, single, first, e, objective, empty=flag)
        for e, flag in ((Trace(objective), False), (EmptyTrace(objective), True))
    )
    found = (alpha * g_t.vector + (1 - alpha) * g_e.vector) / len(plans)
    assert float((found - expected).norm()) <= 1e-5 * float(expected.norm())
    mixed = alpha * g_t.losses.mean() + (1 - alpha) * g_e.losses.mean()
    assert value.item() == pytest.approx(mixed, rel=1e-5)


def test_a_loss_normalised_by_length_asks_for_lengths():
    zero = torch.zeros(1)
    with pytest.raises(ValueError, match="give trace_tokens and empty_tokens"):
        bvpo_loss(SimPO(), (zero, zero), (zero, zero), (zero, zero), (zero, zero), 0.5)
    with pytest.raises(ValueError, match="an empty batch has no loss"):
        bvpo_loss(DPO(), (zero[:0], zero[:0]), (zero[:0], zero[:0]), (zero, zero), (zero, zero), 0.5)


def test_weights_that_are_not_finite_are_named(moved):
    """Catches a NaN that would be trained on."""
    lrm, plans, references, _ = moved
    broken = {name: torch.full_like(p, torch.nan).requires_grad_(True) for name, p in lrm.model.named_parameters()}
    with pytest.raises(StudyError, match=r"prompt 'correct-\d+': log pi = nan; .* smaller learning rate"):
        batch_gradient(lrm.model, broken, plans, references, Trace(DPO()), DPO(), empty=False)


def test_reference_log_probs_belong_to_their_sequences(lrm):
    """Catches a split at the wrong place."""
    plans = [
        plan_pair(lrm.assembler, pair, traces=k)
        for pair, k in zip(shipped_pairs("style", limit=2), (1, 3), strict=True)
    ]
    for plan, found in zip(plans, reference_log_probs(lrm, plans), strict=True):
        trace, answer = sequence_log_probs(lrm.model, plan.sequences)
        np.testing.assert_allclose(found.log_prob, (trace + answer).numpy(), rtol=1e-5)
        np.testing.assert_allclose(found.log_prob_answer, answer.numpy(), rtol=1e-4, atol=1e-6)
