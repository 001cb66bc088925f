"""The best weight in Adam's own metric, on the model in the box: measured by a command, committed for reports.

A step of Adam is -eta P g with P = 1 / (sqrt(v) + eps), v being the second moments of the batch gradients. So what
matters of an estimator are bias and variance in the products <., .>_P, and kappa = eta L with the smoothness L in the
same metric. P is that of the equal mix, taken as given.

    python -m bvpo_analysis.report.adam            writes adam_measured.json beside this file
"""

import argparse
import json
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

from bvpo_analysis import mixing
from bvpo_analysis.errors import InputError, StudyError, exit_with
from bvpo_analysis.estimators import EmptyTrace, Trace, mean_coefficients, mix, totals_of
from bvpo_analysis.lrm.loading import load_model
from bvpo_analysis.moments import Moments, population_moments
from bvpo_analysis.objectives import DPO
from bvpo_analysis.preferences.shipped import REGIMES, shipped_pairs
from bvpo_analysis.report.measures import closeness_measures
from bvpo_analysis.report.run_folder import write_json
from bvpo_analysis.report.sections import Kind, Section, table
from bvpo_analysis.report.step_sizes import LEARNING_RATES
from bvpo_analysis.scores import adam_metric, score_pairs
from bvpo_analysis.sgd.measured import measured_smoothness
from bvpo_analysis.tables import jsonable

MEASURED = Path(__file__).with_name("adam_measured.json")
PAIRS, TRACES, BATCH = 128, 4, 16
"""Pairs per regime, traces per answer, and the batch size of metric and weights."""


def measure(regime: str, pairs: int = PAIRS) -> dict[str, Any]:
    """Moments of (g_t, g_e) in Adam's metric and in the Euclidean one, on the same pairs; weights by learning rate.

    Args:
        regime: which shipped pairs.
        pairs: how many of them.
    """
    lrm, data, loss = load_model(), shipped_pairs(regime, limit=pairs), DPO()
    trace, empty = Trace(loss), EmptyTrace(loss)
    gradient = partial(mean_coefficients, mix(trace, empty, 0.5))
    metric = adam_metric(lrm, data, gradient, batch_size=min(BATCH, len(data)), traces=TRACES)
    totals = totals_of(trace, empty)

    def moments(**options: Any) -> Moments:
        return population_moments(score_pairs(lrm, data, traces=TRACES, totals=totals, **options), trace, empty)

    adam, plain = moments(metric=metric, label=f"Adam {regime}"), moments(label=f"plain {regime}")
    law, plain_law = adam.population(BATCH), plain.population(BATCH)
    smoothness = measured_smoothness(regime)["Adam"].smoothness
    rates = [
        {"learning_rate": rate, "kappa": rate * smoothness, "alpha": mixing.optimal_alpha(law, rate * smoothness)}
        for rate in LEARNING_RATES
        if rate * smoothness <= 1
    ]
    found: dict[str, Any] = jsonable(
        {
            "regime": regime,
            "model": lrm.fingerprint,
            "pairs": len(data),
            "batch_size": BATCH,
            "alpha": mixing.optimal_alpha(law),
            "alpha_euclidean": mixing.optimal_alpha(plain_law),
            "equal_over_best": mixing.error_ratio(law, 0.5, law, mixing.recommended_weights),
            "bias_share": closeness_measures(adam)["bias_share"],
            "rates": rates,
        }
    )
    return found


def measured_adam(regime: str | None = None) -> list[dict[str, Any]]:
    """The committed rows of one regime, or of all.

    Example:
        >>> [row["regime"] for row in measured_adam()]
        ['style', 'valid', 'correct']
    """
    rows: list[dict[str, Any]] = json.loads(MEASURED.read_text(encoding="utf-8"))
    return [row for row in rows if regime in (None, row["regime"])]


def adam_section(regime: str | None) -> Section:
    """Weights in both metrics, and by learning rate in that of Adam."""
    rows = measured_adam(regime)
    columns: list[tuple[str, Kind]] = [
        ("Regime", "words"),
        ("α* in Adam's metric, κ of one", "weight"),
        ("α* in the Euclidean one", "weight"),
        ("error of the equal mix over the least", "estimate"),
        ("|b_e|² over |μ|²", "estimate"),
    ]
    body = [
        (row["regime"], row["alpha"], row["alpha_euclidean"], row["equal_over_best"], row["bias_share"]) for row in rows
    ]
    by_rate: list[tuple[str, Kind]] = [
        ("Regime", "words"),
        ("Learning rate η", "number"),
        ("κ of Adam", "number"),
        ("α* in Adam's metric at that κ", "weight"),
    ]
    rates = [
        (row["regime"], rate["learning_rate"], rate["kappa"], rate["alpha"]) for row in rows for rate in row["rates"]
    ]
    return Section(
        anchor="adam",
        title="In Adam's own metric",
        short="Adam",
        text=(
            f"On {rows[0]['pairs']} pairs of the model in the box, batches of {rows[0]['batch_size']} prompts: bias "
            "and variance in the metric of Adam's second moments (those of the equal mix, taken as given), beside the "
            "Euclidean ones of the same pairs, and the weight at the learning rates for which κ is at most one.",
        ),
        tables=(table("weights in two metrics", columns, body), table("weights by Adam's step size", by_rate, rates)),
        notes=("The measurement is committed; python -m bvpo_analysis.report.adam repeats it.",),
    )


def main(argv: Sequence[str] | None = None) -> int:
    """Command line; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m bvpo_analysis.report.adam", description=__doc__)
    parser.add_argument("--pairs", type=int, default=PAIRS, help=f"pairs per regime (default {PAIRS})")
    parser.add_argument("--output", type=Path, default=MEASURED, help="where to write (default: the package)")
    options = parser.parse_args(argv)
    try:
        if options.pairs < 4:
            raise InputError(f"--pairs must be at least 4, got {options.pairs}")
        write_json(options.output, [measure(regime, options.pairs) for regime in REGIMES])
    except (InputError, StudyError) as error:
        return exit_with(error)
    print(f"weights in Adam's metric: {options.output}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
