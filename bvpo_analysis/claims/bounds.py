"""Theorem 3 and the bounds of biased SGD around it: what holds, where it is attained, and what it does not say.

The left side of every claim is an exact expectation: moments followed through the steps, or a sum over every noise
path. The right side is the bound.
"""

import numpy as np
from scipy.optimize import brentq

from bvpo_analysis.claims.instances import ROUNDING, worst
from bvpo_analysis.claims.sgd_instances import (
    Quadratic,
    Trajectory,
    closest,
    quadratics,
    trajectories,
)
from bvpo_analysis.records import Claim
from bvpo_analysis.theory import nonconvex
from bvpo_analysis.theory import quadratics as on_quadratics

PAPER = "BVPO, arXiv 2510.05095"
RUNS = "150 exact runs: 100 random quadratics, 50 cosine losses with a bias that depends on the point"


def theorem_3() -> Claim:
    """avg E|grad f|^2 <= 2 Delta/(eta T) + bias^2 + eta L variance."""
    measured, predicted, tolerance = closest(
        (run.average, nonconvex.classical_bound(**run.by_gap)) for run in trajectories(100, 50)
    )
    return Claim(
        name="theorem-3",
        statement="The average squared gradient of biased SGD is at most 2 Delta/(eta T) + bias^2 + eta L variance",
        reference=f"{PAPER}, Theorem 3",
        kind="upper",
        measured=measured,
        predicted=predicted,
        tolerance=tolerance,
        setting=RUNS,
        note="The instance shown is the one closest to its bound.",
    )


def theorem_3_improved() -> Claim:
    """avg E|grad f|^2 <= 2 Delta/(eta T) + (1 - 1/T)(bias^2 + eta L variance)."""
    measured, predicted, tolerance = closest(
        (run.average, nonconvex.improved_bound(**run.by_gap)) for run in trajectories(100, 50)
    )
    return Claim(
        name="theorem-3-improved",
        statement="The error term of Theorem 3 counts only 1 - 1/T times",
        reference="smoothness bounds the last squared gradient by 2L times the last gap",
        kind="upper",
        measured=measured,
        predicted=predicted,
        tolerance=tolerance,
        setting=RUNS,
    )


def theorem_3_attained() -> Claim:
    """At eta = 1/L an isotropic quadratic with a constant bias attains the improved bound."""
    instances = []
    for quadratic in quadratics(60, largest_condition=1.0):
        for steps in (3, 10):
            run = quadratic.run(np.full(steps, 1 / quadratic.smoothness))
            bound = nonconvex.improved_bound(**run.by_gap)
            instances.append((run.average, bound, bound))
    measured, predicted, tolerance = worst(instances)
    return Claim(
        name="theorem-3-attained",
        statement="At eta = 1/L the bound with 1 - 1/T cannot be lowered: an isotropic quadratic attains it",
        reference="two lines: after one step the gradient is minus the bias minus the noise",
        kind="tight",
        measured=measured,
        predicted=predicted,
        tolerance=tolerance,
        setting="120 exact runs on f = (L/2)|x|^2, 3 and 10 steps",
        note="A factor 1/T in the place of 1 - 1/T would fail here.",
    )


def theorem_3_telescoped() -> Claim:
    """avg E|grad f|^2 <= 2 (f(x_0) - E f(x_T))/(eta T) + bias^2 + eta L variance, with equality at eta = 1/L."""
    instances = []
    for quadratic in quadratics(60, largest_condition=1.0, seed=1):
        for steps in (1, 3, 10):
            run = quadratic.run(np.full(steps, 1 / quadratic.smoothness))
            terms = 2 * abs(run.by_decrease["decrease"]) * quadratic.smoothness / steps + run.average
            instances.append((run.average, nonconvex.telescoped_bound(**run.by_decrease), terms))
    measured, predicted, tolerance = worst(instances)
    return Claim(
        name="theorem-3-telescoped",
        statement="With the decrease f(x_0) - E f(x_T) in the place of Delta, Theorem 3 is attained at eta = 1/L",
        reference="sum of the one-step inequalities",
        kind="tight",
        measured=measured,
        predicted=predicted,
        tolerance=tolerance,
        setting="180 exact runs on f = (L/2)|x|^2, 1, 3 and 10 steps",
    )


