"""MSE of the mixed gradient against its weight, split into squared bias, trace variance and data variance."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import to_rgba

from bvpo_analysis.figures.style import BLUE, HATCHES, INK, MUTED, ORANGE, PAPER, SKY, column, rows_of

BANDS = (("bias_sq", "squared bias", ORANGE), ("trace_var", "trace variance", SKY), ("data_var", "data variance", BLUE))

# Lines only: a page holds the drawing as SVG, where every dot of a hatch is a path of its own.
_HATCH = {"squared bias": "\\" * 3, "trace variance": HATCHES[0]}


def stack_is_clipped(curve: pd.DataFrame | Sequence[Mapping[str, Any]]) -> bool:
    """Whether a part is negative somewhere, as unbiased estimates can be, so that its band is cut at zero."""
    rows = rows_of(curve)
    return any(row.get(name) is not None and row[name] < 0 for row in rows for name, _, _ in BANDS)


def plot_mse_alpha(
    curve: pd.DataFrame | Sequence[Mapping[str, Any]],
    ax: Axes,
    *,
    errors: Sequence[Mapping[str, Any]] = (),
    alpha: Mapping[str, Any] | None = None,
    legend_columns: int | None = 3,
) -> Axes:
    """Stacked bands of the parts of the MSE, its total with a 95 % band, marked weights, and the interval of alpha*.

    Bands are drawn from max(0, part); the line is the total. Where trace and data variance cannot be told apart
    they are one band, "variance".

    Args:
        curve: rows with alpha, bias_sq, trace_var, data_var, mse, mse_low, mse_high.
        ax: where to draw.
        errors: rows with alpha and mse (an estimate) of the weights to mark; the last one is the optimal mix.
        alpha: the optimal weight, whose clipped interval is drawn below the curve.
        legend_columns: columns of the legend above the axes; None for no legend.
    """
    rows = rows_of(curve)
    x = np.array(column(rows, "alpha"))
    total = np.array(column(rows, "mse"))
    low, high = (np.array(column(rows, name)) for name in ("mse_low", "mse_high"))
    base = np.zeros_like(x)
    for label, part, colour in _bands(rows, total):
        top = base + np.maximum(part, 0.0)
        face, edge = to_rgba(colour, 0.45), to_rgba(INK, 0.35)
        ax.fill_between(x, base, top, facecolor=face, edgecolor=edge, hatch=_HATCH.get(label), linewidth=0, label=label)
        base = top
    if np.isfinite(low).all() and np.isfinite(high).all() and (high > low).any():
        ax.fill_between(x, low, high, color=INK, alpha=0.14, linewidth=0, label="95 % interval of the total")
    ax.plot(x, total, color=INK, label="total (MSE)")

    floor = min(0.0, float(np.nanmin(np.minimum(total, np.where(np.isfinite(low), low, total)))))
    ceiling = float(np.nanmax(np.maximum(base, np.where(np.isfinite(high), high, total))))
    marked = [row["mse"]["value"] for row in errors if row["mse"]["value"] is not None]
    floor, ceiling = min([floor, *marked]), max([ceiling, *marked])
    span = (ceiling - floor) or 1.0
    if errors:
        fixed, best = list(errors)[:-1], list(errors)[-1]
        points = [(row["alpha"], row["mse"]["value"]) for row in fixed if row["mse"]["value"] is not None]
        style: dict[str, Any] = {"linestyle": "none", "markeredgecolor": INK, "zorder": 5, "clip_on": False}
        ax.plot(*zip(*points, strict=True), "o", markerfacecolor=PAPER, label="fixed weights 0, ½, 1", **style)
        if alpha is None or not alpha.get("degenerate"):
            ax.plot([best["alpha"]], [best["mse"]["value"]], "D", markerfacecolor=INK, label="α*, recommended", **style)
    if alpha is not None and not alpha.get("degenerate"):
        y = floor - 0.07 * span
        bounded = alpha["confidence_set"] in ("interval", "half-line")
        ends = [alpha["recommended_low"], alpha["recommended_high"]]
        label = "interval of α*" if bounded else "interval of α*: not bounded"
        ax.plot(
            ends, [y, y], color=INK, linewidth=3.0, alpha=1.0 if bounded else 0.35, solid_capstyle="butt", label=label
        )
        ax.plot([alpha["recommended"]], [y], "|", color=INK, markersize=8.0, markeredgewidth=1.2)
        ax.axhline(0.0, color=MUTED, linewidth=0.5)
        floor = floor - 0.14 * span
    elif floor < 0:
        ax.axhline(0.0, color=MUTED, linewidth=0.5)
    ax.set_ylim(floor, ceiling + 0.04 * span)
    ax.set_xlim(-0.02, 1.02)
    ax.set_xticks(
        [0, 0.25, 0.5, 0.75, 1],
        ["0\n$g_\\mathrm{e}$ alone", "0.25\n ", "0.5\nequal mix", "0.75\n ", "1\n$g_\\mathrm{t}$ alone"],
    )
    ax.set_xlabel("weight α of $g_\\mathrm{t}$ in the mix")
    ax.set_ylabel("mean squared error")
    if legend_columns is not None:
        ax.legend(
            loc="lower left", bbox_to_anchor=(0.0, 1.0), ncols=legend_columns, borderaxespad=0.2, columnspacing=1.4
        )
    return ax


def _bands(rows: list[dict[str, Any]], total: np.ndarray) -> list[tuple[str, np.ndarray, str]]:
    if any(row.get("trace_var") is None or row.get("data_var") is None for row in rows):
        bias = np.array(column(rows, "bias_sq"))
        return [("squared bias", bias, ORANGE), ("variance", total - bias, BLUE)]
    return [(label, np.array(column(rows, name)), colour) for name, label, colour in BANDS]
