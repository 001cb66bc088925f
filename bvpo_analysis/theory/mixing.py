"""The MSE of the convex mix and its minimiser (paper, Theorem 2 and Corollary 1).

For g_c = alpha g_t + (1 - alpha) g_e and any target mu,

    q(alpha) = E|g_c - mu|^2 = alpha^2 A + (1 - alpha)^2 C + 2 alpha (1 - alpha) B = q* + D (alpha - alpha*)^2,
    alpha* = (C - B) / D,        D = E|g_t - g_e|^2.

Proof: expand the square; q'' = 2 D. In measurements use the dual form 1 - alpha* = E<g_t - mu, g_t - g_e> / D with
D from the differences g_t - g_e: A + C - 2B cancels catastrophically when g_t and g_e are close. D never involves mu,
and mu enters alpha* through the single scalar <mu, E[g_e - g_t]>.
"""

import numpy as np
from numpy.typing import ArrayLike

from bvpo_analysis.records import Floats
from bvpo_analysis.theory.arguments import check_cauchy_schwarz, finite, nonnegative

DEGENERATE_TOLERANCE = 1e-28
"""D <= tolerance (A + C) counts as g_t = g_e almost surely: the square of float64 rounding in a gradient."""


def is_degenerate(distance: ArrayLike, scale: ArrayLike) -> np.ndarray:
    """Whether g_t and g_e coincide: |D| <= 1e-28 (A + C). Then every alpha is optimal.

    The absolute value, because an unbiased estimate of D may be negative without being zero.

    Args:
        distance: D = E|g_t - g_e|^2, from differences.
        scale: A + C, or any number of the size of the squared gradients.

    Example:
        >>> bool(is_degenerate(0.0, 1.0)), bool(is_degenerate(1e-20, 1.0))
        (True, False)
    """
    distance, scale = finite(distance=distance, scale=scale)
    return np.abs(distance) <= DEGENERATE_TOLERANCE * np.abs(scale)


def optimal_weight_from_distance(numerator: ArrayLike, distance: ArrayLike, scale: ArrayLike) -> Floats:
    """alpha* = 1 - N / D with N = E<g_t - mu, g_t - g_e>, the dual form to use on measurements.

    Args:
        numerator: N; [..].
        distance: D; [..].
        scale: A + C, against which degeneracy is judged; [..].

    Returns:
        The unclipped minimiser; 0.5 where g_t and g_e coincide (see :func:`is_degenerate`).

    Raises:
        ValueError: an argument is not finite.

    Example:
        >>> float(optimal_weight_from_distance(numerator=1.0, distance=4.0, scale=4.0))
        0.75
    """
    numerator, distance, scale = finite(numerator=numerator, distance=distance, scale=scale)
    degenerate = is_degenerate(distance, scale)
    safe = np.where(degenerate, 1.0, distance)
    return np.where(degenerate, 0.5, 1.0 - numerator / safe)


def optimal_weight(error_t: ArrayLike, error_e: ArrayLike, cross: ArrayLike) -> Floats:
    """alpha* = (C - B) / (A + C - 2B), unclipped; 0.5 where the estimators coincide (paper, Theorem 2).

    For closed-form inputs only; on measurements use :func:`optimal_weight_from_distance`.

    Raises:
        ValueError: an argument is not finite, a squared error is negative, or B^2 > A C beyond rounding.

    Example:
        >>> float(optimal_weight(error_t=1.0, error_e=3.0, cross=0.0))
        0.75
    """
    a, c = nonnegative(error_t=error_t, error_e=error_e)
    (b,) = finite(cross=cross)
    check_cauchy_schwarz(("error_t", a), ("error_e", c), ("cross", b))
    distance = np.maximum((a - b) + (c - b), 0.0)
    return optimal_weight_from_distance(a - b, distance, a + c)


def error_curve(alpha: ArrayLike, error_t: ArrayLike, error_e: ArrayLike, cross: ArrayLike) -> Floats:
    """q(alpha) = alpha^2 A + (1 - alpha)^2 C + 2 alpha (1 - alpha) B.

    Example:
        >>> float(error_curve(0.5, error_t=1.0, error_e=3.0, cross=0.0))
        1.0
    """
    alpha, a, c, b = finite(alpha=alpha, error_t=error_t, error_e=error_e, cross=cross)
    return alpha**2 * a + (1 - alpha) ** 2 * c + 2 * alpha * (1 - alpha) * b


def regret(alpha: ArrayLike, best: ArrayLike, distance: ArrayLike) -> Floats:
    """q(alpha) - q(alpha*) = D (alpha - alpha*)^2: what a wrong weight costs in MSE.

    Example:
        >>> float(regret(0.5, best=0.75, distance=4.0))
        0.25
    """
    alpha, best, distance = finite(alpha=alpha, best=best, distance=distance)
    return distance * (alpha - best) ** 2
