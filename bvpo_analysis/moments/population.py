"""Moments at the reference from sampled traces, without any estimate of the marginal gradient (target M3 and M1).

At theta_ref, with reference-posterior traces and a loss whose coefficients are constant there (DPO, IPO), E[g_t | x] is
the prompt's marginal gradient mu_x exactly. So b_t = 0, E g_t = mu, and everything is identified by g_t and g_e alone:

    |b_e|^2        = U(d, d),  d_i = g_e,i - gbar_t,i      (cross-prompt U-statistic; may be negative)
    Tr Var(g_t)    = mean_i mean_k |g_t,ik|^2 - U(gbar, gbar)
    tau            = K/(K-1) mean_i mean_k |g_t,ik - gbar_i|^2                  (needs K >= 2 traces)
    Tr Var(g_e)    = mean |g_e|^2 - U(g_e, g_e),   Tr Cov(g_t, g_e) = mean <gbar, g_e> - U(gbar, g_e)
    E|b_e(x)|^2    = mean_i |d_i|^2 - tau / K

with gbar the mean over the K traces of a prompt. All are unbiased for a superpopulation of prompts; clusters are
prompts.
"""

import numpy as np

from bvpo_analysis.estimators.base import Estimator, mean_coefficients
from bvpo_analysis.moments.intervals import SquaredBiasNoise
from bvpo_analysis.moments.law import Moments
from bvpo_analysis.moments.ustatistics import leave_one_out_mean, leave_one_out_ustatistic
from bvpo_analysis.records import Floats, ScoreSet

TRIPLES = 1024
"""Prompts whose triple products are taken for Tr S^3, a small correction that costs the cube of their number."""


def population_moments(scores: ScoreSet, trace: Estimator, empty: Estimator, *, group: str | None = None) -> Moments:
    """Estimate the moments of (g_t, g_e) at the reference.

    Args:
        scores: inner products with the totals of ``trace`` and ``empty`` (see ``estimators.totals_of``).
        trace: the trace-based estimator, unbiased at the reference.
        empty: the empty-trace estimator.
        group: restrict every inner product to this parameter group.

    Returns:
        Moments with leave-one-prompt-out replicates [n + 1].

    Raises:
        ValueError: the totals of these estimators were not accumulated, the second pass is missing, the group is
            unknown, a pair is not at its reference, or there are fewer than four prompts.
    """
    columns = [_column(scores, estimator) for estimator in (trace, empty)]
    if group is not None and group not in scores.groups:
        raise ValueError(f"unknown parameter group {group!r}; there are {', '.join(scores.groups)}")
    if len(scores) < 4:
        raise ValueError(f"at least four prompts are needed, got {len(scores)}")
    which = slice(None) if group is None else slice(g := scores.groups.index(group), g + 1)
    rows = [_products(scores, i, trace, empty, which, columns) for i in range(len(scores))]
    p = {name: np.array([row[name] for row in rows]) for name in rows[0]}

    draws = {len(pair.log_probs.draws) for pair in scores.pairs}
    k = min(draws)
    if len(draws) > 1:
        raise ValueError(f"pairs have different numbers of trace draws ({sorted(draws)}); use --traces {k}")

    mean = {
        name: leave_one_out_mean(p[name]) for name in ("tt", "ee", "te", "dd", "t_sq", "diff_sq", "t_diff", "t_var")
    }
    u_tt = leave_one_out_ustatistic(p["tt"], p["t_Vt"], p["t_Vt"])
    u_ee = leave_one_out_ustatistic(p["ee"], p["e_Ve"], p["e_Ve"])
    u_te = leave_one_out_ustatistic(p["te"], p["t_Ve"], p["e_Vt"])
    u_dd = leave_one_out_ustatistic(p["dd"], p["d_Vd"], p["d_Vd"])
    # d = g_e - g_t, so <g_t, g_t - g_e> = -<gbar, d>.
    u_t_diff = -leave_one_out_ustatistic(p["td"], p["t_Vd"], p["d_Vt"])
    zero = np.zeros_like(u_dd)
    tau = k / (k - 1) * mean["t_var"] if k > 1 else None
    prompt_bias = None if tau is None else mean["dd"] - tau / k
    prompt_zero = None if tau is None else zero
    return Moments(
        n=len(scores),
        bias_t_sq=zero,
        bias_e_sq=u_dd,
        bias_inner=zero,
        bias_diff_sq=u_dd,
        bias_t_diff=zero,
        var_t=mean["t_sq"] - u_tt,
        var_e=mean["ee"] - u_ee,
        cov_te=mean["te"] - u_te,
        var_diff=mean["diff_sq"] - u_dd,
        cov_t_diff=mean["t_diff"] - u_t_diff,
        trace_var=tau,
        prompt_bias_t_sq=prompt_zero,
        prompt_bias_e_sq=prompt_bias,
        prompt_bias_inner=prompt_zero,
        prompt_bias_diff_sq=prompt_bias,
        prompt_bias_t_diff=prompt_zero,
        target_sq=u_tt,
        target_dot_e=u_te,
        mean_e_sq=u_ee,
        bias_noise=squared_bias_noise(u_dd, p["dd"], p["d_Vd"], _difference_sketches(scores, which, columns)),
    )


