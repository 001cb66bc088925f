"""Small hand-made inputs for doctests and tests; no model is needed to read or run an example.

``toy_pair`` is a pair at its reference with two traces per answer and the six sequences

    0, 1: chosen with trace a, b      2, 3: rejected with trace a, b      4, 5: empty trace, chosen and rejected
"""

import numpy as np

from bvpo_analysis.records import Floats, PairLogProbs


def toy_pair(
    *, enumerated: bool = False, log_prob: Floats | None = None, log_prob_ref: Floats | None = None
) -> PairLogProbs:
    """A pair with two traces per answer, paired in order (sampled) or in all four combinations (enumerated).

    Args:
        enumerated: take the two traces of each side as the whole law; the weights then follow ``log_prob_ref``.
        log_prob, log_prob_ref: [6] log-probabilities; by default those of the reference, all traces equally likely.

    Example:
        >>> toy_pair().draws.tolist(), toy_pair(enumerated=True).weights.tolist()
        ([[0, 2], [1, 3]], [0.25, 0.25, 0.25, 0.25])
    """
    ref = np.full(6, -4.0) if log_prob_ref is None else np.asarray(log_prob_ref, dtype=np.float64)
    current = ref if log_prob is None else np.asarray(log_prob, dtype=np.float64)
    support = np.array([[0, 1], [2, 3]])
    sides = [np.exp(ref[s] - ref[s].max()) for s in support]
    sides = [side / side.sum() for side in sides]
    draws = np.array([[0, 2], [0, 3], [1, 2], [1, 3]]) if enumerated else support.T.copy()
    return PairLogProbs(
        prompt_id="toy",
        log_prob=current,
        log_prob_ref=ref,
        log_prob_answer=current / 2,
        tokens=np.array([6, 8, 6, 7, 3, 3]),
        tokens_answer=np.array([3, 3, 3, 3, 3, 3]),
        draws=draws,
        weights=np.outer(*sides).ravel() if enumerated else np.full(2, 0.5),
        enumerated=enumerated,
        support=support if enumerated else np.empty((2, 0), dtype=np.int64),
        empty=np.array([4, 5]),
    )
