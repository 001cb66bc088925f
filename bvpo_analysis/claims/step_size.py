"""Theorem 4 and around it: which weight a step of size eta wants, and what the MSE-optimal weight costs instead.

Errors are sums over the atoms of finite laws as explicit vectors, and optimal weights are searched for on them: the
vertex of the parabola through three errors, or the best of all faces of the simplex.
"""

import numpy as np

from bvpo_analysis import theory
from bvpo_analysis.claims.instances import FiniteLaw, finite_laws, worst
from bvpo_analysis.claims.searches import least_on_simplex, vertex
from bvpo_analysis.records import Claim, Floats
from bvpo_analysis.theory.step_size import (
    bias_optimal_weight,
    cosine_step_sizes,
    scheduled_weights,
    step_size_regret,
    step_size_regret_factor,
    weight_shift,
)

PAPER = "BVPO, arXiv 2510.05095"
WIELANDT = "Wielandt's inequality (Horn & Johnson, Matrix Analysis, section 7.4)"
KAPPAS = (0.01, 0.1, 0.5)

# Unbiased g_t = 1 +- 1 against mu = 1, and g_e = 0: |b_e|^2 = S_t = 1.
EXTREMAL = FiniteLaw.independent([0.0, 2.0], [0.0], mu=1.0)
# Opposite biases and independent noise of the same size: alpha_bias = alpha_var = 1/2, with d0 and d1 positive.
BALANCED = FiniteLaw.independent([0.0, 2.0], [-2.0, 0.0], mu=0.0)
# g_t is better than g_e in both bias and noise, and the two go the same way: the optimum is beyond 1 for every kappa.
DOMINATED = FiniteLaw.independent([1.9, 2.1], [4.0, 6.0], mu=1.0)


def theorem_4_if() -> Claim:
    """At eta L = 1 the weight that minimises the per-step error of Theorem 3 is the MSE-optimal one."""
    instances = [
        (_best_weight(law, 1.0), float(theory.optimal_weight(**law.errors)), _magnified(law, 1.0))
        for law in finite_laws(count=200, seed=1)
    ]
    measured, predicted, tolerance = worst(instances)
    return Claim(
        name="theorem-4-if",
        statement="At eta L = 1 the weight with the least bias^2 + eta L variance is the MSE-optimal weight",
        reference=f"{PAPER}, Theorem 4",
        kind="identity",
        measured=measured,
        predicted=predicted,
        tolerance=tolerance,
        setting="200 random finite laws",
    )


def theorem_4_only_if() -> Claim:
    """As worded it has an exception: if bias and noise want the same weight, every step size wants it."""
    return Claim(
        name="theorem-4-only-if",
        statement="The two weights agree only at eta L = 1: at no smaller eta L are they equal",
        reference=f"{PAPER}, Theorem 4, as worded",
        kind="lower",
        measured=min(k for k in (*KAPPAS, 1.0) if abs(_best_weight(BALANCED, k) - _best_weight(BALANCED, 1.0)) < 1e-9),
        predicted=1.0,
        only_if="b_t != b_e, Var(g_t - g_e) > 0, and the weights of least bias and of least variance differ",
        setting="biases 1 and -1 with equal independent noise; the smallest of eta L = .01, .1, .5, 1 where they agree",
        note="There both weights are 1/2 at every step size.",
    )


def theorem_4_only_if_clipped() -> Claim:
    """After clipping there is a second exception: both weights beyond the same end of [0, 1]."""
    clipped = {k: float(np.clip(_best_weight(DOMINATED, k), 0, 1)) for k in (*KAPPAS, 1.0)}
    return Claim(
        name="theorem-4-only-if-clipped",
        statement="Clipped to [0, 1], the two weights agree only at eta L = 1, if the unclipped weights differ",
        reference=f"{PAPER}, Theorem 4, for the clipped weight of Theorem 2",
        kind="lower",
        measured=min(k for k, weight in clipped.items() if weight == clipped[1.0]),
        predicted=1.0,
        only_if="the unclipped weights are not both 1 or more, or both 0 or less",
        setting="g_t closer to mu and less noisy than g_e; the smallest of eta L = .01, .1, .5, 1 where they agree",
    )


