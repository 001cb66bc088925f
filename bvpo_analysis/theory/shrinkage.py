"""Shrinking g_t towards g_e by an amount read off one draw (James-Stein; Green & Strawderman, JASA 86, 1991).

With Z = g_t - g_e, the mix g_e + alpha Z at

    alpha = (1 - c / |Z|^2)_+

needs no mu. For g_t ~ N(mu, S) and g_e fixed, or independent of g_t, its error is below Tr S, that of g_t, whatever the
bias of g_e, if S has effective rank Tr S / lmax(S) > 2 and 0 < c < 2 (Tr S - 2 lmax(S)):

    E|g_e + (1 - c/|Z|^2) Z - mu|^2 <= Tr S - c (2 (Tr S - 2 lmax) - c) E|Z|^-2,

with equality for S = s I (Bock, Ann. Stat. 3, 1975); the positive part is better still (Baranchik 1964: where
c > |Z|^2 it replaces a weight of the wrong sign by 0). At the right end of the interval only "not worse" is claimed.

Proof: with x = g_t - mu and h(Z) = Z/|Z|^2, the error is Tr S - 2c E<x, h> + c^2 E|Z|^-2. Stein's lemma gives
E<x, h> = E Tr(S grad h) = E[Tr S / |Z|^2 - 2 Z'SZ / |Z|^4] >= (Tr S - 2 lmax) E|Z|^-2. For a random g_e condition on
it. The lemma needs E|Z|^-2 finite: S of rank 3 at least, or a part of b_e outside its range.

Below effective rank 2 no such c exists and the rule returns alpha = 1. A constant weight has no such guarantee:
alpha = 1/2 has error (Tr S + |b_e|^2)/4, unbounded in the bias.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import hyp1f1

from bvpo_analysis.records import Floats
from bvpo_analysis.theory.arguments import ROUNDING, counts, finite, nonnegative, positive, semidefinite


@dataclass(frozen=True)
class Spectrum:
    """What the dominance condition needs of the covariance S of g_t.

    Attributes:
        trace: Tr S.
        largest: lmax(S).
        effective_rank: Tr S / lmax(S), between 1 and the dimension; 0 for S = 0.
        constant: c = Tr S - 2 lmax, which minimises the bound; (p - 2) s for S = s I. Not positive where no c helps.
        limit: 2 (Tr S - 2 lmax); every c strictly between 0 and it dominates g_t.
    """

    trace: float
    largest: float
    effective_rank: float
    constant: float
    limit: float


def shrinkage_spectrum(covariance: ArrayLike) -> Spectrum:
    """Tr S, lmax(S), effective rank, best constant and dominance limit.

    Tr S - 2 lmax is summed as (the other eigenvalues) - lmax.

    Args:
        covariance: S, [p, p], or its eigenvalues, [p].

    Raises:
        ValueError: S is empty, not finite, not square, not symmetric, or has a negative eigenvalue (beyond rounding
            for a matrix).

    Example:
        >>> spectrum = shrinkage_spectrum([1.0, 1.0, 1.0, 1.0])
        >>> spectrum.effective_rank, spectrum.constant, spectrum.limit
        (4.0, 2.0, 4.0)
        >>> shrinkage_spectrum([[1.0, 0.0], [0.0, 1.0]]).limit
        0.0
    """
    eigenvalues = np.sort(_eigen(covariance)[0])
    largest, others = float(eigenvalues[-1]), float(eigenvalues[:-1].sum())
    rank = 1.0 + others / largest if largest > 0 else 0.0
    return Spectrum(others + largest, largest, rank, others - largest, 2 * (others - largest))


def shrinkage_weight(constant: ArrayLike, distance_sq: ArrayLike) -> Floats:
    """alpha = (1 - c/|Z|^2)_+, in [0, 1]; 1 where c <= 0 (nothing helps, so g_t is kept), else 0 where Z = 0.

    Args:
        constant: c, squared units of the gradients; [..].
        distance_sq: |Z|^2 = |g_t - g_e|^2 of this draw, not its expectation; [..].

    Raises:
        ValueError: an argument is not finite, or |Z|^2 is negative.

    Example:
        >>> shrinkage_weight(constant=18.0, distance_sq=[0.0, 9.0, 36.0])
        array([0. , 0. , 0.5])
        >>> float(shrinkage_weight(constant=-1.0, distance_sq=36.0))
        1.0
    """
    (c,) = finite(constant=constant)
    (z,) = nonnegative(distance_sq=distance_sq)
    partial = (c > 0) & (z > c)
    ratio = np.where(partial, c, 0.0) / np.where(partial, z, 1.0)
    return np.where(partial, 1.0 - ratio, np.where(c > 0, 0.0, 1.0))


def estimated_constant(variance: ArrayLike, dimension: ArrayLike, dof: ArrayLike) -> Floats:
    """c = (p - 2) shat n/(n + 2) for S = s I with s estimated by shat, independent of g_t, n shat/s ~ chi2_n.

    Proof: for c = k shat the error is p s - [2k (p - 2) s E shat - k^2 E shat^2] E|Z|^-2. With E shat = s and
    E shat^2 = s^2 (n + 2)/n the bracket is largest at k = (p - 2) n/(n + 2), where it is (p - 2)^2 s^2 n/(n + 2): of
    the saving with s known, the share n/(n + 2) is left.

    Args:
        variance: shat, an unbiased estimate of s; [..].
        dimension: p; [..].
        dof: n, its degrees of freedom; [..].

    Raises:
        ValueError: an argument is not finite, the variance is negative, p < 1 or n < 1. For p <= 2 the result is not
            positive, and :func:`shrinkage_weight` keeps g_t.

    Example:
        >>> float(estimated_constant(variance=2.0, dimension=20, dof=18))
        32.4
    """
    (estimate,) = nonnegative(variance=variance)
    p, n = counts(dimension=dimension, dof=dof)
    return (p - 2) * estimate * (n / (n + 2))


def inverse_chi_square(dimension: ArrayLike, noncentrality: ArrayLike) -> Floats:
    """E[1/chi2_p(lambda)], the mean reciprocal of a noncentral chi-square: (1/(p-2)) 1F1(1; p/2; -lambda/2).

    chi2_p(lambda) is a Poisson(lambda/2) mixture of chi2_{p + 2k}, whose mean reciprocal is 1/(p - 2 + 2k); the sum is
    Kummer's function. Far out its expansion (1/lambda) sum_j (2 - p/2)_j (2/lambda)^j is used.

    Args:
        dimension: p >= 3; [..].
        noncentrality: lambda = |b_e|^2 / s; [..].

    Raises:
        ValueError: an argument is not finite, lambda is negative, or p < 3 (the mean is infinite at p <= 2).

    Example:
        >>> float(inverse_chi_square(20, 0.0)) == 1 / 18
        True
    """
    (p,) = finite(dimension=dimension)
    (half,) = nonnegative(noncentrality=noncentrality)
    if (p < 3).any():
        raise ValueError(f"dimension must be at least 3, got {float(p.min())}")
    p, half = np.broadcast_arrays(p, half / 2)
    far = half > 500 * p  # there the expansion is exact to rounding, and further out the function overflows
    near = half < 1e-30  # there it is 1 to rounding, and the function returns NaN for some p
    safe = np.where(far, half, 1.0)
    term = total = np.ones_like(safe)
    for j in range(6):
        term = term * (2 - p / 2 + j) / safe
        total = total + term
    return np.where(far, total / (2 * safe), hyp1f1(1.0, p / 2, -np.where(far | near, 0.0, half)) / (p - 2))


def isotropic_risk(
    dimension: ArrayLike, variance: ArrayLike, bias_e_sq: ArrayLike, constant: ArrayLike | None = None
) -> Floats:
    """E|g_e + (1 - c/|Z|^2) Z - mu|^2 for S = s I, exactly: p s - c (2 (p - 2) s - c) E|Z|^-2; no positive part.

    |Z|^2/s is noncentral chi-square with p degrees of freedom and noncentrality |b_e|^2/s.

    Args:
        dimension: p >= 3; [..].
        variance: s > 0; [..].
        bias_e_sq: |b_e|^2; [..].
        constant: c >= 0; (p - 2) s if not given; [..].

    Raises:
        ValueError: an argument is not finite, p < 3, s is not positive, |b_e|^2 or c is negative.

    Example:
        >>> round(float(isotropic_risk(20, 1.0, 0.0)), 12)
        2.0
    """
    (s,) = positive(variance=variance)
    (b,) = nonnegative(bias_e_sq=bias_e_sq)
    inverse = inverse_chi_square(dimension, b / s) / s
    p = np.asarray(dimension, dtype=np.float64)
    (c,) = nonnegative(constant=(p - 2) * s if constant is None else constant)
    return p * s - c * (2 * (p - 2) * s - c) * inverse


def inverse_distance_moment(covariance: ArrayLike, bias_e: ArrayLike) -> float:
    """E|Z|^-2 for Z ~ N(-b_e, S): the integral over t > 0 of E exp(-t |Z|^2), one factor per eigenvalue of S.

    Args:
        covariance: S, [p, p], or its eigenvalues, [p].
        bias_e: b_e, [p], in the coordinates of S (of its eigenvectors, if eigenvalues are given).

    Raises:
        ValueError: as for :func:`shrinkage_spectrum`, the length of b_e differs, or the moment is infinite: S has rank
            2 or less and b_e lies in its range.

    Example:
        >>> round(inverse_distance_moment([1.0] * 20, [0.0] * 20), 12) == round(1 / 18, 12)
        True
    """
    return _moments(covariance, bias_e)[0]


def exact_risk(covariance: ArrayLike, bias_e: ArrayLike, constant: float | None = None) -> float:
    """E|g_e + (1 - c/|Z|^2) Z - mu|^2 for any S, by one integral: Tr S - 2c E[Tr S/|Z|^2 - 2 Z'SZ/|Z|^4] + c^2 E|Z|^-2.

    The exact form behind the bound of :func:`risk_bound`, with no positive part. E[Z'SZ/|Z|^4] is the integral over
    t > 0 of t E[Z'SZ exp(-t |Z|^2)].

    Args:
        covariance: S, [p, p], or its eigenvalues, [p].
        bias_e: b_e, [p], in the coordinates of S.
        constant: c >= 0; Tr S - 2 lmax if not given, or 0 where that is negative.

    Raises:
        ValueError: as for :func:`inverse_distance_moment`, or c is negative.

    Example:
        >>> round(exact_risk([1.0] * 20, [0.0] * 20), 9)
        2.0
        >>> exact_risk([1.0, 0.1, 0.1, 0.1], [10.0, 0.0, 0.0, 0.0], constant=0.5) > 1.3
        True
    """
    inverse, quadratic = _moments(covariance, bias_e)
    trace, c = _trace_and_constant(covariance, constant)
    return trace - 2 * c * (trace * inverse - 2 * quadratic) + c**2 * inverse


def risk_bound(covariance: ArrayLike, bias_e: ArrayLike, constant: float | None = None) -> float:
    """Tr S - c (2 (Tr S - 2 lmax) - c) E|Z|^-2, an upper bound of :func:`exact_risk` for every S and c >= 0.

    It is below Tr S exactly for 0 < c < 2 (Tr S - 2 lmax), and for S = s I it is attained.

    Raises:
        ValueError: as for :func:`exact_risk`.

    Example:
        >>> round(risk_bound([1.0] * 20, [0.0] * 20), 9)
        2.0
    """
    inverse, _ = _moments(covariance, bias_e)
    trace, c = _trace_and_constant(covariance, constant)
    return trace - c * (shrinkage_spectrum(covariance).limit - c) * inverse


def _trace_and_constant(covariance: ArrayLike, constant: float | None) -> tuple[float, float]:
    spectrum = shrinkage_spectrum(covariance)
    if constant is None:
        return spectrum.trace, max(spectrum.constant, 0.0)
    (c,) = nonnegative(constant=constant)
    return spectrum.trace, float(c)


def _eigen(covariance: ArrayLike) -> tuple[Floats, Floats | None]:
    """Eigenvalues, and eigenvectors if a matrix was given."""
    (s,) = finite(covariance=covariance)
    if s.ndim == 1:
        nonnegative(covariance=s)
        return s, None
    if s.ndim != 2 or s.shape[0] != s.shape[1]:
        raise ValueError(f"covariance must be a square matrix or a vector of eigenvalues, got shape {s.shape}")
    s = semidefinite(covariance=s)
    scale = float(np.abs(s).max())
    values, vectors = np.linalg.eigh(s)
    # Below this an eigenvalue is rounding, and must not make up a rank that the covariance does not have.
    return np.where(values > len(s) * np.finfo(float).eps * scale, values, 0.0), vectors


def _moments(covariance: ArrayLike, bias_e: ArrayLike) -> tuple[float, float]:
    """E|Z|^-2 and E[Z'SZ/|Z|^4] by the trapezoidal rule in log t.

    The integrands are analytic around the real log t and fall off exponentially on both sides, where the rule
    converges geometrically: a step of 0.1 leaves nothing but rounding.
    """
    values, vectors = _eigen(covariance)
    (b,) = finite(bias_e=bias_e)
    if b.shape != values.shape:
        raise ValueError(f"bias_e must have shape {values.shape}, got {b.shape}")
    square = b**2 if vectors is None else (vectors.T @ b) ** 2
    inside = values > 0
    outside = float(square[~inside].sum())
    if outside <= ROUNDING**2 * float(square.sum()) and inside.sum() < 3:
        raise ValueError("covariance must have rank 3 or more, or bias_e a part outside its range: E|Z|^-2 is infinite")
    slowest = max(1 / values[inside].min() if inside.any() else 0.0, 1 / outside if outside > 0 else 0.0)
    start, stop = np.log(1 / (values.sum() + square.sum())) - 40.0, np.log(slowest) + 80.0
    t, step = np.linspace(start, stop, int((stop - start) / 0.1) + 2, retstep=True)
    t = np.exp(t)[:, None]
    damping = 1 + 2 * t * values
    decay = np.exp(-0.5 * np.log(damping).sum(axis=1) - (t * square / damping).sum(axis=1))
    energy = (values * (values / damping + square / damping**2)).sum(axis=1)
    t = t[:, 0]
    return float(step * (t * decay).sum()), float(step * (t**2 * energy * decay).sum())
