"""Fast half of the figure of variances: results/estimators.json -> variances.pdf, .png and .csv. Loads no model."""

import sys
from pathlib import Path

import pandas as pd
from matplotlib.figure import Figure

from bvpo_analysis import figures

FOLDER = Path(__file__).parent
RESULTS = FOLDER / "results" / "estimators.json"
SHOWN = {
    "trace": "g_t, one trace",
    "mean_of_4": "g_t, mean of 4 traces",
    "pooled_2": "pool of 2 traces",
    "pooled_4": "pool of 4 traces",
    "coupled_4": "matched pair of 4",
    "prior_shared": "prior trace, shared",
    "prior_independent": "prior traces",
    "empty": "g_e",
    "empty_shared": "g_e, answers of g_t",
    "half": "g_c, equal mix",
    "best": "g_c, optimal mix",
}
"""Estimators drawn, by key, with labels that fit beside three panels."""


def draw(results: dict) -> tuple[Figure, pd.DataFrame]:
    """One panel per regime: the variance of one realisation on one prompt, by estimator; and the rows drawn."""
    regimes = {
        regime: [row | {"label": SHOWN[row["key"]]} for key in SHOWN for row in rows if row["key"] == key]
        for regime, rows in results["regimes"].items()
    }
    with figures.paper_style():
        figure = Figure(figsize=(figures.TEXT_WIDTH, 2.9), layout="constrained")
        axes = figure.subplots(1, len(regimes), sharey=True)
        for ax, (regime, rows) in zip(axes, regimes.items(), strict=True):
            figures.plot_variances(rows, ax, legend=False)
            ax.set_title(regime)
        figure.legend(handles=figures.variance_legend(), loc="outside upper center", ncols=3, frameon=False)
    return figure, pd.concat([pd.DataFrame(rows).assign(regime=regime) for regime, rows in regimes.items()])


def main() -> int:
    """Draw the figure beside this script."""
    return figures.redraw(RESULTS, draw, FOLDER / "variances", "python paper_figures/compute_estimators.py")


if __name__ == "__main__":
    sys.exit(main())
