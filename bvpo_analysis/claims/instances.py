"""What claims are measured on: finite laws of (g_t, g_e, mu) as explicit vectors, and the choice of the worst instance.

Every expectation is a weighted sum over atoms. Nothing here uses a closed form of ``theory``.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from bvpo_analysis.records import Floats

ROUNDING = 1e-9
"""Relative allowance of a deterministic identity in float64."""
INFORMATIVE = 1e-3
"""Least size, relative to its scale, of a number worth showing."""


@dataclass(frozen=True)
class FiniteLaw:
    """Atoms with probabilities p [n] and gradients t, e [n, d], and the target mu [d]."""

    p: Floats
    t: Floats
    e: Floats
    mu: Floats

    @classmethod
    def independent(cls, t: ArrayLike, e: ArrayLike, mu: float = 0.0) -> "FiniteLaw":
        """Scalar g_t and g_e, uniform on these values and independent of each other."""
        first, second = np.meshgrid(np.asarray(t, dtype=float), np.asarray(e, dtype=float), indexing="ij")
        n = first.size
        return cls(np.full(n, 1.0 / n), first.reshape(n, 1), second.reshape(n, 1), np.array([mu]))

    def mean(self, x: Floats) -> float:
        """E x of a number per atom."""
        return float(self.p @ x)

    def inner(self, x: Floats, y: Floats) -> float:
        """E<x, y>."""
        return self.mean((x * y).sum(axis=1))

    def covariance(self, x: Floats, y: Floats) -> float:
        """Tr Cov(x, y), centred."""
        return self.inner(x - self.p @ x, y - self.p @ y)

    def mix(self, alpha: float) -> Floats:
        """g_c = alpha g_t + (1 - alpha) g_e, [n, d]."""
        return alpha * self.t + (1 - alpha) * self.e

    def error_of_mix(self, alpha: float) -> float:
        """E|g_c - mu|^2."""
        difference = self.mix(alpha) - self.mu
        return self.inner(difference, difference)

    def variance_of_mix(self, alpha: float) -> float:
        """Tr Cov(g_c)."""
        return self.covariance(self.mix(alpha), self.mix(alpha))

    @property
    def best_weight(self) -> float:
        """The unclipped minimiser of the error of the mix: the vertex of the parabola through three of its values."""
        at_minus_1, at_0, at_1 = (self.error_of_mix(alpha) for alpha in (-1.0, 0.0, 1.0))
        return (at_minus_1 - at_1) / (2 * (at_minus_1 + at_1 - 2 * at_0))

    @property
    def error_of_difference(self) -> float:
        """D = E|g_t - g_e|^2, from differences."""
        return self.inner(self.t - self.e, self.t - self.e)

    @property
    def scale(self) -> float:
        """E|g_t|^2 + E|g_e|^2 + |mu|^2, the size of the terms in any moment."""
        return self.inner(self.t, self.t) + self.inner(self.e, self.e) + float(self.mu @ self.mu)

    @property
    def var_t(self) -> float:
        """Tr Cov(g_t)."""
        return self.covariance(self.t, self.t)

    @property
    def moments(self) -> dict[str, float]:
        """The six moments that the kappa-weighted forms take, by argument name."""
        b_t, b_e = self.p @ self.t - self.mu, self.p @ self.e - self.mu
        return {
            "bias_t_sq": float(b_t @ b_t),
            "bias_e_sq": float(b_e @ b_e),
            "bias_inner": float(b_t @ b_e),
            "var_t": self.var_t,
            "var_e": self.covariance(self.e, self.e),
            "cov_te": self.covariance(self.t, self.e),
        }

    @property
    def errors(self) -> dict[str, float]:
        """A, C and B against mu, by argument name."""
        x, z = self.t - self.mu, self.e - self.mu
        return {"error_t": self.inner(x, x), "error_e": self.inner(z, z), "cross": self.inner(x, z)}


def finite_laws(count: int, *, fixed_e: bool = False, seed: int = 0) -> Iterator[FiniteLaw]:
    """Random laws: 2 to 5 atoms in 1 to 6 dimensions, of scales 0.1 to 10; ``fixed_e`` gives a constant g_e."""
    rng = np.random.default_rng(seed)
    for _ in range(count):
        n, d = int(rng.integers(2, 6)), int(rng.integers(1, 7))
        scale_t, scale_e = 10.0 ** rng.uniform(-1, 1, size=2)
        t = scale_t * rng.normal(size=(n, d)) + rng.normal(size=d)
        noise_e = 0.0 if fixed_e else scale_e
        e = noise_e * rng.normal(size=(n, d)) + rng.normal(size=d)
        yield FiniteLaw(rng.dirichlet(np.ones(n)), t, e, rng.normal(size=d))


def highest(instances: Iterable[tuple[ArrayLike, ArrayLike, ArrayLike]]) -> tuple[float, float, float]:
    """For an upper bound: the instance (measured, predicted, scale) that exceeds it most, relative to its scale.

    Example:
        >>> highest([(1.0, 3.0, 1.0), (2.0, 2.5, 1.0)])
        (2.0, 2.5, 1e-09)
    """
    return _extreme(instances, lambda excess: excess)


def worst(instances: Iterable[tuple[ArrayLike, ArrayLike, ArrayLike]]) -> tuple[float, float, float]:
    """The instance (measured, predicted, scale) that deviates most relative to its scale.

    Where every instance agrees to rounding, those whose sides are tiny beside their scale are passed over: they are
    the ones that deviate most and show least.

    Args:
        instances: the two sides, and the size of the terms they were summed from, which rounding is relative to.

    Returns:
        Its measured and predicted values, and its allowance for rounding.

    Example:
        >>> worst([(1.0, 1.0, 1.0), (2.0, 3.0, 10.0)])
        (2.0, 3.0, 1e-08)
    """
    return _extreme(instances, np.abs)


def _extreme(
    instances: Iterable[tuple[ArrayLike, ArrayLike, ArrayLike]], size: Callable[[Floats], Floats]
) -> tuple[float, float, float]:
    rows = np.array(list(instances), dtype=np.float64)
    if (np.abs(rows[:, 0] - rows[:, 1]) <= ROUNDING * rows[:, 2]).all():
        telling = np.abs(rows[:, 1]) >= INFORMATIVE * rows[:, 2]
        rows = rows[telling] if telling.any() else rows
    measured, predicted, scale = rows[np.argmax(size(rows[:, 0] - rows[:, 1]) / rows[:, 2])]
    return float(measured), float(predicted), float(ROUNDING * scale)
