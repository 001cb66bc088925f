"""Fast half of the figure on checkpoints: the bias of g_t along paths away from the reference.

bvpo_analysis/off_reference/measured.json -> off_reference.pdf, .png and .csv. Loads no model.
"""

import sys
from dataclasses import asdict
from pathlib import Path

import pandas as pd
from matplotlib.figure import Figure

from bvpo_analysis import figures
from bvpo_analysis.off_reference.measured import MEASURED, path_rows, regimes_of

FOLDER = Path(__file__).parent
RESULTS = MEASURED


def draw(results: dict) -> tuple[Figure, pd.DataFrame]:
    """The figure, one panel per regime, and the rows drawn."""
    table = pd.DataFrame([asdict(row) for row in path_rows(regimes_of(results))])
    regimes = list(dict.fromkeys(table["regime"]))
    with figures.paper_style():
        figure = Figure(figsize=(figures.TEXT_WIDTH, 2.7), layout="constrained")
        axes = figure.subplots(1, len(regimes), sharey=True)
        for ax, regime in zip(axes, regimes, strict=True):
            figures.plot_trace_bias(table[table["regime"] == regime], ax)
            ax.set_title(regime)
        for ax in axes[1:]:
            ax.set_ylabel("")
        handles, labels = axes[0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside upper center", ncols=2, frameon=False, columnspacing=1.0)
    return figure, table


def main() -> int:
    """Draw the figure beside this script."""
    return figures.redraw(RESULTS, draw, FOLDER / "off_reference", "make off-reference")


if __name__ == "__main__":
    sys.exit(main())
