"""Losses are what they say: gradients by finite differences, L and PL constants by sampling, minima by search."""

import numpy as np
import pytest

from bvpo_analysis.sgd.cases import standard_cases
from bvpo_analysis.sgd.problems import CosineQuadratic, NeuronRegression, Quadratic, Wells

PROBLEMS = [pytest.param(case.oracle.problem, id=case.name) for case in standard_cases()]


def points(problem, count=400, seed=0):
    rng = np.random.default_rng(seed)
    return problem.minimiser + 10 ** rng.uniform(-2, 1, (count, 1)) * rng.normal(size=(count, problem.dimension))


def hessians(problem, x, step=1e-5):
    """Central differences of the gradient, [N, d, d]."""
    rows = [problem.gradient(x + step * e) - problem.gradient(x - step * e) for e in np.eye(problem.dimension)]
    return np.stack(rows, axis=-1) / (2 * step)


@pytest.mark.parametrize("problem", PROBLEMS)
def test_the_gradient_is_the_slope_of_the_value(problem):
    """Catches a gradient of another function: wrong factor, sign or coordinate."""
    x, step = points(problem), 1e-5
    numeric = np.stack(
        [(problem.value(x + step * e) - problem.value(x - step * e)) / (2 * step) for e in np.eye(problem.dimension)],
        axis=-1,
    )
    np.testing.assert_allclose(problem.gradient(x), numeric, atol=1e-7 * np.abs(numeric).max(), rtol=1e-5)


@pytest.mark.parametrize("problem", PROBLEMS)
def test_no_curvature_exceeds_the_smoothness(problem):
    """Catches an L that is too small, for which no bound would have to hold."""
    largest = np.abs(np.linalg.eigvalsh(hessians(problem, points(problem)))).max()
    assert largest <= problem.smoothness * (1 + 1e-5)
    # Sampling meets most of the claimed curvature, so that an L ten times too large would show as well.
    assert largest >= 0.25 * problem.smoothness


@pytest.mark.parametrize("problem", PROBLEMS)
def test_nothing_lies_below_the_minimum(problem):
    """Catches a wrong f*, which would make every bound too large or too small."""
    assert problem.value(points(problem)).min() >= problem.minimum
    assert problem.value(problem.minimiser) == pytest.approx(problem.minimum, abs=1e-12)
    assert np.linalg.norm(problem.gradient(problem.minimiser)) <= 1e-10


@pytest.mark.parametrize("problem", PROBLEMS)
def test_strong_convexity_and_pl_hold_where_claimed(problem):
    """Catches a constant that is too large, and a loss that is called convex and is not."""
    x = points(problem)
    lowest = np.linalg.eigvalsh(hessians(problem, x)).min()
    if problem.strong_convexity > 0:
        assert problem.strong_convexity <= lowest + 1e-5
    if problem.is_convex:
        assert lowest >= -1e-6
    ratio = (problem.gradient(x) ** 2).sum(axis=1) / (2 * (problem.value(x) - problem.minimum))
    assert problem.pl_constant <= ratio.min() * (1 + 1e-6)


def test_the_pl_constant_of_the_textbook_example():
    """Catches a certificate that is needlessly weak: x^2 + 3 sin^2 x is known to have m above 1/32."""
    problem = CosineQuadratic("textbook", 1, curvature=2.0, amplitude=1.5, frequency=2.0)
    x = np.linspace(0.01, 30, 100_001)[:, None]
    true = ((problem.gradient(x) ** 2).sum(axis=1) / (2 * problem.value(x))).min()
    assert 1 / 32 < problem.pl_constant <= true
    assert problem.pl_constant == pytest.approx(true, rel=0.02)


@pytest.mark.parametrize(
    ("ripple", "kind"), [(0.5, "strongly convex"), (3.0, "pl"), (4.2, "pl"), (4.8, "nonconvex"), (20.0, "nonconvex")]
)
def test_ripples_turn_from_convex_to_pl_to_rugged(ripple, kind):
    """Catches a PL claim beyond the amplitude (c = 4.603) at which a second minimum appears."""
    problem = CosineQuadratic("x", 1, curvature=1.0, amplitude=ripple, frequency=1.0)
    assert problem.kind == kind
    flat = np.abs(problem.gradient(np.linspace(1, 20, 200_001)[:, None])[:, 0])
    assert (flat.min() > 1e-3) == (kind != "nonconvex")


def test_the_worst_curvature_of_a_neuron_is_nearly_met():
    """Catches 1.24 replaced by a smaller constant: one input, planted output at the edge of tanh."""
    problem = NeuronRegression("one", np.ones((1, 1)), np.array([20.0]))
    curvature = hessians(problem, np.linspace(-3, 3, 2001)[:, None])[:, 0, 0]
    assert 1.22 <= np.abs(curvature).max() <= problem.smoothness == 1.24


def test_a_rotated_quadratic_has_the_curvatures_it_was_given():
    problem = Quadratic.rotated("r", [2.0, 0.5, 0.1], np.random.default_rng(0))
    np.testing.assert_allclose(np.linalg.eigvalsh(problem.hessian), [0.1, 0.5, 2.0], rtol=1e-12)
    assert np.abs(problem.hessian - np.diag(np.diag(problem.hessian))).max() > 0.1


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Quadratic.diagonal("q", [1.0, -0.1]), "not bounded below"),
        (lambda: Quadratic("q", np.array([[1.0, 0.5], [0.0, 1.0]])), "symmetric"),
        (lambda: Quadratic("q", np.zeros((2, 2))), "must not be zero"),
        (lambda: Quadratic("q", np.array([[np.nan]])), "finite square matrix"),
        (lambda: Wells("w", 1, 0.0), "depth must be a positive number"),
        (lambda: CosineQuadratic("c", 1, 1.0, np.inf, 1.0), "amplitude must be a positive number"),
        (lambda: NeuronRegression("n", np.ones((2, 2)), np.ones(3)), "planted must have 2 coordinates"),
        (lambda: Wells("w", 2, 1.0).value(np.array([1.0, np.nan])), "x must be finite"),
        (lambda: Wells("w", 2, 1.0).gradient(np.ones(3)), "x must have 2 coordinates"),
    ],
)
def test_bad_input_is_named(make, message):
    with pytest.raises(ValueError, match=message):
        make()