def theorem_4_corrected() -> Claim:
    """How far the weights are apart: zero iff eta L = 1 or d0 d1 (alpha_bias - alpha_var) = 0."""
    instances = [
        (
            _best_weight(law, k) - _best_weight(law, 1.0),
            float(weight_shift(**law.moments, kappa=k)),
            _magnified(law, k),
        )
        for law in finite_laws(count=100, seed=2)
        for k in KAPPAS
    ]
    measured, predicted, tolerance = worst(instances)
    return Claim(
        name="theorem-4-corrected",
        statement="At k = eta L the weights differ by (1 - k) d0 d1 (alpha_bias - alpha_var) / [(d0 + d1)(d0 + k d1)]",
        reference=f"corrects {PAPER}, Theorem 4",
        kind="identity",
        measured=measured,
        predicted=predicted,
        tolerance=tolerance,
        setting="300 pairs of a random finite law and eta L in .01, .1, .5",
        note="Zero iff eta L = 1 or the exception holds; d0 = |b_e - b_t|^2, d1 = Var(g_t - g_e).",
    )


def step_size_price() -> Claim:
    """What the MSE-optimal weight costs under the error of Theorem 3, in closed form."""
    instances = []
    for law in finite_laws(count=100, seed=3):
        first = _best_weight(law, 1.0)
        for k in KAPPAS:
            best = _best_weight(law, k)
            cost = _weighted_error(law, first, k) - _weighted_error(law, best, k)
            size = law.scale * max(1.0, first**2, best**2)
            instances.append((cost, float(step_size_regret(**law.moments, kappa=k)), size))
    measured, predicted, tolerance = worst(instances)
    return Claim(
        name="step-size-price",
        statement="At k = eta L the MSE-optimal weight has an error (d0 + k d1)(alpha_k - alpha*)^2 above the least",
        reference="completing the square in Theorem 3's error",
        kind="identity",
        measured=measured,
        predicted=predicted,
        tolerance=tolerance,
        setting="300 pairs of a random finite law and eta L in .01, .1, .5",
    )


def step_size_price_bound() -> Claim:
    """The price is at most (1 + kappa)^2/(4 kappa), free or clipped."""
    ratios = []
    for law in finite_laws(count=100, seed=4):
        for k in KAPPAS:
            free = (_best_weight(law, 1.0), _best_weight(law, k))
            for first, best in (free, np.clip(free, 0, 1)):
                ratios.append((_weighted_error(law, first, k) / _weighted_error(law, best, k), k))
    measured, predicted = _closest_to_its_bound(ratios)
    return Claim(
        name="step-size-price-bound",
        statement="The error at the MSE-optimal weight is at most (1 + k)^2/(4k) times the least error at k = eta L",
        reference=WIELANDT,
        kind="upper",
        measured=measured,
        predicted=predicted,
        tolerance=1e-9 * predicted,
        setting="600 free and clipped weights of random finite laws; the case closest to its bound",
    )


def step_size_price_on_simplex() -> Claim:
    """The same bound for three estimators with nonnegative weights that sum to one."""
    rng = np.random.default_rng(5)
    ratios = []
    for _ in range(30):
        bias = 10 ** rng.uniform(-1, 1, size=(3, 1)) * rng.normal(size=(3, 3))
        noise = 10 ** rng.uniform(-1, 1, size=(3, 1, 1)) * rng.normal(size=(3, 4, 3))
        noise -= noise.mean(axis=1, keepdims=True)
        gram, covariance = bias @ bias.T, np.einsum("ind,jnd->ij", noise, noise) / 4
        for k in KAPPAS:
            first, best = (least_on_simplex(gram + x * covariance) for x in (1.0, k))
            ratios.append((_error_of_three(first, bias, noise, k) / _error_of_three(best, bias, noise, k), k))
    measured, predicted = _closest_to_its_bound(ratios)
    return Claim(
        name="step-size-price-on-simplex",
        statement="(1 + k)^2/(4k) also bounds the price for three estimators with weights on the simplex",
        reference="the bound for two, on the segment between the two optima",
        kind="upper",
        measured=measured,
        predicted=predicted,
        tolerance=1e-9 * predicted,
        setting="90 pairs of three random estimators and eta L in .01, .1, .5; the case closest to its bound",
    )


def step_size_price_attained() -> Claim:
    """The factor is 1.125 at kappa = .5, 3.025 at .1 and 25.5 at .01."""
    first, instances = _best_weight(EXTREMAL, 1.0), []
    for k in (0.5, 0.1, 0.01):
        paid, least = (_weighted_error(EXTREMAL, alpha, k) for alpha in (first, _best_weight(EXTREMAL, k)))
        bound = float(step_size_regret_factor(k))
        instances.append((paid / least, bound, bound))
    measured, predicted, tolerance = worst(instances)
    return Claim(
        name="step-size-price-attained",
        statement="That factor (1 + k)^2/(4k) is attained: 1.125 at k = eta L = .5, 3.025 at .1, 25.5 at .01",
        reference=WIELANDT,
        kind="tight",
        measured=measured,
        predicted=predicted,
        tolerance=tolerance,
        setting="unbiased g_t, fixed g_e, |b_e|^2 = Var(g_t); the largest deviation of the three",
    )


