"""Biased SGD on a quadratic, exactly: the first two moments of every iterate, and the stationary values.

f(x) = (1/2) x'Hx with H symmetric and positive semidefinite, x measured from the minimiser, and steps
x+ = x - eta (Hx + b + xi) with a constant bias b and independent noise, E xi = 0, Cov xi = S. In the eigenbasis of H,
coordinate i with curvature h has

    E x+ = (1 - eta h) E x - eta b_i,        Var x+ = (1 - eta h)^2 Var x + eta^2 S_ii,

and E|grad f|^2 and E f need nothing else, because both are diagonal there. S need not commute with H: its entries off
the diagonal of that basis have no effect. The law of the noise beyond S has none either.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from bvpo_analysis.records import Floats
from bvpo_analysis.theory.arguments import ROUNDING, finite, nonnegative, positive, semidefinite


@dataclass(frozen=True)
class QuadraticPath:
    """Exact expectations along T steps from a fixed x_0; index j is after j steps.

    Attributes:
        gradient_sq: E|grad f(x_j)|^2; [T + 1].
        excess_loss: E f(x_j) - min f; [T + 1].
        mean: E x_j; [T + 1, d].
    """

    gradient_sq: Floats
    excess_loss: Floats
    mean: Floats


@dataclass(frozen=True)
class QuadraticStationary:
    """Exact expectations under the stationary law of a constant step.

    Attributes:
        gradient_sq: E|grad f|^2.
        excess_loss: E f - min f.
        mean: E x = -H^{-1} b; [d].
    """

    gradient_sq: float
    excess_loss: float
    mean: Floats


def quadratic_path(
    *, hessian: ArrayLike, start: ArrayLike, bias: ArrayLike, noise_cov: ArrayLike, step_size: ArrayLike, steps: int
) -> QuadraticPath:
    """The exact recursion of the first two moments, for any step sizes, stable or not.

    Args:
        hessian: H; [d] its diagonal, or [d, d].
        start: x_0, relative to the minimiser; [d].
        bias: b; [d].
        noise_cov: S; [d] its diagonal, or [d, d].
        step_size: eta, one number or one per step [T].
        steps: T >= 0.

    Raises:
        ValueError: an argument is not finite or of another shape, step_size is not positive, steps is negative, or
            hessian or noise_cov is not symmetric and positive semidefinite.

    Example:
        >>> path = quadratic_path(hessian=[1.0], start=[2.0], bias=[1.0], noise_cov=[3.0], step_size=1.0, steps=2)
        >>> path.gradient_sq, path.excess_loss
        (array([4., 4., 4.]), array([2., 2., 2.]))
    """
    if steps < 0:
        raise ValueError(f"steps must not be negative, got {steps}")
    (eta,) = positive(step_size=step_size)
    if eta.shape not in ((), (steps,)):
        raise ValueError(f"step_size must be one number or one per step [{steps}], got shape {eta.shape}")
    h, basis = _eigenbasis(hessian)
    mean, shift = _vector(basis, start=start), _vector(basis, bias=bias)
    noise = _diagonal(noise_cov, basis)
    means, variances = np.empty((steps + 1, h.size)), np.empty((steps + 1, h.size))
    variance = np.zeros_like(h)
    means[0], variances[0] = mean, variance
    for j, size in enumerate(np.broadcast_to(eta, (steps,)), start=1):
        mean = (1 - size * h) * mean - size * shift
        variance = (1 - size * h) ** 2 * variance + size**2 * noise
        means[j], variances[j] = mean, variance
    second = means**2 + variances
    return QuadraticPath(gradient_sq=second @ h**2, excess_loss=second @ h / 2, mean=means @ basis.T)


def quadratic_stationary(
    *, hessian: ArrayLike, bias: ArrayLike, noise_cov: ArrayLike, step_size: float
) -> QuadraticStationary:
    """The fixed point of the recursion: bias and noise decouple.

        E|grad f|^2 = |b|^2 + eta sum_i h_i S_ii / (2 - eta h_i),
        E f - min f = (1/2) b'H^{-1}b + (eta/2) sum_i S_ii / (2 - eta h_i),         i over the eigenbasis of H.

    Proof: coordinate i has mean -b_i/h_i and variance eta^2 S_ii / (1 - (1 - eta h_i)^2), which is
    eta S_ii / (h_i (2 - eta h_i)). The excess loss weights the bias by H^{-1}: flat directions amplify it, and a
    trade-off made for the gradient norm is not the one for the loss.

    Args:
        hessian: H; [d] its diagonal, or [d, d].
        bias: b; [d].
        noise_cov: S; [d] its diagonal, or [d, d].
        step_size: eta < 2 / (largest eigenvalue of H).

    Raises:
        ValueError: an argument is not finite or of another shape, hessian is not positive definite, noise_cov is not
            symmetric and positive semidefinite, or step_size is not in (0, 2 / largest eigenvalue).

    Example:
        >>> law = quadratic_stationary(hessian=[1.0, 0.5], bias=[0.0, 1.0], noise_cov=[3.0, 0.0], step_size=0.5)
        >>> law.gradient_sq, law.excess_loss
        (2.0, 1.5)
    """
    (eta,) = positive(step_size=step_size)
    if eta.ndim:
        raise ValueError("step_size must be one number")
    h, basis = _eigenbasis(hessian)
    if h.min() <= ROUNDING * h.max():
        raise ValueError(f"hessian must be positive definite, got smallest eigenvalue {h.min():g}")
    if eta * h.max() >= 2:
        raise ValueError(f"step_size must be below 2 / (largest eigenvalue) = {2 / h.max():g}, got {eta:g}")
    shift, noise = _vector(basis, bias=bias), _diagonal(noise_cov, basis)
    spread = noise / (2 - eta * h)
    return QuadraticStationary(
        gradient_sq=float(shift @ shift + eta * (h @ spread)),
        excess_loss=float((shift**2 / h).sum() / 2 + eta / 2 * spread.sum()),
        mean=basis @ (-shift / h),
    )


def steady_variance_weight(kappa: ArrayLike) -> Floats:
    """kappa / (2 - kappa), the weight of the noise in the stationary E|grad f|^2 = |b|^2 + kappa/(2 - kappa) sigma^2.

    Exact for H = L I, kappa = eta L and a constant bias. The bound of the paper's Theorem 3 has kappa instead: equal at
    kappa = 1, twice as much for small steps.

    Args:
        kappa: eta L in (0, 2), where the recursion is stable; [..].

    Raises:
        ValueError: kappa is not finite, or outside (0, 2).

    Example:
        >>> steady_variance_weight([0.5, 1.0]).round(3)
        array([0.333, 1.   ])
    """
    (k,) = positive(kappa=kappa)
    if (k >= 2).any():
        raise ValueError(f"kappa must be below 2, got {k[k >= 2].ravel()[0]:g}")
    return k / (2 - k)


def _eigenbasis(hessian: ArrayLike) -> tuple[Floats, Floats]:
    """Eigenvalues [d] and orthonormal eigenvectors in columns [d, d]."""
    (matrix,) = finite(hessian=hessian)
    if matrix.ndim == 1:
        (values,) = nonnegative(hessian=matrix)
        return values, np.eye(matrix.size)
    values, basis = np.linalg.eigh(semidefinite(hessian=matrix))
    return np.maximum(values, 0.0), basis  # negative by rounding only


def _vector(basis: Floats, **argument: ArrayLike) -> Floats:
    """A vector [d] in eigencoordinates."""
    (name,), (vector,) = argument, finite(**argument)
    if vector.shape != basis.shape[:1]:
        raise ValueError(f"{name} must have shape {basis.shape[:1]} like the hessian, got {vector.shape}")
    return vector @ basis


def _diagonal(noise_cov: ArrayLike, basis: Floats) -> Floats:
    """Variances of the noise along the eigenvectors, [d]."""
    (matrix,) = finite(noise_cov=noise_cov)
    if matrix.shape == basis.shape[:1]:
        matrix = np.diag(matrix)
    if matrix.shape != basis.shape:
        raise ValueError(f"noise_cov must have shape {basis.shape[:1]} or {basis.shape}, got {matrix.shape}")
    return np.maximum(
        np.einsum("ji,jk,ki->i", basis, semidefinite(noise_cov=matrix), basis), 0.0
    )  # negative by rounding only
