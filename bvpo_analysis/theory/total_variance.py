"""The variance of the mix by its sources: traces given the data, and the data (the paper's Theorem 1 and its limits).

Given the data, g_e is a constant and only the traces of g_t are random, so that

    Var_r(g_c | data) = alpha^2 Var_r(g_t | data),

which is Theorem 1. Over prompts, the law of total variance adds the part that g_e does not shrink:

    Tr Var(g_c) = alpha^2 tau + alpha^2 v_t + (1 - alpha)^2 v_e + 2 alpha (1 - alpha) c,

    tau = E Tr Var_r(g_t | data),  v_t = Tr Var E[g_t | data],  v_e = Tr Var g_e,  c = Tr Cov(E[g_t | data], g_e).

The total may exceed that of g_t. Neither form says anything about signal: g_e = 0 shrinks the variance of the traces as
much as any g_e does, and is a smaller learning rate. Given the data Cov_r(g_t, g_e) = 0, so g_e is no control variate
for trace noise; the mix shrinks g_t towards g_e.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from bvpo_analysis.records import Floats
from bvpo_analysis.theory.arguments import check_cauchy_schwarz, finite, nonnegative
from bvpo_analysis.theory.mixing import error_curve


@dataclass(frozen=True)
class VarianceOfMix:
    """Tr Var(g_c) by source; every field an array over the broadcast arguments.

    Attributes:
        trace: E Tr Var_r(g_c | data), from sampling traces.
        data: Tr Var E[g_c | data], from sampling prompts and pairs.
    """

    trace: Floats
    data: Floats

    @property
    def total(self) -> Floats:
        """Tr Var(g_c), the sum of both."""
        return self.trace + self.data


def conditional_variance_of_mix(alpha: ArrayLike, trace_var: ArrayLike) -> Floats:
    """Tr Var_r(g_c | data) = alpha^2 Tr Var_r(g_t | data), g_e having no trace randomness (paper, Theorem 1).

    Proof: given the data (1 - alpha) g_e is a constant shift.

    Args:
        alpha: weight of g_t, any real number; [..].
        trace_var: Tr Var_r(g_t | data); [..].

    Raises:
        ValueError: an argument is not finite, or ``trace_var`` is negative.

    Example:
        >>> float(conditional_variance_of_mix(alpha=0.5, trace_var=4.0))
        1.0
    """
    (alpha,) = finite(alpha=alpha)
    (trace_var,) = nonnegative(trace_var=trace_var)
    return alpha**2 * trace_var


def variance_of_mix(
    alpha: ArrayLike, *, trace_var: ArrayLike, data_var_t: ArrayLike, data_var_e: ArrayLike, data_cov: ArrayLike
) -> VarianceOfMix:
    """Tr Var(g_c) = alpha^2 tau + [alpha^2 v_t + (1 - alpha)^2 v_e + 2 alpha (1 - alpha) c].

    Proof: law of total variance with E[g_c | data] = alpha E[g_t | data] + (1 - alpha) g_e.

    Args:
        alpha: weight of g_t; [..].
        trace_var: tau, averaged over the data; [..].
        data_var_t: v_t = Tr Var E[g_t | data]; [..].
        data_var_e: v_e = Tr Var g_e; [..].
        data_cov: c = Tr Cov(E[g_t | data], g_e); [..].

    Raises:
        ValueError: an argument is not finite, a variance is negative, or c^2 > v_t v_e beyond rounding.

    Example:
        >>> parts = variance_of_mix(0.5, trace_var=1.0, data_var_t=0.0, data_var_e=100.0, data_cov=0.0)
        >>> float(parts.trace), float(parts.total)
        (0.25, 25.25)
    """
    (alpha,) = finite(alpha=alpha)
    v_t, v_e = nonnegative(data_var_t=data_var_t, data_var_e=data_var_e)
    (c,) = finite(data_cov=data_cov)
    check_cauchy_schwarz(("data_var_t", v_t), ("data_var_e", v_e), ("data_cov", c))
    return VarianceOfMix(trace=conditional_variance_of_mix(alpha, trace_var), data=error_curve(alpha, v_t, v_e, c))


def mixing_raises_total_variance(alpha: ArrayLike, var_t: ArrayLike, var_e: ArrayLike, cov_te: ArrayLike) -> np.ndarray:
    """Whether Tr Var(g_c) > Tr Var(g_t): for alpha in [0, 1) iff (1 - alpha) S_e + 2 alpha S_te > (1 + alpha) S_t.

    Proof: Tr Var(g_c) - S_t = (1 - alpha) [(1 - alpha) S_e + 2 alpha S_te - (1 + alpha) S_t].

    Args:
        alpha: weight of g_t in [0, 1]; at 1 the mix is g_t, and the answer no; [..].
        var_t: S_t = Tr Var(g_t), traces and data together; [..].
        var_e: S_e; [..].
        cov_te: S_te; [..].

    Raises:
        ValueError: an argument is not finite, ``alpha`` is outside [0, 1], a variance is negative, or
            S_te^2 > S_t S_e beyond rounding.

    Example:
        >>> mixing_raises_total_variance([0.5, 0.99], var_t=1.0, var_e=100.0, cov_te=0.0).tolist()
        [True, False]
    """
    (alpha,) = nonnegative(alpha=alpha)
    if (alpha > 1).any():
        raise ValueError(f"alpha must be in [0, 1], got {alpha.max()}")
    s_t, s_e = nonnegative(var_t=var_t, var_e=var_e)
    (s_te,) = finite(cov_te=cov_te)
    check_cauchy_schwarz(("var_t", s_t), ("var_e", s_e), ("cov_te", s_te))
    return (alpha < 1) & ((1 - alpha) * s_e + 2 * alpha * s_te > (1 + alpha) * s_t)
