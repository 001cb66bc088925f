"""Randomised levels: they telescope exactly, their second moments fall fourfold, and rows carry the level's chance."""

import itertools
import math

import numpy as np
import pytest

from bvpo_analysis.estimators import KMarginal, MultiTrace, RandomisedMarginal
from bvpo_analysis.estimators.randomised_marginal import antithetic_difference, level_probabilities
from bvpo_analysis.objectives import DPO, IPO, SimPO
from bvpo_analysis.testing import toy_pair

LOSSES = (DPO(1.5), IPO(0.8))


@pytest.mark.parametrize("traces", [2, 4])
@pytest.mark.parametrize("loss", LOSSES, ids=repr)
def test_the_levels_telescope_to_the_marginal_of_the_largest(off_reference, loss, traces):
    """Catches a difference without its probability, a level law that is not normalised, a lost half (G48)."""
    for prompt in off_reference:
        randomised = prompt.from_draws(RandomisedMarginal(loss, traces), traces)
        largest = prompt.from_draws(KMarginal(loss, traces), traces, ordered=False)
        assert randomised.p.sum() == pytest.approx(1.0, abs=1e-12)
        np.testing.assert_allclose(randomised.mean, largest.mean, atol=1e-12 * np.abs(randomised.g).max())
        single = prompt.from_draws(KMarginal(loss, 1), 1)
        assert np.linalg.norm(largest.mean - single.mean) > 1e-4 * np.linalg.norm(largest.mean)


def halves(prompt, size):
    """All ways to draw two halves of ``size`` trace pairs each, irrespective of order within a half."""
    pairs, p = prompt.trace_pairs()
    listed = list(itertools.combinations_with_replacement(range(len(pairs)), size))
    chance = []
    for half in listed:
        times = [half.count(i) for i in range(len(pairs))]
        ways = math.factorial(size) / math.prod(map(math.factorial, times))
        chance.append(ways * np.prod(p**times))
    index = np.array([(*a, *b) for a in listed for b in listed])
    return np.array(pairs)[index], np.outer(chance, chance).ravel()


def test_second_moments_of_the_levels_fall_fourfold(off_reference):
    """Catches differences of independent estimates, whose second moments fall twofold only: infinite variance."""
    for prompt in off_reference[:1]:
        moments, plain = [], []
        for size in (4, 8):
            groups, p = halves(prompt, size)
            pair, scores = prompt.pair(groups.reshape(-1, 2).tolist())
            rows = np.array(pair.draws).reshape(groups.shape)
            assert p.sum() == pytest.approx(1.0, abs=1e-12)
            delta = antithetic_difference(LOSSES[0], pair, rows) @ scores
            moments.append(p @ (delta**2).sum(axis=1))
            whole, half = KMarginal(LOSSES[0], 2 * size), KMarginal(LOSSES[0], size)
            first = half.coefficients(pair)[::2]
            plain.append(p @ (((whole.coefficients(pair) - first) @ scores) ** 2).sum(axis=1))
        assert 3.2 < moments[0] / moments[1] < 5.5
        assert 1.6 < plain[0] / plain[1] < 2.6
        assert moments[1] < 0.2 * plain[1]


def test_at_the_reference_differences_vanish_and_the_draws_used_are_averaged(at_reference):
    """Catches a single draw taken where all that were paid for could be averaged (G49)."""
    draws = [(0, 1), (2, 1), (1, 0), (2, 2)]
    pair, _ = at_reference[0].pair(draws)
    c = RandomisedMarginal(LOSSES[0], 4).coefficients(pair)
    np.testing.assert_allclose(c[:1], MultiTrace(LOSSES[0], 2).coefficients(pair)[:1], atol=1e-14)
    np.testing.assert_allclose(c[1:], MultiTrace(LOSSES[0], 4).coefficients(pair), atol=1e-14)


def test_rows_are_groups_by_level_with_the_chances_of_the_levels(off_reference):
    """Catches levels in the wrong order and groups that share draws."""
    pair, _ = off_reference[0].pair([(0, 0), (0, 1), (1, 0), (1, 1), (1, 0), (0, 0), (1, 1), (0, 1)])
    estimator = RandomisedMarginal(LOSSES[0], 4)
    weights = estimator.weights(pair)
    np.testing.assert_allclose(weights, np.tile(level_probabilities(2), 2) / 2, rtol=1e-14)
    assert weights[0] / weights[1] == pytest.approx(2**1.5)
    second, _ = off_reference[0].pair([(1, 0), (0, 0), (1, 1), (0, 1)])
    np.testing.assert_array_equal(estimator.coefficients(pair)[2:], estimator.coefficients(second))


def test_what_it_refuses():
    for traces in (0, 1, 3, 6):
        with pytest.raises(ValueError, match="traces must be a power of two, at least 2"):
            RandomisedMarginal(DPO(), traces)
    with pytest.raises(ValueError, match="the simpo loss depends on log pi"):
        RandomisedMarginal(SimPO(), 2)
    with pytest.raises(ValueError, match="'toy' has 2 trace draws, 4 are needed"):
        RandomisedMarginal(DPO(), 4).coefficients(toy_pair())
