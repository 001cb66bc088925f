"""SGD on the exact marginal loss of the reasoning model in the box: one step at a time against its bound.

The population is a few prompts with all their traces. Along a run of plain SGD with g_c at a fixed weight, every
iterate gives f, grad f, and the exact bias and variance of the batch gradient over the whole law of prompts and traces;
what is random, the loss after the step, is averaged over further draws of the batch from the same point. Checked at
every iterate:

    E f(x+) - f(x) <= -(eta/2)|grad f|^2 - (eta/2)(1 - kappa)|E g_c|^2 + (eta/2)|b_c|^2 + (L eta^2/2) Tr Cov(g_c).

L is a path constant: the largest curvature met along the run, by Lanczos, times 1.2. It is measured, not proved. Where
a run leads into a region so curved that eta L > 1, no bound applies to it, and it is reported as such.
"""

from dataclasses import asdict, dataclass

import numpy as np
import pandas as pd

from bvpo_analysis import theory
from bvpo_analysis.exact import shipped_traces
from bvpo_analysis.lrm.loading import ReasoningModel, load_model
from bvpo_analysis.objectives import DPO, Objective
from bvpo_analysis.preferences.shipped import shipped_pairs
from bvpo_analysis.records import Floats
from bvpo_analysis.sgd.marginal_loss import MarginalLoss, Point, UnitLaw
from bvpo_analysis.sgd.smoothness import largest_curvature, path_constant
from bvpo_analysis.theory.nonconvex import one_step_bound

CURVATURE_TOLERANCE = 0.02
"""Relative accuracy of Lanczos, well inside the margin of the path constant."""
CURVATURE_EVERY = 4
"""Steps between two measurements of the curvature along a run."""
STANDARD_ERRORS = 5.0
"""A measured change may exceed its bound by this many standard errors."""
LEARNING_RATES = (1e-6, 1e-5, 1e-4, 1e-3, 1e-2)
"""Learning rates people use."""
ADAM_EPSILON, ADAM_BATCHES = 1e-8, 64


