"""What statements on trace bias are made of: the laws of the traces of an answer, and a loss near its reference.

Plain arrays: probabilities [R], scores s(r) = grad log pi(r, y | x) [R, d], log-ratios rho(r) = log pi_theta(r, y | x)
- log pi_ref(r, y | x) [R] in nats, joint probabilities of a trace pair [R+, R-].
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from bvpo_analysis.records import Floats
from bvpo_analysis.theory.arguments import ROUNDING, distribution, finite, nonnegative, positive


@dataclass(frozen=True)
class LossAtReference:
    """L(u) = L(0) - slope u + (curvature / 2) u^2 + O(|u|^3), u = rho+ - rho- in nats.

    Attributes:
        slope: -L'(0), positive.
        curvature: L''(0), not negative.

    Raises:
        ValueError: a number is not finite, slope <= 0 or curvature < 0.

    Example:
        >>> LossAtReference.dpo(2.0)
        LossAtReference(slope=1.0, curvature=1.0)
        >>> LossAtReference.ipo(0.5)
        LossAtReference(slope=2.0, curvature=2.0)
    """

    slope: float
    curvature: float

    def __post_init__(self) -> None:
        positive(slope=self.slope)
        nonnegative(curvature=self.curvature)

    @classmethod
    def dpo(cls, beta: float) -> "LossAtReference":
        """L(u) = softplus(-beta u): slope beta/2, curvature beta^2/4."""
        positive(beta=beta)
        return cls(beta / 2, beta**2 / 4)

    @classmethod
    def ipo(cls, beta: float) -> "LossAtReference":
        """L(u) = (u - 1/(2 beta))^2: slope 1/beta, curvature 2; there is no cubic term."""
        positive(beta=beta)
        return cls(1 / beta, 2.0)


@dataclass(frozen=True)
class TraceLaw:
    """The traces of one answer.

    Attributes:
        probabilities: of the traces, adding up to one; [R].
        scores: s(r) = grad log pi(r, y | x); [R, d].

    Raises:
        ValueError: a number is not finite, a probability is negative, they do not sum to one, or the shapes disagree.

    Example:
        >>> law = TraceLaw([0.5, 0.5], [[0.0, 1.0], [2.0, 1.0]])
        >>> law.mean, law.variance
        (array([1., 1.]), 1.0)
        >>> law.covariance
        array([[1., 0.],
               [0., 0.]])
    """

    probabilities: ArrayLike
    scores: ArrayLike

    def __post_init__(self) -> None:
        (p,), (scores,) = distribution(probabilities=self.probabilities), finite(scores=self.scores)
        if scores.ndim != 2 or len(scores) != len(p):
            raise ValueError(f"scores must have shape [{len(p)}, d], got {scores.shape}")

    @property
    def p(self) -> Floats:
        """The probabilities, float64 [R]."""
        return np.asarray(self.probabilities, dtype=np.float64)

    @property
    def s(self) -> Floats:
        """The scores, float64 [R, d]."""
        return np.asarray(self.scores, dtype=np.float64)

    @property
    def mean(self) -> Floats:
        """sbar = E s, [d]."""
        return self.p @ self.s

    @property
    def centred(self) -> Floats:
        """s - sbar, [R, d]."""
        return self.s - self.mean

    @property
    def covariance(self) -> Floats:
        """C = Cov(s), [d, d]."""
        return (self.p[:, None] * self.centred).T @ self.centred

    @property
    def variance(self) -> float:
        """Tr C, from centred scores."""
        return float(self.p @ (self.centred**2).sum(axis=1))

    def covariance_with(self, values: ArrayLike) -> Floats:
        """Cov(v, s) = E[(v - E v)(s - sbar)] of a number v per trace, [d].

        Raises:
            ValueError: not one finite number per trace.
        """
        return (self.p * (one_per_trace("values", values, self) - self.p @ np.asarray(values))) @ self.centred


def difference_covariance(chosen: TraceLaw, rejected: TraceLaw, joint: ArrayLike | None = None) -> Floats:
    """Cov(s+ - s-), [d, d]: C+ + C- for independent traces, C+ + C- - Cov(s+, s-) - Cov(s-, s+) otherwise.

    Summed from the differences over the joint law, so that nothing cancels when the traces are coupled closely.

    Args:
        chosen, rejected: the laws of r+ and r-.
        joint: [R+, R-] probabilities of (r+, r-), with these laws as its marginals.

    Raises:
        ValueError: the joint law has other marginals, or the scores have different lengths.

    Example:
        >>> law = TraceLaw([0.5, 0.5], [[0.0], [2.0]])
        >>> difference_covariance(law, law), difference_covariance(law, law, [[0.5, 0.0], [0.0, 0.5]])
        (array([[2.]]), array([[0.]]))
    """
    check_same_length(chosen, rejected)
    if joint is None:
        return chosen.covariance + rejected.covariance
    p = checked_joint(chosen, rejected, joint)
    difference = chosen.centred[:, None] - rejected.centred[None]
    return np.einsum("ij,ijk,ijl->kl", p, difference, difference)


def posterior_divergence(probabilities: ArrayLike, log_ratios: ArrayLike) -> float:
    """KL(p || q) for q proportional to p exp(-rho), in nats: E_p rho + log E_p exp(-rho), at least 0 (also in
    rounding, where it is 0).

    With p = pi_theta(r | y) and rho its log-ratios, q = pi_ref(r | y); then E rho = h + KL and E exp(-rho) = exp(-h).
    With p = pi_ref(r | y) pass -rho: q = pi_theta(r | y), E rho = h - KL and E exp(rho) = exp(h). Proof: Bayes, rho(r)
    = h + log(pi_theta(r | y) / pi_ref(r | y)). Computed from centred rho, so that a constant in rho cancels exactly.

    Raises:
        ValueError: probabilities that are no distribution, or log-ratios that are not one finite number each.

    Example:
        >>> round(posterior_divergence([0.5, 0.5], [0.0, np.log(2.0)]), 6)  # q = (2/3, 1/3)
        0.058892
        >>> posterior_divergence([0.5, 0.5], [7.0, 7.0])
        0.0
    """
    (log_ratios,) = finite(log_ratios=log_ratios)
    law = TraceLaw(probabilities, log_ratios[:, None] if log_ratios.ndim == 1 else log_ratios)
    x = -one_per_trace("log_ratios", log_ratios, law)[law.p > 0]
    p = law.p[law.p > 0]
    x = x - p @ x / p.sum()
    top = x.max()
    if top < 1:
        # E x = 0, so E exp(x) = 1 + E[expm1(x)]: no digits of a small divergence are lost against the 1.
        return max(float(np.log1p(p @ (np.expm1(x) - x))), 0.0)
    return max(float(top + np.log(p @ np.exp(x - top))), 0.0)


def one_per_trace(name: str, values: ArrayLike, law: TraceLaw) -> Floats:
    """The values as float64 [R]; ValueError by name unless they are one finite number per trace of the law."""
    (array,) = finite(**{name: values})
    if array.shape != law.p.shape:
        raise ValueError(f"{name} must have one number per trace, shape {law.p.shape}, got {array.shape}")
    return array


def check_same_length(chosen: TraceLaw, rejected: TraceLaw) -> None:
    """ValueError unless both sides' scores have the same number of components."""
    if chosen.s.shape[1] != rejected.s.shape[1]:
        raise ValueError(f"scores must have one length, got {chosen.s.shape[1]} and {rejected.s.shape[1]}")


def checked_joint(chosen: TraceLaw, rejected: TraceLaw, joint: ArrayLike) -> Floats:
    """The joint law as float64 [R+, R-]; ValueError unless its marginals are these laws."""
    (p,) = nonnegative(joint=joint)
    if p.shape != (len(chosen.p), len(rejected.p)):
        raise ValueError(f"joint must have shape [{len(chosen.p)}, {len(rejected.p)}], got {p.shape}")
    if max(np.abs(p.sum(axis=1) - chosen.p).max(), np.abs(p.sum(axis=0) - rejected.p).max()) > ROUNDING:
        raise ValueError("joint must have the laws of chosen and rejected as its marginals")
    return p
