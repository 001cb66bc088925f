"""The optimal weight over batch sizes and kappas, as a map."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.colors import BoundaryNorm, LinearSegmentedColormap

from bvpo_analysis.figures.style import INK, PAPER, rows_of

LEVELS = tuple(i / 10 for i in range(11))
WIDE = 0.25
"""Width of an interval above which a cell is marked as uncertain."""


def plot_alpha_map(rows: pd.DataFrame | Sequence[Mapping[str, Any]], ax: Axes) -> Axes:
    """The recommended weight (clipped to [0, 1]) by batch size and kappa, both logarithmic, with its contours.

    Dots stand where the 95 % interval, clipped likewise, is wider than :data:`WIDE` or not bounded.

    Args:
        rows: rows with batch_size, kappa, recommended, low, high (null where infinite), confidence_set; a full grid.
        ax: where to draw.
    """
    data = rows_of(rows)
    sizes = sorted({row["batch_size"] for row in data})
    kappas = sorted({row["kappa"] for row in data})
    cells = np.full((len(kappas), len(sizes)), np.nan)
    wide = []
    for row in data:
        cells[kappas.index(row["kappa"]), sizes.index(row["batch_size"])] = row["recommended"]
        low, high = (
            float(np.clip(end, 0, 1)) for end in (row["low"] or 0.0, 1.0 if row["high"] is None else row["high"])
        )
        if row["confidence_set"] != "interval" or high - low > WIDE:
            wide.append((row["batch_size"], row["kappa"]))
    # In powers of two, so that contours are straight where the weight depends on B / kappa only.
    x, y = np.log2(sizes), np.log2(kappas)
    shades = LinearSegmentedColormap.from_list("shades", colormaps["Blues"](np.linspace(0.0, 0.75, 256)))
    ax.pcolormesh(x, y, cells, cmap=shades, norm=BoundaryNorm(LEVELS, 256), shading="nearest", rasterized=True)
    if np.ptp(cells) > 0.05:
        lines = ax.contour(
            x, y, cells, levels=[level for level in LEVELS[1:-1] if level != 0.5], colors=INK, linewidths=0.4
        )
        half = ax.contour(x, y, cells, levels=[0.5], colors=INK, linewidths=1.4)
        ax.clabel(lines, levels=[0.4, 0.7, 0.9], fmt="%.1f", fontsize=6)
        ax.clabel(half, fmt="½", fontsize=8)
    else:
        ax.text(0.5, 0.5, f"{cells.mean():.2f} throughout", transform=ax.transAxes, ha="center", va="center",
                fontsize="small", color=INK, bbox={"facecolor": PAPER, "edgecolor": "none", "pad": 1.5})  # fmt: skip
    if wide:
        at = np.log2(wide)
        ax.plot(at[:, 0], at[:, 1], linestyle="none", marker=".", markersize=2.0, color=INK, markeredgewidth=0)
    ax.set_xticks(x[::3], [f"{size:g}" for size in sizes[::3]])
    ax.set_yticks(y[::2], [f"{k:g}" if k >= 1 else f"1/{1 / k:g}" for k in kappas[::2]])
    ax.set_xlabel("batch size B (prompts)")
    ax.set_ylabel("κ = ηL")
    for spine in ax.spines.values():
        spine.set_visible(False)
    return ax
