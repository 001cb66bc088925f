"""Other losses on the same scores: coefficients are functions of log-probabilities, so that none needs another pass.

At the reference DPO and IPO have constant coefficients -+c, so that their gradients are multiples of one another and
weights, cosines and ratios are the same numbers. SimPO has no reference: its coefficients vary with the trace from the
first step, so that g_t is biased, and only enumerated traces give its target.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from bvpo_analysis import mixing
from bvpo_analysis.estimators import EmptyTrace, Marginal, Trace
from bvpo_analysis.moments import GradientLaw, jackknife_estimate, leave_one_out_mean, prompt_moments
from bvpo_analysis.objectives import DPO, IPO, Objective, SimPO
from bvpo_analysis.records import Alpha, Estimate, Floats, ScoreSet
from bvpo_analysis.report.sections import Kind, Section, table


def compared_losses(own: Objective) -> tuple[Objective, ...]:
    """The three losses, that of the study with its own beta.

    Example:
        >>> [loss.name for loss in compared_losses(IPO(beta=0.5))]
        ['dpo', 'ipo', 'simpo']
    """
    return tuple(own if own.name == other.name else other for other in (DPO(), IPO(), SimPO()))


@dataclass(frozen=True)
class LossRow:
    """One loss on enumerated prompts, each against its own marginal gradient (M1); prompts are the clusters.

    Attributes:
        name: of the loss.
        target_sq: mean |mu_x|^2.
        bias_t, bias_e, trace_var: E|b_t(x)|^2, E|b_e(x)|^2 and tau over it.
        alpha: the best weight per prompt.
        worth: error of g_t over that of the best mix.
    """

    name: str
    target_sq: Estimate
    bias_t: Estimate
    bias_e: Estimate
    trace_var: Estimate
    alpha: Alpha
    worth: Estimate | None


def loss_rows(scores: ScoreSet, losses: Sequence[Objective]) -> tuple[LossRow, ...]:
    """One row per loss from the inner products of enumerated prompts.

    Args:
        scores: enumerated, three prompts or more; their totals are not used.
        losses: which.

    Raises:
        ValueError: sampled traces, or too few prompts.
    """
    return tuple(_row(scores, loss) for loss in losses)


def _row(scores: ScoreSet, loss: Objective) -> LossRow:
    estimators = Trace(loss), EmptyTrace(loss), Marginal(loss)
    prompts = [prompt_moments(pair, *estimators) for pair in scores.pairs]

    def mean(name: str) -> Floats:
        return leave_one_out_mean(np.array([getattr(prompt, name) for prompt in prompts]))

    tau, target = mean("trace_var"), mean("target_sq")
    zero = np.zeros_like(tau)
    law = GradientLaw(
        target="per_prompt.K1",
        bias_t_sq=mean("bias_t_sq"),
        bias_e_sq=mean("bias_e_sq"),
        bias_inner=mean("bias_inner"),
        bias_diff_sq=mean("bias_diff_sq"),
        bias_t_diff=mean("bias_t_diff"),
        var_t_data=zero,
        var_t_trace=tau,
        var_t=tau,
        var_e=zero,
        cov_te=zero,
        var_diff=tau,
        cov_t_diff=tau,
    )
    return LossRow(
        name=loss.name,
        target_sq=jackknife_estimate(target),
        bias_t=jackknife_estimate(law.bias_t_sq / target),
        bias_e=jackknife_estimate(law.bias_e_sq / target),
        trace_var=jackknife_estimate(tau / target),
        alpha=mixing.optimal_alpha(law),
        worth=mixing.error_ratio(law, 1.0, law, mixing.recommended_weights),
    )


def losses_section(rows: Sequence[LossRow]) -> Section:
    """The table of losses on enumerated prompts."""
    columns: list[tuple[str, Kind]] = [
        ("Loss", "words"),
        ("|b_t|² over |μ|²", "estimate"),
        ("|b_e|² over |μ|²", "estimate"),
        ("trace variance over |μ|²", "estimate"),
        ("α* per prompt, unclipped", "weight"),
        ("error of g_t over that of the best mix", "estimate"),
    ]
    body = [(NAMES.get(r.name, r.name), r.bias_t, r.bias_e, r.trace_var, r.alpha, r.worth) for r in rows]
    count = rows[0].target_sq.n if rows else 0
    return Section(
        anchor="losses",
        title="The same for other losses",
        short="Other losses",
        text=(
            f"From the scores of {count} prompts whose traces were all enumerated, each against its own marginal "
            "gradient (target M1). At the reference the coefficients of DPO and IPO do not vary with the trace: their "
            "gradients are multiples of one another and share every ratio, up to rounding. SimPO divides by lengths "
            "and has no reference: its coefficients vary with the trace, and g_t is biased from the first step.",
        ),
        tables=(table("losses on enumerated prompts", columns, body),),
        notes=(
            "The marginal SimPO loss normalises by the tokens of the answer, the only length that a marginal has; that "
            "of a sampled trace normalises by trace and answer together.",
        ),
    )


def same_weight_section(own: str, alpha: Alpha) -> Section:
    """What is known without enumeration: DPO and IPO share the weight; SimPO has no target here."""
    rows = [
        (NAMES[name], alpha if name != SimPO.name else None, _WHY[name == SimPO.name])
        for name in (DPO.name, IPO.name, SimPO.name)
    ]
    columns: list[tuple[str, Kind]] = [("Loss", "words"), ("α*, unclipped", "weight"), ("Why", "words")]
    return Section(
        anchor="losses",
        title="Other losses",
        short="Other losses",
        text=(
            f"This study took {NAMES[own]}. At the reference the gradients of DPO and IPO are multiples of one "
            "another, so that their best weight is one number.",
        ),
        tables=(table("best weight by loss", columns, rows),),
    )


NAMES = {DPO.name: "DPO", IPO.name: "IPO", SimPO.name: "SimPO"}
"""How the pages write the losses."""
_WHY = {
    False: "coefficients are constant at the reference",
    True: "g_t is biased from the first step; the target takes enumerated traces",
}
