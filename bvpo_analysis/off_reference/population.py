"""A population of prompts with all their traces at one checkpoint, in a random projection that can be sampled fast.

The vectors of the population are count sketches of the scores: k numbers each instead of P. They *define* a population
of its own, in which mu, every bias and every variance are finite sums, hence exact; what is sampled from it is judged
against these. A sketch keeps inner products up to a relative error of order 1/sqrt(k), so the projected population is
much like the full one.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from bvpo_analysis.estimators import Estimator, mean_coefficients
from bvpo_analysis.off_reference.leading_bias import posterior
from bvpo_analysis.records import Floats, Ints, PairLogProbs, PairScores, ScoreSet


@dataclass(frozen=True)
class TraceSample:
    """A sample of prompts and traces of a population.

    Attributes:
        prompts: [n] which prompts.
        traces: [n, K, 2] which of the enumerated traces of the chosen and of the rejected answer.
    """

    prompts: Ints
    traces: Ints


@dataclass(frozen=True)
class ProjectedPopulation:
    """Prompts with the whole law of their traces.

    Attributes:
        pairs: log-probabilities of each prompt's enumerated sequences.
        vectors: [m, k] per prompt, the (projected) scores of these sequences.
        grams: [m, m] per prompt, their inner products.
    """

    pairs: tuple[PairLogProbs, ...]
    vectors: tuple[Floats, ...]
    grams: tuple[Floats, ...]

    @classmethod
    def of(cls, pairs: Sequence[PairLogProbs], vectors: Sequence[Floats]) -> "ProjectedPopulation":
        """Take the products of the vectors once.

        Raises:
            ValueError: no pairs, traces that are not enumerated, different numbers of them, or vectors that are not
                one row per sequence.
        """
        if not pairs:
            raise ValueError("a population needs at least one prompt")
        for pair, rows in zip(pairs, vectors, strict=True):
            if not pair.enumerated or rows.shape[:1] != (pair.size,):
                raise ValueError(f"prompt {pair.prompt_id!r} needs enumerated traces and one vector per sequence")
        if len({pair.support.shape for pair in pairs}) > 1:
            raise ValueError("all prompts need the same number of enumerated traces")
        return cls(tuple(pairs), tuple(vectors), tuple(rows @ rows.T for rows in vectors))

    def exact_scores(self, *estimators: Estimator) -> ScoreSet:
        """The whole population as an enumerated score set, for ``enumerated_moments``."""
        return self._score_set(self.pairs, range(len(self.pairs)), estimators)

    def draw(self, rng: np.random.Generator, prompts: int, traces: int) -> TraceSample:
        """Prompts with replacement and ``traces`` reference-posterior traces per answer, as a data set has them.

        Raises:
            ValueError: fewer than one prompt or trace.
        """
        if prompts < 1 or traces < 1:
            raise ValueError(f"prompts and traces must be at least 1, got {prompts} and {traces}")
        chosen = rng.integers(len(self.pairs), size=prompts)
        u = rng.random((prompts, traces, 2, 1))
        return TraceSample(chosen, (u >= self._cumulative[chosen][:, None]).sum(axis=3))

    def scores_of(self, sample: TraceSample, *estimators: Estimator) -> ScoreSet:
        """What scoring the pairs and traces of a sample gives.

        The log-probabilities are those of the checkpoint, so that importance ratios against the reference are there.
        """
        drawn = []
        for i, positions in zip(sample.prompts, sample.traces, strict=True):
            full = self.pairs[i]
            drawn.append(
                replace(
                    full,
                    draws=np.stack([rows[p] for rows, p in zip(full.support, positions.T, strict=True)], axis=1),
                    weights=np.full(len(positions), 1.0 / len(positions)),
                    enumerated=False,
                    support=np.empty((2, 0), dtype=np.int64),
                )
            )
        return self._score_set(drawn, sample.prompts, estimators)

    @cached_property
    def _cumulative(self) -> Floats:
        """[N, 2, E - 1] cumulative probabilities of the reference posterior of each answer, without the final one."""
        laws = [[posterior(pair.log_prob_ref, rows) for rows in pair.support] for pair in self.pairs]
        return np.cumsum(laws, axis=2)[:, :, :-1]

    def _score_set(
        self, pairs: Sequence[PairLogProbs], prompts: Sequence[int] | Ints, estimators: Sequence[Estimator]
    ) -> ScoreSet:
        own = [
            np.array([mean_coefficients(estimator, pair) for estimator in estimators]) @ self.vectors[i]
            for pair, i in zip(pairs, prompts, strict=True)
        ]
        totals = np.sum(own, axis=0)
        scored = tuple(
            PairScores(pair, self.grams[i][None], (vectors @ totals.T)[None], vectors[None])
            for pair, i, vectors in zip(pairs, prompts, own, strict=True)
        )
        return ScoreSet(
            pairs=scored,
            groups=("all",),
            parameters=(self.vectors[0].shape[1],),
            totals=tuple(repr(estimator) for estimator in estimators),
            totals_gram=(totals @ totals.T)[None],
            settings={},
        )
