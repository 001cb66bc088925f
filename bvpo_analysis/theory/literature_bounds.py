"""Bounds on biased SGD from the literature, in this package's symbols, and how they compare.

Setting as in ``nonconvex``: x+ = x - eta g, f L-smooth and bounded below, Delta = f(x_0) - f*, kappa = eta L, avg the
average over j < T of E|grad f(x_j)|^2. Here the error of g may also grow with the gradient.

Related, without a formula here: biased SGD by linear matrix inequalities (Hu, Seiler & Lessard, arXiv 1711.00987);
exact rates under relative inexactness (de Klerk, Glineur & Taylor, arXiv 1709.05191); exact nonconvex gradient descent
(Abbaszadehpeivasti, de Klerk & Zamani 2022, doi 10.1007/s11590-021-01821-1; all constant steps: Rotaru et al., arXiv
2406.17506); bias from robust aggregation (Karimireddy, He & Jaggi, arXiv 2012.10333).
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from bvpo_analysis.records import Floats
from bvpo_analysis.theory.arguments import check_at_most, counts, nonnegative, positive


def relative_bias_bound(
    *,
    initial_gap: ArrayLike,
    steps: ArrayLike,
    step_size: ArrayLike,
    smoothness: ArrayLike,
    bias_bound: ArrayLike,
    noise_var: ArrayLike,
    relative_bias: ArrayLike = 0.0,
    relative_noise: ArrayLike = 0.0,
) -> Floats:
    """avg <= 2 Delta / (eta T (1 - m')) + (zeta^2 + kappa sigma^2) / (1 - m') (Ajalloeian & Stich, arXiv 2008.00051).

    For |b|^2 <= m'|grad f|^2 + zeta^2 and E|g - E g|^2 <= M|grad f + b|^2 + sigma^2, and eta <= 1/((M + 1) L). Proof:
    in E f+ <= f + (eta/2)(|b|^2 - |grad f|^2 - |grad f + b|^2) + (L eta^2/2)((1 + M)|grad f + b|^2 + sigma^2) the
    terms in |grad f + b|^2 are not positive; insert the bound on |b|^2, sum, divide by 1 - m'. With m' = M = 0 it is
    the paper's Theorem 3.

    Args:
        initial_gap: Delta; [..].
        steps: T >= 1; [..].
        step_size: eta; [..].
        smoothness: L; [..].
        bias_bound: zeta; [..].
        noise_var: sigma^2; [..].
        relative_bias: m' in [0, 1); [..].
        relative_noise: M; [..].

    Raises:
        ValueError: an argument is not finite or has the wrong sign, steps < 1, relative_bias >= 1, or
            step_size > 1 / ((relative_noise + 1) smoothness).

    Example:
        >>> law = dict(step_size=0.5, smoothness=1.0, bias_bound=1.0, noise_var=2.0)
        >>> relative_bias_bound(initial_gap=1.0, steps=4, **law, relative_bias=[0.0, 0.5])
        array([3., 6.])
    """
    eta, smooth = positive(step_size=step_size, smoothness=smoothness)
    (t,) = counts(steps=steps)
    gap, zeta, var = nonnegative(initial_gap=initial_gap, bias_bound=bias_bound, noise_var=noise_var)
    m, noise = np.broadcast_arrays(*nonnegative(relative_bias=relative_bias, relative_noise=relative_noise))
    if (m >= 1).any():
        raise ValueError(f"relative_bias must be below 1, got {m[m >= 1].ravel()[0]:g}")
    check_at_most(("step_size", eta), ("1 / ((relative_noise + 1) smoothness)", 1 / ((noise + 1) * smooth)))
    return (2 * gap / (eta * t) + zeta**2 + eta * smooth * var) / (1 - m)


@dataclass(frozen=True)
class BiasedABC:
    """Constants of the biased ABC assumption with A = 0 (Demidovich et al., arXiv 2305.16296).

    <grad f, E g> >= b |grad f|^2 - c   and   E|g|^2 <= B |grad f|^2 + C.

    Attributes:
        alignment: b > 0; [..].
        alignment_slack: c; [..].
        growth: B > 0; [..].
        constant: C; [..].
    """

    alignment: Floats
    alignment_slack: Floats
    growth: Floats
    constant: Floats


def biased_abc_constants(*, bias_bound: ArrayLike, noise_var: ArrayLike) -> BiasedABC:
    """b = 1/2, c = zeta^2/2, B = 2, C = 2 zeta^2 + sigma^2, for |b| <= zeta and noise variance at most sigma^2.

    Proof: <u, u + b> >= |u|^2 - zeta|u| >= |u|^2/2 - zeta^2/2, and |u + b|^2 <= 2|u|^2 + 2 zeta^2.

    Args:
        bias_bound: zeta; [..].
        noise_var: sigma^2; [..].

    Raises:
        ValueError: an argument is not finite, or negative.

    Example:
        >>> constants = biased_abc_constants(bias_bound=2.0, noise_var=1.0)
        >>> float(constants.alignment_slack), float(constants.constant)
        (2.0, 9.0)
    """
    zeta, var = np.broadcast_arrays(*nonnegative(bias_bound=bias_bound, noise_var=noise_var))
    return BiasedABC(np.full_like(zeta, 0.5), zeta**2 / 2, np.full_like(zeta, 2.0), 2 * zeta**2 + var)


def biased_abc_bound(
    *, initial_gap: ArrayLike, steps: ArrayLike, step_size: ArrayLike, smoothness: ArrayLike, constants: BiasedABC
) -> Floats:
    """avg <= 2 Delta / (b eta T) + 2c/b + kappa C/b, for eta <= b/(L B) (Demidovich et al., arXiv 2305.16296, A = 0).

    Proof: E f+ <= f - eta (b|grad f|^2 - c) + (L eta^2/2)(B|grad f|^2 + C), and L eta B <= b leaves half of the
    descent; sum over T steps.

    Args:
        initial_gap: Delta; [..].
        steps: T >= 1; [..].
        step_size: eta; [..].
        smoothness: L; [..].
        constants: b, c, B, C, each [..].

    Raises:
        ValueError: an argument is not finite or has the wrong sign, steps < 1, or
            step_size > alignment / (smoothness growth).

    Example:
        >>> constants = biased_abc_constants(bias_bound=1.0, noise_var=2.0)
        >>> float(biased_abc_bound(initial_gap=1.0, steps=4, step_size=0.25, smoothness=1.0, constants=constants))
        8.0
    """
    eta, smooth = positive(step_size=step_size, smoothness=smoothness)
    (t,) = counts(steps=steps)
    (gap,) = nonnegative(initial_gap=initial_gap)
    b, growth = np.broadcast_arrays(*positive(alignment=constants.alignment, growth=constants.growth))
    c, constant = nonnegative(alignment_slack=constants.alignment_slack, constant=constants.constant)
    check_at_most(("step_size", eta), ("alignment / (smoothness growth)", b / (smooth * growth)))
    return (2 * gap / (eta * t) + 2 * c + eta * smooth * constant) / b


def biased_abc_looseness(*, kappa: ArrayLike, bias_bound: ArrayLike, noise_var: ArrayLike) -> Floats:
    """By what factor the floor of :func:`biased_abc_bound` exceeds zeta^2 + kappa sigma^2, the paper's.

        [2 zeta^2 + 2 kappa (2 zeta^2 + sigma^2)] / (zeta^2 + kappa sigma^2)  >=  2, with equality iff zeta = 0.

    It is 2 + 4 kappa zeta^2/(zeta^2 + kappa sigma^2), at most 3 for the admissible kappa <= 1/4. The term in Delta is
    exactly 2 times larger.

    Args:
        kappa: eta L in (0, 1/4]; [..].
        bias_bound: zeta; [..].
        noise_var: sigma^2, positive where zeta = 0; [..].

    Raises:
        ValueError: an argument is not finite or has the wrong sign, kappa > 1/4, or both floors vanish.

    Example:
        >>> biased_abc_looseness(kappa=0.25, bias_bound=[0.0, 1.0], noise_var=[1.0, 0.0])
        array([2., 3.])
    """
    (k,) = positive(kappa=kappa)
    check_at_most(("kappa", k), ("1/4", np.asarray(0.25)))
    zeta, var = nonnegative(bias_bound=bias_bound, noise_var=noise_var)
    root = np.hypot(zeta, np.sqrt(k) * np.sqrt(var))  # of the floor, which may overflow where the share does not
    if (root == 0).any():
        raise ValueError("bias_bound and noise_var must not both be zero: there is no floor to compare")
    return 2 + 4 * k * (zeta / root) ** 2
