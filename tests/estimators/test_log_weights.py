"""Log-weights and sums over the rows of a group: against SciPy, and where rows repeat."""

import numpy as np
from scipy.special import logsumexp, softmax

from bvpo_analysis.estimators.draw_groups import grouped_draws, grouped_prior, scatter
from bvpo_analysis.estimators.log_weights import LogWeights
from bvpo_analysis.testing import toy_pair


def test_mean_and_shares_are_those_of_scipy():
    """Catches a sum for a mean, an axis, and exponentials of large numbers."""
    logs = np.random.default_rng(0).normal(0.0, 300.0, (3, 2, 5))
    found = LogWeights.of(logs)
    np.testing.assert_allclose(found.log_mean, logsumexp(logs, axis=-1) - np.log(5), rtol=1e-13)
    np.testing.assert_allclose(found.shares, softmax(logs, axis=-1), rtol=1e-12)


def test_shares_are_the_derivative_of_the_log_mean():
    logs, step = np.array([0.3, -1.2, 2.0]), 1e-6
    for k, unit in enumerate(np.eye(3)):
        by_differences = (LogWeights.of(logs + step * unit).log_mean - LogWeights.of(logs - step * unit).log_mean) / 2
        np.testing.assert_allclose(by_differences / step, LogWeights.of(logs).shares[k], rtol=1e-8)


def test_values_of_repeated_rows_add_up():
    """Catches assignment where a trace was drawn twice, and columns of another row of the result."""
    rng = np.random.default_rng(1)
    rows, values = rng.integers(4, size=(2, 3, 6)), rng.normal(size=(2, 3, 6))
    expected = np.zeros((2, 3, 4))
    for i, j, k in np.ndindex(rows.shape):
        expected[i, j, rows[i, j, k]] += values[i, j, k]
    np.testing.assert_allclose(scatter(rows, values, 4), expected, atol=1e-14)


def test_groups_are_disjoint_in_file_order_and_the_rest_is_left_out():
    pair = toy_pair(further=True, enumerated=True)
    assert grouped_draws(pair, 3).tolist() == [[[0, 2], [0, 3], [1, 2]]]
    assert grouped_draws(pair, 5).shape == (0, 5, 2)
    assert grouped_prior(pair, 2).tolist() == [[[6, 9], [7, 10]]]
