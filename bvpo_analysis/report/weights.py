"""Section on the importance weights of the traces: can averages over them be trusted?"""

import math
from collections.abc import Sequence

from bvpo_analysis.moments.diagnostics import HIGH_SHAPE, LOW_ESS, QUANTILES, DiagnosticsSummary
from bvpo_analysis.report.sections import Kind, Section, table

SOURCES = {
    "posterior": "posterior traces of the reference, for marginal estimators",
    "prior": "prior traces, for pooled estimators",
}
"""The sources of weights in words."""


def weights_section(summaries: Sequence[DiagnosticsSummary]) -> Section:
    """Effective sample sizes and tail shapes, one row per source, with what is wrong and what to do about it.

    Args:
        summaries: of :func:`bvpo_analysis.moments.diagnostics.summarise_weights`.

    Raises:
        ValueError: no summaries.

    Example:
        >>> from bvpo_analysis.moments.diagnostics import summarise_weights, weight_diagnostics
        >>> from bvpo_analysis.testing import toy_pair
        >>> section = weights_section([summarise_weights(weight_diagnostics([toy_pair()] * 4))])
        >>> section.tables[0].rows[0][:2]
        ('posterior traces of the reference, for marginal estimators', '2')
    """
    if not summaries:
        raise ValueError("no weights to report on")
    columns: list[tuple[str, Kind]] = [
        ("traces", "words"),
        ("per answer", "words"),
        ("ESS / draws, mean", "percent"),
        ("ESS / draws, median", "number"),
        (f"ESS / draws, {100 * QUANTILES[0]:g} % quantile", "number"),
        ("sets with a low ESS", "percent"),
        ("tail shape, median", "words"),
        (f"sets with a shape above {HIGH_SHAPE:g}", "percent"),
        ("sets with a shape too high for their draws", "percent"),
    ]
    rows = [
        (
            SOURCES[s.source],
            _draws(s.draws),
            s.ess_share,
            s.ess_quantiles[2],
            s.ess_quantiles[0],
            s.low_ess,
            _shape(s.khat_quantiles),
            s.high_khat,
            s.unusable_khat,
        )
        for s in summaries
    ]
    return Section(
        anchor="weights",
        title="Can the weights be trusted?",
        short="Weights",
        text=(
            "Averages over traces of another law take weights. The effective sample size (ESS) is the number of "
            f"equally weighted draws that would be as good; it is low below {LOW_ESS:g}, or below half of fewer than "
            f"{2 * LOW_ESS:g} draws. The tail shape is the Pareto shape of the largest weights: above {HIGH_SHAPE:g} "
            "an average is not to be trusted, and fewer draws stand less. One set of weights per prompt and answer.",
        ),
        folded=True,
        tables=(table("health of the weights", columns, rows),),
        notes=tuple(flag.text for s in summaries for flag in s.flags),
    )


def _draws(draws: tuple[int, int]) -> str:
    low, high = draws
    if high == 0:
        return "all"
    return str(low) if low == high else f"{low} to {high}"


def _shape(quantiles: tuple[float, ...] | None) -> str:
    if quantiles is None:
        return "not available"
    return f"{quantiles[2]:.2f}" if math.isfinite(quantiles[2]) else "infinite"
