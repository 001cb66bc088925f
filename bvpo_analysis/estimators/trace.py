"""The trace-based gradient g_t: one sampled trace per answer stands in for the marginal over traces."""

from dataclasses import dataclass
from typing import final

import numpy as np

from bvpo_analysis.estimators.base import Estimator, Needs
from bvpo_analysis.objectives import Objective, SequenceLogProbs
from bvpo_analysis.records import Floats, Ints, PairLogProbs


def side_log_probs(pair: PairLogProbs, rows: Ints) -> SequenceLogProbs:
    """The log-probabilities of the named rows, as an objective reads them."""
    return SequenceLogProbs(pair.log_prob[rows], pair.log_prob_ref[rows], pair.tokens[rows].astype(np.float64))


def pairwise_coefficients(objective: Objective, pair: PairLogProbs, draws: Ints) -> Floats:
    """Coefficients [R, m] of the loss gradient on each (chosen row, rejected row) of ``draws`` [R, 2]."""
    chosen, rejected = objective.coefficients(side_log_probs(pair, draws[:, 0]), side_log_probs(pair, draws[:, 1]))
    out = np.zeros((len(draws), pair.size))
    rows = np.arange(len(draws))
    out[rows, draws[:, 0]] += chosen
    out[rows, draws[:, 1]] += rejected
    return out


@final
@dataclass(frozen=True)
class Trace(Estimator):
    """g_t = c+(r+, r-) s(r+, y+) + c-(r+, r-) s(r-, y-), one joint trace pair per realisation (paper, eq. for L_t).

    For losses whose coefficients are constant at the reference (DPO, IPO), g_t with reference-posterior traces is
    exactly unbiased there: E_r s(r, y) = grad log pi(y | x) by Fisher's identity. Away from the reference it is biased.

    Example:
        >>> from bvpo_analysis.objectives import DPO
        >>> from bvpo_analysis.testing import toy_pair
        >>> Trace(DPO(beta=2.0)).coefficients(toy_pair())
        array([[-1.,  0.,  1.,  0.,  0.,  0.],
               [ 0., -1.,  0.,  1.,  0.,  0.]])
    """

    objective: Objective

    def coefficients(self, pair: PairLogProbs) -> Floats:
        """One row per trace draw, [R, m]."""
        return pairwise_coefficients(self.objective, pair, pair.draws)

    @property
    def needs(self) -> Needs:
        """One posterior trace per answer."""
        return Needs(posterior=1)
