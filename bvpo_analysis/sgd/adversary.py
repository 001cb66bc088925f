"""A search for runs that break a bound: one-dimensional losses, biases chosen anew in every step, two-valued noise.

The losses have curvature h <= L = 1 up to |x| = w and slope h w beyond (Huber; a quadratic for infinite w): convex,
1-smooth and bounded below. Expectations are exact sums over all 2^T noise paths. Random instances are refined
by keeping those closest to a bound and perturbing them.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np

from bvpo_analysis.records import Floats, Ints
from bvpo_analysis.theory.convex import convex_bound
from bvpo_analysis.theory.nonconvex import classical_bound, improved_bound, sharp_bound, telescoped_bound
from bvpo_analysis.theory.strongly_convex import distance_bound, pl_bound

BIASES = ("along the slope", "fixed direction", "freezing")
"""p_j zeta sign(f'), p_j zeta, and -min(|f'|, zeta) sign(f') in step j, with p_j in [-1, 1]: the point and the step
decide. Along the slope, p_j = -1 makes the step fall short, and +1 makes it go too far."""


@dataclass(frozen=True)
class Instances:
    """n one-dimensional runs; every field [n] but the pattern.

    Attributes:
        kappa: step size times L = 1, in (0, 1].
        curvature: h in (0, 1].
        width: w > 0, where the quadratic becomes linear; infinite for a quadratic.
        start: x_0.
        zeta, sigma: size of the bias; standard deviation of the noise.
        rare: probability of the larger noise value, in (0, 1).
        bias: index into BIASES.
        pattern: p_j in [-1, 1], the share of zeta that step j uses, [n, T].
    """

    kappa: Floats
    curvature: Floats
    width: Floats
    start: Floats
    zeta: Floats
    sigma: Floats
    rare: Floats
    bias: Ints
    pattern: Floats

    @classmethod
    def random(cls, rng: np.random.Generator, count: int, steps: int) -> "Instances":
        """Logarithmic sizes; a share of quadratics, of extreme step sizes, and of runs without bias or noise.

        Half of the patterns keep one sign, the others draw it in every step; all start at full size.
        """

        def mostly(values: Floats, share: float, instead: float) -> Floats:
            return np.where(rng.random(count) < share, instead, values)

        def size() -> Floats:
            return 10 ** rng.uniform(-2, 1, count)

        signs = rng.choice([-1.0, 1.0], (count, steps))
        return cls(
            kappa=mostly(10 ** rng.uniform(-2, 0, count), 0.3, 1.0),
            curvature=mostly(10 ** rng.uniform(-2, 0, count), 0.4, 1.0),
            width=mostly(size(), 0.5, np.inf),
            start=size(),
            zeta=mostly(size(), 0.1, 0.0),
            sigma=mostly(size(), 0.4, 0.0),
            rare=rng.uniform(0.05, 0.95, count),
            bias=rng.integers(0, len(BIASES), count),
            pattern=np.where(rng.random((count, 1)) < 0.5, signs[:, :1], signs),
        )

    def neighbours(self, rng: np.random.Generator, scale: float) -> "Instances":
        """The same instances, slightly moved."""

        def moved(values: Floats) -> Floats:
            return values * np.exp(scale * rng.normal(size=values.shape))

        return Instances(
            kappa=np.minimum(moved(self.kappa), 1.0),
            curvature=np.minimum(moved(self.curvature), 1.0),
            width=moved(self.width),
            start=moved(self.start),
            zeta=moved(self.zeta),
            sigma=moved(self.sigma),
            rare=np.clip(moved(self.rare), 0.01, 0.99),
            bias=self.bias,
            pattern=np.clip(self.pattern + scale * rng.normal(size=self.pattern.shape), -1.0, 1.0),
        )

    def take(self, rows: Ints) -> "Instances":
        """These rows."""
        return Instances(**{name: values[rows] for name, values in vars(self).items()})


@dataclass(frozen=True)
class Closest:
    """How near the search came to breaking a bound.

    Attributes:
        bound: its name.
        steps: T of the closest instance.
        checked: instances to which the bound applies.
        violated: those where measured > predicted beyond rounding.
        ratio: the largest measured / predicted; 1 is attained, above 1 is a violation.
        instance: the parameters of the closest one.
    """

    bound: str
    steps: int
    checked: int
    violated: int
    ratio: float
    instance: dict[str, Any]


def search(
    *, count: int = 4000, rounds: int = 15, horizons: tuple[int, ...] = (1, 2, 3, 5), seed: int = 0
) -> list[Closest]:
    """Random instances, then ``rounds`` of refinement of the hundred closest ones, for every bound.

    Raises:
        ValueError: count or a horizon is below 1.

    Example:
        >>> [found.bound for found in search(count=50, rounds=1, horizons=(1,)) if found.violated]
        []
    """
    if count < 1 or min(horizons) < 1:
        raise ValueError("count and horizons must be at least 1")
    rng = np.random.default_rng(seed)
    best: dict[str, Closest] = {}
    for steps in horizons:
        first = Instances.random(rng, count, steps)
        ratios = bound_ratios(first, steps)
        for bound, values in ratios.items():
            _keep(best, bound, steps, first, values)
            around = first.take(np.argsort(np.where(np.isnan(values), -np.inf, values))[-100:])
            scale = 0.3
            for _ in range(rounds):
                moved = around.neighbours(rng, scale)
                new = bound_ratios(moved, steps)[bound]
                old = bound_ratios(around, steps)[bound]
                _keep(best, bound, steps, moved, new)
                better = np.nan_to_num(new, nan=-np.inf) > np.nan_to_num(old, nan=-np.inf)
                around = Instances(
                    **{
                        name: np.where(better.reshape(-1, *[1] * (values.ndim - 1)), vars(moved)[name], values)
                        for name, values in vars(around).items()
                    }
                )
                scale *= 0.8
    return list(best.values())


def bound_ratios(instances: Instances, steps: int) -> dict[str, Floats]:
    """measured / predicted of every bound, [n]; nan where a bound does not apply or where both sides vanish."""
    i = instances
    x, weight = i.start[:, None], np.ones((len(i.start), 1))
    squares, total, radius = np.zeros_like(x), np.zeros_like(x), np.zeros_like(i.start)
    for j in range(steps):
        slope = _slope(i, x)
        squares, total = squares + slope**2, total + x
        radius = np.maximum(radius, np.abs(x).max(axis=1))
        step = slope + _bias(i, slope, j)
        rare = i.rare[:, None]
        up, down = i.sigma[:, None] * np.sqrt((1 - rare) / rare), -i.sigma[:, None] * np.sqrt(rare / (1 - rare))
        x = np.concatenate([x - i.kappa[:, None] * (step + noise) for noise in (up, down)], axis=1)
        weight = np.concatenate([weight * rare, weight * (1 - rare)], axis=1)
        squares, total = np.tile(squares, 2), np.tile(total, 2)

    def mean(values: Floats) -> Floats:
        return (weight * values).sum(axis=1)

    gap, final = _value(i, i.start[:, None])[:, 0], mean(_value(i, x))
    law: dict[str, Floats | float] = {
        "steps": float(steps),
        "step_size": i.kappa,
        "smoothness": 1.0,
        "bias_bound": i.zeta,
        "noise_var": i.sigma**2,
    }
    average = mean(squares) / steps
    quadratic, contained = np.isinf(i.width), i.kappa <= 0.5
    ratios = {
        "classical": _ratio(average, classical_bound(initial_gap=gap, **law)),
        "improved": _ratio(average, improved_bound(initial_gap=gap, **law)),
        "telescoped": _ratio(average, telescoped_bound(decrease=gap - final, **law)),
        "sharp": _ratio(average, sharp_bound(decrease=gap - final, **law)),
        "PL": np.where(quadratic, _ratio(final, pl_bound(initial_gap=gap, pl_constant=i.curvature, **law)), np.nan),
    }
    noiseless = quadratic & (i.sigma == 0)
    away = distance_bound(
        initial_distance=np.abs(i.start),
        steps=steps,
        step_size=i.kappa,
        smoothness=1.0,
        strong_convexity=i.curvature,
        bias_bound=i.zeta,
    )
    ratios["distance"] = np.where(noiseless, _ratio(mean(np.abs(x)), away), np.nan)
    mild: dict[str, Floats | float] = law | {"step_size": np.where(contained, i.kappa, 0.5)}
    whole = np.maximum(radius, np.abs(i.start))
    around = convex_bound(initial_distance=np.abs(i.start), radius=whole, **mild)
    ratios["convex"] = np.where(contained, _ratio(mean(_value(i, total / steps)), around), np.nan)
    return ratios


def _keep(best: dict[str, Closest], bound: str, steps: int, instances: Instances, ratios: Floats) -> None:
    known = ~np.isnan(ratios)
    if not known.any():
        return
    row = int(np.nanargmax(ratios))
    old = best.get(bound)
    better = old is None or ratios[row] > old.ratio
    best[bound] = Closest(
        bound=bound,
        steps=steps if better or old is None else old.steps,
        checked=int(known.sum()) + (old.checked if old else 0),
        violated=int((ratios[known] > 1 + 1e-9).sum()) + (old.violated if old else 0),
        ratio=float(ratios[row]) if better or old is None else old.ratio,
        instance={name: values[row].tolist() for name, values in vars(instances).items()}
        if better or old is None
        else old.instance,
    )


def _ratio(measured: Floats, predicted: Floats) -> Floats:
    # Below this a bound is rounding of its parts.
    tiny = predicted <= 1e-12
    return np.where(tiny, np.nan, measured / np.where(tiny, 1.0, predicted))


def _slope(i: Instances, x: Floats) -> Floats:
    return i.curvature[:, None] * np.clip(x, -i.width[:, None], i.width[:, None])


def _value(i: Instances, x: Floats) -> Floats:
    inside = np.minimum(np.abs(x), i.width[:, None])
    return i.curvature[:, None] * inside * (np.abs(x) - inside / 2)


def _bias(i: Instances, slope: Floats, step: int) -> Floats:
    zeta, used = i.zeta[:, None], (i.pattern[:, step] * i.zeta)[:, None]
    sign = np.where(slope < 0, -1.0, 1.0)
    kinds = [used * sign, used + 0 * slope, -np.minimum(np.abs(slope), zeta) * sign]
    return np.choose(i.bias[:, None], kinds)
