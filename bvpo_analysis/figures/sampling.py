"""How estimates of the optimal weight scatter around the truth, and how often their intervals hold it."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.ticker import NullLocator

from bvpo_analysis.figures.style import INK, MUTED, SERIES, column, rows_of


def plot_sampling(rows: Sequence[Mapping[str, Any]], bins: Sequence[float], ax: Axes) -> Axes:
    """Densities of estimated weights, one step line per sample size, and the true weight as a vertical line.

    Estimates outside the bins are counted in the density, not drawn.

    Args:
        rows: rows with prompts, replications, counts (per bin) and truth; of one population.
        bins: edges of the bins.
        ax: where to draw.
    """
    top = 0.0
    for row, (colour, line, _) in zip(rows, SERIES, strict=False):
        density = np.array(row["counts"]) / row["replications"] / np.diff(bins)
        label = f"n = {row['prompts']}"
        ax.stairs(density, bins, color=colour, linestyle=line, linewidth=1.2, label=label)
        top = max(top, 1.08 * float(density.max()))
    ax.axvline(rows[0]["truth"], color=INK, linewidth=1.0, label="true α*")
    ax.set_ylim(0, top)
    ax.set_xlabel("estimate of α*")
    ax.set_ylabel("density")
    return ax


def plot_coverage(rows: pd.DataFrame | Sequence[Mapping[str, Any]], ax: Axes) -> Axes:
    """Coverage of 95 % intervals against the number of prompts, one line per series, with two standard errors.

    Args:
        rows: rows with series, prompts, coverage, coverage_se.
        ax: where to draw.
    """
    data = rows_of(rows)
    names = list(dict.fromkeys(str(row["series"]) for row in data))
    sizes = sorted({row["prompts"] for row in data})
    ax.axhspan(93, 97, color=MUTED, alpha=0.15, linewidth=0)
    ax.axhline(95, color=INK, linewidth=0.8)
    for i, (name, (colour, line, marker)) in enumerate(zip(names, SERIES, strict=False)):
        mine = sorted((row for row in data if row["series"] == name), key=lambda row: row["prompts"])
        x = [row["prompts"] * 2.0 ** (0.16 * (i - (len(names) - 1) / 2)) for row in mine]
        y, se = (100 * np.array(column(mine, key)) for key in ("coverage", "coverage_se"))
        ax.errorbar(
            x, y, 2 * se, color=colour, linestyle=line, marker=marker, markersize=3.5, linewidth=1.0, label=name
        )
    ax.set_xscale("log", base=2)
    ax.set_xticks(sizes, [f"{size:g}" for size in sizes])
    ax.xaxis.set_minor_locator(NullLocator())
    ax.set_xlabel("prompts n")
    ax.set_ylabel("coverage (%)")
    return ax
