"""The marginal gradient mu, exact where traces can be enumerated: the target every estimator is judged against."""

from dataclasses import dataclass
from typing import final

import numpy as np

from bvpo_analysis.estimators.base import Estimator, Needs
from bvpo_analysis.objectives import Objective, SequenceLogProbs
from bvpo_analysis.records import Floats, Ints, PairLogProbs


@final
@dataclass(frozen=True)
class Marginal(Estimator):
    """mu = c+ grad log pi(y+ | x) + c- grad log pi(y- | x) with pi(y | x) = sum_r pi(r, y | x) over enumerated traces.

    By Fisher's identity grad log pi(y | x) = sum_r pi_theta(r | x, y) s(r, y), so the coefficients are those of the
    loss at the marginal log-probabilities times the posterior weights under pi_theta. A length-normalised loss is
    normalised by the tokens of the answer, the only length that the marginal has.

    Raises:
        ValueError: the pair's traces were not enumerated.

    Example:
        >>> from bvpo_analysis.objectives import DPO
        >>> from bvpo_analysis.testing import toy_pair
        >>> Marginal(DPO(beta=2.0)).coefficients(toy_pair(enumerated=True))
        array([[-0.5, -0.5,  0.5,  0.5,  0. ,  0. ]])
    """

    objective: Objective

    def coefficients(self, pair: PairLogProbs) -> Floats:
        """A single row, [1, m]."""
        if not pair.enumerated:
            raise ValueError(f"prompt {pair.prompt_id!r} has sampled traces; the marginal needs enumerated ones")
        sides = [_marginal(pair, rows) for rows in pair.support]
        scalars = self.objective.coefficients(*sides)
        out = np.zeros((1, pair.size))
        for rows, side, scalar in zip(pair.support, sides, scalars, strict=True):
            np.add.at(out[0], rows, scalar[0] * np.exp(pair.log_prob[rows] - side.log_prob[0]))
        return out

    def weights(self, pair: PairLogProbs) -> Floats:
        """[1.0]: no trace randomness."""
        return np.ones(1)

    @property
    def needs(self) -> Needs:
        """All traces of both answers."""
        return Needs(draws="enumerated")


def _marginal(pair: PairLogProbs, rows: Ints) -> SequenceLogProbs:
    return SequenceLogProbs(
        log_prob=np.logaddexp.reduce(pair.log_prob[rows], keepdims=True),
        log_prob_ref=np.logaddexp.reduce(pair.log_prob_ref[rows], keepdims=True),
        tokens=pair.tokens_answer[rows[:1]].astype(np.float64),
    )
