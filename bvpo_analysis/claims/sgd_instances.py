"""What the bounds on biased SGD are measured on: exact runs on quadratics, and every noise path on other losses.

A run on (1/2) x'Hx is followed through E x and E xx' as matrices; on a loss that is not quadratic all 2^T paths of
two-atom noise are enumerated, with a bias that depends on the point. Nothing here uses a closed form of ``theory``.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from bvpo_analysis.claims.instances import ROUNDING
from bvpo_analysis.records import Floats


@dataclass(frozen=True)
class Trajectory:
    """Expectations along a run; index j is after j steps.

    Attributes:
        gradient_sq: E|grad f(x_j)|^2; [T + 1].
        loss: E f(x_j) - min f; [T + 1].
        law: the run in the words of the bounds: smoothness, bias_bound, noise_var.
        step_size: eta.
    """

    gradient_sq: Floats
    loss: Floats
    law: dict[str, float]
    step_size: float

    @property
    def steps(self) -> int:
        """T."""
        return len(self.loss) - 1

    @property
    def average(self) -> float:
        """The average of E|grad f(x_j)|^2 over the T points where a step began."""
        return float(self.gradient_sq[:-1].mean())

    @property
    def by_gap(self) -> dict[str, float]:
        """Arguments of the bounds that know f(x_0) - f*."""
        return {**self.law, "steps": self.steps, "step_size": self.step_size, "initial_gap": float(self.loss[0])}

    @property
    def by_decrease(self) -> dict[str, float]:
        """Arguments of the bounds that know f(x_0) - E f(x_T)."""
        decrease = float(self.loss[0] - self.loss[-1])
        return {**self.law, "steps": self.steps, "step_size": self.step_size, "decrease": decrease}


@dataclass(frozen=True)
class Quadratic:
    """(1/2) x'Hx with a constant bias b [d] and noise of covariance S [d, d], from x_0 [d]; H is [d, d]."""

    hessian: Floats
    start: Floats
    bias: Floats
    noise_cov: Floats

    @classmethod
    def line(cls, curvature: float, start: float, bias: float, noise_var: float) -> "Quadratic":
        """One dimension."""
        return cls(np.array([[curvature]]), np.array([start]), np.array([bias]), np.array([[noise_var]]))

    @property
    def smoothness(self) -> float:
        """L, the largest eigenvalue of H."""
        return float(np.linalg.eigvalsh(self.hessian)[-1])

    @property
    def pl_constant(self) -> float:
        """m, the smallest eigenvalue of H."""
        return float(np.linalg.eigvalsh(self.hessian)[0])

    def run(self, etas: ArrayLike) -> Trajectory:
        """Follow E x and E xx' through steps of these sizes [T]."""
        sizes = np.asarray(etas, dtype=np.float64)
        mean, second, rows = self.start, np.outer(self.start, self.start), []
        for eta in [*sizes, 0.0]:
            weighted = self.hessian @ second
            rows.append((np.trace(weighted @ self.hessian), np.trace(weighted) / 2))
            step, drift = np.eye(len(mean)) - eta * self.hessian, eta * self.bias
            cross = np.outer(step @ mean, drift)
            second = step @ second @ step - cross - cross.T + np.outer(drift, drift) + eta**2 * self.noise_cov
            mean = step @ mean - drift
        gradient_sq, loss = np.array(rows).T
        law = {
            "smoothness": self.smoothness,
            "bias_bound": float(np.sqrt(self.bias @ self.bias)),
            "noise_var": float(np.trace(self.noise_cov)),
        }
        return Trajectory(gradient_sq, loss, law, float(sizes[0]))


def quadratics(count: int, *, largest_condition: float = 100.0, seed: int = 0) -> Iterator[Quadratic]:
    """Random rotations and spectra with a condition number of at most so much; start, bias and noise of all sizes."""
    rng = np.random.default_rng(seed)
    for _ in range(count):
        d, smoothness = int(rng.integers(1, 5)), 10.0 ** rng.uniform(-1, 1)
        spectrum = smoothness * largest_condition ** rng.uniform(-1, 0, size=d)
        basis, _ = np.linalg.qr(rng.normal(size=(d, d)))
        root = 10.0 ** rng.uniform(-1, 1) * rng.normal(size=(d, d))
        yield Quadratic(
            hessian=basis @ np.diag(spectrum) @ basis.T,
            start=10.0 ** rng.uniform(-1, 1) / smoothness * rng.normal(size=d),
            bias=10.0 ** rng.uniform(-1, 1) * rng.normal(size=d),
            noise_cov=root @ root.T,
        )


