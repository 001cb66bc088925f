"""Weights when the variance counts kappa times: steps of size eta on an L-smooth loss, kappa = eta L.

The descent lemma with Young's inequality bounds the progress of one step by the bias squared plus kappa times the
variance (paper, Theorem 3), so the weight that matters minimises F_kappa(alpha) = |b_c|^2 + kappa Tr Cov(g_c):

    alpha_kappa = (p0 + kappa p1) / (d0 + kappa d1),
    p0 = <b_e, b_e - b_t>,  d0 = |b_e - b_t|^2,  p1 = S_e - S_te,  d1 = S_t + S_e - 2 S_te,

the mean of alpha_bias = p0/d0 and alpha_var = p1/d1 with weights d0 and kappa d1.
"""

from numpy.typing import ArrayLike

from bvpo_analysis.records import Floats
from bvpo_analysis.theory.arguments import finite
from bvpo_analysis.theory.mixing import error_curve, optimal_weight_from_distance


def weighted_error_curve(
    alpha: ArrayLike,
    *,
    bias_t_sq: ArrayLike,
    bias_e_sq: ArrayLike,
    bias_inner: ArrayLike,
    var_t: ArrayLike,
    var_e: ArrayLike,
    cov_te: ArrayLike,
    kappa: ArrayLike = 1.0,
) -> Floats:
    """F_kappa(alpha) = |alpha b_t + (1 - alpha) b_e|^2 + kappa Tr Cov(g_c); at kappa = 1 the MSE.

    Example:
        >>> law = dict(bias_t_sq=0.0, bias_e_sq=1.0, bias_inner=0.0, var_t=4.0, var_e=0.0, cov_te=0.0)
        >>> float(weighted_error_curve(0.5, **law, kappa=1.0))
        1.25
    """
    alpha, kappa, bt, be, bi, st, se, ste = finite(
        alpha=alpha,
        kappa=kappa,
        bias_t_sq=bias_t_sq,
        bias_e_sq=bias_e_sq,
        bias_inner=bias_inner,
        var_t=var_t,
        var_e=var_e,
        cov_te=cov_te,
    )
    return error_curve(alpha, bt, be, bi) + kappa * error_curve(alpha, st, se, ste)


def weighted_optimal_weight(
    *,
    bias_t_sq: ArrayLike,
    bias_e_sq: ArrayLike,
    bias_inner: ArrayLike,
    var_t: ArrayLike,
    var_e: ArrayLike,
    cov_te: ArrayLike,
    kappa: ArrayLike = 1.0,
) -> Floats:
    """alpha_kappa = (p0 + kappa p1) / (d0 + kappa d1), unclipped; at kappa = 1 it is alpha*.

    Example:
        >>> law = dict(bias_t_sq=0.0, bias_e_sq=1.0, bias_inner=0.0, var_t=4.0, var_e=0.0, cov_te=0.0)
        >>> [round(float(weighted_optimal_weight(**law, kappa=k)), 12) for k in (1.0, 0.25)]
        [0.2, 0.5]
    """
    (kappa,) = finite(kappa=kappa)
    bt, be, bi, st, se, ste = finite(
        bias_t_sq=bias_t_sq,
        bias_e_sq=bias_e_sq,
        bias_inner=bias_inner,
        var_t=var_t,
        var_e=var_e,
        cov_te=cov_te,
    )
    distance = (bt - bi) + (be - bi) + kappa * ((st - ste) + (se - ste))
    numerator = (bt - bi) + kappa * (st - ste)
    return optimal_weight_from_distance(numerator, distance, bt + be + kappa * (st + se))
