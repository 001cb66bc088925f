"""Biased SGD on a convex loss: the floor is linear in the bias, and so is the criterion for the mixing weight.

Setting: f convex and L-smooth with minimiser x*, steps x+ = P(x - eta g) with P the projection on a convex set that
contains x* (or the identity), E g = grad f + b, |b| <= zeta, E|g - E g|^2 <= sigma^2, |x_j - x*| <= R for all j, and
eta <= 1/(2L). xbar is the average of x_0 .. x_{T-1}.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from bvpo_analysis.records import Floats
from bvpo_analysis.theory.arguments import check_at_most, check_cauchy_schwarz, counts, finite, nonnegative, positive
from bvpo_analysis.theory.mixing import error_curve, is_degenerate

BISECTIONS = 60
"""Halvings of [0, 1]: past the last bit of a weight near 1, to 1e-18 near 0."""


def convex_bound(
    *,
    initial_distance: ArrayLike,
    radius: ArrayLike,
    steps: ArrayLike,
    step_size: ArrayLike,
    smoothness: ArrayLike,
    bias_bound: ArrayLike,
    noise_var: ArrayLike,
) -> Floats:
    """E f(xbar) - f* <= |x_0 - x*|^2 / (2 eta T) + zeta R + eta zeta^2 + eta sigma^2 / 2.

    Proof: |x+ - x*|^2 <= |x - x*|^2 - 2 eta <grad f + b, x - x*> + eta^2 (|grad f + b|^2 + sigma^2) in the mean. Use
    <grad f, x - x*> >= f - f* + |grad f|^2/(2L), -<b, x - x*> <= zeta R, |grad f + b|^2 <= 2|grad f|^2 + 2 zeta^2 and
    2 eta L <= 1; sum, divide by 2 eta T, Jensen.

    Args:
        initial_distance: |x_0 - x*|; [..].
        radius: R >= initial_distance; [..].
        steps: T >= 1; [..].
        step_size: eta; [..].
        smoothness: L; [..].
        bias_bound: zeta; [..].
        noise_var: sigma^2; [..].

    Raises:
        ValueError: an argument is not finite or has the wrong sign, steps < 1, step_size > 1 / (2 smoothness), or
            initial_distance > radius.

    Example:
        >>> law = dict(step_size=0.5, smoothness=1.0, bias_bound=0.5, noise_var=1.0)
        >>> float(convex_bound(initial_distance=2.0, radius=2.0, steps=8, **law))
        1.875
    """
    eta, smooth = positive(step_size=step_size, smoothness=smoothness)
    check_at_most(("step_size", eta), ("1 / (2 smoothness)", 1 / (2 * smooth)))
    start, within = nonnegative(initial_distance=initial_distance, radius=radius)
    check_at_most(("initial_distance", start), ("radius", within))
    (t,) = counts(steps=steps)
    floor = convex_floor(radius=radius, step_size=step_size, bias_bound=bias_bound, noise_var=noise_var)
    return start**2 / (2 * eta * t) + floor


def convex_floor(*, radius: ArrayLike, step_size: ArrayLike, bias_bound: ArrayLike, noise_var: ArrayLike) -> Floats:
    """zeta R + eta zeta^2 + eta sigma^2 / 2, the limit of :func:`convex_bound` for many steps.

    Linear in zeta, and that is real: on zeta times the Huber loss a bias b = -grad f freezes the iterates at distance
    R, where the excess loss is zeta (R - delta/2) for Huber width delta.

    Args:
        radius: R; [..].
        step_size: eta; [..].
        bias_bound: zeta; [..].
        noise_var: sigma^2; [..].

    Raises:
        ValueError: an argument is not finite or has the wrong sign.

    Example:
        >>> convex_floor(radius=2.0, step_size=0.1, bias_bound=[0.0, 1.0, 2.0], noise_var=1.0)
        array([0.05, 2.15, 4.45])
    """
    (eta,) = positive(step_size=step_size)
    within, zeta, var = nonnegative(radius=radius, bias_bound=bias_bound, noise_var=noise_var)
    return zeta * within + eta * zeta**2 + eta * var / 2


@dataclass(frozen=True)
class ConvexWeight:
    """The weight in [0, 1] that minimises the floor of the convex bound.

    Attributes:
        alpha: the minimiser; [..].
        value: the floor there; [..].
        gap: ``value`` is at most this far above the minimum over [0, 1], by convexity; rounding apart; [..].
        degenerate: g_t = g_e, so that every weight is optimal and ``alpha`` is 0.5; [..].
    """

    alpha: Floats
    value: Floats
    gap: Floats
    degenerate: np.ndarray


def convex_optimal_weight(
    *,
    bias_t_sq: ArrayLike,
    bias_e_sq: ArrayLike,
    bias_inner: ArrayLike,
    var_t: ArrayLike,
    var_e: ArrayLike,
    cov_te: ArrayLike,
    radius: ArrayLike,
    step_size: ArrayLike,
) -> ConvexWeight:
    """argmin over [0, 1] of |b(alpha)| R + eta (|b(alpha)|^2 + S(alpha)/2), a convex function of alpha.

    b(alpha) = alpha b_t + (1 - alpha) b_e and S(alpha) = Tr Cov(g_c) = Var(alpha g_t + (1 - alpha) g_e): a norm of an
    affine map and two convex quadratics. Its slope is nondecreasing and is bisected to the last bit. With a biased
    endpoint and small steps the first term rules: the bias counts more than in bias^2 + kappa var.

    Args:
        bias_t_sq, bias_e_sq, bias_inner: |b_t|^2, |b_e|^2, <b_t, b_e>; [..].
        var_t, var_e, cov_te: S_t, S_e, S_te; [..].
        radius: R; [..].
        step_size: eta; [..].

    Raises:
        ValueError: an argument is not finite or has the wrong sign, or violates Cauchy-Schwarz.

    Example:
        >>> law = dict(bias_t_sq=0.0, bias_e_sq=1.0, bias_inner=0.0, var_t=4.0, var_e=0.0, cov_te=0.0)
        >>> best = convex_optimal_weight(**law, radius=[0.0, 0.05, 1.0], step_size=0.1)
        >>> best.alpha.round(6)
        array([0.333333, 0.416667, 1.      ])
    """
    bt, be, st, se = nonnegative(bias_t_sq=bias_t_sq, bias_e_sq=bias_e_sq, var_t=var_t, var_e=var_e)
    bi, ste = finite(bias_inner=bias_inner, cov_te=cov_te)
    check_cauchy_schwarz(("bias_t_sq", bt), ("bias_e_sq", be), ("bias_inner", bi))
    check_cauchy_schwarz(("var_t", st), ("var_e", se), ("cov_te", ste))
    (within,), (eta,) = nonnegative(radius=radius), positive(step_size=step_size)
    bt, be, bi, st, se, ste, within, eta = np.broadcast_arrays(bt, be, bi, st, se, ste, within, eta)
    shift_sq = np.maximum((bt - bi) + (be - bi), 0.0)  # |b_e - b_t|^2; below zero by rounding only
    # Where the biases can nearly cancel, |b| comes from the completed square: the expanded one loses half the digits.
    far = shift_sq > 0.01 * (bt + be)
    safe = np.where(far, shift_sq, 1.0)
    centre, smallest_sq = (be - bi) / safe, np.maximum(be - (be - bi) ** 2 / safe, 0.0)

    def bias(alpha: Floats) -> Floats:
        completed = safe * (alpha - centre) ** 2 + smallest_sq
        return np.sqrt(np.where(far, completed, np.maximum(error_curve(alpha, bt, be, bi), 0.0)))

    def objective(alpha: Floats) -> Floats:
        norm = bias(alpha)
        return norm * within + eta * (norm**2 + error_curve(alpha, st, se, ste) / 2)

    def slope(alpha: Floats) -> Floats:
        """The right derivative; at b(alpha) = 0 the norm has a kink."""
        norm = bias(alpha)
        along = np.where(far, safe * (alpha - centre), alpha * (bt - bi) - (1 - alpha) * (be - bi))
        steepest = np.sqrt(shift_sq)
        ratio = np.where(norm > 0, along / np.where(norm > 0, norm, 1.0), steepest)
        spread = alpha * (st - ste) - (1 - alpha) * (se - ste)
        return within * np.clip(ratio, -steepest, steepest) + eta * (2 * along + spread)

    low, high = np.zeros_like(bt), np.ones_like(bt)
    for _ in range(BISECTIONS):
        middle = (low + high) / 2
        rising = slope(middle) >= 0
        low, high = np.where(rising, low, middle), np.where(rising, middle, high)
    candidates = np.stack([np.zeros_like(bt), low, high, np.ones_like(bt)])
    values = np.stack([objective(alpha) for alpha in candidates])
    chosen = np.argmin(values, axis=0)[None]
    best, value = (np.take_along_axis(x, chosen, axis=0)[0] for x in (candidates, values))
    # The minimum lies in [low, high]; the tangent at low bounds it from below there.
    tangent = objective(low) + np.minimum(slope(low), 0.0) * (high - low)
    degenerate = is_degenerate(shift_sq + np.maximum((st - ste) + (se - ste), 0.0), bt + be + st + se)
    return ConvexWeight(
        alpha=np.where(degenerate, 0.5, best),
        value=np.where(degenerate, objective(np.full_like(bt, 0.5)), value),
        gap=np.maximum(value - tangent, 0.0),
        degenerate=degenerate,
    )
