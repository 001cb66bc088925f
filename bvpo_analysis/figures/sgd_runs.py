"""Runs of SGD: a measured average below its bounds, and losses of several mixing rules under one step size schedule."""

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd
from matplotlib.axes import Axes

from bvpo_analysis.figures.style import INK, SERIES, column, label_decades, rows_of


def plot_run_bounds(rows: pd.DataFrame | Sequence[Mapping[str, Any]], ax: Axes) -> Axes:
    """The average |grad f|^2 over T steps against T, both logarithmic, with one line per bound above it.

    The measured average is a black line with a band of five standard errors.

    Args:
        rows: rows with step, series ("measured" or the name of a bound), value, se; of one run.
        ax: where to draw.
    """
    data = rows_of(rows)
    names = list(dict.fromkeys(str(row["series"]) for row in data))
    bounds = [name for name in names if name != "measured"]
    for name, (colour, line, _) in zip(bounds, SERIES, strict=False):
        mine = _sorted(data, "series", name)
        ax.plot(column(mine, "step"), column(mine, "value"), color=colour, linestyle=line, label=name)
    mine = _sorted(data, "series", "measured")
    x, y, se = (column(mine, name) for name in ("step", "value", "se"))
    low = [max(value - 5 * error, value / 1e3) for value, error in zip(y, se, strict=True)]
    ax.fill_between(x, low, [v + 5 * e for v, e in zip(y, se, strict=True)], color=INK, alpha=0.15, linewidth=0)
    ax.plot(x, y, color=INK, linewidth=1.8, label="measured")
    ax.set_xscale("log")
    ax.set_yscale("log")
    label_decades(ax)
    ax.set_xlabel("steps T")
    ax.set_ylabel("average of |∇f|² over T steps")
    return ax


def plot_schedule_losses(rows: pd.DataFrame | Sequence[Mapping[str, Any]], ax: Axes) -> Axes:
    """E f - f* along the steps, logarithmic, one line per mixing rule.

    Args:
        rows: rows with step, rule, value; of one problem.
        ax: where to draw.
    """
    data = rows_of(rows)
    rules = list(dict.fromkeys(str(row["rule"]) for row in data))
    for i, rule in enumerate(rules):
        colour, line, _ = SERIES[i % len(SERIES)]
        mine = _sorted(data, "rule", rule)
        ax.plot(column(mine, "step"), column(mine, "value"), color=colour, linestyle=line, label=rule)
    ax.set_yscale("log")
    label_decades(ax)
    ax.set_xlabel("step")
    ax.set_ylabel("E f − f*")
    return ax


def _sorted(data: Sequence[Mapping[str, Any]], name: str, value: str) -> list[Mapping[str, Any]]:
    return sorted((row for row in data if row[name] == value), key=lambda row: row["step"])
