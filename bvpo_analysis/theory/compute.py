"""What an empty-trace gradient is worth in compute: against more traces per prompt, and against more prompts.

Given the data, with g_t unbiased (b_t = 0), K traces of variance V = Tr Var_r(g_t) each, and g_e fixed with bias b_e,
mixing with the oracle weight adds precisions:

    1 / MSE_mix = K / V + 1 / |b_e|^2,        alpha* = |b_e|^2 / (|b_e|^2 + V / K).

Proof: A = V/K, C = |b_e|^2 and B = 0, because g_e has no trace randomness and b_t = 0; q* = AC / (A + C). So one
empty trace is worth V / |b_e|^2 further traces. All of it is conditional on the data: against the population gradient
g_e has variance over prompts of its own and shares the prompts with g_t, and precisions no longer add
(:func:`population_mix`).

    ============  ===========================================================  ====================
    symbol        meaning                                                      argument
    ============  ===========================================================  ====================
    V             Tr Var_r(g_t) of one trace pair, given the data              ``trace_var``
    tau           its mean over prompts, E_x Tr Var_r(g_t | x)                 ``trace_var``
    v_t           Tr Var_x E[g_t | x]                                          ``data_var_t``
    v_e           Tr Var_x g_e                                                 ``var_e``
    c             Tr Cov_x(E[g_t | x], g_e)                                    ``data_cov``
    K, B          traces per prompt, prompts per batch                         ``traces``, ``batch_size``
    c_t, c_e      cost of one trace pair, of one empty pair                    ``cost_trace``, ``cost_empty``
    c_x           cost of one prompt besides its traces                        ``cost_prompt``
    ============  ===========================================================  ====================

K and B may be real numbers where a formula is; costs are in any one unit.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from bvpo_analysis.records import Floats
from bvpo_analysis.theory.arguments import check_cauchy_schwarz, counts, finite, nonnegative, positive
from bvpo_analysis.theory.mixing import optimal_error, optimal_weight


def mixed_error(trace_var: ArrayLike, bias_e_sq: ArrayLike, traces: ArrayLike = 1.0) -> Floats:
    """MSE of the mix at its oracle weight: 1 / (K/V + 1/|b_e|^2), and 0 where either estimator is exact.

    Args:
        trace_var: V; [..].
        bias_e_sq: |b_e|^2; [..].
        traces: K; [..].

    Raises:
        ValueError: an argument is not finite, V or |b_e|^2 is negative, or K < 1.

    Example:
        >>> float(mixed_error(trace_var=3.0, bias_e_sq=1.0, traces=3.0))
        0.5
    """
    v, b = nonnegative(trace_var=trace_var, bias_e_sq=bias_e_sq)
    (k,) = counts(traces=traces)
    low, high = np.minimum(v / k, b), np.maximum(v / k, b)
    ratio = low / np.where(high > 0, high, 1.0)  # not low * high: the product may overflow where the mean does not
    return low / (1.0 + ratio)


def mixed_weight(trace_var: ArrayLike, bias_e_sq: ArrayLike, traces: ArrayLike = 1.0) -> Floats:
    """alpha* = |b_e|^2 / (|b_e|^2 + V/K), the oracle weight of the K-trace average given the data.

    Where both errors are 0 the estimators coincide and the weight is 0.5.

    Raises:
        ValueError: as for :func:`mixed_error`.

    Example:
        >>> float(mixed_weight(trace_var=3.0, bias_e_sq=1.0))
        0.25
    """
    v, b = nonnegative(trace_var=trace_var, bias_e_sq=bias_e_sq)
    (k,) = counts(traces=traces)
    return optimal_weight(v / k, b, 0.0)


def fixed_weight_error(alpha: ArrayLike, trace_var: ArrayLike, bias_e_sq: ArrayLike, traces: ArrayLike = 1.0) -> Floats:
    """alpha^2 V/K + (1 - alpha)^2 |b_e|^2: the MSE at a weight that is not tuned.

    For alpha in (0, 1) it is below that of the K traces alone iff |b_e|^2 < (1 + alpha)/(1 - alpha) V/K, at
    alpha = 1/2 iff |b_e|^2 < 3 V/K (divide V/K - alpha^2 V/K by (1 - alpha)^2). However many traces, it stays above
    the floor (1 - alpha)^2 |b_e|^2.

    Raises:
        ValueError: as for :func:`mixed_error`, or alpha is not finite.

    Example:
        >>> float(fixed_weight_error(0.5, trace_var=1.0, bias_e_sq=3.0))
        1.0
    """
    (alpha,) = finite(alpha=alpha)
    v, b = nonnegative(trace_var=trace_var, bias_e_sq=bias_e_sq)
    (k,) = counts(traces=traces)
    return alpha**2 * (v / k) + (1 - alpha) ** 2 * b


def traces_an_empty_is_worth(trace_var: ArrayLike, bias_e_sq: ArrayLike) -> Floats:
    """V / |b_e|^2: the number of further traces that lower the MSE as much as mixing in g_e at its oracle weight.

    From K/V + 1/|b_e|^2 = (K + V/|b_e|^2)/V; it does not depend on K. It is also the break-even cost: at equal budget
    mixing beats c_e/c_t further traces iff V/|b_e|^2 > c_e/c_t.

    Raises:
        ValueError: an argument is not finite, V is negative, or |b_e|^2 is not positive (an exact g_e is worth more
            than any number of traces).

    Example:
        >>> float(traces_an_empty_is_worth(trace_var=4.0, bias_e_sq=0.5))
        8.0
    """
    (v,) = nonnegative(trace_var=trace_var)
    (b,) = positive(bias_e_sq=bias_e_sq)
    return v / b


def equal_budget_traces(traces: ArrayLike, cost_trace: ArrayLike, cost_empty: ArrayLike) -> Floats:
    """K + c_e/c_t: the traces that K traces and one empty pair would have paid for, given the data.

    Raises:
        ValueError: an argument is not finite, K < 1, c_t is not positive, or c_e is negative.

    Example:
        >>> float(equal_budget_traces(traces=4.0, cost_trace=10.0, cost_empty=5.0))
        4.5
    """
    (k,) = counts(traces=traces)
    (cost_t,) = positive(cost_trace=cost_trace)
    (cost_e,) = nonnegative(cost_empty=cost_empty)
    return k + cost_e / cost_t


def equal_budget_batch(
    batch_size: ArrayLike,
    traces: ArrayLike,
    cost_trace: ArrayLike,
    cost_empty: ArrayLike,
    cost_prompt: ArrayLike = 0.0,
) -> Floats:
    """B (1 + c_e / (c_x + K c_t)): the prompts that the empty pairs of B prompts would have paid for.

    Without a cost per prompt it is B (1 + c_e / (K c_t)).

    Raises:
        ValueError: an argument is not finite, B or K < 1, c_t is not positive, c_e or c_x is negative.

    Example:
        >>> float(equal_budget_batch(batch_size=32, traces=2, cost_trace=10.0, cost_empty=5.0))
        40.0
    """
    b, k = counts(batch_size=batch_size, traces=traces)
    (cost_t,) = positive(cost_trace=cost_trace)
    cost_e, cost_x = nonnegative(cost_empty=cost_empty, cost_prompt=cost_prompt)
    return b * (1.0 + cost_e / (cost_x + k * cost_t))


@dataclass(frozen=True)
class PopulationMix:
    """A batch of mixed gradients against the population gradient grad L_m; every field broadcasts.

    Attributes:
        error_t: A = (v_t + tau/K) / B.
        error_e: C = |b_e|^2 + v_e / B.
        cross: c / B, the second moment between the errors.
        weight: alpha* = (C - c/B) / D, unclipped; 0.5 where g_t = g_e.
        error: q* = (A C - c^2/B^2) / D at that weight.
    """

    error_t: Floats
    error_e: Floats
    cross: Floats
    weight: Floats
    error: Floats


def population_mix(
    *,
    data_var_t: ArrayLike,
    trace_var: ArrayLike,
    bias_e_sq: ArrayLike,
    var_e: ArrayLike,
    data_cov: ArrayLike,
    batch_size: ArrayLike,
    traces: ArrayLike = 1.0,
) -> PopulationMix:
    """Errors, weight and value of the mix on B i.i.d. prompts of K traces, g_e on the same prompts, b_t = 0.

    By total variance Tr Var(g_t) = (v_t + tau/K)/B and Tr Cov(g_t, g_e) = c/B, since g_e has no trace randomness.
    Precisions add only if c = 0 (then q* = AC/(A + C), with C, not |b_e|^2).

    Raises:
        ValueError: an argument is not finite, a variance or |b_e|^2 is negative, c^2 > v_t v_e beyond rounding, or
            B or K < 1.

    Example:
        >>> mix = population_mix(data_var_t=1.0, trace_var=3.0, bias_e_sq=0.0, var_e=1.0, data_cov=1.0,
        ...                      batch_size=1)
        >>> float(mix.weight), float(mix.error)
        (0.0, 1.0)
    """
    v_t, tau, b, v_e = nonnegative(data_var_t=data_var_t, trace_var=trace_var, bias_e_sq=bias_e_sq, var_e=var_e)
    (c,) = finite(data_cov=data_cov)
    size, k = counts(batch_size=batch_size, traces=traces)
    check_cauchy_schwarz(("data_var_t", v_t), ("var_e", v_e), ("data_cov", c))
    error_t, error_e, cross = np.broadcast_arrays((v_t + tau / k) / size, b + v_e / size, c / size)
    weight, error = optimal_weight(error_t, error_e, cross), optimal_error(error_t, error_e, cross)
    return PopulationMix(error_t, error_e, cross, weight, error)


def optimal_traces(
    *, data_var_t: ArrayLike, trace_var: ArrayLike, cost_prompt: ArrayLike, cost_trace: ArrayLike
) -> Floats:
    """K = sqrt(tau c_x / (v_t c_t)), the traces per prompt that minimise the variance of g_t at a fixed budget.

    With a budget C, B = C / (c_x + K c_t) and B-prompt variance (v_t + tau/K)(c_x + K c_t)/C; the K-dependent part
    v_t c_t K + tau c_x / K is least where its two terms are equal, and convex, so the best K >= 1 is max(1, K) and
    the best integer is one of its two neighbours. The number is returned as it is: below 1 it says that one trace per
    prompt is already too many, and prompts are the better buy.

    Raises:
        ValueError: an argument is not finite, tau or c_x is negative, v_t or c_t is not positive (without variance
            over prompts one prompt with ever more traces is best).

    Example:
        >>> float(optimal_traces(data_var_t=1.0, trace_var=9.0, cost_prompt=4.0, cost_trace=1.0))
        6.0
    """
    v_t, cost_t = positive(data_var_t=data_var_t, cost_trace=cost_trace)
    tau, cost_x = nonnegative(trace_var=trace_var, cost_prompt=cost_prompt)
    return np.sqrt(tau) * np.sqrt(cost_x) / (np.sqrt(v_t) * np.sqrt(cost_t))


def variance_at_budget(
    *,
    budget: ArrayLike,
    data_var_t: ArrayLike,
    trace_var: ArrayLike,
    cost_prompt: ArrayLike,
    cost_trace: ArrayLike,
    traces: ArrayLike = 1.0,
) -> Floats:
    """(v_t + tau/K) / B with B = budget / (c_x + K c_t): the variance of g_t that a budget buys, B taken as real.

    Raises:
        ValueError: an argument is not finite, a variance or c_x is negative, c_t or the budget is not positive, K < 1.

    Example:
        >>> costs = dict(data_var_t=1.0, trace_var=9.0, cost_prompt=4.0, cost_trace=1.0)
        >>> [float(variance_at_budget(budget=100.0, **costs, traces=k)) for k in (1, 6)]
        [0.5, 0.25]
    """
    v_t, tau, cost_x = nonnegative(data_var_t=data_var_t, trace_var=trace_var, cost_prompt=cost_prompt)
    cost_t, money = positive(cost_trace=cost_trace, budget=budget)
    (k,) = counts(traces=traces)
    return (v_t + tau / k) * ((cost_x + k * cost_t) / money)


def consistent_error(trace_var: ArrayLike, bias_coefficient_sq: ArrayLike, traces: ArrayLike) -> Floats:
    """V/K + c^2/K^2: the MSE of a K-trace estimator whose bias is c/K, to leading order; it vanishes as K grows.

    Raises:
        ValueError: an argument is not finite, V or c^2 is negative, or K < 1.

    Example:
        >>> float(consistent_error(trace_var=2.0, bias_coefficient_sq=8.0, traces=4.0))
        1.0
    """
    v, c_sq = nonnegative(trace_var=trace_var, bias_coefficient_sq=bias_coefficient_sq)
    (k,) = counts(traces=traces)
    return v / k + c_sq / k / k


def traces_to_reach(error: ArrayLike, trace_var: ArrayLike, bias_coefficient_sq: ArrayLike) -> Floats:
    """The K at which V/K + c^2/K^2 falls to ``error``: (V + sqrt(V^2 + 4 c^2 error)) / (2 error).

    With ``error`` = (1 - alpha)^2 |b_e|^2 it is where the consistent family passes below everything that a mix of
    fixed weight alpha can reach. The positive root of error K^2 - V K - c^2; below 1 means that one trace is enough.

    Raises:
        ValueError: an argument is not finite, the error is not positive, V or c^2 is negative.

    Example:
        >>> float(traces_to_reach(error=1.0, trace_var=2.0, bias_coefficient_sq=8.0))
        4.0
    """
    (goal,) = positive(error=error)
    v, c_sq = nonnegative(trace_var=trace_var, bias_coefficient_sq=bias_coefficient_sq)
    half = v / goal / 2
    return half + np.hypot(half, np.sqrt(c_sq / goal))
