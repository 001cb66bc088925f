"""How far the empty-trace gradient is off at the reference, and what weight that leaves to g_t there.

e(y) = s(empty, y) - sbar(y) is the score of the empty trace, scored like a generated one, less the score of the
marginal. On the same pair and at theta_ref, where L' = -slope whatever the traces,

    g_e - mu = b_e = -slope (e+ - e-),       E g_t = mu,       Tr Var_r(g_t) = slope^2 Tr Cov(s+ - s-).

The slope, and with it beta, drops out of every ratio of these.
"""

import numpy as np
from numpy.typing import ArrayLike

from bvpo_analysis.records import Floats
from bvpo_analysis.theory.arguments import ROUNDING, finite, nonnegative, unit_interval
from bvpo_analysis.theory.trace_laws import LossAtReference


def empty_trace_bias(gap_chosen: ArrayLike, gap_rejected: ArrayLike, loss: LossAtReference) -> Floats:
    """b_e = -slope (e+ - e-) at theta_ref on the pair of g_t, [.., d]; -(beta/2)(e+ - e-) for DPO.

    Proof: g_e = -slope (s(empty, y+) - s(empty, y-)) and mu = -slope (sbar+ - sbar-), since every margin is 0. If g_e
    is taken on other answers than g_t, the difference of their means over the data comes on top.

    Args:
        gap_chosen, gap_rejected: e(y+-) = s(empty, y+-) - sbar(y+-), [.., d].
        loss: slope at the reference.

    Raises:
        ValueError: a number is not finite, or the gaps have different lengths.

    Example:
        >>> empty_trace_bias([1.0, 0.0], [0.0, 1.0], LossAtReference.dpo(2.0))
        array([-1.,  1.])
    """
    first, second = finite(gap_chosen=gap_chosen, gap_rejected=gap_rejected)
    if first.shape[-1:] != second.shape[-1:]:
        raise ValueError(f"gap_rejected must have the shape of gap_chosen, {first.shape}, got {second.shape}")
    return np.asarray(-loss.slope * (first - second))


def initial_weight(gap_sq: ArrayLike, score_var: ArrayLike) -> Floats:
    """alpha_0 = |e+ - e-|^2 / (|e+ - e-|^2 + Tr Cov(s+ - s-)): the optimal weight of g_t at theta_ref given the data.

    Free of beta and of the loss. Proof: alpha* = C/(A + C) for an unbiased g_t and a fixed g_e, with A = slope^2 Tr
    Cov(s+ - s-) and C = slope^2 |e+ - e-|^2. For independent traces the covariance is Tr C+ + Tr C-.

    Args:
        gap_sq: |e+ - e-|^2; [..].
        score_var: Tr Cov(s+ - s-) under the posteriors; [..].

    Returns:
        In [0, 1]; 0.5 where both are zero and g_t = g_e = mu.

    Raises:
        ValueError: an argument is negative or not finite.

    Example:
        >>> float(initial_weight(gap_sq=1.0, score_var=3.0))
        0.25
    """
    gap, variance = nonnegative(gap_sq=gap_sq, score_var=score_var)
    # The larger of the two brought to [1/2, 1) by a power of two, which rounds nothing and keeps the sum finite.
    _, exponent = np.frexp(np.maximum(gap, variance))
    gap, variance = np.ldexp(gap, -exponent), np.ldexp(variance, -exponent)
    total = gap + variance
    return np.where(total > 0, gap / np.where(total > 0, total, 1.0), 0.5)


def largest_gap(mass: ArrayLike, score_var: ArrayLike) -> Floats:
    """|e(y)|^2 <= ((1 - p0) / p0) Tr C(y), p0 = pi(empty | x, y): the weighted Samuelson inequality.

    Proof: with x_r = s(r, y) - sbar(y) and posterior p, p0 x_0 = -sum_{r != 0} p_r x_r, so by Jensen |p0 x_0|^2 <=
    (1 - p0) sum_{r != 0} p_r |x_r|^2 = (1 - p0)(Tr C - p0 |x_0|^2); collect |x_0|^2 (Samuelson 1968, J. Am. Stat. Ass.
    63:1522, for equal weights). Equality iff all other traces have one and the same score. The empty trace must be a
    member of the trace space, scored whole: for a prefilled block of which only the answer is scored it fails.

    Args:
        mass: p0, in (0, 1]; [..].
        score_var: Tr C(y); [..].

    Raises:
        ValueError: p0 outside (0, 1], or a variance that is negative or not finite.

    Example:
        >>> float(largest_gap(mass=0.25, score_var=2.0))
        6.0
    """
    (mass,), (variance,) = unit_interval(mass=mass), nonnegative(score_var=score_var)
    return np.asarray((1 - mass) / mass * variance)


def largest_initial_weight(mass_chosen: ArrayLike, mass_rejected: ArrayLike) -> Floats:
    """alpha_0 <= k / (1 + k), k = k+ + k-, k+- = (1 - p0(y+-)) / p0(y+-), for independent traces.

    Proof: by :func:`largest_gap` and Cauchy-Schwarz |e+ - e-|^2 <= (sqrt(k+ Tr C+) + sqrt(k- Tr C-))^2 <= (k+ + k-)
    (Tr C+ + Tr C-). Attained with two traces per side, e+ and e- opposite, and Tr C+ / Tr C- = k+ / k-. So a likely
    empty trace caps the weight of g_t, while an unlikely one leaves it open.

    Args:
        mass_chosen, mass_rejected: p0(y+-), in (0, 1]; [..].

    Raises:
        ValueError: a mass outside (0, 1].

    Example:
        >>> round(float(largest_initial_weight(0.5, 0.5)), 6)
        0.666667
    """
    first, second = unit_interval(mass_chosen=mass_chosen, mass_rejected=mass_rejected)
    # k / (1 + k) with numerator and denominator multiplied by p0(y+) p0(y-), so that a tiny mass does not overflow.
    numerator = (1 - first) * second + (1 - second) * first
    return np.asarray(numerator / (numerator + first * second))


def posterior_variance_from_tokens(token_energy: ArrayLike, marginal_energy: ArrayLike) -> Floats:
    """E_y Tr C(y) = sum_t E|u_t|^2 - E|sbar(y)|^2 under the model's own samples (r, y).

    u_t = grad log pi(token t | tokens before) is the score of one token, zero after the end. Proof: E[u_t | tokens
    before] = 0, so the u_t are martingale differences, uncorrelated, and E|s(r, y)|^2 = sum_t E|u_t|^2; by total
    variance this is E_y Tr C(y) + E|sbar(y)|^2.

    Args:
        token_energy: E|u_t|^2 for each position, [.., T], not negative.
        marginal_energy: E|grad log pi(y | x)|^2, [..].

    Raises:
        ValueError: a negative or non-finite number, or a marginal energy above the sum, beyond rounding.

    Example:
        >>> float(posterior_variance_from_tokens([1.0, 0.5, 0.25], 0.75))
        1.0
    """
    tokens, marginal = nonnegative(token_energy=token_energy, marginal_energy=marginal_energy)
    if tokens.ndim == 0:
        raise ValueError("token_energy must have one number per position")
    total = tokens.sum(axis=-1)
    if (marginal > total * (1 + ROUNDING)).any():
        raise ValueError("marginal_energy must not exceed the sum of token_energy")
    return np.asarray(np.maximum(total - marginal, 0.0))
