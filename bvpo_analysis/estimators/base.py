"""The estimator interface and its algebra.

An estimator maps the log-probabilities of a pair to coefficients [R, m], one row per realisation: row k is the
estimate that the k-th trace draw would give, as a combination of the m scores of the pair. Estimators without trace
randomness return a single row, which broadcasts. Laws, held by tests for every estimator:

    (a + b).coefficients(p) == a.coefficients(p) + b.coefficients(p)
    (s * a).coefficients(p) == s * a.coefficients(p)
    mix(a, b, 1) == a,  mix(a, b, 0) == b,  mix(a, a, alpha) == a
"""

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import final

import numpy as np

from bvpo_analysis.records import Floats, PairLogProbs


class Estimator(ABC):
    """A gradient estimator g = sum_j c_j s_j."""

    @abstractmethod
    def coefficients(self, pair: PairLogProbs) -> Floats:
        """Coefficients [R, m] of every realisation on this pair; [1, m] when there is no trace randomness."""

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
        ValueError: the terms have different numbers of realisations, other than one.
    """

    terms: tuple[tuple[float, Estimator], ...]

    def coefficients(self, pair: PairLogProbs) -> Floats:
        """sum_i scale_i c_i, rows broadcast."""
        parts = [scale * term.coefficients(pair) for scale, term in self.terms]
        rows = max(len(part) for part in parts)
        if any(len(part) not in (1, rows) for part in parts):
            raise ValueError(f"terms have {sorted({len(part) for part in parts})} realisations; they must agree")
        total = np.zeros((rows, pair.size))
        for part in parts:
            total += part
        return total

    def weights(self, pair: PairLogProbs) -> Floats:
        """The weights of the first term that has trace randomness."""
        candidates = [term.weights(pair) for _, term in self.terms]
        return max(candidates, key=len)


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
