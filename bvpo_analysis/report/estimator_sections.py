"""Sections about estimators: each against one target, all at one budget, what a budget buys, and their weights."""

from collections.abc import Sequence

import numpy as np

from bvpo_analysis.comparison import EstimatorComparison
from bvpo_analysis.equal_budget import EqualBudgetRow
from bvpo_analysis.moments import jackknife_estimate
from bvpo_analysis.moments.diagnostics import summarise_weights, weight_diagnostics
from bvpo_analysis.planner import Plan
from bvpo_analysis.report.sections import Kind, Section, Table, table
from bvpo_analysis.study import Study

SHOWN_PLANS = 6
"""Plans listed, the best first."""


def estimators_section(compared: EstimatorComparison) -> Section:
    """Bias, variance and cost of every estimator, one realisation on one prompt."""
    rows = [
        (
            row.label,
            row.bias_sq,
            row.variance,
            row.trace_share,
            row.cosine,
            _number(row.cost.sequences_backward),
            jackknife_estimate(row.cost.of("tokens")),
            _number(row.cost.sequences_sampled),
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
                    ("Sequences back-propagated", "number"),
                    ("Tokens per prompt", "estimate"),
                    ("Sequences generated", "number"),
                    ("Bias order", "words"),
                ],
                rows,
            ),
        ),
        notes=(
            "Tokens are those of a training step, forwarded or back-propagated, prompts included. A further posterior "
            "trace of a given answer is counted as one completion; by plain sampling one goes on until that answer "
            "comes out again.",
            _shift_note(compared),
        ),
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


def budget_section(compared: EstimatorComparison, batch_size: int, kappa: float) -> Section:
    """The error of every estimator when all cost as much as g_t does."""
    found = compared.at_equal_budget(batch_size, kappa=kappa)
    known = {i: row.relative.value for i, row in enumerate(found) if row.relative is not None}
    best = min(known, key=lambda i: known[i], default=None)
    return Section(
        anchor="budget",
        title="At equal token budget",
        short="Equal budget",
        text=(
            f"Every row spends the tokens that g_t alone spends on a batch of {batch_size} prompts: a cheaper "
            "estimator averages more prompts, a dearer one fewer. The batch sizes are what the budget pays for on "
            "average, as real numbers.",
        ),
        tables=(_budget_table("errors at equal token budget", found, best),),
        notes=(
            "Below 1, the estimator is the better use of the tokens. Bias does not shrink with the batch, so that rows "
            "with a bias look the better the smaller the budget is.",
        ),
    )


def _budget_table(name: str, rows: Sequence[EqualBudgetRow], best: int | None) -> Table:
    cells = [
        (
            row.label,
            row.weights[0] if row.weights else None,
            row.batch_size,
            row.relative,
            row.error,
            row.cost,
            row.note,
        )
        for row in rows
    ]
    columns: list[tuple[str, Kind]] = [
        ("Estimator", "words"),
        ("First weight", "number"),
        ("Prompts", "estimate"),
        ("MSE relative to g_t", "estimate"),
        ("MSE", "estimate"),
        ("Tokens per prompt", "estimate"),
        ("", "words"),
    ]
    return table(name, columns, cells, best)


def plan_section(study: Study, batch_size: int, kappa: float) -> Section:
    """What one optimiser step should be spent on, at the cost of the equal mix on ``batch_size`` prompts."""
    found = study.plan(present=Plan(batch_size, 1, 0.5), kappa=kappa)
    rows = [
        (str(row.plan), row.value, row.loss, row.wins, "not told from the best" if row.tied and i else "")
        for i, row in enumerate(found.considered[:SHOWN_PLANS])
    ]
    better = f"; its error is {found.ratio} times that of the step in use" if found.ratio is not None else ""
    columns: list[tuple[str, Kind]] = [
        ("Plan", "words"),
        ("Predicted error", "estimate"),
        ("Above the best", "estimate"),
        ("Probability of being the best", "number"),
        ("", "words"),
    ]
    return Section(
        anchor="plan",
        title="What a budget buys",
        short="Budget planner",
        text=(
            f"A step of the equal mix on {batch_size} prompts costs {found.budget:.0f} tokens. For that, the plan with "
            f"the least predicted error is {found.best}{better}.",
        ),
        tables=(table("plans for one optimiser step", columns, rows, best=0),),
        notes=(
            *found.notes,
            "K is the number of trace pairs averaged per prompt. κ stays as given when the batch changes: a rule that "
            "scales the step with the batch needs a κ for each. Study.plan takes another budget, unit or plan in use.",
        ),
    )


def weights_section(compared: EstimatorComparison) -> Section:
    """Whether the weights of the prior traces can be relied on."""
    logs = [pair.log_probs for pair in compared.scores.pairs]
    if any(len(log.prior) == 0 for log in logs):
        return Section(
            "weights",
            "Weights of the traces",
            "Trace weights",
            ("These data have no prior traces, so that nothing is weighted; prior_traces in the rows allow pools.",),
        )
    found = summarise_weights(weight_diagnostics(logs, "prior"))
    traces = "prior trace" if found.draws[0] == 1 else "prior traces"
    rows: list[tuple[str, object]] = [
        ("effective sample size over its largest value, mean", found.ess_share),
        ("share of prompts and sides whose effective sample size is low", found.low_ess),
        ("share with a Pareto shape above the limit", found.high_khat),
        ("share with a Pareto shape above the limit for its sample size", found.unusable_khat),
    ]
    columns: list[tuple[str, Kind]] = [("Weights of prior traces for a given answer", "words"), ("Value", "estimate")]
    return Section(
        anchor="weights",
        title="Weights of the traces",
        short="Trace weights",
        text=(
            f"A prior trace stands for the posterior with weight π(y | x, r). Over {found.prompts} prompts with "
            f"{found.draws[0]} {traces} each: at the reference the posterior traces themselves all weigh the same, "
            "and pools that hold one stay unbiased however uneven the weights are.",
        ),
        tables=(table("weights of prior traces", columns, rows),),
        notes=tuple(flag.text for flag in found.flags),
    )


def _number(value: object) -> float:
    return float(np.atleast_1d(np.asarray(value, dtype=np.float64))[0])
