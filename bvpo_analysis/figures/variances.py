"""Variance of every estimator, split into what traces and what data put into it."""

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import to_rgba
from matplotlib.patches import Patch

from bvpo_analysis.figures.style import BLUE, HATCHES, INK, MUTED, PAPER, RULE, SKY, rows_of, symbols

_STYLES: dict[str, dict[str, Any]] = {
    "data": {"facecolor": to_rgba(BLUE, 0.6), "linewidth": 0.0},
    "traces": {"facecolor": to_rgba(SKY, 0.3), "hatch": HATCHES[0], "edgecolor": INK, "linewidth": 0.0},
    "not split": {"facecolor": RULE, "hatch": HATCHES[1], "edgecolor": MUTED, "linewidth": 0.0},
}


def plot_variances(
    rows: pd.DataFrame | Sequence[Mapping[str, Any]], ax: Axes, *, limit: float = 1.7, legend: bool = True
) -> Axes:
    """Tr Var relative to that of g_t as bars of two parts, with the 95 % interval of the total.

    Where the data do not split it, a bar is grey. Bars that are longer than the axis are cut, and say their length.

    Args:
        rows: rows with label, value, low, high, trace (null where not split); one per estimator.
        ax: where to draw.
        limit: end of the axis.
        legend: whether to add one above the axes.
    """
    data = rows_of(rows)
    ax.axvline(1.0, color=MUTED, linewidth=0.6, linestyle=":", zorder=0)
    for y, row in enumerate(data):
        total, trace = row["value"], row["trace"]
        parts = [("not split", total)] if trace is None else [("data", total - trace), ("traces", trace)]
        left = 0.0
        for name, width in parts:
            ax.barh(y, min(max(width, 0.0), limit - left), left=left, height=0.62, label=name, **_STYLES[name])
            left = min(left + max(width, 0.0), limit)
        if total > limit:
            ax.text(0.5 * limit, y, f"{total:.2g} →", va="center", ha="center", color=INK, fontsize="small",
                    bbox={"facecolor": PAPER, "edgecolor": "none", "pad": 0.8})  # fmt: skip
        else:
            ax.plot([row["low"], min(row["high"], limit)], [y, y], color=INK, linewidth=1.0, gid=row["label"])
    ax.set_yticks(range(len(data)), [symbols(row["label"]) for row in data])
    ax.set_ylim(len(data) - 0.5, -0.5)
    ax.set_xlim(0.0, limit)
    ax.tick_params(axis="y", length=0)
    ax.spines["left"].set_visible(False)
    ax.set_xlabel(symbols("variance / that of g_t"))
    if legend:
        ax.legend(handles=variance_legend(), loc="lower left", bbox_to_anchor=(0.0, 1.0), ncols=3, borderaxespad=0.2)
    return ax


def variance_legend() -> list[Patch]:
    """Handles of the three sorts of bars, for a legend that several panels share."""
    names = {"data": "data", "traces": "traces", "not split": "not split by these data"}
    return [Patch(label=label, **_STYLES[name]) for name, label in names.items()]
