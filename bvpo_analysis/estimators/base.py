"""The estimator interface and its algebra.

An estimator maps the log-probabilities of a pair to coefficients [R, m], one row per realisation: row k is the
estimate that the k-th trace draw would give, as a combination of the m scores of the pair. Estimators without trace
randomness return a single row, which broadcasts. What one realisation takes of a pair is its ``needs``: realisation k
of an estimator that takes K posterior traces per answer rests on draws k K .. k K + K - 1, and likewise for prior
traces, so that realisations share nothing. Where they must (``independent`` is False), averages over the rows stay
unbiased, but their spread is not that of independent realisations. Laws, held by tests for every estimator:

    (a + b).coefficients(p) == a.coefficients(p) + b.coefficients(p)
    (s * a).coefficients(p) == s * a.coefficients(p)
    mix(a, b, 1) == a,  mix(a, b, 0) == b,  mix(a, a, alpha) == a
"""

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Literal, final

import numpy as np

from bvpo_analysis.records import Floats, PairLogProbs


@dataclass(frozen=True)
class Needs:
    """What an estimator takes of a pair.

    Attributes:
        posterior: posterior traces per answer behind one realisation (or behind one group of dependent realisations).
        prior: prior traces behind one realisation.
        trace_only: whether it takes the prior traces without an answer too.
        variants: names of further sequences that it takes, see :data:`bvpo_analysis.records.VARIANTS`.
        draws: whether the trace draws must be "sampled" or "enumerated", or may be either.
        at_reference: whether it is defined only where the policy is its reference, or where the reference's
            probabilities of the answers are known.

    Example:
        >>> from bvpo_analysis.testing import toy_pair
        >>> Needs(posterior=2).met_by(toy_pair()), Needs(posterior=4).missing(toy_pair())
        (True, "prompt 'toy' has 2 trace draws, 4 are needed")
    """

    posterior: int = 0
    prior: int = 0
    trace_only: bool = False
    variants: tuple[str, ...] = ()
    draws: Literal["sampled", "enumerated", "either"] = "either"
    at_reference: bool = False

    def missing(self, pair: PairLogProbs) -> str:
        """What the pair lacks, in one sentence; empty if nothing."""
        prompt = f"prompt {pair.prompt_id!r}"
        if self.draws == "sampled" and pair.enumerated:
            return f"{prompt}: its draws are enumerated, and the law of a realisation that takes others is not at hand"
        if self.draws == "enumerated" and not pair.enumerated:
            return f"{prompt} has sampled traces, enumerated ones are needed"
        if len(pair.draws) < self.posterior:
            return f"{prompt} has {len(pair.draws)} trace draws, {self.posterior} are needed"
        if len(pair.prior) < self.prior:
            return f"{prompt} has {len(pair.prior)} scored prior traces, {self.prior} are needed"
        if self.trace_only and len(pair.trace_only) < len(pair.prior):
            return f"{prompt}: its prior traces were not scored without an answer"
        for name in self.variants:
            if name not in pair.variants:
                return f"{prompt}: its sequences {name!r} were not scored"
        known = len(pair.log_prob_answer_ref) > 0 or np.array_equal(pair.log_prob, pair.log_prob_ref)
        if self.at_reference and not known:
            return f"{prompt} is not at its reference, and the weights of the pool need the reference's own"
        return ""

    def met_by(self, pair: PairLogProbs) -> bool:
        """Whether the pair lacks nothing."""
        return not self.missing(pair)

    def check(self, pair: PairLogProbs) -> None:
        """Hold that the pair lacks nothing.

        Raises:
            ValueError: it does, and what.
        """
        if text := self.missing(pair):
            raise ValueError(text)


