"""Theorems 1 and 2 and Corollary 1: what mixing does to variance and to mean squared error.

The left side of every claim is a sum over the atoms of a finite law of (g_t, g_e) as explicit vectors; the right side
is the closed form.
"""

import numpy as np
from scipy.optimize import brentq, minimize_scalar

from bvpo_analysis import theory
from bvpo_analysis.claims.instances import FiniteLaw, finite_laws, highest, worst
from bvpo_analysis.records import Claim
from bvpo_analysis.theory.equal_weight import UNCORRELATED_FACTOR, equal_mix
from bvpo_analysis.theory.mixing import clipped_optimum, optimum_range, weight_change_with_target
from bvpo_analysis.theory.total_variance import conditional_variance_of_mix, variance_of_mix

PAPER = "BVPO, arXiv 2510.05095"
SIGNS = np.array([-1.0, 1.0])


# --- Theorem 1 ---------------------------------------------------------------------------------------------


def theorem_1() -> Claim:
    """Var_r(alpha g_t + (1 - alpha) g_e | data) = alpha^2 Var_r(g_t | data), g_e having no trace randomness."""
    instances = [
        (law.variance_of_mix(alpha), conditional_variance_of_mix(alpha, law.var_t), law.scale)
        for law in finite_laws(count=200, fixed_e=True)
        for alpha in (0.0, 0.3, 0.5, 0.9)
    ]
    measured, predicted, tolerance = worst(instances)
    return Claim(
        name="theorem-1",
        statement="Given the data, mixing multiplies the trace variance of g_t by alpha squared",
        reference=f"{PAPER}, Theorem 1",
        kind="identity",
        measured=measured,
        predicted=predicted,
        tolerance=tolerance,
        setting="800 mixes of random finite laws, g_e fixed",
    )


def theorem_1_total() -> Claim:
    """The stronger reading fails: over prompts, mixing in a noisier g_e raises the variance."""
    law = FiniteLaw.independent(SIGNS, 10 * SIGNS)
    return Claim(
        name="theorem-1-total",
        statement="The total variance of the equal mix is at most that of g_t",
        reference=f"reading of {PAPER}, Theorem 1, without its conditioning",
        kind="upper",
        measured=law.variance_of_mix(0.5),
        predicted=law.var_t,
        only_if="Var(g_e) + 2 Cov(g_t, g_e) <= 3 Var(g_t); given the data, where Theorem 1 stands, both terms are 0",
        setting="Var g_t = 1, Var g_e = 100, uncorrelated",
    )


def total_variance_of_mix() -> Claim:
    """alpha^2 tau + alpha^2 v_t + (1 - alpha)^2 v_e + 2 alpha (1 - alpha) c over random prompts with random traces."""
    rng = np.random.default_rng(1)
    instances = []
    for _ in range(200):
        prompts, traces, d = rng.integers(2, 5), rng.integers(1, 5), rng.integers(1, 5)
        p, q = rng.dirichlet(np.ones(prompts)), rng.dirichlet(np.ones(traces), size=prompts)
        t, e = rng.normal(size=(prompts, traces, d)), rng.normal(size=(prompts, d)) * 10 ** rng.uniform(-1, 1)
        mean = np.einsum("ir,ird->id", q, t)
        over_prompts = FiniteLaw(p, mean, e, np.zeros(d))
        law = FiniteLaw((p[:, None] * q).ravel(), t.reshape(-1, d), np.repeat(e, traces, axis=0), np.zeros(d))
        alpha = rng.uniform(-0.5, 1.5)
        parts = variance_of_mix(
            alpha,
            trace_var=p @ np.einsum("ir,ird->i", q, (t - mean[:, None]) ** 2),
            data_var_t=over_prompts.var_t,
            data_var_e=over_prompts.moments["var_e"],
            data_cov=over_prompts.moments["cov_te"],
        )
        instances.append((law.variance_of_mix(alpha), parts.total, law.scale))
    measured, predicted, tolerance = worst(instances)
    return Claim(
        name="total-variance-of-mix",
        statement="The variance of the mix is that of its traces, shrunk by alpha squared, plus that of the data, with "
        "the variance of g_e and its covariance with the mean of g_t",
        reference="law of total variance; Theorem 1 with its condition made explicit",
        kind="identity",
        measured=measured,
        predicted=predicted,
        tolerance=tolerance,
        setting="200 random populations of 2 to 4 prompts with 1 to 4 traces each",
    )


