"""Is g_t unbiased for mu = grad L_m? Exact statements at the reference, leading terms away from it.

A trace r comes with an answer y. Its score is s(r) = grad log pi_theta(r, y | x), its log-ratio
rho(r) = log pi_theta(r, y | x) - log pi_ref(r, y | x); averaged over the posterior pi_theta(r | x, y) the score becomes
sbar = grad log pi_theta(y | x) (Fisher's identity), and h is the log-ratio of the marginals. Every loss here is L(u)
with u = rho+ - rho-, so that, for answers y+ and y-,

    g_t = L'(rho+ - rho-) (s+ - s-),        mu = L'(h+ - h-) (sbar+ - sbar-).

At theta = theta_ref every u is 0, L' is the constant -slope whatever the traces are, and with posterior traces
E g_t = -slope (sbar+ - sbar-) = mu under every joint law of (r+, r-). Such traces come from the usual pipeline: if
(r, y) are drawn from pi_ref and the pair is chosen by the answers alone, the traces given the answers are independent
posterior draws, unless some are discarded for what the trace is. The functions below say what happens to the variance
at the reference, and to the bias with other traces or at other parameters. Where ``joint`` [R+, R-] is left out, r+ and
r- are independent. Reference-free losses (SimPO, arXiv 2405.14734) are not of this form: their margin varies with the
trace at every theta, so g_t is biased from the start.
"""

import numpy as np
from numpy.typing import ArrayLike

from bvpo_analysis.records import Floats
from bvpo_analysis.theory.arguments import ROUNDING, finite, nonnegative, positive
from bvpo_analysis.theory.trace_laws import (
    LossAtReference,
    TraceLaw,
    check_same_length,
    checked_joint,
    difference_covariance,
    one_per_trace,
    posterior_divergence,
)


def trace_variance_at_reference(
    chosen: TraceLaw, rejected: TraceLaw, loss: LossAtReference, joint: ArrayLike | None = None
) -> float:
    """Tr Var_r(g_t) at theta_ref given the data: slope^2 Tr Cov(s+ - s-).

    For DPO with independent traces (beta^2/4)(Tr C+ + Tr C-). Proof: all u are 0, so g_t = -slope (s+ - s-) exactly.
    A positive correlation of s+ and s- lowers it and leaves g_t unbiased.

    Args:
        chosen, rejected: any laws of the traces; for an unbiased g_t the reference posteriors.
        loss: slope and curvature at the reference.
        joint: [R+, R-], as in :func:`difference_covariance`.

    Example:
        >>> law = TraceLaw([0.5, 0.5], [[0.0], [2.0]])
        >>> trace_variance_at_reference(law, law, LossAtReference.dpo(1.0))
        0.5
    """
    return float(loss.slope**2 * np.trace(difference_covariance(chosen, rejected, joint)))


def prior_trace_bias(
    chosen: TraceLaw,
    rejected: TraceLaw,
    likelihood_chosen: ArrayLike,
    likelihood_rejected: ArrayLike,
    loss: LossAtReference,
) -> Floats:
    """b_t at theta_ref with traces from pi_ref(r | x) instead of the posterior; exact, [d].

        b_t = slope [Cov_prior(w+, s+) - Cov_prior(w-, s-)],      w(r) = pi(y | x, r) / pi(y | x)

    Proof: the posterior is w times the prior, so E_post s - E_prior s = E_prior[(w - 1) s] = Cov_prior(w, s), and
    g_t - mu averages to slope times the difference of these two. It vanishes if y is independent of r. Any joint law
    of (r+, r-) has this bias.

    Args:
        chosen, rejected: prior probabilities pi_ref(r | x), the same in both, with the scores of each answer.
        likelihood_chosen, likelihood_rejected: pi_ref(y+- | x, r) [R], up to a constant factor per side.
        loss: slope at the reference.

    Raises:
        ValueError: a likelihood is negative, not one per trace, or zero under every trace, or the two laws have other
            probabilities.

    Example:
        >>> prior = TraceLaw([0.5, 0.5], [[0.0], [2.0]])
        >>> prior_trace_bias(prior, prior, [0.1, 0.3], [0.2, 0.2], LossAtReference.dpo(2.0))
        array([0.5])
    """
    check_same_length(chosen, rejected)
    if chosen.p.shape != rejected.p.shape or np.abs(chosen.p - rejected.p).max() > ROUNDING:
        raise ValueError("rejected must have the probabilities of chosen: the prior does not depend on the answer")
    shifts = []
    named = (("likelihood_chosen", likelihood_chosen, chosen), ("likelihood_rejected", likelihood_rejected, rejected))
    for name, likelihood, law in named:
        (values,) = nonnegative(**{name: one_per_trace(name, likelihood, law)})
        evidence = law.p @ values
        if evidence == 0:
            raise ValueError(f"{name} must be positive under some trace")
        shifts.append(law.covariance_with(values / evidence))
    return loss.slope * (shifts[0] - shifts[1])


