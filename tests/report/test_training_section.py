"""The training section says what its tables say."""

import pytest

from bvpo_analysis.preferences.shipped import REGIMES
from bvpo_analysis.records import Estimate
from bvpo_analysis.report.training_section import training_sections
from bvpo_analysis.report.training_verdict import _compared, _explained, verdict
from bvpo_analysis.training_study.arms import WEIGHTS
from bvpo_analysis.training_study.committed import study_rows


def estimate(value, low, high):
    return Estimate(value, float("nan"), low, high, 5, "jackknife")


@pytest.mark.parametrize("regime", REGIMES)
def test_sections_have_the_sweep_and_its_best_weight(regime):
    sections = training_sections(regime)
    assert [s.anchor for s in sections][:3] == ["training", "training_methods", "training_gradients"]
    sweep = sections[0].tables[0]
    assert tuple(row[0] for row in sweep.rows) == WEIGHTS
    losses = [row[1].value for row in sweep.rows]
    assert losses[sweep.best] == min(losses)
    best = study_rows("rankings", regime=regime, optimiser="sgd", outcome="marginal_loss")[0]["realised_best"]
    assert best == WEIGHTS[sweep.best]
    assert any("the best weight of the sweep" in line for line in verdict(study_rows, regime))


def test_other_data_have_no_training_section():
    assert training_sections("mine") == ()


def test_sentences_follow_the_sign_and_the_interval():
    """Catches a loss that is praised for being higher."""
    lower, unclear = estimate(-0.1, -0.2, -0.05), estimate(-0.1, -0.2, 0.1)
    assert "has a lower held-out loss than DPO" in _compared(lower, "The mix", "held-out loss", low=True)
    assert "has a lower win rate than DPO" in _compared(lower, "The mix", "win rate", low=False)
    assert "is not told from" in _compared(unclear, "The mix", "win rate", low=False)
    one = Estimate.without_interval(-0.1, 1)
    assert "too few runs" in _compared(one, "The mix", "win rate", low=False)


def test_variance_explains_a_gain_only_where_averaging_is_not_told_apart():
    """Catches a control without an effect of its own that is read as one that was shown to have none."""
    lower, unclear, higher = estimate(-0.1, -0.2, -0.05), estimate(-0.1, -0.2, 0.1), estimate(0.1, 0.05, 0.2)
    assert "is not established" in _explained(lower, unclear, unclear, low=True)
    assert "could give the gain" in _explained(lower, lower, unclear, low=True)
    assert "by its bias or by" in _explained(lower, lower, lower, low=True)
    assert "is not told apart" in _explained(unclear, lower, unclear, low=True)
    assert "That the mix raises it is not established" in _explained(lower, lower, lower, low=False)
    assert "Both raise it" in _explained(higher, higher, unclear, low=False)
    assert "raises it by more" in _explained(unclear, higher, higher, low=False)
