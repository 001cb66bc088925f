"""A truncated trace in place of the empty one."""

from dataclasses import dataclass
from typing import final

import numpy as np

from bvpo_analysis.estimators.base import Estimator, Needs
from bvpo_analysis.estimators.trace import pairwise_coefficients
from bvpo_analysis.objectives import Objective
from bvpo_analysis.records import Floats, PairLogProbs


@final
@dataclass(frozen=True)
class ShortTrace(Estimator):
    """c+ s(r+/2, y+) + c- s(r-/2, y-), r/2 the first half of the trace that generated the answer.

    It lies between g_t and g_e, which is the same with nothing of the trace left. Biased for the marginal gradient: a
    half trace is no posterior trace. It is random through the generating trace, of which a pair has one, so there is a
    single realisation, and its variance splits into no trace and data part. That realisation belongs to the pair's
    first trace draw: combined with estimators on further draws, the row repeats and their covariance given the data is
    that of unrelated traces.

    Raises:
        ValueError: its sequences were not scored.

    Example:
        >>> from bvpo_analysis.objectives import DPO
        >>> from bvpo_analysis.testing import toy_pair
        >>> pair = toy_pair(further=True)
        >>> ShortTrace(DPO(beta=2.0)).coefficients(pair)[0, pair.variants["short"]]
        array([-1.,  1.])
    """

    objective: Objective

    def coefficients(self, pair: PairLogProbs) -> Floats:
        """A single row, [1, m]."""
        self.needs.check(pair)
        return pairwise_coefficients(self.objective, pair, pair.variants["short"][None, :])

    def weights(self, pair: PairLogProbs) -> Floats:
        """[1.0]: one realisation."""
        return np.ones(1)

    @property
    def needs(self) -> Needs:
        """Half of one posterior trace per answer, in two sequences of its own."""
        return Needs(posterior=1, variants=("short",))

    @property
    def independent(self) -> bool:
        """No: beside several trace draws its one realisation would repeat."""
        return False