def theorem_3_varying_steps() -> Claim:
    """sum eta_j E|grad f|^2 / sum eta_j <= [2 Delta + sum eta_j zeta^2 + L sum eta_j^2 sigma^2] / sum eta_j."""
    instances = []
    for quadratic in quadratics(100, seed=2):
        etas = 1 / quadratic.smoothness / np.sqrt(np.arange(1, 41))
        run = quadratic.run(etas)
        law = {"bias_bounds": run.law["bias_bound"], "noise_vars": run.law["noise_var"]}
        bound = nonconvex.varying_steps_bound(
            initial_gap=run.loss[0], step_sizes=etas, smoothness=quadratic.smoothness, **law
        )
        instances.append((etas @ run.gradient_sq[:-1] / etas.sum(), bound))
    measured, predicted, tolerance = closest(instances)
    return Claim(
        name="theorem-3-varying-steps",
        statement="With steps of any size up to 1/L, averages weighted by the steps obey Theorem 3: the bias counts "
        "once, the noise L sum eta^2 / sum eta times",
        reference="sum of the one-step inequalities",
        kind="upper",
        measured=measured,
        predicted=predicted,
        tolerance=tolerance,
        setting="100 exact runs of 40 steps 1/(L sqrt(j + 1)) on random quadratics; the case closest to its bound",
    )


def theorem_3_stationary_error() -> Claim:
    """The stronger reading fails: below eta = 1/L the noise that remains is not eta L times its variance."""
    run = _isotropic_steady(kappa=0.1)
    predicted = float(nonconvex.classical_bound(**{**run.by_gap, "initial_gap": 0.0}))
    return Claim(
        name="theorem-3-stationary-error",
        statement="In the long run the mean squared gradient is bias^2 + eta L variance",
        reference=f"reading of {PAPER}, Theorem 3, as the error and not a bound on it",
        kind="identity",
        measured=float(run.gradient_sq[-1]),
        predicted=predicted,
        tolerance=ROUNDING * predicted,
        only_if="eta L = 1 or there is no noise; beside a constant bias the noise counts eta L/(2 - eta L) times",
        setting="f = (L/2)|x|^2, eta L = 0.1, bias^2 = 1, variance 4, after 600 steps",
        note="For small steps the variance counts half as much as in the bound, beside the bias.",
    )


def stationary_error() -> Claim:
    """E|grad f|^2 -> |b|^2 + kappa/(2 - kappa) sigma^2 on an isotropic quadratic."""
    instances = []
    for kappa in (0.05, 0.1, 0.5, 0.9, 1.0, 1.5):
        run = _isotropic_steady(kappa)
        weight = on_quadratics.steady_variance_weight(kappa)
        settled = run.law["bias_bound"] ** 2 + weight * run.law["noise_var"]
        instances.append((run.gradient_sq[-1], settled, settled))
    measured, predicted, tolerance = worst(instances)
    return Claim(
        name="stationary-error",
        statement="On f = (L/2)|x|^2 the mean squared gradient settles at bias^2 + kappa/(2 - kappa) variance",
        reference="fixed point of the variance recursion",
        kind="identity",
        measured=measured,
        predicted=predicted,
        tolerance=tolerance,
        setting="kappa = eta L at 6 values from 0.05 to 1.5, bias^2 = 1, variance 4, after 600 steps",
    )


