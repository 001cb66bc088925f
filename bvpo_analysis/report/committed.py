"""Numbers of committed measurements on the model in the box that sentences of the report quote."""

from typing import Any

from bvpo_analysis.coverage.measured import measured_coverage
from bvpo_analysis.off_reference.measured import measured_regimes, off_reference_rows
from bvpo_analysis.report.adam import measured_adam
from bvpo_analysis.report.box_sections import RECOVERED, accuracies, ranking_claims
from bvpo_analysis.report.trained import StudyTables, accuracy_changes, training_seeds


def committed_facts(regime: str | None, tables: StudyTables | None = None) -> dict[str, Any]:
    """By name, for one shipped regime, or for all of them where the study is on other data.

    Args:
        regime: which pairs.
        tables: of a training study; the committed ones of the regime when not given.

    Example:
        >>> found = committed_facts("correct")
        >>> 0.9 < found["coverage_low"] <= found["coverage_high"] < 1
        True
    """
    covered = [row for row in measured_coverage() if row.quantity == RECOVERED]
    most = max(row.prompts for row in covered)
    at_most = [row.coverage for row in covered if row.prompts == most]
    rows = off_reference_rows(regime)
    first = [row for row in rows if row.share == min(r.share for r in rows)]
    last = [row for row in rows if row.share == max(r.share for r in rows)]
    blind, aware, *_ = ranking_claims()
    return {
        "most_prompts": most,
        "coverage_low": min(at_most),
        "coverage_high": max(at_most),
        "coverage_replications": min(row.replications for row in covered),
        "path_alpha_first": [row.alpha for row in first],
        "path_alpha_last": [row.alpha for row in last],
        "path_bias_last": [row.bias for row in last],
        "path_prompts": measured_regimes()[0].points[0].prompts,
        "path_price": max(row.price for row in rows),
        "accuracy": accuracies(),
        "training_seeds": training_seeds(tables or StudyTables(regime)),
        "given_study": tables is not None and tables.given,
        "accuracy_changes": accuracy_changes(tables or StudyTables(regime)),
        "adam": measured_adam(regime),
        "blind": blind,
        "aware": aware,
    }
