"""Fast half of the figure of budgets: results/studies.json -> equal_budget.pdf, .png and .csv. Loads no model."""

import sys
from pathlib import Path

import pandas as pd
from matplotlib.figure import Figure

from bvpo_analysis import figures

FOLDER = Path(__file__).parent
RESULTS = FOLDER / "results" / "studies.json"


def draw(results: dict) -> tuple[Figure, pd.DataFrame]:
    """One panel per regime: what more traces and mixes are worth at the same tokens; and the rows drawn."""
    regimes = results["regimes"]
    with figures.paper_style():
        figure = Figure(figsize=(figures.TEXT_WIDTH, 2.7), layout="constrained")
        axes = figure.subplots(1, len(regimes), sharey=True)
        for ax, (regime, found) in zip(axes, regimes.items(), strict=True):
            figures.plot_equal_budget(found["budgets"], ax)
            ax.set_title(regime)
            ax.set_xlabel("")
            if ax is not axes[0]:
                ax.set_ylabel("")
        axes[1].set_xlabel(f"tokens per step, relative to those of $g_\\mathrm{{t}}$ with B = {results['batch_size']}")
        handles, labels = axes[0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside upper center", ncols=3, frameon=False, columnspacing=1.2)
    table = pd.concat([pd.DataFrame(found["budgets"]).assign(regime=regime) for regime, found in regimes.items()])
    return figure, table


def main() -> int:
    """Draw the figure beside this script."""
    return figures.redraw(RESULTS, draw, FOLDER / "equal_budget", "python paper_figures/compute_studies.py")


if __name__ == "__main__":
    sys.exit(main())
