"""Fast half of the figure of geometry: results/population.json -> geometry.pdf, .png and .csv. Loads no model."""

import sys
from pathlib import Path

import pandas as pd
from matplotlib.figure import Figure

from bvpo_analysis import figures

FOLDER = Path(__file__).parent
RESULTS = FOLDER / "results" / "population.json"


def draw(results: dict) -> tuple[Figure, pd.DataFrame]:
    """Gradients around their target: one prompt above, batches below, one column per regime; and the points drawn."""
    regimes = results["geometry"]
    titles = {"prompt": "one prompt", "batch": f"batches, B = {results['batch_size']}"}
    rows = []
    with figures.paper_style():
        figure = Figure(figsize=(figures.TEXT_WIDTH, 4.2), layout="constrained")
        axes = figure.subplots(2, len(regimes))
        for ax, title in zip(axes[:, 0], titles.values(), strict=True):
            ax.set_ylabel(f"{title}\nleading noise / |μ|")
        for column, (regime, found) in zip(axes.T, regimes.items(), strict=True):
            for ax, kind in zip(column, titles, strict=True):
                figures.plot_plane(found[kind], ax)
                rows += [
                    {"regime": regime, "panel": kind, "estimator": name, "x": x, "y": y}
                    for name, points in found[kind]["points"].items()
                    for x, y in points
                ]
            column[0].annotate(regime, (0.5, 1.2), xycoords="axes fraction", ha="center", fontsize="large")
            column[-1].set_xlabel(r"direction of $b_\mathrm{e}$ / |μ|")
        handles, labels = axes[-1, 0].get_legend_handles_labels()
        figure.legend(
            handles,
            labels,
            loc="outside upper center",
            ncols=7,
            frameon=False,
            columnspacing=0.9,
            handletextpad=0.3,
            handlelength=1.4,
        )
    return figure, pd.DataFrame(rows)


def main() -> int:
    """Draw the figure beside this script."""
    return figures.redraw(RESULTS, draw, FOLDER / "geometry", "python paper_figures/compute_population.py")


if __name__ == "__main__":
    sys.exit(main())
