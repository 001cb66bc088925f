"""The grid: what is run, in which order, with which options."""

from collections import Counter

import pytest

from bvpo_analysis.preferences.shipped import REGIMES
from bvpo_analysis.training_study.arms import (
    LEARNING_RATES,
    SECONDARY,
    SEEDS,
    WEIGHTS,
    core_arms,
    full_arms,
    pilot_arms,
    runs_of,
)


def test_the_core_grid_is_the_one_described():
    arms = core_arms()
    assert len({(arm.regime, arm.name) for arm in arms}) == len(arms)
    counts = Counter((arm.group, arm.regime) for arm in arms)
    for regime in REGIMES:
        assert counts["sweep", regime] == len(WEIGHTS) + 1
        assert counts["method", regime] == 4
    assert {regime for group, regime in counts if group not in ("sweep", "method")} == {SECONDARY}
    assert all(arm.seeds == SEEDS for arm in arms if arm.group in ("sweep", "method"))


def test_every_run_is_there_once_and_the_sweep_comes_first():
    arms = (*core_arms(), *pilot_arms())
    runs = [(run.arm.regime, run.arm.name, run.seed) for run in runs_of(arms)]
    assert len(set(runs)) == len(runs) == sum(arm.seeds for arm in arms)
    first = [run.arm.group for run in runs_of(arms)][: 3 * 6 * len(REGIMES)]
    assert set(first) == {"sweep"}


@pytest.mark.parametrize("arm", [*core_arms(), *pilot_arms(), *full_arms()], ids=lambda a: f"{a.regime}-{a.name}")
def test_options_are_those_of_the_trainer(arm):
    """Catches a misspelt option, and a rate that one regime forgets."""
    config = arm.config(3)
    assert (config.regime, config.seed, config.steps) == (arm.regime, 3, 60)
    # Mixed data has two rows for a pair.
    assert config.batch_size == (32 if config.method == "mixed_data" else 16)
    if arm.group == "sweep":
        assert config.lr == LEARNING_RATES[arm.regime]
        assert config.optimiser == "sgd"
    if arm.name in ("alpha=0", "alpha=1"):
        assert config.method == {"alpha=0": "empty", "alpha=1": "dpo"}[arm.name]
    if arm.group == "adamw":
        assert config.optimiser == "adamw"


def test_the_full_grid_has_the_secondary_arms_everywhere():
    arms = full_arms()
    assert len({(arm.regime, arm.name) for arm in arms}) == len(arms)
    assert {(arm.regime, arm.name) for arm in core_arms()} <= {(arm.regime, arm.name) for arm in arms}
    assert {arm.seeds for arm in arms} == {5}
    kappa = next(arm for arm in arms if arm.name == "alpha=kappa").config(0)
    assert kappa.smoothness == "measured"  # without it the rule is that of kappa = 1
    names = {regime: {arm.name for arm in arms if arm.regime == regime} for regime in REGIMES}
    assert names["style"] == names["valid"] == names["correct"]
    rates = {arm.regime: arm.config(0).lr for arm in arms if arm.name == "rate x 3, alpha=1"}
    assert rates == pytest.approx({regime: 3 * LEARNING_RATES[regime] for regime in REGIMES})
