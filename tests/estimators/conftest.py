"""Small log-linear prompts whose realisations can all be listed: expectations of estimators are finite sums.

A pair is built whose draws are all groups of K trace pairs, one after the other. An estimator that takes disjoint
groups in file order then has one realisation (or one block of realisations) for each, whose probability is known.
"""

import itertools
import math
from dataclasses import dataclass, replace

import numpy as np
import pytest

from bvpo_analysis.estimators import Estimator, Marginal
from bvpo_analysis.log_linear import LogLinearModel
from bvpo_analysis.objectives import Objective
from bvpo_analysis.records import Floats, Ints, PairLogProbs

CHOSEN, REJECTED = 0, 1


@dataclass(frozen=True)
class Realisations:
    """All values g [n, d] that an estimator can take, with their probabilities p [n]."""

    p: Floats
    g: Floats

    @property
    def mean(self) -> Floats:
        return self.p @ self.g

    @property
    def variance(self) -> float:
        """Tr Cov."""
        return float(self.p @ ((self.g - self.mean) ** 2).sum(axis=1))


@dataclass(frozen=True)
class Prompt:
    """A prompt with answers 0 and 1, a reference and a policy."""

    model: LogLinearModel
    ref: Floats
    theta: Floats

    @property
    def traces(self) -> int:
        return self.model.features.shape[0]

    def target(self, objective: Objective) -> Floats:
        """mu, from the enumerated traces."""
        pair, scores = self.model.pair(self.theta, self.ref, CHOSEN, REJECTED)
        return Marginal(objective).coefficients(pair)[0] @ scores

    def pair(self, draws, prior=()) -> tuple[PairLogProbs, Floats]:
        return self.model.pair(self.theta, self.ref, CHOSEN, REJECTED, draws=draws, prior=prior)

    def trace_pairs(self) -> tuple[list[tuple[int, int]], Floats]:
        """All (r+, r-) and their probabilities under independent reference posteriors."""
        sides = [self.model.posterior(self.ref, y) for y in (CHOSEN, REJECTED)]
        pairs = list(itertools.product(range(self.traces), repeat=2))
        return pairs, np.array([sides[0][a] * sides[1][b] for a, b in pairs])

    def groups(self, size: int, *, ordered: bool = True) -> tuple[Ints, Floats]:
        """All groups of trace pairs [n, size, 2] and their probabilities; without order for symmetric functions."""
        pairs, p = self.trace_pairs()
        listed = np.array(pairs)
        if ordered:
            index = np.array(list(itertools.product(range(len(p)), repeat=size)))
            return listed[index], p[index].prod(axis=1)
        index = np.array(list(itertools.combinations_with_replacement(range(len(p)), size)))
        times = (index[:, :, None] == np.arange(len(p))).sum(axis=1)
        ways = np.array([math.factorial(size) / math.prod(map(math.factorial, row)) for row in times.tolist()])
        return listed[index], ways * p[index].prod(axis=1)

    def from_draws(self, estimator: Estimator, size: int, *, ordered: bool = True) -> Realisations:
        """An estimator on groups of ``size`` posterior draws; a group's own rows keep their weights."""
        groups, p = self.groups(size, ordered=ordered)
        pair, scores = self.pair(groups.reshape(-1, 2).tolist())
        weights = estimator.weights(pair).reshape(len(p), -1) * len(p)
        return Realisations((p[:, None] * weights).ravel(), estimator.coefficients(pair) @ scores)

    def from_prior(self, estimator: Estimator, size: int) -> Realisations:
        """An estimator on groups of ``size`` prior traces."""
        prior = self.model.prior(self.ref)
        pools = np.array(list(itertools.product(range(self.traces), repeat=size)))
        pair, scores = self.pair([(0, 0)], pools.ravel().tolist())
        return Realisations(prior[pools].prod(axis=1), estimator.coefficients(pair) @ scores)

    def from_pools(
        self, estimator: Estimator, size: int, *, first: Floats | None = None, known: bool = False
    ) -> Realisations:
        """An estimator on one trace pair with ``size`` prior traces; ``first`` [T, T] replaces the law of the pair.

        With ``known`` it is told the reference's probabilities of the answers.
        """
        pairs, p = self.trace_pairs()
        p = p if first is None else first.ravel()
        prior = self.model.prior(self.ref)
        pools = list(itertools.product(range(self.traces), repeat=size))
        both = [(i, pool) for i in range(len(pairs)) for pool in pools]
        draws, others = [pairs[i] for i, _ in both], [r for _, pool in both for r in pool]
        pair, scores = self.pair(draws, others)
        if known:
            before, _ = replace(self, theta=self.ref).pair(draws, others)
            pair = replace(pair, log_prob_answer_ref=before.log_prob_answer)
        chance = np.array([p[i] * np.prod(prior[list(pool)]) for i, pool in both])
        return Realisations(chance, estimator.coefficients(pair) @ scores)


def make_prompt(seed: int, *, traces: int, distance: float, answers: int = 3) -> Prompt:
    """A random prompt with its policy at this distance from the reference."""
    rng = np.random.default_rng(seed)
    model = LogLinearModel.random(rng, traces=traces, answers=answers, parameters=4, spread=0.7)
    ref, direction = rng.normal(size=(2, 4))
    return Prompt(model, ref, ref + distance * direction / np.linalg.norm(direction))


@pytest.fixture
def at_reference() -> list[Prompt]:
    """Prompts of three traces whose policy is the reference."""
    return [make_prompt(seed, traces=3, distance=0.0) for seed in range(3)]


@pytest.fixture
def off_reference() -> list[Prompt]:
    """Prompts of two traces with a policy a moderate way off the reference."""
    return [make_prompt(seed, traces=2, distance=0.3) for seed in range(3)]
