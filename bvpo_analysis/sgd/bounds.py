"""Every bound on biased SGD as a row of one table: what it is about, when it applies, what it predicts for a run."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from bvpo_analysis.records import Floats
from bvpo_analysis.sgd.problems import Problem
from bvpo_analysis.theory.convex import convex_bound
from bvpo_analysis.theory.literature_bounds import biased_abc_bound, biased_abc_constants
from bvpo_analysis.theory.nonconvex import (
    classical_bound,
    improved_bound,
    sharp_bound,
    telescoped_bound,
    varying_steps_bound,
)
from bvpo_analysis.theory.strongly_convex import distance_bound, pl_bound, pl_decreasing_bound

CONSTANT, COSINE, DECREASING = "constant", "cosine", "decreasing"
"""Kinds of step sizes: one size; cosine decay; 2 / (m (j + 2L/m)), for PL losses."""


@dataclass(frozen=True)
class RunFacts:
    """What the bounds need of a run of T steps, whether it was simulated or followed exactly.

    Attributes:
        problem: the loss.
        scheme: kind of step sizes, one of "constant", "cosine", "decreasing".
        step_sizes: [T].
        initial_gap, initial_distance: f(x_0) - f* and |x_0 - x*|.
        zeta, noise_var: the bounds' constants: |b_c| <= zeta and Tr Cov(g_c) <= noise_var along the run.
        zeta_sq_path, noise_path: |b_c(x_j)|^2 and Tr Cov(g_c | x_j), [T, R], [T, 1] if exact; None where constant.
        average_gradient_sq: eta-weighted average over j < T, one number per repetition, [R]; [1] if exact.
        excess_loss: f(x_T) - f*, [R].
        distance: |x_T - x*|, [R].
        mean_iterate_excess: f(xbar) - f*, [R].
        radius: the largest root mean square of |x_j - x*| over j < T. The convex bound is stated for |x_j - x*| <= R,
            but its proof uses R only for E|x_j - x*|, so it holds where the law of the iterates is unbounded too.
    """

    problem: Problem
    scheme: str
    step_sizes: Floats
    initial_gap: float
    initial_distance: float
    zeta: float
    noise_var: float
    zeta_sq_path: Floats | None
    noise_path: Floats | None
    average_gradient_sq: Floats
    excess_loss: Floats
    distance: Floats
    mean_iterate_excess: Floats
    radius: float

    @property
    def steps(self) -> int:
        return len(self.step_sizes)

    @property
    def step_size(self) -> float:
        """The first one; the only one under a constant scheme."""
        return float(self.step_sizes[0])

    @property
    def kappa(self) -> float:
        return self.step_size * self.problem.smoothness

    @property
    def decrease(self) -> Floats:
        """f(x_0) - f(x_T), [R]."""
        return self.initial_gap - self.excess_loss

    @property
    def law(self) -> dict[str, float]:
        """Arguments that most bounds share."""
        return {
            "steps": self.steps,
            "step_size": self.step_size,
            "smoothness": self.problem.smoothness,
            "bias_bound": self.zeta,
            "noise_var": self.noise_var,
        }


@dataclass(frozen=True)
class Bound:
    """An upper bound on the expectation of a measured quantity.

    Attributes:
        name: short and unique.
        quantity: what is bounded.
        formula: the bound, with Delta = f(x_0) - f* and kappa = eta L.
        measured: the quantity, one number per repetition.
        predicted: the bound; its second argument is the mean decrease of the loss, which only some bounds use. One
            number, or one per repetition [R], where it is linear in biases and noises that differ between repetitions.
        obstacle: why the bound does not apply to a run; empty where it does.
    """

    name: str
    quantity: str
    formula: str
    measured: Callable[[RunFacts], Floats]
    predicted: Callable[[RunFacts, float], Floats | float]
    obstacle: Callable[[RunFacts], str]


def _constant_steps(facts: RunFacts) -> str:
    return "" if facts.scheme == CONSTANT else "the step size varies"


def _abc(facts: RunFacts) -> str:
    return _constant_steps(facts) or ("" if facts.kappa <= 0.25 * (1 + 1e-9) else "needs kappa <= 1/4")


def _pl(facts: RunFacts) -> str:
    return _constant_steps(facts) or _has_pl(facts)


def _has_pl(facts: RunFacts) -> str:
    return "" if facts.problem.pl_constant > 0 else "the loss has no known PL constant"


def _pl_decreasing(facts: RunFacts) -> str:
    return _has_pl(facts) or ("" if facts.scheme == DECREASING else "needs the step sizes 2 / (m (j + g))")


def _distance(facts: RunFacts) -> str:
    if _constant_steps(facts):
        return _constant_steps(facts)
    if facts.problem.strong_convexity == 0:
        return "the loss is not strongly convex"
    return "" if facts.noise_var == 0 else "needs gradients without noise"


def _convex(facts: RunFacts) -> str:
    if _constant_steps(facts):
        return _constant_steps(facts)
    if not facts.problem.is_convex:
        return "the loss is not convex"
    return "" if facts.kappa <= 0.5 * (1 + 1e-9) else "needs kappa <= 1/2"


def _path(facts: RunFacts) -> str:
    same = facts.scheme == CONSTANT and facts.zeta_sq_path is None
    return "same as classical: step size, bias and noise do not vary" if same else ""


def _path_bound(facts: RunFacts, _: float) -> Floats:
    return varying_steps_bound(
        initial_gap=facts.initial_gap,
        step_sizes=facts.step_sizes,
        smoothness=facts.problem.smoothness,
        bias_bounds=facts.zeta if facts.zeta_sq_path is None else np.sqrt(facts.zeta_sq_path.T),
        noise_vars=facts.noise_var if facts.noise_path is None else facts.noise_path.T,
    )


_AVERAGE = "average |grad f|^2"

BOUNDS: tuple[Bound, ...] = (
    Bound(
        "classical",
        _AVERAGE,
        "2 Delta/(eta T) + zeta^2 + kappa sigma^2",
        lambda f: f.average_gradient_sq,
        lambda f, _: float(classical_bound(initial_gap=f.initial_gap, **f.law)),
        _constant_steps,
    ),
    Bound(
        "improved",
        _AVERAGE,
        "2 Delta/(eta T) + (1 - 1/T)(zeta^2 + kappa sigma^2)",
        lambda f: f.average_gradient_sq,
        lambda f, _: float(improved_bound(initial_gap=f.initial_gap, **f.law)),
        _constant_steps,
    ),
    Bound(
        "telescoped",
        _AVERAGE,
        "2 (f(x_0) - E f(x_T))/(eta T) + zeta^2 + kappa sigma^2",
        lambda f: f.average_gradient_sq,
        lambda f, decrease: float(telescoped_bound(decrease=decrease, **f.law)),
        _constant_steps,
    ),
    Bound(
        "sharp",
        _AVERAGE,
        "telescoped without Young's inequality: below it for kappa < 1, exact for one step",
        lambda f: f.average_gradient_sq,
        lambda f, decrease: float(sharp_bound(decrease=decrease, **f.law)),
        _constant_steps,
    ),
    Bound(
        "varying",
        _AVERAGE,
        "[2 Delta + sum eta_j zeta_j^2 + L sum eta_j^2 sigma_j^2] / sum eta_j (eta-weighted)",
        lambda f: f.average_gradient_sq,
        _path_bound,
        _path,
    ),
    Bound(
        "biased ABC",
        _AVERAGE,
        "4 Delta/(eta T) + 2 zeta^2 + 2 kappa (2 zeta^2 + sigma^2), from arXiv 2305.16296",
        lambda f: f.average_gradient_sq,
        lambda f, _: float(
            biased_abc_bound(
                initial_gap=f.initial_gap,
                steps=f.steps,
                step_size=f.step_size,
                smoothness=f.problem.smoothness,
                constants=biased_abc_constants(bias_bound=f.zeta, noise_var=f.noise_var),
            )
        ),
        _abc,
    ),
    Bound(
        "PL",
        "f(x_T) - f*",
        "q Delta + (1 - q)(zeta^2 + kappa sigma^2)/(2m), q = (1 - eta m)^T",
        lambda f: f.excess_loss,
        lambda f, _: float(pl_bound(initial_gap=f.initial_gap, pl_constant=f.problem.pl_constant, **f.law)),
        _pl,
    ),
    Bound(
        "PL, decreasing",
        "f(x_T) - f*",
        "zeta^2/(2m) + O(1/T), for the steps 2/(m (j + 2L/m))",
        lambda f: f.excess_loss,
        lambda f, _: float(
            pl_decreasing_bound(
                initial_gap=f.initial_gap,
                steps=f.steps,
                smoothness=f.problem.smoothness,
                pl_constant=f.problem.pl_constant,
                offset=2 * f.problem.smoothness / f.problem.pl_constant,
                bias_bound=f.zeta,
                noise_var=f.noise_var,
            )
        ),
        _pl_decreasing,
    ),
    Bound(
        "distance",
        "|x_T - x*|",
        "r |x_0 - x*| + (1 - r) zeta/m, r = (1 - eta m)^T",
        lambda f: f.distance,
        lambda f, _: float(
            distance_bound(
                initial_distance=f.initial_distance,
                steps=f.steps,
                step_size=f.step_size,
                smoothness=f.problem.smoothness,
                strong_convexity=f.problem.strong_convexity,
                bias_bound=f.zeta,
            )
        ),
        _distance,
    ),
    Bound(
        "convex",
        "f(mean iterate) - f*",
        "|x_0 - x*|^2/(2 eta T) + zeta R + eta zeta^2 + eta sigma^2/2, R >= E|x_j - x*|",
        lambda f: f.mean_iterate_excess,
        lambda f, _: float(convex_bound(initial_distance=f.initial_distance, radius=f.radius, **f.law)),
        _convex,
    ),
)