def trace_variance_with_zero_gradient() -> Claim:
    """The variance reduction of Theorem 1 does not need g_e: alpha g_t + 0 has it, and so has a smaller step."""
    instances = []
    for law in finite_laws(count=200, fixed_e=True, seed=2):
        nothing = FiniteLaw(law.p, law.t, np.zeros_like(law.e), law.mu)
        instances.append((law.variance_of_mix(0.5), nothing.variance_of_mix(0.5), law.scale))
    measured, predicted, tolerance = worst(instances)
    return Claim(
        name="trace-variance-with-zero-gradient",
        statement="Given the data, mixing with g_e shrinks the trace variance as much as mixing with the zero vector",
        reference=f"consequence of {PAPER}, Theorem 1",
        kind="identity",
        measured=measured,
        predicted=predicted,
        tolerance=tolerance,
        setting="200 random finite laws, alpha = 1/2; both sides measured",
        note="Mixing with zero is a smaller learning rate: variance alone says nothing about signal.",
    )


def less_variance_less_error() -> Claim:
    """Trace variance falls by a factor of 4 and the error rises by a factor of 25: g_e = 0, mu = 1, g_t = 1 +- 0.1."""
    law = FiniteLaw.independent(1 + 0.1 * SIGNS, np.zeros(1), mu=1.0)
    return Claim(
        name="less-variance-less-error",
        statement="A mix with less trace variance than g_t has at most the mean squared error of g_t",
        reference=f"reading of {PAPER}, Theorem 1, as an improvement of the gradient",
        kind="upper",
        measured=law.error_of_mix(0.5),
        predicted=law.error_of_mix(1.0),
        only_if="the squared bias that mixing adds is at most the variance that it removes",
        setting="mu = 1, g_t = 1 +- 0.1, g_e = 0, alpha = 1/2; variance falls from 0.01 to 0.0025",
    )


def less_variance_more_signal() -> Claim:
    """Trace variance falls by a factor of 4 and the squared mean by 16: g_t = 1 +- 1/2 and g_e = -1/2."""
    law = FiniteLaw.independent(1 + 0.5 * SIGNS, [-0.5], mu=1.0)

    def signal_to_noise(alpha: float) -> float:
        mean = law.p @ law.mix(alpha)
        return float(mean @ mean) / law.variance_of_mix(alpha)

    return Claim(
        name="less-variance-more-signal",
        statement="A mix with less trace variance than g_t has at least the signal-to-noise ratio of g_t",
        reference=f"reading of {PAPER}, Theorem 1, as an improvement of the gradient",
        kind="lower",
        measured=signal_to_noise(0.5),
        predicted=signal_to_noise(1.0),
        only_if="|E g_c| >= alpha |E g_t|, given the data",
        setting="|E g_c|^2 / Var(g_c) at alpha = 1/2 and at 1, for g_t = 1 +- 1/2 and g_e = -1/2",
        note="Mixing with zero leaves the ratio as it is, as any change of the learning rate does.",
    )


# --- Theorem 2 and Corollary 1 -----------------------------------------------------------------------------


def theorem_2() -> Claim:
    """The error at the closed-form weight is the least that a numerical search over [0, 1] finds."""
    instances = []
    for law in finite_laws(count=150, seed=3):
        found = minimize_scalar(law.error_of_mix, bounds=(0.0, 1.0), method="bounded", options={"xatol": 1e-9})
        least = min(float(found.fun), law.error_of_mix(0.0), law.error_of_mix(1.0))
        instances.append((least, clipped_optimum(**law.errors).error, law.scale))
    measured, predicted, tolerance = worst(instances)
    return Claim(
        name="theorem-2",
        statement="The closed-form weight, clipped to [0, 1], gives the least mean squared error of all mixes",
        reference=f"{PAPER}, Theorem 2",
        kind="identity",
        measured=measured,
        predicted=predicted,
        tolerance=tolerance,
        setting="least error found by a numerical search, 150 random finite laws",
    )