def offline_trace_bias(
    chosen: TraceLaw,
    rejected: TraceLaw,
    displacement: ArrayLike,
    loss: LossAtReference,
    joint: ArrayLike | None = None,
) -> Floats:
    """Leading b_t at theta_ref + d with traces that stay reference-posterior ones (offline data), [d].

        b_t = slope (C+ - C-) d + curvature Cov(s+ - s-) d + O(|d|^2)

    For DPO with independent traces (beta/2)(C+ - C-) d + (beta^2/4)(C+ + C-) d. Proof: E_ref s_theta = sbar_theta - C d
    + O(|d|^2) (the Hessian of log pi(y) is the mean Hessian plus C; Louis 1982), which is the first term; u = <s+ - s-,
    d> to first order, so L'(u) is correlated with s+ - s- through the curvature, which is the second. The first is the
    stale posterior and has no sign; the second is a pull towards theta_ref, since its product with d is >= 0.

    Args:
        chosen, rejected: reference posteriors with scores at theta_ref.
        displacement: d = theta - theta_ref, [d].
        loss: slope and curvature at the reference.
        joint: [R+, R-] law of the trace pair.

    Example:
        >>> wide, narrow = TraceLaw([0.5, 0.5], [[0.0], [2.0]]), TraceLaw([1.0], [[1.0]])
        >>> offline_trace_bias(wide, narrow, [0.01], LossAtReference.dpo(2.0))
        array([0.02])
    """
    d = _displacement(displacement, chosen)
    stale = loss.slope * ((chosen.covariance - rejected.covariance) @ d)
    return stale + on_policy_trace_bias(chosen, rejected, d, loss, joint)


def on_policy_trace_bias(
    chosen: TraceLaw,
    rejected: TraceLaw,
    displacement: ArrayLike,
    loss: LossAtReference,
    joint: ArrayLike | None = None,
) -> Floats:
    """Leading b_t at theta_ref + d with fresh traces from pi_theta(r | x, y+-), [d].

        b_t = curvature Cov(s+ - s-) d + O(|d|^2),     (beta^2/4)(C+ + C-) d for DPO with independent traces

    Only the second term of :func:`offline_trace_bias` remains: E_theta s = sbar_theta holds exactly. A joint law that
    depends on theta enters through its value at theta_ref.

    Example:
        >>> wide, narrow = TraceLaw([0.5, 0.5], [[0.0], [2.0]]), TraceLaw([1.0], [[1.0]])
        >>> on_policy_trace_bias(wide, narrow, [0.01], LossAtReference.dpo(2.0))
        array([0.01])
    """
    d = _displacement(displacement, chosen)
    return loss.curvature * (difference_covariance(chosen, rejected, joint) @ d)


def small_beta_bias(
    chosen: TraceLaw,
    rejected: TraceLaw,
    log_ratios_chosen: ArrayLike,
    log_ratios_rejected: ArrayLike,
    loss: LossAtReference,
    joint: ArrayLike | None = None,
) -> Floats:
    """Leading b_t for small beta at any theta, traces from pi_theta(r | x, y+-), [d].

        b_t = curvature {Cov(rho+ - rho-, s+ - s-) + (KL+ - KL-)(sbar+ - sbar-)}

    with KL+- = KL(pi_theta(r | y+-) || pi_ref(r | y+-)), and Cov(rho+, s+) + Cov(rho-, s-) for independent traces. The
    remainder is O(beta^4) for DPO (curvature beta^2/4; see :func:`small_beta_remainder`), and none for IPO, where this
    is the bias exactly at every beta. Proof: expand L' at 0; E[u (s+ - s-)] is the covariance plus E u (sbar+ - sbar-),
    and E rho = h + KL, so the means differ by KL+ - KL- from the u = h+ - h- of mu. With traces from the reference
    posterior the bias has a term of order beta as well.

    Args:
        chosen, rejected: posteriors under theta, with scores at theta.
        log_ratios_chosen, log_ratios_rejected: rho+- [R], in nats.
        loss: curvature at the reference.
        joint: [R+, R-] law of the trace pair.

    Example:
        >>> law = TraceLaw([0.5, 0.5], [[0.0], [2.0]])
        >>> small_beta_bias(law, law, [0.0, 1.0], [0.0, 1.0], LossAtReference.dpo(2.0))
        array([1.])
    """
    check_same_length(chosen, rejected)
    first = one_per_trace("log_ratios_chosen", log_ratios_chosen, chosen)
    second = one_per_trace("log_ratios_rejected", log_ratios_rejected, rejected)
    if joint is None:
        covariance = chosen.covariance_with(first) + rejected.covariance_with(second)
    else:
        p = checked_joint(chosen, rejected, joint)
        u = (first - chosen.p @ first)[:, None] - (second - rejected.p @ second)[None]
        covariance = np.einsum("ij,ij,ijk->k", p, u, chosen.centred[:, None] - rejected.centred[None])
    # KL(pi_theta || pi_ref) from rho under pi_theta: the reference posterior is proportional to p exp(-rho).
    shift = posterior_divergence(chosen.p, first) - posterior_divergence(rejected.p, second)
    return loss.curvature * (covariance + shift * (chosen.mean - rejected.mean))


