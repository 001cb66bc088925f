"""Fast half of an SGD figure: a weight that follows the step size.

results/sgd.json -> schedule.pdf, .png and .csv. Loads no model.
"""

import sys
from pathlib import Path

import pandas as pd
from matplotlib.figure import Figure

from bvpo_analysis import figures
from bvpo_analysis.sgd.full_study import draw_schedules

FOLDER = Path(__file__).parent
RESULTS = FOLDER / "results" / "sgd.json"


def draw(results: dict) -> tuple[Figure, pd.DataFrame]:
    """The figure, and the rows drawn."""
    table = pd.DataFrame(results["schedule"])
    return draw_schedules(table), table


def main() -> int:
    """Draw the figure beside this script."""
    return figures.redraw(RESULTS, draw, FOLDER / "schedule", "python paper_figures/compute_sgd.py")


if __name__ == "__main__":
    sys.exit(main())
