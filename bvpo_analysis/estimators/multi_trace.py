"""The K-trace average: mean of the joint gradients of K trace draws."""

from dataclasses import dataclass
from typing import final

import numpy as np

from bvpo_analysis.estimators.base import Estimator, Needs
from bvpo_analysis.estimators.draw_groups import grouped_draws
from bvpo_analysis.estimators.trace import Trace
from bvpo_analysis.objectives import Objective
from bvpo_analysis.records import Floats, PairLogProbs


@final
@dataclass(frozen=True)
class MultiTrace(Estimator):
    """(1/K) sum_k g_t(r_k): the trace variance of g_t divided by K, at K times its cost; the bias of g_t stays.

    A pair with R sampled draws gives floor(R / K) realisations from disjoint draws.

    Raises:
        ValueError: K < 1, fewer than K draws, or enumerated draws (whose K-fold law is not enumerated; divide the
            trace variance of ``Trace`` by K instead, which is exact).

    Example:
        >>> from bvpo_analysis.objectives import DPO
        >>> from bvpo_analysis.testing import toy_pair
        >>> MultiTrace(DPO(beta=2.0), traces=2).coefficients(toy_pair())
        array([[-0.5, -0.5,  0.5,  0.5,  0. ,  0. ]])
    """

    objective: Objective
    traces: int

    def __post_init__(self) -> None:
        if self.traces < 1:
            raise ValueError(f"traces must be at least 1, got {self.traces}")

    def coefficients(self, pair: PairLogProbs) -> Floats:
        """One row per group of K draws, [R // K, m]."""
        self.needs.check(pair)
        groups, traces = grouped_draws(pair, self.traces).shape[:2]
        single = Trace(self.objective).coefficients(pair)
        return single[: groups * traces].reshape(groups, traces, pair.size).mean(axis=1)

    def weights(self, pair: PairLogProbs) -> Floats:
        """Equal weights, [R // K]."""
        self.needs.check(pair)
        groups = len(pair.draws) // self.traces
        return np.full(groups, 1.0 / groups)

    @property
    def needs(self) -> Needs:
        """K posterior traces per answer, sampled."""
        return Needs(posterior=self.traces, draws="sampled")
