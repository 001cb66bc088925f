"""Variances of log-probabilities and of lengths, with thinking and without, by what varies."""

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.ticker import NullLocator

from bvpo_analysis.figures.style import BLUE, INK, PAPER, PURPLE, SKY, rows_of

PARTS = {"traces": (SKY, "s"), "answers": (PURPLE, "^"), "prompts": (BLUE, "o"), "total": (INK, "D")}
_SHIFTS = {"traces": -0.27, "answers": -0.09, "prompts": 0.09, "total": 0.27}


def plot_log_variances(
    rows: pd.DataFrame | Sequence[Mapping[str, Any]], ax: Axes, *, limits: tuple[float, float] = (0.0, 1.0)
) -> Axes:
    """Variance parts as points with 95 % intervals, one group per mode.

    The axis is logarithmic if it starts above 0. Values at or below its start are open markers there, and ends of
    intervals beyond it are cut.

    Args:
        rows: rows with mode, part ("traces", "answers", "prompts", "total"), value, low, high; of one quantity.
        ax: where to draw.
        limits: ends of the axis.
    """
    data = rows_of(rows)
    modes = list(dict.fromkeys(str(row["mode"]) for row in data))
    left, right = limits
    for row in data:
        colour, marker = PARTS[row["part"]]
        y = modes.index(row["mode"]) + _SHIFTS[row["part"]]
        shown = row["value"] > left
        if row["high"] > left:
            ax.plot([max(row["low"], left), min(row["high"], right)], [y, y], color=colour, linewidth=1.0)
        ax.plot(
            [max(row["value"], left)],
            [y],
            marker,
            color=colour,
            markersize=4.0,
            markerfacecolor=colour if shown else PAPER,
            clip_on=False,
            zorder=4,
            gid=f"{row['mode']} {row['part']}",
        )
    for part, (colour, marker) in PARTS.items():
        ax.plot([], [], marker, color=colour, markersize=4.0, linestyle="none", label=part)
    if left > 0:
        ax.set_xscale("log")
        ax.xaxis.set_minor_locator(NullLocator())
    ax.set_xlim(left, right)
    ax.set_yticks(range(len(modes)), modes)
    ax.set_ylim(len(modes) - 0.5, -0.5)
    ax.tick_params(axis="y", length=0)
    ax.spines["left"].set_visible(False)
    return ax
