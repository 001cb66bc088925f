"""The section on other estimators than g_t and g_e, each against the same target."""

from bvpo_analysis.combining import james_stein_risk, prompts_needed
from bvpo_analysis.comparison import EstimatorComparison
from bvpo_analysis.report.formatting import estimate_text
from bvpo_analysis.report.sections import Section, table
from bvpo_analysis.tables import jsonable


def estimators_section(compared: EstimatorComparison, batch_size: int) -> Section:
    """Bias, variance and cost of every estimator, one realisation on one prompt."""
    rows = [
        (
            row.label,
            row.bias_sq,
            row.variance,
            row.trace_share,
            row.cosine,
            row.bias_order,
        )
        for row in compared.rows()
    ]
    return Section(
        anchor="alternatives",
        title="Other estimators, against the same target",
        short="Other estimators",
        text=(
            f"One realisation on one prompt, over {compared.joint.n} prompts, against the mean of g_t, which is the "
            "marginal gradient at the reference. A squared bias of zero is known, the others are estimated and may "
            "come out negative. K-trace marginal estimators, their jackknife and their randomised levels are means of "
            "g_t at the reference and have no row of their own. A cosine is a ratio of unbiased estimates and can "
            "leave its range by noise; its interval does not.",
        ),
        tables=(
            table(
                "estimators against one target",
                [
                    ("Estimator", "words"),
                    ("Squared bias", "estimate"),
                    ("Variance", "estimate"),
                    ("of which traces", "percent"),
                    ("Cosine to μ", "estimate"),
                    ("Bias order", "words"),
                ],
                rows,
            ),
        ),
        notes=(_shrinkage_note(compared, batch_size),),
    )


def _shrinkage_note(compared: EstimatorComparison, batch_size: int) -> str:
    """What the James-Stein weight of a batch does, in words."""
    needed = prompts_needed(batch_size)
    if compared.joint.n < needed:
        return f"The James-Stein weight of a batch of {batch_size} was not judged: that takes {needed} prompts."
    found = james_stein_risk(compared.joint, "trace", "empty", batch_size)
    ratio, traces = estimate_text(jsonable(found.ratio)), len(compared.scores.pairs[0].log_probs.draws)
    return (
        f"The James-Stein weight, 1 - c/|g_t - g_e|^2 from each batch itself, gives batches of {batch_size} prompts "
        f"{ratio} times the error of g_t, at a mean weight of {found.weight:.2g} (effective rank of the noise "
        f"{found.effective_rank:.2g}; {traces} traces averaged)."
    )
