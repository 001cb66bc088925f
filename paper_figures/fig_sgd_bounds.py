"""Fast half of an SGD figure: SGD against its bounds along a run.

results/sgd.json -> sgd_bounds.pdf, .png and .csv. Loads no model.
"""

import json
import sys
from pathlib import Path

import pandas as pd
from matplotlib.figure import Figure

from bvpo_analysis import figures
from bvpo_analysis.sgd.full_study import draw_trajectories

FOLDER = Path(__file__).parent
RESULTS = FOLDER / "results" / "sgd.json"


def draw(results: dict) -> tuple[Figure, pd.DataFrame]:
    """The figure, and the rows drawn."""
    table = pd.DataFrame(results["sgd_bounds"])
    return draw_trajectories(table), table


def main() -> int:
    """Draw the figure beside this script."""
    if not RESULTS.exists():
        print(f"error: {RESULTS.name} is missing; compute it with: python paper_figures/compute_sgd.py")
        return 2
    figure, table = draw(json.loads(RESULTS.read_text(encoding="utf-8")))
    for path in figures.save_figure(figure, FOLDER / "sgd_bounds", table):
        print(path.name)
    return 0


if __name__ == "__main__":
    sys.exit(main())
