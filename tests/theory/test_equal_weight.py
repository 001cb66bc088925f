"""The equal mix on single inputs: worked values, the factor of three, ends, and what it refuses."""

import numpy as np
import pytest

from bvpo_analysis.theory.equal_weight import UNCORRELATED_FACTOR, equal_mix, equal_mix_ratio
from bvpo_analysis.theory.mixing import optimal_error


def test_worked_values():
    """Catches a wrong cross term: A = 1, C = 5, B = 0 give 3/2, 4/6 above q* = 5/6."""
    mix = equal_mix(1.0, 5.0, 0.0)
    assert float(mix.error) == 1.5
    assert float(mix.regret) == pytest.approx(4 / 6, rel=1e-15)
    assert float(mix.ratio) == pytest.approx(1.5 / (5 / 6), rel=1e-15)
    assert not mix.optimal
    assert not mix.beats_both


@pytest.mark.parametrize("cross", [-1.9, 0.0, 1.9])
def test_equal_errors_want_equal_weights_whatever_their_correlation(cross):
    """Catches a condition that looks at the correlation: A = C alone decides."""
    mix = equal_mix(2.0, 2.0, cross)
    assert bool(mix.optimal)
    assert (float(mix.regret), float(mix.ratio)) == (0.0, 1.0)
    assert float(mix.error) == pytest.approx(float(optimal_error(2.0, 2.0, cross)), rel=1e-14)


def test_uncorrelated_errors_may_differ_by_a_factor_of_three():
    """Catches 2 or 4 for 3, and a tie counted as better than both."""
    assert UNCORRELATED_FACTOR == 3
    for factor, better in ((2.99, True), (3.0, False), (3.01, False)):
        for a, c in ((1.0, factor), (factor, 1.0)):
            assert bool(equal_mix(a, c, 0.0).beats_both) is better


@pytest.mark.parametrize(("cross", "factor"), [(0.5, 2.0), (-0.5, 4.0)])
def test_a_covariance_moves_that_factor(cross, factor):
    """Catches a dropped cross moment: max < 3 min - 2B."""
    assert bool(equal_mix(1.0, 0.99 * factor, cross).beats_both)
    assert not equal_mix(1.0, 1.01 * factor, cross).beats_both


@pytest.mark.parametrize("error_e", [1.0, 2.0, 50.0])
@pytest.mark.parametrize("rho", [-0.9, 0.0, 0.4])
def test_the_ratio_depends_on_imbalance_and_correlation_alone(error_e, rho):
    """Catches m without its square, and the sign of rho in the ratio."""
    root = np.sqrt(error_e)
    mix = equal_mix(1.0, error_e, rho * root)
    ratio = float(mix.error / optimal_error(1.0, error_e, rho * root))
    assert float(mix.ratio) == pytest.approx(ratio, rel=1e-12)
    assert float(equal_mix_ratio((1 + error_e) / (2 * root), rho)) == pytest.approx(ratio, rel=1e-12)


def test_degenerate_laws():
    """Catches 0/0 where the estimators coincide, and NaN where the optimum is exact."""
    same = equal_mix(2.0, 2.0, 2.0)
    assert (float(same.error), float(same.regret), float(same.ratio)) == (2.0, 0.0, 1.0)
    assert bool(same.optimal)
    assert not same.beats_both
    opposite = equal_mix(1.0, 4.0, -2.0)
    assert float(opposite.ratio) == np.inf
    assert bool(opposite.beats_both)
    assert float(equal_mix(0.0, 0.0, 0.0).ratio) == 1.0


@pytest.mark.parametrize("size", [1e-300, 1e300])
def test_gradients_of_any_size(size):
    """Catches (A - C)^2 out of range."""
    mix = equal_mix(size, 5 * size, 0.0)
    assert float(mix.error) / size == pytest.approx(1.5, rel=1e-14)
    assert float(mix.ratio) == pytest.approx(1.8, rel=1e-14)


def test_what_it_refuses():
    """Catches values outside the statement: m < 1 is no ratio of means, |rho| = 1 has an exact optimum."""
    with pytest.raises(ValueError, match=r"^imbalance must be at least 1"):
        equal_mix_ratio(0.9, 0.0)
    with pytest.raises(ValueError, match=r"^correlation must be inside"):
        equal_mix_ratio(2.0, -1.0)
    with pytest.raises(ValueError, match=r"^error_e must not be negative"):
        equal_mix(1.0, -1.0, 0.0)
    with pytest.raises(ValueError, match=r"^cross violates Cauchy-Schwarz"):
        equal_mix(1.0, 1.0, 2.0)
    for name in ("error_t", "error_e", "cross"):
        with pytest.raises(ValueError, match=f"^{name} must be finite"):
            equal_mix(**{"error_t": 1.0, "error_e": 1.0, "cross": 0.5, name: np.nan})
