"""Claims about language models, measured on the reasoning model in the box instead of a law made for the purpose.

All 24 traces of a prompt are enumerated, in float64, and gradients are explicit vectors of 300 000 parameters. The
network rounds to float32 inside its normalisation and attention, also on the way back, so a gradient of a sum and the
sum of gradients agree to about 1e-7 only; the allowance is 1e-6.
"""

from functools import cache
from typing import TYPE_CHECKING, Literal

import numpy as np
from scipy.optimize import minimize_scalar

from bvpo_analysis import theory
from bvpo_analysis.claims.instances import worst
from bvpo_analysis.claims.mixing import PAPER
from bvpo_analysis.estimators import EmptyTrace, EmptyVariant, Marginal, Trace, mix
from bvpo_analysis.moments import PromptMoments, prompt_moments
from bvpo_analysis.objectives import DPO, IPO, Objective, SimPO
from bvpo_analysis.off_reference.leading_bias import posterior
from bvpo_analysis.records import Claim, Floats, PairScores
from bvpo_analysis.theory.empty_trace import initial_weight
from bvpo_analysis.theory.trace_laws import TraceLaw

if TYPE_CHECKING:
    from bvpo_analysis.claims.enumerated_prompt import EnumeratedPrompt
    from bvpo_analysis.off_reference.path import Checkpoint

FLOAT32_INSIDE = 1e-6
"""Relative rounding of a gradient of the network."""
SETTING = "reasoning model in the box, one prompt of the correct regime, all 24 traces of both answers"
LOSSES = (DPO(), IPO(), SimPO())


@cache
def _prompt() -> "EnumeratedPrompt":
    # Imported here, so that the list of claims can be read without torch.
    from bvpo_analysis.claims.enumerated_prompt import enumerate_prompt

    return enumerate_prompt("correct", *LOSSES)


def _moments(alpha: float) -> PromptMoments:
    """Moments of g_c, taken as an estimator of its own, and of g_e."""
    mixed = mix(Trace(DPO()), EmptyTrace(DPO()), alpha)
    return prompt_moments(_prompt().scores, mixed, EmptyTrace(DPO()), Marginal(DPO()))


def lrm_theorem_1() -> Claim:
    """Theorem 1, with g_c mixed sequence by sequence."""
    single = _moments(1.0).trace_var
    instances = [
        (_moments(alpha).trace_var, theory.error_curve(alpha, single, 0.0, 0.0), single)
        for alpha in (0.0, 0.25, 0.5, 0.9)
    ]
    measured, predicted, tolerance = worst(instances)
    return Claim(
        name="lrm-theorem-1",
        statement="Given the data, mixing multiplies the trace variance of g_t by alpha squared",
        reference=f"{PAPER}, Theorem 1",
        kind="identity",
        measured=measured,
        predicted=predicted,
        tolerance=tolerance,
        setting=SETTING,
    )


def lrm_theorem_2() -> Claim:
    """Theorem 2: the closed form against a numerical search over mixes."""

    def error(alpha: float) -> float:
        law = _moments(alpha)
        return law.bias_t_sq + law.trace_var

    found = minimize_scalar(error, bounds=(0.0, 1.0), method="bounded", options={"xatol": 1e-7})
    law = _moments(1.0)
    numerator, distance = law.bias_t_diff + law.trace_var, law.bias_diff_sq + law.trace_var
    closed_form = theory.optimal_weight_from_distance(numerator, distance, law.bias_e_sq + law.trace_var)
    return Claim(
        name="lrm-theorem-2",
        statement="The closed-form weight minimises the mean squared error of the mix",
        reference=f"{PAPER}, Theorem 2",
        kind="identity",
        measured=float(found.x),
        predicted=float(np.clip(closed_form, 0.0, 1.0)),
        tolerance=1e-5,
        setting=SETTING,
        note="Target: this prompt's own marginal gradient, one trace (M1).",
    )


def lrm_unbiased() -> Claim:
    """Reference-posterior traces make g_t exactly unbiased for DPO and IPO."""
    return Claim(
        name="lrm-unbiased",
        statement="At the reference g_t is unbiased for the marginal gradient (DPO and IPO)",
        reference="Fisher's identity; constant coefficients at the reference",
        kind="identity",
        measured=max(_prompt().relative_bias(objective) for objective in LOSSES[:2]),
        predicted=0.0,
        tolerance=FLOAT32_INSIDE,
        setting=f"{SETTING}; |E g_t - mu| / |mu|, mu by automatic differentiation",
    )


def lrm_unbiased_simpo() -> Claim:
    """A reference-free, length-normalised loss is biased from the first step."""
    return Claim(
        name="lrm-unbiased-simpo",
        statement="At initialisation g_t is unbiased whatever the loss",
        reference="reading of the paper's setting with SimPO (arXiv 2405.14734) as the base loss",
        kind="identity",
        measured=_prompt().relative_bias(LOSSES[2]),
        predicted=0.0,
        tolerance=FLOAT32_INSIDE,
        only_if="the loss has coefficients that do not vary with the trace at the reference (DPO, IPO)",
        setting=f"{SETTING}; SimPO, |E g_t - mu| / |mu|",
        note="The marginal of this loss is normalised by the tokens of the answer, its only length, g_t by all tokens; "
        f"after the best rescaling of g_t a relative error of {_prompt().direction_error(LOSSES[2]):.1e} remains.",
    )


@cache
def _checkpoints() -> "tuple[Checkpoint, ...]":
    from bvpo_analysis.claims.prompt_off_reference import checkpoints_of_prompt

    return checkpoints_of_prompt("correct", 1 / 32, 1 / 16, betas=(0.1, 0.05))


