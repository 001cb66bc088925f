"""What one step gains when no term of the descent lemma is dropped, and when the step size is free.

For an L-smooth f, target mu = grad f(x), g_c = alpha g_t + (1 - alpha) g_e, x+ = x - eta g_c and kappa = eta L,

    E f(x+) - f(x) <= -eta <mu, E g_c> + (L eta^2 / 2) E|g_c|^2
                    = -|mu|^2 / (2L) + (L eta^2 / 2) E|g_c - mu/kappa|^2.

The first line is the definition of smoothness, for every eta > 0; the second completes the square. So at a given step
the bound is least where the mean squared error against the *rescaled* target mu/kappa is: at the MSE-optimal weight if
kappa = 1. Theorem 3 of the paper drops -(eta/2)(1 - kappa)|E g_c|^2, and its optimum alpha_kappa is another one. With
the best step size for every alpha, what counts is the angle to mu (see :func:`cosine_optimal_weight`); the same holds
for optimisers that rescale the gradient. For a fixed preconditioner P read every inner product as <., P .>.

    =================  ==========================  ==========================
    symbol             meaning                     argument
    =================  ==========================  ==========================
    Q_tt, Q_ee         E|g_t|^2, E|g_e|^2          ``second_t``, ``second_e``
    Q_te               E<g_t, g_e>                 ``second_te``
    u_t, u_e           <mu, E g_t>, <mu, E g_e>    ``signal_t``, ``signal_e``
    |mu|^2             squared target              ``target_sq``
    =================  ==========================  ==========================

All of them are exact moments in the unit of a squared gradient; gradients are those of the loss to be decreased.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from bvpo_analysis.records import Floats
from bvpo_analysis.theory.arguments import ROUNDING, check_cauchy_schwarz, finite, nonnegative, positive
from bvpo_analysis.theory.mixing import error_curve, is_degenerate, optimal_weight_from_distance

SINGULAR = 1e-14
"""Eigenvalues of the second moments, in units of each estimator's own, below this count as zero: rounding of Q."""


@dataclass(frozen=True)
class DescentBound:
    """The slack-free bound on one step; arrays of the broadcast shape [..], in the unit of the loss.

    Attributes:
        change: -eta <mu, E g_c> + (L eta^2/2) E|g_c|^2, an upper bound on E f(x+) - f(x).
        best: -|mu|^2/(2L), what an exact gradient step of size 1/L is sure to gain.
        excess: (L eta^2/2) E|g_c - mu/kappa|^2; ``change`` = ``best`` + ``excess``.
    """

    change: Floats
    best: Floats
    excess: Floats


@dataclass(frozen=True)
class RetunedStep:
    """The step size that makes the slack-free bound least at a given weight; arrays of the broadcast shape [..].

    Attributes:
        step_size: <mu, E g_c>_+ / (L E|g_c|^2); 0 where g_c is no descent direction on average.
        change: -<mu, E g_c>_+^2 / (2 L E|g_c|^2), the bound on E f(x+) - f(x) at this step.
    """

    step_size: Floats
    change: Floats


@dataclass(frozen=True)
class CosineMix:
    """The mix of two estimators with the largest cosine to the target; arrays of the broadcast shape [..].

    Attributes:
        weight_t, weight_e: Q^{-1} u, not normalised: among all combinations this direction is best, and its cosine is
            never negative.
        alpha: weight of g_t to use in an affine mix. alpha_cos = weight_t / (weight_t + weight_e), unclipped, where
            that sum is positive; elsewhere the end with the larger cosine, 0 in a tie.
        convex_alpha: the weight in [0, 1] with the largest cosine, which may be negative.
        ascent: weight_t + weight_e <= 0. Then normalising the weights to sum to one turns the direction round: the
            affine mix with the largest squared cosine points uphill, and ``alpha`` is not it.
        descends: <mu, E g_c> > 0 at ``alpha``; false only if no weight in question gives a descent direction.
        singular: g_t and g_e are proportional almost surely; the weights are then the shortest of the optimal ones,
            with every estimator measured in units of its root mean square.
    """

    weight_t: Floats
    weight_e: Floats
    alpha: Floats
    convex_alpha: Floats
    ascent: np.ndarray
    descends: np.ndarray
    singular: np.ndarray


