"""The bias of the trace-based gradient once theta has left the reference: how large, and of which order.

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
    norm,
    prompts,
    tightest,
)
from bvpo_analysis.objectives import DPO, IPO
from bvpo_analysis.records import Claim
from bvpo_analysis.theory.trace_bias import (
    offline_trace_bias,
    on_policy_trace_bias,
    small_beta_bias,
    small_beta_remainder,
    trace_loss_lower_bound,
)
from bvpo_analysis.theory.trace_laws import LossAtReference, posterior_divergence

PAPER = "BVPO, arXiv 2510.05095"
PROOF = "bvpo_analysis.theory.trace_bias"


def the_trace_gradient_is_unbiased() -> Claim:
    """Off the reference neither stale nor fresh posterior traces are unbiased."""
    fresh = [
        prompt.gradients(DPO(1.0), prompt.theta, prompt.independent(prompt.theta)).relative_bias
        for prompt in prompts(101)
    ]
    stale = [prompt.gradients(DPO(1.0), prompt.theta).relative_bias for prompt in prompts(101)]
    return Claim(
        name="the-trace-gradient-is-unbiased",
        statement="g_t is an unbiased estimate of mu throughout training (b_t = 0)",
        reference=f"reading of {PAPER}, Theorem 2, with b_t = 0",
        kind="identity",
        measured=float(np.median(fresh)),
        predicted=0.0,
        tolerance=ROUNDING,
        only_if="theta is the reference, and the traces are its posterior ones",
        setting="|b_t| / |mu| for DPO, beta 1, fresh posterior traces, entries of theta - theta_ref of order 0.5; "
        "the median of 101 prompts",
        note=f"With reference-posterior (offline) traces the median is {np.median(stale):.2f}.",
    )


def _shrink_per_decade(*, on_policy: bool) -> tuple[float, float]:
    """|b_t - lead| at |d| = 1e-3 over that at 1e-4, farthest from 100; the largest |b_t - lead| / |lead| at 1e-4."""
    ratios, relative = [], []
    for index, prompt in enumerate(prompts(60)):
        objective, loss = LOSSES[index % len(LOSSES)]
        strength = (0.0, 1.0)[index % 2]
        direction = (prompt.theta - prompt.ref) / norm(prompt.theta - prompt.ref)
        remainders = []
        for length in (1e-3, 1e-4):
            d = length * direction
            law_at = prompt.ref + d if on_policy else prompt.ref
            g = prompt.gradients(objective, prompt.ref + d, prompt.dependent(law_at, strength))
            lead_of = on_policy_trace_bias if on_policy else offline_trace_bias
            lead = lead_of(*prompt.laws(prompt.ref), d, loss, prompt.dependent(prompt.ref, strength))
            remainders.append(norm(g.bias - lead))
        ratios.append(remainders[0] / remainders[1])
        relative.append(remainders[1] / norm(lead))
    return max(ratios, key=lambda ratio: abs(ratio - 100)), max(relative)


def offline_traces_bias_by_stale_posterior_and_slope() -> Claim:
    """b_t = slope (C+ - C-) d + curvature Cov(s+ - s-) d + O(|d|^2) with reference-posterior traces."""
    ratio, relative = _shrink_per_decade(on_policy=False)
    return Claim(
        name="offline-traces-bias-by-stale-posterior-and-slope",
        statement="With offline traces b_t = (beta/2)(C+ - C-) d + (beta^2/4) Cov(s+ - s-) d up to O(|d|^2)",
        reference=f"{PROOF}.offline_trace_bias",
        kind="identity",
        measured=ratio,
        predicted=100.0,
        tolerance=10.0,
        setting="|b_t - lead| at |d| = 1e-3 over that at 1e-4, the worst of 60 prompts; DPO and IPO, half dependent",
        note=f"At |d| = 1e-4 the remainder is at most {relative:.1e} of the lead. A wrong lead would shrink by 10.",
    )


def fresh_traces_bias_by_slope_only() -> Claim:
    """b_t = curvature Cov(s+ - s-) d + O(|d|^2) with traces from the current posterior."""
    ratio, relative = _shrink_per_decade(on_policy=True)
    return Claim(
        name="fresh-traces-bias-by-slope-only",
        statement="With fresh posterior traces b_t = (beta^2/4) Cov(s+ - s-) d up to O(|d|^2), a pull to the reference",
        reference=f"{PROOF}.on_policy_trace_bias",
        kind="identity",
        measured=ratio,
        predicted=100.0,
        tolerance=10.0,
        setting="|b_t - lead| at |d| = 1e-3 over that at 1e-4, the worst of 60 prompts; DPO and IPO, half dependent",
        note=f"At |d| = 1e-4 the remainder is at most {relative:.1e} of the lead. A wrong lead would shrink by 10.",
    )


def _small_beta(prompt: Prompt, beta: float, strength: float) -> tuple[float, float]:
    """DPO with traces from the current posterior: |b_t - lead|, and its bound."""
    joint = prompt.dependent(prompt.theta, strength)
    arguments = (*prompt.laws(prompt.theta), *prompt.log_ratios(prompt.theta))
    g = prompt.gradients(DPO(beta), prompt.theta, joint)
    lead = small_beta_bias(*arguments, LossAtReference.dpo(beta), joint)
    return norm(g.bias - lead), small_beta_remainder(*arguments, beta, joint)


def the_bias_is_of_second_order_in_beta() -> Claim:
    """b_t = (beta^2/4){Cov(rho+ - rho-, s+ - s-) + (KL+ - KL-)(sbar+ - sbar-)} + O(beta^4)."""
    ratios = [
        _small_beta(prompt, 1e-1, strength)[0] / _small_beta(prompt, 1e-2, strength)[0]
        for prompt in prompts(60)
        for strength in (0.0, 1.0)
    ]
    return Claim(
        name="the-bias-is-of-second-order-in-beta",
        statement="With fresh traces the bias is (beta^2/4)(covariance of log-ratio and score + shift of the means by "
        "KL+ - KL-), up to O(beta^4)",
        reference=f"{PROOF}.small_beta_bias",
        kind="identity",
        measured=max(ratios, key=lambda ratio: abs(ratio - 1e4)),
        predicted=1e4,
        tolerance=1e3,
        setting="|b_t - lead| at beta = 0.1 over that at 0.01, the worst of 60 prompts, each with two joint laws",
        note="A lead without the shift of the means would leave a remainder that shrinks by 100 only.",
    )


def the_remainder_in_beta_is_bounded() -> Claim:
    """|b_t - lead| <= (beta^4/48){E|u|^3 |s+ - s-| + |h+ - h-|^3 |sbar+ - sbar-|} at every beta."""
    measured, bound, tolerance = tightest(
        _small_beta(prompt, beta, strength)
        for prompt in prompts(40)
        for strength in (0.0, 1.0)
        for beta in (0.1, 1.0, 5.0)
    )
    return Claim(
        name="the-remainder-in-beta-is-bounded",
        statement="What the expansion in beta leaves out is at most (beta^4/48) times third moments of the log-ratios",
        reference=f"{PROOF}.small_beta_remainder",
        kind="upper",
        measured=measured,
        predicted=bound,
        tolerance=tolerance,
        setting="40 prompts, beta 0.1, 1 and 5, independent and dependent traces; the closest",
    )


def the_bias_of_ipo_is_exact() -> Claim:
    """The loss is a parabola: the expansion has two terms and no remainder, at every beta and theta."""
    instances = []
    for prompt in prompts(60):
        for beta, strength in ((0.1, 0.0), (1.0, 1.0)):
            joint = prompt.dependent(prompt.theta, strength)
            g = prompt.gradients(IPO(beta), prompt.theta, joint)
            predicted = small_beta_bias(
                *prompt.laws(prompt.theta), *prompt.log_ratios(prompt.theta), LossAtReference.ipo(beta), joint
            )
            instances += [(b, p, g.size) for b, p in zip(g.bias, predicted, strict=True)]
    measured, expected, tolerance = worst(instances)
    return Claim(
        name="the-bias-of-ipo-is-exact",
        statement="For IPO with fresh traces b_t = 2 Cov(rho+ - rho-, s+ - s-) + 2 (KL+ - KL-)(sbar+ - sbar-) exactly",
        reference=f"{PROOF}.small_beta_bias",
        kind="identity",
        measured=measured,
        predicted=expected,
        tolerance=tolerance,
        setting="every entry; 60 prompts, beta 0.1 and 1, independent and dependent traces",
        note="It does not depend on beta.",
    )


def small_beta_makes_the_bias_negligible() -> Claim:
    """Offline traces at a fixed theta keep a bias of the order of mu."""
    relative = [prompt.gradients(DPO(1e-4), prompt.theta).relative_bias for prompt in prompts(101)]
    fresh = [
        prompt.gradients(DPO(1e-4), prompt.theta, prompt.independent(prompt.theta)).relative_bias
        for prompt in prompts(101)
    ]
    return Claim(
        name="small-beta-makes-the-bias-negligible",
        statement="As beta goes to 0, |b_t| / |mu| goes to 0",
        reference="the order beta^2 of the bias, mu being of order beta",
        kind="identity",
        measured=float(np.median(relative)),
        predicted=0.0,
        tolerance=1e-3,
        only_if="the traces are drawn from the current posterior; offline ones are stale at any beta",
        setting="offline traces, beta 1e-4, entries of theta - theta_ref of order 0.5; the median of 101 prompts",
        note=f"With fresh posterior traces the median is {np.median(fresh):.1e}.",
    )


def the_trace_loss_lies_above_its_jensen_bound() -> Claim:
    """L_t >= softplus(-m + beta (KL+ - KL-)) with reference-posterior traces."""
    instances = []
    for prompt in prompts(60):
        first, second = prompt.log_ratios(prompt.theta)
        h = prompt.model.log_marginal(prompt.theta) - prompt.model.log_marginal(prompt.ref)
        reference = prompt.posteriors(prompt.ref)
        chosen, rejected = posterior_divergence(reference[0], -first), posterior_divergence(reference[1], -second)
        for beta in (0.1, 1.0, 5.0):
            for strength in (0.0, 1.0):
                losses = np.logaddexp(0.0, -beta * (first[:, None] - second))
                measured = float((prompt.dependent(prompt.ref, strength) * losses).sum())
                bound = float(trace_loss_lower_bound(beta * (h[CHOSEN] - h[REJECTED]), chosen, rejected, beta))
                instances.append((-measured, -bound))
    measured, bound, tolerance = tightest(instances)
    return Claim(
        name="the-trace-loss-lies-above-its-jensen-bound",
        statement="The mean loss on offline traces is at least softplus(-m + beta (KL+ - KL-))",
        reference=f"{PROOF}.trace_loss_lower_bound",
        kind="lower",
        measured=-measured,
        predicted=-bound,
        tolerance=tolerance,
        setting="60 prompts, beta 0.1, 1 and 5, independent and dependent traces; the closest",
    )


CLAIMS = (
    the_trace_gradient_is_unbiased,
    offline_traces_bias_by_stale_posterior_and_slope,
    fresh_traces_bias_by_slope_only,
    the_bias_is_of_second_order_in_beta,
    the_remainder_in_beta_is_bounded,
    the_bias_of_ipo_is_exact,
    small_beta_makes_the_bias_negligible,
    the_trace_loss_lies_above_its_jensen_bound,
)
