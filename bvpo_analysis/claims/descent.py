"""What a step gains if no term of the descent lemma is dropped, and which weight a free step size wants.

Steps are taken: the change of the loss is computed at every atom of a finite law, on the isotropic quadratic
f = (L/2)|x|^2, where the descent lemma is an equality, or on another smooth loss.
"""

import numpy as np

from bvpo_analysis import theory
from bvpo_analysis.claims.instances import ROUNDING, FiniteLaw, finite_laws, worst
from bvpo_analysis.claims.searches import vertex
from bvpo_analysis.records import Claim
from bvpo_analysis.theory.descent import (
    cosine,
    cosine_optimal_weight,
    descent_bound,
    descent_optimal_weight,
    retuned_step,
    retuned_weights,
)

PAPER = "BVPO, arXiv 2510.05095"
KAPPAS = (0.01, 0.1, 0.5, 1.5)
SMOOTHNESS = 2.0

# mu = 1, g_t = 1 +- 1, and g_e = 1/2: short, but without noise and with cosine 1.
SHORT = FiniteLaw.independent([0.0, 2.0], [0.5], mu=1.0)
# Fixed g_t = (1, 2) and g_e = (-1, 1) against mu = (1, 0): Q^{-1}u = (1/3, -2/3).
UPHILL = FiniteLaw(np.ones(1), np.array([[1.0, 2.0]]), np.array([[-1.0, 1.0]]), np.array([1.0, 0.0]))


def slack_free_descent() -> Claim:
    """On an isotropic quadratic the descent lemma without a dropped term is an identity."""
    instances = []
    for law in finite_laws(count=100, seed=6):
        for k in KAPPAS:
            bound = descent_bound(
                0.3,
                **_second_moments(law),
                target_sq=float(law.mu @ law.mu),
                step_size=k / SMOOTHNESS,
                smoothness=SMOOTHNESS,
            )
            change, to_rescaled = _change(law, 0.3, k), law.mix(0.3) - law.mu / k
            square = k**2 / (2 * SMOOTHNESS) * law.inner(to_rescaled, to_rescaled)
            instances.append((change, float(bound.change), law.scale))
            instances.append((change, float(bound.best) + square, law.scale + square))
    measured, predicted, tolerance = worst(instances)
    return Claim(
        name="slack-free-descent",
        statement="E f(x+) - f(x) = -|mu|^2/(2L) + (L eta^2/2) E|g_c - mu/(eta L)|^2 for f = (L/2)|x|^2",
        reference="descent lemma, completing the square",
        kind="tight",
        measured=measured,
        predicted=predicted,
        tolerance=tolerance,
        setting="400 explicit steps with eta L in .01, .1, .5, 1.5",
    )


def slack_free_bound() -> Claim:
    """Off quadratics the same expression bounds the change of the loss."""
    rows = []
    for law in finite_laws(count=100, seed=7):
        # f = sum log cosh is 1-smooth with gradient tanh; x is where the gradient has size below 1.
        at_x = FiniteLaw(law.p, law.t, law.e, np.tanh(law.mu))
        for k in KAPPAS:
            after = law.mu - k * at_x.mix(0.3)
            change = at_x.mean((np.logaddexp(after, -after) - np.logaddexp(law.mu, -law.mu)).sum(axis=1))
            bound = descent_bound(
                0.3, **_second_moments(at_x), target_sq=float(at_x.mu @ at_x.mu), step_size=k, smoothness=1.0
            )
            rows.append((change, float(bound.change), at_x.scale))
    measured, predicted, scale = max(rows, key=lambda row: (row[0] - row[1]) / row[2])
    return Claim(
        name="slack-free-bound",
        statement="E f(x+) - f(x) is at most -|mu|^2/(2L) + (L eta^2/2) E|g_c - mu/(eta L)|^2 for L-smooth f",
        reference="descent lemma",
        kind="upper",
        measured=measured,
        predicted=predicted,
        tolerance=ROUNDING * scale,
        setting="400 explicit steps on f = sum log cosh, eta L in .01, .1, .5, 1.5; the case closest to its bound",
    )


def slack_free_weight() -> Claim:
    """The weight that decreases an isotropic quadratic most."""
    instances = [
        (_steepest(law, k), float(descent_optimal_weight(**_second_moments(law), kappa=k)), _magnified(law) / k)
        for law in finite_laws(count=100, seed=8)
        for k in KAPPAS
    ]
    measured, predicted, tolerance = worst(instances)
    return Claim(
        name="slack-free-weight",
        statement="The weight that decreases the loss most is MSE-optimal for the target mu/(eta L), not for mu",
        reference="descent lemma, completing the square",
        kind="identity",
        measured=measured,
        predicted=predicted,
        tolerance=tolerance,
        setting="400 searches over explicit steps on f = (L/2)|x|^2 with eta L in .01, .1, .5, 1.5",
    )


