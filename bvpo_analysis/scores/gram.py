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
    whole = rows.shape[1] // CHUNK * CHUNK
    rest = rows[:, whole:]
    chunks = rows[:, :whole].unflatten(1, (-1, CHUNK)).transpose(0, 1)
    return torch.bmm(chunks, chunks.transpose(1, 2)).sum(0, dtype=torch.float64) + rest @ rest.T


def full_gram(
    engine: ScoreEngine, sequences: Sequence[TokenSequence], *, panel: int = 64
) -> tuple[Floats, Floats, Floats]:
    """Inner products of all scores, with the log-probabilities.

    The scores are held at once, N x P numbers; products are accumulated in float64 over short chunks of columns.

    Args:
        engine: score engine.
        sequences: N sequences.
        panel: sequences scored per call of the engine.

    Returns:
        (gram [G, N, N], log pi of the trace part [N], log pi of the answer part [N]).
    """
    rows = engine.buffer(len(sequences))
    trace, answer = torch.empty(len(sequences), dtype=torch.float64), torch.empty(len(sequences), dtype=torch.float64)
    for start in range(0, len(sequences), panel):
        here = slice(start, min(start + panel, len(sequences)))
        trace[here], answer[here] = engine.fill(sequences[here], rows[here])
    gram = np.zeros((len(engine.groups), len(sequences), len(sequences)))
    least = torch.promote_types(rows.dtype, torch.float32)
    for g, columns in enumerate(engine.columns):
        for start in range(columns.start, columns.stop, PANEL):
            panel = rows[:, start : min(start + PANEL, columns.stop)].to(least)
            gram[g] += chunked_products(panel).cpu().numpy()
    return gram, trace.numpy(), answer.numpy()
