"""Labels flipped with probability p: what becomes of the moments at the reference, exactly.

Swapping chosen and rejected turns DPO's and IPO's gradient at the reference into its negative, because there the
coefficients of the two answers are c and -c whatever the answers are. With independent flips of the pairs the
estimators become eps g_t and eps' g_e, eps = -1 with probability p and 1 otherwise, E eps = q = 1 - 2p. If the
empty-trace answers repeat y+ and y- they share the label, eps' = eps; if they are answers of their own, eps' is
independent. Against the clean target mu, with b_t = 0:

    bias of g_t         (q - 1) mu                       bias of g_e        q E g_e - mu
    Tr Var g_t          + (1 - q^2) |mu|^2               Tr Var g_e         + (1 - q^2) |E g_e|^2
    Tr Cov(g_t, g_e)    + (1 - q^2) <mu, E g_e>  (shared labels),    times q^2  (own labels)

Trace noise given data and labels stays what it is. The loss on flipped data is minimised elsewhere (arXiv 2403.00409
treats that); here the question is how far one gradient is from the clean one.
"""

from dataclasses import replace
from typing import Literal

import numpy as np

from bvpo_analysis.moments.law import Moments

ROUNDING = 1e-12
"""A squared bias of g_t below this, relative to E|g_t|^2, is rounding."""


def flip_labels(moments: Moments, probability: float, *, empty_answers: Literal["own", "copied"]) -> Moments:
    """Moments of (g_t, g_e) against the clean target when every label is flipped with this probability.

    Args:
        moments: at the reference, where g_t is unbiased; estimates with replicates, or exact.
        probability: p, between 0 and 1/2.
        empty_answers: "own" if the answers of g_e have labels of their own, "copied" if they share those of g_t.

    Returns:
        Moments of the same kind. Squared biases now contain |mu|^2, so the noise record of |b_e|^2 is dropped and
        intervals are those of Fieller and the jackknife.

    Raises:
        ValueError: p outside [0, 1/2], or g_t is biased, as off the reference, where a flip is no change of sign.

    Example:
        >>> from bvpo_analysis.moments.law import Moments
        >>> one, none = np.ones(1), np.zeros(1)
        >>> clean = Moments(8, none, one, none, one, none, 4 * one, one, none, 5 * one, 4 * one,
        ...                 one, none, 2 * one, none, 2 * one, none, one, one, 2 * one)
        >>> noisy = flip_labels(clean, 0.25, empty_answers="copied")
        >>> noisy.bias_t_sq, noisy.var_t
        (array([0.25]), array([4.75]))
    """
    if not 0 <= probability <= 0.5:
        raise ValueError(f"probability must be between 0 and 1/2, got {probability}")
    if np.abs(moments.bias_t_sq).max() > ROUNDING * float(np.abs(moments.var_t + moments.target_sq).max()):
        raise ValueError("g_t is biased: off the reference a flipped label is not a change of sign")
    m, q = moments, 1.0 - 2.0 * probability
    lost = 1.0 - q * q
    shared = empty_answers == "copied"
    mu_sq, mu_e, e_sq = m.target_sq, m.target_dot_e, m.mean_e_sq
    own = np.zeros_like(mu_sq) if shared else m.cov_te + mu_e  # E <g_t, g_e>, lost where the labels differ
    noisy = replace(
        m,
        bias_t_sq=(1 - q) ** 2 * mu_sq,
        bias_e_sq=q * m.bias_e_sq - q * (1 - q) * e_sq + (1 - q) * mu_sq,
        bias_inner=(1 - q) * (mu_sq - q * mu_e),
        bias_diff_sq=q * q * m.bias_diff_sq,
        bias_t_diff=q * (1 - q) * (mu_e - mu_sq),
        var_t=m.var_t + lost * mu_sq,
        var_e=m.var_e + lost * e_sq,
        cov_te=m.cov_te + lost * mu_e - lost * own,
        var_diff=m.var_diff + lost * m.bias_diff_sq + 2 * lost * own,
        cov_t_diff=m.cov_t_diff + lost * (mu_sq - mu_e) + lost * own,
        target_dot_e=q * mu_e,
        mean_e_sq=q * q * e_sq,
        bias_noise=None,
    )
    if m.trace_var is None or m.prompt_bias_e_sq is None or m.prompt_bias_diff_sq is None:
        return noisy
    # Per prompt: E |mu_x|^2, E |g_e|^2 and E <mu_x, g_e>.
    mu_sq, e_sq, mu_e = m.var_t - m.trace_var + mu_sq, m.var_e + e_sq, m.cov_te + mu_e
    agreement = mu_e if shared else q * q * mu_e  # E eps eps' <mu_x, g_e>
    prompt_bias_t = 2 * (1 - q) * mu_sq
    prompt_inner = agreement - q * mu_e + (1 - q) * mu_sq
    return replace(
        noisy,
        prompt_bias_t_sq=prompt_bias_t,
        prompt_bias_e_sq=m.prompt_bias_e_sq + 2 * (1 - q) * mu_e,
        prompt_bias_inner=prompt_inner,
        prompt_bias_diff_sq=m.prompt_bias_diff_sq + 2 * (mu_e - agreement),
        prompt_bias_t_diff=prompt_bias_t - prompt_inner,
    )
