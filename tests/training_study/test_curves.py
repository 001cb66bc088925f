"""Held-out loss along training: levels, steps to them, and their intervals over runs and pairs."""

import numpy as np
import pytest

from bvpo_analysis.training_study.curves import level_of, reached, steps_to
from bvpo_analysis.training_study.summaries import arm_runs


def runs(made_up, *, pairs, seeds=5):
    """Losses that fall by 0.01 a step for every pair, from where each begins."""
    return [
        made_up(
            seed=s,
            curve=[
                {"step": k, "marginal_loss": [0.7 + p - 0.01 * k for p in pairs], "trace_loss": [0], "empty_loss": [0]}
                for k in (0, 30, 60)
            ],
        )
        for s in range(seeds)
    ]


def test_steps_to_a_level_are_linear_between_measurements():
    curve = {0: 0.7, 10: 0.65, 20: 0.6}
    assert reached(curve, 0.625) == pytest.approx(15.0)
    assert reached(curve, 0.8) == 0.0
    assert reached(curve, 0.5) is None


def test_steps_of_the_baseline_are_sure_and_those_of_others_are_not(made_up):
    """Catches a level that stays when a pair is left out: without any pair the baseline reaches its own at step 30."""
    arm = arm_runs(runs(made_up, pairs=(-0.02, 0.0, 0.01, 0.03)))[0]
    level = level_of(arm)
    assert level[0] == pytest.approx(0.405)
    steps, count = steps_to(arm, level)
    assert (steps.value, steps.ci_low, steps.ci_high, count) == (
        pytest.approx(30),
        pytest.approx(30),
        pytest.approx(30),
        5,
    )
    fixed, _ = steps_to(arm, np.full(5, 0.405))
    assert fixed.ci_low < 28
    assert steps_to(arm, np.full(5, 0.0)) == (None, 0)
    assert level_of(arm_runs([made_up()])[0]) is None  # nothing was measured at step 30


def test_a_level_reached_by_some_pairs_only_has_no_interval(made_up):
    arm = arm_runs(runs(made_up, pairs=(-0.2, 0.0, 0.1, 0.1)))[0]
    found, count = steps_to(arm, np.full(5, 0.11))
    assert count == 5
    assert np.isnan(found.ci_low)
