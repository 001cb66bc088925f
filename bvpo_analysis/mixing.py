"""From measured moments to decisions: the error curve, the optimal weight, regrets, and what an empty trace is worth.

This is where measured moments meet the closed forms of ``theory``. Every function takes a :class:`GradientLaw` (whose
fields are replicates) and returns an :class:`Estimate` or :class:`Alpha` with a delete-a-prompt interval; on exact
laws the same code gives exact numbers.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
from numpy.typing import ArrayLike

from bvpo_analysis import theory
from bvpo_analysis.moments import (
    GradientLaw,
    Moments,
    bounded_ratio_set,
    fieller_set,
    jackknife_estimate,
    profile_estimate,
)
from bvpo_analysis.records import Alpha, Estimate, Floats

Weight = ArrayLike | Callable[[GradientLaw], Floats]
"""A mixing weight: a number, one number per replicate, or a rule that finds it in a law."""


@dataclass(frozen=True)
class ErrorParts:
    """E|g_c - mu|^2 (variance weighted by kappa) and its parts at one weight; replicates [n + 1], or [1].

    Attributes:
        bias_sq: |b_c|^2.
        trace_var: the part of the variance that comes from sampling traces; nan where not identified.
        data_var: the part that comes from sampling prompts; nan likewise.
        total: the sum (identified in any case).
    """

    bias_sq: Floats
    trace_var: Floats
    data_var: Floats
    total: Floats


def weight_replicates(law: GradientLaw, kappa: float = 1.0) -> Floats:
    """Unclipped alpha_kappa and its leave-one-out values."""
    numerator, distance, scale = _ratio(law, kappa)
    return theory.optimal_weight_from_distance(numerator, distance, scale)


def optimal_alpha(law: GradientLaw, kappa: float = 1.0) -> Alpha:
    """alpha* = 1 - N / D for the law's target, with a Fieller set from jackknife covariances.

    N = <b_t, b_t - b_e> + kappa Tr Cov(g_t, g_t - g_e) and D = |b_t - b_e|^2 + kappa Tr Cov(g_t - g_e), both measured
    on differences. The reported value is unclipped; the recommendation is clipped to [0, 1].

    D takes the positive part of the unbiased estimate of |b_t - b_e|^2, which may be negative; the set uses that the
    true value is not, which bounds it.

    Raises:
        ValueError: kappa is not positive.
    """
    if not kappa > 0:
        raise ValueError(f"kappa must be positive, got {kappa}")
    name = f"alpha_star.{law.target}.kappa{kappa:g}"
    numerator, distance, scale = _ratio(law, kappa)
    value = float(theory.optimal_weight_from_distance(numerator[0], distance[0], scale[0]))
    if bool(theory.is_degenerate(distance[0], scale[0])):
        unknown = Estimate(value, np.nan, -np.inf, np.inf, _clusters(law), "degenerate")
        return Alpha(name, unknown, value, 0.0, 1.0, degenerate=True, confidence_set="line")
    clipped = float(np.clip(value, 0.0, 1.0))
    if len(numerator) == 1:
        return Alpha(name, Estimate.exact(value, 0), clipped, clipped, clipped)
    if law.bias_noise is None:
        found = fieller_set(numerator, distance)
    else:
        # D = |b|^2 + kappa Var(g_t - g_e) = (1 - kappa / B) |b|^2 + (kappa / B) E|g_t - g_e|^2, the last of one unit.
        second_moment = law.var_diff + law.bias_share * law.bias_diff_sq
        weight = 1.0 - kappa * float(np.ravel(law.bias_share)[0])
        found = bounded_ratio_set(numerator, kappa * second_moment, law.bias_noise, weight)
    low, high = 1.0 - found.high, 1.0 - found.low
    bounded = found.shape == "interval"
    clipped_low, clipped_high = np.clip([low, high], 0.0, 1.0) if bounded else (0.0, 1.0)
    se = jackknife_estimate(weight_replicates(law, kappa)).se
    return Alpha(
        name=name,
        estimate=Estimate(value, se, low, high, _clusters(law), "fieller-jackknife"),
        recommended=clipped,
        recommended_low=float(clipped_low),
        recommended_high=float(clipped_high),
        confidence_set=found.shape,
    )


def error_parts(law: GradientLaw, alpha: ArrayLike, kappa: float = 1.0) -> ErrorParts:
    """F_kappa(alpha) = |b_c|^2 + kappa Tr Cov(g_c), split by origin; ``alpha`` a number or one weight per replicate."""
    a = np.asarray(alpha, dtype=np.float64)
    bias = theory.error_curve(a, law.bias_t_sq, law.bias_e_sq, law.bias_inner)
    variance = kappa * theory.error_curve(a, law.var_t, law.var_e, law.cov_te)
    trace = kappa * a**2 * law.var_t_trace
    return ErrorParts(bias, trace, variance - trace, bias + variance)


def error(law: GradientLaw, alpha: Weight, kappa: float = 1.0) -> Estimate:
    """MSE (at kappa = 1) of the mix at a fixed weight, one weight per replicate, or the weight that a rule finds.

    The point value takes the positive part of an unbiased squared bias, so it is never below the variance of the mix.
    The interval comes from the unbiased replicates, ends at 0, and is extended to hold the value.
    """

    def total(one: GradientLaw) -> Floats:
        return error_parts(one, _weight(alpha, one), kappa).total

    return _nonnegative_estimate(lambda one, _: total(one), law, law)


def error_ratio(
    law: GradientLaw, alpha: Weight, other: GradientLaw, other_alpha: Weight, kappa: float = 1.0
) -> Estimate | None:
    """Error of one mix over the error of another; point value and interval as in :func:`error`.

    Returns:
        None where the denominator is not clearly positive, so that the data do not determine the ratio.
    """

    def total(one: GradientLaw, weight: Weight) -> Floats:
        return error_parts(one, _weight(weight, one), kappa).total

    noise = other.bias_noise
    least = other if noise is None else other.with_squared_bias(np.array([max(noise.interval[0], 0.0)]))
    if len(law.bias_e_sq) > 1 and not jackknife_estimate(total(least, other_alpha)).ci_low > 0:
        return None

    def ratio(one: GradientLaw, two: GradientLaw) -> Floats:
        return total(one, alpha) / total(two, other_alpha)

    return _nonnegative_estimate(ratio, law, other)


def recommended_weights(law: GradientLaw, kappa: float = 1.0) -> Floats:
    """The clipped optimal weight, re-estimated in every replicate."""
    return np.clip(weight_replicates(law, kappa), 0.0, 1.0)


def relative_regret(law: GradientLaw, alpha: float, kappa: float = 1.0) -> Estimate | None:
    """(F(alpha) - F*) / F*, the relative price of a fixed weight over the recommended one; None as in error_ratio."""
    ratio = error_ratio(law, alpha, law, partial(recommended_weights, kappa=kappa), kappa)
    if ratio is None:
        return None
    low = ratio.ci_low - 1.0
    return replace(ratio, value=ratio.value - 1.0, ci_low=max(low, 0.0), ci_high=ratio.ci_high - 1.0)


def traces_worth(moments: Moments) -> Estimate:
    """How many extra traces per answer an empty trace is worth: tau / E|b_e(x)|^2, given the data (target M1).

    Precision adds: with b_t = 0, 1/MSE = K/tau + 1/|b_e|^2, so an empty trace at its optimal weight does what
    tau / |b_e|^2 further traces would do. Off the reference, where b_t != 0, the statement does not apply.

    Raises:
        ValueError: the data do not identify the trace variance.
    """
    if moments.trace_var is None or moments.prompt_bias_e_sq is None:
        raise ValueError("one trace per answer does not identify the trace variance; use --traces 2 or more")
    ratio = moments.trace_var / moments.prompt_bias_e_sq
    if len(ratio) == 1:
        return jackknife_estimate(ratio)
    ends = fieller_set(moments.trace_var, moments.prompt_bias_e_sq)
    low, high = (ends.low, ends.high) if ends.shape == "interval" else (0.0, np.inf)
    return Estimate(float(ratio[0]), jackknife_estimate(ratio).se, low, high, moments.n, "fieller-jackknife")


def batch_size_equivalent(law: GradientLaw, kappa: float = 1.0) -> Estimate | None:
    """F(1) / F(alpha*): mixing at alpha* is worth a batch this many times as large for g_t alone (b_t = 0)."""
    return error_ratio(law, 1.0, law, partial(recommended_weights, kappa=kappa), kappa)


def twice_the_prompts_instead(moments: Moments, batch_size: float, kappa: float = 1.0) -> Estimate | None:
    """F(1) at batch size 2B over F(alpha*) at B: above 1, mixing beats spending its extra sequences on prompts for g_t.

    A mixed step on B prompts scores four sequences per prompt (two with a trace, two without); g_t alone on 2B prompts
    scores as many. Empty-trace sequences are shorter, so in tokens the comparison favours g_t.
    """
    law = moments.population(batch_size)
    rule = partial(recommended_weights, kappa=kappa)
    return error_ratio(moments.population(2 * batch_size), 1.0, law, rule, kappa)


def cosine_to_target(moments: Moments) -> Estimate:
    """cos(E g_e, mu) = <mu, E g_e> / (|mu| |E g_e|); nan, with the interval [-1, 1], if a square is not positive.

    With b_t = 0, <mu, E g_e> = (|mu|^2 + |E g_e|^2 - |b_e|^2) / 2, in which the squared bias is tested near zero. The
    estimate may lie beyond -1 and 1, the interval ends there.
    """
    target, empty = (np.where(square > 0, square, np.nan) for square in (moments.target_sq, moments.mean_e_sq))
    cosine = moments.target_dot_e / np.sqrt(target * empty)
    if len(cosine) > 1 and np.isnan(cosine).any():
        return Estimate(float(cosine[0]), np.nan, -1.0, 1.0, moments.n, "degenerate")
    if moments.bias_noise is None:
        return jackknife_estimate(cosine)

    def given_squared_bias(u: Floats) -> Floats:
        return (moments.target_sq + moments.mean_e_sq - u) / (2 * np.sqrt(moments.target_sq * moments.mean_e_sq))

    raw = profile_estimate(given_squared_bias, moments.bias_noise)
    return replace(
        raw,
        value=float(cosine[0]),
        ci_low=float(np.clip(raw.ci_low, -1.0, 1.0)),
        ci_high=float(np.clip(raw.ci_high, -1.0, 1.0)),
    )


def _weight(alpha: Weight, law: GradientLaw) -> ArrayLike:
    return alpha(law) if callable(alpha) else alpha


def _nonnegative_estimate(
    statistic: Callable[[GradientLaw, GradientLaw], Floats], law: GradientLaw, other: GradientLaw
) -> Estimate:
    """Estimate of a number that cannot be negative, from one law or two."""
    positive = _nonnegative(law)
    value = float(statistic(positive, positive if other is law else _nonnegative(other))[0])
    if law.bias_noise is None:
        raw = jackknife_estimate(statistic(law, other))
    else:
        shared = other.bias_noise is law.bias_noise

        def given_squared_bias(u: Floats) -> Floats:
            one = law.with_squared_bias(u)
            if other is law:
                return statistic(one, one)
            return statistic(one, other.with_squared_bias(u) if shared else other)

        raw = profile_estimate(given_squared_bias, law.bias_noise)
    return replace(raw, value=value, ci_low=min(max(raw.ci_low, 0.0), value), ci_high=max(raw.ci_high, value))


def _nonnegative(law: GradientLaw) -> GradientLaw:
    """The law with the positive parts of its squared biases, which as unbiased estimates may be negative."""
    return replace(law, bias_e_sq=np.maximum(law.bias_e_sq, 0.0), bias_diff_sq=np.maximum(law.bias_diff_sq, 0.0))


def _ratio(law: GradientLaw, kappa: float) -> tuple[Floats, Floats, Floats]:
    numerator = law.bias_t_diff + kappa * law.cov_t_diff
    distance = _nonnegative(law).bias_diff_sq + kappa * law.var_diff
    scale = law.bias_t_sq + np.abs(law.bias_e_sq) + kappa * (np.abs(law.var_t) + np.abs(law.var_e))
    return numerator, distance, scale


def _clusters(law: GradientLaw) -> int:
    return max(len(law.bias_e_sq) - 1, 0)
