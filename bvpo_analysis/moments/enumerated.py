"""Exact moments where every trace is enumerated, at or off the reference.

The finite set of pairs is the population: plain averages, no finite-sample correction. With the weights p(r+, r- |
data) of all trace combinations,

    b_t = mean_i sum_r p g_t,i(r) - mu,    mu = mean_i mu_i,    tau = mean_i sum_r p |g_t,i(r) - sum_r p g_t,i(r)|^2.

The law of the traces is that of the data (the reference posterior); mu_i is the marginal gradient of the current
policy.

With ``as_sample`` the same prompts are a sample of a larger population: squared means become U-statistics and data
variances take n - 1. That is what sampled traces estimate, here without their trace noise. The two differ by terms of
order variance / n, which matters for the squared bias: |mean b_i|^2 of n prompts exceeds |E b|^2 by Tr Cov(b_i) / n.
"""

from dataclasses import dataclass

import numpy as np

from bvpo_analysis.estimators.base import Estimator, mean_coefficients
from bvpo_analysis.moments.intervals import SquaredBiasNoise
from bvpo_analysis.moments.law import Moments
from bvpo_analysis.moments.population import squared_bias_noise
from bvpo_analysis.moments.ustatistics import leave_one_out_mean, leave_one_out_ustatistic
from bvpo_analysis.records import Floats, PairScores, ScoreSet

FEWEST = 3
"""Prompts without which there is nothing to leave out."""


@dataclass(frozen=True)
class PromptMoments:
    """Exact moments of one prompt over its traces (x = prompt with its answers, fixed).

    Attributes:
        trace_var: Tr Var_r(g_t | x).
        bias_t_sq, bias_e_sq, bias_inner: |b_t(x)|^2, |b_e(x)|^2, <b_t(x), b_e(x)> against the prompt's own mu_x.
        bias_diff_sq, bias_t_diff: |b_t(x) - b_e(x)|^2, <b_t(x), b_t(x) - b_e(x)>.
        mean_t_sq, mean_e_sq, mean_te: |E_r g_t|^2, |g_e|^2, <E_r g_t, g_e>.
        mean_diff_sq, mean_t_diff: |E_r g_t - g_e|^2, <E_r g_t, E_r g_t - g_e>.
        target_sq, target_dot_e: |mu_x|^2, <mu_x, g_e>.
    """

    trace_var: float
    bias_t_sq: float
    bias_e_sq: float
    bias_inner: float
    bias_diff_sq: float
    bias_t_diff: float
    mean_t_sq: float
    mean_e_sq: float
    mean_te: float
    mean_diff_sq: float
    mean_t_diff: float
    target_sq: float
    target_dot_e: float


def prompt_moments(
    pair: PairScores, trace: Estimator, empty: Estimator, marginal: Estimator, *, gram: Floats | None = None
) -> PromptMoments:
    """Exact moments of one prompt.

    Args:
        pair: inner products of the enumerated sequences.
        trace, empty, marginal: g_t, g_e and mu.
        gram: [m, m] inner products to use instead of the whole vector's (one parameter group, say).
    """
    logs = pair.log_probs
    products = pair.gram.sum(axis=0) if gram is None else gram
    each = trace.coefficients(logs)
    t, e, m = (mean_coefficients(estimator, logs) for estimator in (trace, empty, marginal))
    centred = each - t
    variance = trace.weights(logs) @ np.einsum("rj,jk,rk->r", centred, products, centred)

    def dot(a: Floats, b: Floats) -> float:
        return float(a @ products @ b)

    return PromptMoments(
        trace_var=float(variance),
        bias_t_sq=dot(t - m, t - m),
        bias_e_sq=dot(e - m, e - m),
        bias_inner=dot(t - m, e - m),
        bias_diff_sq=dot(t - e, t - e),
        bias_t_diff=dot(t - m, t - e),
        mean_t_sq=dot(t, t),
        mean_e_sq=dot(e, e),
        mean_te=dot(t, e),
        mean_diff_sq=dot(t - e, t - e),
        mean_t_diff=dot(t, t - e),
        target_sq=dot(m, m),
        target_dot_e=dot(m, e),
    )


