"""What biased SGD does to the excess loss: under the PL condition, strong convexity, and convexity alone.

The left side of every claim is an exact expectation: moments followed through the steps, or a sum over every noise
path. The right side is the bound, or the stationary value.
"""

import numpy as np

from bvpo_analysis import theory
from bvpo_analysis.claims.instances import ROUNDING, worst
from bvpo_analysis.claims.sgd_instances import LOG_COSH, Quadratic, closest, noise_paths, quadratics
from bvpo_analysis.records import Claim
from bvpo_analysis.theory import convex, strongly_convex
from bvpo_analysis.theory import quadratics as on_quadratics

PAPER = "BVPO, arXiv 2510.05095"


def pl_bound() -> Claim:
    """E F_T <= (1 - eta m)^T F_0 + [1 - (1 - eta m)^T](zeta^2 + kappa sigma^2)/(2m)."""
    rng = np.random.default_rng(2)
    instances = []
    for quadratic in quadratics(100):
        run = quadratic.run(np.full(20, rng.uniform(0.05, 1) / quadratic.smoothness))
        bound = strongly_convex.pl_bound(**{**run.by_gap, "pl_constant": quadratic.pl_constant, "steps": 20})
        instances.append((run.loss[-1], bound))
    measured, predicted, tolerance = closest(instances)
    return Claim(
        name="pl-bound",
        statement="Under the PL condition the excess loss falls geometrically to (bias^2 + eta L variance)/(2m)",
        reference="one-step inequality with |grad f|^2 >= 2m(f - f*), iterated",
        kind="upper",
        measured=measured,
        predicted=predicted,
        tolerance=tolerance,
        setting="100 exact runs of 20 steps on random quadratics",
    )


def pl_floor_attained() -> Claim:
    """(m/2) x^2 with a constant bias settles zeta^2/(2m) above its minimum."""
    run = Quadratic.line(0.25, 5.0, 0.6, 0.0).run(np.full(500, 0.5))
    floor = strongly_convex.pl_floor(step_size=0.5, smoothness=2.0, pl_constant=0.25, bias_bound=0.6, noise_var=0.0)
    return Claim(
        name="pl-floor-attained",
        statement="The bias floor bias^2/(2m) of the excess loss is attained",
        reference="f = (m/2) x^2 with a constant bias",
        kind="tight",
        measured=float(run.loss[-1]),
        predicted=float(floor),
        tolerance=ROUNDING * float(floor),
        setting="m = 0.25, bias 0.6, 500 steps of 0.5",
    )


def pl_decreasing_bound() -> Claim:
    """With eta_j = 2/(m(j + g)) the noise dies like 1/T and zeta^2/(2m) stays."""
    instances = []
    for quadratic in quadratics(50):
        law = {"smoothness": quadratic.smoothness, "pl_constant": quadratic.pl_constant}
        law["offset"] = 2 * quadratic.smoothness / quadratic.pl_constant
        run = quadratic.run(strongly_convex.pl_decreasing_steps(steps=40, **law))
        errors = {name: run.law[name] for name in ("bias_bound", "noise_var")}
        bound = strongly_convex.pl_decreasing_bound(initial_gap=run.loss[0], steps=40, **law, **errors)
        instances.append((run.loss[-1], bound))
    measured, predicted, tolerance = closest(instances)
    return Claim(
        name="pl-decreasing-bound",
        statement="Under PL, steps 2/(m(j + g)) with g >= 2L/m leave bias^2/(2m) and a noise of order 1/T",
        reference="one-step inequality times (j + g)(j + g - 1), telescoped",
        kind="upper",
        measured=measured,
        predicted=predicted,
        tolerance=tolerance,
        setting="50 exact runs of 40 steps on random quadratics",
    )


def distance_bound_attained() -> Claim:
    """|x_T - x*| = rho^T |x_0 - x*| + (1 - rho^T) zeta/m on (m/2) x^2, the bias pointing away."""
    instances = []
    for steps in (1, 5, 50):
        run = Quadratic.line(0.25, 3.0, -0.6, 0.0).run(np.full(steps, 0.5))
        bound = strongly_convex.distance_bound(
            initial_distance=3.0, steps=steps, step_size=0.5, smoothness=2.0, strong_convexity=0.25, bias_bound=0.6
        )
        instances.append((np.sqrt(2 * run.loss[-1] / 0.25), bound, bound))
    measured, predicted, tolerance = worst(instances)
    return Claim(
        name="distance-bound-attained",
        statement="For strongly convex f without noise the distance bound rho^T d + (1 - rho^T) bias/m is attained",
        reference="f = (m/2) x^2, bias away from the minimiser",
        kind="tight",
        measured=measured,
        predicted=predicted,
        tolerance=tolerance,
        setting="m = 0.25, eta = 0.5, after 1, 5 and 50 steps",
    )


