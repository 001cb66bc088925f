"""Rankings of weights: which way outcomes go, and how sure an order is."""

import numpy as np
import pytest

from bvpo_analysis.training_study.rankings import agreement, outcome, rank_correlation, resampling_weights

LEVELS = np.array([0.3, 0.1, 0.0, 0.1, 0.3])


def test_outcomes_are_better_low(made_up):
    assert outcome("win_rate_empty")(made_up(won=0.75)).mean() == -0.75
    assert outcome("marginal_loss")(made_up(loss=0.6)).mean() == pytest.approx(0.6)


def test_rank_correlation_handles_ties_and_constants():
    assert rank_correlation([1, 2, 2, 4], [1, 2, 2, 4]) == 1.0
    assert rank_correlation([1, 2, 3], [3, 2, 1]) == -1.0
    assert np.isnan(rank_correlation([1, 1, 1], [1, 2, 3]))
    assert rank_correlation([1, 2, 3, 4], [1, 2, 4, 3]) == pytest.approx(0.8)


def test_an_order_that_pairs_do_not_tell_is_not_sure():
    """Catches a bootstrap over seeds only: they agree, because all of them are judged by the same few pairs."""
    rng = np.random.default_rng(1)
    pairs = 0.5 * rng.normal(size=(5, 1, 8)) + 0.001 * rng.normal(size=(5, 5, 8))
    found = agreement(LEVELS, 0.05 * LEVELS[:, None, None] + pairs)
    assert found.best_in_seeds == 5
    assert found.best_share < 0.9
    assert found.correlation.ci_high - found.correlation.ci_low > 0.5
    clear = agreement(LEVELS, 10 * LEVELS[:, None, None] + pairs)
    assert clear.best == 2
    assert clear.best_share > 0.99
    assert clear.correlation.ci_low > 0.9


def test_an_order_that_seeds_do_not_tell_is_not_sure():
    """Catches a bootstrap over pairs only."""
    rng = np.random.default_rng(3)
    seeds = 0.5 * rng.normal(size=(5, 5, 1)) + 0.001 * rng.normal(size=(5, 5, 300))
    found = agreement(LEVELS, 0.05 * LEVELS[:, None, None] + seeds)
    assert found.correlation.ci_high - found.correlation.ci_low > 0.3
    assert found.best_share < 0.9


def test_the_best_weight_is_as_sure_as_it_is_often_right():
    """200 studies of three weights, two of them equally good: the share of draws is no surer than the truth.

    Where the share exceeds .95, the weight named best is one of the two good ones in nearly all studies.
    """
    rng = np.random.default_rng(5)
    sure, right = 0, 0
    for _ in range(200):
        noise = 0.3 * rng.normal(size=(3, 5, 1)) + rng.normal(size=(3, 1, 30)) + 0.5 * rng.normal(size=(3, 5, 30))
        found = agreement([1.0, 2.0, 3.0], np.array([0.0, 0.0, 0.3])[:, None, None] + noise, draws=200)
        sure += found.best_share > 0.95
        right += found.best_share > 0.95 and found.best != 2
    assert 3 <= sure < 60
    assert right >= 0.9 * sure


@pytest.mark.parametrize(
    ("seeds", "levels"), [(5, (0, 0, 0, 0, 0)), (3, (0, 0, 0, 0, 0)), (5, (0.4, 0.2, 0, 0.1, 0.3))]
)
def test_intervals_hold_the_price(seeds, levels):
    """200 studies with noise of runs and pairs: catches percentiles of a largest gap, which never go back to zero."""
    rng = np.random.default_rng(7)
    levels, scores = np.array(levels, dtype=float), [1.0, 2.0, 3.0, 4.0, 5.0]
    price, cost = 0, levels[0] - levels.min()
    for _ in range(200):
        noise = (
            0.2 * rng.normal(size=(5, seeds, 1)) + 0.5 * rng.normal(size=(5, 1, 32)) + rng.normal(size=(5, seeds, 32))
        )
        found = agreement(scores, levels[:, None, None] + noise, draws=300)
        price += found.price.ci_low <= cost <= found.price.ci_high
    assert price / 200 >= 0.93


def test_weights_of_the_bootstrap_give_the_width_of_a_t_interval():
    """Catches five seeds that are drawn again with the spread of four fifths of them."""
    rng = np.random.default_rng(0)
    values = rng.normal(size=5)
    drawn = resampling_weights(rng, 5, 20000) @ values
    assert drawn.mean() == pytest.approx(values.mean(), abs=0.02)
    half = 2.776 * values.std(ddof=1) / np.sqrt(5)
    assert 1.96 * drawn.std() == pytest.approx(half, rel=0.03)


def test_ties_and_few_seeds():
    """Catches noise of rounding that ranks what ties, and an interval from two runs."""
    same = np.full((3, 4, 10), 0.1)
    found = agreement([1.0, 2.0, 3.0], same)
    assert found.correlation is None
    two = agreement([1.0, 2.0, 3.0], np.arange(3.0)[:, None, None] + np.zeros((3, 2, 10)))
    assert (two.correlation.value, np.isnan(two.correlation.ci_low), np.isnan(two.best_share)) == (1.0, True, True)
