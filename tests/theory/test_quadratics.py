"""Exact moments on quadratics: against enumerated noise, against the Lyapunov equation, bad inputs."""

from itertools import product

import numpy as np
import pytest
from scipy.linalg import solve_discrete_lyapunov

from bvpo_analysis.theory import quadratics

HESSIAN = np.array([[2.0, 0.6, 0.0], [0.6, 1.0, -0.3], [0.0, -0.3, 0.5]])
START, BIAS = np.array([1.0, -2.0, 0.5]), np.array([0.3, 0.1, -0.4])
ROOT = np.array([[1.0, 0.2, 0.0], [0.0, 0.5, -0.7], [0.3, 0.0, 0.4]])
LAW = {"hessian": HESSIAN, "bias": BIAS, "noise_cov": ROOT @ ROOT.T}


def enumerated(etas, steps):
    """E|grad f|^2, E f and E x at every step, over all 6^T paths of noise +- sqrt(3) column of ROOT."""
    atoms = np.sqrt(3) * np.concatenate([ROOT.T, -ROOT.T])
    x = np.broadcast_to(START, (1, 3))
    rows = [x]
    for eta in np.broadcast_to(etas, steps):
        x = (x - eta * (x @ HESSIAN + BIAS))[:, None, :] - eta * atoms
        x = x.reshape(-1, 3)
        rows.append(x)
    gradient = [((x @ HESSIAN) ** 2).sum(axis=1).mean() for x in rows]
    loss = [(x * (x @ HESSIAN)).sum(axis=1).mean() / 2 for x in rows]
    return gradient, loss, [x.mean(axis=0) for x in rows]


@pytest.mark.parametrize("etas", [0.3, 1.2, np.array([0.5, 0.3, 0.2, 0.1, 0.05])])
def test_the_recursion_is_the_average_over_all_noise_paths(etas):
    """Catches eta for eta^2 on the noise, noise that is diagonal in the wrong basis, an off-by-one in the index."""
    gradient, loss, mean = enumerated(etas, 5)
    path = quadratics.quadratic_path(**LAW, start=START, step_size=etas, steps=5)
    np.testing.assert_allclose(path.gradient_sq, gradient, rtol=1e-12)
    np.testing.assert_allclose(path.excess_loss, loss, rtol=1e-12)
    np.testing.assert_allclose(path.mean, mean, atol=1e-12)


@pytest.mark.parametrize("eta", [0.01, 0.3, 0.85])
def test_stationary_values_solve_the_lyapunov_equation(eta):
    """Catches 2 - eta h replaced by 2, and covariance taken in the wrong basis."""
    contraction = np.eye(3) - eta * HESSIAN
    second = solve_discrete_lyapunov(contraction, eta**2 * LAW["noise_cov"]) + np.outer(
        np.linalg.solve(HESSIAN, BIAS), np.linalg.solve(HESSIAN, BIAS)
    )
    law = quadratics.quadratic_stationary(**LAW, step_size=eta)
    assert law.gradient_sq == pytest.approx(np.trace(HESSIAN @ second @ HESSIAN), rel=1e-10)
    assert law.excess_loss == pytest.approx(np.trace(HESSIAN @ second) / 2, rel=1e-10)
    np.testing.assert_allclose(HESSIAN @ law.mean, -BIAS, atol=1e-12)


def test_the_path_ends_in_the_stationary_law():
    """Catches formulas that belong to different recursions."""
    path = quadratics.quadratic_path(**LAW, start=START, step_size=0.4, steps=400)
    law = quadratics.quadratic_stationary(**LAW, step_size=0.4)
    assert path.gradient_sq[-1] == pytest.approx(law.gradient_sq, rel=1e-12)
    assert path.excess_loss[-1] == pytest.approx(law.excess_loss, rel=1e-12)


def test_a_flat_direction_drifts_with_the_bias():
    """Catches a division by a zero eigenvalue: f is flat along the second axis, where x = -j eta b."""
    path = quadratics.quadratic_path(
        hessian=[1.0, 0.0], start=[0.0, 0.0], bias=[0.0, 2.0], noise_cov=[0.0, 1.0], step_size=0.5, steps=4
    )
    np.testing.assert_allclose(path.mean[:, 1], -np.arange(5.0))
    np.testing.assert_array_equal(path.excess_loss, 0.0)


