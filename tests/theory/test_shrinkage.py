"""James-Stein weights on single inputs: worked values, exact risks against 30 digits and quadrature, bad input."""

import mpmath
import numpy as np
import pytest
from scipy.integrate import quad
from scipy.stats import ncx2

from bvpo_analysis.theory.shrinkage import (
    estimated_constant,
    exact_risk,
    inverse_chi_square,
    inverse_distance_moment,
    isotropic_risk,
    risk_bound,
    shrinkage_spectrum,
    shrinkage_weight,
)


def _rotation(p: int) -> np.ndarray:
    return np.linalg.qr(np.random.default_rng(p).normal(size=(p, p)))[0]


def test_spectrum_of_a_worked_covariance():
    """Catches lmax subtracted once, or the interval's end taken for its middle."""
    spectrum = shrinkage_spectrum([4.0, 1.0, 3.0, 2.0])
    assert (spectrum.trace, spectrum.largest, spectrum.effective_rank) == (10.0, 4.0, 2.5)
    assert (spectrum.constant, spectrum.limit) == (2.0, 4.0)
    q = _rotation(4)
    rotated = shrinkage_spectrum(q @ np.diag([4.0, 1.0, 3.0, 2.0]) @ q.T)
    assert rotated.constant == pytest.approx(2.0, rel=1e-13)
    assert shrinkage_spectrum([3.0] * 20).constant == 54.0


def test_spectrum_where_nothing_dominates():
    """Catches an absolute value: at effective rank 2 or less the constant is not positive."""
    assert shrinkage_spectrum([1.0, 1.0]).limit == 0.0
    assert shrinkage_spectrum([1.0, 0.1, 0.1, 0.1]).constant == pytest.approx(-0.7, rel=1e-14)
    nothing = shrinkage_spectrum(np.zeros((3, 3)))
    assert (nothing.trace, nothing.effective_rank, nothing.constant) == (0.0, 0.0, 0.0)


def test_g65_weight_at_its_corners():
    """Catches 0/0 at Z = 0, shrinking with c <= 0, and a negative weight."""
    assert shrinkage_weight(18.0, [0.0, 1.0, 18.0, 72.0]).tolist() == [0.0, 0.0, 0.0, 0.75]
    assert shrinkage_weight([0.0, -1.0], 0.0).tolist() == [1.0, 1.0]
    assert shrinkage_weight([0.0, -1.0], 5.0).tolist() == [1.0, 1.0]
    assert float(shrinkage_weight(1e-300, 1e300)) == 1.0


def test_estimated_constant():
    """Catches n - 2 or n for n + 2, and p for p - 2; with ever more data it is the known-variance constant."""
    assert float(estimated_constant(variance=2.0, dimension=12, dof=8)) == pytest.approx(16.0, rel=1e-15)
    assert float(estimated_constant(1.0, 12, 1e12)) == pytest.approx(10.0, rel=1e-10)
    assert float(estimated_constant(1.0, 2, 10)) == 0.0
    assert float(estimated_constant(1.0, 1, 10)) < 0.0


def test_estimated_constant_is_the_best_multiple():
    """Catches a constant that is not at the optimum of 2k(p - 2) s E s^2 - k^2 E s^4, by simulated chi-squares."""
    p, n, s = 12, 5, 2.0
    estimate = s * np.random.default_rng(0).chisquare(n, 400_000) / n
    multiples = np.linspace(0.2, 2.0, 181) * (p - 2)
    saving = 2 * multiples * (p - 2) * s * estimate.mean() - multiples**2 * (estimate**2).mean()
    best = multiples[saving.argmax()]
    assert best == pytest.approx(float(estimated_constant(1.0, p, n)), rel=0.02)


# --- exact risks -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("p", [3, 4, 7, 20, 101])
@pytest.mark.parametrize("noncentrality", [0.0, 1e-9, 0.3, 9.0, 1e2, 1e3, 1e5, 1e12, 1e300])
def test_inverse_chi_square_against_30_digits(p, noncentrality):
    """Catches a Kummer function out of its range, and a break where the expansion takes over."""
    with mpmath.workdps(30):
        half = mpmath.mpf(noncentrality) / 2
        if noncentrality < 1e6:
            exact = mpmath.hyp1f1(1, mpmath.mpf(p) / 2, -half) / (p - 2)
        else:
            exact = (1 + (2 - mpmath.mpf(p) / 2) / half) / (2 * half)
    assert float(inverse_chi_square(p, noncentrality)) == pytest.approx(float(exact), rel=1e-12)


