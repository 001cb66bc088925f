"""Runs as curves: what is measured along the steps beside what the bounds allow, and losses under a schedule."""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from bvpo_analysis.sgd.bounds import BOUNDS, CONSTANT
from bvpo_analysis.sgd.cases import Case
from bvpo_analysis.sgd.consequences import best_final_weight
from bvpo_analysis.sgd.oracles import ConstantOracle
from bvpo_analysis.sgd.rules import Fixed, FromStart, PlannedRule, Scheduled
from bvpo_analysis.sgd.runs import exact_run
from bvpo_analysis.sgd.verify import check, facts_of, run_case
from bvpo_analysis.theory.step_size import cosine_step_sizes

SHOWN_BOUNDS = ("classical", "improved", "sharp")


def with_bounds(
    case: Case, rule: PlannedRule, *, kappa: float, steps: int, repetitions: int = 200, seed: int = 0
) -> pd.DataFrame:
    """The average |grad f|^2 over the first T steps, for about 30 T up to ``steps``, and three bounds on it.

    Columns: problem, rule, kappa, step (T), series ("measured" or a bound), value, se.

    Raises:
        ValueError: as in :func:`runs.simulate`.
    """
    shown = sorted({int(t) for t in np.geomspace(1, steps, 30).round()})
    etas = np.full(steps, kappa / case.oracle.problem.smoothness)
    run = run_case(case, rule, etas, repetitions=repetitions, seed=seed, horizons=shown)
    rows = []
    for t in shown:
        facts, constants = facts_of(case, run, CONSTANT, t)
        checks = [
            check(facts, bound, problem=case.name, rule=rule.name, constants=constants)
            for bound in BOUNDS
            if bound.name in SHOWN_BOUNDS
        ]
        values = facts.average_gradient_sq
        se = float(values.std(ddof=1) / np.sqrt(len(values))) if len(values) > 1 else 0.0
        series = [("measured", float(values.mean()), se)] + [(c.bound, c.predicted, 0.0) for c in checks]
        rows += [
            {"problem": case.name, "rule": rule.name, "kappa": kappa, "step": t}
            | {"series": name, "value": value, "se": error}
            for name, value, error in series
        ]
    return pd.DataFrame(rows)


def under_schedule(cases: Sequence[Case], *, kappa: float, steps: int = 1000) -> pd.DataFrame:
    """Exact E f(x_j) - f* under cosine decay from this kappa: the schedule alpha_t against constant weights.

    Columns: problem, kappa, rule, step, weight, value. About 60 steps of each run.
    """
    shown = sorted({int(t) for t in np.linspace(0, steps, 60).round()})
    rows = []
    for case in cases:
        if not isinstance(case.oracle, ConstantOracle):
            raise ValueError(f"exact curves need constant biases, got {case.name!r}")
        etas = cosine_step_sizes(kappa / case.oracle.problem.smoothness, steps)[:-1]
        rules: list[tuple[str, PlannedRule]] = [
            ("schedule", Scheduled()),
            ("α* throughout", FromStart("mse")),
            ("½ throughout", Fixed(0.5)),
            ("best constant", Fixed(best_final_weight(case, etas))),
        ]
        for name, rule in rules:
            run = exact_run(case.oracle, rule, start=case.start, step_size=etas, steps=steps)
            rows += [
                {"problem": case.name, "kappa": kappa, "rule": name, "step": t}
                | {"weight": float(run.weights[min(t, steps - 1)]), "value": float(run.excess_loss[t])}
                for t in shown
            ]
    return pd.DataFrame(rows)
