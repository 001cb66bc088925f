"""Checks on the arguments of closed forms: every function rejects what its statement does not cover, by name.

Nothing is clipped and nothing becomes NaN in silence. A message names the argument as the caller wrote it, the
condition, and the first value that breaks it. Inputs are numbers or arrays; outputs are float64 arrays that broadcast.
"""

import numpy as np
from numpy.typing import ArrayLike

from bvpo_analysis.records import Floats

ROUNDING = 1e-9
"""Relative slack of an inequality between inputs that rounding alone may break (Cauchy-Schwarz, symmetry)."""


def finite(**arguments: ArrayLike) -> list[Floats]:
    """The arguments as float64 arrays, in order.

    Raises:
        ValueError: an argument is empty, or not finite.

    Example:
        >>> finite(alpha=1, kappa=[1, 2])
        [array(1.), array([1., 2.])]
    """
    arrays = [np.asarray(value, dtype=np.float64) for value in arguments.values()]
    for name, array in zip(arguments, arrays, strict=True):
        if array.size == 0:
            raise ValueError(f"{name} must not be empty")
        _all(name, array, np.isfinite(array), "finite")
    return arrays


def nonnegative(**arguments: ArrayLike) -> list[Floats]:
    """Finite and at least zero: variances, squared biases, probabilities before normalising.

    Example:
        >>> nonnegative(var_t=-1.0)
        Traceback (most recent call last):
        ValueError: var_t must not be negative, got -1.0
    """
    arrays = finite(**arguments)
    for name, array in zip(arguments, arrays, strict=True):
        if (array < 0).any():
            raise ValueError(f"{name} must not be negative, got {_first(array, array < 0)}")
    return arrays


def positive(**arguments: ArrayLike) -> list[Floats]:
    """Finite and greater than zero: smoothness, step sizes, batch sizes, costs."""
    arrays = finite(**arguments)
    for name, array in zip(arguments, arrays, strict=True):
        _all(name, array, array > 0, "positive")
    return arrays


def unit_interval(**arguments: ArrayLike) -> list[Floats]:
    """Finite and in (0, 1]: kappa = eta L where a bound needs eta <= 1/L."""
    arrays = finite(**arguments)
    for name, array in zip(arguments, arrays, strict=True):
        _all(name, array, (array > 0) & (array <= 1), "in (0, 1]")
    return arrays


def counts(**arguments: ArrayLike) -> list[Floats]:
    """Finite and at least one: steps, batch sizes, numbers of traces. Real values are allowed where a formula is."""
    arrays = finite(**arguments)
    for name, array in zip(arguments, arrays, strict=True):
        _all(name, array, array >= 1, "at least 1")
    return arrays


def whole_counts(**arguments: ArrayLike) -> list[Floats]:
    """Whole numbers of at least one, where an index runs over them.

    Example:
        >>> whole_counts(steps=2.5)
        Traceback (most recent call last):
        ValueError: steps must be a whole number, got 2.5
    """
    arrays = counts(**arguments)
    for name, array in zip(arguments, arrays, strict=True):
        _all(name, array, array == np.round(array), "a whole number")
    return arrays


def distribution(**arguments: ArrayLike) -> list[Floats]:
    """Probabilities of the N values of a finite law, [N]: nonnegative and, beyond rounding, summing to one.

    Raises:
        ValueError: another shape, a negative or non-finite entry, or a sum other than one.

    Example:
        >>> distribution(target=[0.5, 0.4])
        Traceback (most recent call last):
        ValueError: target must sum to one, got 0.9
    """
    arrays = nonnegative(**arguments)
    for name, array in zip(arguments, arrays, strict=True):
        if array.ndim != 1:
            raise ValueError(f"{name} must have one axis, got shape {array.shape}")
        if abs(array.sum() - 1) > ROUNDING:
            raise ValueError(f"{name} must sum to one, got {array.sum():.12g}")
    return arrays


