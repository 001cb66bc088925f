"""Variance of the mix by source on single inputs: worked values, where it rises, and what it refuses."""

import numpy as np
import pytest

from bvpo_analysis.theory.total_variance import (
    conditional_variance_of_mix,
    mixing_raises_total_variance,
    variance_of_mix,
)

PARTS = {"trace_var": 3.0, "data_var_t": 2.0, "data_var_e": 8.0, "data_cov": 1.0}


def test_worked_values():
    """Catches alpha for alpha^2, trace noise weighted with (1 - alpha), and a covariance that is not doubled."""
    assert float(conditional_variance_of_mix(0.5, 3.0)) == 0.75
    parts = variance_of_mix(0.5, **PARTS)
    assert float(parts.trace) == 0.75
    assert float(parts.data) == 0.25 * 2 + 0.25 * 8 + 0.5 * 1
    assert float(parts.total) == 3.75


def test_at_the_ends_it_is_the_variance_of_one_estimator():
    """Catches swapped roles."""
    np.testing.assert_allclose(variance_of_mix([0.0, 1.0], **PARTS).total, [8.0, 5.0], rtol=1e-15)


def test_mixing_in_a_noisy_constant_direction_raises_the_total_while_the_traces_calm_down():
    """Catches the conditional statement applied to the total: 25.25 against 1."""
    parts = variance_of_mix(0.5, trace_var=1.0, data_var_t=0.0, data_var_e=100.0, data_cov=0.0)
    assert (float(parts.trace), float(parts.total)) == (0.25, 25.25)
    assert mixing_raises_total_variance(0.5, var_t=1.0, var_e=100.0, cov_te=0.0)


@pytest.mark.parametrize("alpha", [0.0, 0.3, 0.9])
@pytest.mark.parametrize("cov", [-1.0, 0.0, 1.0])
def test_the_threshold_is_where_the_variances_agree(alpha, cov):
    """Catches a wrong threshold of S_e: just above the tie the variance rises, just below it does not."""
    tie = ((1 + alpha) * 2.0 - 2 * alpha * cov) / (1 - alpha)
    assert mixing_raises_total_variance(alpha, 2.0, tie * (1 + 1e-9), cov)
    assert not mixing_raises_total_variance(alpha, 2.0, tie * (1 - 1e-9), cov)
    at_tie = alpha**2 * 2.0 + (1 - alpha) ** 2 * tie + 2 * alpha * (1 - alpha) * cov
    assert at_tie == pytest.approx(2.0, rel=1e-14)


def test_the_trace_gradient_alone_is_no_rise():
    """Catches dividing by 1 - alpha = 0."""
    assert not mixing_raises_total_variance(1.0, 0.0, 100.0, 0.0)


def test_what_it_refuses():
    """Catches impossible covariances, negative variances, weights outside the statement, and NaN."""
    with pytest.raises(ValueError, match=r"^data_cov violates Cauchy-Schwarz"):
        variance_of_mix(0.5, **{**PARTS, "data_cov": 4.1})
    with pytest.raises(ValueError, match=r"^cov_te violates Cauchy-Schwarz"):
        mixing_raises_total_variance(0.5, 1.0, 1.0, 2.0)
    for alpha in (-0.1, 1.1):
        with pytest.raises(ValueError, match=r"^alpha must "):
            mixing_raises_total_variance(alpha, 1.0, 1.0, 0.0)
    for name in PARTS:
        with pytest.raises(ValueError, match=f"^{name} must be finite"):
            variance_of_mix(0.5, **{**PARTS, name: np.nan})
    for name in ("trace_var", "data_var_t", "data_var_e"):
        with pytest.raises(ValueError, match=f"^{name} must not be negative"):
            variance_of_mix(0.5, **{**PARTS, name: -1.0})