def enumerated_moments(
    scores: ScoreSet,
    trace: Estimator,
    empty: Estimator,
    marginal: Estimator,
    *,
    group: str | None = None,
    as_sample: bool = False,
) -> Moments:
    """Exact moments of the finite set of pairs.

    Args:
        scores: inner products of enumerated sequences with the totals of all three estimators.
        trace, empty, marginal: g_t, g_e and mu.
        group: restrict every inner product to this parameter group.
        as_sample: take the prompts as a sample of a larger population instead of as the population.

    Returns:
        Moments with arrays of length one; for a sample whose scores hold the products with the totals, with
        leave-one-prompt-out replicates [n + 1].

    Raises:
        ValueError: the totals of an estimator were not accumulated, the group is unknown, or one prompt as a sample.
    """
    missing = [repr(e) for e in (trace, empty, marginal) if repr(e) not in scores.totals]
    if missing:
        raise ValueError(f"the total of {missing[0]} was not accumulated; declare it when scoring")
    if group is not None and group not in scores.groups:
        raise ValueError(f"unknown parameter group {group!r}; there are {', '.join(scores.groups)}")
    which = slice(None) if group is None else slice(g := scores.groups.index(group), g + 1)
    per_prompt = [
        prompt_moments(pair, trace, empty, marginal, gram=pair.gram[which].sum(axis=0)) for pair in scores.pairs
    ]
    n = len(per_prompt)
    if as_sample and n < 2:
        raise ValueError("one prompt is no sample of a population; as_sample needs at least two")
    columns = [scores.totals.index(repr(estimator)) for estimator in (trace, empty, marginal)]
    totals = scores.totals_gram[which].sum(axis=0)[np.ix_(columns, columns)] / n**2
    resampled = as_sample and n >= FEWEST and scores.pairs[0].with_totals.shape[-1] > 0
    # <v_a(i), V_b> of every prompt, [n, 3, 3]: what leaving one out takes away.
    crossed = (
        np.array([pair.with_totals[which].sum(axis=0)[np.ix_(columns, columns)] for pair in scores.pairs])
        if resampled
        else np.empty((n, 0, 0))
    )
    t, e, m = np.eye(3)

    def own(name: str) -> Floats:
        return np.array([getattr(prompt, name) for prompt in per_prompt])

    def mean(name: str) -> Floats:
        return leave_one_out_mean(own(name)) if resampled else np.array([own(name).mean()])

    def product(a: Floats, b: Floats, name: str) -> Floats:
        """<mean a, mean b>, or its U-statistic, from products with the totals and those of each prompt, <a_i, b_i>."""
        if resampled:
            return leave_one_out_ustatistic(own(name), a @ crossed @ b, b @ crossed @ a)
        value = float(a @ totals @ b)
        return np.array([(n * value - own(name).mean()) / (n - 1) if as_sample else value])

    tau = mean("trace_var")
    mean_t_sq, mean_e_sq = product(t, t, "mean_t_sq"), product(e, e, "mean_e_sq")
    diff_sq, t_diff = product(t - e, t - e, "mean_diff_sq"), product(t, t - e, "mean_t_diff")
    return Moments(
        n=n,
        bias_t_sq=product(t - m, t - m, "bias_t_sq"),
        bias_e_sq=product(e - m, e - m, "bias_e_sq"),
        bias_inner=product(t - m, e - m, "bias_inner"),
        bias_diff_sq=product(t - e, t - e, "bias_diff_sq"),
        bias_t_diff=product(t - m, t - e, "bias_t_diff"),
        var_t=mean("mean_t_sq") - mean_t_sq + tau,
        var_e=mean("mean_e_sq") - mean_e_sq,
        cov_te=mean("mean_te") - product(t, e, "mean_te"),
        var_diff=mean("mean_diff_sq") - diff_sq + tau,
        cov_t_diff=mean("mean_t_diff") - t_diff + tau,
        trace_var=tau,
        prompt_bias_t_sq=mean("bias_t_sq"),
        prompt_bias_e_sq=mean("bias_e_sq"),
        prompt_bias_inner=mean("bias_inner"),
        prompt_bias_diff_sq=mean("bias_diff_sq"),
        prompt_bias_t_diff=mean("bias_t_diff"),
        target_sq=product(m, m, "target_sq"),
        target_dot_e=product(m, e, "target_dot_e"),
        mean_e_sq=mean_e_sq,
        bias_noise=_difference_noise(scores, which, columns, diff_sq, own("mean_diff_sq"), (t - e) @ crossed @ (t - e))
        if resampled
        else None,
    )


def _difference_noise(
    scores: ScoreSet, which: slice, columns: list[int], replicates: Floats, own: Floats, with_total: Floats
) -> SquaredBiasNoise:
    """Sampling noise of |b_t - b_e|^2."""
    at_t, at_e, _ = columns
    sketches = np.stack([(pair.sketches[which, at_e] - pair.sketches[which, at_t]).ravel() for pair in scores.pairs])
    return squared_bias_noise(replicates, own, with_total, sketches)