def theorem_2_weight() -> Claim:
    """The minimiser itself, unclipped, from three errors of explicit mixes."""
    instances = [
        (law.best_weight, theory.optimal_weight(**law.errors), law.scale / law.error_of_difference)
        for law in finite_laws(count=300, seed=4)
    ]
    measured, predicted, tolerance = worst(instances)
    return Claim(
        name="theorem-2-weight",
        statement="The error is least at alpha = (C - B) / (A + C - 2B)",
        reference=f"{PAPER}, Theorem 2",
        kind="identity",
        measured=measured,
        predicted=predicted,
        tolerance=tolerance,
        setting="vertex of the parabola through the errors of three mixes, 300 random finite laws",
    )


def theorem_2_better_end() -> Claim:
    """MSE(g_c) <= min(MSE(g_t), MSE(g_e)) at the clipped optimum."""
    instances = []
    for law in finite_laws(count=300, seed=5):
        weight = float(clipped_optimum(**law.errors).weight)
        ends = min(law.error_of_mix(0.0), law.error_of_mix(1.0))
        instances.append((law.error_of_mix(weight), ends, law.scale))
    measured, predicted, tolerance = highest(instances)
    return Claim(
        name="theorem-2-better-end",
        statement="At the optimal weight the error of the mix is at most that of the better of g_t and g_e",
        reference=f"{PAPER}, Theorem 2",
        kind="upper",
        measured=measured,
        predicted=predicted,
        tolerance=tolerance,
        setting="300 random finite laws",
    )


def _margin(law: FiniteLaw) -> float:
    """min(A, C) - B."""
    return min(law.errors["error_t"], law.errors["error_e"]) - law.errors["cross"]


def corollary_1() -> Claim:
    """Strictly better iff B < min(A, C), which is what "unless at a boundary or coinciding" comes to."""
    # This far from a tie alpha* is 0.005 or more away from 0 and 1, so a grid of step 0.01 shows every strict gain.
    laws = [law for law in finite_laws(count=100, seed=6) if abs(_margin(law)) > 0.01 * law.scale]
    strictly = 0
    for law in laws:
        grid = [law.error_of_mix(alpha) for alpha in np.linspace(0.0, 1.0, 101)]
        strictly += min(grid) < min(grid[0], grid[-1])
    expected = int(sum(clipped_optimum(**law.errors).strict for law in laws))
    return Claim(
        name="corollary-1",
        statement="The best mix is strictly better than both g_t and g_e unless its weight is 0 or 1 or they coincide, "
        "which is to say exactly if B < min(A, C)",
        reference=f"{PAPER}, Corollary 1; Bates and Granger 1969",
        kind="identity",
        measured=float(strictly),
        predicted=float(expected),
        setting=f"number of laws, of {len(laws)} random finite laws, where some mix on a grid beats both ends",
    )


def corollary_1_gain() -> Claim:
    """min(A, C) - q* = (min(A, C) - B)^2 / D where the corollary applies, and 0 elsewhere."""
    instances = []
    for law in finite_laws(count=300, seed=7):
        weight = float(np.clip(law.best_weight, 0.0, 1.0))
        ends = min(law.error_of_mix(0.0), law.error_of_mix(1.0))
        instances.append((ends - law.error_of_mix(weight), clipped_optimum(**law.errors).gain, law.scale))
    measured, predicted, tolerance = worst(instances)
    return Claim(
        name="corollary-1-gain",
        statement="The best mix gains (min(A, C) - B)^2 / D over the better end, and nothing if B >= min(A, C)",
        reference=f"how much {PAPER}, Corollary 1, is worth",
        kind="identity",
        measured=measured,
        predicted=predicted,
        tolerance=tolerance,
        setting="300 random finite laws",
    )


def convex_is_enough() -> Claim:
    """g_e errs twice as far in the direction of g_t, and 2 g_t - g_e is exact: alpha* = 2."""
    law = FiniteLaw.independent([1.0], [2.0])
    where, clipped = optimum_range(**law.errors), clipped_optimum(**law.errors)
    return Claim(
        name="convex-is-enough",
        statement="No affine mix has a smaller error than the best mix with a weight in [0, 1]",
        reference=f"reading of {PAPER}, Theorem 2, of the clipping",
        kind="lower",
        measured=law.error_of_mix(2.0),
        predicted=float(clipped.error),
        only_if="B <= min(A, C)",
        setting="mu = 0, g_t = 1, g_e = 2; the weight 2",
        note=f"The closed form of the loss by clipping, (B - A)^2 / D, gives {float(where.gain_of_leaving):g}.",
    )


