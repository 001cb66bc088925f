"""Biased SGD on a smooth, not necessarily convex loss (paper, Theorem 3): upper bounds, and how sharp they are.

Setting of every function here. The steps are x+ = x - eta g on an L-smooth loss f that is bounded below by f*, and
given x, E g = grad f(x) + b(x) with |b(x)| <= zeta and E|g - E g|^2 <= sigma^2. Write kappa = eta L <= 1,
Delta = f(x_0) - f*, and avg for the average over j < T of E|grad f(x_j)|^2.

The bias may depend on x and be chosen by an adversary. zeta is a norm, in units of the gradient; sigma^2 is a squared
norm, Tr Cov of the whole gradient.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from bvpo_analysis.records import Floats
from bvpo_analysis.theory.arguments import ROUNDING, check_at_most, counts, finite, nonnegative, positive, unit_interval


def one_step_bound(
    *,
    gradient_sq: ArrayLike,
    step_size: ArrayLike,
    smoothness: ArrayLike,
    bias_bound: ArrayLike,
    noise_var: ArrayLike,
    mean_step_sq: ArrayLike = 0.0,
) -> Floats:
    """Upper bound on E f(x+) - f(x), the change of the loss in one step.

        -(eta/2)|grad f|^2 - (eta/2)(1 - kappa)|grad f + b|^2 + (eta/2) zeta^2 + (L eta^2/2) sigma^2.

    Proof: smoothness gives E f(x+) <= f - eta<u, v> + (L eta^2/2)(|v|^2 + sigma^2) with u = grad f and v = u + b; put
    -<u, v> = (|b|^2 - |u|^2 - |v|^2)/2. With the default ``mean_step_sq = 0`` it is the inequality of the paper's
    proof. That form cannot be improved: E f(x+) - f + (eta/2)|grad f|^2 attains (eta/2) zeta^2 + (L eta^2/2) sigma^2
    for every kappa <= 1, where f has curvature L and b = -grad f, |b| = zeta.

    Args:
        gradient_sq: |grad f(x)|^2; [..].
        step_size: eta; [..].
        smoothness: L; [..].
        bias_bound: zeta; [..].
        noise_var: sigma^2; [..].
        mean_step_sq: |grad f(x) + b|^2, or 0 to leave the term out; [..].

    Raises:
        ValueError: an argument is not finite or has the wrong sign, or step_size > 1 / smoothness.

    Example:
        >>> float(one_step_bound(gradient_sq=4.0, step_size=0.5, smoothness=1.0, bias_bound=1.0, noise_var=2.0))
        -0.5
    """
    eta, kappa = _step(step_size, smoothness)
    u, zeta, var, v = nonnegative(
        gradient_sq=gradient_sq, bias_bound=bias_bound, noise_var=noise_var, mean_step_sq=mean_step_sq
    )
    return eta / 2 * (zeta**2 + kappa * var - u - (1 - kappa) * v)


def classical_bound(
    *,
    initial_gap: ArrayLike,
    steps: ArrayLike,
    step_size: ArrayLike,
    smoothness: ArrayLike,
    bias_bound: ArrayLike,
    noise_var: ArrayLike,
) -> Floats:
    """avg <= 2 Delta / (eta T) + zeta^2 + kappa sigma^2 (paper, Theorem 3).

    Proof: sum :func:`one_step_bound` over T steps; the losses telescope and f(x_0) - E f(x_T) <= Delta.

    Args:
        initial_gap: Delta = f(x_0) - f*; [..].
        steps: T >= 1; [..].
        step_size: eta; [..].
        smoothness: L; [..].
        bias_bound: zeta; [..].
        noise_var: sigma^2; [..].

    Raises:
        ValueError: an argument is not finite or has the wrong sign, steps < 1, or step_size > 1 / smoothness.

    Example:
        >>> law = dict(step_size=0.5, smoothness=1.0, bias_bound=1.0, noise_var=2.0)
        >>> float(classical_bound(initial_gap=1.0, steps=4, **law))
        3.0
    """
    eta, kappa = _step(step_size, smoothness)
    gap, zeta, var = nonnegative(initial_gap=initial_gap, bias_bound=bias_bound, noise_var=noise_var)
    (t,) = counts(steps=steps)
    return 2 * gap / (eta * t) + zeta**2 + kappa * var


def improved_bound(
    *,
    initial_gap: ArrayLike,
    steps: ArrayLike,
    step_size: ArrayLike,
    smoothness: ArrayLike,
    bias_bound: ArrayLike,
    noise_var: ArrayLike,
) -> Floats:
    """avg <= 2 Delta / (eta T) + (1 - 1/T)(zeta^2 + kappa sigma^2), never above :func:`classical_bound`.

    Proof: use :func:`one_step_bound` for the first T - 1 steps only, and for the last gradient
    |grad f(x_{T-1})|^2 <= 2L (f(x_{T-1}) - f*) <= (2/eta)(f(x_{T-1}) - f*). Attained at kappa = 1 by f = (L/2)|x|^2
    with a constant bias. It need not decrease in T when 2 Delta / eta is below the floor.

    Args:
        initial_gap: Delta = f(x_0) - f*; [..].
        steps: T >= 1; [..].
        step_size: eta; [..].
        smoothness: L; [..].
        bias_bound: zeta; [..].
        noise_var: sigma^2; [..].

    Raises:
        ValueError: an argument is not finite or has the wrong sign, steps < 1, or step_size > 1 / smoothness.

    Example:
        >>> law = dict(step_size=0.5, smoothness=1.0, bias_bound=1.0, noise_var=2.0)
        >>> float(improved_bound(initial_gap=1.0, steps=4, **law))
        2.5
    """
    eta, kappa = _step(step_size, smoothness)
    gap, zeta, var = nonnegative(initial_gap=initial_gap, bias_bound=bias_bound, noise_var=noise_var)
    (t,) = counts(steps=steps)
    return 2 * gap / (eta * t) + (t - 1) / t * (zeta**2 + kappa * var)


def telescoped_bound(
    *,
    decrease: ArrayLike,
    steps: ArrayLike,
    step_size: ArrayLike,
    smoothness: ArrayLike,
    bias_bound: ArrayLike,
    noise_var: ArrayLike,
) -> Floats:
    """avg <= 2 (f(x_0) - E f(x_T)) / (eta T) + zeta^2 + kappa sigma^2, from the decrease that was observed.

    Needs no lower bound of f. Neither it nor :func:`improved_bound` implies the other. Proof: sum
    :func:`one_step_bound`.

    Args:
        decrease: f(x_0) - E f(x_T); may be negative; [..].
        steps: T >= 1; [..].
        step_size: eta; [..].
        smoothness: L; [..].
        bias_bound: zeta; [..].
        noise_var: sigma^2; [..].

    Raises:
        ValueError: an argument is not finite or has the wrong sign, steps < 1, step_size > 1 / smoothness, or the
            loss rose by more than biases and noises of that size can make it rise (the bound would be negative).

    Example:
        >>> law = dict(step_size=0.5, smoothness=1.0, bias_bound=1.0, noise_var=2.0)
        >>> float(telescoped_bound(decrease=-1.0, steps=4, **law))
        1.0
    """
    eta, kappa = _step(step_size, smoothness)
    (drop,) = finite(decrease=decrease)
    zeta, var = nonnegative(bias_bound=bias_bound, noise_var=noise_var)
    (t,) = counts(steps=steps)
    return _attainable(2 * drop / (eta * t), zeta**2 + kappa * var)


def varying_steps_bound(
    *,
    initial_gap: ArrayLike,
    step_sizes: ArrayLike,
    smoothness: ArrayLike,
    bias_bounds: ArrayLike,
    noise_vars: ArrayLike,
) -> Floats:
    """The eta-weighted average sum_j eta_j E|grad f(x_j)|^2 / sum_j eta_j, when everything may vary with j.

        [2 Delta + sum_j eta_j zeta_j^2 + L sum_j eta_j^2 sigma_j^2] / sum_j eta_j.

    Decreasing steps remove the noise, never the bias: the weights of zeta_j^2 sum to one. Proof: sum
    :func:`one_step_bound` with eta_j, zeta_j, sigma_j.

    Args:
        initial_gap: Delta = f(x_0) - f*; [..].
        step_sizes: eta_j; [.., T].
        smoothness: L; [..].
        bias_bounds: zeta_j; [.., T] or a single number.
        noise_vars: sigma_j^2; [.., T] or a single number.

    Raises:
        ValueError: an argument is not finite or has the wrong sign, some step_sizes > 1 / smoothness, or bias_bounds
            or noise_vars have another number of steps.

    Example:
        >>> steps = [1.0, 0.5, 0.5]
        >>> float(varying_steps_bound(initial_gap=1.0, step_sizes=steps, smoothness=1.0, bias_bounds=1, noise_vars=2))
        3.5
    """
    etas, smooth = positive(step_sizes=step_sizes, smoothness=smoothness)
    gap, zetas, variances = nonnegative(initial_gap=initial_gap, bias_bounds=bias_bounds, noise_vars=noise_vars)
    if etas.ndim == 0:
        raise ValueError("step_sizes must have an axis of steps")
    for name, array in (("bias_bounds", zetas), ("noise_vars", variances)):
        if array.ndim and array.shape[-1] != etas.shape[-1]:
            raise ValueError(f"{name} must have one number per step, {etas.shape[-1]}, got {array.shape[-1]}")
    check_at_most(("step_sizes", etas), ("1 / smoothness", 1 / smooth[..., None]))
    bias, noise = (etas * zetas**2).sum(axis=-1), (etas**2 * variances).sum(axis=-1)
    return (2 * gap + bias + smooth * noise) / etas.sum(axis=-1)


def sharp_bound(
    *,
    decrease: ArrayLike,
    steps: ArrayLike,
    step_size: ArrayLike,
    smoothness: ArrayLike,
    bias_bound: ArrayLike,
    noise_var: ArrayLike,
) -> Floats:
    """The telescoped bound without Young's inequality; exact for one step. With R = (f(x_0) - E f(x_T)) / (eta T),

        avg <= G^2,   G = {(1 - kappa) zeta + sqrt[(1 - kappa)^2 zeta^2
                           + 4 (1 - kappa/2)(R + kappa (zeta^2 + sigma^2)/2)]} / (2 - kappa).

    Proof: E f(x+) <= f - eta (1 - kappa/2)|u|^2 - eta (1 - kappa)<u, b> + (eta kappa/2)(|b|^2 + sigma^2), u = grad f,
    from smoothness. Bound -<u, b> by zeta|u|, average, use that the average of |u| is at most the root of avg
    (Jensen), and solve the quadratic in that root. Equality for T = 1: f = (L/2) x^2, b = -zeta sign(x). A Delta in
    place of the decrease keeps it valid. Never above :func:`telescoped_bound`, equal to it at kappa = 1.

    Args:
        decrease: f(x_0) - E f(x_T), or an upper bound on it; may be negative; [..].
        steps: T >= 1; [..].
        step_size: eta; [..].
        smoothness: L; [..].
        bias_bound: zeta; [..].
        noise_var: sigma^2; [..].

    Raises:
        ValueError: an argument is not finite or has the wrong sign, steps < 1, step_size > 1 / smoothness, or the
            loss rose by more than biases and noises of that size can make it rise (no real root).

    Example:
        >>> law = dict(step_size=0.5, smoothness=1.0, bias_bound=1.0, noise_var=2.0)
        >>> round(float(sharp_bound(decrease=1.0, steps=4, **law)), 12)
        2.777777777778
    """
    eta, kappa = _step(step_size, smoothness)
    (drop,) = finite(decrease=decrease)
    zeta, var = nonnegative(bias_bound=bias_bound, noise_var=noise_var)
    (t,) = counts(steps=steps)
    # (1 - kappa)^2 + kappa (2 - kappa) = 1 merges the two terms in zeta^2.
    square = _attainable(2 * (2 - kappa) * drop / (eta * t), zeta**2 + kappa * (2 - kappa) * var)
    return (((1 - kappa) * zeta + np.sqrt(square)) / (2 - kappa)) ** 2


@dataclass(frozen=True)
class StationarityFloor:
    """What biased SGD with a constant step leaves of the squared gradient norm after many steps, in the worst case.

    Attributes:
        floor: Phi, the floor that the sharp bound gives; [..].
        lower: zeta^2 + kappa/(2 - kappa) sigma^2, the floor where the bias is constant; [..].
        upper: zeta^2 + kappa sigma^2, the floor of the paper's Theorem 3; [..].
    """

    floor: Floats
    lower: Floats
    upper: Floats


def stationarity_floor(*, kappa: ArrayLike, bias_bound: ArrayLike, noise_var: ArrayLike) -> StationarityFloor:
    """Phi, the limit of :func:`sharp_bound` for many steps, between the floors of a constant and of any bias.

        Phi = [((1 - kappa) zeta + y) / (2 - kappa)]^2,     y = sqrt(zeta^2 + kappa (2 - kappa) sigma^2),
        zeta^2 + kappa/(2 - kappa) sigma^2  <=  Phi  <=  zeta^2 + kappa sigma^2.

    Proof: the gaps are 2 (1 - kappa) zeta (y - zeta)/(2 - kappa)^2 and (1 - kappa)(y - zeta)^2/(2 - kappa)^2. So the
    weight of the noise is kappa/(2 - kappa) at zeta = 0, and kappa where sigma is small beside zeta.

    Args:
        kappa: eta L in (0, 1]; [..].
        bias_bound: zeta; [..].
        noise_var: sigma^2; [..].

    Raises:
        ValueError: an argument is not finite or negative, or kappa is outside (0, 1].

    Example:
        >>> result = stationarity_floor(kappa=0.5, bias_bound=1.0, noise_var=4.0)
        >>> [round(float(x), 6) for x in (result.lower, result.floor, result.upper)]
        [2.333333, 2.777778, 3.0]
    """
    (k,) = unit_interval(kappa=kappa)
    zeta, var = nonnegative(bias_bound=bias_bound, noise_var=noise_var)
    root = np.sqrt(zeta**2 + k * (2 - k) * var)
    return StationarityFloor(
        floor=(((1 - k) * zeta + root) / (2 - k)) ** 2,
        lower=zeta**2 + k / (2 - k) * var,
        upper=zeta**2 + k * var,
    )


def _step(step_size: ArrayLike, smoothness: ArrayLike) -> tuple[Floats, Floats]:
    """eta and kappa = eta L <= 1."""
    eta, smooth = positive(step_size=step_size, smoothness=smoothness)
    check_at_most(("step_size", eta), ("1 / smoothness", 1 / smooth))
    return eta, np.minimum(eta * smooth, 1.0)  # above one by rounding only


def _attainable(rate: Floats, floor: Floats) -> Floats:
    """rate + floor, which no run can make negative; rounding may."""
    total = rate + floor
    if (total < -ROUNDING * (np.abs(rate) + floor)).any():
        raise ValueError("decrease is more negative than this bias, noise and step size allow")
    return np.maximum(total, 0.0)