def bound_is_not_descent() -> Claim:
    """The over-strong reading: minimising Theorem 3's error gives the step that decreases the loss most."""
    return Claim(
        name="bound-is-not-descent",
        statement="The weight that minimises the per-step error of Theorem 3 decreases the loss most",
        reference=f"reading of {PAPER}, Theorem 3, as the progress of a step",
        kind="identity",
        measured=_steepest(SHORT, 0.5),
        predicted=float(theory.weighted_optimal_weight(**SHORT.moments, kappa=0.5)),
        tolerance=ROUNDING,
        only_if="eta L = 1, or the dropped term -(eta/2)(1 - eta L)|E g_c|^2 is stationary at that weight",
        setting="f = (L/2)|x|^2 with eta L = 1/2, mu = 1, g_t = 1 +- 1, g_e = 1/2",
        note="Below eta L = 1 the dropped term rewards a longer mean gradient.",
    )


def retuned_gain() -> Claim:
    """The best step size at a given weight, on an isotropic quadratic, by search."""
    instances = []
    for law in finite_laws(count=100, seed=11):
        # In eta L the change is a parabola from 0: its vertex is the best step if positive, and no step is otherwise.
        change = _change(law, 0.3, max(_best_kappa(law, 0.3), 0.0))
        step = retuned_step(0.3, **_second_moments(law), smoothness=SMOOTHNESS)
        instances.append((change, float(step.change), law.scale))
    measured, predicted, tolerance = worst(instances)
    return Claim(
        name="retuned-gain",
        statement="With the best step size a step gains <mu, E g_c>^2/(2L E|g_c|^2) = |mu|^2 cos^2/(2L) if cos > 0",
        reference="minimising the slack-free bound over eta",
        kind="tight",
        measured=measured,
        predicted=predicted,
        tolerance=tolerance,
        setting="100 searches over explicit steps on f = (L/2)|x|^2",
    )


def cosine_bound() -> Claim:
    """With a free step size nothing beats Q^{-1} u, over all combinations of three estimators."""
    rng = np.random.default_rng(9)
    rows = []
    for _ in range(60):
        g, mu = rng.normal(size=(3, 4, 3)) + rng.normal(size=(3, 1, 3)), rng.normal(size=3)
        progress = retuned_weights(np.einsum("ind,jnd->ij", g, g) / 4, g.mean(axis=1) @ mu).progress
        mixed = np.einsum("aj,jnd->and", rng.normal(size=(200, 3)), g)
        squared = (mixed.mean(axis=1) @ mu) ** 2 / (mixed**2).sum(axis=2).mean(axis=1) / (mu @ mu)
        rows.append((float(squared.max()), progress / float(mu @ mu)))
    measured, predicted = max(rows, key=lambda row: row[0] - row[1])
    return Claim(
        name="cosine-bound",
        statement="No combination of estimators has a squared cosine to mu above u'Q^{-1}u/|mu|^2",
        reference="Cauchy-Schwarz in the metric Q_ij = E<g_i, g_j>, u_i = <mu, E g_i>",
        kind="upper",
        measured=measured,
        predicted=predicted,
        tolerance=ROUNDING,
        setting="12000 random combinations of three estimators; the case closest to its bound",
    )


def cosine_attained() -> Claim:
    """The weights Q^{-1} u have that squared cosine."""
    rng = np.random.default_rng(14)
    instances = []
    for _ in range(60):
        g, mu = rng.normal(size=(3, 4, 3)) + rng.normal(size=(3, 1, 3)), rng.normal(size=3)
        found = retuned_weights(np.einsum("ind,jnd->ij", g, g) / 4, g.mean(axis=1) @ mu)
        mixed = np.einsum("j,jnd->nd", found.weights, g)
        squared = float(mixed.mean(axis=0) @ mu) ** 2 / float((mixed**2).sum(axis=1).mean() * (mu @ mu))
        instances.append((squared, found.progress / float(mu @ mu), 1.0))
    measured, predicted, tolerance = worst(instances)
    return Claim(
        name="cosine-attained",
        statement="The weights Q^{-1}u attain it",
        reference="equality in Cauchy-Schwarz",
        kind="tight",
        measured=measured,
        predicted=predicted,
        tolerance=tolerance,
        setting="60 sets of three random estimators",
    )


