"""The marginal gradient from K posterior traces per answer: log-mean-exp in place of one trace."""

from dataclasses import dataclass
from typing import final

import numpy as np

from bvpo_analysis.estimators.base import Estimator, Needs
from bvpo_analysis.estimators.draw_groups import grouped_draws, scatter
from bvpo_analysis.estimators.log_weights import LogWeights
from bvpo_analysis.objectives import Objective, SequenceLogProbs
from bvpo_analysis.records import Floats, Ints, PairLogProbs


def require_log_ratios(objective: Objective) -> None:
    """Hold that a loss depends on log-ratios to a reference only, which is what posterior traces can estimate.

    Raises:
        ValueError: a reference-free loss. Its margin is made of log pi(y | x) itself, of which posterior traces carry
            only a harmonic mean, whose variance is infinite as a rule.
    """
    if objective.reference_free:
        raise ValueError(
            f"the {objective.name} loss depends on log pi(y | x) itself, which posterior traces do not estimate; "
            "use Pooled, whose prior traces do"
        )


def log_mean_exp_coefficients(objective: Objective, pair: PairLogProbs, groups: Ints) -> Floats:
    """Coefficients of the K-trace marginal gradient on groups of K trace draws, [.., K, 2] -> [.., m].

    Per side, rho_k = log pi_theta(r_k, y) - log pi_ref(r_k, y), hhat = log (1/K) sum_k e^{rho_k} and w_k proportional
    to e^{rho_k}; the scalar of the loss at (hhat+, hhat-) is shared out over the traces of each side by w.

    Example:
        >>> from bvpo_analysis.objectives import DPO
        >>> from bvpo_analysis.testing import toy_pair
        >>> log_mean_exp_coefficients(DPO(beta=2.0), toy_pair(), np.array([[[0, 2], [1, 3]]]))
        array([[-0.5, -0.5,  0.5,  0.5,  0. ,  0. ]])
    """
    log_ratio = pair.log_prob - pair.log_prob_ref
    weights = [LogWeights.of(log_ratio[groups[..., side]]) for side in (0, 1)]
    sides = [
        SequenceLogProbs(
            log_prob=w.log_mean.ravel(),
            log_prob_ref=np.zeros(w.log_mean.size),
            tokens=pair.tokens_answer[groups[..., 0, side]].ravel().astype(np.float64),
        )
        for side, w in enumerate(weights)
    ]
    scalars = objective.coefficients(*sides)
    parts = [
        scatter(groups[..., side], scalar.reshape(*w.log_mean.shape, 1) * w.shares, pair.size)
        for side, (w, scalar) in enumerate(zip(weights, scalars, strict=True))
    ]
    return parts[0] + parts[1]


@final
@dataclass(frozen=True)
class KMarginal(Estimator):
    """muhat_K = c+(hhat+, hhat-) shat+ + c-(hhat+, hhat-) shat-, hhat = log mean_k e^{rho_k}, shat = sum_k w_k s_k.

    The traces are draws from the reference posterior, under which E e^rho = pi_theta(y | x) / pi_ref(y | x), so hhat
    tends to the marginal log-ratio and the weights w_k, proportional to e^{rho_k}, turn reference-posterior into
    policy-posterior traces: muhat_K tends to mu. At K = 1 it is g_t. At the reference it is the mean of K draws of g_t,
    exactly unbiased; elsewhere its bias is c/K + O(K^-2) (:func:`bvpo_analysis.theory.marginal_rate` gives c for DPO),
    where the mean of K joint gradients keeps the bias of g_t. The bound behind log-mean-exp is that of importance-
    weighted autoencoders (arXiv 1509.00519).

    A pair with R sampled draws gives floor(R / K) realisations from disjoint draws.

    Raises:
        ValueError: K < 1, a reference-free loss, fewer than K draws, or enumerated draws.

    Example:
        >>> from bvpo_analysis.objectives import DPO
        >>> from bvpo_analysis.testing import toy_pair
        >>> off = toy_pair(log_prob=np.log([0.1, 0.3, 0.2, 0.2, 0.1, 0.1]), log_prob_ref=np.log(np.full(6, 0.2)))
        >>> KMarginal(DPO(beta=2.0), traces=2).coefficients(off).round(12)
        array([[-0.25, -0.75,  0.5 ,  0.5 ,  0.  ,  0.  ]])
    """

    objective: Objective
    traces: int

    def __post_init__(self) -> None:
        require_log_ratios(self.objective)
        if self.traces < 1:
            raise ValueError(f"traces must be at least 1, got {self.traces}")

    def coefficients(self, pair: PairLogProbs) -> Floats:
        """One row per group of K draws, [R // K, m]."""
        self.needs.check(pair)
        return log_mean_exp_coefficients(self.objective, pair, grouped_draws(pair, self.traces))

    def weights(self, pair: PairLogProbs) -> Floats:
        """Equal weights, [R // K]."""
        self.needs.check(pair)
        groups = len(pair.draws) // self.traces
        return np.full(groups, 1.0 / groups)

    @property
    def needs(self) -> Needs:
        """K posterior traces per answer, sampled."""
        return Needs(posterior=self.traces, draws="sampled")
