"""Means and U-statistics together with all their leave-one-prompt-out values.

Every statistic is an array of length n + 1: the full-sample value, then the value without prompt 1, ..., n. Arithmetic
on such arrays is arithmetic on the statistic and its jackknife replicates at once, so any derived number (a ratio, a
clipped weight, a difference) has its jackknife for free.
"""

import numpy as np
from numpy.typing import ArrayLike

from bvpo_analysis.records import Floats


def leave_one_out_mean(values: ArrayLike) -> Floats:
    """Mean of n per-prompt values, then the n leave-one-out means; [n] -> [n + 1].

    Raises:
        ValueError: fewer than three values.

    Example:
        >>> leave_one_out_mean([1.0, 2.0, 6.0])
        array([3. , 4. , 3.5, 1.5])
    """
    x = np.asarray(values, dtype=np.float64)
    if x.ndim != 1 or len(x) < 3:
        raise ValueError(f"at least three prompts are needed for a leave-one-out estimate, got shape {x.shape}")
    mean = x.mean()
    return np.concatenate([[mean], mean + (mean - x) / (len(x) - 1)])


def leave_one_out_ustatistic(own: ArrayLike, a_total: ArrayLike, b_total: ArrayLike) -> Floats:
    """U-statistic of <E a, E b> from per-prompt products, then its leave-one-out values; [n] each -> [n + 1].

    With vectors a_i, b_i and totals V_a = sum a_i, V_b = sum b_i,

        U = sum_{i != j} <a_i, b_j> / (n (n - 1)) = (sum_i <a_i, V_b> - sum_i <a_i, b_i>) / (n (n - 1)),

    unbiased for <E a, E b> and possibly negative when a = b. Leaving out l removes <a_l, V_b> + <V_a, b_l> - 2 <a_l,
    b_l>.

    Args:
        own: <a_i, b_i>.
        a_total: <a_i, V_b>.
        b_total: <V_a, b_i>.

    Example:
        >>> import numpy as np
        >>> a = np.array([1.0, 2.0, 6.0])
        >>> leave_one_out_ustatistic(a * a, a * a.sum(), a * a.sum())
        array([ 6.66666667, 12.        ,  6.        ,  2.        ])
    """
    w, x, y = (np.asarray(v, dtype=np.float64) for v in (own, a_total, b_total))
    n = len(w)
    if w.ndim != 1 or n < 3:
        raise ValueError(f"at least three prompts are needed for a leave-one-out estimate, got shape {w.shape}")
    total = (x - w).sum()
    left = (total - (x - w) - (y - w)) / ((n - 1) * (n - 2))
    return np.concatenate([[total / (n * (n - 1))], left])
