"""A finite population with every trace enumerated, from which samples of any size can be drawn.

The population is a list of prompts, each with the full law of its traces and all inner products. A sample draws n
prompts with replacement and K posterior traces per answer, and comes as the same ``ScoreSet`` that scoring real data
gives, so that the very estimators and intervals of a report meet a known truth: bias, sampling distribution and
coverage.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from bvpo_analysis.estimators.base import Estimator, mean_coefficients
from bvpo_analysis.records import Floats, Ints, PairLogProbs, PairScores, ScoreSet


@dataclass(frozen=True)
class EnumeratedPopulation:
    """N sequences of several prompts with all their inner products.

    Attributes:
        pairs: log-probabilities of each prompt's enumerated sequences.
        rows: for each prompt, the positions [m] of its sequences among all N.
        gram: [N, N] inner products of all scores.
    """

    pairs: tuple[PairLogProbs, ...]
    rows: tuple[Ints, ...]
    gram: Floats

    def exact_scores(self, *estimators: Estimator) -> ScoreSet:
        """The whole population as an enumerated score set, for ``enumerated_moments``."""
        return self._score_set(self.pairs, range(len(self.pairs)), estimators)

    def sample(self, rng: np.random.Generator, prompts: int, traces: int, *estimators: Estimator) -> ScoreSet:
        """``prompts`` prompts with replacement, ``traces`` posterior traces per answer, for ``population_moments``."""
        chosen = rng.integers(len(self.pairs), size=prompts)
        drawn = []
        for i in chosen:
            full = self.pairs[i]
            sides = []
            for side in full.support:
                posterior = np.exp(full.log_prob_ref[side] - np.logaddexp.reduce(full.log_prob_ref[side]))
                sides.append(rng.choice(side, size=traces, p=posterior / posterior.sum()))
            drawn.append(_with_draws(full, np.stack(sides, axis=1)))
        return self._score_set(drawn, chosen, estimators)

    def _score_set(
        self, pairs: Sequence[PairLogProbs], prompts: Sequence[int] | Ints, estimators: Sequence[Estimator]
    ) -> ScoreSet:
        coefficients = np.zeros((len(estimators), len(self.gram)))
        for pair, i in zip(pairs, prompts, strict=True):
            for a, estimator in enumerate(estimators):
                coefficients[a, self.rows[i]] += mean_coefficients(estimator, pair)
        with_totals = self.gram @ coefficients.T
        scored = []
        for pair, i in zip(pairs, prompts, strict=True):
            here = self.rows[i]
            scored.append(PairScores(pair, self.gram[np.ix_(here, here)][None], with_totals[here][None]))
        return ScoreSet(
            pairs=tuple(scored),
            groups=("all",),
            parameters=(0,),
            totals=tuple(repr(estimator) for estimator in estimators),
            totals_gram=(coefficients @ with_totals)[None],
            settings={},
        )


def _with_draws(pair: PairLogProbs, draws: Ints) -> PairLogProbs:
    return PairLogProbs(
        prompt_id=pair.prompt_id,
        log_prob=pair.log_prob,
        log_prob_ref=pair.log_prob_ref,
        log_prob_answer=pair.log_prob_answer,
        tokens=pair.tokens,
        tokens_answer=pair.tokens_answer,
        draws=draws,
        weights=np.full(len(draws), 1.0 / len(draws)),
        enumerated=False,
        support=np.empty((2, 0), dtype=np.int64),
        empty=pair.empty,
    )
