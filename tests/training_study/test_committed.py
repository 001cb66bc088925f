"""What is committed: of the model in the box, with the rows that reports need, and consistent with itself."""

import json

import pytest

from bvpo_analysis.errors import InputError
from bvpo_analysis.lrm.loading import load_model
from bvpo_analysis.preferences.shipped import REGIMES
from bvpo_analysis.training_study.arms import WEIGHTS
from bvpo_analysis.training_study.committed import (
    FOLDER,
    TABLES,
    studied_regimes,
    study_estimate,
    study_rows,
)
from bvpo_analysis.training_study.predictions import regime_predictions
from bvpo_analysis.training_study.run import Size, training_pairs


def test_it_belongs_to_the_model_in_the_box_and_to_the_default_size():
    facts = json.loads((FOLDER / "study.json").read_text(encoding="utf-8"))
    assert facts["model"] == load_model().fingerprint
    assert facts["size"] == json.loads(json.dumps(Size().__dict__))
    assert studied_regimes() == REGIMES


@pytest.mark.parametrize("name", TABLES)
def test_every_table_is_there(name):
    assert study_rows(name)


@pytest.mark.parametrize("regime", REGIMES)
def test_the_sweep_is_whole(regime):
    rows = study_rows("sweep", regime=regime, optimiser="sgd")
    assert tuple(row["alpha"] for row in rows) == WEIGHTS
    for row in rows:
        loss, won = study_estimate(row, "marginal_loss"), study_estimate(row, "win_rate_thinking")
        assert row["seeds"] >= 3
        assert loss.ci_low <= loss.value <= loss.ci_high
        assert 0 <= won.ci_low <= won.value <= won.ci_high <= 1


@pytest.mark.slow
def test_predictions_are_made_again():
    """Catches tables that are older than the moments they were predicted from."""
    pairs = training_pairs("correct", Size())
    again = regime_predictions(load_model(), pairs, "correct", adamw=False)
    rows = study_rows("predictions", regime="correct", optimiser="sgd")
    assert [(row["source"], row["criterion"]) for row in rows] == [(p.source, p.criterion) for p in again]
    for row, p in zip(rows, again, strict=True):
        assert row["alpha"] == pytest.approx(p.alpha.value, rel=1e-3)
        assert row["alpha_low"] == pytest.approx(p.alpha.ci_low, rel=1e-2)


@pytest.mark.parametrize("regime", REGIMES)
def test_dpo_stands_against_itself(regime):
    row = study_rows("win_rates", regime=regime, arm="alpha=1", mode="thinking")[0]
    assert row["minus_dpo"] == 0
    assert study_rows("training", regime=regime, arm="alpha=1")[0]["marginal_loss_minus_dpo"] == 0


def test_an_unknown_table_is_refused():
    with pytest.raises(InputError, match="no table 'sweeps'"):
        study_rows("sweeps")
    with pytest.raises(InputError, match="make train-study"):
        study_rows("sweep", FOLDER / "nowhere")