def semidefinite(**argument: ArrayLike) -> Floats:
    """A symmetric, positive semidefinite matrix [J, J], symmetrised; one argument.

    Raises:
        ValueError: not finite, not square, not symmetric, or with a negative eigenvalue, the last two beyond rounding.

    Example:
        >>> semidefinite(covariance=[[1.0, 2.0], [2.0, 1.0]])
        Traceback (most recent call last):
        ValueError: covariance must be positive semidefinite, its smallest eigenvalue is -1
    """
    matrix, scale = _symmetric(**argument)
    _no_negative(float(np.linalg.eigvalsh(matrix / scale)[0]), scale, **argument)
    return matrix


def semidefinite_factor(**argument: ArrayLike) -> tuple[Floats, float, Floats]:
    """M as in :func:`semidefinite`, its scale max|M| (1 for M = 0), and V [J, J] with V'V = M / scale.

    Raises:
        ValueError: as for :func:`semidefinite`.

    Example:
        >>> matrix, scale, factor = semidefinite_factor(moments=[[4.0, 0.0], [0.0, 2.0]])
        >>> scale, np.allclose(scale * factor.T @ factor, matrix)
        (4.0, True)
    """
    matrix, scale = _symmetric(**argument)
    eigenvalues, vectors = np.linalg.eigh(matrix / scale)
    _no_negative(float(eigenvalues[0]), scale, **argument)
    return matrix, scale, np.sqrt(np.maximum(eigenvalues, 0.0))[:, None] * vectors.T


def _symmetric(**argument: ArrayLike) -> tuple[Floats, float]:
    (name,), (matrix,) = argument, finite(**argument)
    if matrix.ndim != 2 or matrix.shape[0] != matrix.shape[1]:
        raise ValueError(f"{name} must be a square matrix, got shape {matrix.shape}")
    scale = float(np.abs(matrix).max()) or 1.0
    if np.abs(matrix - matrix.T).max() > ROUNDING * scale:
        raise ValueError(f"{name} must be symmetric")
    return matrix / 2 + matrix.T / 2, scale


def _no_negative(smallest: float, scale: float, **argument: ArrayLike) -> None:
    """Raise if the smallest eigenvalue of M / scale is negative beyond rounding."""
    (name,) = argument
    if smallest < -ROUNDING:
        raise ValueError(f"{name} must be positive semidefinite, its smallest eigenvalue is {smallest * scale:g}")


def check_cauchy_schwarz(
    first_sq: tuple[str, Floats], second_sq: tuple[str, Floats], inner: tuple[str, Floats]
) -> None:
    """Raise unless inner^2 <= first_sq second_sq, beyond rounding; each argument comes with its name.

    Raises:
        ValueError: naming the inner product.

    Example:
        >>> check_cauchy_schwarz(("var_t", np.array(1.0)), ("var_e", np.array(1.0)), ("cov_te", np.array(2.0)))
        Traceback (most recent call last):
        ValueError: cov_te violates Cauchy-Schwarz: cov_te^2 must not exceed var_t * var_e
    """
    (name_a, a), (name_b, b), (name, c) = first_sq, second_sq, inner
    if (np.abs(c) > np.sqrt(a) * np.sqrt(b) * (1 + ROUNDING)).any():
        raise ValueError(f"{name} violates Cauchy-Schwarz: {name}^2 must not exceed {name_a} * {name_b}")


def check_at_most(value: tuple[str, Floats], limit: tuple[str, Floats]) -> None:
    """Raise unless value <= limit, beyond rounding; each comes with its name. Both are positive.

    Raises:
        ValueError: naming the value and the limit.

    Example:
        >>> check_at_most(("step_size", np.array(0.6)), ("1 / smoothness", np.array(0.5)))
        Traceback (most recent call last):
        ValueError: step_size must be at most 1 / smoothness = 0.5, got 0.6
    """
    (name, values), (name_limit, limits) = value, limit
    values, limits = np.broadcast_arrays(values, limits)
    above = values > limits * (1 + ROUNDING)
    if above.any():
        raise ValueError(
            f"{name} must be at most {name_limit} = {_first(limits, above):g}, got {_first(values, above):g}"
        )


def _all(name: str, array: Floats, good: np.ndarray, condition: str) -> None:
    if not good.all():
        raise ValueError(f"{name} must be {condition}, got {_first(array, ~good)}")


def _first(array: Floats, where: np.ndarray) -> float:
    return float(array[where].ravel()[0])
