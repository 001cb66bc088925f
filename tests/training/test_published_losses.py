"""The losses that are trained are the published ones, and those of TRL on the same log-probabilities."""

import math
from collections import defaultdict
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from bvpo_analysis.objectives import DPO, IPO, SimPO
from bvpo_analysis.training import bvpo_loss
from bvpo_analysis.training.gradients import implicit_rewards

N, TOKENS = 6, 9
BETA, GAMMA = 0.3, 0.7


@pytest.fixture
def tokens():
    """Log-probabilities of single tokens, zero beyond the length of a sequence: [chosen, rejected] x N x TOKENS."""
    rng = np.random.default_rng(0)
    mask = np.arange(TOKENS) < rng.integers(2, TOKENS + 1, size=(2, N, 1))
    policy, reference = (torch.from_numpy(np.where(mask, -rng.exponential(1.0, mask.shape), 0.0)) for _ in range(2))
    return SimpleNamespace(policy=policy, reference=reference, mask=torch.from_numpy(mask))


def published(name, chosen, rejected, chosen_ref, rejected_ref, chosen_tokens, rejected_tokens):
    """One comparison, from the papers: arXiv 2305.18290 eq. 7, 2310.12036 eq. 17, 2405.14734 eq. 6."""
    if name == "dpo":
        return -math.log(1 / (1 + math.exp(-(BETA * (chosen - chosen_ref) - BETA * (rejected - rejected_ref)))))
    if name == "ipo":
        h = math.log(math.exp(chosen) * math.exp(rejected_ref) / (math.exp(rejected) * math.exp(chosen_ref)))
        return (h - 1 / (2 * BETA)) ** 2
    margin = BETA / chosen_tokens * chosen - BETA / rejected_tokens * rejected - GAMMA
    return -math.log(1 / (1 + math.exp(-margin)))


LOSSES = {"dpo": DPO(BETA), "ipo": IPO(BETA), "simpo": SimPO(BETA, GAMMA)}


@pytest.mark.parametrize("name", LOSSES)
def test_the_mixed_loss_is_made_of_the_published_ones(tokens, name):
    """Catches a sign, a factor of beta, lengths of the other side, and exchanged weights."""
    sums, before = tokens.policy.sum(-1), tokens.reference.sum(-1)
    lengths = tokens.mask.sum(-1).double()
    half = [slice(0, 4), slice(4, N)]  # four rows with traces, two without
    parts = [tuple(tuple(side[rows] for side in source) for source in (sums, before, lengths)) for rows in half]
    (trace, trace_ref, n_trace), (empty, empty_ref, n_empty) = parts
    found = bvpo_loss(LOSSES[name], trace, trace_ref, empty, empty_ref, 0.3, trace_tokens=n_trace, empty_tokens=n_empty)
    rows = [published(name, *(float(x[side, i]) for x in (sums, before, lengths) for side in (0, 1))) for i in range(N)]
    assert float(found) == pytest.approx(0.3 * np.mean(rows[:4]) + 0.7 * np.mean(rows[4:]), rel=1e-12)


def trl_dpo_trainer(loss_type, tokens):
    """What ``DPOTrainer._compute_loss`` reads of its trainer, and the inputs that give it these log-probabilities."""
    shape = (2 * N, TOKENS)
    outputs = SimpleNamespace(
        log_probs=tokens.policy.reshape(shape),
        entropy=torch.zeros(shape),
        mean_logits=torch.zeros(shape),
        is_top1=torch.zeros(shape, dtype=torch.bool),
    )
    accelerator = SimpleNamespace(device=torch.device("cpu"), gather_for_metrics=lambda x: x, gather=lambda x: x)
    trainer = SimpleNamespace(
        model=SimpleNamespace(training=False),
        accelerator=accelerator,
        aux_loss_enabled=False,
        ld_alpha=None,
        precompute_ref_logps=True,
        f_divergence_type="reverse_kl",
        loss_types=[loss_type],
        loss_weights=[1.0],
        beta=BETA,
        label_smoothing=0.0,
        use_weighting=False,
        _metrics=defaultdict(lambda: defaultdict(list)),
        _total_train_tokens=0,
    )
    mask = torch.cat([torch.zeros(2 * N, 1, dtype=torch.long), tokens.mask.reshape(shape).long()], dim=1)
    inputs = {
        "input_ids": torch.zeros_like(mask),
        "attention_mask": mask,
        "completion_mask": mask,
        "ref_chosen_logps": tokens.reference[0].sum(-1),
        "ref_rejected_logps": tokens.reference[1].sum(-1),
    }
    return trainer, lambda **_: outputs, inputs


@pytest.mark.parametrize(("name", "loss_type"), [("dpo", "sigmoid"), ("ipo", "ipo")])
def test_dpo_and_ipo_are_those_of_trl(tokens, name, loss_type):
    """TRL's IPO takes the mean over tokens where the paper has the sum; on the means the two are one formula."""
    trl = pytest.importorskip("trl", reason="trl is not installed: pip install '.[trl]'")
    trainer, model, inputs = trl_dpo_trainer(loss_type, tokens)
    expected = trl.DPOTrainer._compute_loss(trainer, model, inputs, False)
    lengths = tokens.mask.sum(-1) if name == "ipo" else torch.ones(2, N)
    sides = (*(tokens.policy.sum(-1) / lengths), *(tokens.reference.sum(-1) / lengths))
    found = LOSSES[name].loss(*sides, *tokens.mask.sum(-1)).mean()
    assert float(found) == pytest.approx(float(expected), rel=1e-6)
    logged = trainer._metrics["eval"]
    for side, column in (("chosen", 0), ("rejected", 1)):
        rewards = implicit_rewards(LOSSES[name], *(x[column].sum(-1) for x in (tokens.policy, tokens.reference)), None)
        assert logged[f"rewards/{side}"] == [pytest.approx(float(rewards.mean()), rel=1e-6)]


def test_simpo_is_that_of_trl(tokens):
    pytest.importorskip("trl", reason="trl is not installed: pip install '.[trl]'")
    from trl.experimental.cpo import CPOTrainer

    trainer = SimpleNamespace(
        alpha=0.0,
        beta=BETA,
        loss_type="simpo",
        simpo_gamma=GAMMA,
        label_smoothing=0.0,
        accelerator=SimpleNamespace(device="cpu"),
    )
    lengths = tokens.mask.sum(-1)
    expected, *rewards = CPOTrainer.cpo_loss(trainer, *(tokens.policy.sum(-1) / lengths))
    found = LOSSES["simpo"].loss(*tokens.policy.sum(-1), *tokens.reference.sum(-1), *lengths)
    torch.testing.assert_close(found, expected, rtol=1e-6, atol=1e-12)
    torch.testing.assert_close(torch.stack(rewards), BETA * tokens.policy.sum(-1) / lengths, rtol=1e-6, atol=1e-12)