# --- the equal mix ------------------------------------------------------------------------------------------


def equal_mix_is_safe() -> Claim:
    """A = 1, C = 9, B = 0: the equal mix has error 2.5."""
    law = FiniteLaw.independent(SIGNS, 3 * SIGNS)
    return Claim(
        name="equal-mix-is-safe",
        statement="The equal mix is at least as good as the better of g_t and g_e",
        reference=f"reading of {PAPER}, whose experiments use alpha = 1/2",
        kind="upper",
        measured=law.error_of_mix(0.5),
        predicted=min(law.error_of_mix(0.0), law.error_of_mix(1.0)),
        only_if="B <= (3 min(A, C) - max(A, C)) / 2; at B = 0, errors within a factor of 3",
        setting="independent unbiased errors, MSE 1 and 9",
    )


def equal_mix_factor() -> Claim:
    """With uncorrelated errors the equal mix stops beating the better end at a ratio of MSEs of exactly 3."""

    def excess(ratio: float) -> float:
        law = FiniteLaw.independent(SIGNS, np.sqrt(ratio) * SIGNS)
        return law.error_of_mix(0.5) - law.error_of_mix(1.0)

    return Claim(
        name="equal-mix-factor",
        statement="With B = 0 the equal mix beats both g_t and g_e iff their errors differ by a factor below 3",
        reference="q(1/2) = (A + C + 2B) / 4 against min(A, C)",
        kind="identity",
        measured=float(brentq(excess, 1.0, 20.0, xtol=1e-12)),
        predicted=UNCORRELATED_FACTOR,
        tolerance=1e-9,
        setting="root of the difference of explicit errors, independent unbiased errors",
        note="B contains the product of the biases, not the covariance alone.",
    )


def equal_mix_regret() -> Claim:
    """q(1/2) - q* = (A - C)^2 / (4 D), so 1/2 is optimal iff the two errors are equal."""
    instances = [
        (law.error_of_mix(0.5) - law.error_of_mix(law.best_weight), equal_mix(**law.errors).regret, law.scale)
        for law in finite_laws(count=300, seed=8)
    ]
    measured, predicted, tolerance = worst(instances)
    return Claim(
        name="equal-mix-regret",
        statement="The equal mix costs (A - C)^2 / (4 D) over the optimum, whatever the covariance",
        reference="error as a parabola around its minimum",
        kind="identity",
        measured=measured,
        predicted=predicted,
        tolerance=tolerance,
        setting="300 random finite laws",
    )


# --- the target ----------------------------------------------------------------------------------------------


def one_scalar_of_the_target() -> Claim:
    """Moving mu by v moves alpha* by <v, E[g_t - g_e]> / D, and not at all across E[g_t - g_e]."""
    rng = np.random.default_rng(9)
    instances = []
    for law in finite_laws(count=150, seed=9):
        shift = law.p @ (law.t - law.e)
        v = rng.normal(size=len(shift))
        for move in (v, v - (v @ shift) / (shift @ shift) * shift):
            moved = FiniteLaw(law.p, law.t, law.e, law.mu + move)
            change = weight_change_with_target(move @ shift, law.error_of_difference)
            size = (law.scale + moved.scale) / law.error_of_difference
            instances.append((moved.best_weight - law.best_weight, change, size))
    measured, predicted, tolerance = worst(instances)
    return Claim(
        name="one-scalar-of-the-target",
        statement="The optimal weight depends on the target only through its inner product with E[g_t - g_e]",
        reference="D does not involve mu; the dual form is affine in mu",
        kind="identity",
        measured=measured,
        predicted=predicted,
        tolerance=tolerance,
        setting="150 random finite laws, the target moved at random and across E[g_t - g_e]",
        note="So the optimal weight can be estimated where the target itself cannot.",
    )


CLAIMS = (
    theorem_1,
    theorem_1_total,
    total_variance_of_mix,
    trace_variance_with_zero_gradient,
    less_variance_less_error,
    less_variance_more_signal,
    theorem_2,
    theorem_2_weight,
    theorem_2_better_end,
    corollary_1,
    corollary_1_gain,
    convex_is_enough,
    equal_mix_is_safe,
    equal_mix_factor,
    equal_mix_regret,
    one_scalar_of_the_target,
)