@dataclass(frozen=True)
class RetunedWeights:
    """The combination of J estimators with the largest cosine to the target.

    Attributes:
        weights: [J], Q^{-1} u, not normalised. Its step size is included: x - (1/L) sum_i w_i g_i is the best step.
        affine: [J], the same direction with weights that sum to one; None where the sum is not positive, because
            normalising would turn the direction into one of ascent.
        progress: u' Q^{-1} u = |mu|^2 cos^2, at least 0: the best step gains progress / (2L).
        ascent: the weights sum to zero or less.
        rank: rank of Q; below J, some combination of the estimators vanishes and the weights are the shortest of the
            optimal ones, with every estimator measured in units of its root mean square.
    """

    weights: Floats
    affine: Floats | None
    progress: float
    ascent: bool
    rank: int


def descent_bound(
    alpha: ArrayLike,
    *,
    second_t: ArrayLike,
    second_e: ArrayLike,
    second_te: ArrayLike,
    signal_t: ArrayLike,
    signal_e: ArrayLike,
    target_sq: ArrayLike,
    step_size: ArrayLike,
    smoothness: ArrayLike,
) -> DescentBound:
    """The slack-free descent bound on E f(x - eta g_c) - f(x) for an L-smooth f, and its split.

    Attained by f = (L/2)|x - x*|^2. No condition on eta L.

    Raises:
        ValueError: an argument is not finite; a square is negative; step size or smoothness is not positive; or an
            inner product violates Cauchy-Schwarz.

    Example:
        >>> noiseless = dict(second_t=4, second_e=4, second_te=4, signal_t=4, signal_e=4, target_sq=4)
        >>> bound = descent_bound(0.3, **noiseless, step_size=0.5, smoothness=1)
        >>> [round(float(x), 12) for x in (bound.change, bound.best, bound.excess)]
        [-1.5, -2.0, 0.5]
    """
    (alpha,) = finite(alpha=alpha)
    q, u = _moments(second_t, second_e, second_te, signal_t, signal_e)
    (mu_sq,) = nonnegative(target_sq=target_sq)
    _check_signals(q, u, mu_sq)
    eta, smooth = positive(step_size=step_size, smoothness=smoothness)
    square, signal = error_curve(alpha, *q), alpha * u[0] + (1 - alpha) * u[1]
    change = eta * (eta * smooth / 2 * square - signal)
    best = -mu_sq / (2 * smooth)
    return DescentBound(*np.broadcast_arrays(change, best, change - best))


def descent_optimal_weight(
    *,
    second_t: ArrayLike,
    second_e: ArrayLike,
    second_te: ArrayLike,
    signal_t: ArrayLike,
    signal_e: ArrayLike,
    kappa: ArrayLike,
) -> Floats:
    """alpha_desc = [<mu, E(g_t - g_e)>/kappa - E<g_e, g_t - g_e>] / D, where :func:`descent_bound` is least.

    Proof: it is the MSE-optimal weight with mu/kappa in place of mu, in dual form; D = E|g_t - g_e|^2 does not change.

    Args:
        kappa: eta L > 0; any size, as the bound needs no condition.

    Returns:
        Unclipped; it may leave [0, 1] where alpha_kappa does not. 0.5 where g_t and g_e coincide.

    Raises:
        ValueError: an argument is out of range, or the second moments violate Cauchy-Schwarz.

    Example:
        >>> law = dict(second_t=2, second_e=1, second_te=0, signal_t=1, signal_e=0)  # mu = E g_t, g_e orthogonal to it
        >>> [round(float(descent_optimal_weight(**law, kappa=k)), 12) for k in (1.0, 0.5)]
        [0.666666666667, 1.0]
    """
    q, u = _moments(second_t, second_e, second_te, signal_t, signal_e)
    (k,) = positive(kappa=kappa)
    # 1 - alpha = E<g_t - mu/kappa, g_t - g_e> / D.
    return optimal_weight_from_distance((q[0] - q[2]) - (u[0] - u[1]) / k, _distance(q), q[0] + q[1])


