"""The full Gram matrix of a list of sequences: for small studies and as the oracle of the streaming passes."""

from collections.abc import Sequence

import numpy as np
import torch

from bvpo_analysis.lrm.sequences import TokenSequence
from bvpo_analysis.records import Floats
from bvpo_analysis.scores.engines import ScoreEngine


def full_gram(
    engine: ScoreEngine, sequences: Sequence[TokenSequence], *, panel: int = 64
) -> tuple[Floats, Floats, Floats]:
    """Inner products of all scores, with the log-probabilities.

    The scores are held at once, N x P numbers; products are accumulated in float64 over column panels.

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
    width = 8192
    for g, columns in enumerate(engine.columns):
        for start in range(columns.start, columns.stop, width):
            block = rows[:, start : min(start + width, columns.stop)].double()
            gram[g] += (block @ block.T).cpu().numpy()
    return gram, trace.numpy(), answer.numpy()
