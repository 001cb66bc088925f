"""Fast half of the map of optimal weights: results/studies.json -> alpha_map.pdf, .png and .csv. Loads no model."""

import sys
from pathlib import Path

import pandas as pd
from matplotlib.figure import Figure

from bvpo_analysis import figures

FOLDER = Path(__file__).parent
RESULTS = FOLDER / "results" / "studies.json"


def draw(results: dict) -> tuple[Figure, pd.DataFrame]:
    """One map per regime: the recommended weight by batch size and kappa (target M3, K = 1); and the rows drawn."""
    regimes = results["regimes"]
    with figures.paper_style():
        figure = Figure(figsize=(figures.TEXT_WIDTH, 2.3), layout="constrained")
        axes = figure.subplots(1, len(regimes), sharey=True)
        for ax, (regime, found) in zip(axes, regimes.items(), strict=True):
            figures.plot_alpha_map(found["alpha_map"], ax)
            ax.set_title(regime)
            if ax is not axes[0]:
                ax.set_ylabel("")
            if ax is not axes[1]:
                ax.set_xlabel("")
        bar = figure.colorbar(axes[-1].collections[0], ax=axes, ticks=[0, 0.2, 0.4, 0.6, 0.8, 1], aspect=25, pad=0.01)
        bar.set_label("recommended α")
        bar.outline.set_visible(False)
    table = pd.concat([pd.DataFrame(found["alpha_map"]).assign(regime=regime) for regime, found in regimes.items()])
    return figure, table


def main() -> int:
    """Draw the figure beside this script."""
    return figures.redraw(RESULTS, draw, FOLDER / "alpha_map", "python paper_figures/compute_studies.py")


if __name__ == "__main__":
    sys.exit(main())
