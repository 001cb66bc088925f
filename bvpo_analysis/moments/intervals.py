"""Intervals from leave-one-prompt-out replicates: the jackknife, and Fieller's set for a ratio.

Replicates are arrays [n + 1] as made in ``ustatistics``: the estimate, then the n leave-one-out values. Arrays of length
one are exact numbers. A ratio whose denominator is not clearly positive has no honest symmetric interval; Fieller's set
{a : |N - a D| <= t SE(N - a D)} is honest, and says by its shape when the data do not bound the ratio.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from scipy import stats

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

    Solves a^2 (D^2 - t^2 s_DD) - 2 a (N D - t^2 s_ND) + (N^2 - t^2 s_NN) <= 0.

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
        # a > 0 would need an empty set, which cannot be: the estimate N/D always belongs to it.
        return FiellerSet("line", -np.inf, np.inf) if a < 0 else FiellerSet("interval", b / a, b / a)
    ends = sorted(((b - np.sqrt(discriminant)) / a, (b + np.sqrt(discriminant)) / a))
    return FiellerSet("interval" if a > 0 else "complement", float(ends[0]), float(ends[1]))