def cosine_weight() -> Claim:
    """No weight of g_t has a larger cosine than alpha_cos, where alpha_cos is a descent direction."""
    grid = np.linspace(-2.0, 3.0, 101)
    rows = []
    for law in finite_laws(count=60, seed=10):
        mix = cosine_optimal_weight(**_second_moments(law))
        if not mix.ascent:
            best = cosine(mix.alpha, **_second_moments(law), target_sq=float(law.mu @ law.mu))
            rows.append((max(_cosine(law, alpha) for alpha in [*grid.tolist(), float(mix.alpha)]), float(best)))
    measured, predicted = max(rows, key=lambda row: abs(row[0] - row[1]))
    return Claim(
        name="cosine-weight",
        statement="No affine mix has a larger cosine to mu than the one at alpha_cos, if Q^{-1}u has a positive sum",
        reference="stationarity of <mu, E g_c>^2/E|g_c|^2 in alpha",
        kind="tight",
        measured=measured,
        predicted=predicted,
        tolerance=ROUNDING,
        setting=f"{len(rows)} random finite laws against alpha_cos and 101 weights between -2 and 3",
    )


def cosine_ascent() -> Claim:
    """The formula alone may point uphill: normalising weights with a negative sum turns the direction round."""
    mix = cosine_optimal_weight(**_second_moments(UPHILL))
    return Claim(
        name="cosine-ascent",
        statement="The affine mix with the largest squared cosine to mu is a descent direction",
        reference="alpha_cos, read without its sign",
        kind="lower",
        measured=_cosine(UPHILL, float(mix.weight_t / (mix.weight_t + mix.weight_e))),
        predicted=0.0,
        only_if="the weights Q^{-1}u have a positive sum",
        setting="fixed g_t = (1, 2), g_e = (-1, 1), mu = (1, 0): Q^{-1}u = (1/3, -2/3)",
    )


def scale_free_weight() -> Claim:
    """The over-strong reading: alpha* also suits an optimiser that rescales the gradient."""
    grid = np.linspace(0, 1, 101)
    return Claim(
        name="scale-free-weight",
        statement="The MSE-optimal weight has the largest cosine to mu, so that it suits optimisers that rescale",
        reference=f"reading of {PAPER}, Theorem 2, for AdamW",
        kind="identity",
        measured=float(grid[np.argmax([_cosine(SHORT, alpha) for alpha in grid.tolist()])]),
        predicted=float(theory.optimal_weight(**SHORT.errors)),
        tolerance=0.01,
        only_if="no rescaling of the mix at alpha* lowers its MSE, or <mu, E g_t> = <mu, E g_e>",
        setting="mu = 1, g_t = 1 +- 1, g_e = 1/2; the best of 101 weights in [0, 1]",
        note="g_e alone has cosine 1 here: it is half of mu, without noise.",
    )


def _change(law: FiniteLaw, alpha: float, kappa: float) -> float:
    """E f(x+) - f(x) of a step with eta L = kappa, for f = (L/2)|x|^2 at the point where its gradient is mu."""
    x = law.mu / SMOOTHNESS
    after = x - kappa / SMOOTHNESS * law.mix(alpha)
    return SMOOTHNESS / 2 * law.inner(after - x, after + x)


def _steepest(law: FiniteLaw, kappa: float) -> float:
    """The weight with the largest decrease, by search."""
    return vertex(lambda alpha: _change(law, alpha, kappa))


def _best_kappa(law: FiniteLaw, alpha: float) -> float:
    """The step size, times L, with the largest decrease, by search over steps of either sign."""
    return vertex(lambda kappa: _change(law, alpha, kappa))


def _cosine(law: FiniteLaw, alpha: float) -> float:
    """<mu, E g_c>/(|mu| sqrt(E|g_c|^2)), from vectors."""
    mixed = law.mix(alpha)
    return float(law.mu @ (law.p @ mixed)) / float(np.sqrt(law.inner(mixed, mixed) * (law.mu @ law.mu)))


def _second_moments(law: FiniteLaw) -> dict[str, float]:
    """Second moments and signals, by argument name."""
    return {
        "second_t": law.inner(law.t, law.t),
        "second_e": law.inner(law.e, law.e),
        "second_te": law.inner(law.t, law.e),
        "signal_t": float(law.mu @ (law.p @ law.t)),
        "signal_e": float(law.mu @ (law.p @ law.e)),
    }


def _magnified(law: FiniteLaw) -> float:
    """How much a searched weight magnifies rounding: the size of the change's terms over its curvature, squared."""
    return max(1.0, law.scale / law.inner(law.t - law.e, law.t - law.e)) ** 2


CLAIMS = (
    slack_free_descent,
    slack_free_bound,
    slack_free_weight,
    bound_is_not_descent,
    retuned_gain,
    cosine_bound,
    cosine_attained,
    cosine_weight,
    cosine_ascent,
    scale_free_weight,
)
