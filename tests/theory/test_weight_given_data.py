"""The weight of one prompt given its data, on single inputs: worked values, degenerate cases, bad input."""

import numpy as np
import pytest

from bvpo_analysis.theory.weight_given_data import conditional_weight, conditional_weight_from_squares


def test_worked_values():
    """Catches ddof and the weight of one trace taken for that of the mean: g = 0, 2, 4 and g_e = 5."""
    found = conditional_weight([[0.0], [2.0], [4.0]], [5.0])
    assert float(found.var_t) == 4.0
    assert float(found.distance) == pytest.approx((25 + 9 + 1) / 3)
    assert float(found.bias_e_sq) == pytest.approx(9 - 4 / 3)
    assert float(found.single) == pytest.approx(1 - 4 / (35 / 3))
    assert float(found.average) == pytest.approx(1 - 4 / 3 / 9)


def test_squares_and_vectors_agree():
    """Catches a norm for its square, and a mean over coordinates."""
    rng = np.random.default_rng(0)
    traces, empty = rng.normal(size=(5, 4, 3)), rng.normal(size=(5, 3))
    mean = traces.mean(axis=1)
    squares = ((traces - mean[:, None]) ** 2).sum(axis=-1), ((empty - mean) ** 2).sum(axis=-1)
    one, other = conditional_weight(traces, empty), conditional_weight_from_squares(*squares)
    for name in ("var_t", "distance", "bias_e_sq", "single", "average"):
        np.testing.assert_allclose(getattr(one, name), getattr(other, name), rtol=1e-12)
    np.testing.assert_allclose(one.distance, ((traces - empty[:, None]) ** 2).sum(axis=-1).mean(axis=-1), rtol=1e-12)


def test_a_squared_bias_may_be_negative():
    """Catches clipping: with g_e at the mean of the traces the estimate is -Vhat/K."""
    assert float(conditional_weight([[0.0], [2.0]], [1.0]).bias_e_sq) == -1.0


def test_degenerate_prompts():
    """Catches 0/0, and a weight of one half where only the gap vanishes."""
    same = conditional_weight(np.full((3, 2), 0.1), np.full(2, 0.1))
    assert (float(same.single), float(same.average)) == (0.5, 0.5)
    no_gap = conditional_weight([[0.0], [2.0]], [1.0])
    assert (float(no_gap.single), float(no_gap.average)) == (-1.0, -np.inf)
    no_noise = conditional_weight([[1.0], [1.0]], [3.0])
    assert (float(no_noise.single), float(no_noise.average)) == (1.0, 1.0)
    mixed = conditional_weight_from_squares([[0.0, 0.0], [1.0, 1.0]], [0.0, 1.0])
    np.testing.assert_allclose(mixed.single, [0.5, 0.0])


def test_gradients_of_equal_traces_are_degenerate_up_to_rounding():
    """Catches a ratio of rounding errors: K equal vectors whose mean differs from them in the last bit."""
    g = np.array([0.1, 0.7, 1e3 / 3])
    same = conditional_weight(np.tile(g, (3, 1)), g * (1 + 2e-16))
    assert (float(same.single), float(same.average)) == (0.5, 0.5)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: conditional_weight([[1.0]], [1.0]), "K >= 2"),
        (lambda: conditional_weight([[1.0], [2.0]], [1.0, 2.0]), "gradients_t and gradient_e must have shapes"),
        (lambda: conditional_weight([1.0, 2.0], [1.0, 2.0]), "gradients_t and gradient_e must have shapes"),
        (lambda: conditional_weight([[1.0], [2.0]], 1.0), "gradients_t and gradient_e must have shapes"),
        (lambda: conditional_weight([[1.0], [np.nan]], [1.0]), "gradients_t must be finite"),
        (lambda: conditional_weight([[1.0], [2.0]], [np.inf]), "gradient_e must be finite"),
        (lambda: conditional_weight_from_squares([1.0, -1.0], 1.0), "deviations_sq must not be negative"),
        (lambda: conditional_weight_from_squares([1.0, 1.0], -1.0), "gap_sq must not be negative"),
        (lambda: conditional_weight_from_squares(1.0, 1.0), "K >= 2"),
    ],
)
def test_bad_input_raises(call, message):
    """Catches a weight from input that identifies none."""
    with pytest.raises(ValueError, match=message):
        call()