def descent_weight_shift(*, signal_t: ArrayLike, signal_e: ArrayLike, distance: ArrayLike, kappa: ArrayLike) -> Floats:
    """alpha_desc(kappa) - alpha* = (1/kappa - 1) <mu, E[g_t - g_e]> / D.

    Proof: the MSE-optimal weight is affine in the target with slope E[g_t - g_e]/D, and the target moves by
    (1/kappa - 1) mu. For kappa < 1 it is positive iff g_t has more signal than g_e; there is no general order between
    alpha_desc and alpha_kappa.

    Args:
        distance: D = E|g_t - g_e|^2 > 0, from differences.
        kappa: eta L > 0.

    Raises:
        ValueError: an argument is not finite, or D or kappa is not positive.

    Example:
        >>> round(float(descent_weight_shift(signal_t=1, signal_e=0, distance=3, kappa=0.5)), 12)
        0.333333333333
    """
    ut, ue = finite(signal_t=signal_t, signal_e=signal_e)
    d, k = positive(distance=distance, kappa=kappa)
    return (1 - k) / k * (ut - ue) / d


def cosine(
    alpha: ArrayLike,
    *,
    second_t: ArrayLike,
    second_e: ArrayLike,
    second_te: ArrayLike,
    signal_t: ArrayLike,
    signal_e: ArrayLike,
    target_sq: ArrayLike,
) -> Floats:
    """cos(alpha) = <mu, E g_c> / (|mu| sqrt(E|g_c|^2)): signed, in [-1, 1]; its square is what a retuned step gains.

    Returns:
        [..]; 0 where g_c or mu is zero almost surely.

    Raises:
        ValueError: as in :func:`descent_bound`.

    Example:
        >>> law = dict(second_t=2, second_e=1, second_te=0, signal_t=1, signal_e=0, target_sq=1)
        >>> [round(float(cosine(a, **law)), 12) for a in (0.0, 1.0)]
        [0.0, 0.707106781187]
    """
    (alpha,) = finite(alpha=alpha)
    q, u = _moments(second_t, second_e, second_te, signal_t, signal_e)
    (mu_sq,) = nonnegative(target_sq=target_sq)
    _check_signals(q, u, mu_sq)
    return _cosine(alpha, q, u) / np.where(mu_sq > 0, np.sqrt(mu_sq), 1.0)


def retuned_step(
    alpha: ArrayLike,
    *,
    second_t: ArrayLike,
    second_e: ArrayLike,
    second_te: ArrayLike,
    signal_t: ArrayLike,
    signal_e: ArrayLike,
    smoothness: ArrayLike,
) -> RetunedStep:
    """The step size that makes the slack-free bound least at this weight, and the bound there.

    Proof: -eta u + (L eta^2/2) Q is a parabola in eta with its minimum -u^2/(2 L Q) at u/(L Q); if u <= 0 no positive
    step has a negative bound, and the best is not to move.

    Raises:
        ValueError: an argument is out of range, or the second moments violate Cauchy-Schwarz.

    Example:
        >>> step = retuned_step(1.0, second_t=2, second_e=1, second_te=0, signal_t=1, signal_e=0, smoothness=1)
        >>> float(step.step_size), float(step.change)
        (0.5, -0.25)
    """
    (alpha,) = finite(alpha=alpha)
    q, u = _moments(second_t, second_e, second_te, signal_t, signal_e)
    (smooth,) = positive(smoothness=smoothness)
    square = np.maximum(error_curve(alpha, *q), 0.0)
    signal = np.maximum(alpha * u[0] + (1 - alpha) * u[1], 0.0)
    eta = np.where(square > 0, signal / np.where(square > 0, square, 1.0), 0.0) / smooth
    return RetunedStep(step_size=eta, change=-eta * signal / 2)


