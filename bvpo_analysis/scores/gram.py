"""The full Gram matrix of a list of sequences: for small studies and as the oracle of the streaming passes."""

from collections.abc import Sequence

import numpy as np
import torch

from bvpo_analysis.lrm.sequences import TokenSequence
from bvpo_analysis.records import Floats
from bvpo_analysis.scores.engines import ScoreEngine

CHUNK = 512
"""Columns whose products are added up in the type of the scores; the sums of chunks are added up in float64."""
PANEL = 8192
"""Columns of the scores that are taken at once."""


def chunked_products(rows: torch.Tensor) -> torch.Tensor:
    """Inner products [m, m] of rows [m, n] in float64, from products over ``CHUNK`` columns in the type of the rows.

    Example:
        >>> chunked_products(torch.ones(2, 1000)).tolist()
        [[1000.0, 1000.0], [1000.0, 1000.0]]
    """
    size, whole = len(rows), rows.shape[1] // CHUNK * CHUNK
    rest = rows[:, whole:]
    products = torch.zeros(size, size, dtype=torch.float64, device=rows.device) + rest @ rest.T
    chunks = rows[:, :whole].unflatten(1, (-1, CHUNK)).transpose(0, 1)
    # Of many rows only the blocks on and above the diagonal are multiplied.
    step = size if size <= 32 else -(-size // 4)
    for start in range(0, size, step):
        block = torch.bmm(chunks[:, start : start + step], chunks[:, start:].transpose(1, 2))
        products[start : start + step, start:] += block.sum(0, dtype=torch.float64)
    return products if step >= size else products.triu() + products.triu(1).T


def full_gram(
    engine: ScoreEngine,
    sequences: Sequence[TokenSequence],
    *,
    panel: int = 64,
    rows: torch.Tensor | None = None,
) -> tuple[Floats, Floats, Floats]:
    """Inner products of all scores, with the log-probabilities.

    The scores are held at once, N x P numbers; products are accumulated in float64 over short chunks of columns.

    Args:
        engine: score engine.
        sequences: N sequences.
        panel: sequences scored per call of the engine.
        rows: [N, P] buffer for the scores, to be used again; a new one when not given.

    Returns:
        (gram [G, N, N], log pi of the trace part [N], log pi of the answer part [N]).
    """
    rows = engine.buffer(len(sequences)) if rows is None else rows
    trace, answer = torch.empty(len(sequences), dtype=torch.float64), torch.empty(len(sequences), dtype=torch.float64)
    for start in range(0, len(sequences), panel):
        here = slice(start, min(start + panel, len(sequences)))
        trace[here], answer[here] = engine.fill(sequences[here], rows[here])
    gram = np.zeros((len(engine.groups), len(sequences), len(sequences)))
    least = torch.promote_types(rows.dtype, torch.float32)
    for g, columns in enumerate(engine.columns):
        for start in range(columns.start, columns.stop, PANEL):
            part = rows[:, start : min(start + PANEL, columns.stop)].to(least)
            gram[g] += chunked_products(part).cpu().numpy()
    return gram, trace.numpy(), answer.numpy()
