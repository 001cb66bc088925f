"""The optimal weight against batch size, one line per kappa."""

from collections.abc import Mapping, Sequence
from itertools import zip_longest
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.ticker import NullLocator

from bvpo_analysis.figures.style import INK, MUTED, PAPER, SERIES, WEIGHT_LIMITS, is_bounded, rows_of

_DODGE = 0.11
"""Octaves between neighbouring lines, so that error bars do not cover one another."""


def plot_alpha_grid(rows: pd.DataFrame | Sequence[Mapping[str, Any]], ax: Axes) -> Axes:
    """alpha* (unclipped) with 95 % intervals against batch size (logarithmic), one line per kappa.

    Filled, joined markers have a bounded interval. Open markers with arrows have a confidence set that is unbounded; a
    cross below the axis stands where not even a value is determined. Triangles at the edge lie beyond it.

    Args:
        rows: rows with batch_size, kappa, alpha, low, high, confidence_set.
        ax: where to draw.
    """
    data = rows_of(rows)
    kappas = list(dict.fromkeys(row["kappa"] for row in data))
    sizes = sorted({row["batch_size"] for row in data})
    bottom, top = WEIGHT_LIMITS
    strip = bottom - 0.17
    ax.set_xscale("log", base=2)
    for weight in (0.0, 0.5, 1.0):
        ax.axhline(weight, color=MUTED, linewidth=0.6, linestyle=":", zorder=0)
    undetermined = unbounded = outside = False
    for i, (kappa, (colour, line, marker)) in enumerate(zip(kappas, _series(len(kappas)), strict=True)):
        shift = 2.0 ** (_DODGE * (i - (len(kappas) - 1) / 2))
        mine = sorted((row for row in data if row["kappa"] == kappa), key=lambda row: row["batch_size"])
        bounded = [row for row in mine if is_bounded(row["low"], row["high"], row["confidence_set"])]
        x = [row["batch_size"] * shift for row in bounded]
        y = [row["alpha"] for row in bounded]
        ax.plot(x, y, color=colour, linestyle=line, label=f"κ = {kappa:g}", gid=f"kappa {kappa:g}")
        ax.vlines(x, [r["low"] for r in bounded], [r["high"] for r in bounded], color=colour, linewidth=0.9)
        for row in mine:
            at, value = row["batch_size"] * shift, row["alpha"]
            known = any(row is other for other in bounded)
            if row["low"] is None and row["high"] is None:
                ax.plot([at], [strip], "x", color=colour, markersize=3.5, clip_on=False)
                undetermined = True
                continue
            face = colour if known else PAPER
            drawn = float(np.clip(value, bottom, top))
            shape = marker if drawn == value else ("v" if value < bottom else "^")
            outside |= drawn != value
            ax.plot([at], [drawn], shape, color=colour, markerfacecolor=face, markersize=4.5, zorder=4, clip_on=False)
            if not known:
                unbounded = True
                for sign in (-1, 1):
                    if bottom < drawn + sign * 0.16 < top:
                        ax.annotate(
                            "",
                            (at, drawn + sign * 0.16),
                            (at, drawn),
                            arrowprops={"arrowstyle": "->", "color": colour, "linewidth": 0.7, "shrinkA": 2},
                        )
    ax.set_ylim(strip - 0.08 if undetermined else bottom, top)
    ax.set_xlim(min(sizes) / 1.3, max(sizes) * 1.3)
    ax.set_xticks(sizes, [f"{size:g}" for size in sizes])
    ax.xaxis.set_minor_locator(NullLocator())
    ax.set_yticks([0, 0.25, 0.5, 0.75, 1])
    if undetermined:
        ax.axhline(bottom - 0.04, color=MUTED, linewidth=0.5)
        ax.text(-0.015, strip, "not\ndetermined", transform=ax.get_yaxis_transform(), ha="right", va="center",
                fontsize="x-small", color=INK)  # fmt: skip
    ax.set_xlabel("batch size B (prompts)")
    ax.set_ylabel("optimal weight α*, unclipped")
    lines = [
        Line2D([], [], color=c, linestyle=s, marker=m, label=f"κ = {kappa:g}")
        for kappa, (c, s, m) in zip(kappas, _series(len(kappas)), strict=True)
    ]
    extra: dict[str, Any] = {"linestyle": "none", "color": MUTED, "markerfacecolor": PAPER}
    notes = [Line2D([], [], marker="o", label="interval unbounded", **extra)] if unbounded else []
    notes += [Line2D([], [], marker="v", label="value outside the figure", **extra)] if outside else []
    # Legends fill column by column: a line, then the note below it, so that the notes make a row of their own.
    columns = zip_longest(lines, notes)
    handles = [handle for pair in columns for handle in pair if handle is not None]
    ax.legend(handles=handles, loc="lower left", bbox_to_anchor=(0.0, 1.0), ncols=len(lines), borderaxespad=0.2,
              columnspacing=1.2)  # fmt: skip
    return ax


def _series(count: int) -> list[tuple[str, Any, str]]:
    return [SERIES[i % len(SERIES)] for i in range(count)]
