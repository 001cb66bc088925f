"""Small log-linear prompts whose tuples of traces can all be listed: what claims about estimation are measured on.

Expectations are sums over all tuples of traces, or over how often each of two traces is drawn. Statements about large
K are extrapolated from three finite K, which leaves an error of order K^-3.
"""

import itertools
import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
from scipy.special import expit

from bvpo_analysis.claims.instances import ROUNDING, worst
from bvpo_analysis.log_linear import LogLinearModel
from bvpo_analysis.records import Floats, Ints
from bvpo_analysis.theory.marginal_estimator import AnswerLaw, marginal_coefficients

EXTRAPOLATION = 1e-3
"""Relative allowance of a limit extrapolated from K, 2K, 4K to K -> infinity."""


@dataclass(frozen=True)
class Prompt:
    """A log-linear model with answers 0 (chosen) and 1 (rejected), its reference, and a policy away from it."""

    model: LogLinearModel
    ref: Floats
    theta: Floats
    beta: float = 1.5

    @property
    def target(self) -> Floats:
        """mu: the gradient of the marginal loss, by differentiating log-marginals."""
        ratio = self.model.log_marginal(self.theta) - self.model.log_marginal(self.ref)
        gap = self.model.marginal_score(self.theta, 0) - self.model.marginal_score(self.theta, 1)
        return np.asarray(-self.beta * expit(-self.beta * (ratio[0] - ratio[1])) * gap)

    def law(self, answer: int) -> AnswerLaw:
        """Reference posterior, log-ratios and scores of the traces of an answer."""
        rho = (self.model.log_probs(self.theta) - self.model.log_probs(self.ref))[:, answer]
        return AnswerLaw(self.model.posterior(self.ref, answer), rho, self.model.scores(self.theta)[:, answer])

    def estimates(self, traces: int) -> tuple[Floats, Floats]:
        """All values of muhat_K [K + 1, K + 1, d] with their probabilities, the traces of both answers independent."""
        sides = [(self.law(y), *tallies(self.law(y).probabilities, traces)) for y in (0, 1)]
        (first, i, a), (second, j, b) = sides
        c = marginal_coefficients(first.log_ratio[i][:, None], second.log_ratio[j][None, :], self.beta)
        return c.gradient(first.scores[i][:, None], second.scores[j][None, :]), np.outer(a, b)

    def mean_estimate(self, traces: int) -> Floats:
        """E muhat_K."""
        values, chance = self.estimates(traces)
        return np.asarray(np.einsum("ab,abd->d", chance, values))

    def variance_of_estimate(self, traces: int) -> float:
        """Tr Var muhat_K."""
        values, chance = self.estimates(traces)
        return float((chance * ((values - self.mean_estimate(traces)) ** 2).sum(axis=2)).sum())


def prompts(count: int, *, traces: int = 2, seed: int = 0) -> Iterator[Prompt]:
    """Prompts with moderate weights: features of spread 0.6, the policy at distance 0.5 from the reference."""
    rng = np.random.default_rng(seed)
    for _ in range(count):
        model = LogLinearModel.random(rng, traces=traces, answers=2, parameters=4, spread=0.6)
        ref, direction = rng.normal(size=(2, 4))
        yield Prompt(model, ref, ref + 0.5 * direction / np.linalg.norm(direction))


def tuples(p: Floats, size: int) -> tuple[Ints, Floats]:
    """All tuples of values [N^size, size] and their probabilities; one empty tuple for size 0."""
    index = np.array(list(itertools.product(range(len(p)), repeat=size)), dtype=np.int64)
    return index, np.asarray(p[index].prod(axis=1))


def tallies(p: Floats, size: int) -> tuple[Ints, Floats]:
    """All ways to draw ``size`` of two values irrespective of order, [size + 1, size], and their probabilities."""
    times = np.arange(size + 1)
    chance = np.array([math.comb(size, int(n)) * p[0] ** (size - n) * p[1] ** n for n in times])
    return np.asarray(np.arange(size) >= size - times[:, None], dtype=np.int64), chance


def extrapolated(first: Floats, second: Floats, fourth: Floats) -> Floats:
    """lim f(K) of a sequence c + a/K + b/K^2 + O(K^-3), from its values at K, 2 K and 4 K.

    Example:
        >>> float(extrapolated(*(3 + 5 / k - 7 / k**2 for k in np.array([10.0, 20.0, 40.0]))).round(12))
        3.0
    """
    return np.asarray((8 * fourth - 6 * second + first) / 3)


def worst_component(
    sides: Iterable[tuple[Floats, Floats, float]], *, allowance: float = ROUNDING
) -> tuple[float, float, float]:
    """The worst component of vectors (measured, predicted), each relative to the scale that comes with its vectors.

    Returns:
        Its measured and predicted values, and ``allowance`` times its scale.
    """
    measured, predicted, rounding = worst(
        (m, p, scale) for measured, predicted, scale in sides for m, p in zip(measured, predicted, strict=True)
    )
    return measured, predicted, rounding * (allowance / ROUNDING)