def cosine_optimal_weight(
    *,
    second_t: ArrayLike,
    second_e: ArrayLike,
    second_te: ArrayLike,
    signal_t: ArrayLike,
    signal_e: ArrayLike,
) -> CosineMix:
    """alpha_cos = (Q_ee u_t - Q_te u_e) / [(Q_ee - Q_te) u_t + (Q_tt - Q_te) u_e], and what to use where it fails.

    Proof: <mu, E g>^2 / E|g|^2 = (u'w)^2 / (w'Qw) for g = w_t g_t + w_e g_e is largest at w = Q^{-1}u by Cauchy-Schwarz
    in the metric Q, with value u'Q^{-1}u. Weights that sum to one have direction w iff w_t + w_e > 0. In [0, 1] the
    cosine is quasi-concave where it is positive and has no other stationary point, so that the best weight is
    alpha_cos or an end.

    Raises:
        ValueError: an argument is not finite, a square is negative, the second moments violate Cauchy-Schwarz, or the
            signals contradict them: a combination that vanishes almost surely has no signal.

    Example:
        >>> mix = cosine_optimal_weight(second_t=4, second_e=1, second_te=0, signal_t=2, signal_e=0.5)
        >>> float(mix.alpha), bool(mix.ascent), bool(mix.descends)
        (0.5, False, True)
        >>> mix = cosine_optimal_weight(second_t=1, second_e=1, second_te=0.9, signal_t=1, signal_e=-2)
        >>> float(mix.alpha), bool(mix.ascent), bool(mix.descends)
        (1.0, True, True)
    """
    q, u = _moments(second_t, second_e, second_te, signal_t, signal_e)
    qt, qe, qte, ut, ue = np.broadcast_arrays(*q, *u)
    # In units of root mean squares Q is a correlation matrix, with eigenvalues 1 + r and 1 - r.
    size_t, size_e = (np.where(x > 0, np.sqrt(x), 1.0) for x in (qt, qe))
    vt, ve, r = ut / size_t, ue / size_e, np.clip(qte / size_t / size_e, -1.0, 1.0)
    both = (qt > 0) & (qe > 0)
    singular = ~both | (1 - np.abs(r) <= SINGULAR)
    determinant = np.where(singular, 1.0, (1 - r) * (1 + r))
    # Singular: g_e = sign(r) g_t in these units, or one of them is zero and its signal with it.
    shared = np.where(both, (vt + np.sign(r) * ve) / 4, np.where(qt > 0, vt, 0.0))
    other = np.where(both, np.sign(r) * shared, np.where(qe > 0, ve, 0.0))
    weight_t = np.where(singular, shared, (vt - r * ve) / determinant) / size_t
    weight_e = np.where(singular, other, (ve - r * vt) / determinant) / size_e
    for name, signal, fitted, size in (
        ("signal_t", ut, qt * weight_t + qte * weight_e, size_t),
        ("signal_e", ue, qte * weight_t + qe * weight_e, size_e),
    ):
        if (singular & (np.abs(signal - fitted) > 1e-6 * size * (np.abs(vt) + np.abs(ve)))).any():
            raise ValueError(f"{name} contradicts the second moments: what vanishes almost surely has no signal")
    total = weight_t + weight_e
    ascent = total <= SINGULAR * (np.abs(weight_t) + np.abs(weight_e))
    affine = weight_t / np.where(ascent, 1.0, total)
    at_e, at_t = (_cosine(np.asarray(end), (qt, qe, qte), (ut, ue)) for end in (0.0, 1.0))
    inside = ~ascent & (affine >= 0) & (affine <= 1)
    convex = np.where(inside, affine, np.where(at_t > at_e, 1.0, 0.0))
    alpha = np.where(ascent, convex, affine)
    descends = alpha * ut + (1 - alpha) * ue > 0
    return CosineMix(weight_t, weight_e, alpha, convex, ascent, descends, singular)


