"""Numbers of an arm: which runs enter, which way differences go, what noise in the weights means."""

import numpy as np
import pytest

from bvpo_analysis.training_study import summaries
from bvpo_analysis.training_study.summaries import arm_runs, held_out


def test_a_difference_pairs_runs_of_the_same_seed(made_up):
    """Catches an unpaired difference: seeds shift both arms alike and leave no spread in the difference."""
    one = arm_runs([made_up("a", s, loss=0.5) for s in (0, 1, 2, 4)])[0]
    two = arm_runs([made_up("b", s, loss=0.6) for s in (0, 1, 2, 3)])[0]
    found = summaries.difference(one, two, held_out("marginal_loss"))
    assert found.n == 3
    assert found.value == pytest.approx(-0.1)
    assert found.se == pytest.approx(0.0, abs=1e-12)
    assert one.over_seeds(lambda run: np.mean(run["held_out"]["marginal_loss"])).se > 1e-3


def test_the_gap_is_held_out_less_trained(made_up):
    """Catches the wrong sign, and an interval that leaves out either set of pairs."""
    held, trained = [0.5, 0.7, 0.6, 0.6], [0.4, 0.6, 0.5, 0.5]
    runs = [made_up(seed=s, held_out={"trace_loss": held}, trained={"trace_loss": trained}) for s in range(3)]
    found = summaries.gap(arm_runs(runs)[0], "trace_loss")
    assert found.value == pytest.approx(0.1)
    assert found.se == pytest.approx(np.sqrt(2) * np.std(held, ddof=1) / 2)
    one = summaries.gap(arm_runs(runs[:1])[0], "trace_loss")
    assert (one.value, np.isnan(one.ci_low)) == (pytest.approx(0.1), True)


def test_roughness_is_the_root_mean_square_change(made_up):
    run = made_up()
    changes = np.diff([entry["loss"] for entry in run["log"]])
    assert summaries.roughness(run) == pytest.approx(np.sqrt(np.mean(changes**2)))


def test_noise_left_in_the_weights_is_told_from_their_mean():
    """2 000 runs around (3, 0): noise of standard deviation 0.5 in each of two directions.

    Catches the noise of the mean counted as signal, which for five runs is a fifth of the noise.
    """
    rng = np.random.default_rng(0)
    signals, noises = [], []
    for _ in range(400):
        sketches = np.array([3.0, 0.0]) + 0.5 * rng.normal(size=(5, 2))
        runs = {s: {"displacement": {"sketch": row.tolist()}} for s, row in enumerate(sketches)}
        signal, noise = summaries.spread(summaries.ArmRuns("style", "a", "sweep", runs, ()))
        signals.append(signal**2)
        noises.append(noise**2)
    assert np.mean(noises) == pytest.approx(0.5, rel=0.1)
    assert np.mean(signals) == pytest.approx(9.0, rel=0.05)


def test_runs_that_failed_are_counted_and_left_out(made_up):
    failed = {"arm": "a", "group": "sweep", "regime": "style", "seed": 2, "failed": "not finite"}
    arm = arm_runs([made_up("a", 0), failed, made_up("a", 1)])[0]
    assert sorted(arm.runs) == [0, 1]
    assert arm.failed == (2,)


def test_policies_that_no_prompt_tells_apart_are_not_known_to_be_equal(made_up):
    """Catches a difference of exactly zero without any width."""
    one, two = (arm_runs([made_up(name, s) for s in range(3)])[0] for name in ("a", "b"))
    found = summaries.share_difference(one, two, summaries.at_end("empty", "won"))
    assert (found.value, found.ci_high) == (0.0, pytest.approx(1 - 0.05 ** (1 / 8)))
    assert summaries.share_difference(one, one, summaries.at_end("empty", "won")).ci_high == 0.0
    other = arm_runs([made_up("c", s, won=0.75) for s in range(3)])[0]
    assert summaries.share_difference(other, one, summaries.at_end("empty", "won")).value == 0.25
