"""The jackknifed K-trace marginal gradient: bias of order K^-2 by enumeration, and the formula by hand."""

import numpy as np
import pytest

from bvpo_analysis.estimators import JackknifeMarginal, KMarginal, MultiTrace
from bvpo_analysis.objectives import DPO, IPO, SimPO
from bvpo_analysis.testing import toy_pair

LOSSES = (DPO(1.5), IPO(0.8))


@pytest.mark.parametrize("loss", LOSSES, ids=repr)
def test_the_bias_is_of_second_order(off_reference, loss):
    """Catches K and K - 1 exchanged, and one side left out at a time, which leaves a term of order 1/K (G72)."""
    for prompt in off_reference:
        mu = prompt.target(loss)
        sizes = (4, 8, 16)
        plain, corrected = (
            np.array([np.linalg.norm(prompt.from_draws(kind(loss, k), k, ordered=False).mean - mu) for k in sizes])
            for kind in (KMarginal, JackknifeMarginal)
        )
        # Order 1/K halves, order 1/K^2 quarters; the next order is still visible at these K.
        assert 1.8 < plain[1] / plain[2] < 2.3
        assert 3.5 < corrected[1] / corrected[2] < 5.0
        assert (corrected < 0.35 * plain).all()


def test_at_the_reference_nothing_is_corrected(at_reference):
    """Catches weights that do not add up to those of the mean."""
    for prompt in at_reference:
        groups, p = prompt.groups(2)
        pair, scores = prompt.pair(groups.reshape(-1, 2).tolist())
        c = JackknifeMarginal(LOSSES[0], 2).coefficients(pair)
        np.testing.assert_allclose(c, MultiTrace(LOSSES[0], 2).coefficients(pair), rtol=1e-11, atol=1e-14)
        np.testing.assert_allclose(p @ c @ scores, prompt.target(LOSSES[0]), atol=1e-11 * np.abs(scores).max())


@pytest.mark.parametrize("loss", LOSSES, ids=repr)
def test_the_formula_by_hand(off_reference, loss):
    """Catches a left-out draw that stays in, and a mean over the wrong axis."""
    draws = [(0, 1), (1, 1), (0, 0)]
    pair, _ = off_reference[0].pair(draws)
    whole = KMarginal(loss, 3).coefficients(pair)[0]
    left = []
    for i in range(3):
        others, _ = off_reference[0].pair([d for j, d in enumerate(draws) if j != i])
        left.append(KMarginal(loss, 2).coefficients(others)[0])
    expected = 3 * whole - 2 * np.mean(left, axis=0)
    np.testing.assert_allclose(JackknifeMarginal(loss, 3).coefficients(pair)[0], expected, rtol=1e-11, atol=1e-13)


def test_what_it_refuses():
    with pytest.raises(ValueError, match="traces must be at least 2 to leave one out, got 1"):
        JackknifeMarginal(DPO(), 1)
    with pytest.raises(ValueError, match="the simpo loss depends on log pi"):
        JackknifeMarginal(SimPO(), 2)
    with pytest.raises(ValueError, match="'toy' has 2 trace draws, 3 are needed"):
        JackknifeMarginal(DPO(), 3).coefficients(toy_pair())
