"""kappa = eta L, with L measured where the run starts."""

import pytest
import torch

from bvpo_analysis.lrm.loading import load_model
from bvpo_analysis.objectives import DPO
from bvpo_analysis.preferences.shipped import shipped_pairs
from bvpo_analysis.scores.log_probs import log_prob_parts, pad_batch
from bvpo_analysis.training import TrainConfig
from bvpo_analysis.training.parameters import trained_parameters
from bvpo_analysis.training.problem import training_problem
from bvpo_analysis.training.smoothness import largest_curvature, peak_kappa

PAIRS = shipped_pairs("correct", limit=2)


def test_it_is_the_largest_eigenvalue_of_the_hessian():
    """Catches a factor of two, a wrong mean over the batch, and weights that are not put back.

    The Hessian of a block of 24 parameters is taken whole, by differentiating the loss twice.
    """
    config = TrainConfig(method="dpo", batch_size=2, micro_batches=1, params=r"layers\.2\.self_attn\.q_norm", beta=0.5)
    lrm = load_model()
    problem = training_problem(config, lrm, PAIRS)
    parameters = trained_parameters(lrm.model, config.params)
    found = largest_curvature(config, problem, lrm.model, parameters, iterations=25)
    assert all(torch.equal(p, dict(load_model().model.named_parameters())[n]) for n, p in parameters.items())

    total = torch.zeros(())
    for plan, reference in zip(problem.plans, problem.references, strict=True):
        parts = log_prob_parts(lrm.model, parameters, *pad_batch([plan.sequences[j] for j in plan.draws[0]], "cpu"))
        chosen, rejected = sum(parts)
        ref = torch.tensor(reference.log_prob[plan.draws[0]])
        one = torch.ones(())
        total = total + DPO(0.5).loss(chosen, rejected, ref[0], ref[1], one, one) / len(PAIRS)
    ((name, weight),) = parameters.items()
    (first,) = torch.autograd.grad(total, weight, create_graph=True)
    hessian = torch.stack([torch.autograd.grad(g, weight, retain_graph=True)[0] for g in first])
    assert name.endswith("q_norm.weight")
    assert found == pytest.approx(float(torch.linalg.eigvalsh(hessian.double()).abs().max()), rel=0.01)


def test_kappa_is_the_rate_times_the_smoothness():
    assert peak_kappa(TrainConfig(lr=1e-3, smoothness=50.0), None, None, {}) == pytest.approx(0.05)
    assert peak_kappa(TrainConfig(lr=1e-3, kappa=0.3), None, None, {}) == 0.3
