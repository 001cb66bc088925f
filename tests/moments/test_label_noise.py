"""Flipped labels: every moment against the definition on all labellings, and against samples with flips drawn."""

from dataclasses import fields, replace
from typing import Literal

import numpy as np
import pytest

from bvpo_analysis import mixing
from bvpo_analysis.estimators import EmptyTrace, Marginal, Trace
from bvpo_analysis.moments import Moments, enumerated_moments, flip_labels, population_moments
from bvpo_analysis.objectives import DPO, IPO

NAMES = [f.name for f in fields(Moments) if f.name not in ("n", "bias_noise")]


def laws_of(by_hand, objective, prompts=5, seed=0):
    rng = np.random.default_rng(seed)
    estimators = Trace(objective), EmptyTrace(objective), Marginal(objective)
    pairs = [by_hand.pair(rng, 3) for _ in range(prompts)]
    vectors = [rng.normal(size=(p.size, 4)) + rng.normal(size=4) for p in pairs]
    scores = by_hand.scores(pairs, vectors, *estimators)
    return enumerated_moments(scores, *estimators), [
        by_hand.law(p, v, *estimators) for p, v in zip(pairs, vectors, strict=True)
    ]


@pytest.mark.parametrize("objective", [DPO(1.5), IPO(0.4)], ids=["dpo", "ipo"])
@pytest.mark.parametrize("answers", ["own", "copied"])
def test_every_moment_over_all_labellings(objective, answers, by_hand):
    """Catches a lost (1 - q^2), labels shared where they are independent, and a target that is flipped too.

    With p = 1/4 the labellings of a prompt are four equally likely cases (sixteen with labels of their own).
    """
    clean, laws = laws_of(by_hand, objective)
    signs = (-1.0, 1.0, 1.0, 1.0)
    cases = [(s, s) for s in signs] if answers == "copied" else [(s, r) for s in signs for r in signs]
    flipped = [replace(law, t=s * law.t, e=r * law.e) for law in laws for s, r in cases]
    truth, found = by_hand.moments(flipped), flip_labels(clean, 0.25, empty_answers=answers)
    for name in NAMES:
        assert getattr(found, name)[0] == pytest.approx(truth[name], rel=1e-10, abs=1e-11), name


def test_a_flipped_pair_is_the_negative_gradient(by_hand):
    """Catches a loss for which the formulas do not hold: swapping the sides of a pair at the reference."""
    pair = by_hand.pair(np.random.default_rng(1), 3)
    for objective in (DPO(0.7), IPO(0.3)):
        swapped = replace(pair, draws=pair.draws[:, ::-1], empty=pair.empty[::-1])
        for estimator in (Trace(objective), EmptyTrace(objective)):
            np.testing.assert_allclose(estimator.coefficients(swapped), -estimator.coefficients(pair), rtol=1e-12)


def test_without_noise_nothing_changes(by_hand):
    """Catches a formula that is not the identity at p = 0."""
    clean, _ = laws_of(by_hand, DPO(1.5))
    answers: Literal["own", "copied"]
    for answers in ("own", "copied"):
        found = flip_labels(clean, 0.0, empty_answers=answers)
        for name in NAMES:
            np.testing.assert_allclose(getattr(found, name), getattr(clean, name), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("answers", ["own", "copied"])
def test_estimates_with_flips_drawn_average_to_the_transformed_moments(answers, by_hand):
    """Catches formulas that hold for exact moments only: flips of sampled pairs, 250 samples within 4.5 SE."""
    rng, objective = np.random.default_rng(2), DPO(2.0)
    trace, empty = Trace(objective), EmptyTrace(objective)
    clean, laws = laws_of(by_hand, objective, seed=3)
    truth = flip_labels(clean, 0.2, empty_answers=answers)
    full = [by_hand.pair(np.random.default_rng(0), 3)]  # draws only; gradients come from the laws
    found = {name: [] for name in ("var_t", "var_e", "cov_te", "var_diff")}
    for _ in range(250):
        pairs, vectors = [], []
        for i in rng.integers(len(laws), size=12):
            law = laws[i]
            s = -1.0 if rng.random() < 0.2 else 1.0
            r = s if answers == "copied" else (-1.0 if rng.random() < 0.2 else 1.0)
            rows = rng.choice(len(law.p), size=2, p=law.p)
            # Scores whose estimators are the flipped gradients: g = s(rejected) - s(chosen) at beta = 2.
            scores = np.zeros((6, law.t.shape[1]))
            scores[[2, 3]] = s * law.t[rows]
            scores[5] = r * law.e
            base = full[0]
            pairs.append(
                by_hand.sampled(
                    replace(
                        base,
                        log_prob=np.full(6, -3.0),
                        log_prob_ref=np.full(6, -3.0),
                        log_prob_answer=np.full(6, -1.5),
                        tokens=np.full(6, 5),
                        tokens_answer=np.full(6, 3),
                        length=np.full(6, 5),
                        empty=np.array([4, 5]),
                    ),
                    np.array([[0, 2], [1, 3]]),
                )
            )
            vectors.append(scores)
        m = population_moments(by_hand.scores(pairs, vectors, trace, empty), trace, empty)
        for name in found:
            found[name].append(getattr(m, name)[0])
    for name, values in found.items():
        true, se = getattr(truth, name)[0], np.std(values, ddof=1) / np.sqrt(len(values))
        assert 4.5 * se < 0.2 * (truth.var_t[0] + truth.var_e[0])
        assert abs(np.mean(values) - true) < 4.5 * se, name


def test_noise_pulls_the_weight_towards_the_less_biased(by_hand):
    """Catches an alpha that ignores the labels: replicates pass through, and the error grows with p."""
    rng = np.random.default_rng(4)
    trace, empty = Trace(DPO(2.0)), EmptyTrace(DPO(2.0))
    pairs, vectors = [], []
    for _ in range(30):
        pair = by_hand.pair(rng, 3)
        pairs.append(by_hand.sampled(pair, np.stack([rng.choice(side, 4) for side in pair.support], axis=1)))
        vectors.append(rng.normal(size=(pair.size, 5)) + np.arange(pair.size)[:, None])
    clean = population_moments(by_hand.scores(pairs, vectors, trace, empty), trace, empty)
    errors = []
    for p in (0.0, 0.1, 0.2, 0.3):
        noisy = flip_labels(clean, p, empty_answers="own")
        alpha = mixing.optimal_alpha(noisy.population(16)).estimate
        assert alpha.ci_low <= alpha.value <= alpha.ci_high
        assert alpha.n == 30
        errors.append(mixing.error(noisy.population(16), 1.0).value)
    assert np.all(np.diff(errors) > 0)


def test_refusals(by_hand):
    """Catches p beyond 1/2, and moments off the reference."""
    clean, _ = laws_of(by_hand, DPO(1.5))
    with pytest.raises(ValueError, match="between 0 and 1/2"):
        flip_labels(clean, 0.6, empty_answers="own")
    with pytest.raises(ValueError, match="not a change of sign"):  # its g_t is no longer unbiased
        flip_labels(flip_labels(clean, 0.1, empty_answers="own"), 0.1, empty_answers="own")
