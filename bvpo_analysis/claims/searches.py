"""Optima found without the formulas they are compared with: the vertex of a parabola, and the faces of a simplex."""

from collections.abc import Callable
from itertools import chain, combinations

import numpy as np

from bvpo_analysis.records import Floats


def vertex(curve: Callable[[float], float]) -> float:
    """Where a parabola is least, from its values at -1, 0 and 1.

    Example:
        >>> vertex(lambda a: 3 * (a - 0.25) ** 2 + 5)
        0.25
    """
    low, middle, high = curve(-1.0), curve(0.0), curve(1.0)
    return (low - high) / (2 * ((low - middle) + (high - middle)))


def least_on_simplex(moments: Floats) -> Floats:
    """The nonnegative weights with sum one that minimise w'Mw, by solving every face and comparing; M invertible.

    Example:
        >>> least_on_simplex(np.array([[1.0, 2.0], [2.0, 5.0]])).tolist()  # the unconstrained optimum is (1.5, -.5)
        [1.0, 0.0]
    """
    count = len(moments)
    candidates = []
    for face in chain.from_iterable(combinations(range(count), size) for size in range(1, count + 1)):
        inside = np.linalg.solve(moments[np.ix_(face, face)], np.ones(len(face)))
        if (inside > 0).all():
            weights = np.zeros(count)
            weights[list(face)] = inside / inside.sum()
            candidates.append(weights)
    return min(candidates, key=lambda w: float(w @ moments @ w))
