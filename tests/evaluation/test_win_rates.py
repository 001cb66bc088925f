"""Win rates: ties count half, a policy draws with itself, and length is controlled for."""

import numpy as np
import pytest
from scipy.special import expit

from bvpo_analysis.evaluation.win_rates import comparisons, length_controlled_win_rate, win_rate


@pytest.mark.parametrize("same_streams", [False, True])
def test_a_policy_wins_half_against_itself(same_streams):
    """Catches a strict inequality on one side: exactly one half, whatever the rewards."""
    rewards = np.random.default_rng(0).integers(0, 3, size=(30, 4)).astype(float)
    rewards[0, 0] = -np.inf
    found = win_rate(rewards, rewards, same_streams=same_streams)
    assert found.value == 0.5
    assert (found.ci_low, found.ci_high) == (0.5, 0.5)


def test_ties_count_half_and_sides_are_not_exchanged():
    assert win_rate([1.0, 1.0, 0.0, 2.0], [0.0, 1.0, 1.0, 0.0]).value == pytest.approx((1 + 0.5 + 0 + 1) / 4)
    first, second = np.random.default_rng(2).integers(0, 4, size=(2, 25, 3)).astype(float)
    assert win_rate(first, second).value + win_rate(second, first).value == pytest.approx(1.0)


def test_answers_of_one_stream_are_not_compared_with_each_other():
    """Catches the estimate of P(A > B) from coupled answers: with A = B + 1 on the same draw it would be one.

    Rewards uniform on 0..9 and A = B + 1: P(A > B) + P(A = B)/2 = (45 + 10)/100 + 9/200 = 0.595 for independent draws.
    """
    rng = np.random.default_rng(3)
    second = rng.integers(0, 10, size=(4000, 2)).astype(float)
    found = win_rate(second + 1, second, same_streams=True)
    assert abs(found.value - 0.595) < 4 * found.se
    assert found.se < 0.01
    assert win_rate(second[:, :1] + 1, second[:, :1]).value == 1.0


def test_the_interval_of_a_win_rate_covers():
    """1 000 samples of 40 prompts with two answers each; three standard errors are 0.02."""
    rng = np.random.default_rng(4)
    strength = np.array([0.2, 1.0, -0.5])
    truth = np.mean([_normal_cdf(s / np.sqrt(2)) for s in strength])
    held = 0
    for _ in range(1000):
        s = rng.choice(strength, size=(40, 1))
        found = win_rate(s + rng.normal(size=(40, 2)), rng.normal(size=(40, 2)))
        held += found.ci_low <= truth <= found.ci_high
    assert 0.93 <= held / 1000 <= 0.97


def _normal_cdf(x):
    from scipy.special import ndtr

    return ndtr(x)


def test_length_control_recovers_a_known_length_effect():
    """Catches a length that is added instead of removed. Wins by sigmoid(0.4 + 1.5 d), with longer answers of the one.

    The value at equal length is sigmoid(0.4) = 0.599; the plain rate is well above it.
    """
    rng = np.random.default_rng(5)
    lengths = rng.normal(12.0, 4.0, size=(6000, 1)), rng.normal(9.0, 4.0, size=(6000, 1))
    longer = lengths[0] - lengths[1]
    d = np.tanh(longer / longer.std())
    first = (rng.random((6000, 1)) < expit(0.4 + 1.5 * d)).astype(float)
    plain = win_rate(first, 0.5 * np.ones_like(first))
    found = length_controlled_win_rate(first, 0.5 * np.ones_like(first), *lengths)
    assert plain.value > expit(0.4) + 0.05
    assert abs(found.value - expit(0.4)) < 4 * found.se
    assert 0.005 < found.se < 0.02
    reverse = length_controlled_win_rate(0.5 * np.ones_like(first), first, *lengths[::-1])
    assert reverse.value == pytest.approx(1 - found.value, abs=1e-6)


def test_length_control_changes_nothing_where_lengths_are_equal_and_one_sided_data_stay_finite():
    first, second = np.random.default_rng(6).integers(0, 3, size=(2, 400, 2)).astype(float)
    lengths = np.ones_like(first)
    plain, found = win_rate(first, second), length_controlled_win_rate(first, second, lengths, lengths)
    assert found.value == pytest.approx(plain.value, abs=2e-3)
    assert found.se == pytest.approx(plain.se, rel=0.02)
    always = length_controlled_win_rate(np.ones((9, 1)), np.zeros((9, 1)), np.ones((9, 1)), np.ones((9, 1)))
    assert 0.8 < always.value < 1.0


def test_what_cannot_be_compared_is_refused():
    with pytest.raises(ValueError, match="same prompts"):
        comparisons(np.zeros((3, 2)), np.zeros((2, 2)))
    with pytest.raises(ValueError, match="not a number"):
        comparisons([np.nan], [1.0])
    with pytest.raises(ValueError, match="two or more"):
        comparisons([1.0], [1.0], same_streams=True)
    with pytest.raises(ValueError, match="shapes of the rewards"):
        length_controlled_win_rate([1.0, 2.0], [1.0, 2.0], [[1.0, 2.0]], [1.0, 2.0])
