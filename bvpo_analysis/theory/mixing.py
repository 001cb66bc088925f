"""The MSE of the convex mix, its minimiser, and what clipping it to [0, 1] gains (paper, Theorem 2 and Corollary 1).

For g_c = alpha g_t + (1 - alpha) g_e and any target mu,

    q(alpha) = E|g_c - mu|^2 = alpha^2 A + (1 - alpha)^2 C + 2 alpha (1 - alpha) B = q* + D (alpha - alpha*)^2,
    alpha* = (C - B) / D,        q* = (A C - B^2) / D,        D = E|g_t - g_e|^2 = A + C - 2B.

Proof: expand the square; q'' = 2 D. On measurements use the dual forms

    1 - alpha* = E<g_t - mu, g_t - g_e> / D,        alpha* = E<g_e - mu, g_e - g_t> / D

with D from the differences g_t - g_e: A + C - 2B cancels catastrophically when g_t and g_e are close. D never involves
mu, and mu enters alpha* through the single scalar <mu, E[g_e - g_t]>.

The map (g_t, g_e, mu) -> (c Q g_t + v, c Q g_e + v, c Q mu + v), with c != 0 and Q orthogonal, multiplies A, B, C, D by
c^2, hence leaves alpha* alone and scales q by c^2. Swapping g_t and g_e turns alpha* into 1 - alpha*.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from bvpo_analysis.records import Floats
from bvpo_analysis.theory.arguments import check_cauchy_schwarz, finite, nonnegative, positive

DEGENERATE_TOLERANCE = 1e-28
"""D <= tolerance (A + C) counts as g_t = g_e almost surely: the square of float64 rounding in a gradient."""

DEGENERATE_TOLERANCE_FLOAT32 = 4e-11
"""The same for moments of gradients that were computed in float32."""

DEGENERATE_WEIGHT = 0.5
"""The weight returned where g_t = g_e almost surely and every weight is optimal."""


@dataclass(frozen=True)
class ClippedOptimum:
    """The best weight of [0, 1]; every field an array over the broadcast arguments.

    Attributes:
        weight: the minimiser of q on [0, 1].
        unclipped: the minimiser alpha* on the whole line.
        error: q(weight).
        gain: min(A, C) - q(weight), what the mix saves over the better of its two ends.
        strict: whether the mix is strictly better than both ends: B < min(A, C).
        degenerate: whether g_t and g_e coincide; then ``weight`` is 0.5 by convention and nothing is gained.
    """

    weight: Floats
    unclipped: Floats
    error: Floats
    gain: Floats
    strict: np.ndarray
    degenerate: np.ndarray


@dataclass(frozen=True)
class OptimumRange:
    """Where alpha* lies; at most one of the first three is true, none where alpha* is exactly 0 or 1 or undefined.

    Attributes:
        below_zero: alpha* < 0, that is B > C: subtract g_t from an enlarged g_e.
        interior: 0 < alpha* < 1, that is B < min(A, C).
        above_one: alpha* > 1, that is B > A: subtract g_e from an enlarged g_t.
        gain_of_leaving: q(clipped alpha*) - q(alpha*), what a weight outside [0, 1] would save.
    """

    below_zero: np.ndarray
    interior: np.ndarray
    above_one: np.ndarray
    gain_of_leaving: Floats


def is_degenerate(distance: ArrayLike, scale: ArrayLike, *, tolerance: float = DEGENERATE_TOLERANCE) -> np.ndarray:
    """Whether g_t and g_e coincide: |D| <= tolerance (A + C). Then A = B = C and every alpha is optimal.

    The absolute value, because an unbiased estimate of D may be negative without being zero.

    Args:
        distance: D = E|g_t - g_e|^2, from differences.
        scale: A + C, or any number of the size of the squared gradients.
        tolerance: for gradients in float64; ``DEGENERATE_TOLERANCE_FLOAT32`` for gradients in float32.

    Raises:
        ValueError: an argument is not finite.

    Example:
        >>> bool(is_degenerate(0.0, 1.0)), bool(is_degenerate(1e-20, 1.0))
        (True, False)
    """
    distance, scale = finite(distance=distance, scale=scale)
    return np.abs(distance) <= tolerance * np.abs(scale)


def optimal_weight_from_distance(numerator: ArrayLike, distance: ArrayLike, scale: ArrayLike) -> Floats:
    """alpha* = 1 - N / D with N = E<g_t - mu, g_t - g_e>, the dual form to use on measurements.

    Proof: N = A - B, so 1 - N/D = (C - B)/D.

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
    return np.where(degenerate, DEGENERATE_WEIGHT, 1.0 - numerator / np.where(degenerate, 1.0, distance))


