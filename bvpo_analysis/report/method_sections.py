"""Sections that do not depend on the run: how well the intervals cover, and what happens off the reference.

Both show committed measurements on the reasoning model in the box, where all traces can be enumerated and the truth is
known.
"""

from collections.abc import Iterable

from bvpo_analysis.coverage.measured import HEADLINE, LIMITS, coverage_summaries, measured_coverage
from bvpo_analysis.off_reference.measured import off_reference_rows
from bvpo_analysis.report.sections import Kind, Section, table


def coverage_section() -> Section:
    """How often the 95 % intervals held the truth, by sample size."""
    rows = measured_coverage()
    found = coverage_summaries(rows)
    sizes = sorted({row.prompts for row in rows})
    columns: list[tuple[str, Kind]] = [("95 % interval of", "words")]
    for size in sizes:
        columns += [(f"n = {size}, lowest", "share"), ("highest", "share")]
    cells = []
    for name, label in HEADLINE.items():
        here = {summary.prompts: summary for summary in found if summary.quantity == name}
        if here:
            ends = [(here[size].lowest, here[size].highest) if size in here else (None, None) for size in sizes]
            cells.append((label, *(_rounded(end) for pair in ends for end in pair)))
    return Section(
        anchor="coverage",
        title="Do the intervals cover?",
        short="Coverage",
        text=(
            f"Samples of n prompts were drawn {min(row.replications for row in rows)} times from finite populations of "
            f"enumerated prompts of the model in the box, with {_listed({row.traces for row in rows})} traces per "
            "answer in each of the three regimes, and every interval was compared with the exact value. A coverage of "
            "95 % is what an interval claims; lowest and highest are over regimes and trace counts.",
        ),
        tables=(table("coverage of the intervals", columns, cells),),
        folded=True,
        notes=(*(limit.text for limit in LIMITS), "The measurement is committed; “make coverage” repeats it."),
    )


def off_reference_section(regime: str | None) -> Section:
    """How the bias of g_t grows along a path of training, and what the theory predicts."""
    columns: list[tuple[str, Kind]] = [
        ("Regime", "words"),
        ("Part of the path", "number"),
        ("Traces that count", "percent"),
        ("Bias of g_t over |μ|", "number"),
        ("Leading term", "number"),
        ("Relative remainder", "number"),
        ("With fresh traces", "number"),
        ("α*", "number"),
        ("α* if g_t were unbiased", "number"),
        ("Price in MSE", "number"),
    ]
    rows = [
        (
            row.regime,
            row.share,
            {"value": row.ess_share, "se": None, "ci_low": None, "ci_high": None},
            row.bias,
            row.predicted,
            row.remainder,
            row.fresh_bias,
            row.alpha,
            row.alpha_unbiased,
            row.price,
        )
        for row in off_reference_rows(regime)
    ]
    return Section(
        anchor="off-reference",
        title="Off the reference",
        short="Off the reference",
        text=(
            "Training moves the policy off its reference, and g_t is then biased: its traces are those of the "
            "reference (a stale posterior), and the slope of the loss varies with the trace. Measured exactly, by "
            "enumeration, along a straight path from the reference to a trained checkpoint; the leading term is what "
            "theory predicts from scores at the reference.",
        ),
        tables=(table("bias along a path of training", columns, rows),),
        notes=(
            "Traces that count: effective sample size of reference-posterior traces under the checkpoint, as a share "
            "of their number. The price is the MSE at the weight that takes g_t for unbiased, over that at the optimal "
            "one.",
        ),
    )


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 3)


def _listed(values: Iterable[int]) -> str:
    return " or ".join(str(value) for value in sorted(values))
