"""Fast half of the figure of log-probabilities: results/studies.json -> log_probs.pdf, .png, .csv. Loads no model."""

import sys
from pathlib import Path

import pandas as pd
from matplotlib.figure import Figure

from bvpo_analysis import figures

FOLDER = Path(__file__).parent
RESULTS = FOLDER / "results" / "studies.json"
QUANTITIES = {
    "log_prob": (r"variance of log π(r, y | x), nats²", (1e-4, 10.0)),
    "tokens": ("variance of the length |r| + |y|, tokens²", (0.0, 0.4)),
}
"""Labels, and the ends of the axes."""


def draw(results: dict) -> tuple[Figure, pd.DataFrame]:
    """Log-probabilities above, lengths below, one column per regime; and the rows drawn."""
    regimes = results["regimes"]
    table = pd.concat([pd.DataFrame(found["log_probs"]).assign(regime=regime) for regime, found in regimes.items()])
    with figures.paper_style():
        figure = Figure(figsize=(figures.TEXT_WIDTH, 3.1), layout="constrained")
        axes = figure.subplots(2, len(regimes), sharey=True)
        for row, (quantity, (label, limits)) in zip(axes, QUANTITIES.items(), strict=True):
            for ax, regime in zip(row, regimes, strict=True):
                mine = table[(table["regime"] == regime) & (table["quantity"] == quantity)]
                figures.plot_log_variances(mine, ax, limits=limits)
            row[1].set_xlabel(label)
        for ax, regime in zip(axes[0], regimes, strict=True):
            ax.set_title(regime)
        handles, labels = axes[0, 0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside upper center", ncols=4, frameon=False)
    return figure, table


def main() -> int:
    """Draw the figure beside this script."""
    return figures.redraw(RESULTS, draw, FOLDER / "log_probs", "python paper_figures/compute_studies.py")


if __name__ == "__main__":
    sys.exit(main())
