"""The data shift and the trace shift of the empty-trace gradient: their definition, sum and intervals."""

from dataclasses import replace

import numpy as np
import pytest

from bvpo_analysis.estimators import EmptyTrace, EmptyVariant, Trace, mean_coefficients
from bvpo_analysis.moments import joint_moments, split_bias
from bvpo_analysis.objectives import DPO

LOSS = DPO(2.0)
NAMES = {"trace": Trace(LOSS), "empty": EmptyTrace(LOSS), "empty_shared": EmptyVariant(LOSS, "empty_shared")}


def sample(by_hand, n=12, seed=0, copied=False):
    """Pairs with two more sequences each, the empty trace with the answers of the pair."""
    rng = np.random.default_rng(seed)
    pairs, vectors = [], []
    for _ in range(n):
        pair = by_hand.pair(rng, 2)
        m = pair.size
        longer = {
            name: np.concatenate([getattr(pair, name), getattr(pair, name)[-2:]])
            for name in ("log_prob", "log_prob_ref", "log_prob_answer", "tokens", "tokens_answer", "length")
        }
        shared = pair.empty if copied else np.array([m, m + 1])
        full = replace(pair, **longer, variants={"empty_shared": shared})
        pairs.append(by_hand.sampled(full, np.stack([rng.choice(side, 2) for side in pair.support], axis=1)))
        vectors.append(rng.normal(size=(m + 2, 5)) + rng.normal(size=5) + np.outer(np.arange(m + 2), np.arange(5)) / 9)
    return by_hand.scores(pairs, vectors, *NAMES.values()), pairs, vectors


def pair_sum(a, b):
    gram = a @ b.T
    return (gram.sum() - np.trace(gram)) / (len(a) * (len(a) - 1))


def test_the_parts_are_their_definitions_and_add_up(by_hand):
    """Catches the shifts exchanged, an inner product of the wrong sign, and one counted once."""
    scores, pairs, vectors = sample(by_hand)
    t, e, s = (
        np.stack([mean_coefficients(f, p) @ v for p, v in zip(pairs, vectors, strict=True)]) for f in NAMES.values()
    )
    split = split_bias(joint_moments(scores, NAMES, target="trace", unbiased=()))
    assert split.data_sq.value == pytest.approx(pair_sum(e - s, e - s), rel=1e-9)
    assert split.trace_sq.value == pytest.approx(pair_sum(s - t, s - t), rel=1e-9)
    assert split.inner.value == pytest.approx(pair_sum(e - s, s - t) / 2 + pair_sum(s - t, e - s) / 2, rel=1e-9)
    assert split.total.value == pytest.approx(pair_sum(e - t, e - t), rel=1e-9)
    assert split.total.value == pytest.approx(split.data_sq.value + split.trace_sq.value + 2 * split.inner.value)
    for part in (split.total, split.data_sq, split.trace_sq, split.inner):
        assert part.ci_low < part.value < part.ci_high
        assert part.n == 12


def test_copied_answers_have_no_data_shift(by_hand):
    """Catches noise reported as a data shift where both estimators are the same."""
    scores, _, _ = sample(by_hand, copied=True)
    split = split_bias(joint_moments(scores, NAMES, target="trace", unbiased=()))
    assert split.data_sq.value == pytest.approx(0.0, abs=1e-12)
    assert split.data_sq.ci_high == pytest.approx(0.0, abs=1e-12)
    assert split.trace_sq.value == pytest.approx(split.total.value, rel=1e-9)


def test_refusals(by_hand):
    """Catches a split of nothing, and of an estimator that is not there."""
    scores, _, _ = sample(by_hand)
    joint = joint_moments(scores, NAMES, target="trace", unbiased=("empty_shared",))
    with pytest.raises(ValueError, match="'empty_shared' is declared unbiased"):
        split_bias(joint)
    with pytest.raises(ValueError, match="unknown estimator 'short'"):
        split_bias(joint, shared="short")
