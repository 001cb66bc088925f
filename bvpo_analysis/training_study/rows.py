"""Rows of the study's tables: names of an arm, and an estimate as three columns."""

from collections.abc import Sequence
from typing import Any

from bvpo_analysis.records import Estimate
from bvpo_analysis.training_study.summaries import BASELINE, ArmRuns

Row = dict[str, Any]


def with_baseline(arms: Sequence[ArmRuns]) -> list[tuple[ArmRuns, ArmRuns | None]]:
    """Every arm that has runs, beside its baseline: g_t alone in the same regime, trained in the same way."""
    named = {(arm.regime, arm.name): arm for arm in arms if arm.runs}
    return [(arm, named.get((arm.regime, baseline_name(arm.name)))) for arm in arms if arm.runs]


def baseline_name(name: str) -> str:
    """The arm that another is compared with.

    Example:
        >>> [baseline_name(name) for name in ("alpha=0.5", "4 traces", "rate x 3, alpha=0.5", "adamw, alpha=cosine")]
        ['alpha=1', 'alpha=1', 'rate x 3, alpha=1', 'adamw, alpha=1']
    """
    prefix, comma, _ = name.rpartition(", alpha=")
    return f"{prefix}, {BASELINE}" if comma else BASELINE


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
