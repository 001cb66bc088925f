"""Batches that shrink when memory runs out: half the tokens, and half again, down to one sequence at a time.

How sequences are batched shows in the last bits of float32 scores, so a run in which this happened agrees with one in
which it did not to rounding only.
"""

import warnings
from collections.abc import Callable, Sequence

import torch

from bvpo_analysis.errors import StudyError
from bvpo_analysis.lrm.sequences import TokenSequence
from bvpo_analysis.scores.memory import is_out_of_memory, release

Batches = Callable[[Sequence[TokenSequence], int], list[list[int]]]
"""Indices of the sequences of each batch, for a number of padded tokens per batch."""


def run_batches(
    sequences: Sequence[TokenSequence],
    budget: int,
    batches: Batches,
    work: Callable[[list[int]], None],
    device: torch.device | str = "cpu",
) -> int:
    """Do ``work`` on batches of the sequences; what fails for want of memory is done again in smaller batches.

    Args:
        sequences: what to work on.
        budget: padded tokens per batch.
        batches: makes batches of sequences.
        work: called with the indices of each batch; must not have lasting effects if it fails.
        device: where the memory is.

    Returns:
        The number of padded tokens per batch that sufficed.

    Raises:
        StudyError: memory does not suffice for a single sequence.

    Example:
        >>> from bvpo_analysis.scores.log_probs import batches_by_length
        >>> s, done = [TokenSequence(tuple(range(9)), 1, 1)] * 5, []
        >>> def work(batch):
        ...     if len(batch) > 2:
        ...         raise MemoryError
        ...     done.append(batch)
        >>> with warnings.catch_warnings():
        ...     warnings.simplefilter("ignore")
        ...     run_batches(s, 100, batches_by_length, work), done
        (22, [[0, 1], [2, 3], [4]])
    """
    queue = batches(sequences, budget)
    while queue:
        batch = queue[0]
        if _enough_memory(work, batch):
            queue.pop(0)
            continue
        # The failed attempt is forgotten here, and with it the memory that its traceback held.
        release(device)
        tokens = len(batch) * max(len(sequences[j].ids) for j in batch)
        if len(batch) == 1:
            raise StudyError(
                f"memory does not suffice for one sequence of {tokens} tokens; use --engine loop --attention sdpa "
                "(which recomputes activations of long sequences), fewer parameters with --params, or a larger machine"
            )
        budget = min(budget, tokens) // 2
        left = [j for rest in queue for j in rest]
        queue = [[left[k] for k in part] for part in batches([sequences[j] for j in left], budget)]
        warnings.warn(f"out of memory; going on with batches of at most {budget} tokens", stacklevel=3)
    return budget


def _enough_memory(work: Callable[[list[int]], None], batch: list[int]) -> bool:
    try:
        work(batch)
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        return False
    return True
