"""Claims about language models, measured on the reasoning model in the box instead of a law made for the purpose.

All 24 traces of a prompt are enumerated, in float64, and gradients are explicit vectors of 300 000 parameters. The
network rounds to float32 inside its normalisation and attention, also on the way back, so a gradient of a sum and the
sum of gradients agree to about 1e-7 only; the allowance is 1e-6.
"""

from functools import cache
from typing import TYPE_CHECKING

import numpy as np
from scipy.optimize import minimize_scalar

from bvpo_analysis import theory
from bvpo_analysis.claims.instances import worst
from bvpo_analysis.claims.mixing import PAPER
from bvpo_analysis.estimators import EmptyTrace, Marginal, Trace, mix
from bvpo_analysis.moments import PromptMoments, prompt_moments
from bvpo_analysis.objectives import DPO, IPO, SimPO
from bvpo_analysis.records import Claim

if TYPE_CHECKING:
    from bvpo_analysis.claims.enumerated_prompt import EnumeratedPrompt

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


CLAIMS = (lrm_theorem_1, lrm_theorem_2, lrm_unbiased, lrm_unbiased_simpo)
