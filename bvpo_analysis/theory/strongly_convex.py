"""Biased SGD under the Polyak-Lojasiewicz condition or strong convexity: the bias floor in the excess loss.

Setting as in ``nonconvex``: x+ = x - eta g, E g = grad f + b, |b| <= zeta, E|g - E g|^2 <= sigma^2, f is L-smooth,
kappa = eta L <= 1. In addition |grad f(x)|^2 >= 2 m (f(x) - f*) (PL with constant m <= L), which m-strong convexity
implies. F_j = f(x_j) - f*.
"""

import numpy as np
from numpy.typing import ArrayLike

from bvpo_analysis.records import Floats
from bvpo_analysis.theory.arguments import check_at_most, counts, nonnegative, positive, whole_counts


def pl_bound(
    *,
    initial_gap: ArrayLike,
    steps: ArrayLike,
    step_size: ArrayLike,
    smoothness: ArrayLike,
    pl_constant: ArrayLike,
    bias_bound: ArrayLike,
    noise_var: ArrayLike,
) -> Floats:
    """E F_T <= (1 - eta m)^T F_0 + [1 - (1 - eta m)^T] (zeta^2 + kappa sigma^2) / (2m).

    Proof: the one-step inequality E F+ <= F - (eta/2)|grad f|^2 + (eta/2)(zeta^2 + kappa sigma^2) with PL gives
    E F+ <= (1 - eta m) F + (eta/2)(zeta^2 + kappa sigma^2); iterate.

    Args:
        initial_gap: F_0; [..].
        steps: T >= 0; [..].
        step_size: eta; [..].
        smoothness: L; [..].
        pl_constant: m; [..].
        bias_bound: zeta; [..].
        noise_var: sigma^2; [..].

    Raises:
        ValueError: an argument is not finite or has the wrong sign, step_size > 1 / smoothness, or
            pl_constant > smoothness.

    Example:
        >>> law = dict(step_size=1.0, smoothness=1.0, pl_constant=0.5, bias_bound=1.0, noise_var=1.0)
        >>> pl_bound(initial_gap=6.0, steps=[0, 1, 2], **law)
        array([6., 4., 3.])
    """
    eta, _, m = _curvatures(step_size, smoothness, pl_constant)
    gap, t = nonnegative(initial_gap=initial_gap, steps=steps)
    floor = pl_floor(
        step_size=step_size,
        smoothness=smoothness,
        pl_constant=pl_constant,
        bias_bound=bias_bound,
        noise_var=noise_var,
    )
    remaining, forgotten = _geometric(eta * m, t)
    return remaining * gap + forgotten * floor


def pl_floor(
    *,
    step_size: ArrayLike,
    smoothness: ArrayLike,
    pl_constant: ArrayLike,
    bias_bound: ArrayLike,
    noise_var: ArrayLike,
) -> Floats:
    """(zeta^2 + kappa sigma^2) / (2m), the limit of :func:`pl_bound`; its bias part zeta^2/(2m) is attained.

    By f = (m/2) x^2 with a constant bias: the iterates converge to -b/m.

    Raises:
        ValueError: as :func:`pl_bound`.

    Example:
        >>> float(pl_floor(step_size=1.0, smoothness=1.0, pl_constant=0.5, bias_bound=1.0, noise_var=1.0))
        2.0
    """
    eta, smooth, m = _curvatures(step_size, smoothness, pl_constant)
    zeta, var = nonnegative(bias_bound=bias_bound, noise_var=noise_var)
    return (zeta**2 + eta * smooth * var) / (2 * m)


def pl_decreasing_steps(*, steps: int, smoothness: ArrayLike, pl_constant: ArrayLike, offset: ArrayLike) -> Floats:
    """eta_j = 2 / (m (j + g)) for j < T, the steps of :func:`pl_decreasing_bound`; [.., T].

    Args:
        steps: T >= 1.
        smoothness: L; [..].
        pl_constant: m; [..].
        offset: g >= 2L/m, so that eta_0 <= 1/L; [..].

    Raises:
        ValueError: an argument is not finite or not positive, steps is no whole number, pl_constant > smoothness, or
            offset < 2 smoothness / pl_constant.

    Example:
        >>> pl_decreasing_steps(steps=3, smoothness=1.0, pl_constant=1.0, offset=2.0).round(3)
        array([1.   , 0.667, 0.5  ])
    """
    whole_counts(steps=steps)
    _, m, g = _offset(smoothness, pl_constant, offset)
    return 2 / (m[..., None] * (np.arange(steps) + g[..., None]))


