"""Every estimator's MSE relative to the trace-based gradient, as a dot plot."""

from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.axes import Axes

from bvpo_analysis.figures.style import BLUE, GREEN, INK, MUTED, VERMILLION, symbols

_FAMILY = {"g_t": (BLUE, "o"), "g_e": (VERMILLION, "s"), "g_c": (GREEN, "D")}


def plot_estimators(rows: Sequence[Mapping[str, Any]], ax: Axes) -> Axes:
    """Relative MSE with its 95 % interval, one row per estimator, with the sequences it needs per pair.

    The axis is logarithmic when all intervals are positive and the values differ by more than a factor of twenty.

    Args:
        rows: rows with name, sequences and relative (an estimate).
        ax: where to draw.
    """
    ax.axvline(1.0, color=MUTED, linewidth=0.6, linestyle=":", zorder=0)
    for y, row in enumerate(rows):
        relative = row["relative"]
        if relative is None or relative["value"] is None:
            continue
        colour, marker = _FAMILY.get(row["name"][:3], (INK, "o"))
        low, high = relative["ci_low"], relative["ci_high"]
        if low is not None and high is not None:
            ax.plot([low, high], [y, y], color=colour, linewidth=1.4, gid=row["name"])
        ax.plot([relative["value"]], [y], marker, color=colour)
    shown = [row["relative"] for row in rows if row["relative"] is not None and row["relative"]["value"] is not None]
    ends = [r[key] for r in shown for key in ("value", "ci_low", "ci_high") if r[key] is not None]
    if ends and min(ends) > 0 and max(ends) > 20 * min(ends):
        ax.set_xscale("log")
    elif ends:
        ax.set_xlim(min(0.0, min(ends)) - 0.03 * max(ends), 1.04 * max(ends))
        if min(ends) < 0:
            ax.axvline(0.0, color=MUTED, linewidth=0.6)
    labels = [f"{symbols(row['name'])}  ({row['sequences']})" for row in rows]
    ax.set_yticks(range(len(rows)), labels)
    ax.set_ylim(len(rows) - 0.5, -0.5)
    ax.tick_params(axis="y", length=0)
    ax.spines["left"].set_visible(False)
    ax.set_xlabel(symbols("MSE relative to g_t with one trace"))
    return ax
