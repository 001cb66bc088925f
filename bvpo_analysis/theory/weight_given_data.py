"""The optimal weight of one prompt given its data, from K trace gradients and the empty-trace gradient.

Given the data only the traces are random: g_e is fixed, and where g_t is unbiased for the prompt's own mu (at the
reference) the optimum is alpha* = 1 - S_t / D with D = E|g_t - g_e|^2 = S_t + |b_e|^2. From g_1 .. g_K i.i.d. with mean
gbar the unbiased estimates are

    Vhat = (1/(K-1)) sum_k |g_k - gbar|^2     of S_t        (one degree of freedom goes to gbar),
    Dhat = (1/K) sum_k |g_k - g_e|^2          of D          (none does: g_e is given),
    |g_e - gbar|^2 - Vhat / K                 of |b_e|^2    (the plug-in square is too large by S_t / K).

Proofs: the first is the sample variance, the second a mean, and E|g_e - gbar|^2 = |b_e|^2 + S_t / K.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from bvpo_analysis.records import Floats
from bvpo_analysis.theory.arguments import finite, nonnegative
from bvpo_analysis.theory.mixing import is_degenerate, optimal_weight_from_distance


@dataclass(frozen=True)
class ConditionalWeight:
    """Estimates for one prompt, or for many; all [..].

    Attributes:
        var_t: Vhat.
        distance: Dhat.
        bias_e_sq: |g_e - gbar|^2 - Vhat / K; unbiased, and may be negative.
        single: 1 - Vhat / Dhat, the weight of ONE trace, in [-1/(K-1), 1]; 1 iff Vhat = 0, the lower end iff
            g_e = gbar. The K traces only estimate it.
        average: 1 - (Vhat / K) / |g_e - gbar|^2, the weight of the mean of the K traces; not bounded below, and minus
            infinity for Vhat > 0 = |g_e - gbar|^2.

    A ratio of unbiased estimates is not unbiased: both weights are off by O(1/K) on average. Over many prompts take
    the ratio of the means of Vhat and Dhat, which is consistent, and not the mean of these ratios.
    """

    var_t: Floats
    distance: Floats
    bias_e_sq: Floats
    single: Floats
    average: Floats


def conditional_weight(gradients_t: ArrayLike, gradient_e: ArrayLike) -> ConditionalWeight:
    """From gradients as vectors: g_1 .. g_K [.., K, d] and g_e [.., d].

    Raises:
        ValueError: not finite, K < 2, or shapes that do not match.

    Example:
        >>> found = conditional_weight([[0.0], [2.0]], [4.0])
        >>> float(found.var_t), float(found.distance), float(found.bias_e_sq), float(found.single)
        (2.0, 10.0, 8.0, 0.8)
    """
    traces, empty = finite(gradients_t=gradients_t, gradient_e=gradient_e)
    if traces.ndim < 2 or traces.shape[-1] != (empty.shape or (0,))[-1]:
        raise ValueError(
            f"gradients_t and gradient_e must have shapes [.., K, d] and [.., d], got {traces.shape}, {empty.shape}"
        )
    mean = traces.mean(axis=-2)
    deviations = ((traces - mean[..., None, :]) ** 2).sum(axis=-1)
    scale = (traces**2).sum(axis=-1).mean(axis=-1) + (empty**2).sum(axis=-1)
    return conditional_weight_from_squares(deviations, ((empty - mean) ** 2).sum(axis=-1), scale=scale)


def conditional_weight_from_squares(
    deviations_sq: ArrayLike, gap_sq: ArrayLike, *, scale: ArrayLike = 0.0
) -> ConditionalWeight:
    """From squares alone, as inner products of scores give them: |g_k - gbar|^2 [.., K] and |g_e - gbar|^2 [..].

    Dhat is the mean of the first plus the second, a sum of squares in which nothing cancels. Where all gradients
    coincide every weight is optimal, and both are 0.5. Where Vhat > 0 = |g_e - gbar|^2 the estimate ``average`` is
    minus infinity.

    Args:
        deviations_sq, gap_sq: the squares.
        scale: E|g_t|^2 + |g_e|^2, against which Dhat counts as zero; by default only an exact zero does. [..]

    Raises:
        ValueError: negative or not finite, or K < 2.

    Example:
        >>> found = conditional_weight_from_squares([1.0, 1.0], 9.0)
        >>> float(found.single), round(float(found.average), 12)
        (0.8, 0.888888888889)
    """
    deviations, gap = nonnegative(deviations_sq=deviations_sq, gap_sq=gap_sq)
    if deviations.ndim == 0 or deviations.shape[-1] < 2:
        raise ValueError(f"deviations_sq must hold K >= 2 traces, got shape {deviations.shape}")
    count = deviations.shape[-1]
    total = deviations.sum(axis=-1)
    var_t, distance = total / (count - 1), total / count + gap
    (scale,) = nonnegative(scale=scale)
    coincide = is_degenerate(distance, scale)
    ratio = np.divide(var_t / count, gap, out=np.full(np.shape(gap * var_t), np.inf), where=gap > 0)
    return ConditionalWeight(
        var_t=np.asarray(var_t),
        distance=np.asarray(distance),
        bias_e_sq=np.asarray(gap - var_t / count),
        single=optimal_weight_from_distance(var_t, distance, scale),
        average=np.where(coincide, 0.5, 1.0 - ratio),
    )
