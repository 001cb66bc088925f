"""The floor: plain batched forward and backward passes over the same sequences, which give the sum of the scores only.

One pass per micro-batch of a token budget; ``best_budget`` picks the fastest budget, so that no ratio profits from a
slow floor.
"""

import time
from collections.abc import Sequence

import torch
from torch.nn import functional as F

from bvpo_analysis.lrm.sequences import TokenSequence
from bvpo_analysis.scores.log_probs import batches_by_length, pad_batch

BUDGETS = (1024, 2048, 4096, 8192)


def plain(model: torch.nn.Module, sequences: Sequence[TokenSequence], budget: int) -> list[torch.Tensor]:
    """Gradients of the sum of log pi over the sequences, by parameter."""
    parameters = list(model.parameters())
    for p in parameters:
        p.grad = None
        p.requires_grad_(True)
    for batch in batches_by_length(sequences, budget):
        ids, trace, answer = pad_batch([sequences[j] for j in batch], parameters[0].device)
        logits = model(ids, use_cache=False).logits[:, :-1]
        token = F.cross_entropy(logits.flatten(0, 1), ids[:, 1:].flatten(), reduction="none")
        (-(token.view_as(trace) * (trace + answer)).sum()).backward()
    grads = [p.grad for p in parameters]
    for p in parameters:
        p.grad = None
        p.requires_grad_(False)
    return grads


def best_budget(
    model: torch.nn.Module, sequences: Sequence[TokenSequence], budgets: Sequence[int] = BUDGETS, rounds: int = 2
) -> int:
    """The token budget with the smallest CPU time, on as many of the sequences as fill the largest twice."""
    sequences = sequences[: max(2 * max(budgets) // len(sequences[0].ids), 1)]
    seconds: dict[int, list[float]] = {b: [] for b in budgets}
    plain(model, sequences, budgets[0])
    for _ in range(rounds):
        for budget in budgets:
            start = time.process_time()
            plain(model, sequences, budget)
            seconds[budget].append(time.process_time() - start)
    return min(budgets, key=lambda b: min(seconds[b]))
