"""Sections on what the optimal weight depends on: noise in the labels, the number of prompts, the parameter group."""

from typing import Literal

from bvpo_analysis.combining import label_noise_effects, shrunken_group_weights
from bvpo_analysis.errors import InputError
from bvpo_analysis.estimators import EmptyTrace, Trace
from bvpo_analysis.moments.power import alpha_pilot, prompts_for_width
from bvpo_analysis.records import Estimate
from bvpo_analysis.report.formatting import estimate_text
from bvpo_analysis.report.sections import Kind, Section, table
from bvpo_analysis.study import Study
from bvpo_analysis.tables import jsonable

WIDTHS = (0.4, 0.2, 0.1, 0.05)
"""Widths of the interval of alpha* for which the number of prompts is told."""
FEWEST_PILOT = 8
"""Prompts from which the spread of the weight can be estimated."""
FEWEST_GROUPS = 4
"""Parameter groups from which their spread can be estimated."""


def label_noise_section(study: Study, batch_size: int, kappa: float, *, own_answers: bool) -> Section:
    """Variance, error and best weight if labels were flipped at random, against the clean target.

    Args:
        study: at the reference.
        batch_size, kappa: what weight and errors refer to.
        own_answers: whether every pair has empty-trace answers, and so labels, of its own.
    """
    kind: Literal["own", "copied"] = "own" if own_answers else "copied"
    effects = label_noise_effects(study.whole, batch_size, empty_answers=kind, kappa=kappa)
    columns: list[tuple[str, Kind]] = [
        ("share of labels flipped", "number"),
        ("variance of g_t", "estimate"),
        ("its data part", "estimate"),
        ("squared bias of g_t", "estimate"),
        ("error of g_t", "estimate"),
        ("α*, unclipped", "weight"),
        ("error at α*", "estimate"),
    ]
    rows = [(e.probability, e.variance, e.data_variance, e.bias_sq, e.error, e.alpha, e.error_best) for e in effects]
    how = "independently of those of g_t" if own_answers else "together with those of g_t, whose answers it copies"
    return Section(
        anchor="labels",
        title="If labels are noisy",
        short="Label noise",
        text=(
            "What the moments would be if chosen and rejected were exchanged at random, exactly by theory from the "
            f"measured ones: a flipped pair has the opposite gradient. The labels of g_e are flipped {how}.",
            f"Bias and error are against the target without flips, for batches of {batch_size} prompts.",
        ),
        tables=(table("effect of flipped labels", columns, rows),),
    )


def sample_size_section(study: Study, batch_size: int, kappa: float) -> Section | None:
    """How many prompts an interval of a given width takes, by the spread found here; None for fewer than eight."""
    if len(study.scores) < FEWEST_PILOT:
        return None
    pilot = alpha_pilot(
        study.scores, Trace(study.objective), EmptyTrace(study.objective), batch_size=batch_size, kappa=kappa
    )
    rows: list[tuple[float | int | str | None, ...]] = []
    for width in WIDTHS:
        try:
            found = prompts_for_width(pilot, width)
        except ValueError as error:
            rows.append((width, None, None, None, str(error)))
            continue
        rows.append((width, found.prompts, found.low, found.high, ""))
    columns: list[tuple[str, Kind]] = [
        ("width of the interval", "number"),
        ("prompts", "number"),
        ("at least", "number"),
        ("at most", "number"),
        ("note", "words"),
    ]
    if not any(row[-1] for row in rows):
        columns, rows = columns[:-1], [row[:-1] for row in rows]
    return Section(
        anchor="prompts",
        title="How many prompts for a narrower interval?",
        short="Sample size",
        text=(
            f"Prompts, each with {pilot.traces} traces per answer, for an interval of α* (batches of {batch_size}) of "
            f"a given width, as predicted from the {pilot.prompts} prompts of this study: the best guess, and the ends "
            "of its own 95 % interval.",
        ),
        tables=(table("prompts for a width", columns, rows),),
        notes=(
            "The squared bias is within its noise here, so that these numbers are lower bounds."
            if not pilot.clear
            else "The prediction takes the symmetric interval; near zero bias the reported one is wider on one side.",
        ),
    )


def group_weights_section(study: Study, batch_size: int, kappa: float) -> Section | None:
    """One weight per parameter group, shrunk towards the common one; None for fewer than four groups."""
    laws = {name: moments.population(batch_size) for name, moments in study.by_group.items()}
    if len(laws) < FEWEST_GROUPS:
        return None
    try:
        found = shrunken_group_weights(laws, kappa)
    except (ValueError, InputError):
        return None
    rows = [(g.group, g.raw, g.shrunken, round(g.share, 3), round(g.trust, 3)) for g in found.groups]
    columns: list[tuple[str, Kind]] = [
        ("group", "words"),
        ("its own α*", "estimate"),
        ("shrunk towards the common weight", "estimate"),
        ("part in the common weight", "number"),
        ("trust in its own", "number"),
    ]
    left_out = f" Left out, since the two gradients are not told apart there: {', '.join(found.left_out)}."
    return Section(
        anchor="group-weights",
        title="A weight for every parameter group?",
        short="Group weights",
        text=(
            "The error is a sum over groups, so each could have its own weight. The common weight is "
            f"{_shown(found.common)}; true weights per group would save {_shown(found.gain)} of the error, noise "
            "subtracted "
            f"({100 * found.gain_share:.2g} % of the error at the common weight). With weights per group the step is "
            "no longer the gradient of one loss.",
        ),
        tables=(table("weights by parameter group", columns, rows),),
        notes=(left_out.strip(),) if found.left_out else (),
    )


def _shown(estimate: Estimate) -> str:
    return estimate_text(jsonable(estimate))