def small_beta_remainder(
    chosen: TraceLaw,
    rejected: TraceLaw,
    log_ratios_chosen: ArrayLike,
    log_ratios_rejected: ArrayLike,
    beta: float,
    joint: ArrayLike | None = None,
) -> float:
    """What DPO's b_t may differ from :func:`small_beta_bias` by, in norm: a bound for every beta.

        |b_t - lead| <= (beta^4 / 48) {E|rho+ - rho-|^3 |s+ - s-| + |h+ - h-|^3 |sbar+ - sbar-|}

    Proof: the third derivative of the sigmoid is at most 1/8 in size and the second vanishes at 0, so
    |sigmoid(-m) - 1/2 + m/4| <= |m|^3 / 48 by Taylor; apply it to g_t and to mu.

    Example:
        >>> law = TraceLaw([0.5, 0.5], [[0.0], [2.0]])
        >>> round(small_beta_remainder(law, law, [0.0, 1.0], [0.0, 1.0], beta=2.0), 12)
        0.333333333333
    """
    positive(beta=beta)
    check_same_length(chosen, rejected)
    first = one_per_trace("log_ratios_chosen", log_ratios_chosen, chosen)
    second = one_per_trace("log_ratios_rejected", log_ratios_rejected, rejected)
    p = np.outer(chosen.p, rejected.p) if joint is None else checked_joint(chosen, rejected, joint)
    lengths = np.linalg.norm(chosen.s[:, None] - rejected.s[None], axis=2)
    marginal = (chosen.p @ first - posterior_divergence(chosen.p, first)) - (
        rejected.p @ second - posterior_divergence(rejected.p, second)
    )
    traces = float((p * np.abs(first[:, None] - second[None]) ** 3 * lengths).sum())
    target = float(abs(marginal) ** 3 * np.linalg.norm(chosen.mean - rejected.mean))
    return beta**4 / 48 * (traces + target)


def trace_loss_lower_bound(
    margin: ArrayLike, divergence_chosen: ArrayLike, divergence_rejected: ArrayLike, beta: ArrayLike
) -> Floats:
    """Lower bound of the DPO loss on reference-posterior traces, L_t >= softplus(-m + beta (KL+ - KL-)).

    Here m = beta (h+ - h-) is the margin of the marginal loss L_m = softplus(-m), and KL+- = KL(pi_ref(r | y+-) ||
    pi_theta(r | y+-)). Proof: E rho = h - KL, so E m_t = m - beta (KL+ - KL-); softplus is convex (Jensen). It holds
    for every joint law of (r+, r-), with equality if m_t is constant.

    Args:
        margin, divergence_chosen, divergence_rejected: m, KL+ and KL- in nats; [..].
        beta: inverse temperature, positive; [..].

    Raises:
        ValueError: an argument is not finite, a divergence is negative, or beta <= 0.

    Example:
        >>> round(float(trace_loss_lower_bound(0.0, 0.5, 0.1, beta=1.0)), 6)
        0.913015
    """
    (margin,), (beta,) = finite(margin=margin), positive(beta=beta)
    chosen, rejected = nonnegative(divergence_chosen=divergence_chosen, divergence_rejected=divergence_rejected)
    return np.asarray(np.logaddexp(0.0, -margin + beta * (chosen - rejected)))


def _displacement(displacement: ArrayLike, law: TraceLaw) -> Floats:
    (d,) = finite(displacement=displacement)
    if d.shape != law.s.shape[1:]:
        raise ValueError(f"displacement must have the length of a score, {law.s.shape[1]}, got shape {d.shape}")
    return d
