"""Training runs: held-out loss along the steps, what a weight is worth at the end, gradients along the way, cost."""

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd
from matplotlib.axes import Axes

from bvpo_analysis.figures.style import BLUE, INK, MUTED, SERIES, VERMILLION, column, rows_of, symbols


def plot_training_curves(
    rows: pd.DataFrame | Sequence[Mapping[str, Any]], ax: Axes, *, x: str = "step", y: str = "marginal_loss"
) -> Axes:
    """Held-out loss along training, one line per arm, with its interval over seeds as a band.

    Args:
        rows: rows with arm, ``x``, ``y``, ``y``_low and ``y``_high (empty where there is one seed); of one regime.
        ax: where to draw.
        x: "step" or "tokens".
        y: which loss.
    """
    data = rows_of(rows)
    for i, arm in enumerate(dict.fromkeys(str(row["arm"]) for row in data)):
        colour, line, _ = SERIES[i % len(SERIES)]
        mine = sorted((row for row in data if row["arm"] == arm), key=lambda row: row[x])
        places, values = column(mine, x), column(mine, y)
        ax.fill_between(
            places, column(mine, f"{y}_low"), column(mine, f"{y}_high"), color=colour, alpha=0.15, linewidth=0
        )
        ax.plot(places, values, color=colour, linestyle=line, label=arm)
    ax.set_xlabel("step" if x == "step" else "tokens read in training")
    ax.set_ylabel("held-out loss")
    return ax


def plot_sweep(
    rows: pd.DataFrame | Sequence[Mapping[str, Any]],
    ax: Axes,
    *,
    outcome: str,
    predicted: Mapping[str, float] | None = None,
) -> Axes:
    """An outcome of training against the weight, with intervals over seeds, and the predicted weights as marks.

    Args:
        rows: rows with alpha, ``outcome``, ``outcome``_low, ``outcome``_high; of one regime and optimiser.
        ax: where to draw.
        outcome: which column.
        predicted: predicted weights by criterion; those outside [0, 1] are marked at the edge.
    """
    data = sorted(rows_of(rows), key=lambda row: row["alpha"])
    x, y = column(data, "alpha"), column(data, outcome)
    low, high = column(data, f"{outcome}_low"), column(data, f"{outcome}_high")
    below = [max(v - a, 0.0) if a == a else 0.0 for v, a in zip(y, low, strict=True)]
    above = [max(b - v, 0.0) if b == b else 0.0 for v, b in zip(y, high, strict=True)]
    ax.errorbar(x, y, yerr=[below, above], color=INK, marker="o", capsize=2.0, linewidth=1.2)
    for i, (name, value) in enumerate((predicted or {}).items()):
        colour, line, _ = SERIES[i % len(SERIES)]
        ax.axvline(min(max(value, 0.0), 1.0), color=colour, linestyle=line, linewidth=1.0, label=name)
    ax.set_xlim(-0.06, 1.06)
    ax.set_xticks([0.0, 0.25, 0.5, 0.75, 1.0], ["0", "¼", "½", "¾", "1"])
    ax.set_xlabel("weight α of g_t".replace("g_t", symbols("g_t")))
    return ax


def plot_weight_path(rows: pd.DataFrame | Sequence[Mapping[str, Any]], ax: Axes) -> Axes:
    """alpha* along the runs of an arm, by enumeration on held-out pairs, and the weight that they took.

    Args:
        rows: rows with step, alpha, alpha_low, alpha_high (empty where there is no interval), used; of one arm.
        ax: where to draw.
    """
    data = sorted(rows_of(rows), key=lambda row: row["step"])
    steps = column(data, "step")
    ax.fill_between(steps, column(data, "alpha_low"), column(data, "alpha_high"), color=BLUE, alpha=0.15, linewidth=0)
    ax.plot(steps, column(data, "alpha"), color=BLUE, marker="o", label="α* of a batch")
    ax.plot(steps, column(data, "used"), color=VERMILLION, marker="s", linestyle="--", label="weight taken")
    ax.set_xlabel("step")
    ax.set_ylabel("weight")
    return ax


def plot_gradient_variances(
    rows: pd.DataFrame | Sequence[Mapping[str, Any]], ax: Axes, weights: Sequence[float] = (0.0, 0.5, 1.0)
) -> Axes:
    """Variance of the mixed batch gradient along the runs of an arm, one line per weight, its interval as a band.

    Args:
        rows: rows with step, var_c:ALPHA, var_c:ALPHA_low and var_c:ALPHA_high (empty where there is none); of one arm.
        ax: where to draw.
        weights: which weights.
    """
    data = sorted(rows_of(rows), key=lambda row: row["step"])
    for i, weight in enumerate(weights):
        colour, line, mark = SERIES[i % len(SERIES)]
        name = f"var_c:{weight:g}"
        low, high = column(data, f"{name}_low"), column(data, f"{name}_high")
        ax.fill_between(column(data, "step"), low, high, color=colour, alpha=0.12, linewidth=0)
        ax.plot(
            column(data, "step"),
            column(data, name),
            color=colour,
            linestyle=line,
            marker=mark,
            label=f"α = {weight:g}",
        )
    ax.set_ylim(bottom=0)
    ax.set_xlabel("step")
    ax.set_ylabel("Tr Cov of a batch gradient")
    return ax


def plot_overhead(rows: pd.DataFrame | Sequence[Mapping[str, Any]], ax: Axes, base: str = "dpo") -> Axes:
    """Tokens and CPU time of a step over those of one method, one pair of bars per method.

    Args:
        rows: rows with method, tokens, cpu_seconds.
        ax: where to draw.
        base: the method that counts as one.
    """
    data = rows_of(rows)
    one = next(row for row in data if row["method"] == base)
    places = list(range(len(data)))
    for shift, name, colour, label in ((-0.18, "tokens", BLUE, "tokens"), (0.18, "cpu_seconds", MUTED, "CPU time")):
        ratios = [value / one[name] for value in column(data, name)]
        ax.barh([p + shift for p in places], ratios, height=0.34, color=colour, label=label)
    ax.axvline(1.0, color=INK, linewidth=0.8)
    ax.set_yticks(places, [str(row["method"]) for row in data])
    ax.invert_yaxis()
    ax.set_xlabel(f"per step, over {base}")
    return ax
