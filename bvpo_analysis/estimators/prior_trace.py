"""g_t with prior traces: one trace drawn without sight of the answers, scored with both of them."""

from dataclasses import dataclass
from typing import final

import numpy as np

from bvpo_analysis.estimators.base import Estimator, Needs
from bvpo_analysis.estimators.trace import pairwise_coefficients
from bvpo_analysis.objectives import Objective
from bvpo_analysis.records import Floats, PairLogProbs


@final
@dataclass(frozen=True)
class PriorTrace(Estimator):
    """c+ s(r, y+) + c- s(r, y-) with one r ~ pi_ref(r | x) for both answers.

    Biased even at the reference, where, with w(r) = pi(y | x, r) / pi(y | x) and slope beta/2 for DPO, 1/beta for IPO,

        b = slope [Cov_prior(w+, s+) - Cov_prior(w-, s-)],

    zero only if the two covariances agree, as they do when the answers do not depend on the trace. In expectation it is
    the gradient of a Jensen surrogate, E_r log pi(y | x, r) in place of log pi(y | x). Sharing r makes the scores of
    the trace itself cancel at the reference: s(r, y+) - s(r, y-) = grad log pi(y+ | x, r) - grad log pi(y- | x, r).

    A pair with N prior traces gives N independent realisations.

    Raises:
        ValueError: no prior traces were scored.

    Example:
        >>> from bvpo_analysis.objectives import DPO
        >>> from bvpo_analysis.testing import toy_pair
        >>> pair = toy_pair(further=True)
        >>> PriorTrace(DPO(beta=2.0)).coefficients(pair)[1, pair.prior]
        array([[ 0.,  0.],
               [-1.,  1.],
               [ 0.,  0.]])
    """

    objective: Objective

    def coefficients(self, pair: PairLogProbs) -> Floats:
        """One row per prior trace, [N, m]."""
        self.needs.check(pair)
        return pairwise_coefficients(self.objective, pair, pair.prior)

    def weights(self, pair: PairLogProbs) -> Floats:
        """Equal weights, [N]."""
        self.needs.check(pair)
        return np.full(len(pair.prior), 1.0 / len(pair.prior))

    @property
    def needs(self) -> Needs:
        """One prior trace."""
        return Needs(prior=1)
