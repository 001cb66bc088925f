"""Weights per block on single inputs: worked values, blocks where the estimators coincide, bad input."""

import numpy as np
import pytest

from bvpo_analysis.theory.blocks import blockwise_gain


def test_worked_values():
    """Catches an unweighted mean: (1*0 + 3*1)/4 = 3/4, and 1*(3/4)^2 + 3*(1/4)^2 = 3/4."""
    saved = blockwise_gain([0.0, 1.0], [1.0, 3.0])
    assert (saved.pooled, saved.gain) == (0.75, 0.75)
    np.testing.assert_allclose(saved.shares, [9 / 16, 3 / 16], rtol=1e-15)
    assert not saved.degenerate.any()


def test_equal_weights_save_nothing_at_all():
    """Catches a gain made of rounding."""
    saved = blockwise_gain([0.3, 0.3, 0.3], [0.1, 0.7, 1e9])
    assert saved.gain == 0.0
    assert saved.pooled == 0.3


def test_blocks_where_the_estimators_coincide_do_not_count():
    """Catches the default weight of a degenerate block entering the mean."""
    saved = blockwise_gain([0.2, 0.5, 0.6], [1.0, 0.0, 1.0])
    assert saved.pooled == pytest.approx(0.4, rel=1e-15)
    assert saved.gain == pytest.approx(2 * 0.2**2, rel=1e-12)
    assert saved.shares[1] == 0.0
    np.testing.assert_array_equal(saved.degenerate, [False, True, False])
    nothing = blockwise_gain([0.5, 0.5], [0.0, 0.0])
    assert (nothing.pooled, nothing.gain) == (0.5, 0.0)
    assert nothing.degenerate.all()


def test_large_distances_do_not_overflow():
    """Catches a sum of distances beyond the largest float."""
    saved = blockwise_gain([0.0, 1.0], [1e308, 1e308])
    assert saved.pooled == 0.5
    assert saved.gain == pytest.approx(5e307, rel=1e-12)


@pytest.mark.parametrize(
    ("weights", "distances", "message"),
    [
        ([], [], "weights must not be empty"),
        ([np.nan], [1.0], "weights must be finite"),
        ([0.5], [np.inf], "distances must be finite"),
        ([0.5], [-1.0], "distances must not be negative"),
        (0.5, 1.0, "weights must have one entry per block"),
        ([0.5, 0.5], [1.0], "distances must have shape"),
    ],
)
def test_bad_input_is_named(weights, distances, message):
    """Catches silent broadcasting over blocks, and unbiased (possibly negative) distances."""
    with pytest.raises(ValueError, match=message):
        blockwise_gain(weights, distances)
