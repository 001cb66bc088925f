"""The optimal weight of every parameter group, as a forest plot."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes

from bvpo_analysis.figures.style import BLUE, INK, MUTED, PAPER, WEIGHT_LIMITS, is_bounded


def plot_groups(rows: Sequence[Mapping[str, Any]], ax: Axes) -> Axes:
    """alpha* with its 95 % interval per parameter group, in the order of the model; the last row is the whole gradient.

    Open markers have an unbounded confidence set; triangles at the edge lie beyond it.

    Args:
        rows: rows with name and alpha (as in ``groups`` of results.json).
        ax: where to draw.
    """
    left, right = WEIGHT_LIMITS
    for weight in (0.0, 0.5, 1.0):
        ax.axvline(weight, color=MUTED, linewidth=0.6, linestyle=":", zorder=0)
    for y, row in enumerate(rows):
        alpha, whole = row["alpha"], row["name"] == "all"
        estimate = alpha["estimate"]
        colour = INK if whole else BLUE
        value, low, high = estimate["value"], estimate["ci_low"], estimate["ci_high"]
        if alpha.get("degenerate") or value is None:
            ax.text(0.5, y, "not determined", ha="center", va="center", fontsize="small", color=INK,
                    bbox={"facecolor": PAPER, "edgecolor": "none", "pad": 1.0})  # fmt: skip
            continue
        bounded = is_bounded(low, high, alpha["confidence_set"])
        ends = (low, high) if bounded else (left, right)
        ax.plot(ends, [y, y], color=colour, linewidth=1.4, linestyle="-" if bounded else ":", gid=row["name"])
        drawn = float(np.clip(value, left, right))
        shape = ("D" if whole else "o") if drawn == value else ("<" if value < left else ">")
        ax.plot([drawn], [y], shape, color=colour, markerfacecolor=colour if bounded else PAPER, clip_on=False)
    if any(row["name"] == "all" for row in rows):
        ax.axhline(len(rows) - 1.5, color=MUTED, linewidth=0.5)
    ax.set_yticks(range(len(rows)), ["whole gradient" if row["name"] == "all" else row["name"] for row in rows])
    ax.set_ylim(len(rows) - 0.5, -0.5)
    ax.set_xlim(left, right)
    ax.set_xticks([0, 0.25, 0.5, 0.75, 1])
    ax.tick_params(axis="y", length=0)
    ax.spines["left"].set_visible(False)
    ax.set_xlabel("optimal weight α*, unclipped")
    return ax
