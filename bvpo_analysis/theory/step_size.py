"""Weights when the variance counts kappa times: steps of size eta on an L-smooth loss, kappa = eta L.

The descent lemma with Young's inequality bounds the progress of one step by the bias squared plus kappa times the
variance (paper, Theorem 3), so the weight that matters minimises F_kappa(alpha) = |b_c|^2 + kappa Tr Cov(g_c):

    alpha_kappa = (p0 + kappa p1) / (d0 + kappa d1),
    p0 = <b_e, b_e - b_t>,  d0 = |b_e - b_t|^2,  p1 = S_e - S_te,  d1 = S_t + S_e - 2 S_te,
    F_kappa(alpha) = F_kappa(alpha_kappa) + (d0 + kappa d1) (alpha - alpha_kappa)^2.

Proof: both quadratics are convex mixes as in ``theory.mixing``, with curvatures 2 d0 and 2 d1 and minimisers
alpha_bias = p0/d0 and alpha_var = p1/d1; alpha_kappa is their mean with weights d0 and kappa d1. So it moves
monotonically from alpha_bias (kappa -> 0) to alpha_var (kappa -> infinity), and

    alpha_kappa - alpha* = (1 - kappa) (d1 p0 - d0 p1) / [(d0 + d1) (d0 + kappa d1)],

which vanishes at kappa = 1, and otherwise iff d0 d1 (alpha_bias - alpha_var) = 0: Theorem 4 of the paper, with the
condition that its "only if" needs.

All squared quantities carry the unit of a squared gradient; weights and kappa carry none. The six moments are exact
ones: measured, unbiased squares may be negative, and go through ``optimal_weight_from_distance`` instead.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from bvpo_analysis.records import Floats
from bvpo_analysis.theory.arguments import check_cauchy_schwarz, counts, finite, nonnegative, positive, whole_counts
from bvpo_analysis.theory.mixing import error_curve, is_degenerate, optimal_weight_from_distance


@dataclass(frozen=True)
class WeightPath:
    """alpha_kappa as kappa runs over (0, infinity); arrays of the broadcast shape [..].

    Attributes:
        bias_end: limit as kappa -> 0. It is alpha_bias = p0/d0 where d0 > 0; where b_t = b_e it is alpha_var, since
            then alpha_kappa = alpha_var for every kappa > 0.
        variance_end: limit as kappa -> infinity: alpha_var = p1/d1, or alpha_bias where g_t - g_e has no variance.
        bias_distance: d0 = |b_e - b_t|^2.
        variance_distance: d1 = Tr Var(g_t - g_e).
        direction: sign of bias_end - variance_end: 1 if smaller steps want more of g_t, -1 if less, 0 if the weight
            is the same for every kappa.
        degenerate: g_t = g_e almost surely; both ends are then 0.5 by convention.
    """

    bias_end: Floats
    variance_end: Floats
    bias_distance: Floats
    variance_distance: Floats
    direction: Floats
    degenerate: np.ndarray


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

    Raises:
        ValueError: an argument is not finite; a square, a variance or kappa is negative; or an inner product violates
            Cauchy-Schwarz.

    Example:
        >>> law = dict(bias_t_sq=0.0, bias_e_sq=1.0, bias_inner=0.0, var_t=4.0, var_e=0.0, cov_te=0.0)
        >>> float(weighted_error_curve(0.5, **law, kappa=1.0))
        1.25
    """
    (alpha,) = finite(alpha=alpha)
    (kappa,) = nonnegative(kappa=kappa)
    bt, be, bi = _biases(bias_t_sq, bias_e_sq, bias_inner)
    st, se, ste = _variances(var_t, var_e, cov_te)
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

    Returns:
        The minimiser of :func:`weighted_error_curve`; 0.5 where that curve is flat (d0 + kappa d1 = 0).

    Raises:
        ValueError: as in :func:`weighted_error_curve`.

    Example:
        >>> law = dict(bias_t_sq=0.0, bias_e_sq=1.0, bias_inner=0.0, var_t=4.0, var_e=0.0, cov_te=0.0)
        >>> [round(float(weighted_optimal_weight(**law, kappa=k)), 12) for k in (1.0, 0.25)]
        [0.2, 0.5]
    """
    (kappa,) = nonnegative(kappa=kappa)
    bt, be, bi = _biases(bias_t_sq, bias_e_sq, bias_inner)
    st, se, ste = _variances(var_t, var_e, cov_te)
    distance = _distance(bt, be, bi) + kappa * _distance(st, se, ste)
    numerator = (bt - bi) + kappa * (st - ste)
    return optimal_weight_from_distance(numerator, distance, bt + be + kappa * (st + se))


def bias_optimal_weight(*, bias_t_sq: ArrayLike, bias_e_sq: ArrayLike, bias_inner: ArrayLike) -> Floats:
    """alpha_bias = <b_e, b_e - b_t> / |b_e - b_t|^2, the weight of the smallest bias: what ever smaller steps want.

    It is 1 if b_t = 0: vanishing steps do not mix. Where b_t = b_e every weight has the same bias and 0.5 is returned;
    the limit of alpha_kappa is then alpha_var (see :func:`weight_path`).

    Raises:
        ValueError: a square is negative or not finite, or the inner product violates Cauchy-Schwarz.

    Example:
        >>> float(bias_optimal_weight(bias_t_sq=0.0, bias_e_sq=4.0, bias_inner=0.0))
        1.0
    """
    bt, be, bi = _biases(bias_t_sq, bias_e_sq, bias_inner)
    return optimal_weight_from_distance(bt - bi, _distance(bt, be, bi), bt + be)


def variance_optimal_weight(*, var_t: ArrayLike, var_e: ArrayLike, cov_te: ArrayLike) -> Floats:
    """alpha_var = (S_e - S_te) / (S_t + S_e - 2 S_te), the weight of the smallest variance.

    It is 0 conditional on the data, where g_e is fixed. Where g_t - g_e has no variance every weight is as good and
    0.5 is returned; alpha_kappa is then alpha_bias for every kappa (see :func:`weight_path`).

    Raises:
        ValueError: a variance is negative or not finite, or the covariance violates Cauchy-Schwarz.

    Example:
        >>> float(variance_optimal_weight(var_t=3.0, var_e=1.0, cov_te=0.0))
        0.25
    """
    st, se, ste = _variances(var_t, var_e, cov_te)
    return optimal_weight_from_distance(st - ste, _distance(st, se, ste), st + se)


def weight_path(
    *,
    bias_t_sq: ArrayLike,
    bias_e_sq: ArrayLike,
    bias_inner: ArrayLike,
    var_t: ArrayLike,
    var_e: ArrayLike,
    cov_te: ArrayLike,
) -> WeightPath:
    """Both ends of alpha_kappa, their weights d0 and d1, and the direction in which smaller steps move it.

    Raises:
        ValueError: as in :func:`weighted_error_curve`.

    Example:
        >>> path = weight_path(bias_t_sq=0, bias_e_sq=1, bias_inner=0, var_t=4, var_e=0, cov_te=0)
        >>> float(path.bias_end), float(path.variance_end), float(path.direction)
        (1.0, 0.0, 1.0)
    """
    bias = np.broadcast_arrays(*_biases(bias_t_sq, bias_e_sq, bias_inner))
    variance = np.broadcast_arrays(*_variances(var_t, var_e, cov_te))
    bt, be, bi, st, se, ste = np.broadcast_arrays(*bias, *variance)
    d0, d1 = _distance(bt, be, bi), _distance(st, se, ste)
    no_bias, no_variance = is_degenerate(d0, bt + be), is_degenerate(d1, st + se)
    at_bias = optimal_weight_from_distance(bt - bi, d0, bt + be)
    at_variance = optimal_weight_from_distance(st - ste, d1, st + se)
    bias_end = np.where(no_bias, at_variance, at_bias)
    variance_end = np.where(no_variance, at_bias, at_variance)
    return WeightPath(bias_end, variance_end, d0, d1, np.sign(bias_end - variance_end), no_bias & no_variance)


def weight_shift(
    *,
    bias_t_sq: ArrayLike,
    bias_e_sq: ArrayLike,
    bias_inner: ArrayLike,
    var_t: ArrayLike,
    var_e: ArrayLike,
    cov_te: ArrayLike,
    kappa: ArrayLike,
) -> Floats:
    """alpha_kappa - alpha* = (1 - kappa) (d1 p0 - d0 p1) / [(d0 + d1) (d0 + kappa d1)].

    Proof: subtract the two fractions. It is 0 iff kappa = 1 or d0 d1 (alpha_bias - alpha_var) = 0, which is what
    Theorem 4 of the paper says once its exception is written out. 0 where d0 + kappa d1 = 0.

    Raises:
        ValueError: as in :func:`weighted_error_curve`.

    Example:
        >>> law = dict(bias_t_sq=0.0, bias_e_sq=1.0, bias_inner=0.0, var_t=1.0, var_e=0.0, cov_te=0.0)
        >>> round(float(weight_shift(**law, kappa=0.25)), 12)  # 0.8 - 0.5
        0.3
    """
    shift, _ = _shift_and_curvature(bias_t_sq, bias_e_sq, bias_inner, var_t, var_e, cov_te, kappa)
    return shift


def step_size_regret(
    *,
    bias_t_sq: ArrayLike,
    bias_e_sq: ArrayLike,
    bias_inner: ArrayLike,
    var_t: ArrayLike,
    var_e: ArrayLike,
    cov_te: ArrayLike,
    kappa: ArrayLike,
) -> Floats:
    """F_kappa(alpha*) - F_kappa(alpha_kappa): what the MSE-optimal weight costs when variance counts kappa times.

        regret = d0^2 d1^2 (1 - kappa)^2 (alpha_var - alpha_bias)^2 / [(d0 + d1)^2 (d0 + kappa d1)].

    Proof: the curvature d0 + kappa d1 times the square of :func:`weight_shift`. The form with p0 and p1 in place of
    d0 alpha_bias and d1 alpha_var has no division by d0 or d1.

    Returns:
        [..], in the unit of a squared gradient; 0 where d0 + kappa d1 = 0.

    Raises:
        ValueError: as in :func:`weighted_error_curve`.

    Example:
        >>> law = dict(bias_t_sq=0.0, bias_e_sq=1.0, bias_inner=0.0, var_t=1.0, var_e=0.0, cov_te=0.0)
        >>> round(float(step_size_regret(**law, kappa=0.25)), 12)  # 0.3125 - 0.2
        0.1125
    """
    shift, curvature = _shift_and_curvature(bias_t_sq, bias_e_sq, bias_inner, var_t, var_e, cov_te, kappa)
    return curvature * shift**2


def step_size_regret_factor(kappa: ArrayLike) -> Floats:
    """(1 + kappa)^2 / (4 kappa): F_kappa(alpha*) is at most this many times F_kappa(alpha_kappa); the factor is sharp.

    It holds for any number of estimators and any convex set of weights (clipped, simplex) over which both weights are
    optimal, and is symmetric in kappa and 1/kappa.

    Proof: F_1 = |x|^2 and F_kappa = <x, M x> with x affine in the weights and M with eigenvalues 1 and kappa. On the
    line through both optima let y and z minimise F_1 and F_kappa. Then y is orthogonal to its direction d, and
    F_kappa(y) / F_kappa(z) = 1 / (1 - cos_M^2(d, y)) with |cos_M| <= |1 - kappa|/(1 + kappa) by Wielandt's inequality
    (Horn & Johnson, Matrix Analysis, section 7.4). Optima over a convex set lie between y and z, in this order, where
    F_kappa decreases: their ratio is no larger. Attained at S_e = S_te = 0, S_t = |b_e - b_t|^2 with b_t and b_e on a
    line through 0 (such as b_t = 0): the gap is then a multiple of (S_t - |b_e - b_t|^2)^2.

    Raises:
        ValueError: kappa is not positive.

    Example:
        >>> [round(float(step_size_regret_factor(k)), 12) for k in (1.0, 0.5, 0.1, 0.01)]
        [1.0, 1.125, 3.025, 25.5025]
    """
    (kappa,) = positive(kappa=kappa)
    return (1 + kappa) / 2 * ((1 + kappa) / (2 * kappa))


def cosine_step_sizes(peak: float, steps: int, *, floor: float = 0.0) -> Floats:
    """eta_t = floor + (peak - floor) (1 + cos(pi t / T)) / 2 for t = 0 .. T: cosine decay, both ends included.

    Args:
        peak: first step size, positive.
        steps: T, at least 1.
        floor: last step size, in [0, peak].

    Returns:
        [T + 1] step sizes, in the unit of ``peak``.

    Raises:
        ValueError: an argument is out of range.

    Example:
        >>> [round(x, 12) for x in cosine_step_sizes(1.0, 2).tolist()]
        [1.0, 0.5, 0.0]
    """
    positive(peak=peak)
    whole_counts(steps=steps)
    nonnegative(floor=floor)
    if floor > peak:
        raise ValueError(f"floor must not exceed peak, got floor {floor} and peak {peak}")
    # cos^2 of the half angle: 1 + cos loses its digits towards the end, where the schedule is small.
    share = np.cos(np.pi / 2 * np.arange(int(steps) + 1) / steps) ** 2
    share[-1] = 0.0
    return floor + (peak - floor) * share


def scheduled_weights(
    step_sizes: ArrayLike,
    smoothness: ArrayLike,
    *,
    bias_t_sq: ArrayLike,
    bias_e_sq: ArrayLike,
    bias_inner: ArrayLike,
    var_t: ArrayLike,
    var_e: ArrayLike,
    cov_te: ArrayLike,
) -> Floats:
    """alpha_t = (p0 + kappa_t p1) / (d0 + kappa_t d1) with kappa_t = eta_t L: the weight that follows a schedule.

    By the monotonicity of alpha_kappa a decreasing schedule moves it monotonically towards alpha_bias, upwards iff
    alpha_bias > alpha_var. Where eta_t = 0 it is the limit ``weight_path(...).bias_end``.

    Args:
        step_sizes: eta_t >= 0, [T].
        smoothness: L > 0, in the inverse unit of the step sizes.
        bias_t_sq, bias_e_sq, bias_inner, var_t, var_e, cov_te: the moments, taken constant along the run, or [T].

    Returns:
        [T], unclipped.

    Raises:
        ValueError: a step size exceeds 1/L, where the descent lemma behind the weight does not apply; or as in
            :func:`weighted_error_curve`.

    Example:
        >>> law = dict(bias_t_sq=0.0, bias_e_sq=1.0, bias_inner=0.0, var_t=1.0, var_e=0.0, cov_te=0.0)
        >>> [round(x, 12) for x in scheduled_weights([2.0, 0.5, 0.0], 0.5, **law).tolist()]
        [0.5, 0.8, 1.0]
    """
    (eta,) = nonnegative(step_sizes=step_sizes)
    (smooth,) = positive(smoothness=smoothness)
    kappa = eta * smooth
    if (kappa > 1 + 1e-12).any():  # eta = 1/L in floating point may give 1 + 2^-52
        raise ValueError(f"step_sizes must not exceed 1/smoothness, got kappa = {kappa.max()}")
    law = {
        "bias_t_sq": bias_t_sq,
        "bias_e_sq": bias_e_sq,
        "bias_inner": bias_inner,
        "var_t": var_t,
        "var_e": var_e,
        "cov_te": cov_te,
    }
    return np.where(kappa == 0, weight_path(**law).bias_end, weighted_optimal_weight(**law, kappa=kappa))


def horizon_kappa(steps: ArrayLike, *, initial_gap: ArrayLike, smoothness: ArrayLike, noise_var: ArrayLike) -> Floats:
    """kappa_T = min(1, sqrt(2 Delta L / (T sigma^2))): the constant step that minimises Theorem 3's bound at T steps.

    Proof: 2 Delta L/(kappa T) + zeta^2 + kappa sigma^2 is convex in kappa, its slope vanishes at the square root, and
    the bound needs kappa <= 1. Without noise_var the largest step is best, kappa_T = 1.

    Args:
        steps: T >= 1.
        initial_gap: Delta = f(x_0) - f* > 0.
        smoothness: L > 0.
        noise_var: sigma^2 >= 0, of the gradient used.

    Raises:
        ValueError: an argument is out of range.

    Example:
        >>> [round(x, 12) for x in horizon_kappa([1, 100], initial_gap=1.0, smoothness=2.0, noise_var=1.0).tolist()]
        [1.0, 0.2]
    """
    (steps,) = counts(steps=steps)
    ends = unit_kappa_horizon(initial_gap=initial_gap, smoothness=smoothness, noise_var=noise_var)
    return np.sqrt(np.minimum(1.0, ends / steps))


def unit_kappa_horizon(*, initial_gap: ArrayLike, smoothness: ArrayLike, noise_var: ArrayLike) -> Floats:
    """2 Delta L / sigma^2: the number of steps up to which the tuned constant step is eta = 1/L.

    Only up to here is kappa = 1, where by Theorem 4 of the paper the MSE-optimal weight is the one to use: low noise
    and short runs. Infinite without noise_var.

    Raises:
        ValueError: an argument is out of range (see :func:`horizon_kappa`).

    Example:
        >>> float(unit_kappa_horizon(initial_gap=1.0, smoothness=2.0, noise_var=0.5))
        8.0
    """
    delta, smooth = positive(initial_gap=initial_gap, smoothness=smoothness)
    (sigma_sq,) = nonnegative(noise_var=noise_var)
    noiseless = sigma_sq == 0
    return np.where(noiseless, np.inf, 2 * delta * smooth / np.where(noiseless, 1.0, sigma_sq))


def _biases(bias_t_sq: ArrayLike, bias_e_sq: ArrayLike, bias_inner: ArrayLike) -> tuple[Floats, Floats, Floats]:
    bt, be = nonnegative(bias_t_sq=bias_t_sq, bias_e_sq=bias_e_sq)
    (bi,) = finite(bias_inner=bias_inner)
    check_cauchy_schwarz(("bias_t_sq", bt), ("bias_e_sq", be), ("bias_inner", bi))
    return bt, be, bi


def _variances(var_t: ArrayLike, var_e: ArrayLike, cov_te: ArrayLike) -> tuple[Floats, Floats, Floats]:
    st, se = nonnegative(var_t=var_t, var_e=var_e)
    (ste,) = finite(cov_te=cov_te)
    check_cauchy_schwarz(("var_t", st), ("var_e", se), ("cov_te", ste))
    return st, se, ste


def _distance(first_sq: Floats, second_sq: Floats, inner: Floats) -> Floats:
    # Cauchy-Schwarz was checked: what is negative here is rounding.
    return np.maximum((first_sq - inner) + (second_sq - inner), 0.0)


def _shift_and_curvature(
    bias_t_sq: ArrayLike,
    bias_e_sq: ArrayLike,
    bias_inner: ArrayLike,
    var_t: ArrayLike,
    var_e: ArrayLike,
    cov_te: ArrayLike,
    kappa: ArrayLike,
) -> tuple[Floats, Floats]:
    """(alpha_kappa - alpha*, d0 + kappa d1)."""
    (k,) = nonnegative(kappa=kappa)
    bt, be, bi = _biases(bias_t_sq, bias_e_sq, bias_inner)
    st, se, ste = _variances(var_t, var_e, cov_te)
    d0, d1 = _distance(bt, be, bi), _distance(st, se, ste)
    curvature = d0 + k * d1
    flat = is_degenerate(curvature, bt + be + k * (st + se))
    # Shares in [0, 1] before products: d0 p1 alone may overflow.
    whole = np.where(flat, 1.0, d0 + d1)
    top = (1 - k) * ((d1 / whole) * (be - bi) - (d0 / whole) * (se - ste))
    return np.where(flat, 0.0, top / np.where(flat, 1.0, curvature)), curvature