@dataclass(frozen=True)
class RunSettings:
    """One run.

    Attributes:
        regime: shipped pairs that the prompts come from.
        prompts: how many prompts make up the population.
        batch_size: independent units (prompt and traces) per step.
        steps: T.
        kappa: step size times the curvature at the start. The curvature may grow along the path, so the step must be
            small for eta L <= 1 to hold there as well.
        draws: batches from which the loss after a step is averaged, at least 2.
        seed: of the batches.
        beta: of the DPO loss.

    Raises:
        ValueError: no prompts, steps or units; fewer than two draws; kappa outside (0, 1].
    """

    regime: str = "correct"
    prompts: int = 4
    batch_size: int = 4
    steps: int = 4
    kappa: float = 0.1
    draws: int = 4
    seed: int = 0
    beta: float = 0.1

    def __post_init__(self) -> None:
        for name in ("prompts", "batch_size", "steps"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
        if self.draws < 2:
            raise ValueError(f"draws must be at least 2 for a standard error, got {self.draws}")
        if not 0 < self.kappa <= 1:
            raise ValueError(f"kappa must be in (0, 1], the bounds need eta <= 1/L, got {self.kappa}")


@dataclass(frozen=True)
class Iterate:
    """One iterate, with everything exact but the measured change.

    Attributes:
        rule, alpha: the mixing weight and its name.
        repetition, step: which run, and j.
        value: f(x_j).
        gradient_sq: |grad f(x_j)|^2.
        bias_sq, variance: |b_c|^2 and Tr Cov(g_c) of the batch gradient.
        mean_sq: |E g_c|^2.
        change, change_se: E f(x+) - f(x_j) from further draws, and its standard error.
    """

    rule: str
    alpha: float
    repetition: int
    step: int
    value: float
    gradient_sq: float
    bias_sq: float
    variance: float
    mean_sq: float
    change: float
    change_se: float


def box_loss(settings: RunSettings, lrm: ReasoningModel | None = None) -> MarginalLoss:
    """The marginal DPO loss of the model in the box on the first prompts of a regime."""
    objective: Objective = DPO(settings.beta)
    pairs = shipped_pairs(settings.regime, limit=settings.prompts)
    return MarginalLoss(lrm or load_model(), pairs, objective, shipped_traces)


def curvature(loss: MarginalLoss, theta: Floats, preconditioner: Floats | None = None) -> float:
    """The largest curvature of f at theta, as in :func:`largest_curvature`."""
    return largest_curvature(
        lambda v: loss.hessian_product(theta, v),
        len(theta),
        preconditioner=preconditioner,
        tolerance=CURVATURE_TOLERANCE,
    )


def start_weights(law: UnitLaw, batch_size: int) -> dict[str, float]:
    """The weights compared: g_e alone, the equal mix, g_t alone, and alpha* of a batch at the start, in [0, 1]."""
    best = float(theory.weighted_optimal_weight(**law.moments(batch_size)))
    return {"g_e alone": 0.0, "equal mix": 0.5, "g_t alone": 1.0, "alpha*": float(np.clip(best, 0.0, 1.0))}


@dataclass(frozen=True)
class Run:
    """One run.

    Attributes:
        iterates: x_0 .. x_{T-1}.
        curvatures: largest curvature at the start, after every fourth step, and at the end.
    """

    iterates: tuple[Iterate, ...]
    curvatures: tuple[float, ...]


def run(
    loss: MarginalLoss,
    settings: RunSettings,
    *,
    rule: str,
    alpha: float,
    step_size: float,
    start_curvature: float,
    repetition: int = 0,
) -> Run:
    """One run of SGD; every iterate with its law and its measured change, and the curvature along the way."""
    rng = np.random.default_rng([settings.seed, repetition])
    theta, iterates, curvatures = loss.start, [], [start_curvature]
    for step in range(settings.steps):
        point = loss.at(theta)
        iterates.append(_iterate(loss, theta, point, settings, rule, alpha, step_size, repetition, step))
        theta = theta - step_size * point.draw(rng, alpha, settings.batch_size)
        if (step + 1) % CURVATURE_EVERY == 0 or step + 1 == settings.steps:
            curvatures.append(curvature(loss, theta))
    return Run(tuple(iterates), tuple(curvatures))


def _iterate(
    loss: MarginalLoss,
    theta: Floats,
    point: Point,
    settings: RunSettings,
    rule: str,
    alpha: float,
    step_size: float,
    repetition: int,
    step: int,
) -> Iterate:
    law = point.law()
    mean = law.mean(alpha)
    # Draws of their own: those of the run itself must not be averaged over twice.
    rng = np.random.default_rng([settings.seed, repetition, step, 1])
    before = loss.value(theta)
    changes = [
        loss.value(theta - step_size * point.draw(rng, alpha, settings.batch_size)) - before
        for _ in range(settings.draws)
    ]
    return Iterate(
        rule=rule,
        alpha=alpha,
        repetition=repetition,
        step=step,
        value=point.value,
        gradient_sq=float(law.gradient @ law.gradient),
        bias_sq=float(((mean - law.gradient) ** 2).sum()),
        variance=law.variance(alpha, settings.batch_size),
        mean_sq=float(mean @ mean),
        change=float(np.mean(changes)),
        change_se=float(np.std(changes, ddof=1) / np.sqrt(settings.draws)),
    )


def against_bounds(run: Run, *, step_size: float) -> pd.DataFrame:
    """The iterates of a run with the bound of each step, whether it held, and how much of it was used.

    Returns:
        One row per iterate with ``smoothness`` (the path constant), ``kappa``, ``applies`` (kappa <= 1), ``bound`` (on
        the change of f; nan where none applies), ``holds`` (within five standard errors, or no bound applies) and
        ``slack`` (bound minus change, relative to (eta/2)|grad f|^2).
    """
    table = pd.DataFrame([asdict(iterate) for iterate in run.iterates])
    smoothness = path_constant(list(run.curvatures))
    kappa = step_size * smoothness
    table = table.assign(step_size=step_size, smoothness=smoothness, kappa=kappa, applies=kappa <= 1, bound=np.nan)
    if kappa <= 1:
        table["bound"] = one_step_bound(
            gradient_sq=table["gradient_sq"],
            step_size=step_size,
            smoothness=smoothness,
            bias_bound=np.sqrt(table["bias_sq"]),
            noise_var=table["variance"],
            mean_step_sq=table["mean_sq"],
        )
    excess = table["change"] - table["bound"]
    table["holds"] = ~(excess > STANDARD_ERRORS * table["change_se"])
    table["slack"] = -excess / (step_size / 2 * table["gradient_sq"])
    return table


def step_size_table(loss: MarginalLoss, *, batch_size: int, seed: int = 0) -> pd.DataFrame:
    """kappa = eta L at the start for the learning rates people use: SGD, and Adam in its own metric.

    Adam's step is x - eta P g with P = 1 / (sqrt(v) + eps); v is the second moment of the equal mix over 64 batches. In
    that metric L is the largest curvature of P^(1/2) H P^(1/2).

    Returns:
        Columns learning_rate, optimiser, smoothness, kappa.
    """
    point, rng = loss.at(loss.start), np.random.default_rng(seed)
    second = np.mean([point.draw(rng, 0.5, batch_size) ** 2 for _ in range(ADAM_BATCHES)], axis=0)
    preconditioner = 1 / (np.sqrt(second) + ADAM_EPSILON)
    constants = {"SGD": curvature(loss, loss.start), "Adam": curvature(loss, loss.start, preconditioner)}
    rows = [
        {"learning_rate": rate, "optimiser": name, "smoothness": constant, "kappa": rate * constant}
        for name, constant in constants.items()
        for rate in LEARNING_RATES
    ]
    return pd.DataFrame(rows)


def verify_language_model(settings: RunSettings, *, repetitions: int = 1) -> pd.DataFrame:
    """All four weights on one regime, each run with its path constant; one row per iterate."""
    loss = box_loss(settings)
    at_start = curvature(loss, loss.start)
    step_size = settings.kappa / at_start
    weights = start_weights(loss.at(loss.start).law(), settings.batch_size)
    runs = [
        run(loss, settings, rule=rule, alpha=a, step_size=step_size, start_curvature=at_start, repetition=repetition)
        for rule, a in weights.items()
        for repetition in range(repetitions)
    ]
    table = pd.concat([against_bounds(one, step_size=step_size) for one in runs], ignore_index=True)
    return table.assign(regime=settings.regime, prompts=settings.prompts, batch_size=settings.batch_size)