def optimal_weight_dual(numerator_e: ArrayLike, distance: ArrayLike, scale: ArrayLike) -> Floats:
    """alpha* = N_e / D with N_e = E<g_e - mu, g_e - g_t> = D - N: the other dual form, exact for alpha* near 0.

    Proof: N_e = C - B. It keeps relative precision where 1 - N/D would cancel, that is for a g_e close to mu.

    Args:
        numerator_e: N_e; [..].
        distance: D; [..].
        scale: A + C, against which degeneracy is judged; [..].

    Returns:
        The unclipped minimiser; 0.5 where g_t and g_e coincide (see :func:`is_degenerate`).

    Raises:
        ValueError: an argument is not finite.

    Example:
        >>> float(optimal_weight_dual(numerator_e=3.0, distance=4.0, scale=4.0))
        0.75
    """
    numerator_e, distance, scale = finite(numerator_e=numerator_e, distance=distance, scale=scale)
    degenerate = is_degenerate(distance, scale)
    return np.where(degenerate, DEGENERATE_WEIGHT, numerator_e / np.where(degenerate, 1.0, distance))


def optimal_weight(error_t: ArrayLike, error_e: ArrayLike, cross: ArrayLike) -> Floats:
    """alpha* = (C - B) / (A + C - 2B), unclipped; 0.5 where the estimators coincide (paper, Theorem 2).

    For closed-form inputs only: D is formed as (A - B) + (C - B), which on measured A, B, C of close estimators is
    rounding. There use :func:`optimal_weight_from_distance`.

    Raises:
        ValueError: an argument is not finite, a squared error is negative, or B^2 > A C beyond rounding.

    Example:
        >>> float(optimal_weight(error_t=1.0, error_e=3.0, cross=0.0))
        0.75
    """
    a, c, b, distance = _second_moments(error_t, error_e, cross)
    return optimal_weight_dual(c - b, distance, a + c)


def error_curve(alpha: ArrayLike, error_t: ArrayLike, error_e: ArrayLike, cross: ArrayLike) -> Floats:
    """q(alpha) = alpha^2 A + (1 - alpha)^2 C + 2 alpha (1 - alpha) B.

    Raises:
        ValueError: an argument is not finite.

    Example:
        >>> float(error_curve(0.5, error_t=1.0, error_e=3.0, cross=0.0))
        1.0
    """
    alpha, a, c, b = finite(alpha=alpha, error_t=error_t, error_e=error_e, cross=cross)
    return alpha**2 * a + (1 - alpha) ** 2 * c + 2 * alpha * (1 - alpha) * b


def regret(alpha: ArrayLike, best: ArrayLike, distance: ArrayLike) -> Floats:
    """q(alpha) - q(alpha*) = D (alpha - alpha*)^2: what a wrong weight costs in MSE.

    Raises:
        ValueError: an argument is not finite.

    Example:
        >>> float(regret(0.5, best=0.75, distance=4.0))
        0.25
    """
    alpha, best, distance = finite(alpha=alpha, best=best, distance=distance)
    return distance * (alpha - best) ** 2


