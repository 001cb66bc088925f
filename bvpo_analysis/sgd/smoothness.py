"""The smoothness constant L, measured: the eigenvalue of largest size of a Hessian, from Hessian-vector products.

Lanczos iteration needs the Hessian only through products H v, so it serves losses of any dimension. What it gives is
the curvature at one point. Bounds need a constant that holds along the whole path; the largest curvature seen on a path
times a margin is used for it, and called a path constant: measured, not proved.

In the metric of a diagonal preconditioner P (Adam: P = 1 / (sqrt(v) + eps)) a step is x - eta P g, and the constant
that takes the place of L is the eigenvalue of largest size of P^(1/2) H P^(1/2).
"""

from collections.abc import Callable

import numpy as np
from scipy.sparse.linalg import ArpackNoConvergence, LinearOperator, eigsh

from bvpo_analysis.errors import StudyError
from bvpo_analysis.records import Floats

PATH_MARGIN = 1.2
"""Factor from the largest curvature seen on a path to the constant used for it."""


def largest_curvature(
    product: Callable[[Floats], Floats],
    dimension: int,
    *,
    preconditioner: Floats | None = None,
    tolerance: float = 1e-3,
    seed: int = 0,
) -> float:
    """|lambda|_max of P^(1/2) H P^(1/2), with P = 1 by default, by Lanczos (ARPACK).

    Args:
        product: v -> H v, both [dimension]; H symmetric.
        dimension: number of parameters, at least 2.
        preconditioner: [dimension] diagonal of P, positive.
        tolerance: relative accuracy of the eigenvalue.
        seed: of the start vector; the result is deterministic.

    Raises:
        ValueError: the dimension is below 2, or P is not positive and finite.
        StudyError: a product is not finite, or the iteration does not converge.

    Example:
        >>> h = np.diag([1.0, -5.0, 3.0])
        >>> round(largest_curvature(lambda v: h @ v, 3), 6)
        5.0
        >>> round(largest_curvature(lambda v: h @ v, 3, preconditioner=np.array([4.0, 0.2, 1.0])), 6)
        4.0
    """
    if dimension < 2:
        raise ValueError(f"dimension must be at least 2, got {dimension}")
    root = np.ones(dimension) if preconditioner is None else np.asarray(preconditioner, dtype=np.float64)
    if root.shape != (dimension,) or not (np.isfinite(root).all() and (root > 0).all()):
        raise ValueError(f"preconditioner must be positive and finite, of shape ({dimension},)")
    root = np.sqrt(root)

    def scaled(v: Floats) -> Floats:
        result = root * product(root * np.asarray(v, dtype=np.float64).ravel())
        if not np.isfinite(result).all():
            raise StudyError("a Hessian-vector product is not finite; the loss has left the region where it is defined")
        return result

    start = np.random.default_rng(seed).normal(size=dimension)
    if dimension < 3:
        columns = np.stack([scaled(column) for column in np.eye(dimension)])
        return float(np.abs(np.linalg.eigvalsh((columns + columns.T) / 2)).max())
    operator = LinearOperator((dimension, dimension), matvec=scaled, dtype=np.float64)
    try:
        # Ten Lanczos vectors instead of the default twenty: one well separated eigenvalue is wanted, products are dear.
        ncv = min(10, dimension)
        values = eigsh(operator, k=1, ncv=ncv, which="LM", v0=start, tol=tolerance, return_eigenvectors=False)
    except ArpackNoConvergence as error:
        raise StudyError(f"the largest curvature did not converge ({error}); loosen the tolerance") from error
    return float(np.abs(values[0]))


def path_constant(curvatures: list[float]) -> float:
    """The largest of the curvatures met on a path, times the margin of 1.2.

    Raises:
        ValueError: none were measured.

    Example:
        >>> path_constant([1.0, 2.5, 2.0])
        3.0
    """
    if not curvatures:
        raise ValueError("curvatures must not be empty")
    return PATH_MARGIN * max(curvatures)
