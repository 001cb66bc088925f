"""Positive weights given by their logarithms: the log of their mean, and each one's share of their sum."""

from dataclasses import dataclass

import numpy as np

from bvpo_analysis.records import Floats


@dataclass(frozen=True)
class LogWeights:
    """What a log-mean-exp gradient needs of K weights, whatever their scale.

    Attributes:
        log_mean: log (1/K) sum_k w_k, [..].
        shares: w_k / sum_j w_j, which is also the derivative of ``log_mean`` by log w_k, [.., K].
    """

    log_mean: Floats
    shares: Floats

    @classmethod
    def of(cls, log_weights: Floats) -> "LogWeights":
        """From log w, [.., K]; the largest is taken out before exponentials, so nothing overflows.

        Example:
            >>> found = LogWeights.of(np.log([1.0, 3.0]) + 5000.0)
            >>> found.shares.round(12), float(found.log_mean.round(12))
            (array([0.25, 0.75]), 5000.69314718056)
        """
        top = log_weights.max(axis=-1, keepdims=True)
        weights = np.exp(log_weights - top)
        total = weights.sum(axis=-1, keepdims=True)
        return cls((top + np.log(total / log_weights.shape[-1]))[..., 0], weights / total)
