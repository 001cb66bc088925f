"""The optimal weight at batch size B, K traces per prompt and kappa = eta L, against the population gradient.

One unit is a prompt with its pair; B units are drawn i.i.d., K conditionally i.i.d. traces are averaged on each, and
g_e is taken on the same units. With tau = E Tr Var_r(g_t | x), v_t = Tr Var E[g_t | x], v_e = Tr Var g_e and
c = Tr Cov(E[g_t | x], g_e),

    alpha*(B, K, kappa) = [p0 + (kappa/B)(v_e - c)] / [d0 + (kappa/B)(v_t + tau/K + v_e - 2c)],
    p0 = <b_e, b_e - b_t>,        d0 = |b_e - b_t|^2.

Only kappa/B matters for the data and kappa/(B K) for the traces. More traces reduce tau and nothing else: neither the
bias of g_t nor the noise of the data. If g_t and g_e take independent batches of the same size, c = 0.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from bvpo_analysis.records import Floats
from bvpo_analysis.theory.arguments import check_cauchy_schwarz, counts, finite, nonnegative, positive
from bvpo_analysis.theory.mixing import is_degenerate, optimal_weight_dual


@dataclass(frozen=True)
class BatchWeightLimits:
    """Limits of alpha*(B, K, kappa); arrays over the broadcast arguments, 0.5 where any weight is optimal.

    Attributes:
        bias_only: kappa/B -> 0, p0/d0: 1 for an unbiased g_t, and then large batches leave nothing to gain from g_e.
            Equal to ``variance_only`` where b_t = b_e.
        no_trace_noise: K -> inf at this B and kappa.
        variance_only: kappa/B -> inf, (v_e - c)/(v_t + tau/K + v_e - 2c). Equal to ``bias_only`` where g_t - g_e does
            not vary.
    """

    bias_only: Floats
    no_trace_noise: Floats
    variance_only: Floats


def batch_optimal_weight(
    *,
    bias_t_sq: ArrayLike,
    bias_e_sq: ArrayLike,
    bias_inner: ArrayLike,
    data_var_t: ArrayLike,
    trace_var: ArrayLike,
    var_e: ArrayLike,
    data_cov: ArrayLike,
    batch_size: ArrayLike,
    traces: ArrayLike = 1,
    kappa: ArrayLike = 1.0,
) -> Floats:
    """alpha*(B, K, kappa), unclipped: the minimiser of |b_c|^2 + kappa Tr Var(g_c) of the batch gradient.

    Proof: means over B i.i.d. units keep the bias and divide every (co)variance by B. By the law of total variance
    Tr Var of the K-average on one unit is v_t + tau/K, and Tr Cov with g_e is c. Insert into the minimiser of the
    kappa-weighted error.

    Args:
        bias_t_sq, bias_e_sq, bias_inner: |b_t|^2, |b_e|^2, <b_t, b_e> against the population gradient; [..].
        data_var_t: v_t, of the mean over traces; [..].
        trace_var: tau, of one trace; [..].
        var_e: S_e of one unit: v_e and the noise of its own that g_e may have; [..].
        data_cov: c; 0 for independent batches; [..].
        batch_size: B >= 1; [..].
        traces: K >= 1; [..].
        kappa: eta L > 0; 1 is the MSE; [..].

    Returns:
        The weight; 0.5 where g_t and g_e coincide.

    Raises:
        ValueError: an argument is not finite, a variance or squared bias is negative, B or K is below 1, kappa is not
            positive, or an inner product or covariance breaks Cauchy-Schwarz.

    Example:
        >>> unit = dict(bias_t_sq=0.0, bias_e_sq=1.0, bias_inner=0.0, data_var_t=2.0, trace_var=4.0, var_e=3.0)
        >>> batch_optimal_weight(**unit, data_cov=1.0, batch_size=[1, 7, 700], traces=1).round(3).tolist()
        [0.375, 0.643, 0.993]
    """
    d0, p0, scale = _bias_parts(bias_t_sq, bias_e_sq, bias_inner)
    d1, p1, spread = _variance_parts(data_var_t, trace_var, var_e, data_cov, traces)
    (size,) = counts(batch_size=batch_size)
    (kappa,) = positive(kappa=kappa)
    return optimal_weight_dual(p0 + kappa / size * p1, d0 + kappa / size * d1, scale + kappa / size * spread)


def batch_weight_limits(
    *,
    bias_t_sq: ArrayLike,
    bias_e_sq: ArrayLike,
    bias_inner: ArrayLike,
    data_var_t: ArrayLike,
    trace_var: ArrayLike,
    var_e: ArrayLike,
    data_cov: ArrayLike,
    batch_size: ArrayLike,
    traces: ArrayLike = 1,
    kappa: ArrayLike = 1.0,
) -> BatchWeightLimits:
    """Where :func:`batch_optimal_weight` goes as the batch, the trace count or the step size goes to its end.

    Proof: alpha* is the mean of p0/d0 and p1/d1 with weights d0 and (kappa/B) d1. By Cauchy-Schwarz d0 = 0 forces
    p0 = 0 and d1 = 0 forces p1 = 0, and then the other ratio is the optimum at every B.

    Args and errors as for :func:`batch_optimal_weight`.

    Example:
        >>> unit = dict(bias_t_sq=0.0, bias_e_sq=1.0, bias_inner=0.0, data_var_t=2.0, trace_var=4.0, var_e=3.0)
        >>> ends = batch_weight_limits(**unit, data_cov=1.0, batch_size=1)
        >>> float(ends.bias_only), float(ends.no_trace_noise), round(float(ends.variance_only), 3)
        (1.0, 0.75, 0.286)
    """
    d0, p0, scale = _bias_parts(bias_t_sq, bias_e_sq, bias_inner)
    d1, p1, spread = _variance_parts(data_var_t, trace_var, var_e, data_cov, traces)
    bias_only, variance_only = optimal_weight_dual(p0, d0, scale), optimal_weight_dual(p1, d1, spread)
    no_bias, no_variance = is_degenerate(d0, scale), is_degenerate(d1, spread)
    no_trace_noise = batch_optimal_weight(
        bias_t_sq=bias_t_sq,
        bias_e_sq=bias_e_sq,
        bias_inner=bias_inner,
        data_var_t=data_var_t,
        trace_var=0.0,
        var_e=var_e,
        data_cov=data_cov,
        batch_size=batch_size,
        traces=traces,
        kappa=kappa,
    )
    at_bias, at_variance = np.where(no_bias, variance_only, bias_only), np.where(no_variance, bias_only, variance_only)
    return BatchWeightLimits(*np.broadcast_arrays(at_bias, no_trace_noise, at_variance))


def _bias_parts(bias_t_sq: ArrayLike, bias_e_sq: ArrayLike, bias_inner: ArrayLike) -> tuple[Floats, Floats, Floats]:
    """d0, p0 and the scale |b_t|^2 + |b_e|^2."""
    b_t, b_e = nonnegative(bias_t_sq=bias_t_sq, bias_e_sq=bias_e_sq)
    (inner,) = finite(bias_inner=bias_inner)
    check_cauchy_schwarz(("bias_t_sq", b_t), ("bias_e_sq", b_e), ("bias_inner", inner))
    return np.maximum((b_t - inner) + (b_e - inner), 0.0), b_e - inner, b_t + b_e


def _variance_parts(
    data_var_t: ArrayLike, trace_var: ArrayLike, var_e: ArrayLike, data_cov: ArrayLike, traces: ArrayLike
) -> tuple[Floats, Floats, Floats]:
    """d1, p1 and the scale S_t + S_e of one unit with K traces."""
    v_t, tau, v_e = nonnegative(data_var_t=data_var_t, trace_var=trace_var, var_e=var_e)
    (c,) = finite(data_cov=data_cov)
    (k,) = counts(traces=traces)
    check_cauchy_schwarz(("data_var_t", v_t), ("var_e", v_e), ("data_cov", c))
    return np.maximum((v_t - c) + (v_e - c), 0.0) + tau / k, v_e - c, v_t + tau / k + v_e
