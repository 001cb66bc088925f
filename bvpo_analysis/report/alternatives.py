"""The section on other estimators than g_t and g_e, each against the same target."""

from bvpo_analysis.comparison import EstimatorComparison
from bvpo_analysis.moments import jackknife_estimate
from bvpo_analysis.report.sections import Section, table


def estimators_section(compared: EstimatorComparison) -> Section:
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
            "g_t at the reference and have no row of their own.",
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
        notes=(_shift_note(compared),),
    )


def _shift_note(compared: EstimatorComparison) -> str:
    """The bias of g_e in two parts, in words."""
    joint = compared.joint
    if not {"empty", "empty_shared"} <= set(joint.names):
        return ""
    a, b = joint.index("empty"), joint.index("empty_shared")
    data = jackknife_estimate(joint.bias_diff_sq[:, a, b])
    trace = joint.bias_sq("empty_shared")
    return (
        "The bias of g_e is a data shift (its answers are others than those of g_t) plus a trace shift (the same "
        f"answers without their trace): their squared lengths are {data} and {trace}."
    )