def convex_bound() -> Claim:
    """E f(xbar) - f* <= |x_0 - x*|^2/(2 eta T) + zeta R + eta zeta^2 + eta sigma^2/2."""
    instances = []
    for paths in noise_paths(LOG_COSH, 100, largest_kappa=0.5):
        run = paths.trajectory
        law = {**run.law, "steps": run.steps, "step_size": run.step_size}
        bound = convex.convex_bound(**law, initial_distance=paths.start_distance, radius=paths.radius)
        instances.append((paths.loss_of_average, bound))
    measured, predicted, tolerance = closest(instances)
    return Claim(
        name="convex-bound",
        statement="For convex f the averaged iterate ends within d^2/(2 eta T) + bias R + eta(bias^2 + variance/2)",
        reference="distance recursion with cocoercivity, eta <= 1/(2L)",
        kind="upper",
        measured=measured,
        predicted=predicted,
        tolerance=tolerance,
        setting="100 sums of log cosh, every path of two-atom noise, R the largest distance on any path",
    )


def convex_floor_linear_in_bias() -> Claim:
    """zeta times Huber, b = -grad f: the iterate stays at distance R, zeta (R - delta/2) above the minimum."""
    excess, law, start = _frozen_huber()
    bound = convex.convex_bound(**law, initial_distance=start, radius=start)
    return Claim(
        name="convex-floor-linear-in-bias",
        statement="For convex f a bias costs up to bias times R in loss: the linear term of the bound is needed",
        reference="Huber loss of slope zeta, bias minus the gradient",
        kind="upper",
        measured=excess,
        predicted=float(bound),
        setting="Huber width 0.01, slope and bias 0.2, R = 3, 10^5 steps",
        note=f"The run reaches {excess / float(bound):.1%} of the bound.",
    )


def convex_floor_in_bias_squared() -> Claim:
    """The stronger reading fails: without curvature the square of the bias does not bound the excess loss."""
    excess, law, start = _frozen_huber()
    floor = convex.convex_floor(
        radius=0.0, step_size=law["step_size"], bias_bound=law["bias_bound"], noise_var=law["noise_var"]
    )
    predicted = start**2 / (2 * law["step_size"] * law["steps"]) + float(floor)
    return Claim(
        name="convex-floor-in-bias-squared",
        statement="For convex f, too, the bias enters the excess loss through its square alone",
        reference=f"reading of {PAPER}, Theorem 3, for the excess loss",
        kind="upper",
        measured=excess,
        predicted=predicted,
        tolerance=ROUNDING * predicted,
        only_if="f grows at least as a square (PL is sufficient); on flat parts the loss grows by bias times distance",
        setting="Huber width 0.01, slope and bias 0.2, R = 3, 10^5 steps",
        note="Where f is merely convex, bias^2 + kappa variance is not the criterion for the mixing weight.",
    )


def excess_loss_optimum() -> Claim:
    """The stronger reading fails: the MSE of the gradient is not the trade-off of the loss."""
    hessian, eta, bias, variance = np.array([1.0, 0.02]), 0.5, np.array([0.0, 1.0]), np.array([1.0, 1.0])
    start = np.zeros(2)

    def excess(alpha: float) -> float:
        cov = np.diag(alpha**2 * variance)
        run = Quadratic(np.diag(hessian), start, (1 - alpha) * bias, cov).run(np.full(2000, eta))
        return float(run.loss[-1])

    best = float(theory.optimal_weight(error_t=variance.sum(), error_e=bias @ bias, cross=0.0))
    least = min(
        on_quadratics.quadratic_stationary(
            hessian=hessian, bias=(1 - alpha) * bias, noise_cov=alpha**2 * variance, step_size=eta
        ).excess_loss
        for alpha in np.linspace(0, 1, 101)
    )
    return Claim(
        name="excess-loss-optimum",
        statement="The MSE-optimal weight leaves the smallest excess loss in the long run",
        reference=f"reading of {PAPER}, Theorem 2, for the loss in the place of the gradient",
        kind="upper",
        measured=excess(best),
        predicted=least,
        only_if="all curvatures are equal and eta L = 1 (sufficient); the loss weights the bias by the inverse Hessian",
        setting=f"H = diag(1, 0.02), eta = 0.5, g_t of variance 2, g_e of bias (0, 1): alpha* = {best:.3g}",
        note="Predicted is the smallest stationary excess loss over 101 weights.",
    )


def _frozen_huber() -> tuple[float, dict[str, float], float]:
    """Excess loss of the averaged iterate, the law of the run, and the start: zeta Huber(x), b = -grad f."""
    zeta, width, start, steps = 0.2, 0.01, 3.0, 10**5
    eta = width / (2 * zeta)
    x, total = start, 0.0
    for _ in range(steps):
        total += x
        gradient = zeta * min(max(x / width, -1.0), 1.0)
        bias = -gradient
        x -= eta * (gradient + bias)
    average = abs(total / steps)
    excess = zeta * (average - width / 2) if average > width else zeta * average**2 / (2 * width)
    law = {"step_size": eta, "smoothness": zeta / width, "steps": steps, "bias_bound": zeta, "noise_var": 0.0}
    return excess, law, start


CLAIMS = (
    pl_bound,
    pl_floor_attained,
    pl_decreasing_bound,
    distance_bound_attained,
    convex_bound,
    convex_floor_linear_in_bias,
    convex_floor_in_bias_squared,
    excess_loss_optimum,
)