def pl_decreasing_bound(
    *,
    initial_gap: ArrayLike,
    steps: ArrayLike,
    smoothness: ArrayLike,
    pl_constant: ArrayLike,
    offset: ArrayLike,
    bias_bound: ArrayLike,
    noise_var: ArrayLike,
) -> Floats:
    """With eta_j = 2 / (m (j + g)), g >= 2L/m: the noise dies like 1/T, the bias floor stays.

        E F_T <= zeta^2/(2m) + [(g-1)(g-2)(F_0 - zeta^2/(2m)) + 2 L T sigma^2/m^2] / ((T+g-1)(T+g-2)).

    Proof: e_j = E F_j - zeta^2/(2m) satisfies e_{j+1} <= (j+g-2)/(j+g) e_j + 2L sigma^2/(m^2 (j+g)^2). Multiplied by
    (j+g)(j+g-1) the first term telescopes and the last is at most 2L sigma^2/m^2. The sign of e_0 does not matter.

    Args:
        initial_gap: F_0; [..].
        steps: T >= 1; [..].
        smoothness: L; [..].
        pl_constant: m; [..].
        offset: g; [..].
        bias_bound: zeta; [..].
        noise_var: sigma^2; [..].

    Raises:
        ValueError: an argument is not finite or has the wrong sign, steps < 1, pl_constant > smoothness, or
            offset < 2 smoothness / pl_constant.

    Example:
        >>> law = dict(smoothness=1.0, pl_constant=1.0, offset=2.0, bias_bound=1.0, noise_var=3.0)
        >>> pl_decreasing_bound(initial_gap=5.0, steps=[1, 10, 1000], **law).round(3)
        array([3.5  , 1.045, 0.506])
    """
    smooth, m, g = _offset(smoothness, pl_constant, offset)
    (t,) = counts(steps=steps)
    gap, zeta, var = nonnegative(initial_gap=initial_gap, bias_bound=bias_bound, noise_var=noise_var)
    floor = zeta**2 / (2 * m)
    # Quotients before products, so that a late start (a large g) does not overflow.
    remaining = (g - 1) / (t + g - 1) * ((g - 2) / (t + g - 2))
    return floor + remaining * (gap - floor) + 2 * smooth * var / m**2 * (t / (t + g - 1) / (t + g - 2))


def distance_bound(
    *,
    initial_distance: ArrayLike,
    steps: ArrayLike,
    step_size: ArrayLike,
    smoothness: ArrayLike,
    strong_convexity: ArrayLike,
    bias_bound: ArrayLike,
) -> Floats:
    """|x_T - x*| <= rho^T |x_0 - x*| + (1 - rho^T) zeta/m, rho = 1 - eta m, without noise, eta <= 2/(L + m).

    Proof: h = f - (m/2)|x|^2 is convex and (L - m)-smooth, so with d = x - y and e = grad h(x) - grad h(y) the images
    of two points under x - eta grad f(x) differ by (1 - eta m) d - eta e, whose square is at most
    rho^2 |d|^2 + eta (eta - 2 (1 - eta m)/(L - m))|e|^2 <= rho^2 |d|^2 for these steps; the bias adds eta zeta to each
    step. Attained by f = (m/2) x^2 with b pointing away from the minimiser.

    Args:
        initial_distance: |x_0 - x*|; [..].
        steps: T >= 0; [..].
        step_size: eta; [..].
        smoothness: L; [..].
        strong_convexity: m <= L; [..].
        bias_bound: zeta; [..].

    Raises:
        ValueError: an argument is not finite or has the wrong sign, strong_convexity > smoothness, or
            step_size > 2 / (smoothness + strong_convexity).

    Example:
        >>> law = dict(step_size=0.5, smoothness=1.0, strong_convexity=1.0, bias_bound=1.0)
        >>> distance_bound(initial_distance=3.0, steps=[0, 1, 2], **law)
        array([3. , 2. , 1.5])
    """
    eta, smooth, m = positive(step_size=step_size, smoothness=smoothness, strong_convexity=strong_convexity)
    check_at_most(("strong_convexity", m), ("smoothness", smooth))
    check_at_most(("step_size", eta), ("2 / (smoothness + strong_convexity)", 2 / (smooth + m)))
    distance, t, zeta = nonnegative(initial_distance=initial_distance, steps=steps, bias_bound=bias_bound)
    remaining, forgotten = _geometric(eta * m, t)
    return remaining * distance + forgotten * zeta / m


