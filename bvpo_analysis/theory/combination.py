"""Weights of J gradient estimators at once: forecast combination (Bates & Granger, Oper. Res. Quart. 20, 1969).

With errors x_i = g_i - mu and M_ij = E<x_i, x_j>, the mean squared error of sum_i a_i g_i, sum_i a_i = 1, is a'Ma:
convex in a, and singular whenever two estimators coincide or one of them is exact. Two weight sets are solved:

    affine:   M a = lambda 1,  1'a = 1;      lambda = a'Ma is the least value,
    simplex:  a >= 0 as well;                (M a)_i >= a'Ma, with equality where a_i > 0.

For J = 2 the simplex optimum is the clipped alpha* of :mod:`bvpo_analysis.theory.mixing`. A further estimator never
hurts, because weight zero is allowed. Weighing the variance by kappa replaces M by bias Gram + kappa covariance.

The mix is no classical control variate: g_c = g_t - (1 - alpha)(g_t - g_e) subtracts a term whose mean is
(1 - alpha)(b_t - b_e), not zero, so that alpha trades bias against variance. Terms of mean zero under prior traces,
such as grad log pi(r | x), may be subtracted at any weight; for posterior traces s - sbar has mean zero but is unknown.

M is formed before it reaches this module, so what cancelled in M is lost: an optimum resting on E|g_i - g_j|^2 below
1e-10 of max|M| should be taken from differences (``optimal_weight_from_distance``).
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from bvpo_analysis.records import Floats
from bvpo_analysis.theory.arguments import ROUNDING, finite, nonnegative, positive, semidefinite, semidefinite_factor

KKT_TOLERANCE = 1e-8
"""Largest residual of the optimality conditions, relative to max|M|, with which a simplex optimum is returned."""


@dataclass(frozen=True)
class Combination:
    """Optimal weights with the certificate of their optimality.

    Attributes:
        weights: a, [J].
        value: a'Ma at these weights; 0 where rounding made it negative.
        multiplier: lambda of the constraint sum a = 1.
        active: [J], which constraints a_i >= 0 bind; all false where the sign is free.
        residual: largest violation of the optimality conditions, in the units of M. On the simplex,
            ``value`` exceeds the optimum by at most 2 ``residual``, since by convexity
            a'Ma - b'Mb <= 2 (Ma)'(a - b) = 2 (lambda - (Ma)'b) for every b in the simplex.
        rounding: J eps |a|_1^2 max|M|, what the rounding of M alone may move ``value`` by. Large only for free
            signs, where nearly equal estimators call for large weights of opposite sign.
    """

    weights: Floats
    value: float
    multiplier: float
    active: NDArray[np.bool_]
    residual: float
    rounding: float


def error_moments(second_moments: ArrayLike, signals: ArrayLike, target_sq: float) -> Floats:
    """M_ij = E<g_i - mu, g_j - mu> = Q_ij - u_i - u_j + |mu|^2, from moments that are not centred on the target.

    A constant g_i = 0 has Q_ij = 0 and u_i = 0. Where the errors are small beside mu, form M from the errors instead.

    Args:
        second_moments: Q_ij = E<g_i, g_j>, [J, J].
        signals: u_i = <mu, E g_i>, [J].
        target_sq: |mu|^2.

    Raises:
        ValueError: an argument is not finite, Q is not symmetric and positive semidefinite, the shapes do not match,
            or u and |mu|^2 contradict Q (Cauchy-Schwarz).

    Example:
        >>> error_moments(second_moments=[[2.0, 0.0], [0.0, 0.0]], signals=[1.0, 0.0], target_sq=1.0)
        array([[1., 0.],
               [0., 1.]])
    """
    q, u, square = _uncentred(second_moments, signals, target_sq)
    return q - u[:, None] - u[None, :] + square


def weighted_moments(bias_gram: ArrayLike, covariance: ArrayLike, kappa: float = 1.0) -> Floats:
    """M_kappa = <b_i, b_j> + kappa Tr Cov(g_i, g_j), [J, J]: the errors when the variance counts kappa times.

    Any convex weight set inherits the bound of two estimators: weights optimal at kappa = 1 cost at most
    (1 + kappa)^2 / (4 kappa) times the optimum at kappa.

    Raises:
        ValueError: an argument is not finite, a matrix is not symmetric and positive semidefinite, the shapes differ,
            or kappa is not positive.

    Example:
        >>> weighted_moments([[0.0, 0.0], [0.0, 1.0]], [[4.0, 0.0], [0.0, 0.0]], kappa=0.25)
        array([[1., 0.],
               [0., 1.]])
    """
    (kappa_,) = positive(kappa=kappa)
    bias, noise = semidefinite(bias_gram=bias_gram), semidefinite(covariance=covariance)
    if bias.shape != noise.shape:
        raise ValueError(f"covariance must have the shape of bias_gram, {bias.shape}, got {noise.shape}")
    return bias + kappa_ * noise


def affine_combination(moments: ArrayLike) -> Combination:
    """Weights of either sign with sum 1 that minimise a'Ma.

    They solve [[M, -1], [1', 0]] (a, lambda) = (0, 1). A convex quadratic that is bounded below attains its minimum
    on an affine set, so the system has a solution for every M, singular or not; the one of least norm is returned.
    (For invertible M it is M^-1 1 / 1'M^-1 1; the same with a pseudo-inverse is wrong unless 1 is in the range of M:
    for M = diag(0, 1) it gives the value 1, the optimum is 0.) Left-multiplying by a gives a'Ma = lambda. Never worse
    than :func:`simplex_combination`, also where rounding makes M singular; ``residual`` then says how far from optimal.

    Args:
        moments: M, [J, J], squared units of the gradients.

    Raises:
        ValueError: M is empty, not square, not finite, not symmetric or not positive semidefinite (beyond rounding).

    Example:
        >>> best = affine_combination([[1.0, 0.0], [0.0, 3.0]])
        >>> [round(float(a), 12) for a in best.weights], round(best.value, 12)
        ([0.75, 0.25], 0.75)
        >>> round(affine_combination([[0.0, 0.0], [0.0, 1.0]]).value, 12)
        0.0
    """
    m = semidefinite(moments=moments)
    scale = _scale(m)
    # Where M is singular up to rounding, least squares drops directions; what they hold must not cost the guarantee.
    candidates = (_stationary(m / scale), simplex_combination(m).weights)
    weights = min(candidates, key=lambda a: float(a @ m @ a))
    multiplier = float(weights @ m @ weights)
    residual = max(float(np.abs(m @ weights - multiplier).max()), scale * abs(float(weights.sum()) - 1.0))
    return _combination(m, weights, multiplier, np.zeros(len(m), dtype=bool), residual)


def simplex_combination(moments: ArrayLike) -> Combination:
    """Weights a >= 0 with sum 1 that minimise a'Ma, exactly (an active-set method), with the KKT certificate.

    With M = V'V it is the point of least norm in the convex hull of the columns of V, found as a nonnegative least
    squares problem: x >= 0 minimises |V x|^2 + (1'x - 1)^2 iff M x >= (1 - 1'x) 1 with equality where x_i > 0, which
    are the KKT conditions of a = x / 1'x with multiplier (1 - 1'x) / 1'x. (x = 0 is never optimal: its slope is -1.)
    Where the minimiser is not unique, as with equal estimators, one of them is returned.

    Args:
        moments: M, [J, J], squared units of the gradients.

    Raises:
        ValueError: as for :func:`affine_combination`.
        ArithmeticError: no weights with a KKT residual below 1e-8 max|M| were found.

    Example:
        >>> best = simplex_combination([[1.0, 1.5], [1.5, 4.0]])
        >>> best.weights, best.value, best.active
        (array([1., 0.]), 1.0, array([False,  True]))
    """
    m, scale, factor = semidefinite_factor(moments=moments)
    unit = m / scale
    from scipy.optimize import nnls  # here: it would double the time to import all closed forms

    x, _ = nnls(np.vstack([factor, np.ones(len(m))]), np.eye(len(m) + 1)[-1], maxiter=100 * len(m))
    weights = x / x.sum()
    polished = _on_support(unit, weights > 0)
    if (polished >= 0).all() and _kkt_residual(unit, polished) <= _kkt_residual(unit, weights):
        weights = polished
    residual = _kkt_residual(unit, weights)
    if residual > KKT_TOLERANCE:
        raise ArithmeticError(f"no simplex optimum of moments within {KKT_TOLERANCE} max|M|: residual {residual}")
    multiplier = float(weights @ m @ weights)
    return _combination(m, weights, multiplier, weights == 0, residual * scale)


def scaling_combination(second_moments: ArrayLike, signals: ArrayLike, target_sq: float) -> Combination:
    """Free weights a = Q^-1 u, which minimise E|sum a_i g_i - mu|^2 (Wiener scaling).

    It is :func:`affine_combination` with the estimator g = 0 added, whose weight is 1 - sum a: its row of M is
    |mu|^2 - u, and the stationarity of the others minus that row is Q a = u. The value is |mu|^2 - u'Q^-1 u, the
    multiplier the same. Q a = u has a solution even for singular Q, because n'Qn = 0 means sum n_i g_i = 0 almost
    surely and then n'u = 0; the one of least norm is returned. Its direction maximises the cosine with mu, so
    a_t / (a_t + a_e), where the sum is positive, is the weight for a step size that is tuned afterwards.

    Args:
        second_moments: Q_ij = E<g_i, g_j>, [J, J].
        signals: u_i = <mu, E g_i>, [J].
        target_sq: |mu|^2.

    Raises:
        ValueError: as for :func:`error_moments`.

    Example:
        >>> shrunk = scaling_combination(second_moments=[[4.0]], signals=[1.0], target_sq=1.0)
        >>> shrunk.weights, shrunk.value
        (array([0.25]), 0.75)
    """
    q, u, square = _uncentred(second_moments, signals, target_sq)
    size = _scale(q)
    root = float(np.sqrt(size) * np.sqrt(square)) or 1.0  # the size of u, which is 0 where the target is
    weights = np.asarray(np.linalg.lstsq(q / size, u / root, rcond=None)[0] * (root / size), dtype=np.float64)
    residual = float(np.abs(q @ weights - u).max())
    value = max(square - float(u @ weights), 0.0)
    rounding = _rounding(weights, q) + float(np.finfo(float).eps) * square
    return Combination(weights, value, value, np.zeros(len(q), dtype=bool), residual, rounding)


def _combination(m: Floats, a: Floats, multiplier: float, active: NDArray[np.bool_], residual: float) -> Combination:
    value = max(float(a @ m @ a), 0.0)
    return Combination(a, value, multiplier, active, residual, _rounding(a, m))


def _rounding(weights: Floats, m: Floats) -> float:
    return float(len(m) * np.finfo(float).eps * np.abs(weights).sum() ** 2 * np.abs(m).max())


def _stationary(unit: Floats) -> Floats:
    """The weights of (a, lambda) with M a = lambda 1 and 1'a = 1, of least norm."""
    j = len(unit)
    ones = np.ones((j, 1))
    bordered = np.block([[unit, -ones], [ones.T, np.zeros((1, 1))]])
    weights: Floats = np.linalg.lstsq(bordered, np.eye(j + 1)[-1], rcond=None)[0][:-1]
    return weights


def _on_support(unit: Floats, support: NDArray[np.bool_]) -> Floats:
    """The stationary weights among the supported estimators: the least-squares solution without its rounding."""
    weights = np.zeros(len(unit))
    found = _stationary(unit[np.ix_(support, support)])
    weights[support] = found / found.sum()
    return weights


def _kkt_residual(unit: Floats, weights: Floats) -> float:
    """Violation of (M a)_i >= a'Ma, and of equality where a_i > 0."""
    slope = unit @ weights - weights @ unit @ weights
    return float(np.where(weights > 0, np.abs(slope), np.maximum(-slope, 0.0)).max())


def _scale(m: Floats) -> float:
    return float(np.abs(m).max()) or 1.0


def _uncentred(second_moments: ArrayLike, signals: ArrayLike, target_sq: float) -> tuple[Floats, Floats, float]:
    q = semidefinite(second_moments=second_moments)
    (u,) = finite(signals=signals)
    (square,) = nonnegative(target_sq=target_sq)
    if square.ndim:
        raise ValueError(f"target_sq must be a number, got shape {square.shape}")
    if u.shape != (len(q),):
        raise ValueError(f"signals must have shape ({len(q)},), got {u.shape}")
    size, root = _scale(q), float(np.sqrt(_scale(q)) * np.sqrt(square))
    if root == 0:
        possible = not u.any()
    else:
        joint = np.block([[q / size, u[:, None] / root], [u[None, :] / root, np.ones((1, 1))]])
        possible = bool(np.linalg.eigvalsh(joint)[0] >= -ROUNDING)
    if not possible:
        raise ValueError("signals violates Cauchy-Schwarz: (n'u)^2 must not exceed n'Qn |mu|^2 for any n")
    return q, u, float(square)
