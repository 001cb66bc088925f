"""The pooled estimator: the one posterior trace of each answer in a pool with prior traces that serve both answers."""

from dataclasses import dataclass
from typing import final

import numpy as np

from bvpo_analysis.estimators.base import Estimator, Needs
from bvpo_analysis.estimators.draw_groups import grouped_draws, grouped_prior, scatter
from bvpo_analysis.estimators.log_weights import LogWeights
from bvpo_analysis.objectives import Objective, SequenceLogProbs
from bvpo_analysis.records import Floats, Ints, PairLogProbs


@final
@dataclass(frozen=True)
class Pooled(Estimator):
    """g_p = c+ shat+ + c- shat-,  shat = sum_{k < M} w_k s(r_k, y),  w_k proportional to pi(y | x, r_k).

    Member 0 of a side's pool is the posterior trace that came with its answer, members 1 .. M - 1 are fresh prior
    traces r ~ pi(r | x), the same for both sides. At the reference E shat = E_{pi(r | x, y)} s exactly, for every M and
    however few members carry weight: given the unordered pool, member k is the posterior one with probability w_k, so
    that shat = E[s(r_0, y) | pool] (conditional importance resampling: Andrieu, Doucet & Holenstein, JRSS B 2010;
    arXiv 2207.06364). For DPO and IPO, whose coefficients are constant at the reference, g_p is therefore exactly
    unbiased for mu there, and with independent posterior traces its variance is at most that of g_t.

    The prior traces must be fresh draws, made without sight of any answer: other completions sampled for the prompt are
    posterior traces of their own answers.

    Off the reference the pool stays a draw from the reference, so member k has the probability q_k, proportional to
    pi_ref(y | x, r_k), of being the posterior trace, and E sum_k q_k e^{rho_k} = pi_theta(y | x) / pi_ref(y | x) with
    rho_k = log pi_theta(r_k, y | x) - log pi_ref(r_k, y | x), again exactly. As in ``KMarginal`` hhat is the log of
    this sum and w_k proportional to q_k e^{rho_k}: consistent for mu as M grows, with bias O(1/M), and g_t at M = 1.
    This needs the reference's own log pi_ref(y | x, r_k) (``log_prob_answer_ref``); without them it is refused off the
    reference.

    A reference-free loss has coefficients that vary with log pi(y | x), here the log of the mean of
    pi_theta(r_k, y | x) / pi_ref(r_k | x) over the pool, per token of the answer as in ``Marginal``: consistent as M
    grows, with bias O(1/M) and not unbiased, at the reference too.

    With R draws and N prior traces there are min(R, floor(N / (M - 1))) realisations, each with prior traces of its
    own, hence independent given the data. M = 1 is g_t for DPO and IPO.

    Attributes:
        objective: the loss.
        pool: M, the members of each side's pool.

    Raises:
        ValueError: M < 1, fewer than M - 1 scored prior traces, enumerated draws, or a pair off its reference without
            the reference's probabilities of the answers.

    Example:
        >>> from bvpo_analysis.objectives import DPO
        >>> from bvpo_analysis.testing import toy_pair
        >>> pair = toy_pair(further=True)
        >>> Pooled(DPO(beta=2.0), pool=4).coefficients(pair)[0, [0, *pair.prior[:, 0], 2, *pair.prior[:, 1]]]
        array([-0.25, -0.25, -0.25, -0.25,  0.25,  0.25,  0.25,  0.25])
    """

    objective: Objective
    pool: int

    def __post_init__(self) -> None:
        if self.pool < 1:
            raise ValueError(f"pool must hold at least the posterior trace itself, got {self.pool} members")

    def coefficients(self, pair: PairLogProbs) -> Floats:
        """One row per posterior draw with prior traces of its own, [min(R, N // (M - 1)), m]."""
        self.needs.check(pair)
        members = self.members(pair)
        answer_ref = pair.log_prob_answer_ref if len(pair.log_prob_answer_ref) else pair.log_prob_answer
        answer = answer_ref + (pair.log_prob - pair.log_prob_ref)
        weights = [LogWeights.of(answer[members[..., side]]) for side in (0, 1)]
        before = [LogWeights.of(answer_ref[members[..., side]]).log_mean for side in (0, 1)]
        tokens = pair.tokens_answer[members[:, 0]].astype(np.float64)
        sides = [SequenceLogProbs(w.log_mean, before[side], tokens[:, side]) for side, w in enumerate(weights)]
        scalars = self.objective.coefficients(*sides)
        parts = [
            scatter(members[..., side], scalar[:, None] * w.shares, pair.size)
            for side, (w, scalar) in enumerate(zip(weights, scalars, strict=True))
        ]
        return parts[0] + parts[1]

    def weights(self, pair: PairLogProbs) -> Floats:
        """Equal weights, [min(R, N // (M - 1))]."""
        self.needs.check(pair)
        count = len(self.members(pair))
        return np.full(count, 1.0 / count)

    @property
    def needs(self) -> Needs:
        """One posterior trace per answer and M - 1 prior traces, sampled, with the reference's weights."""
        return Needs(posterior=1, prior=self.pool - 1, draws="sampled", at_reference=True)

    def members(self, pair: PairLogProbs) -> Ints:
        """Rows [R, M, 2] of each realisation's pool, the posterior trace first."""
        own = grouped_draws(pair, 1)
        if self.pool == 1:
            return own
        prior = grouped_prior(pair, self.pool - 1)
        count = min(len(own), len(prior))
        return np.concatenate([own[:count], prior[:count]], axis=1)
