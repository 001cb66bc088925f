"""Fast half of the figure of regimes: results/mse_alpha.json -> regimes.pdf, .png and .csv. Loads no model."""

import sys
from pathlib import Path

import pandas as pd
from matplotlib.figure import Figure

from bvpo_analysis import figures

FOLDER = Path(__file__).parent
RESULTS = FOLDER / "results" / "mse_alpha.json"
TARGETS = {
    "alpha_star.population.B1.K1.kappa1": "batch, B = 1",
    "alpha_star.population.B16.K1.kappa1": "batch, B = 16",
    "alpha_star.population.B64.K1.kappa1": "batch, B = 64",
    "alpha_star.per_prompt.K1.kappa1": "one prompt (M1)",
}
ERRORS = {"g_e alone": "g_e alone", "equal mix": "equal mix", "optimal mix": "optimal mix"}


def draw(results: dict) -> tuple[Figure, pd.DataFrame]:
    """Optimal weights by target on the left, errors on the right, one marker per regime; and the rows drawn."""
    weights, errors = [], []
    for regime, found in results["regimes"].items():
        for row in found["targets"]:
            estimate, label = row["alpha"]["estimate"], TARGETS[row["name"]]
            weights.append(_row(label, regime, estimate) | {"exact": row["enumerated"]})
        errors += [
            _row(ERRORS[row["name"]], regime, row["relative"])
            for row in found["headline"]["errors"]
            if row["name"] in ERRORS and row["relative"] is not None
        ]
    with figures.paper_style():
        figure = Figure(figsize=(figures.TEXT_WIDTH, 2.7), layout="constrained")
        left, right = figure.subplots(1, 2)
        figures.plot_side_by_side(weights, left, label="optimal weight α*")
        left.set_xlim(0, 1)
        figures.plot_side_by_side(errors, right, label=f"MSE / MSE of g_t, B = {results['batch_size']}")
        right.set_xlim(0, 1.05)
        right.axvline(1.0, color="gray", linewidth=0.6, linestyle=":")
        handles, labels = left.get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside upper center", ncols=4, frameon=False)
    table = pd.concat([pd.DataFrame(weights).assign(panel="weights"), pd.DataFrame(errors).assign(panel="errors")])
    return figure, table


def _row(label: str, regime: str, estimate: dict) -> dict:
    return {
        "row": label,
        "series": regime,
        "value": estimate["value"],
        "low": estimate["ci_low"],
        "high": estimate["ci_high"],
    }


def main() -> int:
    """Draw the figure beside this script."""
    return figures.redraw(RESULTS, draw, FOLDER / "regimes", "python paper_figures/compute_studies.py")


if __name__ == "__main__":
    sys.exit(main())
