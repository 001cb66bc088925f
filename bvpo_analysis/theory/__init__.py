"""Closed forms on plain numbers: the optimal mixing weight and its relatives. NumPy only; torch is never imported.

Symbols of the paper (BVPO, arXiv 2510.05095) and the words used for them here. The target is mu = grad L_m.

    =========  ======================================  ======================
    symbol     meaning                                 argument
    =========  ======================================  ======================
    alpha      weight of g_t in g_c                    ``alpha``
    A          E|g_t - mu|^2                           ``error_t``
    C          E|g_e - mu|^2                           ``error_e``
    B          E<g_t - mu, g_e - mu>                   ``cross``
    D          E|g_t - g_e|^2 = A + C - 2B             ``distance``
    |b_t|^2    squared bias of g_t                     ``bias_t_sq``
    |b_e|^2    squared bias of g_e                     ``bias_e_sq``
    <b_t,b_e>  inner product of the biases             ``bias_inner``
    S_t        Tr Cov(g_t)                             ``var_t``
    S_e        Tr Cov(g_e)                             ``var_e``
    S_te       Tr Cov(g_t, g_e)                        ``cov_te``
    kappa      step size times smoothness, eta L       ``kappa``
    =========  ======================================  ======================

Every function broadcasts over arrays and returns float64.
"""

from bvpo_analysis.theory.mixing import (
    error_curve,
    is_degenerate,
    optimal_weight,
    optimal_weight_from_distance,
    regret,
)
from bvpo_analysis.theory.step_size import weighted_error_curve, weighted_optimal_weight

__all__ = [
    "error_curve",
    "is_degenerate",
    "optimal_weight",
    "optimal_weight_from_distance",
    "regret",
    "weighted_error_curve",
    "weighted_optimal_weight",
]