def stationary_law() -> Claim:
    """E f -> (1/2) b'H^{-1}b + (eta/2) sum_i S_ii/(2 - eta h_i), and the same for the gradient."""
    instances = []
    for quadratic in quadratics(12, largest_condition=8.0):
        eta = 1 / quadratic.smoothness
        run = quadratic.run(np.full(250, eta))
        law = on_quadratics.quadratic_stationary(
            hessian=quadratic.hessian, bias=quadratic.bias, noise_cov=quadratic.noise_cov, step_size=eta
        )
        instances.append((run.loss[-1], law.excess_loss, law.excess_loss + run.loss[0]))
        instances.append((run.gradient_sq[-1], law.gradient_sq, law.gradient_sq + run.gradient_sq[0]))
    measured, predicted, tolerance = worst(instances)
    return Claim(
        name="stationary-law",
        statement="On a quadratic bias and noise add up, |b|^2 in the gradient norm and b'H^{-1}b/2 in the excess loss",
        reference="fixed point of the recursion of mean and covariance",
        kind="identity",
        measured=measured,
        predicted=predicted,
        tolerance=tolerance,
        setting="12 random quadratics, excess loss and squared gradient each, after 250 steps of 1/L",
        note="Flat directions amplify the bias in the loss.",
    )


def sharp_bound() -> Claim:
    """The telescoped bound without Young's inequality."""
    measured, predicted, tolerance = closest(
        (run.average, nonconvex.sharp_bound(**run.by_decrease)) for run in trajectories(100, 50)
    )
    return Claim(
        name="sharp-bound",
        statement="Without Young's inequality the bound from the observed decrease is smaller, and still holds",
        reference="keep (1 - kappa)<grad f, b>, Jensen, solve the quadratic",
        kind="upper",
        measured=measured,
        predicted=predicted,
        tolerance=tolerance,
        setting=RUNS,
        note="At eta L = 1 it is the telescoped bound of Theorem 3.",
    )


def sharp_bound_attained() -> Claim:
    """One step on (L/2) x^2 against the bias attains the sharp bound for every eta L <= 1."""
    instances = []
    for kappa in (0.01, 0.1, 0.5, 0.9, 1.0):
        for gradient in (1.0, 2.0, 10.0):
            # L = 1, so that x is its own gradient; a bias that is constant along one step is adversarial there.
            run = Quadratic.line(1.0, gradient, -0.7, 0.8).run([kappa])
            bound = nonconvex.sharp_bound(**run.by_decrease)
            instances.append((run.average, bound, bound))
    measured, predicted, tolerance = worst(instances)
    return Claim(
        name="sharp-bound-attained",
        statement="For one step the sharp bound is the worst case, for every step size up to 1/L",
        reference="f = (L/2) x^2, bias against the gradient; semidefinite programs over all smooth f agree",
        kind="tight",
        measured=measured,
        predicted=predicted,
        tolerance=tolerance,
        setting="15 runs: eta L at 5 values from 0.01 to 1, 3 starts",
    )


def stationarity_floor() -> Claim:
    """Phi is the squared gradient at which an adversarial bias and the noise undo one step."""
    instances = []
    for kappa, zeta, var in _FLOORS:
        floor = nonconvex.stationarity_floor(kappa=kappa, bias_bound=zeta, noise_var=var).floor
        instances.append((_balance(kappa, zeta, var), floor, floor))
    measured, predicted, _ = worst(instances)
    return Claim(
        name="stationarity-floor",
        statement="Below the floor Phi of the sharp bound a worst-case step no longer lowers the loss; above it does",
        reference="limit of the sharp bound for many steps",
        kind="tight",
        measured=measured,
        predicted=predicted,
        tolerance=ROUNDING * predicted,
        setting=f"root of E f(x+) = f(x) on f = x^2/2, {len(_FLOORS)} settings of eta L, bias and variance",
    )


def stationarity_floor_below_theorem_3() -> Claim:
    """Phi <= zeta^2 + kappa sigma^2."""
    instances = []
    for kappa, zeta, var in _FLOORS:
        upper = nonconvex.stationarity_floor(kappa=kappa, bias_bound=zeta, noise_var=var).upper
        instances.append((_balance(kappa, zeta, var), upper))
    measured, predicted, tolerance = closest(instances)
    return Claim(
        name="stationarity-floor-below-theorem-3",
        statement="The worst-case floor is at most that of Theorem 3, bias^2 + eta L variance",
        reference="completing the square",
        kind="upper",
        measured=measured,
        predicted=predicted,
        tolerance=tolerance,
        setting=f"{len(_FLOORS)} settings of eta L, bias and variance",
        note="With little noise beside the bias the two agree; without bias the noise counts eta L/(2 - eta L).",
    )


