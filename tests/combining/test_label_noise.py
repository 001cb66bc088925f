"""The table of flipped labels: what grows, what does not, and that a row is the law of the transformed moments."""

import numpy as np
import pytest

from bvpo_analysis import mixing
from bvpo_analysis.combining import label_noise_effects
from bvpo_analysis.estimators import EmptyTrace, Trace
from bvpo_analysis.moments import flip_labels, population_moments
from bvpo_analysis.objectives import DPO

TRACE, EMPTY = Trace(DPO(2.0)), EmptyTrace(DPO(2.0))


def moments_of(by_hand, traces, n=40, seed=0):
    rng = np.random.default_rng(seed)
    pairs, vectors = [], []
    for _ in range(n):
        pair = by_hand.pair(rng, 3)
        pairs.append(by_hand.sampled(pair, np.stack([rng.choice(side, traces) for side in pair.support], axis=1)))
        vectors.append(rng.normal(size=(pair.size, 5)) + np.arange(pair.size)[:, None])
    return population_moments(by_hand.scores(pairs, vectors, TRACE, EMPTY), TRACE, EMPTY)


@pytest.mark.parametrize("answers", ["own", "copied"])
def test_rows_are_those_of_the_transformed_moments(answers, by_hand):
    """Catches a batch size, a kappa or a kind of answers that is not passed on."""
    clean = moments_of(by_hand, 2)
    rows = label_noise_effects(clean, 8, empty_answers=answers, kappa=0.5, probabilities=(0.0, 0.25))
    for row, p in zip(rows, (0.0, 0.25), strict=True):
        law = flip_labels(clean, p, empty_answers=answers).population(8)
        assert row.probability == p
        assert row.alpha == mixing.optimal_alpha(law, 0.5)
        assert row.error == mixing.error(law, 1.0, 0.5)
        assert row.variance.value == pytest.approx(law.var_t[0])
        assert row.data_variance.value == pytest.approx(law.var_t_data[0])
        assert row.bias_sq.value == pytest.approx(4 * p**2 * clean.target_sq[0])
        assert row.error_best.value <= row.error.value + 1e-12
    assert rows[0].bias_sq.value == 0.0


def test_noise_raises_data_variance_and_error(by_hand):
    """Catches the trace part growing with the labels, and a clean target that shrinks with q."""
    clean = moments_of(by_hand, 2)
    rows = label_noise_effects(clean, 8, empty_answers="own")
    assert [row.probability for row in rows] == [0.0, 0.1, 0.2, 0.3]
    for name in ("data_variance", "bias_sq", "error"):
        assert np.all(np.diff([getattr(row, name).value for row in rows]) > 0), name
    parts = [row.variance.value - row.data_variance.value for row in rows]
    np.testing.assert_allclose(parts, clean.trace_var[0] / 8, rtol=1e-9)


def test_one_trace_leaves_the_data_part_open(by_hand):
    """Catches a data variance made up from one trace per answer."""
    rows = label_noise_effects(moments_of(by_hand, 1), 8, empty_answers="own")
    assert all(row.data_variance is None for row in rows)
    assert all(np.isfinite(row.variance.value) for row in rows)
