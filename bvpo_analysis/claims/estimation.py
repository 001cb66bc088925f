"""Estimating the marginal gradient from K traces per answer, and the weight of one prompt from its K gradients."""

import numpy as np

from bvpo_analysis.claims.instances import FiniteLaw, finite_laws, worst
from bvpo_analysis.claims.trace_tuples import (
    EXTRAPOLATION,
    Prompt,
    extrapolated,
    prompts,
    tallies,
    tuples,
    worst_component,
)
from bvpo_analysis.records import Claim, Floats
from bvpo_analysis.theory.marginal_estimator import antithetic_coefficients, marginal_coefficients, marginal_rate
from bvpo_analysis.theory.mixing import optimal_weight_from_distance
from bvpo_analysis.theory.weight_given_data import ConditionalWeight, conditional_weight

PAPER = "BVPO, arXiv 2510.05095"


# --- the K-trace marginal gradient -----------------------------------------------------------------------


def marginal_bias() -> Claim:
    """K times the bias of muhat_K tends to a closed form in E[w^2 (s - sbar)] and Var w of the two answers."""
    sides = []
    for prompt in prompts(4):
        limit = marginal_rate(prompt.law(0), prompt.law(1), prompt.beta).bias
        found = extrapolated(*(k * (prompt.mean_estimate(k) - prompt.target) for k in (16, 32, 64)))
        sides.append((found, limit, float(np.linalg.norm(limit))))
    measured, predicted, tolerance = worst_component(sides, allowance=EXTRAPOLATION)
    return Claim(
        name="marginal-bias",
        statement="The K-trace marginal gradient has bias c/K with c known in closed form",
        reference="delta method",
        kind="identity",
        measured=measured,
        predicted=predicted,
        tolerance=tolerance,
        setting="K times bias, extrapolated from K = 16, 32, 64; 4 log-linear models of 2 traces, enumerated",
    )


def marginal_variance() -> Claim:
    """K times Tr Var muhat_K tends to a closed form, the sum of the variances of both answers' influences."""
    sides = []
    for prompt in prompts(4):
        limit = np.array([marginal_rate(prompt.law(0), prompt.law(1), prompt.beta).variance])
        found = extrapolated(*(np.array([k * prompt.variance_of_estimate(k)]) for k in (16, 32, 64)))
        sides.append((found, limit, float(limit[0])))
    measured, predicted, tolerance = worst_component(sides, allowance=EXTRAPOLATION)
    return Claim(
        name="marginal-variance",
        statement="The K-trace marginal gradient has a variance of v/K, to leading order, with v known in closed form",
        reference="delta method",
        kind="identity",
        measured=measured,
        predicted=predicted,
        tolerance=tolerance,
        setting="K times variance, extrapolated from K = 16, 32, 64; 4 log-linear models of 2 traces, enumerated",
    )


def joint_average_keeps_bias() -> Claim:
    """The mean of K joint gradients has the bias of one of them: it estimates another gradient, ever better."""
    sides = []
    for prompt in prompts(5):
        single = prompt.mean_estimate(1) - prompt.target
        laws = [prompt.law(y) for y in (0, 1)]
        (i, a), (j, b) = (tuples(law.probabilities, 3) for law in laws)
        rho = [law.log_ratio[index] for law, index in zip(laws, (i, j), strict=True)]
        # One joint gradient per draw: the last axis holds its single trace per side.
        c = marginal_coefficients(rho[0][:, None, :, None], rho[1][None, :, :, None], prompt.beta)
        each = c.gradient(laws[0].scores[i][:, None, :, None], laws[1].scores[j][None, :, :, None])
        average = np.einsum("a,b,abkd->d", a, b, each) / 3
        sides.append((average - prompt.target, single, float(np.linalg.norm(prompt.target))))
    measured, predicted, tolerance = worst_component(sides)
    return Claim(
        name="joint-average-keeps-bias",
        statement="Averaging the joint gradients of K traces leaves the bias of one",
        reference="linearity of expectation",
        kind="identity",
        measured=measured,
        predicted=predicted,
        tolerance=tolerance,
        setting="K = 3; 5 log-linear models of 2 traces, all tuples of traces",
    )