@dataclass(frozen=True)
class NoisePaths:
    """All 2^T paths of x+ = x - eta (grad f + b +- sigma w), w a unit vector that depends on the point.

    Attributes:
        trajectory: expectations over the paths.
        start_distance: |x_0|.
        radius: the largest |x_j|, j < T, of any path; the minimiser is 0.
        loss_of_average: E f(mean of x_0 .. x_{T-1}) - min f.
    """

    trajectory: Trajectory
    start_distance: float
    radius: float
    loss_of_average: float


@dataclass(frozen=True)
class SmoothLoss:
    """A loss with smoothness 1, minimum 0 at 0, on points [n, d]; convex or not."""

    value: Callable[[Floats], Floats]
    gradient: Callable[[Floats], Floats]


COSINE = SmoothLoss(lambda x: (1 - np.cos(x)).sum(axis=1), np.sin)
"""sum of 1 - cos(x_i): not convex."""

LOG_COSH = SmoothLoss(lambda x: (np.logaddexp(x, -x) - np.log(2)).sum(axis=1), np.tanh)
"""sum of log cosh(x_i): convex, and flat far out."""


def noise_paths(loss: SmoothLoss, count: int, *, largest_kappa: float = 1.0, seed: int = 0) -> Iterator[NoisePaths]:
    """Random runs of 2 to 6 steps with biases against the gradient, along it, or in a fixed direction."""
    rng = np.random.default_rng(seed)
    for i in range(count):
        d, steps, eta = int(rng.integers(1, 4)), int(rng.integers(2, 7)), largest_kappa * rng.uniform(0.05, 1)
        zeta, sigma = rng.uniform(0, 2, size=2)
        fixed, tilt = _unit(rng.normal(size=(1, d))), rng.normal(size=(d, d))
        x, points = rng.uniform(-4, 4, size=(1, d)), []
        for _ in range(steps):
            points.append(x)
            gradient = loss.gradient(x)
            bias = (-_unit(gradient), _unit(gradient), fixed)[i % 3]
            mean = x - eta * (gradient + zeta * bias)
            noise = eta * sigma * _unit(np.cos(x @ tilt) + 0.1)
            x = np.concatenate([mean + noise, mean - noise])
        # A path's halves come one after the other, so that the ancestors of the last points repeat in order.
        average = np.mean([np.tile(p, (len(points[-1]) // len(p), 1)) for p in points], axis=0)
        rows = [((loss.gradient(p) ** 2).sum(axis=1).mean(), loss.value(p).mean()) for p in [*points, x]]
        gradient_sq, value = np.array(rows).T
        law = {"smoothness": 1.0, "bias_bound": zeta, "noise_var": sigma**2}
        yield NoisePaths(
            trajectory=Trajectory(gradient_sq, value, law, eta),
            start_distance=float(np.sqrt((points[0] ** 2).sum())),
            radius=float(max(np.sqrt((p**2).sum(axis=1)).max() for p in points)),
            loss_of_average=float(loss.value(average).mean()),
        )


def trajectories(quadratic: int, nonconvex: int, steps: int = 8) -> list[Trajectory]:
    """Runs on random quadratics with kappa in (0, 1], and on the cosine loss."""
    rng = np.random.default_rng(1)
    exact = [q.run(np.full(steps, rng.uniform(0.05, 1) / q.smoothness)) for q in quadratics(quadratic)]
    return exact + [paths.trajectory for paths in noise_paths(COSINE, nonconvex)]


def closest(instances: Iterable[tuple[ArrayLike, ArrayLike]]) -> tuple[float, float, float]:
    """The instance (measured, bound) that comes closest to its bound, or exceeds it most, relative to the bound.

    Returns:
        Its measured and predicted values, and its allowance for rounding.

    Example:
        >>> closest([(1.0, 4.0), (3.0, 4.0)])
        (3.0, 4.0, 4e-09)
    """
    rows = np.array(list(instances), dtype=np.float64)
    measured, predicted = rows[np.argmax(rows[:, 0] / rows[:, 1])]
    return float(measured), float(predicted), float(ROUNDING * predicted)


def _unit(vectors: Floats) -> Floats:
    norms = np.sqrt((vectors**2).sum(axis=1, keepdims=True))
    return vectors / np.where(norms > 0, norms, 1.0)
