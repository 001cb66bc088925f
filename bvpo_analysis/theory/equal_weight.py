"""The equal mix alpha = 1/2 against the optimal weight: what it costs, and when it beats g_t or g_e alone.

    q(1/2) = (A + C + 2B) / 4,        q(1/2) - q* = (A - C)^2 / (4 D).

So 1/2 is optimal iff A = C, whatever B is, and it beats both estimators iff B < (3 min(A, C) - max(A, C)) / 2: with
uncorrelated errors (B = 0, which includes the product of the biases) it is worse than the better estimator as soon as
the two errors differ by more than a factor of 3.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from bvpo_analysis.records import Floats
from bvpo_analysis.theory.arguments import finite, positive
from bvpo_analysis.theory.mixing import clipped_optimum, optimal_error

UNCORRELATED_FACTOR = 3.0
"""With B = 0 the equal mix beats both estimators iff max(A, C) < 3 min(A, C)."""


@dataclass(frozen=True)
class EqualMix:
    """The mix with alpha = 1/2; every field an array over the broadcast arguments.

    Attributes:
        error: q(1/2).
        regret: q(1/2) - q*, over the unclipped optimum.
        ratio: q(1/2) / q*; inf where the optimum is exact (q* = 0) and the equal mix is not.
        optimal: whether 1/2 minimises q: A = C.
        beats_both: whether q(1/2) < min(A, C).
    """

    error: Floats
    regret: Floats
    ratio: Floats
    optimal: np.ndarray
    beats_both: np.ndarray


def equal_mix(error_t: ArrayLike, error_e: ArrayLike, cross: ArrayLike) -> EqualMix:
    """Error, regret and ratio of alpha = 1/2.

    Proof: q(1/2) - q* = D (1/2 - alpha*)^2 with alpha* - 1/2 = (C - A) / (2 D). And q(1/2) < A iff C + 2B < 3A, while
    q(1/2) < C iff A + 2B < 3C; the first is the stronger one iff A <= C.

    Args:
        error_t: A; [..].
        error_e: C; [..].
        cross: B; [..].

    Raises:
        ValueError: an argument is not finite, a squared error is negative, or B^2 > A C beyond rounding.

    Example:
        >>> mix = equal_mix(error_t=1.0, error_e=[1.0, 5.0], cross=0.0)
        >>> mix.error.tolist(), mix.regret.round(12).tolist(), mix.optimal.tolist(), mix.beats_both.tolist()
        ([0.5, 1.5], [0.0, 0.666666666667], [True, False], [True, False])
    """
    best = clipped_optimum(error_t, error_e, cross)
    a, c, b = np.broadcast_arrays(*finite(error_t=error_t, error_e=error_e, cross=cross))
    least = optimal_error(a, c, b)
    distance = np.where(best.degenerate, 1.0, (a - b) + (c - b))
    # |A - C| / D exceeds 1 where the optimum lies outside [0, 1]; dividing first avoids the square of a large number.
    regret = np.where(best.degenerate, 0.0, (a - c) * ((a - c) / distance) / 4)
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = np.where(regret > 0, 1 + regret / least, 1.0)
    return EqualMix(
        error=a / 4 + c / 4 + b / 2,
        regret=regret,
        ratio=ratio,
        optimal=(a == c) | best.degenerate,
        beats_both=(2 * b < 3 * np.minimum(a, c) - np.maximum(a, c)) & ~best.degenerate,
    )


def equal_mix_ratio(imbalance: ArrayLike, correlation: ArrayLike) -> Floats:
    """q(1/2) / q* = (m^2 - rho^2) / (1 - rho^2), m = (A + C) / (2 sqrt(AC)) >= 1, rho = B / sqrt(AC).

    Proof: with AC = 1, 4 D q(1/2) = (2m - 2 rho)(2m + 2 rho) and D q* = 1 - rho^2. Evaluated as
    1 + (m^2 - 1)/(1 - rho^2), which keeps the price of a small imbalance.

    Args:
        imbalance: m; [..].
        correlation: rho of the errors, in (-1, 1); [..].

    Raises:
        ValueError: an argument is not finite, m < 1, or |rho| >= 1, where the optimum is exact.

    Example:
        >>> float(equal_mix_ratio(imbalance=2.0, correlation=0.0))
        4.0
    """
    (m,) = positive(imbalance=imbalance)
    (rho,) = finite(correlation=correlation)
    if (m < 1).any():
        raise ValueError(f"imbalance must be at least 1, the ratio of the two means, got {m.min()}")
    if (np.abs(rho) >= 1).any():
        raise ValueError(f"correlation must be inside (-1, 1), got {rho.ravel()[np.argmax(np.abs(rho))]}")
    return 1 + (m - 1) * (m + 1) / ((1 - rho) * (1 + rho))
