"""Tables from made-up runs: the right rows, the right signs, empty cells where nothing is known."""

import numpy as np
import pandas as pd
import pytest

from bvpo_analysis.evaluation import clustered_mean
from bvpo_analysis.records import Estimate
from bvpo_analysis.training_study import summaries
from bvpo_analysis.training_study.arms import WEIGHTS
from bvpo_analysis.training_study.predictions import Prediction
from bvpo_analysis.training_study.tables import build_tables, head_to_head, length_controlled

LOSSES = dict(zip(WEIGHTS, (0.66, 0.62, 0.60, 0.61, 0.65), strict=True))


@pytest.fixture
def tables(made_up):
    """Weight 0.5 is best by the loss, and larger weights win more."""
    runs = [
        made_up(f"alpha={a:g}", seed, loss=LOSSES[a], won=0.25 + a / 2, alpha=a) for seed in range(3) for a in WEIGHTS
    ]
    runs.append(made_up("4 traces", 0, group="method", loss=0.55))
    reference = {"style": {"final": {mode: {"right": [1.0] * 4 + [0.0] * 4} for mode in ("thinking", "empty")}}}
    alpha = Estimate(0.45, 0.05, 0.35, 0.55, 64, "fieller-jackknife")
    predicted = [
        Prediction("style", "sgd", "enumerated", "mse", 1.0, 16, alpha, (5.0, 3.0, 1.0, 2.0, 4.0)),
        Prediction("style", "sgd", "enumerated", "cosine", 1.0, 16, alpha, (5.0, 4.0, 3.0, 2.0, 1.0)),
    ]
    return build_tables(reference, runs, predicted)


def row(table, **fixed):
    for name, value in fixed.items():
        table = table[table[name] == value]
    assert len(table) == 1
    return table.iloc[0]


def test_rankings_compare_prediction_and_outcome(tables):
    """Catches an outcome that is ranked the wrong way round: losses fall, win rates rise."""
    found = tables["rankings"]
    exact = row(found, criterion="mse", outcome="marginal_loss")
    assert (exact["predicted_best"], exact["realised_best"], exact["best_in_seeds"]) == (0.5, 0.5, 3)
    assert exact["spearman"] == 1.0
    assert exact["price"] == 0.0
    wins = row(found, criterion="cosine", outcome="win_rate_thinking")
    assert (wins["spearman"], wins["realised_best"]) == (1.0, 1.0)
    price = row(found, criterion="mse", outcome="win_rate_thinking")
    assert price["price"] == pytest.approx(0.25)


def test_win_rates_stand_against_dpo_of_the_same_seeds(tables):
    found = row(tables["win_rates"], arm="alpha=0.5", mode="thinking")
    assert found["win_rate"] == pytest.approx(0.5)
    assert found["minus_dpo"] == pytest.approx(-0.25)
    assert found["win_rate_se_prompts"] == pytest.approx(np.std([1, 0] * 4, ddof=1) / np.sqrt(8))
    assert found["seeds"] == 3
    assert row(tables["win_rates"], arm="alpha=1", mode="empty")["minus_dpo"] == 0.0


def test_accuracy_has_a_before_and_an_after(tables):
    found = row(tables["accuracy"], arm="alpha=0", mode="thinking")
    assert (found["before"], found["after"]) == (0.5, pytest.approx(0.9))
    assert found["change"] == pytest.approx(0.4)


def test_training_has_losses_against_dpo_and_empty_cells(tables):
    found = row(tables["training"], arm="4 traces")
    assert found["marginal_loss_minus_dpo"] == pytest.approx(-0.1)
    assert pd.isna(found["marginal_loss_low"])  # one run has no interval
    assert pd.isna(found["gradient_variance"])
    assert found["gap"] == pytest.approx(0.1)
    assert row(tables["training"], arm="alpha=0")["gap"] == pytest.approx(0.21)  # its own loss, mean over seeds


def test_curves_count_the_tokens_read(tables):
    found = tables["curves"]
    assert row(found, arm="alpha=1", step=10)["tokens"] == 1000
    assert row(found, arm="alpha=1", step=0)["marginal_loss"] == pytest.approx(0.7)


