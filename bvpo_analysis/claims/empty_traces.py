"""The bias of the empty-trace gradient at the reference, and the weight that it leaves to g_t there.

The left side of every claim is a sum over all pairs of traces of random log-linear prompts, through the package's own
estimators; the right side is the closed form.
"""

import numpy as np

from bvpo_analysis.claims.instances import ROUNDING, worst
from bvpo_analysis.claims.log_linear_prompts import (
    CHOSEN,
    LOSSES,
    REJECTED,
    Prompt,
    prompts,
    tightest,
)
from bvpo_analysis.objectives import DPO, IPO
from bvpo_analysis.records import Claim, Floats
from bvpo_analysis.theory.empty_trace import empty_trace_bias, initial_weight, largest_gap, largest_initial_weight
from bvpo_analysis.theory.targets import EmptyBiasSplit, split_empty_bias
from bvpo_analysis.theory.trace_laws import difference_covariance

PAPER = "BVPO, arXiv 2510.05095"


def the_empty_trace_has_a_fixed_bias() -> Claim:
    """b_e = -slope (e+ - e-) at theta_ref on the same pair."""
    instances = []
    for prompt in prompts(60):
        for objective, loss in LOSSES:
            g = prompt.gradients(objective, prompt.ref)
            predicted = empty_trace_bias(*prompt.gaps(), loss)
            instances += [(b, p, g.size) for b, p in zip(g.e - g.mu, predicted, strict=True)]
    measured, expected, tolerance = worst(instances)
    return Claim(
        name="the-empty-trace-has-a-fixed-bias",
        statement="At the reference, on the same pair, b_e = -(beta/2)(e+ - e-), e = s(empty, y) - sbar(y)",
        reference="bvpo_analysis.theory.empty_trace",
        kind="identity",
        measured=measured,
        predicted=expected,
        tolerance=tolerance,
        setting="every entry; 60 prompts, DPO and IPO (with its slope 1/beta)",
    )


def _initial_weight(prompt: Prompt, joint: Floats) -> float:
    first, second = prompt.gaps()
    covariance = difference_covariance(*prompt.laws(prompt.ref), joint)
    return float(initial_weight(float((first - second) @ (first - second)), float(np.trace(covariance))))


def the_initial_weight_is_free_of_beta() -> Claim:
    """alpha_0 = |e+ - e-|^2 / (|e+ - e-|^2 + Tr Cov(s+ - s-)), for every beta and for DPO as for IPO."""
    instances = []
    for prompt in prompts(60):
        for strength in (0.0, 1.0):
            joint = prompt.dependent(prompt.ref, strength)
            for objective in (DPO(0.01), DPO(5.0), IPO(0.1)):
                g = prompt.gradients(objective, prompt.ref, joint)
                instances.append((g.optimal_weight, _initial_weight(prompt, joint), 1.0))
    measured, predicted, tolerance = worst(instances)
    return Claim(
        name="the-initial-weight-is-free-of-beta",
        statement="At the reference the optimal weight given the data depends neither on beta nor on DPO or IPO",
        reference="bvpo_analysis.theory.empty_trace.initial_weight",
        kind="identity",
        measured=measured,
        predicted=predicted,
        tolerance=tolerance,
        setting="60 prompts, beta 0.01 and 5, DPO and IPO, independent and dependent traces",
    )


def one_half_is_optimal_at_initialisation() -> Claim:
    """The optimal weight spreads over the unit interval."""
    weights = [prompt.gradients(DPO(0.1), prompt.ref).optimal_weight for prompt in prompts(200)]
    low, high = np.quantile(weights, [0.05, 0.95])
    return Claim(
        name="one-half-is-optimal-at-initialisation",
        statement="At the start of training alpha = 1/2 is the optimal weight",
        reference=f"the experiments of {PAPER}, all at alpha = 1/2",
        kind="identity",
        measured=float(low),
        predicted=0.5,
        tolerance=0.05,
        only_if="|e+ - e-|^2 = Tr Cov(s+ - s-), that is, if g_t and g_e have the same error",
        setting="DPO, one trace per answer, optimal weight given the data; 5 % quantile of 200 prompts",
        note=f"The 95 % quantile is {high:.2f}.",
    )


def the_empty_trace_is_near_if_it_is_likely() -> Claim:
    """|e|^2 <= ((1 - p0)/p0) Tr C: the weighted Samuelson inequality."""
    measured, bound, tolerance = tightest(
        (float(gap @ gap), float(largest_gap(law.p[0], law.variance)))
        for prompt in prompts(300)
        if prompt.model.features.shape[0] > 2
        for gap, law in zip(prompt.gaps(), prompt.laws(prompt.ref), strict=True)
    )
    return Claim(
        name="the-empty-trace-is-near-if-it-is-likely",
        statement="An empty trace of posterior mass p0 has |s(empty, y) - sbar(y)|^2 <= ((1 - p0)/p0) Tr C(y)",
        reference="bvpo_analysis.theory.empty_trace.largest_gap; Samuelson 1968",
        kind="upper",
        measured=measured,
        predicted=bound,
        tolerance=tolerance,
        setting="both answers of about 200 prompts with 3 or 4 traces; the closest",
    )


