"""What the properties are tried on: finite laws of (g_t, g_e) with a target, weights, step sizes; and the tolerances.

Entries are 0 or between 1e-3 and 1e3 in size, dimensions 1 to 6, and D > 1e-6 Q0, with Q0 = E|g_t|^2 + E|g_e|^2 +
|mu|^2 the scale of every tolerance. Nothing here uses the closed forms except ``Law.alpha`` and ``Law.curve``.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from hypothesis import assume
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from bvpo_analysis import theory
from bvpo_analysis.records import Floats

REL = 1e-9


@dataclass(frozen=True)
class Law:
    """Atoms with probabilities p [n], gradients t [n, d] and e [n, d], and a target mu [d]."""

    p: Floats
    t: Floats
    e: Floats
    mu: Floats

    def mean_product(self, x: Floats, y: Floats) -> float:
        return float(self.p @ (x * y).sum(axis=1))

    def cov(self, x: Floats, y: Floats) -> float:
        return self.mean_product(x - self.p @ x, y - self.p @ y)

    def mse(self, a: float) -> float:
        """E|a g_t + (1 - a) g_e - mu|^2 from vectors."""
        x = a * self.t + (1 - a) * self.e - self.mu
        return self.mean_product(x, x)

    @cached_property
    def error_t(self) -> float:
        return self.mean_product(self.t - self.mu, self.t - self.mu)

    @cached_property
    def error_e(self) -> float:
        return self.mean_product(self.e - self.mu, self.e - self.mu)

    @cached_property
    def cross(self) -> float:
        return self.mean_product(self.t - self.mu, self.e - self.mu)

    @cached_property
    def distance(self) -> float:
        return self.mean_product(self.t - self.e, self.t - self.e)

    @cached_property
    def scale(self) -> float:
        return self.mean_product(self.t, self.t) + self.mean_product(self.e, self.e) + float(self.mu @ self.mu)

    @property
    def alpha(self) -> float:
        """The package's unclipped optimum."""
        return float(theory.optimal_weight(self.error_t, self.error_e, self.cross))

    def curve(self, a: float) -> float:
        """The package's q(a)."""
        return float(theory.error_curve(a, self.error_t, self.error_e, self.cross))

    @cached_property
    def moments(self) -> dict[str, float]:
        """Arguments of the kappa-weighted forms."""
        bt, be = self.p @ self.t - self.mu, self.p @ self.e - self.mu
        return {
            "bias_t_sq": float(bt @ bt),
            "bias_e_sq": float(be @ be),
            "bias_inner": float(bt @ be),
            "var_t": self.cov(self.t, self.t),
            "var_e": self.cov(self.e, self.e),
            "cov_te": self.cov(self.t, self.e),
        }

    @cached_property
    def ends(self) -> tuple[float, float, float, float]:
        """(alpha_bias, d0, alpha_var, d1) from vectors."""
        be, shift = self.p @ self.e - self.mu, self.p @ (self.e - self.t)
        d0, d1 = float(shift @ shift), self.cov(self.t - self.e, self.t - self.e)
        return float(be @ shift) / d0, d0, self.cov(self.e, self.e - self.t) / d1, d1


ENTRIES = st.one_of(st.just(0.0), st.floats(1e-3, 1e3), st.floats(-1e3, -1e-3))


@st.composite
def laws(draw: st.DrawFn, *, atoms: tuple[int, int] = (1, 4), fixed_e: bool = False, smallest: float = 1e-6) -> Law:
    """A finite law with D > ``smallest`` Q0; with ``fixed_e``, g_e has no randomness (traces given the data)."""
    n, d = draw(st.integers(*atoms)), draw(st.integers(1, 6))
    p = np.array(draw(st.lists(st.integers(1, 9), min_size=n, max_size=n)), dtype=float)
    t, mu = draw(hnp.arrays(float, (n, d), elements=ENTRIES)), draw(hnp.arrays(float, d, elements=ENTRIES))
    e = draw(hnp.arrays(float, (1 if fixed_e else n, d), elements=ENTRIES))
    law = Law(p / p.sum(), t, np.broadcast_to(e, (n, d)), mu)
    assume(smallest * law.scale < law.distance)
    return law


def two_ended(law: Law) -> Law:
    """Keep laws whose bias-only and variance-only optima both exist."""
    shift = law.p @ (law.e - law.t)
    assume(shift @ shift > 1e-6 * law.scale)
    assume(law.cov(law.t - law.e, law.t - law.e) > 1e-6 * law.scale)
    return law


def close(alpha: float, other: float, tolerance: float = REL) -> bool:
    return abs(alpha - other) <= tolerance * max(1.0, abs(alpha), abs(other))


WEIGHTS = st.floats(-3.0, 3.0)
"""Mixing weights, also outside the unit interval."""

KAPPAS = st.floats(-2.0, 2.0).map(lambda x: 10.0**x)
"""kappa = eta L over four decades."""
