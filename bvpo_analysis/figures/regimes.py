"""Several data sets side by side: rows of numbers with intervals, one marker per data set."""

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd
from matplotlib.axes import Axes

from bvpo_analysis.figures.style import INK, PAPER, SERIES, rows_of, symbols


def plot_side_by_side(rows: pd.DataFrame | Sequence[Mapping[str, Any]], ax: Axes, *, label: str) -> Axes:
    """One line of the figure per row label, one marker per series, 95 % intervals; circles are without trace noise.

    Args:
        rows: rows with row (its label), series, value, low, high (null where unbounded) and exact, the value
            on the same prompts with all traces (null where unknown).
        ax: where to draw.
        label: of the axis.
    """
    data = rows_of(rows)
    lines = list(dict.fromkeys(str(row["row"]) for row in data))
    series = list(dict.fromkeys(str(row["series"]) for row in data))
    left, right = 0.0, max(1.0, *(row["value"] for row in data))
    for row in data:
        i = series.index(row["series"])
        colour, _, marker = SERIES[i % len(SERIES)]
        y = lines.index(row["row"]) + 0.22 * (i - (len(series) - 1) / 2)
        low, high = (end if row[key] is None else row[key] for key, end in (("low", left), ("high", right)))
        bounded = row["low"] is not None and row["high"] is not None
        ax.plot([low, high], [y, y], color=colour, linewidth=1.2, linestyle="-" if bounded else ":",
                gid=f"{row['row']} {row['series']}")  # fmt: skip
        ax.plot([row["value"]], [y], marker, color=colour, markersize=4.0, zorder=3)
        if row.get("exact") is not None:
            ax.plot([row["exact"]], [y], "o", color=INK, markerfacecolor="none", markersize=6.5, markeredgewidth=0.7,
                    zorder=4)  # fmt: skip
    for i, name in enumerate(series):
        colour, _, marker = SERIES[i % len(SERIES)]
        ax.plot([], [], marker, linestyle="-", color=colour, markersize=4.0, label=name)
    if any(row.get("exact") is not None for row in data):
        ax.plot([], [], "o", linestyle="none", color=INK, markerfacecolor=PAPER, markersize=6.5, markeredgewidth=0.7,
                label="same prompts, all traces")  # fmt: skip
    ax.set_yticks(range(len(lines)), [symbols(line) for line in lines])
    ax.set_ylim(len(lines) - 0.5, -0.5)
    ax.tick_params(axis="y", length=0)
    ax.spines["left"].set_visible(False)
    ax.grid(axis="x", linewidth=0.4, alpha=0.5)
    ax.set_xlabel(symbols(label))
    return ax
