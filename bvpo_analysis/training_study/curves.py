"""Held-out loss along training: against steps, against tokens, and the steps until it is at a fixed level."""

from collections.abc import Sequence
from functools import partial

import numpy as np

from bvpo_analysis.moments import leave_one_out_mean
from bvpo_analysis.records import Estimate, Floats
from bvpo_analysis.training_study.rows import Row, arm_columns, estimate_columns, with_baseline
from bvpo_analysis.training_study.summaries import ArmRuns, Result, crossed, difference

LOSSES = ("marginal_loss", "trace_loss", "empty_loss")
LEVEL_STEP = 30
"""The loss to be reached is that of the baseline at this step."""


def curves(arms: Sequence[ArmRuns]) -> list[Row]:
    """One row per arm and measured step; ``tokens`` is what training has read by then."""
    rows = []
    for arm in arms:
        if arm.group == "pilot" or not arm.runs:
            continue
        steps = sorted(set.intersection(*({point["step"] for point in run["curve"]} for run in arm.runs.values())))
        for step in steps:
            row = arm_columns(arm) | {"step": step}
            row["tokens"] = float(np.mean([tokens_by(run, step) for run in arm.runs.values()]))
            for name in LOSSES:
                row |= estimate_columns(name, arm.measured(partial(losses_after, step, name)))
            rows.append(row)
    return rows


def equal_tokens(arms: Sequence[ArmRuns]) -> list[Row]:
    """One row per arm: held-out marginal loss at equal data, and at the tokens that DPO has read at its end.

    Read off the same runs, linear between two measurements, so that an arm with dearer steps is seen before its
    learning rate has come down; an arm that never reads so much is taken at its end. Arms that stop early are left out:
    they do not see equal data.
    """
    rows = []
    for arm, base in with_baseline(arms):
        if base is None or arm.group in ("pilot", "stopping"):
            continue
        budget = float(np.mean([tokens_by(run, len(run["log"])) for run in base.runs.values()]))
        row = arm_columns(arm) | {"budget": budget}
        row["tokens"] = float(np.mean([tokens_by(run, len(run["log"])) for run in arm.runs.values()]))
        row |= estimate_columns("equal_data", arm.measured(lambda run: np.asarray(run["curve"][-1]["marginal_loss"])))
        at_budget = partial(losses_at, budget)
        row |= estimate_columns("equal_tokens", arm.measured(at_budget))
        rows.append(row | estimate_columns("minus_dpo", difference(arm, base, at_budget)))
    return rows


def tokens_by(run: Result, step: int) -> float:
    """Tokens that training has read before a step."""
    return float(sum(entry["tokens"] for entry in run["log"] if entry["step"] < step))


def losses_after(step: int, name: str, run: Result) -> Floats:
    """A loss of every held-out pair after so many steps, [n]."""
    return np.asarray(next(point[name] for point in run["curve"] if point["step"] == step))


def losses_at(tokens: float, run: Result) -> Floats:
    """Held-out marginal loss of every pair when training has read so many tokens, [n].

    Example:
        >>> curve = [{"step": 0, "marginal_loss": [0.7, 0.8]}, {"step": 2, "marginal_loss": [0.5, 0.4]}]
        >>> run = {"log": [{"step": s, "tokens": 10} for s in range(2)], "curve": curve}
        >>> losses_at(5, run).round(9), losses_at(100, run)
        (array([0.65, 0.7 ]), array([0.5, 0.4]))
    """
    spent = [tokens_by(run, point["step"]) for point in run["curve"]]
    losses = np.array([point["marginal_loss"] for point in run["curve"]])
    return np.array([np.interp(tokens, spent, column) for column in losses.T])


def level_of(arm: ArmRuns) -> Floats | None:
    """The held-out marginal loss of an arm at :data:`LEVEL_STEP`, mean over seeds, [n + 1] as in :func:`mean_curve`."""
    found = [curve[LEVEL_STEP] for run in arm.runs.values() if LEVEL_STEP in (curve := mean_curve(run))]
    return np.mean(found, axis=0) if found else None


def mean_curve(run: Result) -> dict[int, Floats]:
    """Mean held-out marginal loss by step, [n + 1] each: of all pairs, then without each."""
    return {point["step"]: leave_one_out_mean(np.asarray(point["marginal_loss"])) for point in run["curve"]}


def steps_to(arm: ArmRuns, level: Floats) -> tuple[Estimate | None, int]:
    """(steps until the held-out loss is at a level, over the runs that reach it; how many do).

    Without an interval where a run reaches it with all pairs but not without one of them.
    """
    rows = []
    for run in arm.runs.values():
        curve = mean_curve(run)
        steps = [reached({s: float(v[k]) for s, v in curve.items()}, float(goal)) for k, goal in enumerate(level)]
        if steps[0] is not None:
            rows.append(np.array([np.nan if step is None else step for step in steps]))
    if not rows:
        return None, 0
    if not np.isfinite(rows).all():
        return Estimate.without_interval(float(np.mean([row[0] for row in rows])), len(rows)), len(rows)
    return crossed(lambda steps: steps, rows), len(rows)


def reached(curve: dict[int, float], level: float) -> float | None:
    """Steps until a loss is at or below a level, linear between two measurements; None if never.

    Example:
        >>> round(reached({0: 0.7, 10: 0.6}, 0.65), 9), reached({0: 0.7, 10: 0.6}, 0.5)
        (5.0, None)
    """
    before: tuple[int, float] | None = None
    for step, loss in sorted(curve.items()):
        if loss <= level:
            if before is None:
                return float(step)
            return before[0] + (before[1] - level) / (before[1] - loss) * (step - before[0])
        before = step, loss
    return None
