"""Sections that show committed measurements on the model in the box: recovery of the weight, variance along a path,
accuracy with and without thinking, and who ranks the answers.
"""

import json
import math
from importlib import resources
from typing import Any

from bvpo_analysis.claims.table import load_measured
from bvpo_analysis.coverage.measured import measured_coverage
from bvpo_analysis.off_reference.measured import measured_regimes
from bvpo_analysis.report.sections import Kind, Section, table

RECOVERED = "alpha_star.population.B16.K1.kappa1"
"""The number whose recovery is shown; batches of the size in its name."""
RECOVERED_BATCH = 16
RANKING = (
    "ranking-by-answers-gives-posterior-traces",
    "a-ranker-may-read-the-trace",
    "rows-may-be-dropped-by-their-trace",
)
"""Names of the claims on who ranks the answers."""
BOX = "the model in the box"
"""How the pages name it."""


def recovery_rows(regime: str | None = None) -> list[tuple[str, int, int, float, float, float, float, float]]:
    """How well the weight was found again: regime, n, K, truth, mean error, spread, coverage, error lost.

    The spread is that of one estimate over samples of n prompts. The loss is D (spread^2 + mean error^2) / F*, as
    F(a) = F* + D (a - alpha*)^2, with D from the true errors at weight 0 and at the best weight.

    Example:
        >>> rows = recovery_rows("correct")
        >>> [row[1] for row in rows] == sorted(row[1] for row in rows)
        True
    """
    table_ = measured_coverage()
    truths = {(row.regime, row.quantity): row.truth for row in table_}
    found = []
    for row in table_:
        if row.quantity != RECOVERED or regime not in (None, row.regime):
            continue
        least, empty = (truths[row.regime, f"mse.{rule}.B{RECOVERED_BATCH}"] for rule in ("recommended", "alpha0"))
        curvature = (empty / least - 1) / row.truth**2
        spread = abs(row.mean_error / row.error_in_se) * math.sqrt(row.replications)
        lost = curvature * (spread**2 + row.mean_error**2)
        found.append((row.regime, row.prompts, row.traces, row.truth, row.mean_error, spread, row.coverage, lost))
    return sorted(found, key=lambda row: (row[0], row[1], row[2]))


def recovery_section(regime: str | None) -> Section:
    """The sampling distribution of the estimated weight, where the truth is known."""
    columns: list[tuple[str, Kind]] = [
        ("Regime", "words"),
        ("prompts n", "number"),
        ("traces K", "number"),
        ("true α*", "share"),
        ("mean error of the estimate", "number"),
        ("its standard deviation", "number"),
        ("coverage of 95 % intervals", "share"),
        ("MSE lost by using it", "percent"),
    ]
    rows = [(*row[:-1], _exact(row[-1])) for row in recovery_rows(regime)]
    times = min(row.replications for row in measured_coverage())
    return Section(
        anchor="recovery",
        title="Is the true weight found again?",
        short="Recovery",
        text=(
            f"The weight of batches of {RECOVERED_BATCH} prompts, estimated from {times} samples of n prompts of {BOX} "
            "whose traces are all enumerated, so that the truth is known. The last column is the error that a step "
            "has on average for using the estimate in the place of the true weight.",
        ),
        tables=(table("recovery of the weight", columns, rows),),
    )


def variance_along_section(regime: str | None) -> Section:
    """Trace variance and squared bias along a path of training, relative to the squared target."""
    rows = [
        (
            found.regime,
            point.share,
            point.target_sq,
            point.trace_var,
            point.trace_var / point.target_sq,
            point.bias_e_sq / point.target_sq,
        )
        for found in measured_regimes()
        for point in found.points
        if regime in (None, found.regime)
    ]
    columns: list[tuple[str, Kind]] = [
        ("Regime", "words"),
        ("part of the path", "number"),
        ("|μ|²", "number"),
        ("trace variance of g_t", "number"),
        ("the same over |μ|²", "number"),
        ("|b_e|² over |μ|²", "number"),
    ]
    return Section(
        anchor="variance-along",
        title="Variance along training",
        short="Along training",
        text=(
            f"Exact, by enumeration, on {BOX}: a straight path from the reference to a trained checkpoint, one prompt "
            "with one trace per answer.",
        ),
        tables=(table("variance along a path of training", columns, rows),),
    )


def accuracies() -> dict[str, Any]:
    """Shares of right answers of the model in the box before any alignment, with and without thinking.

    Example:
        >>> found = accuracies()
        >>> found["right_thinking"]["value"] > found["right_empty"]["value"]
        True
    """
    text = resources.files("bvpo_analysis.lrm.shipped").joinpath("weights", "evaluation.json").read_text("utf-8")
    measured: dict[str, Any] = json.loads(text)["measurements"]
    return {name: measured[name] for name in ("right_thinking", "right_empty")}


def accuracy_section() -> Section:
    """Accuracy before alignment, in both modes."""
    found = accuracies()
    names = {"right_thinking": "with thinking", "right_empty": "without (empty trace)"}
    columns: list[tuple[str, Kind]] = [("before alignment", "words"), ("right answers", "percent"), ("n", "number")]
    return Section(
        anchor="accuracy",
        title="Accuracy before alignment",
        short="Accuracy",
        text=(f"Answers sampled from {BOX} at temperature one, with Wilson intervals.",),
        tables=(table("accuracy before alignment", columns, [(names[k], v, v["n"]) for k, v in found.items()]),),
    )


def ranking_claims() -> list[dict[str, Any]]:
    """The measured claims on who ranks the answers, the first without a condition."""
    rows = {row["name"]: row for row in load_measured()}
    return [rows[name] for name in RANKING]


def ranking_section() -> Section:
    """The bias of g_t when the ranker reads answers only, when it reads traces, and when rows are dropped by traces."""
    columns: list[tuple[str, Kind]] = [
        ("Statement", "words"),
        ("Holds only if", "words"),
        ("measured |b_t| / |μ|", "number"),
        ("Measured on", "words"),
    ]
    rows = [
        (row["statement"], row["only_if"] or "as worded", _rounded(row), row["setting"]) for row in ranking_claims()
    ]
    return Section(
        anchor="ranking",
        title="Who ranks the answers",
        short="Ranking",
        text=(
            "Enumerated prompts with a few traces: the mean of g_t over everything that a pipeline can draw, against "
            "the marginal gradient. A rule that reads only the answers leaves the traces what they were sampled as; "
            "one that reads traces selects them.",
        ),
        tables=(table("bias of g_t by what the ranker reads", columns, rows),),
    )


def _rounded(row: dict[str, Any]) -> float:
    """What is within rounding of the statement is shown as it."""
    close = abs(row["measured"] - row["predicted"]) <= row["tolerance"]
    return float(row["predicted"] if close else row["measured"])


def _exact(value: float) -> dict[str, Any]:
    """A number as an Estimate without an interval, for columns of fractions."""
    return {"value": value, "se": None, "ci_low": None, "ci_high": None}
