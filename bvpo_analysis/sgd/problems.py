"""Smooth losses to run biased SGD on, each with the constants that the bounds ask for, proved in its docstring.

A problem knows its smoothness L, its minimum f*, and the best constants m that are known for strong convexity,
f(y) >= f(x) + <grad f(x), y - x> + (m/2)|y - x|^2, and for the Polyak-Lojasiewicz (PL) inequality,
|grad f|^2 >= 2 m (f - f*). Values carry the unit of the loss, points that of the parameters.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar, Literal

import numpy as np

from bvpo_analysis.records import Floats

Kind = Literal["nonconvex", "pl", "convex", "strongly convex"]


class Problem(ABC):
    """A loss f on R^d that is L-smooth and bounded below.

    Attributes:
        name: short, unique within a study.
        dimension: d.
        smoothness: L, with |grad f(x) - grad f(y)| <= L |x - y|.
        minimum: f*, the infimum of f.
        minimiser: a point x* with f(x*) = f*, [d].
        strong_convexity: m of strong convexity, 0 where f is not strongly convex.
        pl_constant: m of the PL inequality, 0 where none is known; never below ``strong_convexity``.
    """

    name: str

    @property
    @abstractmethod
    def dimension(self) -> int: ...

    @property
    @abstractmethod
    def smoothness(self) -> float: ...

    @property
    @abstractmethod
    def minimum(self) -> float: ...

    @property
    @abstractmethod
    def minimiser(self) -> Floats: ...

    @property
    @abstractmethod
    def kind(self) -> Kind: ...

    @property
    def strong_convexity(self) -> float:
        return 0.0

    @property
    def pl_constant(self) -> float:
        return self.strong_convexity

    @abstractmethod
    def value(self, x: Floats) -> Floats:
        """f(x), [..] for points [.., d]."""

    @abstractmethod
    def gradient(self, x: Floats) -> Floats:
        """grad f(x), [.., d] for points [.., d]."""

    @property
    def is_convex(self) -> bool:
        return self.kind in ("convex", "strongly convex")

    def point(self, x: Floats, name: str = "x") -> Floats:
        """x as float64 points [.., d].

        Raises:
            ValueError: x is not finite or has another last axis.
        """
        array = np.asarray(x, dtype=np.float64)
        if array.shape[-1:] != (self.dimension,):
            raise ValueError(f"{name} must have {self.dimension} coordinates, got shape {array.shape}")
        if not np.isfinite(array).all():
            raise ValueError(f"{name} must be finite")
        return array


@dataclass(frozen=True)
class Quadratic(Problem):
    """f(x) = (1/2) x'Hx: L is the largest eigenvalue of H and m the smallest; f* = 0 at the origin.

    Attributes:
        name: as in :class:`Problem`.
        hessian: H, [d, d], symmetric and positive semidefinite, not zero.

    Raises:
        ValueError: hessian is not such a matrix; a negative eigenvalue leaves the loss unbounded below.

    Example:
        >>> problem = Quadratic.diagonal("bowl", [1.0, 0.1])
        >>> problem.smoothness, problem.strong_convexity, problem.gradient(np.array([1.0, 1.0])).tolist()
        (1.0, 0.1, [1.0, 0.1])
    """

    name: str
    hessian: Floats

    def __post_init__(self) -> None:
        h = self.hessian
        if h.ndim != 2 or h.shape[0] != h.shape[1] or h.size == 0 or not np.isfinite(h).all():
            raise ValueError(f"hessian must be a finite square matrix, got shape {h.shape}")
        if not np.allclose(h, h.T, rtol=1e-9, atol=0):
            raise ValueError("hessian must be symmetric")
        if self._eigenvalues[0] < -1e-9 * abs(self._eigenvalues[-1]):
            raise ValueError(f"the loss is not bounded below: hessian has eigenvalue {self._eigenvalues[0]:g}")
        if self._eigenvalues[-1] <= 0:
            raise ValueError("hessian must not be zero")

    @classmethod
    def diagonal(cls, name: str, curvatures: "list[float] | Floats") -> "Quadratic":
        """H = diag(curvatures)."""
        return cls(name, np.diag(np.asarray(curvatures, dtype=np.float64)))

    @classmethod
    def rotated(cls, name: str, curvatures: "list[float] | Floats", rng: np.random.Generator) -> "Quadratic":
        """These eigenvalues in a random orthonormal basis."""
        h = np.asarray(curvatures, dtype=np.float64)
        basis, _ = np.linalg.qr(rng.normal(size=(h.size, h.size)))
        matrix = basis * h @ basis.T
        return cls(name, (matrix + matrix.T) / 2)

    @cached_property
    def _eigenvalues(self) -> Floats:
        return np.asarray(np.linalg.eigvalsh(self.hessian), dtype=np.float64)

    @property
    def dimension(self) -> int:
        return self.hessian.shape[0]

    @property
    def smoothness(self) -> float:
        return float(self._eigenvalues[-1])

    @property
    def minimum(self) -> float:
        return 0.0

    @property
    def minimiser(self) -> Floats:
        return np.zeros(self.dimension)

    @property
    def strong_convexity(self) -> float:
        low = float(self._eigenvalues[0])
        return low if low > 1e-9 * self.smoothness else 0.0

    @property
    def kind(self) -> Kind:
        return "strongly convex" if self.strong_convexity > 0 else "convex"

    def value(self, x: Floats) -> Floats:
        x = self.point(x)
        return np.asarray(((x @ self.hessian) * x).sum(axis=-1) / 2)

    def gradient(self, x: Floats) -> Floats:
        return self.point(x) @ self.hessian


@dataclass(frozen=True)
class Wells(Problem):
    """f(x) = sum_i a x_i^2 / (1 + x_i^2): a well around the origin in a plain that flattens out; not convex, not PL.

    L = 2a: with u = x^2, f'' = 2a (1 - 3u)/(1 + u)^3 is 2a at u = 0 and has its minimum -a/2 at u = 1.

    Example:
        >>> float(Wells("wells", 1, depth=1.0).value(np.array([1.0])))
        0.5
    """

    name: str
    coordinates: int
    depth: float

    def __post_init__(self) -> None:
        _check_positive(coordinates=self.coordinates, depth=self.depth)

    @property
    def dimension(self) -> int:
        return self.coordinates

    @property
    def smoothness(self) -> float:
        return 2 * self.depth

    @property
    def minimum(self) -> float:
        return 0.0

    @property
    def minimiser(self) -> Floats:
        return np.zeros(self.dimension)

    @property
    def kind(self) -> Kind:
        return "nonconvex"

    def value(self, x: Floats) -> Floats:
        square = self.point(x) ** 2
        return self.depth * (square / (1 + square)).sum(axis=-1)

    def gradient(self, x: Floats) -> Floats:
        x = self.point(x)
        return 2 * self.depth * x / (1 + x**2) ** 2


@dataclass(frozen=True)
class CosineQuadratic(Problem):
    """f(x) = sum_i (h/2) x_i^2 + a (1 - cos(w x_i)): a bowl with ripples; with c = a w^2 / h,

    strongly convex for c < 1, with ripples yet PL for c up to about 4.6, with spurious minima beyond. f* = 0 at the
    origin. L = h (1 + c), because f'' = h (1 + c cos(w x)).

    PL: with t = w x and g(t) = t^2/2 + c (1 - cos t) the inequality in one coordinate is r(t) := g'^2/(2g) >= m/h, and
    sums of PL functions of separate coordinates are PL with the smaller constant. ``pl_constant`` is a certified lower
    bound of inf r: on |t| <= 1, r >= (1 + 5c/6)^2/(1 + c), since sin t >= 5t/6; beyond T = 4c + 4,
    r >= (T - c)^2/(T^2 + 4c); in between the least value on a grid of width s less 2 s (1 + c)^{3/2}, because
    g'^2 <= 2 (1 + c) g and g >= t^2/2 give |r'| <= 4 (1 + c)^{3/2}/|t|. Karimi, Nutini & Schmidt (arXiv 1608.04636)
    use x^2 + 3 sin^2 x, that is h = 2, a = 3/2, w = 2, c = 3.

    Example:
        >>> problem = CosineQuadratic("ripples", 1, curvature=2.0, amplitude=1.5, frequency=2.0)
        >>> problem.smoothness, round(problem.pl_constant, 3), problem.kind
        (8.0, 0.173, 'pl')
    """

    name: str
    coordinates: int
    curvature: float
    amplitude: float
    frequency: float

    GRID: ClassVar[int] = 200_001

    def __post_init__(self) -> None:
        _check_positive(
            coordinates=self.coordinates,
            curvature=self.curvature,
            amplitude=self.amplitude,
            frequency=self.frequency,
        )

    @property
    def _ripple(self) -> float:
        return self.amplitude * self.frequency**2 / self.curvature

    @property
    def dimension(self) -> int:
        return self.coordinates

    @property
    def smoothness(self) -> float:
        return self.curvature * (1 + self._ripple)

    @property
    def minimum(self) -> float:
        return 0.0

    @property
    def minimiser(self) -> Floats:
        return np.zeros(self.dimension)

    @property
    def strong_convexity(self) -> float:
        return self.curvature * max(1 - self._ripple, 0.0)

    @cached_property
    def pl_constant(self) -> float:
        c = self._ripple
        far = 4 * c + 4
        t, width = np.linspace(1.0, far, self.GRID, retstep=True)
        ratio = (t + c * np.sin(t)) ** 2 / (t**2 + 2 * c * (1 - np.cos(t)))
        between = float(ratio.min()) - 2 * float(width) * (1 + c) ** 1.5
        least = min((1 + 5 * c / 6) ** 2 / (1 + c), (far - c) ** 2 / (far**2 + 4 * c), between)
        return max(self.curvature * least, self.strong_convexity, 0.0)

    @property
    def kind(self) -> Kind:
        if self.strong_convexity > 0:
            return "strongly convex"
        return "pl" if self.pl_constant > 0 else "nonconvex"

    def value(self, x: Floats) -> Floats:
        x = self.point(x)
        # 1 - cos of the half angle: exact where the ripple is small.
        ripples = 2 * self.amplitude * np.sin(self.frequency * x / 2) ** 2
        return (self.curvature / 2 * x**2 + ripples).sum(axis=-1)

    def gradient(self, x: Floats) -> Floats:
        x = self.point(x)
        return self.curvature * x + self.amplitude * self.frequency * np.sin(self.frequency * x)


@dataclass(frozen=True)
class NeuronRegression(Problem):
    """f(x) = (1/2n) sum_i (tanh<a_i, x> - tanh<a_i, x*>)^2: least squares through one neuron; not convex, f* = 0.

    L = 1.24 lambda_max(A'A/n): with s = tanh z and |y| < 1, the second derivative of (tanh z - y)^2/2 is
    (1 - s^2)(1 - 3s^2 + 2ys), which lies between (1 - s^2)(1 - 3s^2 - 2|s|) >= -0.97 and
    (1 - s^2)(1 - 3s^2 + 2|s|) <= 1.24 (quartics in |s| with extrema near |s| = 0.73 and 0.23).

    Attributes:
        name: as in :class:`Problem`.
        inputs: a_i, [n, d].
        planted: x*, [d].

    Example:
        >>> problem = NeuronRegression("neuron", np.eye(2), np.array([1.0, -1.0]))
        >>> problem.smoothness, float(problem.value(problem.minimiser))
        (0.62, 0.0)
    """

    name: str
    inputs: Floats
    planted: Floats

    def __post_init__(self) -> None:
        if self.inputs.ndim != 2 or self.inputs.size == 0 or not np.isfinite(self.inputs).all():
            raise ValueError(f"inputs must be a finite array [n, d], got shape {self.inputs.shape}")
        self.point(self.planted, "planted")

    @property
    def dimension(self) -> int:
        return self.inputs.shape[1]

    @cached_property
    def smoothness(self) -> float:
        return 1.24 * float(np.linalg.eigvalsh(self.inputs.T @ self.inputs / len(self.inputs))[-1])

    @property
    def minimum(self) -> float:
        return 0.0

    @property
    def minimiser(self) -> Floats:
        return self.planted

    @property
    def kind(self) -> Kind:
        return "nonconvex"

    def value(self, x: Floats) -> Floats:
        residual = np.tanh(self.point(x) @ self.inputs.T) - np.tanh(self.inputs @ self.planted)
        return np.asarray((residual**2).mean(axis=-1) / 2)

    def gradient(self, x: Floats) -> Floats:
        out = np.tanh(self.point(x) @ self.inputs.T)
        residual = out - np.tanh(self.inputs @ self.planted)
        return np.asarray((residual * (1 - out**2)) @ self.inputs / len(self.inputs))


def _check_positive(**arguments: float) -> None:
    for name, value in arguments.items():
        if not (np.isfinite(value) and value > 0):
            raise ValueError(f"{name} must be a positive number, got {value}")
