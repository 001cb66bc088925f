"""The measured moments of the model in the box, put into a quadratic of few dimensions.

mu, b_t and b_e become vectors with the measured inner products, in R^3; noise of the measured traces is spread evenly.
The start is the point where the gradient of the quadratic is mu. Biases and noise then stay as they are at the
reference, which in training they do not: this isolates what the step size and the horizon alone do to the best weight.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike

from bvpo_analysis.moments import Moments
from bvpo_analysis.preferences.shipped import REGIMES
from bvpo_analysis.records import Floats
from bvpo_analysis.sgd.cases import Case
from bvpo_analysis.sgd.oracles import ConstantOracle
from bvpo_analysis.sgd.problems import Quadratic

CURVATURES = (1.0, 1.0, 1.0)
"""The default Hessian, of smoothness 1: every direction alike."""


def vectors_of(gram: ArrayLike) -> Floats:
    """Vectors [n, n] with these inner products [n, n]; rounding of a singular Gram matrix is forgiven.

    Raises:
        ValueError: the matrix is not symmetric and positive semidefinite.

    Example:
        >>> v = vectors_of([[4.0, 2.0], [2.0, 1.0]])
        >>> (v @ v.T).round(12).tolist()
        [[4.0, 2.0], [2.0, 1.0]]
    """
    matrix = np.asarray(gram, dtype=np.float64)
    if matrix.ndim != 2 or not np.allclose(matrix, matrix.T, rtol=1e-9, atol=1e-12 * np.abs(matrix).max()):
        raise ValueError("gram must be a symmetric matrix")
    values, basis = np.linalg.eigh(matrix)
    if values[0] < -1e-9 * np.abs(values).max():
        raise ValueError(f"gram must be positive semidefinite, got eigenvalue {values[0]:g}")
    return np.asarray(basis * np.sqrt(np.maximum(values, 0.0)))


def matched_case(
    name: str, moments: Moments, *, batch_size: float = 16, curvatures: Sequence[float] = CURVATURES, seed: int = 0
) -> Case:
    """A quadratic in R^3 on which g_t and g_e have these moments, against the population gradient, at batch size B.

    Args:
        name: of the case.
        moments: exact moments at the reference, where b_t = 0; the first replicate is used.
        batch_size: B.
        curvatures: eigenvalues of the Hessian, [3]; the orientation of mu and b_e towards them is random.
        seed: of that orientation.

    Raises:
        ValueError: b_t is not 0, or there are not three curvatures.

    Example:
        >>> from bvpo_analysis.exact import load_table
        >>> moments = load_table("correct").moments
        >>> case = matched_case("correct", moments)
        >>> law, exact = case.oracle.law(case.start), moments.population(16)
        >>> bool(np.isclose(law.moments["bias_e_sq"], exact.bias_e_sq[0])), bool(np.isclose(law.var_t, exact.var_t[0]))
        (True, True)
    """
    law = moments.population(batch_size)
    bias_t_sq, bias_e_sq = float(law.bias_t_sq[0]), float(law.bias_e_sq[0])
    if abs(bias_t_sq) > 1e-9 * max(bias_e_sq, float(moments.target_sq[0])):
        raise ValueError("the moments must be those at the reference, where g_t is unbiased")
    if len(curvatures) != 3:
        raise ValueError(f"curvatures must be three numbers, got {len(curvatures)}")
    target_sq = float(moments.target_sq[0])
    along = float(moments.target_dot_e[0]) - target_sq  # <mu, b_e>
    turn, _ = np.linalg.qr(np.random.default_rng(seed).normal(size=(3, 3)))
    pair = vectors_of([[target_sq, along], [along, bias_e_sq]])
    mu, bias_e = np.pad(pair, ((0, 0), (0, 1))) @ turn
    problem = Quadratic.diagonal(name, np.asarray(curvatures, dtype=np.float64))
    oracle = ConstantOracle.isotropic(
        problem,
        np.zeros(3),
        bias_e,
        var_t=float(law.var_t[0]),
        var_e=float(law.var_e[0]),
        cov_te=float(law.cov_te[0]),
    )
    return Case(name, oracle, np.linalg.solve(problem.hessian, mu))


def shipped_cases(*, batch_size: float = 16, curvatures: Sequence[float] = CURVATURES) -> tuple[Case, ...]:
    """One matched quadratic per preference regime of the model in the box, from its committed exact moments."""
    from bvpo_analysis.exact import load_table

    return tuple(
        matched_case(regime, load_table(regime).moments, batch_size=batch_size, curvatures=curvatures)
        for regime in REGIMES
    )
