"""Fast half of the figure of sampling: results/population.json -> sampling.pdf, .png and .csv. Loads no model.

Coverage comes from the committed table of ``make coverage``, which has its own, longer study.
"""

import sys
from pathlib import Path

import pandas as pd
from matplotlib.figure import Figure

from bvpo_analysis import figures
from bvpo_analysis.coverage.measured import MEASURED

FOLDER = Path(__file__).parent
RESULTS = FOLDER / "results" / "population.json"
SERIES = {f"alpha_star.population.B{size}.K1.kappa1": f"α*, B = {size}" for size in (1, 16, 64)}


def draw(results: dict) -> tuple[Figure, pd.DataFrame]:
    """Estimates above, coverage of their intervals below, one column per regime; and the rows drawn."""
    table = pd.read_csv(MEASURED)
    table = table[(table["traces"] == 1) & table["quantity"].isin(list(SERIES))]
    covered = table.assign(series=table["quantity"].map(SERIES))
    bins = results["bins"]
    rows = []
    with figures.paper_style():
        regimes = list(dict.fromkeys(row["regime"] for row in results["sampling"]))
        figure = Figure(figsize=(figures.TEXT_WIDTH, 3.8), layout="constrained")
        axes = figure.subplots(2, len(regimes), sharey="row")
        for (above, below), regime in zip(axes.T, regimes, strict=True):
            found = [row for row in results["sampling"] if row["regime"] == regime]
            figures.plot_sampling(found, bins, above)
            shown = covered[covered["regime"] == regime]
            figures.plot_coverage(shown, below)
            above.set_title(regime)
            rows += [
                {
                    "regime": regime,
                    "panel": "sampling",
                    "series": f"n = {row['prompts']}",
                    "at": (a + b) / 2,
                    "value": c,
                }
                for row in found
                for a, b, c in zip(bins[:-1], bins[1:], row["counts"], strict=True)
                if c
            ]
            rows += [
                {"regime": regime, "panel": "coverage", "series": s, "at": n, "value": c, "se": e}
                for s, n, c, e in zip(
                    *(shown[k] for k in ("series", "prompts", "coverage", "coverage_se")), strict=True
                )
            ]
        for ax in axes[:, 1:].flat:
            ax.set_ylabel("")
        drawn = [at for row in results["sampling"] for at, count in zip(bins[:-1], row["counts"], strict=True) if count]
        for ax in axes[0]:
            ax.set_xlim(min(drawn) - 0.05, max(drawn) + 0.07)
        # The first row shares its scale: the highest density of all decides.
        axes[0, 0].set_ylim(0, max(_highest(row, bins) for row in results["sampling"]))
        axes[1, 0].set_ylim(min(91, 100 * covered["coverage"].min() - 1), 100)
        axes[0, 0].legend()
        axes[1, 0].legend(loc="lower left")
    return figure, pd.DataFrame(rows)


def _highest(row: dict, bins: list[float]) -> float:
    return 1.08 * max(row["counts"]) / row["replications"] / (bins[1] - bins[0])


def main() -> int:
    """Draw the figure beside this script."""
    return figures.redraw(RESULTS, draw, FOLDER / "sampling", "python paper_figures/compute_population.py")


if __name__ == "__main__":
    sys.exit(main())