def marginal_intractable() -> Claim:
    """Out of reach in closed form, mu is within reach of sampling: at K = 64 hardly any of the bias is left."""
    ratios = []
    for prompt in prompts(5):
        norms = [float(np.linalg.norm(prompt.mean_estimate(k) - prompt.target)) for k in (64, 1)]
        ratios.append((norms[0] / norms[1], norms))
    _, (measured, predicted) = max(ratios)
    return Claim(
        name="marginal-intractable",
        statement="The marginal gradient is intractable: what K sampled traces give keeps the bias of a single one",
        reference=f"reading of {PAPER}, where the marginal gradient is the ideal that g_t replaces",
        kind="lower",
        measured=measured,
        predicted=predicted,
        only_if="the traces enter as the average of joint gradients",
        setting="norm of the bias at K = 64 against K = 1; the least favourable of 5 log-linear models, enumerated",
        note="mu is a ratio of two expectations over traces, and can be estimated consistently from samples.",
    )


def marginal_consistent() -> Claim:
    """The bias of muhat_K falls as 1/K: doubling K halves it."""
    orders = []
    for prompt in prompts(5):
        norms = [float(np.linalg.norm(prompt.mean_estimate(k) - prompt.target)) for k in (32, 64)]
        orders.append((float(np.log2(norms[0] / norms[1])), 1.0, 1.0))
    measured, predicted, _ = worst(orders)
    return Claim(
        name="marginal-consistent",
        statement="The bias of the K-trace marginal gradient tends to zero at rate 1/K",
        reference="delta method",
        kind="identity",
        measured=measured,
        predicted=predicted,
        tolerance=0.1,
        setting="log2 of bias at K = 32 over bias at K = 64; 5 log-linear models of 2 traces, enumerated",
    )


def _differences(prompt: Prompt, half: int) -> tuple[Floats, Floats]:
    """All antithetic differences between 2n and n traces [S, d] with their probabilities, n = ``half``."""
    sides = []
    for law in (prompt.law(0), prompt.law(1)):
        index, chance = tallies(law.probabilities, half)
        first, second = np.divmod(np.arange(len(index) ** 2), len(index))
        both = np.concatenate([index[first], index[second]], axis=1)
        sides.append((law.log_ratio[both], law.scores[both], chance[first] * chance[second]))
    (rho0, s0, a), (rho1, s1, b) = sides
    c = antithetic_coefficients(rho0[:, None], rho1[None, :], prompt.beta)
    values = c.gradient(s0[:, None], s1[None, :])
    return values.reshape(-1, values.shape[-1]), np.outer(a, b).ravel()


def levels_telescope() -> Claim:
    """E Delta_l = E muhat_{2^l} - E muhat_{2^{l-1}}, exactly."""
    sides = []
    for prompt in prompts(5):
        for half in (1, 2, 4):
            values, chance = _differences(prompt, half)
            step = prompt.mean_estimate(2 * half) - prompt.mean_estimate(half)
            sides.append((chance @ values, step, float(np.linalg.norm(prompt.target))))
    measured, predicted, tolerance = worst_component(sides)
    return Claim(
        name="levels-telescope",
        statement="Antithetic differences between 2n and n traces telescope to the marginal gradient without bias",
        reference="Rhee & Glynn, Oper. Res. 2015; Blanchet & Glynn 2015; arXiv 2004.00353",
        kind="identity",
        measured=measured,
        predicted=predicted,
        tolerance=tolerance,
        setting="n = 1, 2, 4; 5 log-linear models of 2 traces, all halves",
    )


def _difference_size(prompt: Prompt, half: int) -> float:
    """E|Delta|^2 between 2n and n traces, from the tallies of the four halves."""
    laws = [prompt.law(y) for y in (0, 1)]

    def estimates(size: int) -> tuple[Floats, list[Floats]]:
        (i, a), (j, b) = (tallies(law.probabilities, size) for law in laws)
        c = marginal_coefficients(laws[0].log_ratio[i][:, None], laws[1].log_ratio[j][None, :], prompt.beta)
        return c.gradient(laws[0].scores[i][:, None], laws[1].scores[j][None, :]), [a, b]

    (part, (a, b)), (whole, _) = estimates(half), estimates(2 * half)
    n = np.arange(half + 1)
    halves = (part[:, None, :, None] + part[None, :, None, :]) / 2
    total = n[:, None] + n[None, :]
    difference = whole[total[:, :, None, None], total[None, None, :, :]] - halves
    return float(np.einsum("a,b,c,d,abcde->", a, a, b, b, difference**2, optimize=True))