def squared_bias_noise(replicates: Floats, own: Floats, with_total: Floats, sketches: Floats) -> SquaredBiasNoise:
    """Sampling noise of U(d, d), the squared norm of the mean of per-prompt vectors d_i.

    With S the covariance of the per-prompt d_i, b their mean and q = b'Sb: Var U = (4/n) q + (2/n^2) Tr S^2, where
    Tr S^2 and Tr S^3 come from products of two and three different prompts, and q and b'S^2b from the sample mean less
    what its own noise adds, Tr S^2 / n and Tr S^3 / n. See the head of ``intervals``.

    Args:
        replicates: [n + 1] U and its leave-one-out values.
        own: [n] <d_i, d_i>.
        with_total: [n] <d_i, sum_j d_j>.
        sketches: [n, k] vectors with the inner products of the d_i across prompts, to a few per cent.

    Example:
        >>> import numpy as np
        >>> from bvpo_analysis.moments.ustatistics import leave_one_out_ustatistic
        >>> d = np.random.default_rng(0).normal(size=(40, 3)) + [5.0, 0.0, 0.0]
        >>> own, with_total = (d * d).sum(1), d @ d.sum(0)
        >>> u = leave_one_out_ustatistic(own, with_total, with_total)
        >>> noise = squared_bias_noise(u, own, with_total, d)
        >>> round(float(noise.variance(u[0]) / (4 * u[0] / 40)), 2)  # close to b'Sb / |b|^2
        1.29
    """
    n = len(own)
    along_mean = with_total / n
    along_mean = along_mean - along_mean.mean()
    centred = sketches - sketches.mean(axis=0)
    products = centred @ centred.T
    np.fill_diagonal(products, 0.0)
    trace_2 = float((products**2).sum()) / (n * (n - 1))
    few = products[:TRIPLES, :TRIPLES]
    m = len(few)
    trace_3 = max(float((few @ few * few).sum()) / (m * (m - 1) * (m - 2)), 0.0)
    along = float(along_mean @ along_mean) / (n - 1) - trace_2 / n
    along_2 = float(along_mean @ products @ along_mean) / (n * (n - 1)) - trace_3 / n
    constant = 2 * trace_2 / n**2
    variance = constant + 4 * max(along, 0.0) / n
    covariance = 2 * trace_3 / n**2 + 4 * max(along_2, 0.0) / n
    return SquaredBiasNoise(
        replicates,
        constant=constant,
        linear=4 * along / n,
        slope=4 * covariance / variance / n if variance > 0 else 0.0,
        third=8 * trace_3 / n**3,
    )


_bias_noise = squared_bias_noise


def _column(scores: ScoreSet, estimator: Estimator) -> int:
    name = repr(estimator)
    if name not in scores.totals or scores.pairs[0].with_totals.shape[-1] == 0:
        declared = ", ".join(scores.totals) or "none"
        raise ValueError(f"products with the total of {name} were not accumulated (declared: {declared}); score again")
    return scores.totals.index(name)


def _difference_sketches(scores: ScoreSet, which: slice, columns: list[int]) -> Floats:
    """Sketches [n, k] of d_i = g_e,i - gbar_i."""
    t, e = columns
    return np.stack([(pair.sketches[which, e] - pair.sketches[which, t]).ravel() for pair in scores.pairs])


def _products(
    scores: ScoreSet, i: int, trace: Estimator, empty: Estimator, which: slice, columns: list[int]
) -> dict[str, float]:
    """Per-prompt inner products: t = gbar, e = g_e, d = e - t, and V. their totals over all prompts."""
    pair = scores.pairs[i]
    logs = pair.log_probs
    if not np.array_equal(logs.log_prob, logs.log_prob_ref):
        raise ValueError(
            f"prompt {logs.prompt_id!r} is not at its reference, where alone g_t is unbiased; enumerate the traces"
        )
    gram = pair.gram[which].sum(axis=0)
    (tt, te), (et, ee) = pair.with_totals[which].sum(axis=0)[np.ix_(columns, columns)]  # <t, V_t>, <t, V_e>, ...
    each = trace.coefficients(logs)
    t, e = mean_coefficients(trace, logs), mean_coefficients(empty, logs)
    d = e - t
    weights = trace.weights(logs)

    def mean_product(a: Floats, b: Floats) -> float:
        return float(weights @ np.einsum("rj,jk,rk->r", a, gram, b))

    return {
        "tt": float(t @ gram @ t),
        "ee": float(e @ gram @ e),
        "te": float(t @ gram @ e),
        "td": float(t @ gram @ d),
        "dd": float(d @ gram @ d),
        "t_sq": mean_product(each, each),
        "t_var": mean_product(each - t, each - t),
        "diff_sq": mean_product(each - e, each - e),
        "t_diff": mean_product(each, each - e),
        "t_Vt": float(tt),
        "t_Ve": float(te),
        "e_Vt": float(et),
        "e_Ve": float(ee),
        "t_Vd": float(te - tt),
        "d_Vt": float(et - tt),
        "d_Vd": float(ee - et - te + tt),
    }
