"""The bias of g_t against the distance from the reference: measured, predicted, and what the prediction leaves."""

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.ticker import NullFormatter

from bvpo_analysis.figures.style import BLUE, INK, MUTED, VERMILLION, column, rows_of, symbols


def plot_trace_bias(rows: pd.DataFrame | Sequence[Mapping[str, Any]], ax: Axes) -> Axes:
    """|b_t| relative to |mu| against |theta - theta_ref|, both logarithmic.

    Args:
        rows: rows with distance, bias, predicted, remainder (relative to predicted), fresh_bias; of one data set.
        ax: where to draw.
    """
    data = sorted(rows_of(rows), key=lambda row: row["distance"])
    x = column(data, "distance")
    predicted = column(data, "predicted")
    rest = [p * r for p, r in zip(predicted, column(data, "remainder"), strict=True)]
    ax.plot(x, predicted, color=INK, label="leading term")
    ax.plot(x, column(data, "bias"), color=BLUE, linestyle="none", marker="o", label=symbols("b_t, traces of the data"))
    ax.plot(
        x,
        column(data, "fresh_bias"),
        color=VERMILLION,
        linestyle="none",
        marker="s",
        markersize=3.5,
        label="fresh traces",
    )
    ax.plot(x, rest, color=MUTED, linestyle="--", marker="^", markersize=3.5, label="data traces less leading term")
    ax.set_xscale("log")
    ax.set_yscale("log")
    ax.xaxis.set_minor_formatter(NullFormatter())
    ax.yaxis.set_minor_formatter(NullFormatter())
    ax.set_xlabel(r"$|\theta - \theta_\mathrm{ref}|$")
    ax.set_ylabel("norm / |μ|")
    return ax
