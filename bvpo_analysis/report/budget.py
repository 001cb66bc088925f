"""Sections on what estimators cost, what the same budget buys of each, and the best plan for one optimiser step."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from bvpo_analysis.cost import Cost, Measure
from bvpo_analysis.equal_budget import EqualBudgetRow
from bvpo_analysis.moments import jackknife_estimate
from bvpo_analysis.planner import Plan, PlanResult
from bvpo_analysis.records import Estimate
from bvpo_analysis.report.sections import Kind, Section, table

UNITS: Mapping[Measure, str] = {
    "tokens": "tokens through the model",
    "flops": "operations of the passes",
    "sampled_tokens": "tokens generated",
    "total_flops": "operations of passes and generation",
}
"""The units of a budget in words."""
TRACE_COUNTS = (2, 4, 8)
"""Traces per answer whose mean is priced beside one trace."""


def cost_section(costs: Mapping[str, Cost], *, labels: Mapping[str, str] | None = None) -> Section:
    """What one realisation of each estimator costs, mean over prompts.

    Args:
        costs: mean cost (see :func:`bvpo_analysis.cost.mean_cost`) by estimator.
        labels: names for the table; the keys when not given.
    """
    named = labels or {}
    rows = [
        (
            named.get(key, key),
            *(_counted(cost, name) for name in _COUNTED),
            _operations(cost),
        )
        for key, cost in costs.items()
    ]
    columns: list[tuple[str, Kind]] = [("estimator", "words"), *((label, "estimate") for label in _COUNTED.values())]
    return Section(
        anchor="cost",
        folded=True,
        title="What every estimator costs",
        short="Cost",
        text=(
            "One realisation on one prompt. Generated: sequences that the model must sample. Read: sequences of which "
            "only log-probabilities are needed. Back-propagated: sequences with a coefficient, one forward and one "
            "backward pass each. Tokens are those of whole sequences, prompt included, except for generated ones.",
        ),
        tables=(table("costs of estimators", [*columns, ("operations of the passes", "estimate")], rows),),
        notes=(
            "A further posterior trace of a given answer counts as one completion. By plain sampling it takes as many "
            "completions as it takes until the same answer comes out again, so what is generated is a lower bound for "
            "every estimator with several posterior traces.",
        ),
    )


def step_cost_section(trace: Cost, empty: Cost, batch_size: float) -> Section:
    """What one optimiser step passes through the model: g_t, means of K traces, g_e and the mix.

    Args:
        trace, empty: mean cost of one prompt with one trace per answer, and with empty traces.
        batch_size: prompts of a step.
    """
    cases = [
        ("g_t, one trace", trace),
        *((f"g_t, mean of {k} traces", k * trace) for k in TRACE_COUNTS),
        ("g_e, empty trace", empty),
        ("g_c, any weight", trace + empty),
    ]
    operations = not np.isnan(np.asarray(trace.flops_backward, dtype=np.float64)).any()
    columns: list[tuple[str, Kind]] = [
        ("one step of", "words"),
        ("sequences", "estimate"),
        ("tokens", "estimate"),
        ("tokens over those of g_t", "estimate"),
    ]
    if operations:
        columns += [("operations", "estimate"), ("operations over those of g_t", "estimate")]
    rows = []
    for name, cost in cases:
        row = [name, _times(batch_size, cost.sequences), _times(batch_size, cost.of("tokens"))]
        row.append(_ratio(cost, trace, "tokens"))
        if operations:
            row += [_times(batch_size, cost.of("flops")), _ratio(cost, trace, "flops")]
        rows.append(row)
    return Section(
        anchor="step-cost",
        title="What a step costs",
        short="Step",
        text=(
            f"One optimiser step on {batch_size:g} prompts: sequences with one forward and one backward pass each, and "
            "their tokens, prompt included. Empty traces are shorter, so they cost fewer tokens than they cost "
            "sequences. The time of a step follows its operations, and its memory the longest sequence, which is that "
            "of g_t either way.",
        ),
        tables=(table("cost of a step", columns, rows),),
    )


def equal_budget_section(
    rows: Sequence[EqualBudgetRow],
    *,
    batch_size: float,
    measure: Measure = "tokens",
    anchor: str = "equal-budget",
    title: str = "Error at equal budget",
) -> Section:
    """Errors at the batch sizes that cost as much as ``batch_size`` prompts of the first row.

    Args:
        rows: of :func:`bvpo_analysis.equal_budget.compare_at_equal_budget`, the baseline first.
        batch_size: B of the baseline.
        measure: the unit of the budget.
        anchor, title: of the section.

    Raises:
        ValueError: no rows.
    """
    if not rows:
        raise ValueError("no rows to compare")
    known = [i for i, row in enumerate(rows) if row.relative is not None]
    best = min(known, key=lambda i: _value(rows[i]), default=None)
    body: list[tuple[Any, ...]] = [
        (row.label, _weights_text(row.weights), row.cost, row.batch_size, row.error, row.relative, row.note)
        for row in rows
    ]
    columns: list[tuple[str, Kind]] = [
        ("estimator", "words"),
        ("weights", "words"),
        ("cost per prompt", "estimate"),
        ("prompts for the same budget", "estimate"),
        ("error", "estimate"),
        ("error / first row", "estimate"),
    ]
    if any(row.note for row in rows):
        columns.append(("note", "words"))
    else:
        body = [row[:-1] for row in body]
    return Section(
        anchor=anchor,
        title=title,
        short="Equal budget",
        text=(
            f"Every estimator gets the budget of {batch_size:g} prompts of {rows[0].label}, counted in "
            f"{UNITS[measure]}. A cheaper estimator averages more prompts, a dearer one fewer; the number of prompts "
            "is taken as a real number here. Variance falls with the number of prompts, bias does not. Optimal weights "
            "are those of each batch size.",
        ),
        tables=(table(f"error at equal budget in {UNITS[measure]}", columns, body, best),),
    )


def plan_section(result: PlanResult, *, measure: Measure = "tokens", shown: int = 8) -> Section:
    """The best plan for one optimiser step beside the plan in use, and the plans that cannot be told from it.

    Args:
        result: of :func:`bvpo_analysis.planner.plan`.
        measure: the unit of the budget.
        shown: how many of the plans considered to list.
    """
    error = result.criterion == "mse"
    value = "error" if error else "expected decrease that is guaranteed, times L"
    plans: list[tuple[str, Plan, Estimate | None, Estimate | None]] = [("best", result.best, result.value, result.cost)]
    if result.present is not None:
        plans.append(("present", result.present, result.present_value, result.present_cost))
    columns: list[tuple[str, Kind]] = [
        ("plan", "words"),
        *_PLAN_COLUMNS,
        (value, "estimate"),
        (f"cost in {UNITS[measure]}", "estimate"),
    ]
    tables = [table("the best plan and the present one", columns, [(n, *_plan(p), v, c) for n, p, v, c in plans], 0)]
    considered = [
        (*_plan(row.plan), row.value, row.loss, row.wins, row.tied and i > 0)
        for i, row in enumerate(result.considered[:shown])
    ]
    tables.append(
        table(
            "plans considered, the best first",
            [
                *_PLAN_COLUMNS,
                (value, "estimate"),
                ("falls short of the best by", "estimate"),
                ("best in this share of draws of the estimates", "number"),
                ("not told from the best", "yes"),
            ],
            considered,
            0,
        )
    )
    if result.clear:
        ranking = "No other plan is within its sampling error."
    else:
        count = len(result.near_ties)
        others = f"{count} other plans are" if count > 1 else "One other plan is"
        ranking = f"{others} within sampling error of it; choose among them by convenience."
    gain: tuple[str, ...] = ()
    if result.present is not None and result.ratio is None:
        gain = ("The data do not determine the ratio to the present plan.",)
    if result.ratio is not None:
        what = "Its error" if error else "Its decrease"
        gain = (f"{what} is {result.ratio} times that of the present plan.",)
    goal = "least error" if error else "largest decrease that the descent lemma guarantees"
    return Section(
        anchor="plan",
        title="Best use of the budget",
        short="Plan",
        text=(
            f"One optimiser step may cost {result.budget:.4g} {UNITS[measure]}. Among all whole numbers of prompts and "
            f"traces, with or without empty traces, the plan with the {goal} at kappa = {result.kappa:g} is "
            f"{result.best}. {ranking}",
            *gain,
        ),
        tables=tuple(tables),
        notes=(
            *result.notes,
            "The best of several estimates looks better than it is. kappa belongs to the step size and is the same for "
            "all plans; a rule that scales the step with the batch needs a kappa for each batch size.",
        ),
    )


_COUNTED = {
    "sequences_sampled": "sequences generated",
    "tokens_sampled": "tokens generated",
    "sequences_read": "sequences read",
    "tokens_read": "tokens read",
    "sequences_backward": "sequences back-propagated",
    "tokens_backward": "tokens back-propagated",
}
_PLAN_COLUMNS: list[tuple[str, Kind]] = [("prompts B", "number"), ("traces K", "number"), ("weight of g_t", "number")]


def _times(batch_size: float, cost: ArrayLike) -> Estimate:
    return jackknife_estimate(np.atleast_1d(batch_size * np.asarray(cost, dtype=np.float64)))


def _ratio(cost: Cost, other: Cost, measure: Measure) -> Estimate:
    return jackknife_estimate(np.atleast_1d(cost.of(measure) / other.of(measure)))


def _counted(cost: Cost, name: str) -> Estimate:
    return jackknife_estimate(np.atleast_1d(np.asarray(getattr(cost, name), dtype=np.float64)))


def _operations(cost: Cost) -> Estimate | None:
    """None where the architecture is not known."""
    return None if np.isnan(cost.flops_backward).any() else jackknife_estimate(np.atleast_1d(cost.of("flops")))


def _value(row: EqualBudgetRow) -> float:
    return np.inf if row.relative is None else row.relative.value


def _plan(plan: Plan) -> tuple[int, int, float]:
    return plan.batch_size, plan.traces, plan.alpha


def _weights_text(weights: Sequence[float]) -> str:
    return " : ".join(f"{w:.2f}" for w in weights) if len(weights) > 1 else ""
