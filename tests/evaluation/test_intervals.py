"""Means over prompts: the intervals cover, prompts are the unit, and differences are paired."""

import numpy as np
import pytest

from bvpo_analysis.evaluation.intervals import clustered_mean, paired_difference, per_prompt


def test_the_paired_interval_covers_and_is_shorter_than_an_unpaired_one():
    """Catches a wrong degree of freedom, a missing root, and a difference that forgets the pairing.

    2 000 samples of 20 prompts: the share of intervals that hold the truth has a standard error of 0.005 at 95 %, so
    that 0.93 to 0.97 is four of them on either side.
    """
    rng = np.random.default_rng(0)
    held, narrower, samples = 0, 0, 2000
    for _ in range(samples):
        prompt = rng.normal(size=(20, 1))
        a = prompt + 0.3 + 0.5 * rng.normal(size=(20, 4))
        b = prompt + 0.5 * rng.normal(size=(20, 4))
        found = paired_difference(a, b)
        apart = np.hypot(clustered_mean(a).se, clustered_mean(b).se)
        held += found.ci_low <= 0.3 <= found.ci_high
        narrower += found.se < apart
    assert 0.93 < held / samples < 0.97
    assert narrower == samples


def test_answers_to_one_prompt_do_not_count_as_prompts():
    """Catches n K in place of n: copies of an answer bring no information."""
    values = np.random.default_rng(1).normal(size=12)
    once, copied = clustered_mean(values), clustered_mean(np.repeat(values[:, None], 5, axis=1))
    assert copied.se == pytest.approx(once.se)
    assert once.se == pytest.approx(values.std(ddof=1) / np.sqrt(12))
    assert copied.n == 12


def test_missing_answers_are_left_out_and_missing_prompts_too():
    values = np.array([[1.0, np.nan], [np.nan, np.nan], [0.0, 1.0], [1.0, 1.0], [0.0, 0.0]])
    assert per_prompt(values)[2] == 0.5
    found = clustered_mean(values)
    assert (found.n, found.value) == (4, 0.625)


def test_bounded_quantities_have_bounded_intervals():
    found = clustered_mean([1.0, 1.0, 0.0], low=0.0, high=1.0)
    assert (found.ci_low, found.ci_high) == (0.0, 1.0)
    assert clustered_mean([1.0, 0.0]).method == "none"


@pytest.mark.parametrize("values", [[], np.zeros((2, 2, 2)), 3.0])
def test_other_shapes_are_refused(values):
    with pytest.raises(ValueError, match="shape"):
        clustered_mean(values)


def test_what_cannot_be_compared_is_refused():
    with pytest.raises(ValueError, match="same prompts"):
        paired_difference([1.0, 2.0], [1.0])
    with pytest.raises(ValueError, match="no prompt"):
        clustered_mean([np.nan, np.nan])
