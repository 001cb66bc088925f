"""How far a policy has moved from its reference, and how varied its traces are: sums of exact numbers per token.

For a sequence z ~ pi, with h_t the tokens before the t-th,

    KL(pi || pi_ref) = E sum_t KL(pi(. | h_t) || pi_ref(. | h_t)),      H(pi) = E sum_t H(pi(. | h_t)),

so a sampled sequence gives an unbiased estimate by the exact divergence at each of its tokens, which is far less noisy
than the log-ratio of the tokens that happened to be drawn (arXiv 2504.10637).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from bvpo_analysis.evaluation.answers import AnswerSet, SampledAnswer
from bvpo_analysis.evaluation.intervals import clustered_mean
from bvpo_analysis.records import Estimate, Floats

ROWS = 128
"""Sequences in one forward pass."""


@dataclass(frozen=True)
class Divergence:
    """Of one policy on its own answers.

    Attributes:
        kl: KL(pi || pi_ref) of whole completions, in nats, mean over prompts.
        trace_entropy: entropy of the trace, in nats, mean over prompts; 0 for empty traces.
    """

    kl: Estimate
    trace_entropy: Estimate


@torch.no_grad()
def sequence_divergence(model: Any, reference: Any, answers: Sequence[SampledAnswer]) -> tuple[Floats, Floats]:
    """(sum over tokens of KL to the reference, sum over the trace's tokens of the entropy), [N] each, in nats.

    Args:
        model: the network that drew the answers, at temperature 1.
        reference: the network to compare with.
        answers: N sampled answers.
    """
    divergence, entropy = np.zeros(len(answers)), np.zeros(len(answers))
    order = sorted(range(len(answers)), key=lambda i: len(answers[i].ids))
    for first in range(0, len(order), ROWS):
        rows = order[first : first + ROWS]
        width = max(len(answers[i].ids) for i in rows)
        ids = torch.zeros(len(rows), width, dtype=torch.long, device=model.device)
        whole, trace = torch.zeros(len(rows), width - 1), torch.zeros(len(rows), width - 1)
        for row, i in enumerate(rows):
            a = answers[i]
            ids[row, : len(a.ids)] = torch.tensor(a.ids)
            whole[row, a.start - 1 : len(a.ids) - 1] = 1
            trace[row, a.start - 1 : a.start - 1 + a.tokens_trace] = 1
        logs, logs_ref = (
            torch.log_softmax(m(ids, use_cache=False).logits[:, :-1].float(), dim=-1) for m in (model, reference)
        )
        p = logs.exp()
        per_token = (p * (logs - logs_ref)).sum(-1).double().cpu() * whole
        per_trace_token = -(p * logs).sum(-1).double().cpu() * trace
        divergence[rows], entropy[rows] = per_token.sum(-1).numpy(), per_trace_token.sum(-1).numpy()
    return divergence, entropy


def divergence_of(model: Any, reference: Any, found: AnswerSet) -> Divergence:
    """KL to the reference and trace entropy of a policy from its own answers, with intervals over prompts.

    Example:
        >>> from bvpo_analysis.evaluation.answers import EvaluationPrompt, sample_answers
        >>> from bvpo_analysis.lrm.loading import load_model
        >>> lrm = load_model()
        >>> prompts = [EvaluationPrompt(str(i), ({"role": "user", "content": f"a{i}b7c2d9"},)) for i in range(3)]
        >>> divergence_of(lrm.model, lrm.model, sample_answers(lrm, prompts, "thinking")).kl.value
        0.0
    """
    flat = [answer for row in found.answers for answer in row]
    shape = (len(found.answers), len(found.answers[0]))
    divergence, entropy = (x.reshape(shape) for x in sequence_divergence(model, reference, flat))
    return Divergence(clustered_mean(divergence, low=0.0), clustered_mean(entropy, low=0.0))
