"""Intervals from leave-one-prompt-out replicates: jackknife, score-type and Fieller.

Replicates are arrays [n + 1] as made in ``ustatistics``: the estimate, then the n leave-one-out values. Arrays of
length one are exact numbers. Two things spoil the plain interval "value +- t SE".

First, the U-statistic U of a squared bias |b|^2 has, with S the covariance of the per-prompt vectors,

    Var U = 2 Tr S^2 / n^2 + 4 b'Sb / n,    third cumulant 8 Tr S^3 / n^3 + 24 b'S^2b / n^2,

which grow with |b|^2: a low U comes with a low standard error, and near |b| = 0 the law of U is that of a weighted sum
of chi-squares. (The jackknife counts the first term twice, besides.) As for Wilson's interval of a proportion, the
remedy is to test every value theta of |b|^2 with the law of U at that value. b'Sb is unknown; its unbiased estimate q
moves with U, so that at the hypothesis it is taken as q + gamma (theta - U), with the regression coefficient

    gamma = Cov(q, U) / Var U = (4 b'S^2b / n + 2 Tr S^3 / n^2) / (4 b'Sb / n + 2 Tr S^2 / n^2).

The quantiles are those of the shifted gamma law with these three cumulants (Hall 1983; Buckley and Eagleson 1988),
stretched as the t law stretches the normal one.

A statistic f = w U + h inherits the asymmetry: its margins combine those of U, m, and t s_h of the rest, with the
jackknife correlation rho, as sqrt((w m)^2 + (t s_h)^2 + 2 rho w m t s_h), which is the method of variance estimates
recovery (Zou and Donner 2008). A function of |b|^2 and the rest that is not linear takes its extremes over the ellipse
of which this is the reach in the direction of f, see :func:`profile_estimate`.

Second, a ratio has no honest symmetric interval. Fieller's set {a : 0 is in the interval of N - a D} is one, and takes
the same correction.

None of this is exact; the coverage of every interval is measured in populations of known truth.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike
from scipy import special
from scipy.optimize import brentq

from bvpo_analysis.records import Estimate, Floats

LEVEL = 0.95
"""Confidence level of every interval."""


def _quantile(n: int) -> float:
    return float(special.stdtrit(n - 1, 0.5 + LEVEL / 2))


def jackknife_covariance(*replicates: Floats) -> Floats:
    """Delete-one covariance matrix of k statistics: (n - 1)/n sum_l (f_(l) - mean f_()) (...)^T, [k, k].

    Example:
        >>> import numpy as np
        >>> x = np.array([1.0, 2.0, 6.0])
        >>> from bvpo_analysis.moments.ustatistics import leave_one_out_mean
        >>> bool(np.isclose(jackknife_covariance(leave_one_out_mean(x))[0, 0], x.var(ddof=1) / 3))
        True
    """
    left = np.stack([np.asarray(r, dtype=np.float64)[1:] for r in replicates])
    n = left.shape[1]
    centred = left - left.mean(axis=1, keepdims=True)
    return (n - 1) / n * centred @ centred.T


def jackknife_estimate(replicates: Floats) -> Estimate:
    """Value, jackknife standard error and 95 % t interval; an array of length one is exact.

    Example:
        >>> import numpy as np
        >>> jackknife_estimate(np.array([2.0])).method
        'exact'
    """
    if len(replicates) == 1:
        return Estimate.exact(replicates[0], 0)
    n, value = len(replicates) - 1, float(replicates[0])
    se = float(np.sqrt(jackknife_covariance(replicates)[0, 0]))
    half = _quantile(n) * se
    return Estimate(value, se, value - half, value + half, n, "jackknife")


@dataclass(frozen=True)
class SquaredBiasNoise:
    """The law of the U-statistic U of a squared bias |b|^2, as a function of the true |b|^2.

    Attributes:
        replicates: U and its leave-one-out values, [n + 1].
        constant: 2 Tr S^2 / n^2, the variance of U at b = 0.
        linear: 4 q / n, the unbiased estimate of 4 b'Sb / n, the rest of the variance; it may be negative.
        slope: 4 gamma / n, how ``linear`` moves with the hypothesis about |b|^2.
        third: 8 Tr S^3 / n^3, the third cumulant of U at b = 0.
    """

    replicates: Floats
    constant: float
    linear: float
    slope: float
    third: float

    def _along(self, squared_bias: float) -> float:
        return max(self.linear + self.slope * (squared_bias - float(self.replicates[0])), 0.0)

    def variance(self, squared_bias: float) -> float:
        """Var U if |b|^2 has this value: constant + (linear + slope (|b|^2 - U))_+."""
        return self.constant + self._along(squared_bias)

    def skewness(self, squared_bias: float) -> float:
        """Skewness of U if |b|^2 has this value; with b'S^2b = gamma b'Sb, the cumulant is third + 1.5 slope linear."""
        variance = self.variance(squared_bias)
        if variance <= 0.0:
            return 0.0
        return (self.third + 1.5 * self.slope * self._along(squared_bias)) / variance**1.5

    @cached_property
    def interval(self) -> tuple[float, float]:
        """95 % interval of |b|^2: the values at which U lies between its 2.5 % and 97.5 % quantiles.

        The lower end is negative where U speaks against no small |b|^2 at all, as an unbiased estimate may be.
        """
        u, n = float(self.replicates[0]), len(self.replicates) - 1
        stretch = _quantile(n) / float(special.ndtri(0.5 + LEVEL / 2))

        def excess(hypothesis: float, probability: float) -> float:
            at = max(hypothesis, 0.0)
            quantile = stretch * _skewed_quantile(probability, self.skewness(at))
            return u - hypothesis - quantile * float(np.sqrt(self.variance(at)))

        def crossing(probability: float, direction: float) -> float:
            step = direction * float(np.sqrt(self.variance(max(u, 0.0))) + 1e-12 * abs(u))
            near = u
            if step == 0.0 or excess(near, probability) * direction <= 0.0:
                return u
            while excess(near + step, probability) * direction > 0.0:
                near, step = near + step, 2 * step
            return float(brentq(excess, near, near + step, args=(probability,), xtol=1e-300, rtol=1e-12))

        tail = (1 - LEVEL) / 2
        return crossing(1 - tail, -1.0), crossing(tail, 1.0)


def _skewed_quantile(probability: float, skewness: float) -> float:
    """Quantile of the standardised gamma law of this skewness, at least zero; the normal one where it is negligible."""
    if skewness < 1e-3:
        return float(special.ndtri(probability))
    shape = 4 / skewness**2
    return float((special.gammaincinv(shape, probability) - shape) / np.sqrt(shape))


def score_estimate(replicates: Floats, noise: SquaredBiasNoise | None, weight: float | None = None) -> Estimate:
    """Value, jackknife SE and 95 % score-type interval of a statistic f = w U + h that contains a squared bias.

    Args:
        replicates: f and its leave-one-out values.
        noise: the law of U; without it the interval is the plain jackknife t interval.
        weight: w; the jackknife regression coefficient of f on U if not given, which is right for a multiple of U.

    Example:
        >>> import numpy as np
        >>> from bvpo_analysis.moments.ustatistics import leave_one_out_mean
        >>> f = leave_one_out_mean(np.arange(5.0))
        >>> score_estimate(f, None) == jackknife_estimate(f)
        True
    """
    plain = jackknife_estimate(replicates)
    if noise is None or plain.method == "exact":
        return plain
    u = noise.replicates
    if weight is None:
        s = jackknife_covariance(replicates, u)
        weight = float(s[0, 1] / s[1, 1]) if s[1, 1] > 0.0 else 0.0
    low, high = noise.interval
    s = jackknife_covariance(replicates - weight * u, u)
    margins = weight * (low - float(u[0])), weight * (high - float(u[0]))
    down, up = (
        float(_combined(margin, np.sign(weight), s[0, 0], s[0, 1], noise)) for margin in (min(margins), max(margins))
    )
    return Estimate(plain.value, plain.se, plain.value - down, plain.value + up, plain.n, "score-jackknife")


def profile_estimate(statistic: Callable[[Floats], Floats], noise: SquaredBiasNoise | None) -> Estimate:
    """Value, jackknife SE and 95 % interval of a function of a squared bias and of statistics beside it.

    The ends are those of the function over a joint set of |b|^2 and the rest: at the hypothesis |b|^2 = theta, with
    u(theta) from -1 to 1 its place in the interval of |b|^2 (0 at the estimate), the function's replicates have
    standard error s and correlation rho with U, and lie within

        f(theta) + rho t s u +- t s sqrt((1 - rho^2) (1 - u^2)).

    For f = w theta + h that is the margin sqrt((w m)^2 + (t s)^2 + 2 rho w m t s) of the head of this file. Where f
    levels off, as the least error of several plans does, or has an extremum inside, as a regret has, margins combined
    in squares would promise too much.

    Args:
        statistic: the function's replicates [..., n + 1] (its value at index 0), given what to take for |b|^2: the
            replicates of U [n + 1], or constant values [..., 1].
        noise: the law of U; without it the argument of ``statistic`` plays no role.
    """
    if noise is None:
        return jackknife_estimate(statistic(np.zeros(1)))
    u, n = noise.replicates, len(noise.replicates) - 1
    plain = jackknife_estimate(statistic(u))
    (low, high), centre = noise.interval, float(u[0])
    of_u, se_u = u[1:] - u[1:].mean(), np.sqrt(noise.variance(centre))

    def ends(place: Floats) -> Floats:
        """Lower and upper ends of f at the hypotheses at these places, [2, len(place)]."""
        hypotheses = centre + np.where(place > 0, place * (high - centre), place * (centre - low))
        values = np.broadcast_to(statistic(np.maximum(hypotheses, 0.0)[:, None]), (len(place), n + 1))
        left = values[:, 1:] - values[:, 1:].mean(axis=1, keepdims=True)
        se = np.sqrt((n - 1) / n * (left**2).sum(axis=1))
        size = se * se_u
        rho = np.clip((n - 1) / n * (left @ of_u) / np.where(size > 0, size, np.inf), -1.0, 1.0)
        half = _quantile(n) * se
        middle = values[:, 0] + rho * half * place
        reach = half * np.sqrt((1 - rho**2) * (1 - place**2))
        return np.stack([middle - reach, middle + reach])

    lower, upper = ends(COARSE)
    refined = ends(np.concatenate([_between_neighbours(int(lower.argmin())), _between_neighbours(int(upper.argmax()))]))
    bottom, top = min(lower.min(), refined[0].min()), max(upper.max(), refined[1].max())
    return Estimate(plain.value, plain.se, float(bottom), float(top), plain.n, "profile-jackknife")


COARSE = np.sin(np.linspace(-np.pi / 2, np.pi / 2, 33))
"""Places in the interval of |b|^2 at which a function of it is evaluated first."""
FINE = 16
"""Places added around the lowest and the highest of them: a regret has its zero between two coarse places."""


def _between_neighbours(i: int) -> Floats:
    return np.linspace(COARSE[max(i - 1, 0)], COARSE[min(i + 1, len(COARSE) - 1)], FINE)


def _combined(
    margin: ArrayLike, direction: ArrayLike, variance: ArrayLike, covariance: ArrayLike, noise: SquaredBiasNoise
) -> Floats:
    """sqrt(m^2 + (t s_h)^2 + 2 rho m t s_h): the margin of f = wU + h on one side.

    Args:
        margin: what U alone gives on that side.
        direction: the sign of w.
        variance, covariance: jackknife variance of h, and its covariance with U.
        noise: the law of U.
    """
    t = _quantile(len(noise.replicates) - 1)
    of_rest = t * np.sqrt(np.maximum(variance, 0.0))
    of_u = np.sqrt(noise.variance(float(noise.replicates[0])))
    shared = np.clip(t * np.asarray(covariance) / of_u, -of_rest, of_rest) if of_u > 0.0 else np.zeros_like(of_rest)
    squared = np.square(margin) + of_rest**2 + 2 * np.asarray(direction) * np.abs(margin) * shared
    return np.asarray(np.sqrt(np.maximum(squared, 0.0)))


@dataclass(frozen=True)
class FiellerSet:
    """Confidence set of a ratio.

    Attributes:
        shape: "interval" [low, high]; "half-line" (one end infinite); "complement": everything outside (low, high);
            "line": every number, the data say nothing.
        low, high: its ends.
    """

    shape: Literal["interval", "half-line", "complement", "line"]
    low: float
    high: float


def fieller_set(numerator: Floats, denominator: Floats) -> FiellerSet:
    """95 % confidence set of E N / E D from the replicates of N and D.

    Solves (N - aD)^2 <= t^2 [s_NN - 2a s_ND + a^2 s_DD], a quadratic in a.

    Raises:
        ValueError: exact inputs, which have no sampling error.

    Example:
        >>> import numpy as np
        >>> from bvpo_analysis.moments.ustatistics import leave_one_out_mean
        >>> rng = np.random.default_rng(0)
        >>> d = rng.normal(2.0, 1.0, 400); n = d + rng.normal(0.0, 0.5, 400)
        >>> s = fieller_set(leave_one_out_mean(n), leave_one_out_mean(d))
        >>> s.shape, s.low < 1.0 < s.high
        ('interval', True)
    """
    if len(numerator) < 2:
        raise ValueError("exact inputs have no sampling error; a confidence set is not defined")
    top, bottom = float(numerator[0]), float(denominator[0])
    t2 = _quantile(len(numerator) - 1) ** 2
    s = t2 * jackknife_covariance(numerator, denominator)
    a, b, c = bottom**2 - s[1, 1], top * bottom - s[0, 1], top**2 - s[0, 0]
    discriminant = b * b - a * c
    if a == 0.0:
        if b == 0.0:
            return FiellerSet("line", -np.inf, np.inf)
        end = c / (2 * b)
        return FiellerSet("half-line", end, np.inf) if b > 0 else FiellerSet("half-line", -np.inf, end)
    if discriminant <= 0.0:
        # For a > 0 the set shrinks to the vertex of the parabola; for a < 0 the inequality holds everywhere.
        return FiellerSet("line", -np.inf, np.inf) if a < 0 else FiellerSet("interval", b / a, b / a)
    ends = sorted(((b - np.sqrt(discriminant)) / a, (b + np.sqrt(discriminant)) / a))
    return FiellerSet("interval" if a > 0 else "complement", float(ends[0]), float(ends[1]))


def bounded_ratio_set(numerator: Floats, rest: Floats, noise: SquaredBiasNoise, weight: float = 1.0) -> FiellerSet:
    """95 % confidence set of a = E N / (w |b|^2 + E V), knowing that |b|^2 >= 0 and V > 0; D = w U + V is measured.

    The ratio lies between 0 and N / V, whose Fieller set bounds the search. Inside, a belongs to the set if 0 is in the
    score-type interval of N - a V - a w U. The result is the smallest interval that holds the set, found on a grid that
    is fine around N / (w max(U, 0) + V) and refined by root finding. An empty set means that U is too negative for any
    |b|^2 >= 0; then the set at |b|^2 = 0, that of N / V, is given.

    Args:
        numerator: replicates of N.
        rest: replicates of V, the part of the denominator beside the squared bias.
        noise: the law of the U-statistic of the squared bias.
        weight: w. Without a positive weight nothing bounds the ratio, and the set is Fieller's.

    Returns:
        An interval; or "line" where even V is not clearly positive.
    """
    u = noise.replicates
    if weight <= 0.0:
        return fieller_set(numerator, weight * u + rest)
    outer = fieller_set(numerator, rest)
    if outer.shape != "interval":
        return FiellerSet("line", -np.inf, np.inf)
    low, high = min(0.0, outer.low), max(0.0, outer.high)
    s = jackknife_covariance(numerator, rest, u)
    squared_bias = float(u[0])
    top, bottom = float(numerator[0]), float(rest[0]) + weight * squared_bias
    below, above = squared_bias - noise.interval[0], noise.interval[1] - squared_bias

    def excess(a: Floats) -> Floats:
        statistic, share = top - a * bottom, -a * weight
        margin = share * np.where(statistic * share > 0.0, below, above)
        variance, covariance = s[0, 0] - 2 * a * s[0, 1] + a * a * s[1, 1], s[0, 2] - a * s[1, 2]
        return statistic**2 - _combined(margin, np.sign(share), variance, covariance, noise) ** 2

    centre = top / (weight * max(squared_bias, 0.0) + float(rest[0]))
    steps = (high - low) * np.geomspace(1e-12, 1.0, 240)
    grid = np.concatenate([np.linspace(low, high, 240), centre - steps, [centre], centre + steps])
    grid = np.unique(grid[(grid >= low) & (grid <= high)])
    inside = np.flatnonzero(excess(grid) <= 0.0)
    if len(inside) == 0:
        return outer
    first, last = int(inside[0]), int(inside[-1])
    ends = [float(grid[first]), float(grid[last])]

    def end_between(i: int) -> float:
        return float(brentq(lambda a: float(excess(np.asarray(a))), grid[i], grid[i + 1], xtol=1e-300, rtol=1e-12))

    if first > 0:
        ends[0] = end_between(first - 1)
    if last < len(grid) - 1:
        ends[1] = end_between(last)
    return FiellerSet("interval", ends[0], ends[1])
