"""Runs of mixed biased SGD: many repetitions at once, or the exact expectations where the loss is quadratic.

x_{j+1} = x_j - eta_j g_c(x_j), g_c = alpha_j g_t + (1 - alpha_j) g_e. Both kinds of run give what the bounds speak of:
squared gradients, excess losses and distances along the path, and the biases and noises that were met.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from bvpo_analysis.records import Floats
from bvpo_analysis.sgd.oracles import ConstantOracle, GradientPair, Oracle
from bvpo_analysis.sgd.problems import Quadratic
from bvpo_analysis.sgd.rules import JamesStein, PlannedRule, Rule


@dataclass(frozen=True)
class SimulatedRun:
    """R repetitions of T steps from one start; index j is after j steps.

    Attributes:
        rule: name of the mixing rule.
        step_sizes: eta_j, [T].
        weights: alpha_j, [T], averaged over repetitions where the batch decides.
        gradient_sq: |grad f(x_j)|^2, [T + 1, R].
        excess_loss: f(x_j) - f*, [T + 1, R].
        distance: |x_j - x*|, [T + 1, R].
        horizons: step counts at which the average iterate was evaluated, [H].
        mean_iterate_excess: f(xbar) - f* for the average xbar of x_0 .. x_{T-1}, at each horizon, [H, R].
        bias_sq: |b_c(x_j)|^2, [T, R], exact; None where the weight depends on the batch.
        noise_var: Tr Cov(g_c | x_j), [T, R]; likewise.
    """

    rule: str
    step_sizes: Floats
    weights: Floats
    gradient_sq: Floats
    excess_loss: Floats
    distance: Floats
    horizons: tuple[int, ...]
    mean_iterate_excess: Floats
    bias_sq: Floats | None
    noise_var: Floats | None

    def average_gradient_sq(self, steps: int) -> Floats:
        """The eta-weighted average of |grad f(x_j)|^2 over j < steps, [R]; the plain one under a constant step."""
        return np.average(self.gradient_sq[:steps], axis=0, weights=self.step_sizes[:steps])


@dataclass(frozen=True)
class ExactRun:
    """Exact expectations along T steps on a quadratic; index j is after j steps.

    Attributes:
        rule, step_sizes, weights: as in :class:`SimulatedRun`.
        gradient_sq: E|grad f(x_j)|^2, [T + 1].
        excess_loss: E f(x_j) - f*, [T + 1].
        distance_sq: E|x_j - x*|^2, [T + 1].
        mean_iterate_excess: E f(xbar) - f* for the average xbar of x_0 .. x_{j-1}, [T + 1]; nan at j = 0.
        bias_sq, noise_var: |b_c|^2 and Tr Cov(g_c) in step j, [T].
    """

    rule: str
    step_sizes: Floats
    weights: Floats
    gradient_sq: Floats
    excess_loss: Floats
    distance_sq: Floats
    mean_iterate_excess: Floats
    bias_sq: Floats
    noise_var: Floats

    def average_gradient_sq(self, steps: int) -> float:
        """The eta-weighted average of E|grad f(x_j)|^2 over j < steps."""
        return float(np.average(self.gradient_sq[:steps], weights=self.step_sizes[:steps]))


def simulate(
    oracle: Oracle,
    rule: Rule,
    *,
    start: Floats,
    step_size: ArrayLike,
    steps: int,
    repetitions: int,
    seed: int,
    horizons: Sequence[int] = (),
) -> SimulatedRun:
    """Run mixed SGD.

    Args:
        oracle: the law of (g_t, g_e), which names the problem.
        rule: how they are mixed.
        start: x_0, [d].
        step_size: eta, one number or one per step [T]; at most 1/L, without which the bounds do not hold.
        steps: T >= 1.
        repetitions: R >= 1 independent runs, advanced together.
        seed: of the random generator; equal seeds draw equal noise for every rule and step size.
        horizons: step counts at which to evaluate the average iterate.

    Raises:
        ValueError: steps or repetitions is below 1, a step size is not positive or exceeds 1/L, a horizon is not among
            the steps, the start is not finite, the loss is not bounded below, or a gradient is not finite.

    Example:
        >>> from bvpo_analysis.sgd.oracles import ConstantOracle
        >>> from bvpo_analysis.sgd.problems import Quadratic
        >>> from bvpo_analysis.sgd.rules import Fixed
        >>> bowl = Quadratic.diagonal("bowl", [1.0])
        >>> oracle = ConstantOracle.isotropic(bowl, [0.0], [1.0], var_t=0.0, var_e=0.0, cov_te=0.0)
        >>> how = dict(start=np.array([2.0]), step_size=1.0, steps=3, repetitions=1, seed=0)
        >>> simulate(oracle, Fixed(0.0), **how).gradient_sq[:, 0].tolist()
        [4.0, 1.0, 1.0, 1.0]
    """
    problem = oracle.problem
    etas, x0 = _checked(oracle, start, step_size, steps)
    if repetitions < 1:
        raise ValueError(f"repetitions must be at least 1, got {repetitions}")
    if any(not 1 <= h <= steps for h in horizons):
        raise ValueError(f"horizons must lie between 1 and steps = {steps}, got {list(horizons)}")
    rng = np.random.default_rng(seed)
    x = np.tile(x0, (repetitions, 1))
    at_start = oracle.law(x0)
    planned = rule.weights(at_start, etas * problem.smoothness) if isinstance(rule, PlannedRule) else None
    constant = rule.constant(oracle.covariance_t(x0)) if isinstance(rule, JamesStein) else 0.0
    shape = (steps + 1, repetitions)
    gradient_sq, excess, distance = np.empty(shape), np.empty(shape), np.empty(shape)
    weights, bias_sq, noise_var = np.empty(steps), np.empty((steps, repetitions)), np.empty((steps, repetitions))
    total, averaged = np.zeros_like(x), []
    for j in range(steps + 1):
        gradient = problem.gradient(x)
        if not np.isfinite(gradient).all():
            raise ValueError(f"the gradient is not finite after {j} steps")
        gradient_sq[j] = (gradient**2).sum(axis=-1)
        excess[j] = problem.value(x) - problem.minimum
        distance[j] = np.linalg.norm(x - problem.minimiser, axis=-1)
        if j in horizons:
            averaged.append(problem.value(total / j) - problem.minimum)
        if j == steps:
            break
        total += x
        pair = oracle.sample(x, rng)
        if planned is None:
            weight: Floats | float = _batch_weights(rule, pair, constant)
            weights[j] = np.mean(weight)
        else:
            weight = weights[j] = planned[j]
            law = at_start if oracle.constant else oracle.law(x)
            bias_sq[j], noise_var[j] = law.bias_sq(weight), law.noise_var(weight)
        x = x - etas[j] * pair.mix(weight)
        if not np.isfinite(x).all():
            raise ValueError(f"the mixed gradient is not finite in step {j + 1}")
    known = planned is not None
    return SimulatedRun(
        rule=rule.name,
        step_sizes=etas,
        weights=weights,
        gradient_sq=gradient_sq,
        excess_loss=excess,
        distance=distance,
        horizons=tuple(sorted(set(horizons))),
        mean_iterate_excess=np.array(averaged).reshape(len(averaged), repetitions),
        bias_sq=bias_sq if known else None,
        noise_var=noise_var if known else None,
    )


def exact_run(
    oracle: ConstantOracle, rule: PlannedRule, *, start: Floats, step_size: ArrayLike, steps: int
) -> ExactRun:
    """Exact expectations on a quadratic with constant biases and noise, also where weights and steps vary.

    With A_j = I - eta_j H: E x+ = A_j E x - eta_j b_j and Cov x+ = A_j Cov x A_j + eta_j^2 S_j, with b_j and S_j those
    of the mix. Then E|grad f|^2 = |H E x|^2 + Tr(H Cov x H) and E f - f* = (1/2)(E x'H E x + Tr H Cov x). The sum s of
    the iterates so far has Cov(s+, x+) = (Cov(s, x) + Cov x) A_j and Cov s+ = Cov s + Cov x + Cov(s, x) + Cov(x, s).

    Raises:
        ValueError: the problem is not quadratic, or as in :func:`simulate`.

    Example:
        >>> from bvpo_analysis.sgd.rules import Fixed
        >>> bowl = Quadratic.diagonal("bowl", [1.0])
        >>> oracle = ConstantOracle.isotropic(bowl, [0.0], [1.0], var_t=0.0, var_e=3.0, cov_te=0.0)
        >>> exact_run(oracle, Fixed(0.0), start=np.array([2.0]), step_size=1.0, steps=2).gradient_sq.tolist()
        [4.0, 4.0, 4.0]
    """
    problem = oracle.problem
    if not isinstance(problem, Quadratic):
        raise ValueError(f"exact expectations need a quadratic loss, got {problem.name!r}")
    etas, mean = _checked(oracle, start, step_size, steps)
    weights = rule.weights(oracle.law(mean), etas * problem.smoothness)
    h, unit = problem.hessian, np.eye(problem.dimension)
    covariance, shared, covariance_total = (np.zeros_like(h) for _ in range(3))
    total = np.zeros_like(mean)
    gradient_sq, excess, distance_sq, averaged = (np.empty(steps + 1) for _ in range(4))
    biases = [oracle.bias_of_mix(float(a)) for a in weights]
    noises = _cached_covariances(oracle, weights)
    for j in range(steps + 1):
        second = np.outer(mean, mean) + covariance
        gradient_sq[j] = np.vdot(h @ second, h)
        excess[j] = np.vdot(h, second) / 2
        distance_sq[j] = np.trace(second)
        averaged[j] = np.vdot(h, np.outer(total, total) + covariance_total) / (2 * j**2) if j else np.nan
        if j == steps:
            break
        contraction = unit - etas[j] * h
        total = total + mean
        covariance_total = covariance_total + covariance + shared + shared.T
        shared = (shared + covariance) @ contraction
        mean = contraction @ mean - etas[j] * biases[j]
        covariance = contraction @ covariance @ contraction + etas[j] ** 2 * noises[j]
    return ExactRun(
        rule=rule.name,
        step_sizes=etas,
        weights=weights,
        gradient_sq=gradient_sq,
        excess_loss=excess,
        distance_sq=distance_sq,
        mean_iterate_excess=averaged,
        bias_sq=np.array([b @ b for b in biases]),
        noise_var=np.array([np.trace(s) for s in noises]),
    )


def _cached_covariances(oracle: ConstantOracle, weights: Floats) -> list[Floats]:
    """Cov(g_c) per step; equal weights share one matrix."""
    known: dict[float, Floats] = {}
    for weight in weights.tolist():
        if weight not in known:
            known[weight] = oracle.covariance_of_mix(weight)
    return [known[weight] for weight in weights.tolist()]


def _batch_weights(rule: Rule, pair: GradientPair, constant: float) -> Floats:
    if not isinstance(rule, JamesStein):
        raise ValueError(f"the rule {rule.name!r} plans no weights and is not James-Stein")
    return rule.batch_weights(pair, constant)


def _checked(oracle: Oracle, start: Floats, step_size: ArrayLike, steps: int) -> tuple[Floats, Floats]:
    """Step sizes [T] and the start [d]."""
    problem = oracle.problem
    if steps < 1:
        raise ValueError(f"steps must be at least 1, got {steps}")
    if not np.isfinite(problem.minimum):
        raise ValueError(f"the loss {problem.name!r} is not bounded below")
    etas = np.asarray(step_size, dtype=np.float64)
    if etas.shape not in ((), (steps,)):
        raise ValueError(f"step_size must be one number or one per step [{steps}], got shape {etas.shape}")
    meaningless = etas[~(np.isfinite(etas) & (etas > 0))]
    if meaningless.size:
        raise ValueError(f"step_size must be positive and finite, got {meaningless[0]}")
    largest = 1 / problem.smoothness
    if (etas > largest * (1 + 1e-9)).any():
        raise ValueError(f"step_size must be at most 1/L = {largest!r} on {problem.name!r}, got {float(etas.max())!r}")
    return np.broadcast_to(etas, (steps,)).copy(), problem.point(start, "start").copy()
