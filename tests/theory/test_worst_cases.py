"""Bounds on biased SGD against exact worst cases: semidefinite programs over all functions of a class (PEPit).

The program maximises over the function, the starting point and the biases (and two-atom noise) at once, so a bound may
never be below its value; where a bound is called exact it must be equal. Solver accuracy sets the tolerance.
"""

import warnings

import numpy as np
import pytest

from bvpo_analysis.theory import convex, nonconvex, strongly_convex

ATOL = 2e-3
SMOOTHNESS = 1.0


@pytest.fixture(scope="module")
def pepit(proof_package):
    return proof_package("PEPit")


@pytest.fixture(scope="module")
def functions(proof_package, pepit):
    proof_package("PEPit.functions")
    return pepit.functions


class Program:
    """A problem with biased gradient steps x+ = x - eta (grad f(x) + b), |b| <= zeta, on one function."""

    def __init__(self, pepit, function_class, zeta, eta, **parameters):
        self.pepit, self.zeta, self.eta = pepit, zeta, eta
        self.problem = pepit.PEP()
        self.f = self.problem.declare_function(function_class, L=SMOOTHNESS, **parameters)
        self.start = self.x = self.problem.set_initial_point()
        self.points, self.gradients, self.losses = [], [], []

    def look(self):
        """The gradient and the loss where we are."""
        gradient, loss = self.f.oracle(self.x)
        self.points.append(self.x)
        self.gradients.append(gradient)
        self.losses.append(loss)
        return gradient

    def biased(self, gradient):
        """The gradient plus an adversarial bias."""
        if self.zeta == 0:
            return gradient  # a point of norm at most zero leaves the program no interior
        bias = self.pepit.Point()
        self.problem.add_constraint(bias**2 <= self.zeta**2)
        return gradient + bias

    def run(self, steps):
        for _ in range(steps):
            self.x = self.x - self.eta * self.biased(self.look())
        self.look()
        return self

    @property
    def mean_gradient_sq(self):
        squares = [g**2 for g in self.gradients[:-1]]
        return sum(squares[1:], squares[0]) / len(squares)

    def require_gap(self, gap):
        """f(x_0) - f* <= gap; a smooth f attains its infimum within |grad f|^2/(2L) of every value it takes."""
        lowest = self.pepit.Expression()
        for gradient, loss in zip(self.gradients, self.losses, strict=True):
            self.problem.add_constraint(loss - gradient**2 / (2 * SMOOTHNESS) >= lowest)
        self.problem.set_initial_condition(self.losses[0] - lowest <= gap)

    def worst(self, metric):
        self.problem.set_performance_metric(metric)
        with warnings.catch_warnings():
            # The solver stops short of its own 1e-8; the comparisons here ask for 1e-3.
            warnings.filterwarnings("ignore", message="Solution may be inaccurate")
            return self.problem.solve(wrapper="cvxpy", solver="CLARABEL", verbose=0)


def worst_gradient(pepit, functions, kappa, steps, zeta, *, by_decrease):
    """The largest average squared gradient with f(x_0) - f(x_T) <= 1, or f(x_0) - f* <= 1."""
    program = Program(pepit, functions.SmoothFunction, zeta, kappa / SMOOTHNESS).run(steps)
    if by_decrease:
        program.problem.set_initial_condition(program.losses[0] - program.losses[-1] <= 1)
    else:
        program.require_gap(1.0)
    return program.worst(program.mean_gradient_sq)


def bounds(kappa, steps, zeta, noise_var=0.0):
    """Classical, improved and sharp, with L = Delta = 1."""
    run = {"steps": steps, "step_size": kappa, "smoothness": 1.0, "bias_bound": zeta, "noise_var": noise_var}
    return (
        float(nonconvex.classical_bound(**run, initial_gap=1.0)),
        float(nonconvex.improved_bound(**run, initial_gap=1.0)),
        float(nonconvex.sharp_bound(**run, decrease=1.0)),
    )


# --- smooth, not convex ----------------------------------------------------------------------------------


