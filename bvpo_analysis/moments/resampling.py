"""A finite population with every trace enumerated, from which samples of any size can be drawn.

The population is a list of prompts, each with the full law of its traces and all inner products. A sample draws n
prompts with replacement and K posterior traces per answer, and comes as the same ``ScoreSet`` that scoring real data
gives, so that the very estimators and intervals of a report meet a known truth: bias, sampling distribution and
coverage.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

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

    @cached_property
    def _factor(self) -> Floats:
        """[N, r] vectors with the inner products of the scores, standing in for them."""
        values, vectors = np.linalg.eigh(self.gram)
        kept = values > 1e-12 * values[-1]
        return vectors[:, kept] * np.sqrt(values[kept])

    def exact_scores(self, *estimators: Estimator) -> ScoreSet:
        """The whole population as an enumerated score set, for ``enumerated_moments``."""
        return self._score_set(self.pairs, range(len(self.pairs)), estimators)

    def sample(
        self, rng: np.random.Generator, prompts: int, traces: int, *estimators: Estimator, prior: int = 0
    ) -> ScoreSet:
        """Draw a sample, for ``population_moments`` and ``joint_moments``.

        Args:
            rng: randomness.
            prompts: number of prompts, drawn with replacement.
            traces: posterior traces per answer, from the law of the reference.
            estimators: whose totals are accumulated.
            prior: prior traces per prompt, from the reference's law of the traces that the pairs list as ``prior``;
                these must be all traces, each once.

        Raises:
            ValueError: prior traces are asked for, and a pair lists none or is off its reference.
        """
        chosen = rng.integers(len(self.pairs), size=prompts)
        drawn = []
        for i in chosen:
            full = self.pairs[i]
            sides = []
            for side in full.support:
                posterior = np.exp(full.log_prob_ref[side] - np.logaddexp.reduce(full.log_prob_ref[side]))
                sides.append(rng.choice(side, size=traces, p=posterior / posterior.sum()))
            pair = replace(
                full,
                draws=np.stack(sides, axis=1),
                weights=np.full(traces, 1.0 / traces),
                enumerated=False,
                support=np.empty((2, 0), dtype=np.int64),
            )
            drawn.append(_with_prior(pair, rng, prior) if prior else pair)
        return self._score_set(drawn, chosen, estimators)

    def _score_set(
        self, pairs: Sequence[PairLogProbs], prompts: Sequence[int] | Ints, estimators: Sequence[Estimator]
    ) -> ScoreSet:
        means = [np.array([mean_coefficients(estimator, pair) for estimator in estimators]) for pair in pairs]
        coefficients = np.zeros((len(estimators), len(self.gram)))
        for mean, i in zip(means, prompts, strict=True):
            coefficients[:, self.rows[i]] += mean
        with_totals = self.gram @ coefficients.T
        scored = []
        for pair, mean, i in zip(pairs, means, prompts, strict=True):
            here = self.rows[i]
            products = self.gram[np.ix_(here, here)][None]
            own = (mean @ with_totals[here])[None]
            scored.append(PairScores(pair, products, own, (mean @ self._factor[here])[None]))
        return ScoreSet(
            pairs=tuple(scored),
            groups=("all",),
            parameters=(0,),
            totals=tuple(repr(estimator) for estimator in estimators),
            totals_gram=(coefficients @ with_totals)[None],
            settings={},
        )


def _with_prior(pair: PairLogProbs, rng: np.random.Generator, count: int) -> PairLogProbs:
    """The pair with ``count`` prior traces drawn from those that it lists, by their reference probability."""
    if len(pair.prior) == 0:
        raise ValueError(f"prompt {pair.prompt_id!r} lists no prior traces to draw from")
    first = pair.prior[:, 0]
    answer = pair.log_prob_answer[first]
    if not np.array_equal(pair.log_prob, pair.log_prob_ref):
        raise ValueError(f"prompt {pair.prompt_id!r} is off its reference, whose law of the traces is not at hand")
    log_p = pair.log_prob_ref[first] - answer
    pool = rng.choice(len(first), size=count, p=np.exp(log_p - np.logaddexp.reduce(log_p)))
    alone = pair.trace_only[pool] if len(pair.trace_only) else pair.trace_only
    return replace(pair, prior=pair.prior[pool], trace_only=alone)