def test_inverse_chi_square_on_both_sides_of_the_switch():
    """Catches a jump: E 1/chi2 falls smoothly where the expansion replaces the function."""
    edge = 1000.0 * 20
    low, high = inverse_chi_square(20, np.array([edge * (1 - 1e-9), edge * (1 + 1e-9)]))
    assert float(high / low) == pytest.approx(1 - 2e-9, abs=1e-11)


@pytest.mark.parametrize(("p", "noncentrality"), [(3, 2.0), (8, 0.5), (20, 50.0)])
def test_inverse_chi_square_against_its_density(p, noncentrality):
    """Catches a formula of another law, by integrating 1/x against the noncentral chi-square density."""
    integral, _ = quad(lambda x: ncx2.pdf(x, p, noncentrality) / x, 0, np.inf, limit=200)
    assert float(inverse_chi_square(p, noncentrality)) == pytest.approx(integral, rel=1e-6)


@pytest.mark.parametrize("bias_sq", [0.0, 9.0, 100.0, 1e4])
@pytest.mark.parametrize("constant", [None, 5.0, 40.0])
def test_isotropic_risk_bound_and_integral_agree(bias_sq, constant):
    """Catches an error in any one of the three: for S = s I the bound is the risk and the integral gives both."""
    p, s = 20, 2.0
    bias = np.sqrt(bias_sq / p) * np.ones(p)
    closed = float(isotropic_risk(p, s, bias_sq, constant))
    assert exact_risk([s] * p, bias, constant) == pytest.approx(closed, rel=1e-12)
    assert risk_bound([s] * p, bias, constant) == pytest.approx(closed, rel=1e-12)


def test_isotropic_risk_worked_values():
    """Catches a wrong saving: with b_e = 0, p = 20 and S = I the risk is 20 - 18^2/18 = 2; far away it is p."""
    assert float(isotropic_risk(20, 1.0, 0.0)) == pytest.approx(2.0, rel=1e-14)
    assert float(isotropic_risk(20, 1.0, 1e4)) == pytest.approx(20 - 18**2 / (1e4 + 16), rel=1e-6)
    assert float(isotropic_risk(20, 1.0, 0.0, constant=36.0)) == pytest.approx(20.0, rel=1e-14)
    assert float(isotropic_risk(20, 1.0, 7.0, constant=0.0)) == 20.0


def test_exact_risk_against_simulation():
    """Catches the quadratic term Z'SZ/|Z|^4; 200 000 draws, 5 standard errors: a false alarm in 1.7 million."""
    values, bias, c = np.array([1.0, 0.8, 0.5, 0.4, 0.3]), np.array([1.0, -0.5, 0.2, 0.0, 0.7]), 0.8
    rng = np.random.default_rng(0)
    x = rng.normal(size=(200_000, 5)) * np.sqrt(values)
    z = x - bias
    errors = ((bias + (1 - c / (z**2).sum(axis=1, keepdims=True)) * z) ** 2).sum(axis=1)
    risk, se = exact_risk(values, bias, c), errors.std() / np.sqrt(len(errors))
    assert abs(errors.mean() - risk) < 5 * se
    assert se < 0.005 < (risk_bound(values, bias, c) - risk) / 5
    q = _rotation(5)
    assert exact_risk(q @ np.diag(values) @ q.T, q @ bias, c) == pytest.approx(risk, rel=1e-11)


def test_bound_and_risk_below_effective_rank_two():
    """Catches an unconditional claim of dominance: with one large eigenvalue and b_e along it, every c > 0 hurts."""
    values, bias = [1.0, 0.1, 0.1, 0.1], [10.0, 0.0, 0.0, 0.0]
    for c in (0.01, 0.1, 1.0):
        assert exact_risk(values, bias, c) > 1.3
        assert risk_bound(values, bias, c) >= exact_risk(values, bias, c)
    assert exact_risk(values, bias) == 1.3
    assert exact_risk(values, [0.0, 0.0, 0.0, 10.0], 0.1) < 1.3


