"""Held-out losses against autograd-free formulas at the reference and away from it."""

import copy

import numpy as np
import pytest
import torch

from bvpo_analysis.evaluation import HeldOut
from bvpo_analysis.exact import shipped_traces
from bvpo_analysis.lrm.loading import load_model
from bvpo_analysis.objectives import DPO, SimPO
from bvpo_analysis.preferences.shipped import shipped_pairs
from bvpo_analysis.scores import sequence_log_probs

PAIRS = shipped_pairs("style", limit=3)


@pytest.fixture(scope="module")
def lrm():
    return load_model()


def test_at_the_reference_every_loss_is_log_two_and_every_comparison_a_tie(lrm):
    found = HeldOut(lrm, PAIRS, DPO(), enumerate_traces=shipped_traces).values(lrm.model)
    for name in ("trace_loss", "empty_loss", "marginal_loss"):
        assert getattr(found, name) == pytest.approx(np.log(2), abs=1e-9)
    for name in ("trace_accuracy", "empty_accuracy", "marginal_accuracy"):
        assert getattr(found, name) == pytest.approx(0.5, abs=1e-9)


def test_away_from_it_the_marginal_loss_sums_probabilities_over_traces(lrm):
    """Catches a mean of log-probabilities in place of the log of a sum, and exchanged sides."""
    network = copy.deepcopy(lrm.model)
    torch.manual_seed(1)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.02 * torch.randn_like(parameter))
    found = HeldOut(lrm, PAIRS, DPO(0.7), enumerate_traces=shipped_traces).values(network)
    for i, pair in enumerate(PAIRS):
        ratio = []
        for side in (0, 1):
            rows = [lrm.assembler.with_trace(pair.prompt, t, pair.answer(side)) for t in shipped_traces(pair)]
            new, old = (sum(sequence_log_probs(m, rows)).logsumexp(0) for m in (network, lrm.model))
            ratio.append(float(new - old))
        margin = 0.7 * (ratio[0] - ratio[1])
        assert found.marginal_loss[i] == pytest.approx(np.log1p(np.exp(-margin)), abs=1e-9)
        assert found.marginal_accuracy[i] == float(margin > 0)
    estimates = HeldOut(lrm, PAIRS, DPO(0.7), traces=2).values(network).estimates()
    assert set(estimates) == {"trace_loss", "empty_loss", "trace_accuracy", "empty_accuracy"}


def test_a_loss_without_reference_compares_log_probabilities_per_token(lrm):
    found = HeldOut(lrm, PAIRS, SimPO(), traces=1).values(lrm.model)
    for i, pair in enumerate(PAIRS):
        rows = [lrm.assembler.with_trace(pair.prompt, pair.traces(s)[0], pair.answer(s)) for s in (0, 1)]
        logs = sum(sequence_log_probs(lrm.model, rows)).numpy() / [row.tokens for row in rows]
        assert found.trace_accuracy[i] == float(logs[0] > logs[1])