def optimal_error(error_t: ArrayLike, error_e: ArrayLike, cross: ArrayLike) -> Floats:
    """q* = (A C - B^2) / D, the least MSE over all weights, also those outside [0, 1].

    Proof: q(alpha*) = C - (C - B)^2 / D and C D - (C - B)^2 = A C - B^2. Evaluated for 0 < B < min(A, C) as
    m - (m - B)^2 / D with m = min(A, C), which keeps its digits for close estimators, and otherwise as the product of
    sqrt(AC) - |B| and sqrt(AC) + |B| over D, which keeps them for a small q*. Neither form overflows.

    Returns:
        q* in [0, min(A, C)]; A where the estimators coincide; 0 where B^2 exceeds A C by rounding.

    Raises:
        ValueError: an argument is not finite, a squared error is negative, or B^2 > A C beyond rounding.

    Example:
        >>> float(optimal_error(error_t=1.0, error_e=4.0, cross=0.0))
        0.8
    """
    a, c, b, distance = _second_moments(error_t, error_e, cross)
    return _optimal_error(a, c, b, distance)


def optimal_error_from_distance(error_t: ArrayLike, numerator: ArrayLike, distance: ArrayLike) -> Floats:
    """q* = A - N^2 / D with N = E<g_t - mu, g_t - g_e>: the least MSE from differences, for close estimators.

    Proof: A D - N^2 = A (A + C - 2B) - (A - B)^2 = A C - B^2.

    Returns:
        q* in [0, A]; A where the estimators coincide.

    Raises:
        ValueError: an argument is not finite, A or D is negative, or N^2 > A D beyond rounding.

    Example:
        >>> float(optimal_error_from_distance(error_t=1.0, numerator=1.0, distance=4.0))
        0.75
    """
    a, distance = nonnegative(error_t=error_t, distance=distance)
    (n,) = finite(numerator=numerator)
    check_cauchy_schwarz(("error_t", a), ("distance", distance), ("numerator", n))
    degenerate = is_degenerate(distance, a + np.abs(a - 2 * n + distance))
    root, along = np.sqrt(a), np.abs(n) / np.sqrt(np.where(degenerate, 1.0, distance))
    return np.where(degenerate, a, np.maximum(root - along, 0.0) * (root + along))


def clipped_optimum(error_t: ArrayLike, error_e: ArrayLike, cross: ArrayLike) -> ClippedOptimum:
    """The best mix with a weight in [0, 1], and its gain min(A, C) - q = (min(A, C) - B)^2 / D over the better end.

    The gain is positive iff B < min(A, C), which is automatic for B <= 0; in terms of the correlation of the errors,
    rho = B / sqrt(AC) < min(sqrt(A/C), sqrt(C/A)) (Bates and Granger 1969; the paper's Corollary 1). Otherwise the
    better end is the best mix.

    Proof: q is a parabola, so the clipped vertex minimises it on [0, 1]. The vertex is interior iff A > B and C > B;
    then A - q* = (A - B)^2/D and C - q* = (C - B)^2/D, and the smaller belongs to the smaller of A and C.

    Raises:
        ValueError: an argument is not finite, a squared error is negative, or B^2 > A C beyond rounding.

    Example:
        >>> best = clipped_optimum(error_t=1.0, error_e=[4.0, 9.0], cross=[0.0, 2.0])
        >>> best.weight.tolist(), best.error.tolist(), best.gain.tolist(), best.strict.tolist()
        ([0.8, 1.0], [0.8, 1.0], [0.2, 0.0], [True, False])
    """
    a, c, b, distance = _second_moments(error_t, error_e, cross)
    better = np.minimum(a, c)
    degenerate = is_degenerate(distance, a + c)
    strict = (b < better) & ~degenerate
    safe = np.where(degenerate, 1.0, distance)
    unclipped = np.where(degenerate, DEGENERATE_WEIGHT, (c - b) / safe)
    return ClippedOptimum(
        weight=np.clip(unclipped, 0.0, 1.0),
        unclipped=unclipped,
        error=np.where(strict, _optimal_error(a, c, b, distance), better),
        # (better - b) / D is at most 1/2, so nothing overflows.
        gain=np.where(strict, (better - b) * ((better - b) / safe), 0.0),
        strict=strict,
        degenerate=degenerate,
    )


