"""Fast half of the MSE figure: results/mse_alpha.json -> mse_alpha.pdf, .png and .csv. Loads no model."""

import sys
from pathlib import Path

import pandas as pd
from matplotlib.figure import Figure

from bvpo_analysis import figures

FOLDER = Path(__file__).parent
RESULTS = FOLDER / "results" / "mse_alpha.json"


def draw(results: dict) -> tuple[Figure, pd.DataFrame]:
    """One panel per regime: MSE(alpha) by origin, with the optimal weight; and the rows drawn."""
    regimes = results["regimes"]
    with figures.paper_style():
        figure = Figure(figsize=(figures.TEXT_WIDTH, 2.9), layout="constrained")
        axes = figure.subplots(1, len(regimes))
        for ax, (regime, found) in zip(axes, regimes.items(), strict=True):
            head = found["headline"]
            figures.plot_mse_alpha(found["curve"], ax, errors=head["errors"], alpha=head["alpha"], legend_columns=None)
            ax.set_title(regime)
            ax.set_xticks([0, 0.5, 1], ["0\n$g_\\mathrm{e}$ alone", "½\nequal mix", "1\n$g_\\mathrm{t}$ alone"])
            ax.set_ylabel(f"mean squared error, B = {results['batch_size']}" if ax is axes[0] else "")
        handles, labels = axes[0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside upper center", ncols=3, frameon=False)
    table = pd.concat([pd.DataFrame(found["curve"]).assign(regime=regime) for regime, found in regimes.items()])
    return figure, table


def main() -> int:
    """Draw the figure beside this script."""
    return figures.redraw(RESULTS, draw, FOLDER / "mse_alpha", "python paper_figures/compute_studies.py")


if __name__ == "__main__":
    sys.exit(main())