def test_equal_tokens_read_dearer_arms_earlier(made_up):
    """Catches a budget in steps: an arm that reads twice as much per step is taken half-way."""
    dear = made_up("alpha=0.5", 0, loss=0.5)
    for entry in dear["log"]:
        entry["tokens"] = 200
    found = build_tables({}, [made_up("alpha=1", 0, loss=0.6), dear], [])["equal_tokens"]
    half = row(found, arm="alpha=0.5")
    assert (half["budget"], half["tokens"]) == (2000, 4000)
    assert (half["equal_data"], half["equal_tokens"]) == (0.5, pytest.approx(0.65))
    assert half["minus_dpo"] == pytest.approx(0.05)


def test_a_win_rate_at_equal_length_counts_prompts(made_up):
    """Catches the error over prompts divided by the number of runs, whose prompts are the same."""
    runs = [made_up(seed=s) for s in range(5)]
    found = length_controlled(summaries.arm_runs(runs)[0], "thinking")
    assert found.se == pytest.approx(0.1)
    assert found.ci_high - found.value == pytest.approx(0.196, abs=1e-4)


def test_policies_are_compared_on_answers_of_other_streams(made_up):
    """Catches answers of one random stream compared with each other, and an unreadable answer that wins or is lost."""
    one, two = (
        summaries.arm_runs([made_up(name, s, won=won) for s in range(3)])[0] for name, won in (("a", 0.5), ("b", 0))
    )
    # Rewards (0.5, unreadable) against (0, unreadable): the two left pairs are won and lost.
    assert head_to_head(one, two, "empty").value == 0.5
    assert head_to_head(one, one, "empty") is None
    same = summaries.arm_runs([made_up("d", s, won=0.5) for s in range(3)])[0]
    tied = head_to_head(one, same, "empty")  # every prompt ties, which eight prompts do not make certain
    assert (tied.value, tied.ci_high) == (0.5, pytest.approx(1.5 - 0.05 ** (1 / 8)))
    better = [
        made_up("c", s, final={"empty": {"rewards": [[2.0, 1.0]] * 8}, "thinking": {"rewards": [[1.0, None]] * 8}})
        for s in range(3)
    ]
    assert head_to_head(summaries.arm_runs(better)[0], two, "empty").value == 1.0


def test_every_arm_is_compared_with_dpo_trained_in_the_same_way(made_up):
    """Catches a larger rate that passes for a better weight."""
    runs = [
        made_up(name, s, loss=loss)
        for s in range(3)
        for name, loss in (("alpha=1", 0.6), ("rate x 3, alpha=1", 0.5), ("rate x 3, alpha=0.5", 0.55))
    ]
    found = row(build_tables({}, runs, [])["training"], arm="rate x 3, alpha=0.5")
    assert found["marginal_loss_minus_dpo"] == pytest.approx(0.05)


def test_an_arm_and_a_baseline_without_a_common_seed(made_up):
    """Catches tables that stop where an arm and its baseline failed in different runs."""
    found = build_tables({}, [made_up("alpha=1", 0), made_up("alpha=0.5", 1)], [])["win_rates"]
    assert pd.isna(row(found, arm="alpha=0.5", mode="empty")["minus_dpo"])
    alone = build_tables({}, [made_up("alpha=0.5", 1)], [])["training"]
    assert pd.isna(row(alone, arm="alpha=0.5")["reached_by"])


def test_arms_that_failed_in_every_run_are_told_of(made_up):
    failed = [{"arm": "gone", "group": "loss", "regime": "style", "seed": s, "failed": "not finite"} for s in range(2)]
    found = row(build_tables({}, [made_up(), *failed], [])["training"], arm="gone")
    assert (found["seeds"], found["failed"]) == (0, 2)


def test_an_interval_is_over_runs_and_prompts():
    """Catches an interval that knows one source of chance only: two crossed ones, 400 small studies."""
    rng = np.random.default_rng(0)
    held, narrow = 0, 0
    for _ in range(400):
        values = rng.normal(size=(5, 1)) * 0.02 + rng.normal(size=(1, 60)) * 0.4 + rng.normal(size=(5, 60)) * 0.1
        runs, prompts = clustered_mean(values.mean(axis=1)), clustered_mean(values.mean(axis=0))
        found = summaries.both(runs, prompts)
        held += found.ci_low <= 0 <= found.ci_high
        narrow += runs.ci_low <= 0 <= runs.ci_high
    assert 0.93 <= held / 400 <= 0.985
    assert narrow / 400 < 0.8