def optimum_range(error_t: ArrayLike, error_e: ArrayLike, cross: ArrayLike) -> OptimumRange:
    """Whether alpha* is below 0, inside (0, 1) or above 1, and what leaving [0, 1] would gain.

    alpha* > 1 iff B > A, and then q(1) - q* = (B - A)^2 / D: g_e errs in the direction of g_t and by more, and
    subtracting it extrapolates as Richardson's method does. alpha* < 0 iff B > C, with (B - C)^2 / D. Both at once
    would need B > sqrt(AC), which Cauchy-Schwarz excludes.

    Proof: 1 - alpha* = (A - B)/D and alpha* = (C - B)/D; the gains are D (alpha* - 1)^2 and D alpha*^2.

    Raises:
        ValueError: an argument is not finite, a squared error is negative, or B^2 > A C beyond rounding.

    Example:
        >>> where = optimum_range(error_t=1.0, error_e=4.0, cross=1.5)
        >>> bool(where.above_one), float(where.gain_of_leaving)
        (True, 0.125)
    """
    a, c, b, distance = _second_moments(error_t, error_e, cross)
    degenerate = is_degenerate(distance, a + c)
    below, above = (b > c) & ~degenerate, (b > a) & ~degenerate
    excess = np.where(above, b - a, np.where(below, b - c, 0.0))
    return OptimumRange(
        below_zero=below,
        interior=(b < np.minimum(a, c)) & ~degenerate,
        above_one=above,
        gain_of_leaving=excess * (excess / np.where(degenerate, 1.0, distance)),
    )


def weight_change_with_target(move: ArrayLike, distance: ArrayLike) -> Floats:
    """alpha*(mu + v) - alpha*(mu) = <v, E[g_t - g_e]> / D: what an error v in the target does to the weight.

    Proof: D does not involve mu, and alpha* D = E<g_e - mu, g_e - g_t> is affine in mu. So an error of the target
    across E[g_t - g_e] does nothing: to know alpha*, one needs a single scalar of mu.

    Args:
        move: <v, E[g_t - g_e]>; [..].
        distance: D; [..].

    Raises:
        ValueError: an argument is not finite, or ``distance`` is not positive.

    Example:
        >>> float(weight_change_with_target(move=-1.0, distance=4.0))
        -0.25
    """
    (move,) = finite(move=move)
    (distance,) = positive(distance=distance)
    return move / distance


def _second_moments(error_t: ArrayLike, error_e: ArrayLike, cross: ArrayLike) -> tuple[Floats, Floats, Floats, Floats]:
    """A, C, B checked, and D = (A - B) + (C - B), which rounding alone may make negative: then it is 0."""
    a, c = nonnegative(error_t=error_t, error_e=error_e)
    (b,) = finite(cross=cross)
    check_cauchy_schwarz(("error_t", a), ("error_e", c), ("cross", b))
    return a, c, b, np.maximum((a - b) + (c - b), 0.0)


def _optimal_error(a: Floats, c: Floats, b: Floats, distance: Floats) -> Floats:
    degenerate = is_degenerate(distance, a + c)
    root = np.sqrt(a) * np.sqrt(c)
    # sqrt(AC) - |B| is at most D/2, so dividing first cannot overflow.
    safe = np.where(degenerate, 1.0, distance)
    product = np.maximum(root - np.abs(b), 0.0) / safe * (root + np.abs(b))
    # Between the estimators, for B > 0, q* is m (1 - w) + B w with w <= 1/2: a mean, in which nothing cancels.
    better = np.minimum(a, c)
    between = (b > 0) & (b < better) & ~degenerate
    weight = np.where(between, better - b, 0.0) / safe
    return np.where(degenerate, a, np.where(between, better - (better - b) * weight, product))