def _growth(which: Literal["stale", "fresh"]) -> tuple[float, float]:
    """|b_t - lead| at twice the displacement over that at the first; the larger |b_t - lead| / |lead|."""
    first, second = (getattr(found.point, which) for found in _checkpoints())
    ratio = second.remainder_population / first.remainder_population
    return ratio, second.remainder_population / second.lead_population


OFF_REFERENCE = (
    "reasoning model in the box, one prompt of the correct regime, all 24 traces of both answers; theta on the way of "
    "a short DPO run"
)


def lrm_stale_trace_bias() -> Claim:
    """The leading term of b_t with reference-posterior traces, formed from scores at the reference and d alone."""
    ratio, relative = _growth("stale")
    distance = _checkpoints()[1].point.distance
    return Claim(
        name="lrm-stale-trace-bias",
        statement="With the traces of the data b_t = (beta/2)(C+ - C-) d + (beta^2/4)(C+ + C-) d up to O(|d|^2)",
        reference="bvpo_analysis.theory.trace_bias.offline_trace_bias",
        kind="identity",
        measured=ratio,
        predicted=4.0,
        tolerance=0.4,
        setting=f"{OFF_REFERENCE}; |b_t - lead| at |d| = {distance:.2g} over that at half of it",
        note=f"At the larger |d| the remainder is {relative:.1e} of the lead. A wrong lead would grow by 2.",
    )


def lrm_fresh_trace_bias() -> Claim:
    """The leading term of b_t with current-posterior traces."""
    ratio, relative = _growth("fresh")
    distance = _checkpoints()[1].point.distance
    return Claim(
        name="lrm-fresh-trace-bias",
        statement="With fresh posterior traces b_t = (beta^2/4)(C+ + C-) d up to O(|d|^2)",
        reference="bvpo_analysis.theory.trace_bias.on_policy_trace_bias",
        kind="identity",
        measured=ratio,
        predicted=4.0,
        tolerance=0.4,
        setting=f"{OFF_REFERENCE}; |b_t - lead| at |d| = {distance:.2g} over that at half of it",
        note=f"At the larger |d| the remainder is {relative:.1e} of the lead. A wrong lead would grow by 2.",
    )


def lrm_small_beta_trace_bias() -> Claim:
    """The expansion in beta at a fixed theta, fresh traces."""
    larger, smaller = (point.fresh for point in _checkpoints()[1].betas)
    relative = larger.remainder_population / larger.lead_population
    return Claim(
        name="lrm-small-beta-trace-bias",
        statement="With fresh traces b_t = (beta^2/4){Cov(rho+, s+) + Cov(rho-, s-) + (KL+ - KL-)(sbar+ - sbar-)} "
        "up to O(beta^4)",
        reference="bvpo_analysis.theory.trace_bias.small_beta_bias",
        kind="identity",
        measured=larger.remainder_population / smaller.remainder_population,
        predicted=16.0,
        tolerance=1.6,
        setting=f"{OFF_REFERENCE}; |b_t - lead| at beta = 0.1 over that at 0.05",
        note=f"At beta = 0.1 the remainder is {relative:.1e} of the lead.",
    )


@cache
def _with_empty_trace() -> "tuple[PairScores, Floats]":
    from bvpo_analysis.claims.prompt_off_reference import prompt_with_empty_trace

    return prompt_with_empty_trace("correct")


def _initial_weights(objective: Objective) -> tuple[float, float]:
    """The weight that minimises the error of the mix at the reference, found by search, and its closed form."""
    scored, vectors = _with_empty_trace()
    logs, empty = scored.log_probs, EmptyVariant(objective, "empty_shared")

    def error(alpha: float) -> float:
        law = prompt_moments(scored, mix(Trace(objective), empty, alpha), empty, Marginal(objective))
        return law.bias_t_sq + law.trace_var

    scale = error(1.0)
    found = minimize_scalar(lambda a: error(a) / scale, bounds=(0.0, 1.0), method="bounded", options={"xatol": 1e-7})
    laws = [TraceLaw(posterior(logs.log_prob, rows), vectors[rows]) for rows in logs.support]
    gaps = [vectors[row] - law.mean for row, law in zip(logs.variants["empty_shared"], laws, strict=True)]
    gap_sq = float(((gaps[0] - gaps[1]) ** 2).sum())
    return float(found.x), float(initial_weight(gap_sq, laws[0].variance + laws[1].variance))


def lrm_initial_weight() -> Claim:
    """The weight at the start of training depends on scores only."""
    instances = [(*_initial_weights(objective), 1.0) for objective in (DPO(0.1), DPO(2.0), IPO(0.1))]
    measured, predicted, _ = worst(instances)
    return Claim(
        name="lrm-initial-weight",
        statement="At the reference the best weight given a pair is |e+ - e-|^2 / (|e+ - e-|^2 + Tr C+ + Tr C-), free "
        "of beta and of the loss; e(y) is the score of the empty trace less that of the marginal",
        reference="bvpo_analysis.theory.empty_trace.initial_weight",
        kind="identity",
        measured=measured,
        predicted=predicted,
        tolerance=1e-5,
        setting=f"{SETTING}; empty trace on the same answers; DPO with beta 0.1 and 2, IPO with beta 0.1, the worst",
        note="Target: this prompt's own marginal gradient, one trace (M1). The paper uses 0.5.",
    )


CLAIMS = (
    lrm_theorem_1,
    lrm_theorem_2,
    lrm_unbiased,
    lrm_unbiased_simpo,
    lrm_initial_weight,
    lrm_stale_trace_bias,
    lrm_fresh_trace_bias,
    lrm_small_beta_trace_bias,
)
