"""Largest curvature against dense eigenvalues."""

import numpy as np
import pytest

from bvpo_analysis.errors import StudyError
from bvpo_analysis.sgd.smoothness import largest_curvature, path_constant


def symmetric(seed: int, dimension: int):
    """A symmetric matrix whose eigenvalue of largest size is negative."""
    rng = np.random.default_rng(seed)
    q, _ = np.linalg.qr(rng.normal(size=(dimension, dimension)))
    values = rng.uniform(-1, 2, dimension)
    values[0] = -3.0
    return (q * values) @ q.T


@pytest.mark.parametrize("dimension", [2, 3, 40])
def test_it_is_the_eigenvalue_of_largest_size(dimension):
    """Catches the largest algebraic eigenvalue (2 here), which is no smoothness constant."""
    h = symmetric(0, dimension)
    expected = np.abs(np.linalg.eigvalsh(h)).max()
    assert largest_curvature(lambda v: h @ v, dimension, tolerance=1e-10) == pytest.approx(expected, rel=1e-8)


@pytest.mark.parametrize("dimension", [2, 40])
def test_a_preconditioner_acts_on_both_sides(dimension):
    """Catches P H, P^(1/2) on one side only, and P instead of its root."""
    h = symmetric(1, dimension)
    p = np.random.default_rng(2).uniform(0.1, 5.0, dimension)
    expected = np.abs(np.linalg.eigvalsh(np.sqrt(p)[:, None] * h * np.sqrt(p))).max()
    got = largest_curvature(lambda v: h @ v, dimension, preconditioner=p, tolerance=1e-10)
    assert got == pytest.approx(expected, rel=1e-8)
    assert got == pytest.approx(np.abs(np.linalg.eigvals(p[:, None] * h)).max(), rel=1e-8)


def test_the_path_constant_has_its_margin():
    assert path_constant([1.0, 2.0]) == pytest.approx(2.4)
    with pytest.raises(ValueError, match="curvatures must not be empty"):
        path_constant([])


@pytest.mark.parametrize("bad", [np.nan, np.inf, 0.0, -1.0])
def test_a_preconditioner_must_be_positive(bad):
    with pytest.raises(ValueError, match="preconditioner must be positive and finite"):
        largest_curvature(lambda v: v, 3, preconditioner=np.array([1.0, bad, 1.0]))


def test_a_preconditioner_of_another_length_is_refused():
    with pytest.raises(ValueError, match=r"of shape \(3,\)"):
        largest_curvature(lambda v: v, 3, preconditioner=np.ones(2))


def test_a_product_that_is_not_finite_is_no_curvature():
    with pytest.raises(StudyError, match="not finite"):
        largest_curvature(lambda v: v * np.nan, 4)


def test_one_parameter_is_refused():
    with pytest.raises(ValueError, match="dimension must be at least 2"):
        largest_curvature(lambda v: v, 1)
