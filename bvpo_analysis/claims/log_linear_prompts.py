"""What claims on trace bias are measured on: random prompts of a log-linear model, every trace pair enumerated.

Gradients come from the package's estimators on the package's pairs, as vectors; nothing here uses a closed form.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import numpy as np

from bvpo_analysis.claims.instances import ROUNDING
from bvpo_analysis.estimators import EmptyTrace, Marginal, Trace
from bvpo_analysis.log_linear import LogLinearModel
from bvpo_analysis.objectives import DPO, IPO, Objective
from bvpo_analysis.records import Floats
from bvpo_analysis.theory.trace_laws import LossAtReference, TraceLaw

CHOSEN, REJECTED = 0, 1
"""The answers of a prompt's preference pair, of 2 to 4 that the model knows."""

LOSSES: tuple[tuple[Objective, LossAtReference], ...] = (
    (DPO(0.1), LossAtReference.dpo(0.1)),
    (DPO(2.0), LossAtReference.dpo(2.0)),
    (IPO(0.5), LossAtReference.ipo(0.5)),
)
"""Losses as estimators take them, and as closed forms do."""


@dataclass(frozen=True)
class Gradients:
    """g_t [n, d] with the probabilities p [n] of its trace pairs, g_e [d] and mu [d]."""

    p: Floats
    t: Floats
    e: Floats
    mu: Floats

    @property
    def bias(self) -> Floats:
        """b_t = E_r g_t - mu, [d]."""
        return self.p @ self.t - self.mu

    @property
    def variance(self) -> float:
        """Tr Var_r(g_t)."""
        return float(self.p @ ((self.t - self.p @ self.t) ** 2).sum(axis=1))

    @property
    def optimal_weight(self) -> float:
        """The minimiser of E_r|alpha g_t + (1 - alpha) g_e - mu|^2, from differences."""
        difference = self.t - self.e
        cross, square = ((self.t - self.mu) * difference).sum(axis=1), (difference**2).sum(axis=1)
        return 1 - float(self.p @ cross) / float(self.p @ square)

    @property
    def size(self) -> float:
        """The largest entry that is averaged; rounding is relative to it."""
        return float(np.abs(self.t).max() + np.abs(self.mu).max())

    @property
    def relative_bias(self) -> float:
        """|b_t| / |mu|."""
        return float(np.linalg.norm(self.bias) / np.linalg.norm(self.mu))


@dataclass(frozen=True)
class Prompt:
    """A log-linear model with a reference and another policy; ``tilt`` [2, R] makes traces depend on each other."""

    model: LogLinearModel
    ref: Floats
    theta: Floats
    tilt: Floats

    def posteriors(self, theta: Floats) -> tuple[Floats, Floats]:
        """pi_theta(r | y) of the chosen and of the rejected answer."""
        return self.model.posterior(theta, CHOSEN), self.model.posterior(theta, REJECTED)

    def laws(self, theta: Floats) -> tuple[TraceLaw, TraceLaw]:
        """Posteriors with the scores at theta, of the chosen and of the rejected answer."""
        scores = self.model.scores(theta)
        first, second = self.posteriors(theta)
        return TraceLaw(first, scores[:, CHOSEN]), TraceLaw(second, scores[:, REJECTED])

    def independent(self, theta: Floats) -> Floats:
        """The joint law of independent posterior traces at theta, [R, R]."""
        return np.outer(*self.posteriors(theta))

    def dependent(self, theta: Floats, strength: float) -> Floats:
        """A joint law with the same marginals: p q' (1 + strength a b') with E a = E b = 0 and |a|, |b| <= 1."""
        p, q = self.posteriors(theta)
        a, b = ((x - w @ x) / np.ptp(x) for x, w in zip(self.tilt, (p, q), strict=True))
        return np.outer(p, q) * (1 + strength * np.outer(a, b))

    def log_ratios(self, theta: Floats) -> tuple[Floats, Floats]:
        """rho of every trace, with the chosen and with the rejected answer."""
        rho = self.model.log_probs(theta) - self.model.log_probs(self.ref)
        return rho[:, CHOSEN], rho[:, REJECTED]

    def gaps(self) -> tuple[Floats, Floats]:
        """e(y) = s(empty, y) - sbar(y) at the reference, for both answers."""
        scores = self.model.scores(self.ref)[0]
        first, second = (scores[y] - self.model.marginal_score(self.ref, y) for y in (CHOSEN, REJECTED))
        return first, second

    def gradients(
        self,
        objective: Objective,
        theta: Floats,
        joint: Floats | None = None,
        answers: tuple[int, int] = (CHOSEN, REJECTED),
    ) -> Gradients:
        """The gradients of this pair at theta; without a joint law, of independent reference-posterior traces."""
        pair, scores = self.model.pair(theta, self.ref, *answers, joint=joint)
        return Gradients(
            p=pair.weights,
            t=Trace(objective).coefficients(pair) @ scores,
            e=(EmptyTrace(objective).coefficients(pair) @ scores)[0],
            mu=(Marginal(objective).coefficients(pair) @ scores)[0],
        )


def prompts(count: int, *, seed: int = 0, parameters: tuple[int, int] = (2, 6)) -> Iterator[Prompt]:
    """Random prompts: 2 to 4 traces and answers, standard normal features, theta off theta_ref by 0.5 per entry."""
    rng = np.random.default_rng(seed)
    for _ in range(count):
        traces, answers = (int(n) for n in rng.integers(2, 5, size=2))
        d = int(rng.integers(parameters[0], parameters[1] + 1))
        model = LogLinearModel.random(rng, traces=traces, answers=answers, parameters=d)
        ref = 0.5 * rng.normal(size=d)
        yield Prompt(model, ref, ref + 0.5 * rng.normal(size=d), rng.normal(size=(2, traces)))


Draw = tuple[int, int]
"""A trace and an answer, as indices."""


def pairs_from_two_draws(
    prompt: Prompt, chosen_of: Callable[[Draw, Draw], Draw | None]
) -> dict[tuple[int, int], Floats]:
    """The joint law of everything that two draws from pi_ref(r, y) and a ranker can give.

    Args:
        prompt: the model, sampled at its reference.
        chosen_of: the better of two draws, or None if the row is dropped.

    Returns:
        By answers (y+, y-) the table [R, R] of the unconditional probabilities of (r+, r-).
    """
    p = np.exp(prompt.model.log_probs(prompt.ref))
    tables: dict[tuple[int, int], Floats] = {}
    draws = list(np.ndindex(*p.shape))
    for first in draws:
        for second in draws:
            chosen = chosen_of(first, second)
            if chosen is not None:
                rejected = second if chosen == first else first
                table = tables.setdefault((chosen[1], rejected[1]), np.zeros((p.shape[0], p.shape[0])))
                table[chosen[0], rejected[0]] += p[first] * p[second]
    return tables


def tightest(instances: Iterable[tuple[float, float]]) -> tuple[float, float, float]:
    """Of (measured, upper bound), the one that exceeds its bound most relative to it, or comes closest.

    Returns:
        Its measured value and bound, and its allowance for rounding.

    Example:
        >>> tightest([(1.0, 2.0), (0.9, 1.0)])
        (0.9, 1.0, 1e-09)
    """
    rows = np.array(list(instances), dtype=np.float64)
    measured, bound = rows[np.argmax((rows[:, 0] - rows[:, 1]) / np.abs(rows[:, 1]))]
    return float(measured), float(bound), float(ROUNDING * abs(bound))


def norm(x: Floats) -> float:
    """Euclidean length."""
    return float(np.linalg.norm(x))