def levels_decay() -> Claim:
    """E|Delta_l|^2 = O(4^-l): doubling n divides it by four, so that cost and variance can both be finite."""
    orders = []
    for prompt in prompts(2):
        second = [_difference_size(prompt, half) for half in (12, 24)]
        orders.append((float(np.log2(second[0] / second[1])), 2.0, 1.0))
    measured, predicted, _ = worst(orders)
    return Claim(
        name="levels-decay",
        statement="The second moment of the antithetic difference falls as the square of the number of traces",
        reference="Blanchet & Glynn 2015",
        kind="identity",
        measured=measured,
        predicted=predicted,
        tolerance=0.2,
        setting="log2 of E|Delta|^2 at n = 12 over n = 24; 2 log-linear models of 2 traces, all halves",
        note="With levels drawn in proportion to 2^{-1.5 l}, cost and variance of the unbiased estimate are finite.",
    )


# --- one prompt, given its data --------------------------------------------------------------------------


def _estimates(law: FiniteLaw, traces: int) -> tuple[ConditionalWeight, Floats, Floats]:
    """Estimates from every tuple of K trace gradients of a prompt with a fixed g_e, |g_e - gbar|^2, and the chances."""
    index, chance = tuples(law.p, traces)
    gap = ((law.t[index].mean(axis=1) - law.e[0]) ** 2).sum(axis=1)
    return conditional_weight(law.t[index], np.tile(law.e[0], (len(index), 1))), gap, chance


def _bias_sq(law: FiniteLaw) -> float:
    """|E g_t - g_e|^2: the squared bias of g_e, g_t being unbiased given the data."""
    difference = law.p @ law.t - law.e[0]
    return float(difference @ difference)


THREE_GRADIENTS = FiniteLaw.independent([-2.0, -1.0, 3.0], [1.5])
"""g_t uniform on three values of mean 0 = mu, and g_e = 1.5: S_t = 14/3 and |b_e|^2 = 9/4."""


def plug_in_square() -> Claim:
    """E|g_e - gbar|^2 = |b_e|^2 + S_t / K: the plug-in square contains the noise of the mean."""
    instances = [
        (float(chance @ gap) - _bias_sq(law), law.var_t / k, law.scale)
        for law in finite_laws(count=40, fixed_e=True, seed=7)
        for k in (2, 3)
        for _, gap, chance in [_estimates(law, k)]
    ]
    measured, predicted, tolerance = worst(instances)
    return Claim(
        name="plug-in-square",
        statement="The squared distance from g_e to the mean of K trace gradients overstates |b_e|^2 by S_t / K",
        reference="bias and variance of a mean",
        kind="identity",
        measured=measured,
        predicted=predicted,
        tolerance=tolerance,
        setting="80 cases of random finite laws with g_e fixed, K = 2 and 3, all tuples of traces",
    )


def unbiased_square() -> Claim:
    """E[|g_e - gbar|^2 - Vhat / K] = |b_e|^2."""
    instances = [
        (float(chance @ found.bias_e_sq), _bias_sq(law), law.scale)
        for law in finite_laws(count=40, fixed_e=True, seed=8)
        for k in (2, 3)
        for found, _, chance in [_estimates(law, k)]
    ]
    measured, predicted, tolerance = worst(instances)
    return Claim(
        name="unbiased-square",
        statement="With the sample variance over K taken off, the squared distance is unbiased for |b_e|^2",
        reference="bias and variance of a mean",
        kind="identity",
        measured=measured,
        predicted=predicted,
        tolerance=tolerance,
        setting="80 cases of random finite laws with g_e fixed, K = 2 and 3, all tuples of traces",
        note="It may be negative; clipping it at zero would bias it again.",
    )


def _true_weight(law: FiniteLaw) -> float:
    """1 - S_t / E|g_t - g_e|^2."""
    return 1 - law.var_t / law.inner(law.t - law.e, law.t - law.e)


