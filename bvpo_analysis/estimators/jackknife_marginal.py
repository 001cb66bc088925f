"""The K-trace marginal gradient with its bias of order 1/K taken off by a delete-one jackknife over the traces."""

from dataclasses import dataclass
from typing import final

import numpy as np

from bvpo_analysis.estimators.base import Estimator, Needs
from bvpo_analysis.estimators.draw_groups import grouped_draws
from bvpo_analysis.estimators.k_marginal import log_mean_exp_coefficients, require_log_ratios
from bvpo_analysis.objectives import Objective
from bvpo_analysis.records import Floats, PairLogProbs


@final
@dataclass(frozen=True)
class JackknifeMarginal(Estimator):
    """K muhat_K - (K - 1) mean_i muhat_{K-1}^(-i), the i-th draw (r_i+, r_i-) left out of both sides at once.

    Where E muhat_K = mu + c/K + O(K^-2), as for losses with smooth coefficients and weights e^rho with enough moments,
    the term c/K cancels and the bias is O(K^-2) (for the log-mean-exp bound itself: Nowozin, ICLR 2018). The variance
    stays of order 1/K. At the reference it is the mean of K draws of g_t, exactly unbiased. Evaluated as muhat_K +
    (K - 1) mean_i (muhat_K - muhat^(-i)), a correction that does not cancel.

    A pair with R sampled draws gives floor(R / K) realisations from disjoint draws.

    Raises:
        ValueError: K < 2, a reference-free loss, fewer than K draws, or enumerated draws.

    Example:
        >>> from bvpo_analysis.objectives import DPO
        >>> from bvpo_analysis.testing import toy_pair
        >>> off = toy_pair(log_prob=np.log([0.1, 0.3, 0.2, 0.2, 0.1, 0.1]), log_prob_ref=np.log(np.full(6, 0.2)))
        >>> JackknifeMarginal(DPO(beta=2.0), traces=2).coefficients(off).round(6)
        array([[ 0.3     , -1.192308,  0.2     ,  0.692308,  0.      ,  0.      ]])
    """

    objective: Objective
    traces: int

    def __post_init__(self) -> None:
        require_log_ratios(self.objective)
        if self.traces < 2:
            raise ValueError(f"traces must be at least 2 to leave one out, got {self.traces}")

    def coefficients(self, pair: PairLogProbs) -> Floats:
        """One row per group of K draws, [R // K, m]."""
        self.needs.check(pair)
        groups = grouped_draws(pair, self.traces)
        others = np.array([np.delete(np.arange(self.traces), i) for i in range(self.traces)])
        whole = log_mean_exp_coefficients(self.objective, pair, groups)
        left_out = log_mean_exp_coefficients(self.objective, pair, groups[:, others])
        return whole + (self.traces - 1) * (whole[:, None] - left_out).mean(axis=1)

    def weights(self, pair: PairLogProbs) -> Floats:
        """Equal weights, [R // K]."""
        self.needs.check(pair)
        groups = len(pair.draws) // self.traces
        return np.full(groups, 1.0 / groups)

    @property
    def needs(self) -> Needs:
        """K posterior traces per answer, sampled."""
        return Needs(posterior=self.traces, draws="sampled")
