"""What a budget of tokens buys: more prompts, more traces per prompt, or a mix with the empty trace."""

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.ticker import FixedLocator, NullLocator

from bvpo_analysis.figures.style import INK, SERIES, column, rows_of, symbols

_X, _Y = (1, 2, 4, 8, 16, 32), (0.25, 0.5, 1, 2, 4, 8, 16)


def plot_equal_budget(rows: pd.DataFrame | Sequence[Mapping[str, Any]], ax: Axes) -> Axes:
    """MSE against that of g_t with more prompts at the same tokens; below 1, the money is better spent this way.

    Both axes are logarithmic; bars are 95 % intervals. The first series is the level 1.

    Args:
        rows: rows with series, tokens (relative to the baseline), relative, low, high (null where not determined).
        ax: where to draw.
    """
    data = [row for row in rows_of(rows) if row["relative"] is not None]
    first, *names = dict.fromkeys(str(row["series"]) for row in data)
    ax.axhline(1.0, color=INK, linewidth=1.0, label=symbols(first))
    for name, (colour, line, marker) in zip(names, SERIES, strict=False):
        mine = sorted((row for row in data if row["series"] == name), key=lambda row: row["tokens"])
        x = column(mine, "tokens")
        ax.plot(
            x,
            column(mine, "relative"),
            color=colour,
            linestyle=line,
            marker=marker,
            markersize=3.5,
            label=symbols(name),
            gid=name,
        )
        ax.vlines(x, column(mine, "low"), column(mine, "high"), color=colour, linewidth=0.8, alpha=0.7)
    ax.set_xscale("log", base=2)
    ax.set_yscale("log", base=2)
    ax.xaxis.set_major_locator(FixedLocator(_X))
    ax.yaxis.set_major_locator(FixedLocator(_Y))
    ax.xaxis.set_major_formatter("{x:g}")
    ax.yaxis.set_major_formatter("{x:g}")
    ax.xaxis.set_minor_locator(NullLocator())
    ax.yaxis.set_minor_locator(NullLocator())
    ax.set_xlabel("tokens per step (relative)")
    ax.set_ylabel(symbols("MSE / MSE of g_t, same tokens"))
    return ax