def retuned_weights(second_moments: ArrayLike, signals: ArrayLike) -> RetunedWeights:
    """w = Q^{-1} u for J estimators: the combination with the largest cosine to the target, or that a free step wants.

    Proof: minimise -<mu, E g> + (L/2) E|g|^2 over g = (1/L) sum_i w_i g_i, which is (w'Qw/2 - u'w)/L. Scaling g_i by c
    divides w_i by c. A vanishing combination n of the estimators (Q n = 0) has no signal either (u'n = 0), so that
    Q w = u can be solved whatever the rank of Q, and all solutions give the same gradient almost surely.

    Args:
        second_moments: Q_ij = E<g_i, g_j>, [J, J], symmetric and positive semidefinite.
        signals: u_i = <mu, E g_i>, [J].

    Raises:
        ValueError: a shape does not match; an entry is not finite; Q is not symmetric or not positive semidefinite; or
            the signals contradict Q (u not in its range).

    Example:
        >>> found = retuned_weights([[2.0, 0.0], [0.0, 1.0]], [1.0, 0.5])
        >>> found.weights.tolist(), found.affine.tolist(), found.progress
        ([0.5, 0.5], [0.5, 0.5], 0.75)
    """
    q, u = finite(second_moments=second_moments, signals=signals)
    if q.ndim != 2 or q.shape[0] != q.shape[1]:
        raise ValueError(f"second_moments must be square, got shape {q.shape}")
    if u.shape != (len(q),):
        raise ValueError(f"signals must have one entry per estimator, got shape {u.shape} for {len(q)}")
    diagonal = np.diag(q)
    nonnegative(second_moments=diagonal)
    size = np.where(diagonal > 0, np.sqrt(diagonal), 1.0)
    correlation, v = q / size[:, None] / size, u / size
    if (np.abs(correlation - correlation.T) > ROUNDING).any():
        raise ValueError("second_moments must be symmetric")
    values, vectors = np.linalg.eigh((correlation + correlation.T) / 2)
    if values[0] < -ROUNDING:
        raise ValueError(f"second_moments must be positive semidefinite, got a relative eigenvalue {values[0]:.3g}")
    kept = values > SINGULAR * len(q)
    along = vectors[:, kept].T @ v
    rest = v - vectors[:, kept] @ along
    if np.abs(rest).max() > 1e-6 * np.abs(v).max():
        raise ValueError("signals contradict second_moments: what vanishes almost surely has no signal")
    weights = vectors[:, kept] @ (along / values[kept]) / size
    total = float(weights.sum())
    ascent = total <= SINGULAR * float(np.abs(weights).sum())
    return RetunedWeights(
        weights=weights,
        affine=None if ascent else weights / total,
        progress=float(along @ (along / values[kept])),
        ascent=ascent,
        rank=int(kept.sum()),
    )


Pair = tuple[Floats, Floats]
Triple = tuple[Floats, Floats, Floats]


def _moments(
    second_t: ArrayLike, second_e: ArrayLike, second_te: ArrayLike, signal_t: ArrayLike, signal_e: ArrayLike
) -> tuple[Triple, Pair]:
    """(Q_tt, Q_ee, Q_te) and (u_t, u_e), checked."""
    qt, qe = nonnegative(second_t=second_t, second_e=second_e)
    qte, ut, ue = finite(second_te=second_te, signal_t=signal_t, signal_e=signal_e)
    check_cauchy_schwarz(("second_t", qt), ("second_e", qe), ("second_te", qte))
    return (qt, qe, qte), (ut, ue)


def _check_signals(q: Triple, u: Pair, mu_sq: Floats) -> None:
    check_cauchy_schwarz(("second_t", q[0]), ("target_sq", mu_sq), ("signal_t", u[0]))
    check_cauchy_schwarz(("second_e", q[1]), ("target_sq", mu_sq), ("signal_e", u[1]))


def _distance(q: Triple) -> Floats:
    # Cauchy-Schwarz was checked: what is negative here is rounding.
    return np.maximum((q[0] - q[2]) + (q[1] - q[2]), 0.0)


def _cosine(alpha: Floats, q: Triple, u: Pair) -> Floats:
    """|mu| cos(alpha): <mu, E g_c> / sqrt(E|g_c|^2), or 0 where g_c vanishes."""
    square = error_curve(alpha, *q)
    vanishes = is_degenerate(np.maximum(square, 0.0), q[0] + q[1])
    signal = alpha * u[0] + (1 - alpha) * u[1]
    return np.where(vanishes, 0.0, signal / np.sqrt(np.where(vanishes, 1.0, square)))
