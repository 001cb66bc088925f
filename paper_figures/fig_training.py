"""Fast half of the figure on training runs: outcome of every weight, beside the weights predicted before training.

bvpo_analysis/training_study/measured/*.csv -> training.pdf, .png and .csv. Loads no model.
"""

import sys
from pathlib import Path

import pandas as pd
from matplotlib.figure import Figure

from bvpo_analysis import figures
from bvpo_analysis.training_study.committed import FOLDER as MEASURED
from bvpo_analysis.training_study.committed import studied_regimes, study_rows

FOLDER = Path(__file__).parent
RESULTS = MEASURED / "study.json"
OUTCOMES = {"marginal_loss": "held-out loss", "win_rate_thinking": "win rate, thinking"}
SHOWN = {"mse": "α*, MSE", "kappa": "α_κ, κ = ηL", "cosine": "largest cosine"}


def draw(results: dict) -> tuple[Figure, pd.DataFrame]:
    """The figure, one column per regime and one row per outcome, and the rows drawn."""
    regimes = studied_regimes()
    table = pd.DataFrame(study_rows("sweep", optimiser="sgd"))
    with figures.paper_style():
        figure = Figure(figsize=(figures.TEXT_WIDTH, 3.6), layout="constrained")
        axes = figure.subplots(len(OUTCOMES), len(regimes), sharex=True, squeeze=False)
        for j, regime in enumerate(regimes):
            found = study_rows("predictions", regime=regime, optimiser="sgd", source="enumerated")
            predicted = {SHOWN[row["criterion"]]: row["alpha"] for row in found if row["criterion"] in SHOWN}
            for i, (name, label) in enumerate(OUTCOMES.items()):
                ax = axes[i][j]
                figures.plot_sweep(table[table["regime"] == regime], ax, outcome=name, predicted=predicted)
                ax.set_ylabel(label if j == 0 else "")
                if i + 1 < len(OUTCOMES):
                    ax.set_xlabel("")
            axes[0][j].set_title(regime, fontsize="small")
        handles, labels = axes[0][0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside upper center", ncols=3, frameon=False, columnspacing=1.0)
    return figure, table


def main() -> int:
    """Draw the figure beside this script."""
    return figures.redraw(RESULTS, draw, FOLDER / "training", "make train-study")


if __name__ == "__main__":
    sys.exit(main())
