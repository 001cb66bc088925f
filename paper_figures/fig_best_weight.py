"""Fast half of an SGD figure: the best weight against kappa.

results/sgd.json -> best_weight.pdf, .png and .csv. Loads no model.
"""

import json
import sys
from pathlib import Path

import pandas as pd
from matplotlib.figure import Figure

from bvpo_analysis import figures
from bvpo_analysis.sgd.full_study import draw_best_weights

FOLDER = Path(__file__).parent
RESULTS = FOLDER / "results" / "sgd.json"


def draw(results: dict) -> tuple[Figure, pd.DataFrame]:
    """The figure, and the rows drawn."""
    table = pd.DataFrame(results["best_weight"])
    return draw_best_weights(table), table


def main() -> int:
    """Draw the figure beside this script."""
    if not RESULTS.exists():
        print(f"error: {RESULTS.name} is missing; compute it with: python paper_figures/compute_sgd.py")
        return 2
    figure, table = draw(json.loads(RESULTS.read_text(encoding="utf-8")))
    for path in figures.save_figure(figure, FOLDER / "best_weight", table):
        print(path.name)
    return 0


if __name__ == "__main__":
    sys.exit(main())
