"""The empty-trace gradient g_e: the same loss on answers generated and scored with the reasoning switched off."""

from dataclasses import dataclass
from typing import final

import numpy as np

from bvpo_analysis.estimators.base import Estimator, Needs
from bvpo_analysis.estimators.trace import pairwise_coefficients
from bvpo_analysis.objectives import Objective
from bvpo_analysis.records import Floats, PairLogProbs


@final
@dataclass(frozen=True)
class EmptyTrace(Estimator):
    """g_e = c+ s(empty, y'+) + c- s(empty, y'-), deterministic given the data (paper, eq. for L_e).

    Biased for the marginal gradient, with no trace randomness: its conditional variance is zero.

    Example:
        >>> from bvpo_analysis.objectives import DPO
        >>> from bvpo_analysis.testing import toy_pair
        >>> EmptyTrace(DPO(beta=2.0)).coefficients(toy_pair())
        array([[ 0.,  0.,  0.,  0., -1.,  1.]])
    """

    objective: Objective

    def coefficients(self, pair: PairLogProbs) -> Floats:
        """A single row, [1, m]."""
        return pairwise_coefficients(self.objective, pair, pair.empty[None, :])

    def weights(self, pair: PairLogProbs) -> Floats:
        """[1.0]: no trace randomness."""
        return np.ones(1)

    @property
    def needs(self) -> Needs:
        """Nothing but its own two sequences, which every pair has."""
        return Needs()
