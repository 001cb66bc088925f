"""Which estimators have independent realisations: E<g_1, g_2> = |E g|^2 by enumeration of everything two rest on."""

import itertools
from dataclasses import replace

import numpy as np
import pytest

from bvpo_analysis.estimators import (
    ControlledPriorTrace,
    CoupledTrace,
    IndependentPriorTraces,
    JackknifeMarginal,
    KMarginal,
    MultiTrace,
    Pooled,
    PriorTrace,
    RandomisedMarginal,
    ShortTrace,
    Trace,
)
from bvpo_analysis.objectives import DPO

LOSS = DPO(1.5)


def dependence(prompt, estimator, draws: int, prior: int, first: int = 0, second: int = 1) -> tuple[float, float]:
    """(E<g_1, g_2> - <E g_1, E g_2>, the size of the products) for two rows of one pair, over all its traces."""
    pairs, p = prompt.trace_pairs()
    law = prompt.model.prior(prompt.ref)
    product, means, size = 0.0, [0.0, 0.0], 0.0
    for index in itertools.product(range(len(pairs)), repeat=draws):
        for pool in itertools.product(range(prompt.traces), repeat=prior):
            pair, scores = prompt.pair([pairs[i] for i in index], pool)
            g = (estimator.coefficients(pair) @ scores)[[first, second]]
            chance = p[list(index)].prod() * law[list(pool)].prod()
            product += chance * float(g[0] @ g[1])
            means = [mean + chance * row for mean, row in zip(means, g, strict=True)]
            size += chance * float((g**2).sum())
    return product - float(means[0] @ means[1]), size


INDEPENDENT = [
    (Trace(LOSS), 2, 0),
    (MultiTrace(LOSS, 2), 4, 0),
    (KMarginal(LOSS, 2), 4, 0),
    (JackknifeMarginal(LOSS, 2), 4, 0),
    (RandomisedMarginal(LOSS, 2), 4, 0),
    (PriorTrace(LOSS), 1, 2),
    (IndependentPriorTraces(LOSS), 1, 4),
    (ControlledPriorTrace(LOSS), 1, 4),
    (Trace(LOSS) - 0.5 * PriorTrace(LOSS), 2, 2),
]
AT_REFERENCE_ONLY = [(Pooled(LOSS, 2), 2, 2), (0.5 * Trace(LOSS) + 0.5 * Pooled(LOSS, 2), 2, 2)]
DEPENDENT = [(CoupledTrace(LOSS, 2), 2, 0), (RandomisedMarginal(LOSS, 4), 4, 0)]


@pytest.mark.parametrize(("estimator", "draws", "prior"), INDEPENDENT, ids=lambda x: repr(x)[:40])
def test_realisations_that_are_said_to_be_independent_are(off_reference, estimator, draws, prior):
    """Catches traces that serve two realisations."""
    assert estimator.independent
    found, size = dependence(off_reference[0], estimator, draws, prior)
    assert abs(found) < 1e-12 * size


@pytest.mark.parametrize(("estimator", "draws", "prior"), AT_REFERENCE_ONLY, ids=lambda x: repr(x)[:40])
def test_pools_are_independent(at_reference, estimator, draws, prior):
    """Catches a pool that all realisations share."""
    assert estimator.independent
    prompt = replace(at_reference[0], model=type(at_reference[0].model)(at_reference[0].model.features[:2]))
    found, size = dependence(prompt, estimator, draws, prior)
    assert abs(found) < 1e-12 * size


@pytest.mark.parametrize(("estimator", "draws", "prior"), DEPENDENT, ids=lambda x: repr(x)[:40])
def test_realisations_that_are_said_to_share_traces_do(off_reference, estimator, draws, prior):
    """Power of the tests above, and a flag that is not needlessly set."""
    assert not estimator.independent
    found, size = dependence(off_reference[0], estimator, draws, prior)
    assert abs(found) > 1e-4 * size


def test_a_sum_with_groups_of_different_sizes_is_not_independent(at_reference):
    """Two groups of two draws beside two pools on draws 0 and 1: the second pool's draw is in the first group."""
    prompt = replace(at_reference[0], model=type(at_reference[0].model)(at_reference[0].model.features[:2]))
    mixed = MultiTrace(LOSS, 2) + Pooled(LOSS, 2)
    assert not mixed.independent
    found, size = dependence(prompt, mixed, 4, 2)
    assert abs(found) > 1e-4 * size
    assert (Trace(LOSS) + Pooled(LOSS, 2)).independent
    assert not (Trace(LOSS) + ShortTrace(LOSS)).independent


def test_means_over_dependent_rows_are_unbiased_all_the_same(off_reference):
    """E|g|^2 over the rows of a group is that of one row drawn by its probability."""
    for estimator, size in ((CoupledTrace(LOSS, 2), 2), (RandomisedMarginal(LOSS, 4), 4)):
        prompt = off_reference[1]
        groups, p = prompt.groups(size)
        pair, scores = prompt.pair(groups.reshape(-1, 2).tolist())
        weights = estimator.weights(pair).reshape(len(p), -1) * len(p)
        squares = ((estimator.coefficients(pair) @ scores) ** 2).sum(axis=1).reshape(weights.shape)
        by_group = np.array([w @ s for w, s in zip(weights, squares, strict=True)])
        by_row = prompt.from_draws(estimator, size)
        assert p @ by_group == pytest.approx(by_row.p @ (by_row.g**2).sum(axis=1), rel=1e-12)
