"""g_t with prior traces: one trace drawn without sight of the answers for each of them."""

from dataclasses import dataclass
from typing import final

import numpy as np

from bvpo_analysis.estimators.base import Estimator, Needs
from bvpo_analysis.estimators.draw_groups import grouped_prior
from bvpo_analysis.estimators.trace import pairwise_coefficients
from bvpo_analysis.objectives import Objective
from bvpo_analysis.records import Floats, Ints, PairLogProbs


def crossed_prior(pair: PairLogProbs) -> Ints:
    """Rows [N // 2, 2] (trace 2k with y+, trace 2k + 1 with y-) of the prior traces taken two by two.

    Example:
        >>> from bvpo_analysis.testing import toy_pair
        >>> crossed_prior(toy_pair(further=True)).tolist()
        [[6, 10]]
    """
    two = grouped_prior(pair, 2)
    return np.stack([two[:, 0, 0], two[:, 1, 1]], axis=1)


@final
@dataclass(frozen=True)
class IndependentPriorTraces(Estimator):
    """c+ s(r, y+) + c- s(r', y-) with r, r' ~ pi_ref(r | x) drawn independently.

    At the reference it has the bias of ``PriorTrace``, since only the law of each trace enters there, and a larger
    variance, because the scores of the two traces no longer cancel. It is what one gets by generating a trace for each
    answer of an existing preference pair.

    A pair with N prior traces gives floor(N / 2) independent realisations.

    Raises:
        ValueError: fewer than two prior traces were scored.

    Example:
        >>> from bvpo_analysis.objectives import DPO
        >>> from bvpo_analysis.testing import toy_pair
        >>> pair = toy_pair(further=True)
        >>> IndependentPriorTraces(DPO(beta=2.0)).coefficients(pair)[0, pair.prior]
        array([[-1.,  0.],
               [ 0.,  1.],
               [ 0.,  0.]])
    """

    objective: Objective

    def coefficients(self, pair: PairLogProbs) -> Floats:
        """One row per two prior traces, [N // 2, m]."""
        self.needs.check(pair)
        return pairwise_coefficients(self.objective, pair, crossed_prior(pair))

    def weights(self, pair: PairLogProbs) -> Floats:
        """Equal weights, [N // 2]."""
        self.needs.check(pair)
        count = len(pair.prior) // 2
        return np.full(count, 1.0 / count)

    @property
    def needs(self) -> Needs:
        """Two prior traces."""
        return Needs(prior=2)
