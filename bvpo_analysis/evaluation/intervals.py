"""Means with intervals where several numbers belong to one prompt, or one number to a training run.

Answers to one prompt are not independent, so the prompt is the unit: a mean over prompts of per-prompt means, with a t
interval over prompts. Two policies that answered the same prompts are compared by the differences per prompt, which
removes what the prompts have in common.
"""

from dataclasses import replace

import numpy as np
from numpy.typing import ArrayLike

from bvpo_analysis.moments import jackknife_estimate, leave_one_out_mean
from bvpo_analysis.records import Estimate, Floats

FEWEST = 3
"""Prompts, or runs, without which no interval is given."""


def per_prompt(values: ArrayLike) -> Floats:
    """Means over the answers of each prompt, [n] or [n, K] -> [n]; answers that are nan are left out.

    A prompt without any number is nan.

    Raises:
        ValueError: another shape, or no prompts.

    Example:
        >>> per_prompt([[1.0, 0.0], [1.0, float("nan")]])
        array([0.5, 1. ])
    """
    x = np.asarray(values, dtype=np.float64)
    if x.ndim not in (1, 2) or x.size == 0:
        raise ValueError(f"values must have shape [prompts] or [prompts, answers], got {x.shape}")
    if x.ndim == 1:
        return x
    known = np.isfinite(x)
    counts = known.sum(axis=1)
    sums = np.where(known, x, 0.0).sum(axis=1)
    return np.where(counts > 0, sums / np.maximum(counts, 1), np.nan)


def clustered_mean(values: ArrayLike, *, low: float = -np.inf, high: float = np.inf) -> Estimate:
    """Mean over prompts of per-prompt means, with its t interval over prompts.

    Args:
        values: [n] or [n, K] numbers; prompts without any number are left out.
        low, high: range of the quantity, at which the interval ends.

    Returns:
        An estimate; without an interval where fewer than three prompts have a number.

    Raises:
        ValueError: no prompt has a number.

    Example:
        >>> print(clustered_mean([[1, 0], [1, 1], [0, 0], [1, 1]], low=0, high=1))
        0.625 [0, 1]
    """
    means = per_prompt(values)
    means = means[np.isfinite(means)]
    if len(means) == 0:
        raise ValueError("no prompt has a number to take the mean of")
    if len(means) < FEWEST:
        return Estimate.without_interval(float(means.mean()), len(means))
    found = jackknife_estimate(leave_one_out_mean(means))
    return replace(found, ci_low=max(found.ci_low, low), ci_high=min(found.ci_high, high))


def paired_difference(first: ArrayLike, second: ArrayLike) -> Estimate:
    """Mean of ``first`` less mean of ``second`` over the prompts that both have, with its t interval over prompts.

    Args:
        first, second: [n] or [n, K] numbers of the same n prompts; K may differ.

    Raises:
        ValueError: different numbers of prompts.

    Example:
        >>> found = paired_difference([1.0, 2.0, 4.0], [0.5, 1.5, 3.5])
        >>> found.value, found.se
        (0.5, 0.0)
    """
    a, b = per_prompt(first), per_prompt(second)
    if len(a) != len(b):
        raise ValueError(f"a paired difference needs the same prompts, got {len(a)} and {len(b)}")
    return clustered_mean(a - b)
