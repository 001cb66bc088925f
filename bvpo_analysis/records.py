"""Frozen records handed from stage to stage. They hold data, check it, and compute nothing else.

Everything here is plain Python and NumPy, so that a record can be read where no model can be loaded.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

SIDES: tuple[str, str] = ("chosen", "rejected")
"""Row order of everything indexed by side: 0 is the chosen answer y+, 1 the rejected answer y-."""

VARIANTS: dict[str, str] = {
    "empty_shared": "empty trace, prefilled, with the answers y+ and y- of the trace-based pair",
    "empty_generated": "empty trace, generated and scored, with the answers of the empty-trace pair",
    "short": "first half of the generating trace, with its answer",
}
"""Further sequences of a pair that can be scored beside its traces and its empty traces, and what they are."""


@dataclass(frozen=True)
class Completion:
    """One completion: a reasoning trace r and an answer y. ``trace`` is None for an empty trace."""

    answer: str
    trace: str | None = None


@dataclass(frozen=True)
class PreferencePair:
    """One row of preference data.

    Attributes:
        prompt_id: unique name of the prompt; prompts are the clusters of every interval.
        prompt: chat messages ``({"role": ..., "content": ...}, ...)``.
        chosen, rejected: the preferred and the other completion, each with the trace that generated it.
        chosen_traces, rejected_traces: *further* traces from the posterior pi_ref(r | x, y) of that answer.
        prior_traces: traces drawn from pi_ref(r | x) without sight of any answer.
        empty_chosen, empty_rejected: the answers y'+, y'- of the empty-trace data set D_e.
        empty_answers: "own" when they were generated without thinking, "copied" when they repeat y+ and y-.
        score_chosen, score_rejected: rewards of the answers, where known.
        meta: provenance, kept as read.
    """

    prompt_id: str
    prompt: tuple[Mapping[str, str], ...]
    chosen: Completion
    rejected: Completion
    empty_chosen: str
    empty_rejected: str
    empty_answers: Literal["own", "copied"] = "own"
    chosen_traces: tuple[str, ...] = ()
    rejected_traces: tuple[str, ...] = ()
    prior_traces: tuple[str, ...] = ()
    score_chosen: float | None = None
    score_rejected: float | None = None
    meta: Mapping[str, Any] = field(default_factory=dict)

    def traces(self, side: int) -> tuple[str, ...]:
        """All posterior traces of one answer, the generating one first (side 0: chosen, 1: rejected)."""
        completion, further = (self.chosen, self.chosen_traces) if side == 0 else (self.rejected, self.rejected_traces)
        return (*((completion.trace,) if completion.trace is not None else ()), *further)

    def answer(self, side: int) -> str:
        """y+ (side 0) or y- (side 1)."""
        return (self.chosen if side == 0 else self.rejected).answer

    def empty_answer(self, side: int) -> str:
        """y'+ (side 0) or y'- (side 1)."""
        return self.empty_chosen if side == 0 else self.empty_rejected


@dataclass(frozen=True)
class PairLogProbs:
    """What an estimator may look at: log-probabilities of the m distinct sequences of one pair, no gradients.

    A *draw* is a pair of trace-based sequences (one chosen, one rejected), hence one realisation of g_t.

    Attributes:
        prompt_id: the prompt.
        log_prob, log_prob_ref: [m] natural log of pi_theta and pi_ref of the scored tokens (trace and answer).
        log_prob_answer: [m] the answer part of ``log_prob``.
        tokens, tokens_answer: [m] numbers of scored tokens, whole and answer part.
        draws: [R, 2] rows of the chosen and the rejected sequence of each draw.
        weights: [R] probabilities of the draws; equal for an i.i.d. sample.
        enumerated: True when the draws are the whole law of (r+, r-), False when they are a sample from it.
        support: [2, E] rows of the enumerated traces of each side; E = 0 for sampled traces.
        empty: [2] rows of the empty-trace sequences.
        prior: [M, 2] rows (chosen answer, rejected answer) of each prior trace, which serves both; M = 0 if not scored.
        trace_only: [M] rows of the same traces without an answer; empty if not scored.
        variants: [2] rows (chosen, rejected) of other trace-less or short-trace sequences, by name (see ``VARIANTS``).
        length: [m] tokens of the whole sequence, prompt and everything else that is given included; what a pass over
            it costs. ``tokens`` where not given, as for models without prompts.
        log_prob_answer_ref: [m] the answer part of ``log_prob_ref``; empty where it was not kept.
    """

    prompt_id: str
    log_prob: Floats
    log_prob_ref: Floats
    log_prob_answer: Floats
    tokens: Ints
    tokens_answer: Ints
    draws: Ints
    weights: Floats
    enumerated: bool
    support: Ints
    empty: Ints
    prior: Ints = field(default_factory=lambda: np.empty((0, 2), dtype=np.int64))
    trace_only: Ints = field(default_factory=lambda: np.empty(0, dtype=np.int64))
    variants: Mapping[str, Ints] = field(default_factory=dict)
    length: Ints = field(default_factory=lambda: np.empty(0, dtype=np.int64))
    log_prob_answer_ref: Floats = field(default_factory=lambda: np.empty(0))

    def __post_init__(self) -> None:
        if len(self.length) == 0:
            object.__setattr__(self, "length", self.tokens)

    @property
    def size(self) -> int:
        """m, the number of distinct sequences."""
        return len(self.log_prob)


@dataclass(frozen=True)
class PairScores:
    """Inner products of the scores s_j = grad log pi_theta of one pair.

    Attributes:
        log_probs: the log-probabilities of the same sequences.
        gram: [G, m, m] inner products <s_j, s_k> within each of the G parameter groups.
        with_totals: [G, A, A] inner products <v_a, V_b> of the pair's own vectors v_a = sum_j c_aj s_j with the
            totals V_b = sum_i v_b(i) over all pairs; [G, 0, 0] when they were not asked for.
        sketches: [G, A, k] count sketches of v_a(i), whose inner products across pairs estimate <v_a(i), v_b(j)>
            without bias and with relative error of order 1/sqrt(k); they serve the size of intervals only.
    """

    log_probs: PairLogProbs
    gram: Floats
    with_totals: Floats
    sketches: Floats


@dataclass(frozen=True)
class ScoreSet:
    """Everything a study needs of the gradients of a model on a data set.

    Attributes:
        pairs: one entry per preference pair, in data order.
        groups: [G] names of the parameter groups; whole-vector products are sums over groups.
        parameters: [G] number of parameters in each group.
        totals: [A] names of the estimators whose sum over pairs was accumulated.
        totals_gram: [G, A, A] inner products <V_a, V_b>.
        settings: what the totals refer to (loss, beta, empty mode, ...); asking for anything else is an error.
    """

    pairs: tuple[PairScores, ...]
    groups: tuple[str, ...]
    parameters: tuple[int, ...]
    totals: tuple[str, ...]
    totals_gram: Floats
    settings: Mapping[str, Any]

    def __len__(self) -> int:
        return len(self.pairs)


@dataclass(frozen=True)
class Estimate:
    """A number with its uncertainty.

    Attributes:
        value: point estimate (may be negative for an unbiased estimate of a square).
        se: standard error; 0 for exact values, nan when not available.
        ci_low, ci_high: 95 % interval; may be infinite.
        n: number of clusters (prompts) behind it.
        method: how the interval was made: "exact"; "jackknife" (value +- t SE); "score-jackknife" (a
            squared bias, tested with its law at every hypothesis, and numbers that contain one); "profile-jackknife"
            (functions of one); "fieller-jackknife" (ratios); "bootstrap-percentile" and "bootstrap-bca" (prompts
            resampled); "log-jackknife" (widths); "wilson" (shares); "degenerate" and "none" (no interval).

    Example:
        >>> print(Estimate(0.5, 0.1, 0.3, 0.7, 64, "jackknife"))
        0.5 [0.3, 0.7]
    """

    value: float
    se: float
    ci_low: float
    ci_high: float
    n: int
    method: str

    @classmethod
    def exact(cls, value: float, n: int) -> "Estimate":
        """A number known without sampling error."""
        return cls(float(value), 0.0, float(value), float(value), n, "exact")

    @classmethod
    def without_interval(cls, value: float, n: int) -> "Estimate":
        """A point estimate for which no interval is known to cover.

        Example:
            >>> print(Estimate.without_interval(0.25, 64))
            0.25
        """
        return cls(float(value), float("nan"), float("nan"), float("nan"), n, "none")

    def __str__(self) -> str:
        if self.method in ("exact", "none"):
            return f"{self.value:.3g}"
        return f"{self.value:.3g} [{self.ci_low:.3g}, {self.ci_high:.3g}]"


@dataclass(frozen=True)
class Alpha:
    """The optimal mixing weight of g_c = alpha g_t + (1 - alpha) g_e for one fully named target.

    Attributes:
        name: full name, such as ``alpha_star.population.B16.K1.kappa1``.
        estimate: unclipped value with its interval.
        recommended: the value clipped to [0, 1].
        recommended_low, recommended_high: the interval clipped likewise.
        degenerate: True when g_t and g_e coincide, so that every weight is optimal.
        confidence_set: "interval", "half-line", "complement" (all but a bounded gap) or "line" (Fieller);
            only the first bounds alpha on both sides.

    Example:
        >>> estimate = Estimate(0.5, 0.1, 0.3, 0.7, 64, "jackknife")
        >>> print(Alpha("alpha_star.per_prompt.K1.kappa1", estimate, 0.5, 0.3, 0.7))
        alpha_star.per_prompt.K1.kappa1 = 0.5 [0.3, 0.7]
    """

    name: str
    estimate: Estimate
    recommended: float
    recommended_low: float
    recommended_high: float
    degenerate: bool = False
    confidence_set: Literal["interval", "half-line", "complement", "line"] = "interval"

    def __str__(self) -> str:
        if self.degenerate:
            return f"{self.name}: every weight is equally good"
        note = "" if self.confidence_set == "interval" else f" (not bounded: {self.confidence_set})"
        return f"{self.name} = {self.estimate}{note}"


@dataclass(frozen=True)
class Claim:
    """A theorem met by a measurement.

    ``measured`` comes from explicit vectors, enumeration, simulation or a language model; ``predicted`` from the closed
    form. What must hold between them is the kind:

    * "identity": they are equal;
    * "upper": predicted bounds measured from above;
    * "lower": predicted bounds measured from below;
    * "tight": a bound that is attained, so that on this extremal case they are equal.

    A statement that is too strong as worded comes with ``only_if``: the condition it needs. Its numbers are then a
    counterexample, which must *violate* the relation; that it does is what the check confirms.

    Attributes:
        name: short and unique, such as ``theorem-1``.
        statement: the statement in one sentence.
        reference: where it is stated or proved.
        kind: the relation between the two numbers.
        measured, predicted: the numbers; of many instances, the one with the largest deviation.
        se: standard error of ``measured``; 0 where it is exact.
        tolerance: absolute allowance for rounding.
        only_if: the condition without which the statement fails; empty where it holds as worded.
        setting: what was measured on, and how many instances.
        note: what a reader should know besides.

    Example:
        >>> claim = Claim("half", "1/2 is 0.5", "arithmetic", "identity", measured=0.5, predicted=0.5)
        >>> claim.verdict, claim.confirmed
        ('holds', True)
    """

    name: str
    statement: str
    reference: str
    kind: Literal["identity", "tight", "upper", "lower"]
    measured: float
    predicted: float
    se: float = 0.0
    tolerance: float = 0.0
    only_if: str = ""
    setting: str = ""
    note: str = ""

    STANDARD_ERRORS: ClassVar[float] = 5.0
    """A stochastic measurement may deviate by this many standard errors: a false alarm in 1.7 million."""

    @property
    def relation_holds(self) -> bool:
        """Whether the numbers are in the relation of the kind; false if either is not a number."""
        slack = self.tolerance + self.STANDARD_ERRORS * self.se
        excess = self.measured - self.predicted
        if self.kind == "upper":
            return excess <= slack
        if self.kind == "lower":
            return excess >= -slack
        return abs(excess) <= slack

    @property
    def contradicted(self) -> bool:
        """Whether the numbers break the relation clearly, by more than rounding and noise: a counterexample."""
        return bool(np.isfinite(self.measured) and np.isfinite(self.predicted)) and not self.relation_holds

    @property
    def confirmed(self) -> bool:
        """Whether the measurement says what the claim says it does."""
        return self.contradicted if self.only_if else self.relation_holds

    @property
    def verdict(self) -> str:
        """``holds``, ``holds only if ...``, or ``FAILS``."""
        if not self.confirmed:
            return "FAILS" if not self.only_if else "FAILS: the counterexample agrees with the statement"
        return f"holds only if {self.only_if}" if self.only_if else "holds"