def the_samuelson_bound_is_attained() -> Claim:
    """With two traces there is only one other score."""
    measured, predicted, tolerance = worst(
        (float(gap @ gap), float(largest_gap(law.p[0], law.variance)), float((law.s**2).sum()))
        for prompt in prompts(300)
        if prompt.model.features.shape[0] == 2
        for gap, law in zip(prompt.gaps(), prompt.laws(prompt.ref), strict=True)
    )
    return Claim(
        name="the-samuelson-bound-is-attained",
        statement="With one other trace besides the empty one the bound is an equality",
        reference="bvpo_analysis.theory.empty_trace.largest_gap",
        kind="tight",
        measured=measured,
        predicted=predicted,
        tolerance=tolerance,
        setting="both answers of about 100 prompts with 2 traces",
    )


def a_prefilled_empty_block_is_near_if_it_is_likely() -> Claim:
    """Scoring only the answer after a given empty block is another vector, which the bound does not cover."""
    rows = []
    for prompt in prompts(300):
        for answer, law in zip((CHOSEN, REJECTED), prompt.laws(prompt.ref), strict=True):
            gap = prompt.model.answer_score(prompt.ref, 0, answer) - law.mean
            rows.append((float(gap @ gap), float(largest_gap(law.p[0], law.variance))))
    measured, bound = max(rows, key=lambda row: row[0] - row[1])
    share = np.mean([first > second for first, second in rows])
    return Claim(
        name="a-prefilled-empty-block-is-near-if-it-is-likely",
        statement="The same bound holds when the empty block is prefilled and only the answer is scored",
        reference="the statement above for grad log pi(y | x, empty)",
        kind="upper",
        measured=measured,
        predicted=bound,
        only_if="the empty trace is generated and scored like any other",
        setting="300 prompts, both answers; the largest excess",
        note=f"The bound fails in {share:.0%} of these cases.",
    )


def a_likely_empty_trace_caps_the_initial_weight() -> Claim:
    """alpha_0 <= k / (1 + k), k = (1 - p0+)/p0+ + (1 - p0-)/p0-, for independent traces."""
    measured, bound, tolerance = tightest(
        (
            prompt.gradients(DPO(1.0), prompt.ref).optimal_weight,
            float(largest_initial_weight(*(p[0] for p in prompt.posteriors(prompt.ref)))),
        )
        for prompt in prompts(300)
    )
    return Claim(
        name="a-likely-empty-trace-caps-the-initial-weight",
        statement="Posterior masses p0 of the empty trace cap the initial weight of g_t at k/(1 + k), "
        "k the sum of (1 - p0)/p0 over both answers",
        reference="bvpo_analysis.theory.empty_trace.largest_initial_weight",
        kind="upper",
        measured=measured,
        predicted=bound,
        tolerance=tolerance,
        setting="300 prompts, independent traces; the closest",
    )


def _own_pairs(count: int) -> list[tuple[float, EmptyBiasSplit]]:
    """|b_e|^2 for g_e on a pair of its own, the answers 2 and 3, against mu of the pair (0, 1); and its two parts."""
    rows = []
    for prompt in prompts(count, seed=1):
        if prompt.model.features.shape[1] == 4:
            shared = prompt.gradients(DPO(1.0), prompt.ref)
            own = prompt.gradients(DPO(1.0), prompt.ref, answers=(2, 3)).e
            rows.append((float((own - shared.mu) @ (own - shared.mu)), split_empty_bias(own, shared.e, shared.mu)))
    return rows


def the_bias_of_the_empty_trace_has_two_parts() -> Claim:
    """|b_e|^2 = |data shift|^2 + |trace shift|^2 + 2 <data shift, trace shift>."""
    measured, predicted, tolerance = worst(
        (square, float(split.data_sq + split.trace_sq + split.interaction), square) for square, split in _own_pairs(120)
    )
    return Claim(
        name="the-bias-of-the-empty-trace-has-two-parts",
        statement="With pairs of its own for g_e, b_e is a shift of the data plus the shift from leaving out the trace",
        reference=f"{PAPER}, whose empty-trace loss has its own preference pairs",
        kind="identity",
        measured=measured,
        predicted=predicted,
        tolerance=tolerance,
        setting="|b_e|^2 on about 40 prompts with 4 answers, two of them for g_t and the other two for g_e",
    )


def the_bias_of_the_empty_trace_is_that_of_its_trace() -> Claim:
    """The stronger reading: what the mix trades for variance is the error of leaving out the trace."""
    rows = _own_pairs(120)
    ratios = [square / float(split.trace_sq) for square, split in rows]
    return Claim(
        name="the-bias-of-the-empty-trace-is-that-of-its-trace",
        statement="The squared bias of g_e in BVPO is that of leaving out the trace",
        reference=f"reading of {PAPER}, whose empty-trace loss has its own preference pairs",
        kind="identity",
        measured=float(np.median(ratios)),
        predicted=1.0,
        tolerance=ROUNDING,
        only_if="|data shift|^2 + 2 <data shift, trace shift> = 0, as when both losses use the same pairs",
        setting=f"|b_e|^2 over the square of its trace part, the median of {len(rows)} prompts with 4 answers",
    )


CLAIMS = (
    the_empty_trace_has_a_fixed_bias,
    the_bias_of_the_empty_trace_has_two_parts,
    the_bias_of_the_empty_trace_is_that_of_its_trace,
    the_initial_weight_is_free_of_beta,
    one_half_is_optimal_at_initialisation,
    the_empty_trace_is_near_if_it_is_likely,
    the_samuelson_bound_is_attained,
    a_prefilled_empty_block_is_near_if_it_is_likely,
    a_likely_empty_trace_caps_the_initial_weight,
)
