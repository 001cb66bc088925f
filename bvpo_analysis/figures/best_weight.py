"""The best mixing weight against kappa: what the bound predicts and what runs prefer."""

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd
from matplotlib.axes import Axes

from bvpo_analysis.figures.style import BLUE, INK, MUTED, SERIES, column, rows_of, symbols


def plot_best_weight(rows: pd.DataFrame | Sequence[Mapping[str, Any]], ax: Axes) -> Axes:
    """The predicted alpha_kappa as a line, alpha* as a level, and the realised best weight per yardstick as markers.

    Args:
        rows: rows with kappa, yardstick, best, step (alpha_kappa), mse (alpha*); of one problem, one row per kappa and
            yardstick.
        ax: where to draw.
    """
    data = sorted(rows_of(rows), key=lambda row: row["kappa"])
    yardsticks = list(dict.fromkeys(str(row["yardstick"]) for row in data))
    line = [row for row in data if row["yardstick"] == yardsticks[0]]
    ax.plot(column(line, "kappa"), column(line, "step"), color=INK, label=r"predicted $\alpha_\kappa$")
    ax.plot(column(line, "kappa"), column(line, "mse"), color=MUTED, linestyle="--", label=r"$\alpha^*$ ($\kappa = 1$)")
    ax.axhline(0.5, color=MUTED, linewidth=0.6, linestyle=":", zorder=0)
    for yardstick, (colour, _, marker) in zip(yardsticks, [(BLUE, "-", "o"), *SERIES[1:]], strict=False):
        mine = [row for row in data if row["yardstick"] == yardstick]
        ax.plot(
            column(mine, "kappa"),
            column(mine, "best"),
            linestyle="none",
            marker=marker,
            markersize=3.5,
            color=colour,
            label=f"best by {yardstick}",
            clip_on=False,
        )
    ax.set_xscale("log")
    ax.set_ylim(-0.03, 1.03)
    ax.set_xlabel("κ = ηL")
    ax.set_ylabel(symbols("weight of g_t"))
    return ax
