"""Weights in Adam's metric: committed rows belong to the model in the box, and the command gives rows of their kind."""

import json

import pytest

from bvpo_analysis.preferences.shipped import shipped_pairs
from bvpo_analysis.report.adam import BATCH, adam_section, main, measure, measured_adam
from bvpo_analysis.sgd.measured import measured_smoothness
from bvpo_analysis.study import Study


def test_the_committed_rows_are_of_this_model_and_its_smoothness(lrm):
    """Catches a table that was not measured again after the model or the smoothness changed."""
    for row in measured_adam():
        assert row["model"] == lrm.fingerprint
        assert row["batch_size"] == BATCH
        smoothness = measured_smoothness(row["regime"])["Adam"].smoothness
        for rate in row["rates"]:
            assert rate["kappa"] == pytest.approx(rate["learning_rate"] * smoothness)
            assert rate["kappa"] <= 1
        weights = [rate["alpha"]["estimate"]["value"] for rate in row["rates"]]
        assert weights == sorted(weights, reverse=True)  # larger steps, less weight on the noisy gradient


def test_the_section_shows_one_regime_or_all():
    assert [row[0] for row in adam_section("valid").tables[0].rows] == ["valid"]
    assert len(adam_section(None).tables[0].rows) == 3


@pytest.mark.slow
def test_the_command_measures_what_a_study_measures(lrm, tmp_path, capsys):
    """The Euclidean column against a study of the same pairs. Catches a metric that is applied to both."""
    row = measure("style", 8)
    study = Study.from_pairs(lrm, shipped_pairs("style", limit=8), traces=4)
    assert row["alpha_euclidean"]["estimate"]["value"] == pytest.approx(
        study.optimal_alpha(batch_size=BATCH).estimate.value
    )
    assert row["alpha"]["estimate"]["value"] != pytest.approx(row["alpha_euclidean"]["estimate"]["value"], rel=1e-6)
    assert set(row) == set(measured_adam("style")[0])
    capsys.readouterr()
    assert main(["--pairs", "2", "--output", str(tmp_path / "x.json")]) == 2
    assert capsys.readouterr().err == "error: --pairs must be at least 4, got 2\n"
    assert not (tmp_path / "x.json").exists()
    json.dumps(row, allow_nan=False)
