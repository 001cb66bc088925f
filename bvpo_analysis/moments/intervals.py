"""Intervals from leave-one-prompt-out replicates: jackknife, score-type and Fieller.

Replicates are arrays [n + 1] as made in ``ustatistics``: the estimate, then the n leave-one-out values. Arrays of
length one are exact numbers. Two things spoil the plain interval "value +- t SE".

First, the U-statistic U of a squared bias |b|^2 has variance (4/n) b'Sb + (2/n^2) Tr S^2, which falls with |b|^2. A
low U comes with a low jackknife SE, and near |b| = 0 the interval misses the truth from below. As for Wilson's
interval of a proportion, the remedy is to take the variance at the hypothesised value: it has the slope 4 lambda / n
in |b|^2, with lambda = b'Sb/|b|^2 the Rayleigh quotient at the sample mean, or Tr S^2 / Tr S (its value for noise
alone) if larger. For a statistic f that moves with U (jackknife correlation r, regression slope w of f on U) and the
hypothesis f0 = f + x, the jackknife variance s^2 becomes

    s^2(x) = s^2 + w r^2 (4 lambda / n) x,

so the interval {f + x : x^2 <= t^2 s^2(x)} is still the solution of a quadratic. On average the jackknife doubles the
degenerate term (2/n^2) Tr S^2; this is kept, since the quantiles of the t law are too short for the skewed law of U.
Tests measure the coverage in populations with known truth, since none of this is exact.

Second, a ratio has no honest symmetric interval. Fieller's set {a : |N - a D| <= t SE(N - a D)} is one, and takes the
same correction.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from scipy import stats
from scipy.optimize import brentq

from bvpo_analysis.records import Estimate, Floats

LEVEL = 0.95
"""Confidence level of every interval."""


def _quantile(n: int) -> float:
    return float(stats.t.ppf(0.5 + LEVEL / 2, df=n - 1))


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
    """How the variance of the U-statistic U of a squared bias grows with the true |b|^2.

    Attributes:
        replicates: U and its leave-one-out values, [n + 1].
        slope: d Var(U) / d|b|^2 = 4 lambda / n; see the head of this file for lambda.
    """

    replicates: Floats
    slope: float

    def variance_slope(self, variance: float, covariance: float, of_u: float) -> float:
        """w r^2 (4 lambda / n) of a statistic with this variance and covariance with U, which has variance ``of_u``."""
        if of_u <= 0.0 or variance <= 0.0:
            return 0.0
        w = covariance / of_u
        return w * self.slope * min(covariance * w / variance, 1.0)


def score_estimate(replicates: Floats, noise: SquaredBiasNoise | None) -> Estimate:
    """Value, jackknife SE and 95 % score-type interval of a statistic f that may move with a squared bias.

    The interval is {f + x : x^2 <= t^2 s^2(x)}; without ``noise``, or for a statistic uncorrelated with U, it is the
    plain jackknife t interval.

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
    covariance = jackknife_covariance(replicates, noise.replicates)
    t2 = _quantile(plain.n) ** 2
    centre = t2 * noise.variance_slope(covariance[0, 0], covariance[0, 1], covariance[1, 1]) / 2
    half = float(np.sqrt(centre**2 + t2 * covariance[0, 0]))
    return Estimate(
        plain.value, plain.se, plain.value + centre - half, plain.value + centre + half, plain.n, "score-jackknife"
    )


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


def bounded_ratio_set(numerator: Floats, rest: Floats, noise: SquaredBiasNoise) -> FiellerSet:
    """95 % confidence set of a = E N / (|b|^2 + E V), knowing that |b|^2 >= 0; D = U + V is measured with its noise.

    The ratio lies between 0 and N / V, whose Fieller set bounds the search. Inside, a belongs to the set if
    T = N - a (U + V) satisfies T^2 <= t^2 s^2(-T), the variance taken at the hypothesis. The result is the smallest
    interval that holds the set, found on a grid that is fine around N / (max(U, 0) + V) and refined by root finding. An
    empty set means that U is too negative for any |b|^2 >= 0; then the set at |b|^2 = 0, that of N / V, is given.

    Args:
        numerator: replicates of N.
        rest: replicates of V, the part of the denominator beside the squared bias.
        noise: the U-statistic of the squared bias.

    Returns:
        An interval; or "line" where even V is not clearly positive.
    """
    outer = fieller_set(numerator, rest)
    if outer.shape != "interval":
        return FiellerSet("line", -np.inf, np.inf)
    low, high = min(0.0, outer.low), max(0.0, outer.high)
    u = noise.replicates
    t2 = _quantile(len(u) - 1) ** 2
    s = jackknife_covariance(numerator, u + rest, u)
    top, bottom = float(numerator[0]), float(u[0] + rest[0])

    def excess(a: float) -> float:
        statistic = top - a * bottom
        variance = s[0, 0] - 2 * a * s[0, 1] + a * a * s[1, 1]
        slope = noise.variance_slope(variance, s[0, 2] - a * s[1, 2], s[2, 2])
        return float(statistic**2 - t2 * max(variance - slope * statistic, 0.0))

    centre = top / (max(float(u[0]), 0.0) + float(rest[0]))
    steps = (high - low) * np.geomspace(1e-12, 1.0, 240)
    grid = np.concatenate([np.linspace(low, high, 240), centre - steps, [centre], centre + steps])
    grid = np.unique(grid[(grid >= low) & (grid <= high)])
    inside = np.flatnonzero([excess(a) <= 0.0 for a in grid])
    if len(inside) == 0:
        return outer
    first, last = int(inside[0]), int(inside[-1])
    ends = [float(grid[first]), float(grid[last])]
    if first > 0:
        ends[0] = float(brentq(excess, grid[first - 1], grid[first], xtol=1e-300, rtol=1e-12))
    if last < len(grid) - 1:
        ends[1] = float(brentq(excess, grid[last], grid[last + 1], xtol=1e-300, rtol=1e-12))
    return FiellerSet("interval", ends[0], ends[1])