def stationarity_floor_above_constant_bias() -> Claim:
    """Phi >= zeta^2 + kappa/(2 - kappa) sigma^2."""
    instances = []
    for kappa, zeta, var in _FLOORS:
        lower = nonconvex.stationarity_floor(kappa=kappa, bias_bound=zeta, noise_var=var).lower
        instances.append((lower, _balance(kappa, zeta, var)))
    predicted, measured, tolerance = closest(instances)
    return Claim(
        name="stationarity-floor-above-constant-bias",
        statement="An adversarial bias does at least as much harm as a constant one of the same size",
        reference="completing the square",
        kind="lower",
        measured=measured,
        predicted=predicted,
        tolerance=tolerance,
        setting=f"{len(_FLOORS)} settings of eta L, bias and variance",
    )


def decreasing_steps_remove_the_error() -> Claim:
    """The stronger reading fails: decreasing steps remove the noise and keep the bias."""
    etas = 0.5 / np.sqrt(np.arange(1, 1001))
    run = Quadratic.line(1.0, 1.0, 1.0, 1.0).run(etas)
    law = {"initial_gap": run.loss[0], "step_sizes": etas, "smoothness": 1.0, "noise_vars": 1.0}
    with_bias, without = (float(nonconvex.varying_steps_bound(**law, bias_bounds=zeta)) for zeta in (1.0, 0.0))
    return Claim(
        name="decreasing-steps-remove-the-error",
        statement="With decreasing steps only start and noise count, and both vanish from the average squared gradient",
        reference="reading of the usual convergence of SGD, for an estimator with a bias",
        kind="upper",
        measured=float(etas @ run.gradient_sq[:-1] / etas.sum()),
        predicted=without,
        tolerance=ROUNDING * without,
        only_if="the bias is zero: its weight in the average is one, whatever the steps",
        setting="f = x^2/2, 1000 steps 0.5/sqrt(j + 1), bias and variance 1",
        note=f"With the bias the bound is {with_bias:.3g}. A constant alpha keeps the bias (1 - alpha) b_e.",
    )


_FLOORS = [
    (k, zeta, var) for k in (0.05, 0.3, 0.8, 1.0) for zeta, var in ((0.0, 1.0), (0.5, 1.0), (1.0, 0.1), (2.0, 0.0))
]
"""Settings (eta L, bias, variance) of the floor."""


def _balance(kappa: float, zeta: float, var: float) -> float:
    """The squared gradient at which E f(x+) = f(x) on f = x^2/2, for a bias against the gradient and two-atom noise."""

    def change(x: float) -> float:
        after = [(x - kappa * (x - zeta + noise)) ** 2 / 2 for noise in (-np.sqrt(var), np.sqrt(var))]
        return float(np.mean(after) - x**2 / 2)

    worst_start = (1 - kappa) * zeta / (2 - kappa)  # where the loss rises most
    return float(brentq(change, worst_start, 10 * (1 + zeta + var), xtol=1e-15, rtol=1e-14)) ** 2


def _isotropic_steady(kappa: float) -> Trajectory:
    """f = |x|^2 in two dimensions (L = 2), bias^2 = 1, variance 4, long after the start."""
    quadratic = Quadratic(2 * np.eye(2), np.array([3.0, 1.0]), np.array([1.0, 0.0]), np.diag([1.0, 3.0]))
    return quadratic.run(np.full(600, kappa / 2))


CLAIMS = (
    theorem_3,
    theorem_3_improved,
    theorem_3_attained,
    theorem_3_telescoped,
    theorem_3_varying_steps,
    theorem_3_stationary_error,
    stationary_error,
    stationary_law,
    sharp_bound,
    sharp_bound_attained,
    stationarity_floor,
    stationarity_floor_below_theorem_3,
    stationarity_floor_above_constant_bias,
    decreasing_steps_remove_the_error,
)
