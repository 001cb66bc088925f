"""What the choice of the weight means for a run: predicted against realised best weights, on exact expectations.

On a quadratic with constant biases, E|grad f|^2 and E f are quadratic functions of a constant weight, so that three
runs give the whole curve and its minimum. Results are tidy tables with one row per question.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np
import pandas as pd
from scipy.stats import spearmanr

from bvpo_analysis.records import Floats
from bvpo_analysis.sgd.cases import Case
from bvpo_analysis.sgd.oracles import ConstantOracle
from bvpo_analysis.sgd.problems import Quadratic
from bvpo_analysis.sgd.rules import CRITERIA, Fixed, FromStart, PlannedRule, Scheduled
from bvpo_analysis.sgd.runs import ExactRun, exact_run
from bvpo_analysis.theory.quadratics import quadratic_stationary
from bvpo_analysis.theory.step_size import cosine_step_sizes, weighted_error_curve, weighted_optimal_weight

ALPHAS = np.linspace(0.0, 1.0, 21)


@dataclass(frozen=True)
class WeightCurve:
    """A squared gradient or a loss as a function of a constant weight: a parabola.

    Attributes:
        curvature, slope, constant: value(alpha) = curvature alpha^2 + slope alpha + constant.
    """

    curvature: float
    slope: float
    constant: float

    @classmethod
    def through(cls, at_zero: float, at_half: float, at_one: float) -> "WeightCurve":
        """The parabola through the values at 0, 1/2 and 1.

        Example:
            >>> WeightCurve.through(1.0, 0.25, 1.0).best
            0.5
        """
        curvature = 2 * ((at_zero - at_half) + (at_one - at_half))
        return cls(curvature, at_one - at_zero - curvature, at_zero)

    def value(self, alpha: Floats | float) -> Floats:
        """At these weights."""
        return np.asarray((self.curvature * np.asarray(alpha) + self.slope) * alpha + self.constant)

    @property
    def unclipped(self) -> float:
        """The minimiser on the whole line; nan where the weight makes no difference."""
        return -self.slope / (2 * self.curvature) if self.curvature > 0 else float("nan")

    @property
    def best(self) -> float:
        """The minimiser on [0, 1]."""
        return float(np.clip(self.unclipped, 0.0, 1.0))


@dataclass(frozen=True)
class RealisedCurves:
    """What a run of T steps gives as a function of its weight.

    Attributes:
        steps: T.
        average: E of the average |grad f|^2 over the run.
        final_gradient: E|grad f(x_T)|^2.
        final_loss: E f(x_T) - f*.
    """

    steps: int
    average: WeightCurve
    final_gradient: WeightCurve
    final_loss: WeightCurve


def realised_curves(case: Case, *, kappa: float, horizons: Sequence[int]) -> list[RealisedCurves]:
    """Exact curves at a constant step of size kappa/L, for each horizon.

    Raises:
        ValueError: the case is not a quadratic with constant biases, kappa is not in (0, 1], or a horizon is below 1.
    """
    runs = [_run(case, Fixed(weight), kappa, max(horizons)) for weight in (0.0, 0.5, 1.0)]
    return [
        RealisedCurves(
            steps=steps,
            average=WeightCurve.through(*(run.average_gradient_sq(steps) for run in runs)),
            final_gradient=WeightCurve.through(*(float(run.gradient_sq[steps]) for run in runs)),
            final_loss=WeightCurve.through(*(float(run.excess_loss[steps]) for run in runs)),
        )
        for steps in horizons
    ]


def steady_curve(case: Case, *, kappa: float) -> WeightCurve:
    """E|grad f|^2 after infinitely many steps, as a function of the weight."""
    oracle, problem = _quadratic(case)
    values = [
        quadratic_stationary(
            hessian=problem.hessian,
            bias=oracle.bias_of_mix(weight),
            noise_cov=oracle.covariance_of_mix(weight),
            step_size=kappa / problem.smoothness,
        ).gradient_sq
        for weight in (0.0, 0.5, 1.0)
    ]
    return WeightCurve.through(*values)


def best_weights(
    cases: Sequence[Case], *, kappas: Sequence[float], horizons: Sequence[int] = (100, 1000)
) -> pd.DataFrame:
    """The best constant weight against kappa: predicted, and realised by several yardsticks.

    Columns: problem, kappa, steps (0: infinitely many), yardstick, best (in [0, 1]), unclipped, and the predictions
    mse (alpha*), step (alpha_kappa), descent and cosine, clipped to [0, 1]; then what each of them, and 1/2, costs: the
    realised value over the least one, ``cost_<rule>``.

    Example:
        >>> from bvpo_analysis.sgd.cases import standard_cases
        >>> table = best_weights(standard_cases()[:1], kappas=[1.0], horizons=[10])
        >>> steady = table[table.yardstick == "steady gradient"].iloc[0]
        >>> bool(np.isclose(steady.best, steady.step))  # isotropic, kappa = 1: the bound is exact
        True
    """
    rows = []
    for case in cases:
        for kappa in kappas:
            law = _quadratic(case)[0].law(case.start)
            at = np.array([kappa])
            predicted = {name: float(FromStart(name).weights(law, at)[0]) for name in CRITERIA}
            curves: list[tuple[int, str, WeightCurve]] = [(0, "steady gradient", steady_curve(case, kappa=kappa))]
            for found in realised_curves(case, kappa=kappa, horizons=horizons):
                curves += [
                    (found.steps, "average gradient", found.average),
                    (found.steps, "final gradient", found.final_gradient),
                    (found.steps, "final loss", found.final_loss),
                ]
            for steps, yardstick, curve in curves:
                least = float(curve.value(curve.best)) if np.isfinite(curve.best) else float(curve.constant)
                costs = {f"cost_{name}": float(curve.value(weight)) / least for name, weight in predicted.items()}
                rows.append(
                    {"problem": case.name, "kappa": kappa, "steps": steps, "yardstick": yardstick}
                    | {"best": curve.best, "unclipped": curve.unclipped}
                    | predicted
                    | costs
                    | {"cost_half": float(curve.value(0.5)) / least}
                )
    return pd.DataFrame(rows)


def rankings(cases: Sequence[Case], *, kappas: Sequence[float], steps: int = 1000) -> pd.DataFrame:
    """Whether the bound ranks weights as runs do: Spearman's rank correlation over 21 weights in [0, 1].

    Columns: problem, kappa, steps, then the correlation of |b_c|^2 + kappa Var(g_c) (``bound_``) and of the MSE
    (``mse_``) with the realised average |grad f|^2 and final loss. Where a prediction or a run does not tell the
    weights apart the correlation is not a number.
    """
    rows = []
    for case in cases:
        moments = {name: float(value) for name, value in _quadratic(case)[0].law(case.start).moments.items()}
        for kappa in kappas:
            (found,) = realised_curves(case, kappa=kappa, horizons=[steps])
            bound = weighted_error_curve(ALPHAS, **moments, kappa=kappa)
            mse = weighted_error_curve(ALPHAS, **moments, kappa=1.0)
            average, loss = found.average.value(ALPHAS), found.final_loss.value(ALPHAS)
            rows.append(
                {
                    "problem": case.name,
                    "kappa": kappa,
                    "steps": steps,
                    "bound_average": _rank_correlation(bound, average),
                    "bound_final_loss": _rank_correlation(bound, loss),
                    "mse_average": _rank_correlation(mse, average),
                    "mse_final_loss": _rank_correlation(mse, loss),
                }
            )
    return pd.DataFrame(rows)


def winners(cases: Sequence[Case], *, kappas: Sequence[float], steps: int = 1000) -> pd.DataFrame:
    """Which of the fixed weights 0, 1/2 and 1 a run prefers, by average |grad f|^2 and by final loss.

    Columns: problem, kappa, steps, average gradient, final loss (the winning weight).
    """
    fixed = np.array([0.0, 0.5, 1.0])
    rows = []
    for case in cases:
        for kappa in kappas:
            (found,) = realised_curves(case, kappa=kappa, horizons=[steps])
            rows.append(
                {
                    "problem": case.name,
                    "kappa": kappa,
                    "steps": steps,
                    "average gradient": float(fixed[np.argmin(found.average.value(fixed))]),
                    "final loss": float(fixed[np.argmin(found.final_loss.value(fixed))]),
                }
            )
    return pd.DataFrame(rows)


def winning_ranges(table: pd.DataFrame) -> pd.DataFrame:
    """Where each weight wins, from a table of :func:`winners`: one row per run of neighbouring kappas with one winner.

    Columns: problem (and hessian, if the table has it), yardstick, weight, lowest and highest (kappa).

    Example:
        >>> kappas = pd.DataFrame({"kappa": [0.1, 0.5, 1.0], "problem": "p", "steps": 9})
        >>> ranges = winning_ranges(kappas.assign(**{"average gradient": [1, 1, 0.5], "final loss": [1, 1, 1]}))
        >>> ranges[["yardstick", "weight", "lowest", "highest"]].to_numpy().tolist()[:2]
        [['average gradient', 1.0, 0.1, 0.5], ['average gradient', 0.5, 1.0, 1.0]]
    """
    keys = [name for name in ("hessian", "problem") if name in table]
    rows = []
    for group, mine in table.groupby(keys, sort=False):
        mine = mine.sort_values("kappa")
        for yardstick in ("average gradient", "final loss"):
            runs = (mine[yardstick] != mine[yardstick].shift()).cumsum()
            for _, same in mine.groupby(runs):
                rows.append(
                    dict(zip(keys, group, strict=True))
                    | {"yardstick": yardstick, "weight": float(same[yardstick].iloc[0])}
                    | {"lowest": float(same["kappa"].min()), "highest": float(same["kappa"].max())}
                )
    return pd.DataFrame(rows)


def schedules(cases: Sequence[Case], *, kappas: Sequence[float], steps: int = 1000) -> pd.DataFrame:
    """The schedule alpha_t under cosine decay from each peak kappa, against constant weights.

    Columns: problem, kappa (of the peak), steps, rule, first and last weight, average gradient (eta-weighted), final
    gradient and final loss. Rules: "schedule", "mse", "step" (alpha_kappa at the peak), "alpha = 0.5", "alpha = 1", and
    "best constant", the constant weight with the least final loss.
    """
    rows = []
    for case in cases:
        smoothness = case.oracle.problem.smoothness
        for kappa in kappas:
            etas = cosine_step_sizes(kappa / smoothness, steps)[:-1]
            best = best_final_weight(case, etas)
            rules: list[tuple[str, PlannedRule]] = [
                ("schedule", Scheduled()),
                ("mse", FromStart("mse")),
                ("step", FromStart("step")),
                ("alpha = 0.5", Fixed(0.5)),
                ("alpha = 1", Fixed(1.0)),
                ("best constant", Fixed(best)),
            ]
            for name, rule in rules:
                run = _run(case, rule, etas * smoothness, steps)
                rows.append(
                    {
                        "problem": case.name,
                        "kappa": kappa,
                        "steps": steps,
                        "rule": name,
                        "first weight": float(run.weights[0]),
                        "last weight": float(run.weights[-1]),
                        "average gradient": run.average_gradient_sq(steps),
                        "final gradient": float(run.gradient_sq[-1]),
                        "final loss": float(run.excess_loss[-1]),
                    }
                )
    return pd.DataFrame(rows)


def best_final_weight(case: Case, step_sizes: Floats) -> float:
    """The constant weight in [0, 1] with the least E f(x_T) under these step sizes [T]."""
    smoothness = case.oracle.problem.smoothness
    ends = [_run(case, Fixed(weight), step_sizes * smoothness, len(step_sizes)) for weight in (0.0, 0.5, 1.0)]
    return WeightCurve.through(*(float(run.excess_loss[-1]) for run in ends)).best


def steps_to_target(
    cases: Sequence[Case],
    *,
    kappas: Sequence[float],
    shares: Sequence[float] = (0.1,),
    longest: int = 3000,
) -> pd.DataFrame:
    """How many steps each weight needs until E|grad f(x_T)|^2 <= share |grad f(x_0)|^2, and how many too many.

    The step is constant, the best of ``kappas`` for each weight, so that a weight is not punished for a step that does
    not suit it; the target is to be met once. Columns: problem, share, target, rule, weight, kappa (the one used),
    steps (infinite where no step size gets there within ``longest``), times (steps over those of the best weight of a
    grid).

    Raises:
        ValueError: a share is not in (0, 1).
    """
    if not all(0 < share < 1 for share in shares):
        raise ValueError(f"shares must be in (0, 1), got {list(shares)}")
    rows = []
    for case, share in product(cases, shares):
        law = _quadratic(case)[0].law(case.start)
        target = share * float((law.target**2).sum())
        star = float(weighted_optimal_weight(**law.moments, kappa=1.0))
        weights = {"alpha = 0": 0.0, "alpha = 0.5": 0.5, "alpha = 1": 1.0, "mse": float(np.clip(star, 0, 1))}
        found = {name: _fewest_steps(case, weight, target, kappas, longest) for name, weight in weights.items()}
        grid = {float(weight): _fewest_steps(case, float(weight), target, kappas, longest) for weight in ALPHAS[::2]}
        best = min(grid, key=lambda weight: grid[weight][0])
        weights["best of a grid"], found["best of a grid"] = best, grid[best]
        for name, (steps, kappa) in found.items():
            times = steps / grid[best][0] if np.isfinite(grid[best][0]) else float("nan")
            rows.append(
                {"problem": case.name, "share": share, "target": target, "rule": name, "weight": weights[name]}
                | {"kappa": kappa, "steps": steps, "times": times}
            )
    return pd.DataFrame(rows)


def _fewest_steps(
    case: Case, weight: float, target: float, kappas: Sequence[float], longest: int
) -> tuple[float, float]:
    """(steps, kappa) of the step size that reaches the target first; infinite where none does."""
    best = (float("inf"), float("nan"))
    for kappa in sorted(kappas, reverse=True):
        reached = np.flatnonzero(gradient_path(case, weight, kappa=kappa, steps=longest) <= target)
        if reached.size and reached[0] < best[0]:
            best = (float(reached[0]), kappa)
    return best


def gradient_path(case: Case, weight: float, *, kappa: float, steps: int) -> Floats:
    """E|grad f(x_j)|^2 for j = 0 .. steps, in closed form: what :func:`runs.exact_run` iterates to.

    In the eigenbasis, with r = 1 - eta h: h E x_j = r^j (h x_0 + b) - b, and h^2 Var x_j = eta h S (1 - r^{2j}) /
    (2 - eta h) in each coordinate.
    """
    oracle, problem = _quadratic(case)
    h, basis = np.linalg.eigh(problem.hessian)
    shrunk = kappa / problem.smoothness * h
    bias = oracle.bias_of_mix(weight) @ basis
    noise = np.diag(basis.T @ oracle.covariance_of_mix(weight) @ basis)
    power = (1 - shrunk) ** np.arange(steps + 1)[:, None]
    mean = power * (h * (case.start @ basis) + bias) - bias
    spread = shrunk / (2 - shrunk) * noise * (1 - power**2)
    return np.asarray((mean**2 + spread).sum(axis=1))


def _run(case: Case, rule: PlannedRule, kappa: float | Floats, steps: int) -> ExactRun:
    oracle, problem = _quadratic(case)
    return exact_run(oracle, rule, start=case.start, step_size=np.asarray(kappa) / problem.smoothness, steps=steps)


def _quadratic(case: Case) -> tuple[ConstantOracle, Quadratic]:
    problem = case.oracle.problem
    if not isinstance(case.oracle, ConstantOracle) or not isinstance(problem, Quadratic):
        raise ValueError(f"exact curves need a quadratic with constant biases, got {case.name!r}")
    return case.oracle, problem


def _rank_correlation(first: Floats, second: Floats) -> float:
    if np.ptp(first) <= 1e-12 * np.abs(first).max() or np.ptp(second) <= 1e-12 * np.abs(second).max():
        return float("nan")
    # Equal up to rounding is equal: parabolas are symmetric about their minima.
    return float(spearmanr(np.round(first / np.ptp(first), 12), np.round(second / np.ptp(second), 12)).statistic)
