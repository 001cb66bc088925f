"""Runs of the trainer from their logs: held-out loss, the weight beside alpha*, and the variances of the gradients."""

from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.axes import Axes

from bvpo_analysis.figures.style import SERIES, WEIGHT_LIMITS, column, symbols

FAR = 1e3
"""Length of a bar of a weight that is not bounded: it leaves the figure."""
Log = Mapping[str, Sequence[Mapping[str, Any]]]
"""Lines of log.jsonl by the name of the run."""


def plot_logged_losses(logs: Log, ax: Axes) -> Axes:
    """Held-out loss with its standard error as a band; the loss of the batches where a run held no pairs out.

    Args:
        logs: lines with step, loss and, where there was an evaluation, eval/loss and eval/loss_se.
        ax: where to draw.
    """
    for (name, lines), (colour, dashes, mark) in zip(logs.items(), _series(logs), strict=True):
        seen = [line for line in lines if line.get("eval/loss") is not None]
        y = "eval/loss" if seen else "loss"
        seen = seen or [line for line in lines if line.get("loss") is not None]
        seen = sorted(seen, key=_step)
        steps = [_step(line) for line in seen]
        values, errors = (column(seen, key) for key in (y, f"{y}_se"))
        low, high = ([v + sign * e for v, e in zip(values, errors, strict=True)] for sign in (-1, 1))
        ax.fill_between(steps, low, high, color=colour, alpha=0.15, linewidth=0)
        marker = mark if y == "eval/loss" else None
        ax.plot(steps, values, color=colour, linestyle=dashes, marker=marker, label=name)
    held_out = all(any(line.get("eval/loss") is not None for line in lines) for lines in logs.values())
    ax.set_ylabel("held-out loss" if held_out else "loss")
    return ax


def plot_logged_weights(logs: Log, ax: Axes) -> Axes:
    """The weight that runs took as lines; alpha* of a batch at the probes as marks with 95 % intervals.

    Args:
        logs: lines with step, alpha and, where there was a probe, probe/alpha with _low and _high.
        ax: where to draw.
    """
    for lines, (colour, dashes, mark), shift in zip(logs.values(), _series(logs), _shifts(logs), strict=True):
        taken = [line for line in lines if line.get("alpha") is not None]
        ax.plot(column(taken, "step"), column(taken, "alpha"), color=colour, linestyle=dashes)
        _marks(lines, ax, "probe/alpha", shift, FAR, color=colour, marker=mark)
    ax.set_ylim(*WEIGHT_LIMITS)
    ax.set_ylabel("weight (line), α* (marks)")
    return ax


def plot_logged_variances(logs: Log, ax: Axes) -> Axes:
    """Tr Cov of the batch gradients at the probes: g_t filled, g_e open.

    Args:
        logs: lines with step and, where there was a probe, probe/var_t and probe/var_e with _low and _high.
        ax: where to draw.
    """
    for lines, (colour, _, mark), shift in zip(logs.values(), _series(logs), _shifts(logs), strict=True):
        for name, face in (("probe/var_t", colour), ("probe/var_e", "none")):
            _marks(lines, ax, name, shift, color=colour, marker=mark, mfc=face)
    ax.set_ylim(bottom=0)
    ax.set_ylabel(symbols("Tr Cov: g_t filled, g_e open"))
    return ax


def _series(logs: Log) -> list[tuple[str, Any, str]]:
    return [SERIES[i % len(SERIES)] for i in range(len(logs))]


def _shifts(logs: Log) -> list[float]:
    """Steps by which the marks of each run are moved, so that those of several runs stand side by side."""
    longest = max((_step(line) for lines in logs.values() for line in lines), default=0)
    return [0.012 * longest * (i - (len(logs) - 1) / 2) for i in range(len(logs))]


def _step(line: Mapping[str, Any]) -> int:
    """The step whose weights a line is about."""
    return int(line.get("kept_step", line["step"]))


def _marks(
    lines: Sequence[Mapping[str, Any]], ax: Axes, name: str, shift: float, missing: float = 0.0, **style: Any
) -> None:
    """Values with their intervals; ``missing`` is the length of a bar without an end."""
    seen = [line for line in lines if line.get(name) is not None]
    values, low, high = (column(seen, key) for key in (name, f"{name}_low", f"{name}_high"))
    below = [v - a if a == a else missing for v, a in zip(values, low, strict=True)]
    above = [b - v if b == b else missing for v, b in zip(values, high, strict=True)]
    steps = [_step(line) + shift for line in seen]
    ax.errorbar(steps, values, yerr=[below, above], linestyle="none", capsize=2.0, lw=1.0, **style)
