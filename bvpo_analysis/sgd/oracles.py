"""What the optimiser sees: a joint law of (g_t, g_e) at every point, sampled and in exact moments.

``ConstantOracle`` adds a fixed bias and a joint noise to the gradient of any problem, so that the bounds' zeta and
sigma^2 are exact numbers. ``reasoning.ReasoningOracle`` has biases that come from traces and depend on the point.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np

from bvpo_analysis import theory
from bvpo_analysis.records import Floats
from bvpo_analysis.sgd.problems import Problem

Noise = Literal["gaussian", "two-atom"]


@dataclass(frozen=True)
class GradientPair:
    """One draw of (g_t, g_e) per repetition, [R, d] each."""

    t: Floats
    e: Floats

    def mix(self, weight: Floats | float) -> Floats:
        """g_c = alpha g_t + (1 - alpha) g_e with one alpha, or one per repetition [R]."""
        alpha = np.asarray(weight)[..., None]
        return alpha * self.t + (1 - alpha) * self.e


@dataclass(frozen=True)
class GradientLawAt:
    """Exact first and second moments of (g_t, g_e) at points [.., d].

    Attributes:
        target: mu = grad f, [.., d].
        bias_t, bias_e: b_t and b_e, [.., d].
        var_t, var_e, cov_te: Tr Cov(g_t), Tr Cov(g_e), Tr Cov(g_t, g_e), [..].
    """

    target: Floats
    bias_t: Floats
    bias_e: Floats
    var_t: Floats
    var_e: Floats
    cov_te: Floats

    @property
    def moments(self) -> dict[str, Floats]:
        """The six scalar moments, [..], by the names that the closed forms use."""
        return {
            "bias_t_sq": (self.bias_t**2).sum(axis=-1),
            "bias_e_sq": (self.bias_e**2).sum(axis=-1),
            "bias_inner": (self.bias_t * self.bias_e).sum(axis=-1),
            "var_t": self.var_t,
            "var_e": self.var_e,
            "cov_te": self.cov_te,
        }

    @property
    def descent_moments(self) -> dict[str, Floats]:
        """Uncentred second moments and <mu, E g>, [..], by the names that ``theory.descent`` uses."""
        mean_t, mean_e = self.target + self.bias_t, self.target + self.bias_e
        return {
            "second_t": (mean_t**2).sum(axis=-1) + self.var_t,
            "second_e": (mean_e**2).sum(axis=-1) + self.var_e,
            "second_te": (mean_t * mean_e).sum(axis=-1) + self.cov_te,
            "signal_t": (self.target * mean_t).sum(axis=-1),
            "signal_e": (self.target * mean_e).sum(axis=-1),
        }

    def bias_sq(self, weight: Floats | float) -> Floats:
        """|alpha b_t + (1 - alpha) b_e|^2, [..]."""
        alpha = np.asarray(weight)[..., None]
        return np.asarray(((alpha * self.bias_t + (1 - alpha) * self.bias_e) ** 2).sum(axis=-1))

    def noise_var(self, weight: Floats | float) -> Floats:
        """Tr Cov(alpha g_t + (1 - alpha) g_e), [..]."""
        # A combination of variances: below zero by rounding only.
        return np.maximum(theory.error_curve(weight, self.var_t, self.var_e, self.cov_te), 0.0)


class Oracle(ABC):
    """A joint law of (g_t, g_e) at every point of a problem.

    Attributes:
        problem: the loss whose gradient both estimate.
        constant: whether biases and noise are the same everywhere.
    """

    problem: Problem
    constant: bool

    @abstractmethod
    def sample(self, x: Floats, rng: np.random.Generator) -> GradientPair:
        """One independent draw per repetition, at points [R, d]."""

    @abstractmethod
    def law(self, x: Floats) -> GradientLawAt:
        """Exact moments at points [.., d]."""

    @abstractmethod
    def covariance_t(self, x: Floats) -> Floats:
        """Cov(g_t) at one point [d], [d, d]: what shrinkage needs."""


@dataclass(frozen=True)
class ConstantOracle(Oracle):
    """g_t = grad f + b_t + xi_t and g_e = grad f + b_e + xi_e with constant biases and one joint law of the noise.

    The noise is F z with F F' the joint covariance [2d, 2d] of (xi_t, xi_e), and z standard normal, or with independent
    coordinates of two values: 3 with probability 1/10 and -1/3 with 9/10 (mean 0, variance 1, skewed).

    Attributes:
        problem: the loss.
        bias_t, bias_e: [d].
        noise_cov: joint covariance of (xi_t, xi_e), [2d, 2d].
        noise: "gaussian" or "two-atom".

    Raises:
        ValueError: a bias or the covariance is not finite or has another shape, or the covariance is not symmetric and
            positive semidefinite.

    Example:
        >>> from bvpo_analysis.sgd.problems import Quadratic
        >>> bowl = Quadratic.diagonal("bowl", [1.0, 1.0])
        >>> oracle = ConstantOracle.isotropic(bowl, [0.0, 0.0], [1.0, 0.0], var_t=4.0, var_e=1.0, cov_te=0.5)
        >>> {name: round(float(value), 12) for name, value in oracle.law(np.ones(2)).moments.items()}
        {'bias_t_sq': 0.0, 'bias_e_sq': 1.0, 'bias_inner': 0.0, 'var_t': 4.0, 'var_e': 1.0, 'cov_te': 0.5}
    """

    problem: Problem
    bias_t: Floats
    bias_e: Floats
    noise_cov: Floats
    noise: Noise = "gaussian"

    constant = True

    def __post_init__(self) -> None:
        d = self.problem.dimension
        self.problem.point(self.bias_t, "bias_t")
        self.problem.point(self.bias_e, "bias_e")
        if self.noise not in ("gaussian", "two-atom"):
            raise ValueError(f"noise must be 'gaussian' or 'two-atom', got {self.noise!r}")
        if self.noise_cov.shape != (2 * d, 2 * d) or not np.isfinite(self.noise_cov).all():
            raise ValueError(f"noise_cov must be a finite matrix [{2 * d}, {2 * d}], got shape {self.noise_cov.shape}")
        scale = np.abs(self.noise_cov).max()
        if (np.abs(self.noise_cov - self.noise_cov.T) > 1e-9 * scale).any():
            raise ValueError("noise_cov must be symmetric")
        if np.linalg.eigvalsh(self.noise_cov)[0] < -1e-9 * scale:
            raise ValueError("noise_cov must be positive semidefinite")

    @classmethod
    def isotropic(
        cls,
        problem: Problem,
        bias_t: "list[float] | Floats",
        bias_e: "list[float] | Floats",
        *,
        var_t: float,
        var_e: float,
        cov_te: float,
        noise: Noise = "gaussian",
    ) -> "ConstantOracle":
        """Noise of these traces, spread evenly over the d directions."""
        joint = np.array([[var_t, cov_te], [cov_te, var_e]]) / problem.dimension
        return cls(problem, np.asarray(bias_t, float), np.asarray(bias_e, float), _kron(joint, problem), noise)

    def sample(self, x: Floats, rng: np.random.Generator) -> GradientPair:
        d = self.problem.dimension
        size = (len(x), 2 * d)
        # Two values with mean 0 and variance 1: the larger is rare, so that the law is skewed.
        z = rng.normal(size=size) if self.noise == "gaussian" else np.where(rng.random(size) < 0.1, 3.0, -1.0 / 3.0)
        noise = z @ self._factor.T
        gradient = self.problem.gradient(x)
        return GradientPair(gradient + self.bias_t + noise[:, :d], gradient + self.bias_e + noise[:, d:])

    def law(self, x: Floats) -> GradientLawAt:
        d = self.problem.dimension
        target = self.problem.gradient(x)
        blocks = self.noise_cov[:d, :d], self.noise_cov[d:, d:], self.noise_cov[:d, d:]
        traces = [np.full(target.shape[:-1], np.trace(block)) for block in blocks]
        shape = target.shape
        return GradientLawAt(target, np.broadcast_to(self.bias_t, shape), np.broadcast_to(self.bias_e, shape), *traces)

    def bias_of_mix(self, weight: float) -> Floats:
        """alpha b_t + (1 - alpha) b_e, [d]."""
        return weight * self.bias_t + (1 - weight) * self.bias_e

    def covariance_of_mix(self, weight: float) -> Floats:
        """Cov(g_c), [d, d]."""
        d = self.problem.dimension
        mixing = np.concatenate([weight * np.eye(d), (1 - weight) * np.eye(d)], axis=1)
        return np.asarray(mixing @ self.noise_cov @ mixing.T)

    def covariance_t(self, x: Floats) -> Floats:
        d = self.problem.dimension
        return self.noise_cov[:d, :d]

    @cached_property
    def _factor(self) -> Floats:
        values, vectors = np.linalg.eigh(self.noise_cov)
        return np.asarray(vectors * np.sqrt(np.maximum(values, 0.0)))


def _kron(joint: Floats, problem: Problem) -> Floats:
    return np.asarray(np.kron(joint, np.eye(problem.dimension)))
