"""Disjoint groups of sampled traces, one group per realisation, and sums of coefficients over the rows of a group."""

import numpy as np

from bvpo_analysis.records import Floats, Ints, PairLogProbs


def grouped_draws(pair: PairLogProbs, size: int) -> Ints:
    """The trace draws of a pair in disjoint groups in file order, [R, 2] -> [R // size, size, 2]; the rest is left out.

    Example:
        >>> from bvpo_analysis.testing import toy_pair
        >>> grouped_draws(toy_pair(), 2).tolist()
        [[[0, 2], [1, 3]]]
    """
    groups = len(pair.draws) // size
    return pair.draws[: groups * size].reshape(groups, size, 2)


def grouped_prior(pair: PairLogProbs, size: int) -> Ints:
    """The prior traces of a pair in disjoint groups in file order, [M, 2] -> [M // size, size, 2]."""
    groups = len(pair.prior) // size
    return pair.prior[: groups * size].reshape(groups, size, 2)


def scatter(rows: Ints, values: Floats, size: int) -> Floats:
    """Coefficients [.., m] with ``values`` [.., K] added up at the columns ``rows`` [.., K].

    A trace that was drawn twice is one row, so its values add up.

    Example:
        >>> scatter(np.array([[0, 2], [1, 1]]), np.array([[0.5, 0.5], [0.5, 0.25]]), 3).tolist()
        [[0.5, 0.0, 0.5], [0.0, 0.75, 0.0]]
    """
    leading = rows.shape[:-1]
    count = int(np.prod(leading))
    columns = (np.arange(count)[:, None] * size + rows.reshape(count, -1)).ravel()
    out = np.bincount(columns, weights=values.ravel(), minlength=count * size)
    return out.astype(np.float64, copy=False).reshape(*leading, size)
