"""A mix sees twice the sequences: what they do otherwise, one run on both data sets included."""

from dataclasses import replace
from functools import partial

import numpy as np

from bvpo_analysis import mixing
from bvpo_analysis.moments import GradientLaw, Moments
from bvpo_analysis.records import Estimate
from bvpo_analysis.report.sections import Kind, Section, table


def merged_law(moments: Moments, share: float, rows: float) -> GradientLaw:
    """The law of one run on both data sets: batches of rows, each with a trace with probability ``share``.

    The mean of a row is that of the mix, and its variance adds which of the two it is:

        V = share Tr Var(g_t) + (1 - share) Tr Var(g_e) + share (1 - share) |b_t - b_e|^2,

    over the number of rows. It is kept as the variance of the second gradient, in units that the weight (1 - share)
    undoes, so that errors at the weight ``share`` are those of the run.

    Args:
        moments: of (g_t, g_e), one prompt each.
        share: of rows with a trace, in (0, 1).
        rows: how many there are in a batch.

    Raises:
        ValueError: a share outside (0, 1).

    Example:
        >>> from bvpo_analysis.exact import load_table
        >>> moments = load_table("style").moments
        >>> law = merged_law(moments, 0.5, 32)
        >>> mix = moments.population(16)
        >>> mixing.error(law, 0.5).value > 0 and float(law.bias_e_sq[0]) == float(mix.bias_e_sq[0])
        True
    """
    if not 0 < share < 1:
        raise ValueError(f"share must lie between 0 and 1, got {share}")
    law = moments.population(1)
    between = share * (1 - share) * law.bias_diff_sq
    variance = share * law.var_t + (1 - share) * law.var_e + between
    zero = np.zeros_like(law.var_t)
    return replace(
        law,
        target=f"population.rows{rows:g}",
        var_t_data=zero,
        var_t_trace=zero,
        var_t=zero,
        cov_te=zero,
        var_e=variance / ((1 - share) ** 2 * rows),
        bias_share=1.0 / rows,
    )


def fairness_rows(moments: Moments, batch_size: float, kappa: float) -> list[tuple[str, float, int, Estimate | None]]:
    """(what, weight or share of g_t, sequences per prompt, error over that of g_t on B prompts)."""
    law, double = moments.population(batch_size), moments.population(2 * batch_size)
    best = partial(mixing.recommended_weights, kappa=kappa)
    weight = float(np.ravel(best(law))[0])
    cases: list[tuple[str, float, int, GradientLaw, mixing.Weight]] = [
        ("g_t on the prompts", 1.0, 2, law, 1.0),
        ("g_t on twice the prompts", 1.0, 4, double, 1.0),
        ("g_e on twice the prompts", 0.0, 4, double, 0.0),
        ("one run on both data sets, half and half", 0.5, 4, merged_law(moments, 0.5, 2 * batch_size), 0.5),
        ("g_c, equal mix", 0.5, 4, law, 0.5),
        ("g_c, best mix", weight, 4, law, best),
    ]
    return [
        (name, round(shown, 2), sequences, mixing.error_ratio(one, rule, law, 1.0, kappa))
        for name, shown, sequences, one, rule in cases
    ]


def fairness_section(moments: Moments, batch_size: float, kappa: float) -> Section:
    """Errors at equal prompts and at equal sequences."""
    columns: list[tuple[str, Kind]] = [
        ("What a step is made of", "words"),
        ("weight or share of g_t", "number"),
        ("sequences per prompt", "number"),
        ("MSE over that of g_t", "estimate"),
    ]
    return Section(
        anchor="fairness",
        title="Equal prompts, equal sequences",
        short="Equal sequences",
        text=(
            f"Steps on {batch_size:g} prompts, against the same target. A mix takes four sequences per prompt where "
            "g_t takes two, so it is held against g_t on twice the prompts, and against the plain alternative: one "
            "preference run on both data sets together, as many rows, each drawn from one of the two. Such a run has "
            "the mean of the mix; which data set a row is from adds noise, and rows of different prompts, where the "
            "mix takes both gradients on the same ones, take some away.",
        ),
        tables=(table("equal prompts and equal sequences", columns, fairness_rows(moments, batch_size, kappa)),),
    )
