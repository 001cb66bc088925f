"""The figures of a report with their words: title, caption and text alternative, all made from results.json."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
from matplotlib.figure import Figure

from bvpo_analysis import figures
from bvpo_analysis.report.formatting import estimate_text, grid_text, number, weight_parts
from bvpo_analysis.report.train_runs import sentences


@dataclass(frozen=True)
class Drawing:
    """A figure with its words: ``name`` of its files, ``title``, ``caption``, and ``alt``, what a reader would see."""

    name: str
    title: str
    caption: str
    alt: str
    figure: Figure
    data: pd.DataFrame


def drawings(results: Mapping[str, Any], width: float = figures.TEXT_WIDTH) -> dict[str, Drawing]:
    """Every figure the results have data for, by name, at this width in inches."""
    found = []
    with figures.paper_style():
        if results.get("curve"):
            found.append(_draw_curve(results, width))
        if results.get("estimators"):
            found.append(_draw_estimators(results["estimators"], width))
        if results.get("alpha_grid"):
            found.append(_draw_grid(results["alpha_grid"], width))
        if results.get("groups"):
            found.append(_draw_groups(results["groups"], width))
        if results.get("training_runs"):
            found.append(_draw_runs(results["training_runs"], width))
    return {drawing.name: drawing for drawing in found}


def _draw_curve(results: Mapping[str, Any], width: float) -> Drawing:
    head, curve = results["headline"], results["curve"]
    figure, ax = figures.new_figure(width, height=3.3)
    columns = 3 if width > figures.SCREEN_WIDTH else 2
    figures.plot_mse_alpha(curve, ax, errors=head["errors"], alpha=head["alpha"], legend_columns=columns)
    caption = (
        "MSE of the mix g_c = α g_t + (1 − α) g_e against α, stacked by origin, and its total with a 95 % interval. "
        "The bar below the curve is the interval of α*, clipped to weights that can be used."
    )
    if figures.stack_is_clipped(curve):
        caption += " An unbiased estimate of a part is negative at some weights; its band is drawn as zero there."
    marks = [f"{row['name']} {estimate_text(row['mse'])}" for row in head["errors"]]
    alt = "Mean squared error against the mixing weight. " + "; ".join(marks) + "."
    return Drawing("mse_alpha", "MSE against the mixing weight", caption, alt, figure, pd.DataFrame(curve))


def _draw_estimators(rows: Sequence[Mapping[str, Any]], width: float) -> Drawing:
    figure, ax = figures.new_figure(width, height=0.65 + 0.23 * len(rows))
    figures.plot_estimators(rows, ax)
    caption = (
        "MSE relative to g_t with one trace, with 95 % intervals. In brackets: sequences to score per preference pair."
    )
    alt = "; ".join(f"{row['name']} {estimate_text(row['relative'])}" for row in rows)
    data = [
        {"name": row["name"], "sequences": row["sequences"], **_ends("relative", row.get("relative"))} for row in rows
    ]
    return Drawing("estimators", "MSE of the estimators", caption, f"{alt}.", figure, pd.DataFrame(data))


def _draw_grid(rows: Sequence[Mapping[str, Any]], width: float) -> Drawing:
    figure, ax = figures.new_figure(width, height=3.2)
    figures.plot_alpha_grid(rows, ax)
    caption = (
        "Unclipped α* against batch size, one line per κ, with 95 % intervals. Filled markers have a bounded interval. "
        "Open markers with arrows have an unbounded one; triangles at the edge lie outside the figure; a cross below "
        "the axis marks a case where the data determine no value. Lines are shifted sideways a little to keep them "
        "apart."
    )
    parts = [f"batch size {number(r['batch_size'])}, κ = {number(r['kappa'])}: {grid_text(r)}" for r in rows]
    alt = "Optimal weight by batch size and kappa. " + "; ".join(parts) + "."
    return Drawing("alpha_grid", "α* against batch size and κ", caption, alt, figure, pd.DataFrame(rows))


def _draw_groups(rows: Sequence[Mapping[str, Any]], width: float) -> Drawing:
    figure, ax = figures.new_figure(width, height=0.65 + 0.23 * len(rows))
    figures.plot_groups(rows, ax)
    caption = "Unclipped α* of every parameter group and of the whole gradient, with 95 % intervals."
    alt = "; ".join(f"{row['name']} {' '.join(weight_parts(row['alpha'])).strip()}" for row in rows)
    data = [
        {
            "name": row["name"],
            **_ends("alpha", row["alpha"]["estimate"]),
            "confidence_set": row["alpha"]["confidence_set"],
        }
        for row in rows
    ]
    return Drawing("groups", "α* per parameter group", caption, f"{alt}.", figure, pd.DataFrame(data))


def _draw_runs(runs: Sequence[Mapping[str, Any]], width: float) -> Drawing:
    logs = {run["name"]: run["log"] for run in runs}
    probed = any(line.get("probe/alpha") is not None for lines in logs.values() for line in lines)
    panels = [figures.plot_logged_losses, figures.plot_logged_weights]
    panels += [figures.plot_logged_variances] if probed else []
    figure = Figure(figsize=(width, 0.5 + 1.7 * len(panels)), layout="constrained")
    axes = figure.subplots(len(panels), 1, sharex=True)
    for panel, ax in zip(panels, axes, strict=True):
        panel(logs, ax)
    axes[-1].set_xlabel("step")
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside upper center", ncols=min(len(logs), 3))
    caption = "Held-out loss with its standard error, that of the batches where none was measured; the weight taken."
    if probed:
        caption += (
            " Marks: the best weight of a batch and the variances of its gradients, as studied on the way, with 95 % "
            "intervals; weights far outside [0, 1] are beyond the axis."
        )
    alt = " ".join(sentence for run in runs for sentence in sentences(run)) or "Training runs over their steps."
    data = pd.DataFrame([{"run": name, **line} for name, lines in logs.items() for line in lines])
    return Drawing("train_runs", "Training runs", caption, alt, figure, data)


def _ends(name: str, estimate: Mapping[str, Any] | None) -> dict[str, Any]:
    e = estimate or {}
    return {name: e.get("value"), "low": e.get("ci_low"), "high": e.get("ci_high")}


def write_figures(results: Mapping[str, Any], folder: Path) -> list[Path]:
    """Every figure as PDF, PNG and CSV in ``folder``; returns the paths."""
    written: list[Path] = []
    for drawing in drawings(results).values():
        written += figures.save_figure(drawing.figure, Path(folder) / drawing.name, drawing.data)
    return written
