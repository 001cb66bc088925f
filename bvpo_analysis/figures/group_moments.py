"""Squared bias and variance of the gradients of every parameter group."""

from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.ticker import LogLocator, NullLocator

from bvpo_analysis.figures.style import BLUE, INK, MUTED, ORANGE, PAPER, SKY, symbols

_KINDS = (
    ("var_t", "variance of g_t", BLUE, "o", -0.22),
    ("trace_var", "its trace part", SKY, "s", 0.0),
    ("bias_e_sq", "squared bias of g_e", ORANGE, "D", 0.22),
)


def plot_group_moments(rows: Sequence[Mapping[str, Any]], ax: Axes, *, batch_size: float = 1) -> Axes:
    """|b_e|^2, Tr Var(g_t) / B and its trace part per parameter group, logarithmic, with 95 % intervals.

    An open marker is a value that is not told from zero, drawn at the upper end of its interval.

    Args:
        rows: rows with name, bias_e_sq, var_t and trace_var (estimates at B = 1; trace_var may be null).
        ax: where to draw.
        batch_size: B, by which variances are divided.
    """
    for key, label, colour, marker, shift in _KINDS:
        scale = 1.0 if key == "bias_e_sq" else 1.0 / batch_size
        for y, row in enumerate(rows):
            estimate = row[key]
            if estimate is None:
                continue
            value, low, high = (scale * estimate[end] for end in ("value", "ci_low", "ci_high"))
            clear = low > 0 and value > 0
            at = value if clear else high
            if not at > 0:
                continue
            if clear:
                ax.plot([low, high], [y + shift] * 2, color=colour, linewidth=1.2)
            else:
                ax.update_datalim([(at / 7, y)])
                ax.annotate(
                    "",
                    (at / 4, y + shift),
                    (at, y + shift),
                    arrowprops={"arrowstyle": "->", "color": colour, "linewidth": 0.8},
                )
            ax.plot([at], [y + shift], marker, color=colour, markersize=4.0, gid=f"{key} {row['name']}",
                    markerfacecolor=colour if clear else PAPER, markeredgecolor=INK if clear else colour,
                    markeredgewidth=0.4 if clear else 1.0)  # fmt: skip
        ax.plot([], [], marker, linestyle="none", color=colour, markersize=4.0, label=symbols(label))
    ax.set_xscale("log")
    ax.xaxis.set_major_locator(LogLocator(numticks=4))
    ax.xaxis.set_minor_locator(NullLocator())
    if any(row["name"] == "all" for row in rows):
        ax.axhline(len(rows) - 1.5, color=MUTED, linewidth=0.5)
    ax.set_yticks(range(len(rows)), ["whole gradient" if row["name"] == "all" else row["name"] for row in rows])
    ax.set_ylim(len(rows) - 0.5, -0.5)
    ax.tick_params(axis="y", length=0)
    ax.spines["left"].set_visible(False)
    ax.set_xlabel(f"squared norm, B = {batch_size:g}")
    return ax
