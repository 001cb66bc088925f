"""log pi of scored spans: the one place where logits become log-probabilities.

Sequences are padded on the right. Causal attention then needs no mask: no scored token can see the padding, and padding
is masked in the sum. (A 2-D attention mask would forbid vmap under some attention implementations and be silently wrong
under others.)
"""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch.func import functional_call

from bvpo_analysis.errors import StudyError
from bvpo_analysis.lrm.sequences import TokenSequence
from bvpo_analysis.scores.back_off import run_batches

TOKEN_BUDGET = 2048
"""Padded tokens per batch; sequences are sorted by length first."""


def batches_by_length(sequences: Sequence[TokenSequence], budget: int = TOKEN_BUDGET) -> list[list[int]]:
    """Indices of the sequences in batches of similar length, each of at most ``budget`` padded tokens (or one row).

    Example:
        >>> s = [TokenSequence(tuple(range(n)), 1, 1) for n in (4, 9, 5)]
        >>> batches_by_length(s, budget=10)
        [[0, 2], [1]]
    """
    order = sorted(range(len(sequences)), key=lambda j: (len(sequences[j].ids), j))
    batches: list[list[int]] = []
    for j in order:
        if batches and (len(batches[-1]) + 1) * len(sequences[j].ids) <= budget:
            batches[-1].append(j)
        else:
            batches.append([j])
    return batches


def pad_batch(
    sequences: Sequence[TokenSequence], device: torch.device | str
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Right-padded ids [n, T] and masks [n, T-1] of the trace part and the answer part of the targets ids[:, 1:]."""
    width = max(len(sequence.ids) for sequence in sequences)
    ids = torch.zeros(len(sequences), width, dtype=torch.long)
    trace = torch.zeros(len(sequences), width - 1)
    answer = torch.zeros(len(sequences), width - 1)
    for row, sequence in enumerate(sequences):
        ids[row, : len(sequence.ids)] = torch.tensor(sequence.ids)
        trace[row, sequence.score_start - 1 : sequence.answer_start - 1] = 1
        answer[row, sequence.answer_start - 1 : len(sequence.ids) - 1] = 1
    return ids.to(device), trace.to(device), answer.to(device)


def log_prob_parts(
    model: torch.nn.Module,
    parameters: Mapping[str, torch.Tensor],
    ids: torch.Tensor,
    trace_mask: torch.Tensor,
    answer_mask: torch.Tensor,
) -> tuple[torch.Tensor, torch.Tensor]:
    """(log pi of the trace part, log pi of the answer part), each [n], for ids [n, T] and masks [n, T-1]."""
    output: Any = functional_call(model, dict(parameters), (ids,), {"use_cache": False})
    logits = output.logits[:, :-1]
    # Log-probabilities of half-precision logits are taken in float32: they are sums over many tokens.
    log_probs = torch.log_softmax(logits, dim=-1, dtype=torch.promote_types(logits.dtype, torch.float32))
    token = log_probs.gather(-1, ids[:, 1:, None]).squeeze(-1)
    zero = torch.zeros((), dtype=token.dtype, device=token.device)
    trace = torch.where(trace_mask > 0, token, zero).sum(-1)
    answer = torch.where(answer_mask > 0, token, zero).sum(-1)
    return trace, answer


def sequence_log_probs(
    model: torch.nn.Module, sequences: Sequence[TokenSequence], *, budget: int = TOKEN_BUDGET
) -> tuple[torch.Tensor, torch.Tensor]:
    """(log pi of the trace part, log pi of the answer part) of each sequence, [N] float64 on the CPU, no gradients.

    Raises:
        StudyError: a log-probability is not finite.
    """
    parameters = dict(model.named_parameters())
    device = next(iter(parameters.values())).device
    trace, answer = (
        torch.empty(len(sequences), dtype=torch.float64),
        torch.empty(len(sequences), dtype=torch.float64),
    )

    def work(batch: list[int]) -> None:
        parts = log_prob_parts(model, parameters, *pad_batch([sequences[j] for j in batch], device))
        trace[batch], answer[batch] = (part.double().cpu() for part in parts)

    with torch.no_grad():
        run_batches(sequences, budget, batches_by_length, work, device)
    require_finite(trace + answer, sequences)
    return trace, answer


def require_finite(log_prob: torch.Tensor, sequences: Sequence[TokenSequence]) -> None:
    """Raise StudyError naming the first sequence whose log-probability is not finite."""
    bad = (~torch.isfinite(log_prob)).nonzero().flatten().tolist()
    if bad:
        raise StudyError(
            f"the model gives log pi = {log_prob[bad[0]].item()} for {len(bad)} of {len(sequences)} sequences (the "
            f"first has {len(sequences[bad[0]].ids)} tokens); check the weights for NaN or infinity and use float32"
        )
