"""What ``make coverage`` measured, committed for reports, and the limits that it showed."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields
from pathlib import Path

import pandas as pd

from bvpo_analysis.coverage.study import CoverageRow

MEASURED = Path(__file__).with_name("measured.csv")
HEADLINE: dict[str, str] = {
    "alpha_star.population.B1.K1.kappa1": "alpha* at batch size 1 (M3)",
    "alpha_star.population.B16.K1.kappa1": "alpha* at batch size 16 (M3)",
    "alpha_star.population.B64.K1.kappa1": "alpha* at batch size 64 (M3)",
    "alpha_star.per_prompt.K1.kappa1": "alpha* per prompt (M1)",
    "bias_e_sq": "squared bias of the empty-trace gradient",
    "prompt_bias_e_sq": "mean squared bias per prompt",
    "var_t": "variance of the trace-based gradient",
    "trace_var": "trace part of that variance",
    "var_e": "variance of the empty-trace gradient",
    "mse.alpha0.B16": "error at weight 0, batch size 16",
    "mse.alpha0.5.B16": "error at weight 1/2, batch size 16",
    "mse.recommended.B16": "error at the recommended weight, batch size 16",
    "regret.alpha0.5.B16": "regret of weight 1/2, batch size 16",
    "batch_size_equivalent.B16": "batch-size equivalent of mixing, batch size 16",
    "traces_worth": "traces that an empty trace is worth",
    "cosine_e": "cosine of the empty-trace gradient to the target",
}
"""Numbers that a report shows first, with a label."""
ANY_SIZE = 10**9
"""An upper end for sample sizes that have none."""


@dataclass(frozen=True)
class Limit:
    """Where the intervals of some numbers do not cover at 93 to 97 %.

    Attributes:
        quantities: beginnings of their names.
        fewest, most: the sample sizes n concerned.
        lowest, highest: the range of coverage measured there.
        text: what happens, why, and what to do, for the reader of a report.
    """

    quantities: tuple[str, ...]
    fewest: int
    most: int
    lowest: float
    highest: float
    text: str

    def applies(self, quantity: str, prompts: int) -> bool:
        """Whether a number at a sample size is concerned.

        Example:
            >>> [LIMITS[0].applies("bias_e_sq", n) for n in (16, 64)]
            [True, False]
        """
        return self.fewest <= prompts <= self.most and quantity.startswith(self.quantities)


@dataclass(frozen=True)
class CoverageSummary:
    """Coverage of the intervals of one number over all regimes and trace counts of one sample size.

    Attributes:
        label, quantity: what it is, in words and by name.
        prompts: the sample size n.
        lowest, highest: the range of coverage over the settings.
        largest_error_in_se: the largest |mean error| of the estimates, in Monte Carlo standard errors.
        settings: how many settings there are.
        replications: replications per setting, the fewest.
    """

    label: str
    quantity: str
    prompts: int
    lowest: float
    highest: float
    largest_error_in_se: float
    settings: int
    replications: int


def write_table(path: Path, rows: Iterable[CoverageRow]) -> None:
    """Write a tidy CSV table, whole or not at all."""
    table = pd.DataFrame([{f.name: getattr(row, f.name) for f in fields(CoverageRow)} for row in rows])
    part = path.with_name(path.name + ".part")
    table.to_csv(part, index=False, lineterminator="\n", float_format="%.6g")
    part.replace(path)


def measured_coverage(path: Path = MEASURED) -> tuple[CoverageRow, ...]:
    """The committed table of coverage, or another one of its form.

    Example:
        >>> sorted({row.prompts for row in measured_coverage()})
        [16, 64, 256]
    """
    table = pd.read_csv(path, dtype={f.name: f.type for f in fields(CoverageRow)}, keep_default_na=True)
    return tuple(CoverageRow(*values) for values in table.itertuples(index=False, name=None))


def coverage_summaries(
    rows: Sequence[CoverageRow], quantities: Iterable[str] = tuple(HEADLINE)
) -> tuple[CoverageSummary, ...]:
    """Rows for a report: the range of coverage of each quantity at each sample size.

    Example:
        >>> found = coverage_summaries(measured_coverage(), ["bias_e_sq"])
        >>> [summary.prompts for summary in found], found[0].label
        ([16, 64, 256], 'squared bias of the empty-trace gradient')
    """
    summaries = []
    for name in quantities:
        for prompts in sorted({row.prompts for row in rows}):
            here = [row for row in rows if row.quantity == name and row.prompts == prompts]
            if here:
                coverage = [row.coverage for row in here]
                summaries.append(
                    CoverageSummary(
                        label=HEADLINE.get(name, name),
                        quantity=name,
                        prompts=prompts,
                        lowest=min(coverage),
                        highest=max(coverage),
                        largest_error_in_se=max(abs(row.error_in_se) for row in here),
                        settings=len(here),
                        replications=min(row.replications for row in here),
                    )
                )
    return tuple(summaries)


def text_table(rows: Sequence[CoverageRow]) -> str:
    """Range of coverage over regimes and trace counts, a line per quantity and a column per sample size."""
    sizes = sorted({row.prompts for row in rows})
    found = {(s.quantity, s.prompts): s for s in coverage_summaries(rows, dict.fromkeys(r.quantity for r in rows))}
    lines = [f"{'coverage of 95 % intervals':38}" + "".join(f"{f'n = {size}':>16}" for size in sizes)]
    for name in dict.fromkeys(row.quantity for row in rows):
        cells = [found.get((name, size)) for size in sizes]
        shown = ["" if c is None else f"{c.lowest:.3f}-{c.highest:.3f}" for c in cells]
        lines.append(f"{name:38}" + "".join(f"{cell:>16}" for cell in shown))
    return "\n".join(lines)


LIMITS: tuple[Limit, ...] = (
    Limit(
        quantities=("alpha_star.population", "bias_e_sq", "target_", "mean_e_sq", "mse.", "batch_size_equivalent."),
        fewest=4,
        most=63,
        lowest=0.940,
        highest=0.993,
        text="With fewer than 64 prompts, intervals of numbers that contain a squared norm are wide and cover up to "
        "99 %; use 64 prompts or more for shorter ones.",
    ),
    Limit(
        quantities=("alpha_star.population.B16", "mse.alpha0.B16"),
        fewest=64,
        most=64,
        lowest=0.953,
        highest=0.982,
        text="Where the squared bias of the empty-trace gradient is within its noise, its interval cannot miss from "
        "below: intervals of the weight and of the errors then cover up to 98 % at 64 prompts.",
    ),
    Limit(
        quantities=("regret.",),
        fewest=4,
        most=ANY_SIZE,
        lowest=0.922,
        highest=1.0,
        text="The interval of a regret takes the extremes over a joint set: it covers up to 100 %, and with 16 prompts "
        "as little as 92 %.",
    ),
    Limit(
        quantities=("cosine_e",),
        fewest=4,
        most=ANY_SIZE,
        lowest=0.885,
        highest=0.990,
        text="The cosine divides by the lengths of the target and of the mean empty-trace gradient. Where one of them "
        "is within its noise, the interval covers as little as 88 %: trust it where both squared lengths are clearly "
        "positive.",
    ),
    Limit(
        quantities=("target_dot_e",),
        fewest=64,
        most=ANY_SIZE,
        lowest=0.947,
        highest=0.988,
        text="Where the target and the mean empty-trace gradient are both within their noise, the jackknife counts the "
        "noise of their inner product twice, and its interval covers up to 99 %.",
    ),
)
"""What the study showed that the intervals do not do. Reports quote it where it applies."""
