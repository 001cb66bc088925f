"""Rows of the study's tables: names of an arm, and an estimate as three columns."""

from collections.abc import Sequence
from typing import Any

from bvpo_analysis.records import Estimate
from bvpo_analysis.training_study.summaries import BASELINE, ArmRuns

Row = dict[str, Any]


def with_baseline(arms: Sequence[ArmRuns]) -> list[tuple[ArmRuns, ArmRuns | None]]:
    """Every arm that has runs, beside the baseline of its regime."""
    base = {arm.regime: arm for arm in arms if arm.name == BASELINE and arm.runs}
    return [(arm, base.get(arm.regime)) for arm in arms if arm.runs]


def arm_columns(arm: ArmRuns) -> Row:
    """What a row belongs to."""
    return {"regime": arm.regime, "arm": arm.name, "group": arm.group, "seeds": len(arm.runs)}


def estimate_columns(name: str, found: Estimate | None) -> Row:
    """Columns NAME, NAME_low and NAME_high; empty where there is no number, or no interval.

    Example:
        >>> estimate_columns("x", None)
        {'x': None, 'x_low': None, 'x_high': None}
    """
    if found is None:
        return {name: None, f"{name}_low": None, f"{name}_high": None}
    return {name: found.value, f"{name}_low": found.ci_low, f"{name}_high": found.ci_high}
