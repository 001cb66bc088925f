"""Sections on the weight itself: the price of another one, weight 0 at every batch size, the variances, a schedule."""

from functools import partial

import numpy as np

from bvpo_analysis import mixing
from bvpo_analysis.moments import Moments, jackknife_estimate
from bvpo_analysis.report.sections import Kind, Section, table
from bvpo_analysis.study import BATCH_SIZES
from bvpo_analysis.theory import cosine_step_sizes

WEIGHTS = tuple(i / 10 for i in range(11))
"""Weights whose price is shown."""
SCHEDULE = 8
"""Parts into which a run under a cosine schedule is cut."""


def prices_section(moments: Moments, batch_size: float, kappa: float) -> Section:
    """MSE of every weight, and how much that is above the least."""
    law = moments.population(batch_size)
    rows = [(a, mixing.error(law, a, kappa), mixing.relative_regret(law, a, kappa)) for a in WEIGHTS]
    columns: list[tuple[str, Kind]] = [
        ("weight α of g_t", "number"),
        ("MSE", "estimate"),
        ("more than the best mix has", "percent"),
    ]
    return Section(
        anchor="prices",
        title="The price of every weight",
        short="Prices",
        text=(
            f"MSE of batches of {batch_size:g} prompts at fixed weights, and by how much it exceeds that of the best "
            "weight in the same replicate.",
        ),
        tables=(table("price of every weight", columns, rows),),
    )


def empty_alone_section(moments: Moments, kappa: float) -> Section:
    """g_e alone against g_t alone and against the best mix, by batch size."""
    best = partial(mixing.recommended_weights, kappa=kappa)
    rows = []
    for size in BATCH_SIZES[::2]:
        law = moments.population(size)
        against_trace = mixing.error_ratio(law, 0.0, law, 1.0, kappa)
        rows.append((size, against_trace, mixing.error_ratio(law, 0.0, law, best, kappa)))
    columns: list[tuple[str, Kind]] = [
        ("batch size B", "number"),
        ("MSE of g_e over that of g_t", "estimate"),
        ("MSE of g_e over that of the best mix", "estimate"),
    ]
    return Section(
        anchor="empty-alone",
        title="The empty trace alone, by batch size",
        short="Empty trace alone",
        text=(
            "Weight zero is g_e alone. Its variance falls with the batch as that of g_t does, its bias stays: what it "
            "is worth ends where the batch is large enough.",
        ),
        tables=(table("empty trace alone", columns, rows),),
    )


def variance_section(moments: Moments, batch_size: float, kappa: float) -> Section:
    """Tr Cov of g_t, g_e and two mixes, split by origin, of one prompt."""
    unit, law = moments.population(1), moments.population(batch_size)
    best = mixing.recommended_weights(law, kappa)
    split = moments.identifies_trace_variance
    cases = (
        ("g_t", np.array(1.0)),
        ("g_e", np.array(0.0)),
        ("g_c, equal mix", np.array(0.5)),
        (f"g_c, best mix at batches of {batch_size:g}", best),
    )
    rows = []
    for name, weight in cases:
        parts = mixing.error_parts(unit, weight)
        total = parts.total - parts.bias_sq
        row = [name, jackknife_estimate(total)]
        if split:
            row += [jackknife_estimate(part) for part in (parts.trace_var, parts.data_var, parts.trace_var / total)]
        rows.append(row)
    columns: list[tuple[str, Kind]] = [("gradient", "words"), ("variance", "estimate")]
    if split:
        columns += [("from traces", "estimate"), ("from prompts", "estimate"), ("share of traces", "percent")]
    return Section(
        anchor="variance",
        title="Variance by origin",
        short="Variance",
        text=(
            "Trace of the covariance for one prompt with one trace per answer; a batch divides it by its size. The "
            "part from traces is what sampling other traces for the same answers changes; the part from prompts is "
            "what other prompts and answers change.",
        ),
        tables=(table("variance by origin", columns, rows),),
        notes=() if split else ("One trace per answer does not tell the two origins apart.",),
    )


def schedule_section(moments: Moments, batch_size: float, kappa: float) -> Section:
    """alpha_kappa along a cosine schedule that starts at kappa, with the moments of this study."""
    law = moments.population(batch_size)
    sizes = cosine_step_sizes(kappa, SCHEDULE)[:-1]
    rows = [(i / SCHEDULE, float(size), mixing.optimal_alpha(law, float(size))) for i, size in enumerate(sizes)]
    columns: list[tuple[str, Kind]] = [
        ("part of the run", "number"),
        ("κ", "number"),
        ("α* at that κ, unclipped", "weight"),
    ]
    return Section(
        anchor="schedule",
        title="A weight that follows the learning rate",
        short="Schedule",
        text=(
            f"Best weight under a cosine schedule whose κ starts at {kappa:g} and ends at zero, for batches of "
            f"{batch_size:g} prompts, at the moments of this study: what moves here is the step size alone. Smaller "
            "steps average more noise away and leave the bias, so the weight of g_t grows.",
        ),
        tables=(table("weight along a schedule", columns, rows),),
    )
