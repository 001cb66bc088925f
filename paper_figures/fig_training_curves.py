"""Fast half of the figure on training runs over steps: held-out loss, and the variance of the batch gradient.

bvpo_analysis/training_study/measured/*.csv -> training_curves.pdf, .png and .csv. Loads no model.
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
ARMS = ("alpha=0", "alpha=0.5", "alpha=1", "alpha=auto", "4 traces")
PROBED = "alpha=0.5"


def draw(results: dict) -> tuple[Figure, pd.DataFrame]:
    """The figure, one column per regime: losses above, variances and alpha* below; and the losses drawn."""
    regimes = studied_regimes()
    table = pd.DataFrame([row for row in study_rows("curves") if row["arm"] in ARMS])
    with figures.paper_style():
        figure = Figure(figsize=(figures.TEXT_WIDTH, 5.0), layout="constrained")
        axes = figure.subplots(3, len(regimes), sharex=True, squeeze=False)
        for j, regime in enumerate(regimes):
            probes = study_rows("alpha_path", regime=regime, arm=PROBED)
            figures.plot_training_curves(table[table["regime"] == regime], axes[0][j])
            figures.plot_gradient_variances(probes, axes[1][j])
            figures.plot_weight_path(study_rows("alpha_path", regime=regime, arm="alpha=auto"), axes[2][j])
            axes[0][j].set_title(regime, fontsize="small")
            for i in range(3):
                axes[i][j].set_xlabel("step" if i == 2 else "")
                if j > 0:
                    axes[i][j].set_ylabel("")
        axes[1][0].set_ylabel("Tr Cov(g_c)")
        for i in (1, 2):
            axes[i][0].legend(loc="best", fontsize="x-small")
        handles, labels = axes[0][0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside upper center", ncols=5, frameon=False, columnspacing=1.0)
    return figure, table


def main() -> int:
    """Draw the figure beside this script."""
    return figures.redraw(RESULTS, draw, FOLDER / "training_curves", "make train-study")


if __name__ == "__main__":
    sys.exit(main())
