"""Which estimator has the least error for the same money: batch sizes that cost the same, and the errors they buy.

A batch of B prompts of a baseline with mean cost c_0 per prompt pays for B' = B c_0 / c prompts of an estimator with
mean cost c. Batch errors are |b|^2 + kappa Tr Var / B', so a cheaper estimator averages more prompts and a dearer one
fewer; bias has no price. B' is taken as a real number: a comparison, not a plan (:mod:`bvpo_analysis.planner` gives
whole numbers). Mean costs are estimated from the same prompts as the moments, and the intervals of the ratios hold both
sampling errors.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from functools import partial

import numpy as np
from numpy.typing import ArrayLike

from bvpo_analysis import mixing, theory
from bvpo_analysis.cost import Cost, Measure
from bvpo_analysis.moments import GradientLaw, JointMoments, Moments, jackknife_estimate
from bvpo_analysis.moments.joint import positive_part
from bvpo_analysis.records import Estimate, Floats

UNDETERMINED = "the error of the baseline is not clearly positive"
"""Why a ratio is missing."""


@dataclass(frozen=True)
class Contender:
    """An estimator, or a mix of two, in a comparison at equal budget.

    Attributes:
        label: its name in the table.
        law: law of (first, second) at B = 1, with the traces per prompt that ``cost`` pays for.
        weight: weight of the first estimator; None for the best in [0, 1] at the batch size that it can pay for.
        cost: mean cost of one prompt.
    """

    label: str
    law: GradientLaw
    weight: float | None
    cost: Cost


@dataclass(frozen=True)
class CombinationContender:
    """A combination of several estimators with the best weights >= 0 of sum one.

    Attributes:
        label: its name in the table.
        bias_gram, covariance: <b_a, b_b> and Tr Cov(g_a, g_b) of one prompt, replicates [n + 1, J, J].
        cost: mean cost of one prompt with all J estimators; a sequence that serves several is paid for once.
        clear: whether all squared biases are told from zero; if not, the least error has no interval.
    """

    label: str
    bias_gram: Floats
    covariance: Floats
    cost: Cost
    clear: bool


@dataclass(frozen=True)
class EqualBudgetRow:
    """One row of the comparison.

    Attributes:
        label: the estimator.
        weights: weights of the estimators in it, at the batch size of this row.
        cost: mean cost of one prompt in the unit of the comparison.
        batch_size: B', the prompts that the budget pays for; a real number.
        error: F_kappa of its batch gradient; None where the budget does not pay for one prompt.
        relative: that error over the error of the baseline; None likewise, or where the data do not determine it.
        note: why a number is missing, or what to know; empty otherwise.
    """

    label: str
    weights: tuple[float, ...]
    cost: Estimate
    batch_size: Estimate
    error: Estimate | None
    relative: Estimate | None
    note: str = ""


def batch_law(unit: GradientLaw, batch_size: ArrayLike) -> GradientLaw:
    """The law of a batch of B prompts from that of one: biases stay, (co)variances are divided by B.

    Args:
        unit: the law at B = 1.
        batch_size: B, real; a number or one value per replicate.

    Example:
        >>> law = batch_law(GradientLaw("population.B1.K1", *[np.ones(1)] * 12), 2.5)
        >>> law.target, float(law.bias_e_sq[0]), float(law.var_e[0])
        ('population.B2.5.K1', 1.0, 0.4)
    """
    size = np.asarray(batch_size, dtype=np.float64)
    # Besides (co)variances, what they subtract of a squared bias.
    divided = [f.name for f in fields(unit) if f.name.startswith(("var_", "cov_")) or f.name == "bias_share"]
    shown = f"{float(np.atleast_1d(size)[0]):g}"
    return replace(
        unit,
        target=unit.target.replace(".B1.", f".B{shown}."),
        **{name: getattr(unit, name) / size for name in divided},
    )


def pair_contenders(
    moments: Moments, cost_trace: Cost, cost_empty: Cost, *, trace_counts: Sequence[int] = (2, 4, 8)
) -> tuple[Contender, ...]:
    """g_t first (the baseline), means of K traces where identified, g_e, and their mixes at 1/2 and at the best weight.

    Args:
        moments: of (g_t, g_e).
        cost_trace: mean cost of one trace pair; K of them cost K times as much.
        cost_empty: mean cost of one empty-trace pair.
        trace_counts: K of the means.
    """
    one = moments.population(1)
    both = cost_trace + cost_empty
    rows = [Contender("g_t, one trace", one, 1.0, cost_trace)]
    if moments.identifies_trace_variance:
        rows += [
            Contender(f"g_t, mean of {k} traces", moments.population(1, k), 1.0, k * cost_trace) for k in trace_counts
        ]
    rows += [
        Contender("g_e, empty trace", one, 0.0, cost_empty),
        Contender("g_c, equal mix", one, 0.5, both),
        Contender("g_c, optimal mix", one, None, both),
    ]
    if moments.identifies_trace_variance:
        rows += [
            Contender(
                f"g_c, mean of {k} traces, optimal mix", moments.population(1, k), None, k * cost_trace + cost_empty
            )
            for k in trace_counts
        ]
    return tuple(rows)


def joint_contenders(
    joint: JointMoments,
    costs: Mapping[str, Cost],
    *,
    baseline: str = "trace",
    labels: Mapping[str, str] | None = None,
) -> tuple[Contender, ...]:
    """Every estimator of a joint study by itself, the baseline first.

    Args:
        joint: the moments.
        costs: mean cost of one realisation, by the same names; those without a cost are left out.
        baseline: the estimator that the others are held against.
        labels: names for the table; the keys when not given.

    Raises:
        ValueError: the baseline is unknown, or has no cost.
    """
    if baseline not in costs:
        raise ValueError(f"the baseline {baseline!r} has no cost; there are {', '.join(costs) or 'none'}")
    named = labels or {}
    rest = [name for name in joint.names if name in costs and name != baseline]
    return (
        Contender(named.get(baseline, baseline), _unit_law(joint, baseline, baseline), 1.0, costs[baseline]),
        *(Contender(named.get(name, name), _unit_law(joint, baseline, name), 0.0, costs[name]) for name in rest),
    )


def joint_mix(
    joint: JointMoments, first: str, second: str, cost: Cost, *, weight: float | None = None, label: str = ""
) -> Contender:
    """A mix of two estimators of a joint study; ``cost`` is that of both, with shared sequences once.

    Raises:
        ValueError: an unknown name.
    """
    return Contender(label or f"{first} + {second}", _unit_law(joint, first, second), weight, cost)


def joint_combination(
    joint: JointMoments, names: Sequence[str], cost: Cost, *, label: str = ""
) -> CombinationContender:
    """A combination of several estimators of a joint study; ``cost`` is that of all, with shared sequences once.

    Raises:
        ValueError: an unknown name.
    """
    at = [joint.index(name) for name in names]
    here = np.ix_(range(len(joint.bias_gram)), at, at)
    return CombinationContender(
        label or " + ".join(names), joint.bias_gram[here], joint.covariance[here], cost, joint.biases_are_clear(names)
    )


def compare_at_equal_budget(
    contenders: Sequence[Contender | CombinationContender],
    *,
    batch_size: float,
    measure: Measure = "tokens",
    kappa: float = 1.0,
) -> tuple[EqualBudgetRow, ...]:
    """The error of every contender at the batch size that the baseline's budget pays for.

    Args:
        contenders: the baseline first; it is not a :class:`CombinationContender`.
        batch_size: B of the baseline.
        measure: the unit of the budget, see :meth:`bvpo_analysis.cost.Cost.of`.
        kappa: weight of the variance; 1 is the MSE.

    Raises:
        ValueError: no contenders, a combination as baseline, a baseline that costs nothing in this unit, B < 1 or
            kappa <= 0, or operations without an architecture.
    """
    if not contenders or isinstance(contenders[0], CombinationContender):
        raise ValueError("the first contender must be a single estimator or a mix of two, the baseline")
    if not batch_size >= 1 or not kappa > 0:
        raise ValueError(f"batch_size must be at least 1 and kappa positive, got {batch_size} and {kappa}")
    baseline = contenders[0]
    base_cost = baseline.cost.of(measure)
    if not (base_cost > 0).all():
        raise ValueError(f"the baseline costs no {measure}, so that its budget pays for nothing")
    reference = batch_law(baseline.law, batch_size)
    base_weight = _weight(baseline, kappa)
    rows = []
    for contender in contenders:
        cost = np.atleast_1d(contender.cost.of(measure))
        if not (cost > 0).all():
            free = Estimate.exact(np.inf, 0)
            note = f"takes no {measure}, so that any number of prompts costs the same"
            rows.append(EqualBudgetRow(contender.label, (), jackknife_estimate(cost), free, None, None, note))
            continue
        size = batch_size * np.atleast_1d(base_cost / cost)
        price, prompts = jackknife_estimate(cost), jackknife_estimate(size)
        if size[0] < 1:
            note = f"the budget pays for {size[0]:.2g} of a prompt"
            rows.append(EqualBudgetRow(contender.label, (), price, prompts, None, None, note))
            continue
        if isinstance(contender, CombinationContender):
            rows.append(_combination_row(contender, size, price, prompts, (reference, base_weight), kappa))
            continue
        law = batch_law(contender.law, size)
        weight = _weight(contender, kappa)
        relative = mixing.error_ratio(law, weight, reference, base_weight, kappa)
        first = float(np.atleast_1d(weight(law) if callable(weight) else weight)[0])
        rows.append(
            EqualBudgetRow(
                label=contender.label,
                weights=(first, 1.0 - first) if 0.0 < first < 1.0 else (1.0,),
                cost=price,
                batch_size=prompts,
                error=mixing.error(law, weight, kappa),
                relative=relative,
                note="" if relative is not None else UNDETERMINED,
            )
        )
    return tuple(rows)


def _unit_law(joint: JointMoments, first: str, second: str) -> GradientLaw:
    """The law at B = 1; what is known of the noise of |b_second|^2 serves only where the first is unbiased."""
    law = joint.law(first, second, 1)
    return law if first in joint.unbiased else replace(law, bias_noise=None)


def _weight(contender: Contender, kappa: float) -> mixing.Weight:
    return partial(mixing.recommended_weights, kappa=kappa) if contender.weight is None else contender.weight


def _combination_row(
    contender: CombinationContender,
    size: Floats,
    price: Estimate,
    prompts: Estimate,
    baseline: tuple[GradientLaw, mixing.Weight],
    kappa: float,
) -> EqualBudgetRow:
    """Weights and error at the positive semidefinite parts of bias Gram and covariance, as for any best combination."""
    bias, noise = positive_part(contender.bias_gram), positive_part(contender.covariance)
    moments = bias + kappa / size[:, None, None] * noise
    solved = [theory.simplex_combination(m) for m in moments]
    values = np.array([s.value for s in solved])
    law, weight = baseline
    base = mixing.error_parts(law, weight(law) if callable(weight) else weight, kappa).total
    determined = jackknife_estimate(base).ci_low > 0 or len(base) == 1
    error, relative = _positive(jackknife_estimate(values)), _positive(jackknife_estimate(values / base))
    notes = ["pays for all its members"] if determined else [UNDETERMINED]
    if not contender.clear:
        error, relative = (Estimate.without_interval(x.value, x.n) for x in (error, relative))
        notes.append("no interval: a squared bias is within its noise")
    return EqualBudgetRow(
        label=contender.label,
        weights=tuple(float(w) for w in solved[0].weights),
        cost=price,
        batch_size=prompts,
        error=error,
        relative=relative if determined else None,
        note="; ".join(notes),
    )


def _positive(estimate: Estimate) -> Estimate:
    return replace(estimate, ci_low=max(estimate.ci_low, 0.0))