def plug_in_weight() -> Claim:
    """1 - Vhat / (Vhat + |g_e - gbar|^2) favours the trace: |b_e|^2 looks larger than it is."""
    law = THREE_GRADIENTS
    found, gap, chance = _estimates(law, 2)
    return Claim(
        name="plug-in-weight",
        statement="The weight from the plug-in |g_e - gbar|^2 is that of the prompt on average",
        reference="reading of the optimal weight with estimates in place of moments",
        kind="identity",
        measured=float(chance @ (1 - found.var_t / (found.var_t + gap))),
        predicted=_true_weight(law),
        tolerance=1e-9,
        only_if="Vhat / K is subtracted and the terms are averaged over many prompts before the ratio is taken",
        setting="three trace gradients, K = 2, all pairs of traces",
        note="The plug-in pushes the weight towards the trace.",
    )


def weight_of_one_prompt() -> Claim:
    """E[1 - Vhat / Dhat] is not 1 - S_t / D: the ratio of two unbiased estimates from the same traces is biased."""
    law = THREE_GRADIENTS
    found, _, chance = _estimates(law, 2)
    return Claim(
        name="weight-of-one-prompt",
        statement="With both of its terms unbiased, the weight of a prompt is unbiased",
        reference="reading of the optimal weight with estimates in place of moments",
        kind="identity",
        measured=float(chance @ found.single),
        predicted=_true_weight(law),
        tolerance=1e-9,
        only_if="numerator and denominator are averaged over many prompts before the ratio is taken",
        setting="three trace gradients, K = 2, all pairs of traces",
    )


def weight_from_ratio_of_means() -> Claim:
    """1 - E Vhat / E Dhat = 1 - S_t / D, which is what the ratio of means over prompts tends to."""
    instances = [
        (1 - float(chance @ found.var_t) / float(chance @ found.distance), _true_weight(law), 1.0)
        for law in [THREE_GRADIENTS, *finite_laws(count=40, fixed_e=True, seed=9)]
        for found, _, chance in [_estimates(law, 2)]
    ]
    measured, predicted, tolerance = worst(instances)
    return Claim(
        name="weight-from-ratio-of-means",
        statement="The ratio of the means of the two terms gives the optimal weight",
        reference="law of large numbers",
        kind="identity",
        measured=measured,
        predicted=predicted,
        tolerance=tolerance,
        setting="41 finite laws with g_e fixed, K = 2, all pairs of traces; means over prompts of one kind",
    )


def weight_of_the_average() -> Claim:
    """The mean of K trace gradients deserves 1 - (S_t/K) / (S_t/K + |b_e|^2), more than one trace does."""
    instances = []
    for law in finite_laws(count=40, fixed_e=True, seed=10):
        index, chance = tuples(law.p, 3)
        average = FiniteLaw(chance, law.t[index].mean(axis=1), np.tile(law.e[0], (len(index), 1)), law.p @ law.t)
        # The parabola through the errors at three weights.
        low, middle, high = (average.error_of_mix(alpha) for alpha in (0.0, 0.5, 1.0))
        best = 0.5 + (low - high) / (4 * (low - 2 * middle + high))
        noise = law.var_t / 3
        instances.append((best, float(optimal_weight_from_distance(noise, noise + _bias_sq(law), law.scale)), 1.0))
    measured, predicted, tolerance = worst(instances)
    return Claim(
        name="weight-of-the-average",
        statement="For the mean of K trace gradients the optimal weight has S_t / K in place of S_t",
        reference=f"{PAPER}, Theorem 2, applied to the mean of K traces",
        kind="identity",
        measured=measured,
        predicted=predicted,
        tolerance=tolerance,
        setting="40 finite laws with g_e fixed, K = 3, all tuples of traces; minimum of the error by a parabola",
    )


CLAIMS = (
    marginal_intractable,
    marginal_consistent,
    marginal_bias,
    marginal_variance,
    joint_average_keeps_bias,
    levels_telescope,
    levels_decay,
    plug_in_square,
    unbiased_square,
    plug_in_weight,
    weight_of_one_prompt,
    weight_from_ratio_of_means,
    weight_of_the_average,
)
