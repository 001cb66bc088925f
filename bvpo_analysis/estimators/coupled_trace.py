"""g_t with the traces of the two answers paired by their probability instead of independently."""

from dataclasses import dataclass
from typing import final

import numpy as np

from bvpo_analysis.estimators.base import Estimator, Needs
from bvpo_analysis.estimators.draw_groups import grouped_draws
from bvpo_analysis.estimators.trace import pairwise_coefficients
from bvpo_analysis.objectives import Objective
from bvpo_analysis.records import Floats, PairLogProbs


@final
@dataclass(frozen=True)
class CoupledTrace(Estimator):
    """g_t on (r+_(k), r-_(k)): K traces per answer, sorted by log pi(r | x) on both sides and paired rank by rank.

    A trace at a uniformly random rank of K posterior draws is a posterior draw, so each side keeps its law and, for a
    loss with constant coefficients at the reference (DPO, IPO), g_t stays exactly unbiased there: only the marginal
    laws of r+ and r- enter, not their joint law. Its variance at the reference is slope^2 Tr Cov(s+ - s-), which a
    positive correlation of the two scores lowers; whether pairing by probability brings one is a property of the model,
    not of the method. Off the reference the bias of g_t depends on the joint law too.

    What is lowered is the variance of *one* trace pair. The mean over all K ranks uses every trace once, whatever the
    pairing, so at the reference it equals ``MultiTrace(objective, K)`` on the same draws.

    A pair with R sampled draws gives floor(R / K) groups of K rows. Rows of a group share their draws: means over rows
    are unbiased, their spread is not a variance.

    Raises:
        ValueError: K < 1, fewer than K draws, or enumerated draws.

    Example:
        >>> from bvpo_analysis.objectives import DPO
        >>> from bvpo_analysis.testing import toy_pair
        >>> pair = toy_pair(log_prob=np.array([-2.0, -6.0, -6.0, -2.0, -4.0, -4.0]))
        >>> CoupledTrace(DPO(beta=2.0), traces=2).coefficients(pair).round(3)
        array([[ 0., -1.,  1.,  0.,  0.,  0.],
               [-1.,  0.,  0.,  1.,  0.,  0.]])
    """

    objective: Objective
    traces: int

    def __post_init__(self) -> None:
        if self.traces < 1:
            raise ValueError(f"traces must be at least 1, got {self.traces}")

    def coefficients(self, pair: PairLogProbs) -> Floats:
        """One row per group and rank, from the least to the most probable traces, [(R // K) K, m]."""
        self.needs.check(pair)
        groups = grouped_draws(pair, self.traces)
        probability = (pair.log_prob - pair.log_prob_answer)[groups]
        # Stable, so that equally probable traces stay in file order.
        order = np.argsort(probability, axis=1, kind="stable")
        paired = np.take_along_axis(groups, order, axis=1)
        return pairwise_coefficients(self.objective, pair, paired.reshape(-1, 2))

    def weights(self, pair: PairLogProbs) -> Floats:
        """Equal weights, [(R // K) K]."""
        self.needs.check(pair)
        rows = len(pair.draws) // self.traces * self.traces
        return np.full(rows, 1.0 / rows)

    @property
    def needs(self) -> Needs:
        """K posterior traces per answer, sampled, for one group of rows."""
        return Needs(posterior=self.traces, draws="sampled")

    @property
    def independent(self) -> bool:
        """Only for K = 1, where it is g_t: the rows of a group share draws."""
        return self.traces == 1