class Estimator(ABC):
    """A gradient estimator g = sum_j c_j s_j."""

    @abstractmethod
    def coefficients(self, pair: PairLogProbs) -> Floats:
        """Coefficients [R, m] of every realisation on this pair; [1, m] when there is no trace randomness."""

    @property
    @abstractmethod
    def needs(self) -> Needs:
        """What it takes of a pair."""

    @property
    def random(self) -> bool:
        """Whether it depends on any sampled trace; if not, it is fixed once prompt and answers are."""
        return self.needs.posterior > 0 or self.needs.prior > 0

    @property
    def independent(self) -> bool:
        """Whether the realisations are independent given prompt and answers (or, enumerated, the whole law).

        If not, means over the rows, of g, |g|^2 or <g, h>, are unbiased all the same, but the spread between rows is
        no estimate of a variance, so it cannot split the total variance into a trace and a data part.
        """
        return True

    def weights(self, pair: PairLogProbs) -> Floats:
        """Probabilities [R] of the realisations; they sum to one."""
        return pair.weights

    def __add__(self, other: "Estimator") -> "Estimator":
        return Sum(((1.0, self), (1.0, other)))

    def __sub__(self, other: "Estimator") -> "Estimator":
        return Sum(((1.0, self), (-1.0, other)))

    def __mul__(self, scale: float) -> "Estimator":
        return Sum(((float(scale), self),))

    __rmul__ = __mul__

    def __neg__(self) -> "Estimator":
        return self * -1.0


@final
@dataclass(frozen=True)
class Sum(Estimator):
    """sum_i scale_i g_i with all g_i on the same trace draws.

    Raises:
        ValueError: the terms have different numbers of realisations, other than one, or other probabilities of them.
    """

    terms: tuple[tuple[float, Estimator], ...]

    def coefficients(self, pair: PairLogProbs) -> Floats:
        """sum_i scale_i c_i, rows broadcast."""
        parts = [scale * term.coefficients(pair) for scale, term in self.terms]
        rows = max(len(part) for part in parts)
        if any(len(part) not in (1, rows) for part in parts):
            raise ValueError(f"terms have {sorted({len(part) for part in parts})} realisations; they must agree")
        self.weights(pair)
        total = np.zeros((rows, pair.size))
        for part in parts:
            total += part
        return total

    def weights(self, pair: PairLogProbs) -> Floats:
        """The weights of the terms that have several realisations."""
        candidates = [term.weights(pair) for _, term in self.terms]
        longest = max(candidates, key=len)
        if any(len(p) == len(longest) and not np.allclose(p, longest, rtol=1e-12, atol=0.0) for p in candidates):
            raise ValueError("terms give their realisations different probabilities; they must agree")
        return longest

    @property
    def needs(self) -> Needs:
        """All that the terms need."""
        parts = [term.needs for _, term in self.terms]
        draws = {part.draws for part in parts} - {"either"}
        return Needs(
            posterior=max(part.posterior for part in parts),
            prior=max(part.prior for part in parts),
            trace_only=any(part.trace_only for part in parts),
            variants=tuple(dict.fromkeys(name for part in parts for name in part.variants)),
            draws="sampled" if "sampled" in draws else "enumerated" if draws else "either",
            at_reference=any(part.at_reference for part in parts),
        )

    @property
    def independent(self) -> bool:
        """All terms are, and no realisation of one term rests on traces of two realisations of another."""
        parts = [term.needs for _, term in self.terms]
        sizes = [{getattr(part, kind) for part in parts} - {0} for kind in ("posterior", "prior")]
        return all(term.independent for _, term in self.terms) and all(len(kind) <= 1 for kind in sizes)


def mean_coefficients(estimator: Estimator, pair: PairLogProbs) -> Floats:
    """Coefficients [m] of the mean over realisations: the estimator's conditional mean, or its sample mean.

    Example:
        >>> from bvpo_analysis.estimators import Trace
        >>> from bvpo_analysis.objectives import DPO
        >>> from bvpo_analysis.testing import toy_pair
        >>> mean_coefficients(Trace(DPO(beta=2.0)), toy_pair())
        array([-0.5, -0.5,  0.5,  0.5,  0. ,  0. ])
    """
    rows = estimator.coefficients(pair)
    return rows[0] if len(rows) == 1 else estimator.weights(pair) @ rows


def totals_of(*estimators: Estimator) -> dict[str, Callable[[PairLogProbs], Floats]]:
    """What a scoring pass must accumulate so that the moments of these estimators can be had, by name.

    Example:
        >>> from bvpo_analysis.estimators import Trace
        >>> from bvpo_analysis.objectives import DPO
        >>> list(totals_of(Trace(DPO(beta=0.1))))
        ['Trace(objective=DPO(beta=0.1))']
    """
    return {repr(estimator): partial(mean_coefficients, estimator) for estimator in estimators}