@pytest.mark.parametrize("zeta", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("steps", [1, 2, 5])
def test_at_kappa_one_the_bounds_are_the_worst_case(pepit, functions, steps, zeta):
    """Catches any looseness, and 1/T for (1 - 1/T): telescoped and improved are both attained."""
    classical, improved, sharp = bounds(1.0, steps, zeta)
    telescoped = worst_gradient(pepit, functions, 1.0, steps, zeta, by_decrease=True)
    assert telescoped == pytest.approx(classical, abs=ATOL)
    assert telescoped == pytest.approx(sharp, abs=ATOL)
    assert worst_gradient(pepit, functions, 1.0, steps, zeta, by_decrease=False) == pytest.approx(improved, abs=ATOL)


@pytest.mark.parametrize(
    ("kappa", "zeta", "classical_slack", "sharp_slack"),
    [
        (0.5, 0.0, 1.5, 1.0),
        (0.5, 0.5, 1.136, 1.02),
        (0.5, 1.0, 1.036, 1.02),
        (0.1, 0.0, 1.899, 1.0),
        (0.1, 0.5, 1.453, 1.003),
        (0.1, 1.0, 1.231, 1.003),
    ],
)
def test_slack_below_kappa_one_after_five_steps(pepit, functions, kappa, zeta, classical_slack, sharp_slack):
    """Catches a bound below the worst case, and slack of another size than documented."""
    classical, _, sharp = bounds(kappa, 5, zeta)
    exact = worst_gradient(pepit, functions, kappa, 5, zeta, by_decrease=True)
    assert classical / exact == pytest.approx(classical_slack, abs=ATOL)
    assert exact - ATOL <= sharp <= sharp_slack * exact + ATOL


@pytest.mark.parametrize("zeta", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("kappa", [0.7, 0.5, 0.1])
def test_the_sharp_bound_is_the_worst_case_of_one_step(pepit, functions, kappa, zeta):
    """Catches a coefficient of the quadratic in G: the slack of the classical form at zeta = 0 is exactly 2 - kappa."""
    classical, _, sharp = bounds(kappa, 1, zeta)
    exact = worst_gradient(pepit, functions, kappa, 1, zeta, by_decrease=True)
    assert exact == pytest.approx(sharp, abs=ATOL)
    if zeta == 0:
        assert classical / sharp == pytest.approx(2 - kappa)


@pytest.mark.parametrize(
    ("kappa", "steps", "zeta"),
    [(0.5, 2, 0.5), (0.5, 5, 1.0), (0.1, 2, 0.0), (0.1, 2, 1.0), (0.1, 5, 0.0), (0.1, 5, 1.0)],
)
def test_the_improved_bound_is_above_the_worst_case(pepit, functions, kappa, steps, zeta):
    """Catches an improvement that goes too far for kappa < 1, where it is not tight."""
    _, improved, _ = bounds(kappa, steps, zeta)
    assert improved >= worst_gradient(pepit, functions, kappa, steps, zeta, by_decrease=False) - ATOL


@pytest.mark.parametrize("kappa", [1.0, 0.5, 0.1])
def test_noise_in_one_step(pepit, functions, kappa):
    """Catches the weight of the noise: two atoms g + b +- xi, |xi| <= sigma, for both forms of the one-step bound."""
    zeta, sigma, eta = 0.5, 0.8, kappa / SMOOTHNESS

    def two_atoms():
        program = Program(pepit, functions.SmoothFunction, zeta, eta)
        xi = pepit.Point()
        program.problem.add_constraint(xi**2 <= sigma**2)
        mean = program.start - eta * program.biased(program.look())
        after = [program.f(mean + eta * xi), program.f(mean - eta * xi)]
        return program, (after[0] + after[1]) / 2

    program, after = two_atoms()
    program.problem.set_initial_condition(program.gradients[0] ** 2 <= 100)  # keeps the program bounded; inactive
    change = program.worst(after - program.losses[0] + eta / 2 * program.gradients[0] ** 2)
    law = {"step_size": eta, "smoothness": SMOOTHNESS, "bias_bound": zeta, "noise_var": sigma**2}
    assert change == pytest.approx(float(nonconvex.one_step_bound(gradient_sq=0.0, **law)), abs=ATOL)

    program, after = two_atoms()
    program.problem.set_initial_condition(program.losses[0] - after <= 1)
    exact = program.worst(program.gradients[0] ** 2)
    assert exact == pytest.approx(float(nonconvex.sharp_bound(decrease=1.0, steps=1, **law)), abs=ATOL * 3)


@pytest.mark.parametrize(("kappa", "slack"), [(1.0, 1.0), (0.5, 1.02)])
def test_noise_in_two_steps(pepit, functions, kappa, slack):
    """Catches a noise term that is too small where steps follow each other: a tree of two-atom noise, four leaves."""
    zeta, sigma, eta = 0.5, 0.8, kappa / SMOOTHNESS
    program = Program(pepit, functions.SmoothFunction, zeta, eta)

    def children(point):
        program.x = point
        mean = point - eta * program.biased(program.look())
        xi = pepit.Point()
        program.problem.add_constraint(xi**2 <= sigma**2)
        return mean + eta * xi, mean - eta * xi

    leaves = [leaf for child in children(program.start) for leaf in children(child)]
    mean_loss = sum((program.f(leaf) for leaf in leaves[1:]), program.f(leaves[0])) / 4
    program.problem.set_initial_condition(program.losses[0] - mean_loss <= 1)
    first, up, down = (g**2 for g in program.gradients)
    exact = program.worst((first + (up + down) / 2) / 2)
    classical, _, sharp = bounds(kappa, 2, zeta, sigma**2)
    assert exact - ATOL <= sharp <= slack * exact + ATOL
    if kappa == 1:
        assert classical == pytest.approx(exact, abs=ATOL)


# --- strongly convex -------------------------------------------------------------------------------------


def worst_strongly_convex(pepit, functions, *, kappa, modulus, zeta, steps, gap=None, distance=None):
    """The largest f(x_T) - f* with f(x_0) - f* <= gap, or the largest |x_T - x*| with |x_0 - x*| <= distance."""
    program = Program(pepit, functions.SmoothStronglyConvexFunction, zeta, kappa / SMOOTHNESS, mu=modulus)
    best = program.f.stationary_point()
    program.run(steps)
    if gap is not None:
        program.problem.set_initial_condition(program.losses[0] - program.f(best) <= gap)
        return program.worst(program.losses[-1] - program.f(best))
    program.problem.set_initial_condition((program.start - best) ** 2 <= distance**2)
    return np.sqrt(program.worst((program.x - best) ** 2))


@pytest.mark.parametrize(("kappa", "zeta", "steps"), [(0.5, 0.5, 1), (1.0, 0.5, 3), (1.3, 1.0, 2), (0.5, 0.0, 2)])
def test_the_distance_bound_is_the_worst_case(pepit, functions, kappa, zeta, steps):
    """Catches a contraction factor other than 1 - eta m, up to eta = 2/(L + m)."""
    modulus, start = 0.25, 2.0
    bound = strongly_convex.distance_bound(
        initial_distance=start,
        steps=steps,
        step_size=kappa,
        smoothness=SMOOTHNESS,
        strong_convexity=modulus,
        bias_bound=zeta,
    )
    law = {"kappa": kappa, "modulus": modulus, "zeta": zeta, "steps": steps}
    exact = worst_strongly_convex(pepit, functions, **law, distance=start)
    assert exact == pytest.approx(float(bound), abs=ATOL)


@pytest.mark.parametrize(
    ("kappa", "modulus", "zeta", "gap", "steps", "quadratic"),
    [
        (0.5, 0.25, 0.5, 1.0, 2, True),
        (1.0, 0.5, 0.5, 1.0, 3, True),
        (0.9, 0.2, 0.0, 1.0, 2, True),
        (0.973, 0.187, 0.516, 0.409, 1, False),
        pytest.param(0.5, 0.25, 0.5, 0.5, 10, True, marks=pytest.mark.slow),
    ],
)
def test_the_worst_excess_loss(pepit, functions, kappa, modulus, zeta, gap, steps, quadratic):
    """Catches a PL bound below the worst strongly convex case, and a lower bound above it; the latter may be equal."""
    law = {"step_size": kappa, "bias_bound": zeta, "initial_gap": gap, "steps": steps}
    exact = worst_strongly_convex(pepit, functions, kappa=kappa, modulus=modulus, zeta=zeta, steps=steps, gap=gap)
    upper = float(strongly_convex.pl_bound(**law, smoothness=SMOOTHNESS, pl_constant=modulus, noise_var=0.0))
    lower = float(strongly_convex.worst_excess_loss_at_least(**law, strong_convexity=modulus))
    assert lower - 1e-4 <= exact <= upper + ATOL
    if quadratic:
        assert exact == pytest.approx(lower, abs=ATOL)
    else:
        assert exact > lower + 0.005
        assert exact == pytest.approx(0.4639, abs=1e-3)


# --- convex ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kappa", "zeta", "steps"), [(0.5, 0.5, 2), (0.25, 0.2, 3), pytest.param(0.5, 0.3, 8, marks=pytest.mark.slow)]
)
def test_the_convex_bound_is_above_the_worst_case(pepit, functions, kappa, zeta, steps):
    """Catches a bound below the worst case over convex functions; after so few steps it is within a factor of three."""
    radius = 1.0
    program = Program(pepit, functions.SmoothConvexFunction, zeta, kappa / SMOOTHNESS)
    best = program.f.stationary_point()
    program.run(steps)
    for point in program.points[:-1]:
        program.problem.set_initial_condition((point - best) ** 2 <= radius**2)
    visited = program.points[:-1]
    average = sum(visited[1:], visited[0]) / steps
    exact = program.worst(program.f(average) - program.f(best))
    bound = convex.convex_bound(
        initial_distance=radius,
        radius=radius,
        steps=steps,
        step_size=kappa,
        smoothness=SMOOTHNESS,
        bias_bound=zeta,
        noise_var=0.0,
    )
    assert exact - ATOL <= float(bound) <= 3 * exact