def test_inverse_distance_moment_outside_the_range_of_the_covariance():
    """Catches a demand for three dimensions where a fixed distance keeps Z away from 0."""
    assert inverse_distance_moment(np.zeros(2), [3.0, 4.0]) == pytest.approx(1 / 25, rel=1e-12)
    density, _ = quad(lambda x: np.exp(-x * x / 2) / np.sqrt(2 * np.pi) / (x * x + 4.0), -np.inf, np.inf)
    assert inverse_distance_moment([1.0, 0.0], [0.0, 2.0]) == pytest.approx(density, rel=1e-9)


@pytest.mark.parametrize("scale", [1e-12, 1e12])
def test_units_do_not_matter(scale):
    """Catches an integration range that does not move with the units."""
    values, bias = np.array([1.0, 0.8, 0.5]), np.array([1.0, -0.5, 0.2])
    scaled = exact_risk(values * scale, bias * np.sqrt(scale), 0.2 * scale)
    assert scaled == pytest.approx(exact_risk(values, bias, 0.2) * scale, rel=1e-12)


# --- bad input -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("covariance", "message"),
    [
        ([], "covariance must not be empty"),
        ([1.0, np.nan], "covariance must be finite"),
        ([1.0, -1.0], "covariance must not be negative"),
        (1.0, "covariance must be a square matrix or a vector"),
        ([[1.0, 0.0]], "covariance must be a square matrix or a vector"),
        ([[1.0, 0.5], [0.0, 1.0]], "covariance must be symmetric"),
        ([[1.0, 2.0], [2.0, 1.0]], "covariance must be positive semidefinite"),
    ],
)
def test_what_is_no_covariance_raises(covariance, message):
    """Catches a spectrum of something that no gradient has."""
    with pytest.raises(ValueError, match=message):
        shrinkage_spectrum(covariance)


@pytest.mark.parametrize(
    ("covariance", "bias", "constant", "message"),
    [
        ([1.0, 1.0], [1.0, 0.0], 0.1, "covariance must have rank 3"),
        ([1.0, 1.0, 0.0], [1.0, 0.0, 0.0], 0.1, "covariance must have rank 3"),
        ([1.0, 1.0], [0.0, 0.0], 0.0, "covariance must have rank 3"),
        ([1.0, 1.0, 1.0], [1.0, 0.0], 0.1, "bias_e must have shape"),
        ([1.0, 1.0, 1.0], [1.0, 0.0, np.nan], 0.1, "bias_e must be finite"),
        ([1.0, 1.0, 1.0], [1.0, 0.0, 0.0], -0.1, "constant must not be negative"),
    ],
)
def test_risks_refuse_what_they_do_not_cover(covariance, bias, constant, message):
    """Catches an infinite moment that comes out as a number."""
    for function in (exact_risk, risk_bound):
        with pytest.raises(ValueError, match=message):
            function(covariance, bias, constant)


@pytest.mark.parametrize(
    ("function", "arguments", "message"),
    [
        (inverse_chi_square, (2, 1.0), "dimension must be at least 3"),
        (inverse_chi_square, (5, -1.0), "noncentrality must not be negative"),
        (isotropic_risk, (5, 0.0, 1.0), "variance must be positive"),
        (isotropic_risk, (5, 1.0, -1.0), "bias_e_sq must not be negative"),
        (isotropic_risk, (2, 1.0, 1.0), "dimension must be at least 3"),
        (isotropic_risk, (5, 1.0, 1.0, -1.0), "constant must not be negative"),
        (shrinkage_weight, (np.nan, 1.0), "constant must be finite"),
        (shrinkage_weight, (1.0, np.inf), "distance_sq must be finite"),
        (shrinkage_weight, (1.0, -1.0), "distance_sq must not be negative"),
        (estimated_constant, (-1.0, 5, 5), "variance must not be negative"),
        (estimated_constant, (1.0, 5, 0), "dof must be at least 1"),
        (estimated_constant, (1.0, 0, 5), "dimension must be at least 1"),
    ],
)
def test_bad_input_is_named(function, arguments, message):
    """Catches NaN turned into a weight, and formulas outside their range."""
    with pytest.raises(ValueError, match=message):
        function(*arguments)


@pytest.mark.parametrize("dimension", [20, 40, 1000])
def test_a_vanishing_noncentrality_is_none(dimension):
    """Catches the NaN of the confluent hypergeometric function at arguments next to zero."""
    found = inverse_chi_square(dimension, [0.0, 5e-324, 1e-300, 1e-31, 1e-12])
    np.testing.assert_allclose(found, 1 / (dimension - 2), rtol=1e-12)
