"""What the intervals of the report are over, and what was repeated how often: a table for those who ask for seeds."""

from bvpo_analysis.coverage.measured import measured_coverage
from bvpo_analysis.moments import Moments
from bvpo_analysis.off_reference.measured import measured_regimes
from bvpo_analysis.report.box_sections import BOX, accuracies
from bvpo_analysis.report.sections import Kind, Section, table


def intervals_section(moments: Moments) -> Section:
    """Every kind of number, its interval, and what it is over."""
    prompts = f"{moments.n} prompts"
    exact = moments.exact
    rows = [
        (
            "moments, variances, costs of this run",
            "none: exact for these pairs" if exact else "jackknife, one prompt left out at a time, t quantile",
            prompts,
        ),
        (
            "squared biases, errors and what contains them",
            "none: exact for these pairs" if exact else "the same, the noise of a squared bias at the value under test",
            prompts,
        ),
        (
            "weights and other ratios",
            "none: exact for these pairs" if exact else "Fieller set, which may be unbounded",
            prompts,
        ),
        (
            f"coverage and recovery on {BOX}",
            "share of the samples, Monte Carlo",
            f"{min(row.replications for row in measured_coverage())} samples each",
        ),
        (
            f"bias along training on {BOX}",
            "none: all traces enumerated",
            f"{sum(len(found.points) for found in measured_regimes())} checkpoints of one run per regime",
        ),
        (
            f"accuracies of {BOX}",
            "Wilson",
            f"{accuracies()['right_thinking']['n']} sampled answers",
        ),
    ]
    columns: list[tuple[str, Kind]] = [("Number", "words"), ("95 % interval", "words"), ("over", "words")]
    return Section(
        anchor="intervals",
        title="What the intervals are over",
        short="Intervals",
        text=(
            "An interval here is about prompts: it says how the number would move on other prompts of the same kind. "
            "It is not about seeds of a training run.",
        ),
        tables=(table("intervals", columns, rows),),
    )
