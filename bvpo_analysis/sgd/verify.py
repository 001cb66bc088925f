"""Runs against bounds: one row per problem, rule, step size, horizon and bound, with what was measured and predicted.

zeta and sigma^2 are exact where biases and noise do not depend on the point. Where they do (the reasoning model) they
are maxima over all points that the repetitions visited; the bound "varying" takes those of every repetition and step,
and is compared with the run repetition by repetition. For James-Stein, whose weight depends on the batch, they are
simulated, at the upper end of five standard errors, where bias and noise do not depend on the point, and unknown
elsewhere.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass

import numpy as np
import pandas as pd

from bvpo_analysis.records import Claim, Floats
from bvpo_analysis.sgd.bounds import BOUNDS, CONSTANT, COSINE, DECREASING, Bound, RunFacts
from bvpo_analysis.sgd.cases import Case
from bvpo_analysis.sgd.oracles import ConstantOracle
from bvpo_analysis.sgd.rules import Fixed, FromStart, JamesStein, PlannedRule, Rule, Scheduled
from bvpo_analysis.sgd.runs import ExactRun, SimulatedRun, exact_run, simulate
from bvpo_analysis.theory.step_size import cosine_step_sizes
from bvpo_analysis.theory.strongly_convex import pl_decreasing_steps

KAPPAS = (0.01, 0.1, 0.5, 1.0)
HORIZONS = (10, 100, 1000)
FEWEST_REPETITIONS = 30
"""Below this a standard error says too little for a verdict at five of them."""
ROUNDING = 1e-9
"""Relative allowance of a comparison of two float64 numbers."""


@dataclass(frozen=True)
class BoundCheck:
    """One bound against one run.

    Attributes:
        problem, rule: names.
        scheme: kind of step sizes.
        kappa: eta L of the first step.
        step_size: eta of the first step.
        steps: T.
        bound, quantity: which bound, and on what.
        measured, se: mean over repetitions with its standard error (0 if exact); of a bound that uses what was observed
            of the same repetitions, the standard error is that of the difference between measured and predicted.
        predicted: the bound; nan where it does not apply.
        tightness: predicted / measured, at least 1 where the bound holds; inf where nothing is left to bound.
        holds: measured <= predicted up to five standard errors; None where the bound does not apply.
        reason: why it does not apply; else empty.
        zeta, noise_var: the constants used.
        constants: where they come from: "exact", "maxima along the path", "simulated" or "unknown".
    """

    problem: str
    rule: str
    scheme: str
    kappa: float
    step_size: float
    steps: int
    bound: str
    quantity: str
    measured: float
    se: float
    predicted: float
    tightness: float
    holds: bool | None
    reason: str
    zeta: float
    noise_var: float
    constants: str


def verify(
    cases: Sequence[Case],
    rules: Sequence[Rule],
    *,
    kappas: Sequence[float] = KAPPAS,
    horizons: Sequence[int] = HORIZONS,
    repetitions: int = 200,
    seed: int = 0,
    bounds: Sequence[Bound] = BOUNDS,
) -> list[BoundCheck]:
    """Run every case under every rule and step size, and check every bound at every horizon.

    Besides the constant steps, cosine decay (rules "schedule" and alpha = 1/2, from each kappa, longest horizon) and
    the decreasing steps of PL losses (rules alpha = 1/2 and "mse") are run.

    Raises:
        ValueError: a kappa is not in (0, 1], a horizon is below 1, or there are fewer than 30 repetitions to simulate.

    Example:
        >>> from bvpo_analysis.sgd.cases import standard_cases
        >>> rows = verify(standard_cases()[:1], [Fixed(0.5)], kappas=[1.0], horizons=[10])
        >>> all(row.holds for row in rows if row.holds is not None)
        True
    """
    if any(not 0 < kappa <= 1 for kappa in kappas):
        raise ValueError(f"kappa must be in (0, 1], got {list(kappas)}")
    if not horizons or min(horizons) < 1:
        raise ValueError(f"horizons must be at least 1, got {list(horizons)}")
    longest = max(horizons)
    rows: list[BoundCheck] = []
    for case in cases:
        problem = case.oracle.problem
        for rule in rules:
            shrinkage = _shrinkage_constants(case, rule) if isinstance(rule, JamesStein) else None
            for kappa in kappas:
                etas = np.full(longest, kappa / problem.smoothness)
                rows += _checks(case, rule, CONSTANT, etas, horizons, repetitions, seed, bounds, shrinkage)
        for kappa in kappas:
            for rule in (Fixed(0.5), Scheduled()):
                etas = cosine_step_sizes(kappa / problem.smoothness, longest)[:-1]  # the last one is 0
                rows += _checks(case, rule, COSINE, etas, [longest], repetitions, seed, bounds)
        if problem.pl_constant > 0:
            m, smooth = problem.pl_constant, problem.smoothness
            etas = pl_decreasing_steps(steps=longest, smoothness=smooth, pl_constant=m, offset=2 * smooth / m)
            for rule in (Fixed(0.5), FromStart("mse")):
                rows += _checks(case, rule, DECREASING, etas, horizons, repetitions, seed, bounds)
    return rows


def data_frame(rows: Iterable[BoundCheck]) -> pd.DataFrame:
    """One row per check, with the fields of :class:`BoundCheck` as columns."""
    return pd.DataFrame([asdict(row) for row in rows])


def violations(rows: Iterable[BoundCheck]) -> list[BoundCheck]:
    """The checks whose bound applies and does not hold."""
    return [row for row in rows if row.holds is False]


def summary(rows: Sequence[BoundCheck]) -> pd.DataFrame:
    """Per bound: checks that apply, how many hold, and the tightest, median and loosest ratio predicted / measured.

    Ratios are those of exact expectations where there are any, so that noise does not make a bound look too tight.
    """
    table = []
    for bound in dict.fromkeys(row.bound for row in rows):
        mine = [row for row in rows if row.bound == bound]
        applied = [row for row in mine if row.holds is not None]
        finite = [row for row in applied if np.isfinite(row.tightness)]
        exact = [row for row in finite if row.se == 0]
        ratios = np.array([row.tightness for row in exact or finite])
        table.append(
            {
                "bound": bound,
                "quantity": mine[0].quantity,
                "checked": len(applied),
                "held": sum(bool(row.holds) for row in applied),
                "not applicable": len(mine) - len(applied),
                "tightest": ratios.min() if ratios.size else np.nan,
                "median": np.median(ratios) if ratios.size else np.nan,
                "loosest": ratios.max() if ratios.size else np.nan,
            }
        )
    return pd.DataFrame(table)


def claims(rows: Sequence[BoundCheck]) -> list[Claim]:
    """Per bound, the check that comes closest to breaking it, as a claim."""
    formulas = {bound.name: bound.formula for bound in BOUNDS}
    found = []
    for bound in dict.fromkeys(row.bound for row in rows):
        applied = [row for row in rows if row.bound == bound and row.holds is not None]
        if not applied:
            continue
        worst = max(applied, key=_excess)
        found.append(
            Claim(
                name=f"bound-{bound.replace(', ', '-').replace(' ', '-').lower()}",
                statement=f"E {worst.quantity} <= {formulas[bound]}"
                if bound in formulas
                else f"the bound {bound!r} holds",
                reference="theory.nonconvex, strongly_convex, convex, literature_bounds",
                kind="upper",
                measured=worst.measured,
                predicted=worst.predicted,
                se=worst.se,
                tolerance=ROUNDING * max(abs(worst.predicted), abs(worst.measured)),
                setting=f"{len(applied)} runs; shown: {worst.problem}, {worst.rule}, kappa {worst.kappa:g}, "
                f"{worst.steps} steps",
            )
        )
    return found


def _excess(row: BoundCheck) -> float:
    scale = max(abs(row.predicted), abs(row.measured), np.finfo(float).tiny)
    return (row.measured - row.predicted - 5 * row.se) / scale


def check(facts: RunFacts, bound: Bound, *, problem: str, rule: str, constants: str) -> BoundCheck:
    """One bound against one run."""
    reason = "bias and noise of a weight set by the batch are not known here" if constants == "unknown" else ""
    reason = reason or bound.obstacle(facts)
    measured = se = predicted = tightness = np.nan
    holds = None
    if not reason:
        values = bound.measured(facts)
        decrease = float(facts.decrease.mean())
        bounds = np.asarray(bound.predicted(facts, decrease))
        measured, predicted = float(values.mean()), float(bounds.mean())
        # The bound moves with the decrease that was observed: linearise, and take the difference per repetition.
        moved = max(abs(decrease), facts.initial_gap) * 1e-6
        slope = (float(np.mean(bound.predicted(facts, decrease + moved))) - predicted) / moved if moved > 0 else 0.0
        difference = values - slope * facts.decrease - bounds
        se = float(difference.std(ddof=1) / np.sqrt(len(values))) if len(values) > 1 else 0.0
        tightness = predicted / measured if measured > 0 else np.inf
        holds = bool(measured - predicted <= 5 * se + ROUNDING * max(abs(predicted), abs(measured)))
    return BoundCheck(
        problem=problem,
        rule=rule,
        scheme=facts.scheme,
        kappa=facts.kappa,
        step_size=facts.step_size,
        steps=facts.steps,
        bound=bound.name,
        quantity=bound.quantity,
        measured=measured,
        se=se,
        predicted=predicted,
        tightness=tightness,
        holds=holds,
        reason=reason,
        zeta=facts.zeta,
        noise_var=facts.noise_var,
        constants=constants,
    )


def _checks(
    case: Case,
    rule: Rule,
    scheme: str,
    etas: Floats,
    horizons: Sequence[int],
    repetitions: int,
    seed: int,
    bounds: Sequence[Bound],
    shrinkage: tuple[float, float] | None = None,
) -> Iterator[BoundCheck]:
    run = run_case(case, rule, etas, repetitions=repetitions, seed=seed, horizons=horizons)
    for steps in sorted(set(horizons)):
        facts, constants = facts_of(case, run, scheme, steps, shrinkage=shrinkage)
        for bound in bounds:
            yield check(facts, bound, problem=case.name, rule=rule.name, constants=constants)


def run_case(
    case: Case, rule: Rule, step_sizes: Floats, *, repetitions: int, seed: int, horizons: Sequence[int]
) -> ExactRun | SimulatedRun:
    """The exact run where there is one, else repetitions; step_sizes [T].

    Raises:
        ValueError: fewer than 30 repetitions, or as in :func:`runs.simulate`.
    """
    if isinstance(rule, PlannedRule) and case.is_exact and isinstance(case.oracle, ConstantOracle):
        return exact_run(case.oracle, rule, start=case.start, step_size=step_sizes, steps=len(step_sizes))
    if repetitions < FEWEST_REPETITIONS:
        raise ValueError(f"repetitions must be at least {FEWEST_REPETITIONS} for a verdict, got {repetitions}")
    return simulate(
        case.oracle,
        rule,
        start=case.start,
        step_size=step_sizes,
        steps=len(step_sizes),
        repetitions=repetitions,
        seed=seed,
        horizons=horizons,
    )


def facts_of(
    case: Case,
    run: ExactRun | SimulatedRun,
    scheme: str,
    steps: int,
    *,
    shrinkage: tuple[float, float] | None = None,
) -> tuple[RunFacts, str]:
    """What the bounds need of the first ``steps`` steps of a run, and where zeta and sigma^2 come from.

    Args:
        case: the problem.
        run: of the case.
        scheme: kind of its step sizes.
        steps: T; a horizon of the run, if it was simulated.
        shrinkage: zeta and sigma^2 for a rule whose weight depends on the batch, if they are known.
    """
    problem = case.oracle.problem
    constant = isinstance(case.oracle, ConstantOracle)
    zeta_sq_path = noise_path = None
    if run.bias_sq is None or run.noise_var is None:
        zeta, noise = shrinkage or (np.nan, np.nan)
        constants = "simulated" if shrinkage else "unknown"
    else:
        zeta, noise = float(np.sqrt(run.bias_sq[:steps].max())), float(run.noise_var[:steps].max())
        constants = "exact" if constant else "maxima along the path"
        if not constant or np.ptp(run.weights[:steps]) > 0:
            zeta_sq_path = run.bias_sq[:steps].reshape(steps, -1)
            noise_path = run.noise_var[:steps].reshape(steps, -1)
    if isinstance(run, ExactRun):
        average, excess = np.array([run.average_gradient_sq(steps)]), run.excess_loss[steps : steps + 1]
        distance, iterate = np.sqrt(run.distance_sq[steps : steps + 1]), run.mean_iterate_excess[steps : steps + 1]
        radius = np.sqrt(run.distance_sq[:steps].max())
    else:
        average, excess, distance = run.average_gradient_sq(steps), run.excess_loss[steps], run.distance[steps]
        iterate = run.mean_iterate_excess[run.horizons.index(steps)]
        radius = np.sqrt((run.distance[:steps] ** 2).mean(axis=1).max())
    start = float(np.linalg.norm(case.start - problem.minimiser))
    facts = RunFacts(
        problem=problem,
        scheme=scheme,
        step_sizes=run.step_sizes[:steps],
        initial_gap=float(problem.value(case.start)) - problem.minimum,
        initial_distance=start,
        zeta=zeta,
        noise_var=noise,
        zeta_sq_path=zeta_sq_path,
        noise_path=noise_path,
        average_gradient_sq=average,
        excess_loss=excess,
        distance=distance,
        mean_iterate_excess=iterate,
        radius=max(float(radius), start),  # at least, but for rounding
    )
    return facts, constants


SHRINKAGE_DRAWS = 100_000


def _shrinkage_constants(case: Case, rule: JamesStein) -> tuple[float, float] | None:
    """zeta and sigma^2 of the James-Stein mix, upper ends of 5 SE, where its error does not depend on the point."""
    if not isinstance(case.oracle, ConstantOracle):
        return None
    rng = np.random.default_rng(1)
    points = np.broadcast_to(case.start, (SHRINKAGE_DRAWS, len(case.start)))
    pair = case.oracle.sample(points, rng)
    weight = rule.batch_weights(pair, rule.constant(case.oracle.covariance_t(case.start)))
    error = pair.mix(weight) - case.oracle.problem.gradient(case.start)
    # Relative to one draw, the spread of gradients without noise is exactly 0.
    moved = error - error[0]
    centred = ((moved - moved.mean(axis=0)) ** 2).sum(axis=1)
    zeta = float(np.linalg.norm(error.mean(axis=0)) + 5 * np.sqrt(centred.mean() / SHRINKAGE_DRAWS))
    return zeta, float(centred.mean() + 5 * centred.std() / np.sqrt(SHRINKAGE_DRAWS))
