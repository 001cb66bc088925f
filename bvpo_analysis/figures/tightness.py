"""How much larger bounds are than what was measured, as a heat map."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm

from bvpo_analysis.figures.style import INK, rows_of


def plot_tightness(rows: pd.DataFrame | Sequence[Mapping[str, Any]], ax: Axes) -> Axes:
    """The median of predicted / measured in cells of problem by kappa; 1 is a bound that is attained.

    Cells without a run to which the bound applies are left blank.

    Args:
        rows: rows with problem, kappa, tightness (null or infinite where there is none); of one bound.
        ax: where to draw.
    """
    data = rows_of(rows)
    problems = list(dict.fromkeys(str(row["problem"]) for row in data))
    kappas = sorted({float(f"{row['kappa']:.6g}") for row in data})
    cells = np.full((len(problems), len(kappas)), np.nan)
    for i, problem in enumerate(problems):
        for j, kappa in enumerate(kappas):
            found = [
                float(row["tightness"])
                for row in data
                if row["problem"] == problem
                and float(f"{row['kappa']:.6g}") == kappa
                and row["tightness"] is not None
                and np.isfinite(row["tightness"])
            ]
            if found:
                cells[i, j] = np.median(found)
    shown = np.ma.masked_invalid(cells)
    # One scale for all figures, wide enough for black numbers to stay readable.
    ax.imshow(shown, aspect="auto", cmap="Blues", norm=LogNorm(1.0, 1000.0))
    for (i, j), value in np.ndenumerate(cells):
        if np.isfinite(value):
            ax.text(j, i, f"{value:.3g}", ha="center", va="center", color=INK, fontsize="x-small")
    ax.set_xticks(range(len(kappas)), [f"{kappa:g}" for kappa in kappas])
    ax.set_yticks(range(len(problems)), problems)
    ax.tick_params(length=0)
    ax.set_xlabel("κ = ηL")
    for spine in ax.spines.values():
        spine.set_visible(False)
    return ax
