"""The marginal gradient by randomising the number of traces: antithetic multilevel Monte Carlo, truncated."""

from dataclasses import dataclass
from typing import final

import numpy as np

from bvpo_analysis.estimators.base import Estimator, Needs
from bvpo_analysis.estimators.draw_groups import grouped_draws
from bvpo_analysis.estimators.k_marginal import log_mean_exp_coefficients, require_log_ratios
from bvpo_analysis.objectives import Objective
from bvpo_analysis.records import Floats, Ints, PairLogProbs

DECAY = 1.5
"""Exponent of the law of the level, in the middle of (1, 2), where the untruncated variance and cost are finite."""


def level_probabilities(levels: int) -> Floats:
    """P(N = l) proportional to 2^{-1.5 l}, l = 1 .. L, [L].

    Example:
        >>> level_probabilities(2).round(4)
        array([0.7388, 0.2612])
    """
    p = 2.0 ** (-DECAY * np.arange(1, levels + 1))
    return np.asarray(p / p.sum())


def antithetic_difference(objective: Objective, pair: PairLogProbs, groups: Ints) -> Floats:
    """Delta = muhat_{2n}(all) - [muhat_n(first half) + muhat_n(second half)] / 2 on groups [.., 2n, 2] -> [.., m].

    Both halves have the law of n draws, so E Delta = E muhat_{2n} - E muhat_n exactly.

    Example:
        >>> from bvpo_analysis.objectives import DPO
        >>> from bvpo_analysis.testing import toy_pair
        >>> bool(np.any(antithetic_difference(DPO(beta=2.0), toy_pair(), np.array([[[0, 2], [1, 3]]]))))
        False
    """
    half = groups.shape[-2] // 2
    parts = [log_mean_exp_coefficients(objective, pair, groups[..., cut, :]) for cut in (np.s_[:half], np.s_[half:])]
    return log_mean_exp_coefficients(objective, pair, groups) - (parts[0] + parts[1]) / 2


@final
@dataclass(frozen=True)
class RandomisedMarginal(Estimator):
    """mean of g_t over the draws used + Delta_N / P(N), with N in 1 .. L random and 2^N draws used.

    Delta_l is :func:`antithetic_difference` on 2^l draws, so the levels telescope: E = E g_t + sum_{l <= L} E Delta_l
    = E muhat_{2^L} exactly. The bias is therefore that of the K-trace marginal at K = 2^L, O(1/K), and zero at the
    reference, where every Delta is zero; what is saved are traces: sum_l P(l) 2^l per answer on average instead of
    2^L. Without truncation the estimator would be unbiased (randomised multilevel Monte Carlo: Rhee & Glynn 2015;
    Blanchet & Glynn 2015; for log-marginals arXiv 2004.00353), with finite variance because E|Delta_l|^2 = O(4^-l) if
    e^rho has enough moments.

    A pair with R sampled draws gives floor(R / 2^L) groups. Each group is used at every level, which gives L rows with
    the probabilities of the levels: expectations over N are exact. Rows of one group share draws.

    Attributes:
        objective: the loss.
        traces: K = 2^L, a power of two, at least 2.

    Raises:
        ValueError: K is no such power, a reference-free loss, fewer than K draws, or enumerated draws.

    Example:
        >>> from bvpo_analysis.objectives import DPO
        >>> from bvpo_analysis.testing import toy_pair
        >>> off = toy_pair(log_prob=np.log([0.1, 0.3, 0.2, 0.2, 0.1, 0.1]), log_prob_ref=np.log(np.full(6, 0.2)))
        >>> RandomisedMarginal(DPO(beta=2.0), traces=2).coefficients(off).round(12)
        array([[-0.25, -0.75,  0.5 ,  0.5 ,  0.  ,  0.  ]])
    """

    objective: Objective
    traces: int

    def __post_init__(self) -> None:
        require_log_ratios(self.objective)
        if self.traces < 2 or self.traces & (self.traces - 1):
            raise ValueError(f"traces must be a power of two, at least 2, got {self.traces}")

    @property
    def levels(self) -> int:
        """L."""
        return self.traces.bit_length() - 1

    def coefficients(self, pair: PairLogProbs) -> Floats:
        """One row per group of 2^L draws and level, [(R // 2^L) L, m]."""
        self.needs.check(pair)
        groups = grouped_draws(pair, self.traces)
        single = log_mean_exp_coefficients(self.objective, pair, groups[:, :, None])
        rows = np.empty((len(groups), self.levels, pair.size))
        for index, p in enumerate(level_probabilities(self.levels)):
            used = 2 ** (index + 1)
            difference = antithetic_difference(self.objective, pair, groups[:, :used])
            rows[:, index] = single[:, :used].mean(axis=1) + difference / p
        return rows.reshape(-1, pair.size)

    def weights(self, pair: PairLogProbs) -> Floats:
        """Probabilities of the levels, equal for all groups, [(R // 2^L) L]."""
        self.needs.check(pair)
        groups = len(pair.draws) // self.traces
        return np.tile(level_probabilities(self.levels), groups) / groups

    @property
    def needs(self) -> Needs:
        """2^L posterior traces per answer, sampled, for one group of rows."""
        return Needs(posterior=self.traces, draws="sampled")

    @property
    def independent(self) -> bool:
        """Only with a single level: the rows of a group share draws."""
        return self.levels == 1
