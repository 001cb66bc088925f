"""Which distinct sequences of a pair must be scored, and which of them each trace draw refers to.

Repeated traces are scored once; a draw is a pair of row numbers. Sampled traces are paired in file order, the k-th
chosen trace with the k-th rejected one, which keeps draws i.i.d. given the answers. Enumerated traces give all E x E
combinations, with probabilities that follow once the log-probabilities are known.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from bvpo_analysis.errors import InputError
from bvpo_analysis.lrm.formats import EmptyMode
from bvpo_analysis.lrm.sequences import SequenceAssembler, TokenSequence
from bvpo_analysis.preferences.rows import require_traces
from bvpo_analysis.records import VARIANTS, Floats, Ints, PairLogProbs, PreferencePair

TraceEnumerator = Callable[[PreferencePair], Sequence[str]]
"""All traces that carry the prior mass of a prompt, in a fixed order."""


@dataclass(frozen=True)
class PairSequences:
    """The scoring plan of one pair.

    Attributes:
        pair: the preference pair.
        sequences: the m distinct token sequences.
        draws: [R, 2] rows (chosen, rejected) of each trace draw.
        support: [2, E] rows of the enumerated traces of each side; E = 0 for sampled traces.
        empty: [2] rows of the empty-trace sequences (y'+, y'-).
        prior: [M, 2] rows of each prior trace with y+ and with y-.
        trace_only: [M] rows of the prior traces without an answer.
        variants: [2] rows of further sequences by name, see :data:`bvpo_analysis.records.VARIANTS`.
    """

    pair: PreferencePair
    sequences: tuple[TokenSequence, ...]
    draws: Ints
    support: Ints
    empty: Ints
    prior: Ints = field(default_factory=lambda: np.empty((0, 2), dtype=np.int64))
    trace_only: Ints = field(default_factory=lambda: np.empty(0, dtype=np.int64))
    variants: Mapping[str, Ints] = field(default_factory=dict)

    @property
    def enumerated(self) -> bool:
        """Whether the draws are the whole law of the traces."""
        return self.support.shape[1] > 0


def plan_pair(
    assembler: SequenceAssembler,
    pair: PreferencePair,
    *,
    traces: int = 1,
    empty_mode: EmptyMode = "prefilled",
    enumerate_traces: TraceEnumerator | None = None,
    prior: int = 0,
    trace_only: bool = False,
    variants: Collection[str] = (),
) -> PairSequences:
    """Plan the scoring of one pair.

    Args:
        assembler: builds the token sequences.
        pair: the preference pair.
        traces: number of posterior traces per answer to use; ignored when enumerating.
        empty_mode: whether the empty block is prefilled (not scored) or generated (scored).
        enumerate_traces: gives all traces of a prompt; then they replace the sampled ones.
        prior: number of prior traces to use, each with both answers.
        trace_only: score the prior traces without an answer too.
        variants: names of further sequences to score.

    Raises:
        InputError: the pair has fewer than ``traces`` traces per answer, or fewer than ``prior`` prior traces.
        ValueError: an unknown variant.
    """
    unknown = sorted(set(variants) - set(VARIANTS))
    if unknown:
        raise ValueError(f"unknown variant {unknown[0]!r}; there are {', '.join(VARIANTS)}")
    if len(pair.prior_traces) < prior:
        raise InputError(
            f"prompt {pair.prompt_id!r} has {len(pair.prior_traces)} prior traces, {prior} are needed; sample more "
            "into prior_traces or ask for a smaller pool"
        )
    rows: dict[TokenSequence, int] = {}

    def row(sequence: TokenSequence) -> int:
        return rows.setdefault(sequence, len(rows))

    if enumerate_traces is None:
        require_traces([pair], traces)
        listed = [pair.traces(side)[:traces] for side in (0, 1)]
    else:
        listed = [tuple(enumerate_traces(pair))] * 2
    think = np.array(
        [[row(assembler.with_trace(pair.prompt, t, pair.answer(side))) for t in listed[side]] for side in (0, 1)],
        dtype=np.int64,
    )
    empty = np.array(
        [row(assembler.with_empty_trace(pair.prompt, pair.empty_answer(side), empty_mode)) for side in (0, 1)],
        dtype=np.int64,
    )
    if enumerate_traces is None:
        draws, support = think.T.copy(), np.empty((2, 0), dtype=np.int64)
    else:
        chosen, rejected = np.meshgrid(think[0], think[1], indexing="ij")
        draws, support = np.stack([chosen.ravel(), rejected.ravel()], axis=1), think
    pool = pair.prior_traces[:prior]
    shared = [[row(assembler.with_trace(pair.prompt, t, pair.answer(side))) for side in (0, 1)] for t in pool]
    alone = [row(assembler.trace_only(pair.prompt, t)) for t in pool if trace_only]
    further = {
        name: np.array([row(_variant(assembler, pair, name, side)) for side in (0, 1)], dtype=np.int64)
        for name in VARIANTS
        if name in variants
    }
    return PairSequences(
        pair,
        tuple(rows),
        draws,
        support,
        empty,
        prior=np.array(shared, dtype=np.int64).reshape(-1, 2),
        trace_only=np.array(alone, dtype=np.int64),
        variants=further,
    )


def _variant(assembler: SequenceAssembler, pair: PreferencePair, name: str, side: int) -> TokenSequence:
    if name == "empty_shared":
        return assembler.with_empty_trace(pair.prompt, pair.answer(side), "prefilled")
    if name == "empty_generated":
        return assembler.with_empty_trace(pair.prompt, pair.empty_answer(side), "generated")
    words = pair.traces(side)[0].split(" ")
    return assembler.with_trace(pair.prompt, " ".join(words[: len(words) // 2]), pair.answer(side))


def pair_log_probs(
    plan: PairSequences,
    trace: Floats,
    answer: Floats,
    log_prob_ref: Floats,
    log_prob_answer_ref: Floats | None = None,
) -> PairLogProbs:
    """What estimators may look at, from the log-probabilities of a plan's sequences.

    The traces of the data are posterior traces of the reference: where they are enumerated, a draw has the probability
    pi_ref(r+ | x, y+) pi_ref(r- | x, y-), each proportional to pi_ref(r, y | x) over the enumerated traces.

    Args:
        plan: the sequences.
        trace, answer: [m] log pi_theta of the trace part and of the answer part.
        log_prob_ref: [m] log pi_ref of both together.
        log_prob_answer_ref: [m] log pi_ref of the answer part, where an estimator needs it off the reference.
    """
    if plan.enumerated:
        sides = [np.exp(log_prob_ref[s] - np.logaddexp.reduce(log_prob_ref[s])) for s in plan.support]
        weights = np.outer(sides[0], sides[1]).ravel()
    else:
        weights = np.full(len(plan.draws), 1.0 / len(plan.draws))
    return PairLogProbs(
        prompt_id=plan.pair.prompt_id,
        log_prob=trace + answer,
        log_prob_ref=log_prob_ref,
        log_prob_answer=answer.copy(),
        tokens=np.array([s.tokens for s in plan.sequences], dtype=np.int64),
        tokens_answer=np.array([s.tokens_answer for s in plan.sequences], dtype=np.int64),
        draws=plan.draws,
        weights=weights,
        enumerated=plan.enumerated,
        support=plan.support,
        empty=plan.empty,
        prior=plan.prior,
        trace_only=plan.trace_only,
        variants=plan.variants,
        length=np.array([len(s.ids) for s in plan.sequences], dtype=np.int64),
        log_prob_answer_ref=np.empty(0) if log_prob_answer_ref is None else log_prob_answer_ref,
    )
