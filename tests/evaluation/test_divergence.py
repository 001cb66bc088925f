"""KL to the reference and trace entropy against sums over everything that can be generated."""

import copy

import numpy as np
import pytest
import torch

from bvpo_analysis.evaluation import divergence_of, fresh_prompts, sample_answers
from bvpo_analysis.evaluation.divergence import sequence_divergence
from bvpo_analysis.evaluation.intervals import clustered_mean
from bvpo_analysis.lrm.loading import load_model
from bvpo_analysis.lrm.shipped.evaluation import trace_log_probs
from bvpo_analysis.lrm.shipped.task import parse_problem


@pytest.fixture(scope="module")
def moved():
    """The model in the box and a copy a small random step away."""
    lrm = load_model()
    network = copy.deepcopy(lrm.model)
    torch.manual_seed(0)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.01 * torch.randn_like(parameter))
    return lrm, type(lrm)("moved", network, lrm.assembler, "moved")


def test_a_model_does_not_diverge_from_itself(moved):
    lrm, _ = moved
    answers = sample_answers(lrm, fresh_prompts(60), "thinking")
    found = divergence_of(lrm.model, lrm.model, answers)
    assert found.kl.value == 0.0
    # Traces are nearly uniform over the 24 orders; what little else there is adds to their entropy.
    logs = trace_log_probs(lrm.model, lrm.tokenizer, [parse_problem(p.text) for p in answers.prompts])
    exact = -(np.exp(logs) * logs).sum(axis=1).mean()
    assert abs(found.trace_entropy.value - exact) < 4 * found.trace_entropy.se + 0.05
    assert found.trace_entropy.se < 0.1


def test_the_divergence_agrees_with_the_log_ratio_on_average(moved):
    """Catches a wrong direction or a shifted mask: both are unbiased, and the exact terms are less noisy."""
    lrm, other = moved
    answers = sample_answers(other, fresh_prompts(160), "thinking")
    flat = [row[0] for row in answers.answers]
    exact, _ = sequence_divergence(other.model, lrm.model, flat)
    ratios = []
    for answer in flat:
        ids = torch.tensor([answer.ids])
        both = []
        for model in (other.model, lrm.model):
            with torch.no_grad():
                logs = torch.log_softmax(model(ids).logits[0, :-1].double(), -1)
            both.append(float(logs.gather(-1, ids[0, 1:, None])[answer.start - 1 :].sum()))
        ratios.append(both[0] - both[1])
    plain, better = clustered_mean(ratios), clustered_mean(exact)
    assert exact.min() >= 0.0
    assert abs(plain.value - better.value) < 4 * np.hypot(plain.se, better.se)
    assert better.se < plain.se / 2
    assert better.value > 10 * better.se