def schedule_weights() -> Claim:
    """Along a decaying schedule the best weight is alpha_k at every step."""
    kappas = cosine_step_sizes(1.0, 10)[:-1]
    instances = [
        (_best_weight(law, k), weight, _magnified(law, k))
        for law in finite_laws(count=20, seed=13)
        for k, weight in zip(kappas.tolist(), scheduled_weights(kappas, 1.0, **law.moments).tolist(), strict=True)
    ]
    measured, predicted, tolerance = worst(instances)
    return Claim(
        name="schedule-weights",
        statement="Along a schedule the best weight is (p0 + eta_t L p1)/(d0 + eta_t L d1)",
        reference="Theorem 3's error at each step size",
        kind="identity",
        measured=measured,
        predicted=predicted,
        tolerance=tolerance,
        setting="20 random finite laws, 10 steps of cosine decay from eta L = 1",
    )


def cosine_decay() -> Claim:
    """Under cosine decay the weight ends at the bias optimum."""
    last = float(cosine_step_sizes(1.0, 1_000_000)[-2])
    instances = []
    for law in finite_laws(count=20, seed=12):
        biases = {name: law.moments[name] for name in ("bias_t_sq", "bias_e_sq", "bias_inner")}
        instances.append((_best_weight(law, last), float(bias_optimal_weight(**biases)), _magnified(law, last)))
    measured, predicted, tolerance = worst(instances)
    return Claim(
        name="cosine-decay",
        statement="As a schedule decays, the weight that follows it tends to the weight of least bias",
        reference="alpha_k is the mean of alpha_bias and alpha_var with weights d0 and k d1",
        kind="identity",
        measured=measured,
        predicted=predicted,
        tolerance=tolerance,
        setting="20 random finite laws at the last positive step of 10^6 under cosine decay from eta L = 1",
    )


def universal_half() -> Claim:
    """The over-strong reading: one constant weight for all step sizes; here 1/2, where it is MSE-optimal."""
    return Claim(
        name="universal-half",
        statement="If alpha = 1/2 is MSE-optimal, it is the best weight at every step size",
        reference=f"reading of {PAPER}, whose alpha is a constant",
        kind="identity",
        measured=_best_weight(EXTREMAL, 0.01),
        predicted=float(theory.optimal_weight(**EXTREMAL.errors)),
        tolerance=1e-9,
        only_if="b_t = b_e, Var(g_t - g_e) = 0, or the weights of least bias and of least variance are both 1/2",
        setting="mu = 1, g_t = 1 +- 1, g_e = 0 at eta L = .01, where 1/2 costs 25.5 times the least error",
        note="With b_t = 0 small steps average the noise out, and mixing only adds the bias of g_e.",
    )


def _weighted_error(law: FiniteLaw, alpha: float, kappa: float) -> float:
    """|E g_c - mu|^2 + kappa Tr Cov(g_c), from vectors."""
    bias = law.p @ law.mix(alpha) - law.mu
    return float(bias @ bias) + kappa * law.variance_of_mix(alpha)


def _best_weight(law: FiniteLaw, kappa: float) -> float:
    """The weight with the least of these errors, by search."""
    return vertex(lambda alpha: _weighted_error(law, alpha, kappa))


def _error_of_three(weights: Floats, bias: Floats, noise: Floats, kappa: float) -> float:
    """The same error of sum_j w_j g_j from biases [3, d] and equally likely centred noise [3, n, d]."""
    mean, mixed = weights @ bias, np.einsum("j,jnd->nd", weights, noise)
    return float(mean @ mean + kappa * (mixed**2).sum(axis=1).mean())


def _magnified(law: FiniteLaw, kappa: float) -> float:
    """How much a searched weight magnifies rounding: the size of the error's terms over its curvature, squared."""
    shift = law.p @ (law.t - law.e)
    curvature = float(shift @ shift) + kappa * law.covariance(law.t - law.e, law.t - law.e)
    return max(1.0, law.scale / curvature) ** 2


def _closest_to_its_bound(ratios: list[tuple[float, float]]) -> tuple[float, float]:
    """Of pairs (ratio, kappa), the ratio closest to the bound at its kappa, and that bound."""
    rows = [(ratio, float(step_size_regret_factor(kappa))) for ratio, kappa in ratios]
    return max(rows, key=lambda row: row[0] / row[1])


CLAIMS = (
    theorem_4_if,
    theorem_4_only_if,
    theorem_4_only_if_clipped,
    theorem_4_corrected,
    step_size_price,
    step_size_price_bound,
    step_size_price_attained,
    step_size_price_on_simplex,
    schedule_weights,
    cosine_decay,
    universal_half,
)