def worst_excess_loss_at_least(
    *,
    initial_gap: ArrayLike,
    steps: ArrayLike,
    step_size: ArrayLike,
    strong_convexity: ArrayLike,
    bias_bound: ArrayLike,
) -> Floats:
    """A LOWER bound on the worst case of F_T over m-strongly convex f, without noise; it bounds no given run.

        (rho^T sqrt(F_0) + (1 - rho^T) zeta / sqrt(2m))^2,     rho = 1 - eta m.

    Proof: it is F_T of f = (m/2) x^2 with b = -zeta sign(x_0). The worst case over the class can be larger: with
    L = 1, m = 0.187, eta = 0.973, zeta = 0.516, F_0 = 0.409, T = 1 this gives 0.4579, the exact worst case is 0.4639.

    Args:
        initial_gap: F_0; [..].
        steps: T >= 0; [..].
        step_size: eta; [..].
        strong_convexity: m; [..].
        bias_bound: zeta; [..].

    Raises:
        ValueError: an argument is not finite or has the wrong sign, or step_size > 1 / strong_convexity.

    Example:
        >>> law = dict(step_size=0.5, strong_convexity=1.0, bias_bound=2.0)
        >>> worst_excess_loss_at_least(initial_gap=8.0, steps=[0, 1, 100], **law)
        array([8. , 4.5, 2. ])
    """
    eta, m = positive(step_size=step_size, strong_convexity=strong_convexity)
    check_at_most(("step_size", eta), ("1 / strong_convexity", 1 / m))
    gap, t, zeta = nonnegative(initial_gap=initial_gap, steps=steps, bias_bound=bias_bound)
    remaining, forgotten = _geometric(eta * m, t)
    return (remaining * np.sqrt(gap) + forgotten * zeta / np.sqrt(2 * m)) ** 2


def _curvatures(step_size: ArrayLike, smoothness: ArrayLike, pl_constant: ArrayLike) -> tuple[Floats, Floats, Floats]:
    eta, smooth, m = positive(step_size=step_size, smoothness=smoothness, pl_constant=pl_constant)
    check_at_most(("pl_constant", m), ("smoothness", smooth))
    check_at_most(("step_size", eta), ("1 / smoothness", 1 / smooth))
    return eta, smooth, m


def _offset(smoothness: ArrayLike, pl_constant: ArrayLike, offset: ArrayLike) -> tuple[Floats, Floats, Floats]:
    smooth, m, g = positive(smoothness=smoothness, pl_constant=pl_constant, offset=offset)
    check_at_most(("pl_constant", m), ("smoothness", smooth))
    check_at_most(("2 * smoothness / pl_constant", 2 * smooth / m), ("offset", g))
    return smooth, m, g


def _geometric(rate: Floats, steps: Floats) -> tuple[Floats, Floats]:
    """(1 - rate)^T and 1 - (1 - rate)^T, the second without cancellation for small rates; rate in (0, 1]."""
    inside = np.minimum(rate, np.nextafter(1.0, 0.0))  # the logarithm of 0 at rate 1, where one step forgets all
    log_power = steps * np.log1p(-inside)
    at_once = (rate >= 1) & (steps > 0)
    return np.where(at_once, 0.0, np.exp(log_power)), np.where(at_once, 1.0, -np.expm1(log_power))
