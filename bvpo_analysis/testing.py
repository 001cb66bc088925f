"""Small hand-made inputs for doctests and tests; no model is needed to read or run an example.

``toy_pair`` is a pair at its reference with two traces per answer and the six sequences

    0, 1: chosen with trace a, b      2, 3: rejected with trace a, b      4, 5: empty trace, chosen and rejected

and, on request, the further sequences of three prior traces and of the other empty or short traces

    6, 7, 8: chosen with each prior trace      9, 10, 11: rejected      12, 13, 14: the prior traces without an answer
    15, 16: "empty_shared"      17, 18: "empty_generated"      19, 20: "short", each chosen and rejected
"""

import numpy as np

from bvpo_analysis.records import Floats, PairLogProbs


def toy_pair(
    *,
    enumerated: bool = False,
    log_prob: Floats | None = None,
    log_prob_ref: Floats | None = None,
    further: bool = False,
) -> PairLogProbs:
    """A pair with two traces per answer, paired in order (sampled) or in all four combinations (enumerated).

    Args:
        enumerated: take the two traces of each side as the whole law; the weights then follow ``log_prob_ref``.
        log_prob, log_prob_ref: [6], or [21] with ``further``, log-probabilities; by default those of the reference,
            all traces equally likely.
        further: add prior traces and variants.

    Example:
        >>> toy_pair().draws.tolist(), toy_pair(enumerated=True).weights.tolist()
        ([[0, 2], [1, 3]], [0.25, 0.25, 0.25, 0.25])
        >>> toy_pair(further=True).prior.tolist()
        [[6, 9], [7, 10], [8, 11]]
    """
    ref = _default(21 if further else 6) if log_prob_ref is None else np.asarray(log_prob_ref, dtype=np.float64)
    current = ref if log_prob is None else np.asarray(log_prob, dtype=np.float64)
    support = np.array([[0, 1], [2, 3]])
    sides = [np.exp(ref[s] - ref[s].max()) for s in support]
    sides = [side / side.sum() for side in sides]
    draws = np.array([[0, 2], [0, 3], [1, 2], [1, 3]]) if enumerated else support.T.copy()
    # Half of a log-probability is the answer's, and all of it where there is no trace, none where there is no answer.
    tokens = np.array([6, 8, 6, 7, 3, 3, 5, 7, 9, 5, 7, 9, 2, 4, 6, 3, 3, 4, 4, 5, 5])[: len(ref)]
    tokens_answer = np.array([*[3] * 12, *[0] * 3, *[3] * 6])[: len(ref)]
    share = np.array([*[0.5] * 12, *[0.0] * 3, *[1.0] * 2, *[0.5] * 4])[: len(ref)]
    return PairLogProbs(
        prompt_id="toy",
        log_prob=current,
        log_prob_ref=ref,
        log_prob_answer=current * share,
        tokens=tokens,
        tokens_answer=tokens_answer,
        draws=draws,
        weights=np.outer(*sides).ravel() if enumerated else np.full(2, 0.5),
        enumerated=enumerated,
        support=support if enumerated else np.empty((2, 0), dtype=np.int64),
        empty=np.array([4, 5]),
        prior=np.array([[6, 9], [7, 10], [8, 11]] if further else [], dtype=np.int64).reshape(-1, 2),
        trace_only=np.array([12, 13, 14] if further else [], dtype=np.int64),
        variants={
            name: np.array([first, first + 1])
            for name, first in (("empty_shared", 15), ("empty_generated", 17), ("short", 19))
            if further
        },
    )


def _default(size: int) -> Floats:
    """-4 for every sequence with an answer, -2 for a trace alone."""
    return np.array([*[-4.0] * 12, *[-2.0] * 3, *[-4.0] * 6])[:size]