def test_bias_along_flat_directions_costs_most():
    """Catches the loss weighted like the gradient: the same |b| costs b^2/(2h)."""
    sharp, flat = (
        quadratics.quadratic_stationary(hessian=[1.0, 0.01], bias=b, noise_cov=[0.0, 0.0], step_size=0.5)
        for b in ([1.0, 0.0], [0.0, 1.0])
    )
    assert sharp.gradient_sq == flat.gradient_sq == pytest.approx(1.0)
    assert flat.excess_loss == pytest.approx(100 * sharp.excess_loss)


def test_the_steady_variance_weight_is_that_of_an_isotropic_quadratic():
    """Catches kappa for kappa/(2 - kappa); steps up to 2/L are stable."""
    for kappa in (0.01, 0.5, 1.0, 1.9):
        law = quadratics.quadratic_stationary(
            hessian=[2.0, 2.0], bias=[0.0, 0.0], noise_cov=[1.0, 3.0], step_size=kappa / 2
        )
        assert law.gradient_sq == pytest.approx(4.0 * float(quadratics.steady_variance_weight(kappa)))


def test_no_steps_return_the_start():
    """Catches an empty recursion that has no row."""
    path = quadratics.quadratic_path(**LAW, start=START, step_size=0.1, steps=0)
    np.testing.assert_allclose(path.mean, START[None])
    assert path.excess_loss == pytest.approx([START @ HESSIAN @ START / 2])


PATH = {**LAW, "start": START, "step_size": 0.1, "steps": 3}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"hessian": -np.eye(3)}, "hessian must be positive semidefinite"),
        ({"hessian": HESSIAN + np.triu(np.ones((3, 3)))}, "hessian must be symmetric"),
        ({"hessian": np.ones((2, 3))}, "hessian must be a square matrix"),
        ({"hessian": [np.nan, 1.0, 1.0]}, "hessian must be finite"),
        ({"start": [1.0, 2.0]}, "start must have shape"),
        ({"bias": 1.0}, "bias must have shape"),
        ({"bias": [1.0, np.inf, 0.0]}, "bias must be finite"),
        ({"noise_cov": [1.0, -1.0, 0.0]}, "noise_cov must be positive semidefinite"),
        ({"noise_cov": [[0.0, 1.0, 0.0], [1.0, 0.0, 0.0], [0.0, 0.0, 1.0]]}, "noise_cov must be positive semidefinite"),
        ({"noise_cov": np.eye(2)}, "noise_cov must have shape"),
        ({"step_size": 0.0}, "step_size must be positive"),
        ({"step_size": [0.1, 0.1]}, "step_size must be one number or one per step"),
        ({"steps": -1}, "steps must not be negative"),
    ],
)
def test_bad_paths_raise(change, message):
    """Catches shapes that would broadcast and matrices that are no Hessian or covariance."""
    with pytest.raises(ValueError, match=message):
        quadratics.quadratic_path(**{**PATH, **change})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"hessian": [1.0, 0.0, 1.0]}, "hessian must be positive definite"),
        ({"step_size": 2 / np.linalg.eigvalsh(HESSIAN).max()}, "step_size must be below 2"),
        ({"step_size": [0.1, 0.2]}, "step_size must be one number"),
    ],
)
def test_without_a_stationary_law_raises(change, message):
    """Catches division by zero, and a negative variance from an unstable step."""
    with pytest.raises(ValueError, match=message):
        quadratics.quadratic_stationary(**{**LAW, "step_size": 0.1, **change})


@pytest.mark.parametrize("kappa", [0.0, 2.0, -1.0, np.nan])
def test_an_unstable_kappa_raises(kappa):
    """Catches a negative or infinite weight."""
    with pytest.raises(ValueError, match="kappa must be"):
        quadratics.steady_variance_weight(kappa)


def test_two_atom_paths_are_as_good_as_any_noise():
    """Catches a dependence on more than the covariance: +-1 along each axis against the atoms of ``enumerated``."""
    etas, steps = 0.3, 3
    x = np.broadcast_to(START, (1, 3))
    atoms = np.array(list(product((-1.0, 1.0), repeat=3))) @ ROOT.T
    for _ in range(steps):
        x = ((x - etas * (x @ HESSIAN + BIAS))[:, None, :] - etas * atoms).reshape(-1, 3)
    assert ((x @ HESSIAN) ** 2).sum(axis=1).mean() == pytest.approx(enumerated(etas, steps)[0][-1], rel=1e-12)


def test_no_stationary_law_at_the_edge_of_stability():
    """Catches eta h = 2 let through, where the iterates oscillate for ever and the variance divides by zero."""
    with pytest.raises(ValueError, match="step_size must be below 2"):
        quadratics.quadratic_stationary(hessian=[2.0], step_size=1.0, bias=[0.0], noise_cov=[1.0])
