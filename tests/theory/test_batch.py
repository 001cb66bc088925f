"""The optimal weight at B, K and kappa on single inputs: worked values, limits, degenerate laws, refusals."""

import numpy as np
import pytest

from bvpo_analysis import theory
from bvpo_analysis.theory.batch import batch_optimal_weight, batch_weight_limits

UNIT = {
    "bias_t_sq": 0.04,
    "bias_e_sq": 0.25,
    "bias_inner": 0.06,
    "data_var_t": 2.0,
    "trace_var": 4.0,
    "var_e": 3.0,
    "data_cov": 1.0,
}
UNBIASED = {**UNIT, "bias_t_sq": 0.0, "bias_inner": 0.0}


def test_worked_value():
    """Catches K on the data noise and B on the bias: (.19 + 2/8) / (.17 + (2 + 4/2 + 3 - 2)/8) at B = 8, K = 2."""
    alpha = float(batch_optimal_weight(**UNIT, batch_size=8, traces=2))
    assert alpha == pytest.approx((0.19 + 2 / 8) / (0.17 + 5 / 8), rel=1e-14)
    alpha = float(batch_optimal_weight(**UNIT, batch_size=8, traces=2, kappa=0.5))
    assert alpha == pytest.approx((0.19 + 1 / 8) / (0.17 + 5 / 16), rel=1e-14)


def test_one_unit_with_one_trace_is_the_weight_of_the_mean_squared_error():
    """Catches a form of its own: at B = K = kappa = 1 it is alpha* with S_t = v_t + tau."""
    moments = {k: UNIT[k] for k in ("bias_t_sq", "bias_e_sq", "bias_inner")}
    expected = theory.weighted_optimal_weight(**moments, var_t=6.0, var_e=3.0, cov_te=1.0)
    assert float(batch_optimal_weight(**UNIT, batch_size=1)) == pytest.approx(float(expected), rel=1e-14)


def test_an_unbiased_trace_gradient_wins_in_large_batches():
    """Catches a limit other than 1 for b_t = 0, where BVPO buys nothing."""
    limits = batch_weight_limits(**UNBIASED, batch_size=16)
    assert float(limits.bias_only) == 1.0
    path = batch_optimal_weight(**UNBIASED, batch_size=np.array([1, 10, 100, 1e4]))
    assert (np.diff(path) > 0).all()
    assert 1 - float(path[-1]) == pytest.approx((2 + 4 - 1) / 1e4 / 0.25, rel=1e-2)


def test_limits():
    """Catches limits at the wrong end, and a K -> inf limit that forgets the batch."""
    limits = batch_weight_limits(**UNIT, batch_size=8, traces=2)
    assert float(limits.bias_only) == pytest.approx(0.19 / 0.17)
    assert float(limits.variance_only) == pytest.approx(2 / 5)
    assert float(limits.no_trace_noise) == pytest.approx((0.19 + 2 / 8) / (0.17 + 3 / 8))


def test_without_a_difference_of_biases_the_batch_does_not_matter():
    """Catches 0/0 in a limit: with b_t = b_e only noise tells the estimators apart, at every batch size."""
    same_bias = {**UNIT, "bias_t_sq": 0.25, "bias_e_sq": 0.25, "bias_inner": 0.25}
    limits = batch_weight_limits(**same_bias, batch_size=1)
    assert float(limits.bias_only) == float(limits.variance_only) == pytest.approx(2 / 7)
    for size in (1, 1e6):
        assert float(batch_optimal_weight(**same_bias, batch_size=size)) == pytest.approx(2 / 7)


def test_without_a_difference_of_noise_the_batch_does_not_matter_either():
    """Catches 0/0 in the other limit: g_t - g_e is constant."""
    same_noise = {**UNIT, "trace_var": 0.0, "data_var_t": 3.0, "data_cov": 3.0}
    limits = batch_weight_limits(**same_noise, batch_size=1)
    assert float(limits.variance_only) == float(limits.bias_only) == pytest.approx(0.19 / 0.17)
    assert float(batch_optimal_weight(**same_noise, batch_size=1)) == pytest.approx(0.19 / 0.17)


def test_coinciding_gradients():
    """Catches NaN where any weight is optimal."""
    same = {**UNIT, "bias_t_sq": 1.0, "bias_e_sq": 1.0, "bias_inner": 1.0}
    same |= {"data_var_t": 2.0, "var_e": 2.0, "data_cov": 2.0, "trace_var": 0.0}
    assert float(batch_optimal_weight(**same, batch_size=4)) == 0.5
    limits = batch_weight_limits(**same, batch_size=4)
    assert (float(limits.bias_only), float(limits.no_trace_noise), float(limits.variance_only)) == (0.5, 0.5, 0.5)


@pytest.mark.parametrize("function", [batch_optimal_weight, batch_weight_limits], ids=lambda f: f.__name__)
def test_what_it_refuses(function):
    """Catches NaN, negative variances, impossible covariances, no batch, half a trace, and steps of size zero."""
    sizes = {"batch_size": 4.0, "traces": 2.0, "kappa": 0.5}
    for name in UNIT | sizes:
        with pytest.raises(ValueError, match=f"^{name} must be finite"):
            function(**{**UNIT, **sizes, name: np.nan})
    for name in ("bias_t_sq", "bias_e_sq", "data_var_t", "trace_var", "var_e"):
        with pytest.raises(ValueError, match=f"^{name} must not be negative"):
            function(**{**UNIT, **sizes, name: -1.0})
    for name, value, message in (
        ("bias_inner", 0.2, "bias_inner violates Cauchy-Schwarz"),
        ("data_cov", -2.5, "data_cov violates Cauchy-Schwarz"),
        ("batch_size", 0.5, "batch_size must be at least 1"),
        ("traces", 0.0, "traces must be at least 1"),
        ("kappa", 0.0, "kappa must be positive"),
    ):
        with pytest.raises(ValueError, match=message):
            function(**{**UNIT, **sizes, name: value})


def test_all_limits_have_the_shape_of_the_arguments():
    """Catches a limit that forgets the axis of the argument it does not depend on."""
    unit = {"bias_t_sq": 0.0, "bias_e_sq": 1.0, "bias_inner": 0.0, "data_var_t": 2.0, "var_e": 3.0, "data_cov": 1.0}
    limits = batch_weight_limits(**unit, trace_var=4.0, batch_size=[1, 2, 3])
    assert limits.bias_only.tolist() == [1.0, 1.0, 1.0]
    assert limits.variance_only.shape == limits.no_trace_noise.shape == (3,)
