"""Fast half of the figure of layers: results/studies.json -> layers.pdf, .png and .csv. Loads no model."""

import sys
from pathlib import Path

import pandas as pd
from matplotlib.figure import Figure

from bvpo_analysis import figures

FOLDER = Path(__file__).parent
RESULTS = FOLDER / "results" / "studies.json"


def draw(results: dict) -> tuple[Figure, pd.DataFrame]:
    """Bias and variance above, optimal weights below, by parameter group, one column per regime; and the rows drawn."""
    regimes = results["regimes"]
    rows = []
    with figures.paper_style():
        figure = Figure(figsize=(figures.TEXT_WIDTH, 4.2), layout="constrained")
        axes = figure.subplots(2, len(regimes), sharey=True, sharex="row")
        for (above, below), (regime, found) in zip(axes.T, regimes.items(), strict=True):
            figures.plot_group_moments(found["groups"], above, batch_size=results["batch_size"])
            figures.plot_groups(found["groups"], below)
            above.set_title(regime)
            below.set_xticks([0, 0.5, 1], ["0", "½", "1"])
            if above is not axes[0, 1]:
                above.set_xlabel("")
                below.set_xlabel("")
            for row in found["groups"]:
                parts = {name: row[name] for name in ("bias_e_sq", "var_t", "trace_var")}
                parts["alpha"] = row["alpha"]["estimate"]
                rows += [
                    {"regime": regime, "group": row["name"], "parameters": row["parameters"], "quantity": name}
                    | {"value": e["value"], "low": e["ci_low"], "high": e["ci_high"]}
                    for name, e in parts.items()
                ]
        handles, labels = axes[0, 0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside upper center", ncols=3, frameon=False)
    return figure, pd.DataFrame(rows)


def main() -> int:
    """Draw the figure beside this script."""
    return figures.redraw(RESULTS, draw, FOLDER / "layers", "python paper_figures/compute_studies.py")


if __name__ == "__main__":
    sys.exit(main())
