"""A short run, the path to its end, and a checkpoint that loads like any other model."""

import json

import numpy as np
import pytest
import torch

from bvpo_analysis.errors import InputError, StudyError
from bvpo_analysis.exact import shipped_traces
from bvpo_analysis.lrm.loading import load_model
from bvpo_analysis.objectives import DPO
from bvpo_analysis.off_reference.checkpoints import (
    ShortRun,
    between,
    displacement,
    save_checkpoint,
    train_briefly,
)
from bvpo_analysis.preferences.shipped import shipped_pairs
from bvpo_analysis.report.__main__ import main
from bvpo_analysis.scores import plan_pair, sequence_log_probs
from bvpo_analysis.scores.choice import score_engine
from bvpo_analysis.study import Study

QUICK = ShortRun(steps=3, batch_size=4)


@pytest.fixture(scope="module")
def reference():
    return load_model()


@pytest.fixture(scope="module")
def pairs():
    return shipped_pairs("style", limit=8)


@pytest.fixture(scope="module")
def trained(reference, pairs):
    return train_briefly(reference, pairs, DPO(0.1), QUICK)


def margins(model, reference, pairs):
    plans = [plan_pair(reference.assembler, pair, traces=1) for pair in pairs]
    sequences = [plan.sequences[row] for plan in plans for row in plan.draws[0]]
    current, ref = (torch.stack(sequence_log_probs(m.model, sequences)).sum(0) for m in (model, reference))
    return -(current - ref).reshape(-1, 2).diff().flatten()


def test_a_run_is_seeded_and_learns(reference, pairs, trained):
    again = train_briefly(reference, pairs, DPO(0.1), QUICK)
    assert again.fingerprint == trained.fingerprint
    other = train_briefly(reference, pairs, DPO(0.1), ShortRun(steps=3, batch_size=4, seed=1))
    assert other.fingerprint != trained.fingerprint
    assert margins(trained, reference, pairs).mean() > 0.05
    assert not trained.model.training
    assert not any(p.requires_grad for p in trained.model.parameters())
    assert load_model().fingerprint == reference.fingerprint  # the start was copied


def test_the_path_begins_at_the_reference_and_ends_at_the_checkpoint(reference, trained):
    assert between(reference, trained, 0.0).fingerprint == reference.fingerprint
    assert between(reference, trained, 1.0).fingerprint == trained.fingerprint
    names = score_engine("auto", reference.model, None).names
    whole, half = (displacement(reference, end, names) for end in (trained, between(reference, trained, 0.5)))
    # Weights are rounded to float32, which is coarse beside a small displacement.
    assert np.linalg.norm(half - whole / 2) < 1e-4 * np.linalg.norm(whole)
    assert len(whole) == sum(p.numel() for p in reference.model.parameters())
    with pytest.raises(ValueError, match="finite"):
        between(reference, trained, float("nan"))


def test_columns_of_the_displacement_are_those_of_the_scores(reference, trained, pairs):
    """log pi moves by <s, t d> to first order: a wrong order of parameters would show."""
    engine = score_engine("auto", reference.model, None)
    plan = plan_pair(reference.assembler, pairs[0], traces=1)
    rows = engine.buffer(len(plan.sequences))
    engine.fill(plan.sequences, rows)
    d, share = displacement(reference, trained, engine.names), 1 / 64
    moved = between(reference, trained, share)
    change = sum(sequence_log_probs(moved.model, plan.sequences)) - sum(
        sequence_log_probs(reference.model, plan.sequences)
    )
    predicted = share * (rows.double() @ torch.from_numpy(d))
    np.testing.assert_allclose(change, predicted, rtol=0.05, atol=2e-4)
    assert change.abs().max() > 2e-3


def test_a_saved_checkpoint_gives_the_same_numbers(tmp_path, reference, trained, pairs):
    save_checkpoint(trained, tmp_path / "checkpoint")
    loaded = load_model(tmp_path / "checkpoint")
    assert loaded.fingerprint == trained.fingerprint
    studies = [
        Study.from_pairs(model, pairs[:2], enumerate_traces=shipped_traces, reference=reference)
        for model in (trained, loaded)
    ]
    first, second = (study.whole for study in studies)
    for name in ("bias_t_sq", "bias_e_sq", "var_t", "trace_var", "target_sq"):
        np.testing.assert_array_equal(getattr(first, name), getattr(second, name))
    assert first.bias_t_sq[0] > 0


def test_a_report_of_a_checkpoint_against_the_model_in_the_box(tmp_path, trained, capsys, monkeypatch):
    monkeypatch.setattr("bvpo_analysis.report.build.write_figures", lambda *_: None)
    save_checkpoint(trained, tmp_path / "checkpoint")
    options = ["--model", str(tmp_path / "checkpoint"), "--ref-model", "box", "--regime", "style", "--limit", "4"]
    assert main([*options, "--traces", "exact", "--output-dir", str(tmp_path / "run")]) == 0
    capsys.readouterr()
    results = json.loads((tmp_path / "run" / "results.json").read_text())
    assert results["model"]["fingerprint"] == trained.fingerprint
    assert results["model"]["reference_fingerprint"] == load_model().fingerprint
    assert results["moments"]["bias_t_sq"]["value"] > 0
    assert not any("another policy" in alert["text"] for alert in results["alerts"])
    # One trace per answer does not identify the target there, and the refusal says what does.
    assert main([*options, "--traces", "1", "--output-dir", str(tmp_path / "none")]) == 2
    assert "use --traces exact" in capsys.readouterr().err
    assert not (tmp_path / "none").exists()
    assert main([*options, "--traces", "2", "--output-dir", str(tmp_path / "sampled")]) == 0
    sampled = json.loads((tmp_path / "sampled" / "results.json").read_text())
    assert sampled["moments"]["bias_t_sq"]["se"] > 0
    texts = [alert["text"] for alert in sampled["alerts"]]
    assert any("with bias O(1/K^2); other estimators are compared at the reference only" in text for text in texts)
    page = (tmp_path / "sampled" / "report.md").read_text()
    assert "At the reference no estimate of the marginal gradient is needed" not in page


def test_bad_runs_are_refused(reference, pairs):
    with pytest.raises(ValueError, match="must be positive"):
        ShortRun(steps=0)
    with pytest.raises(InputError, match="a batch takes 16 pairs, there are 8"):
        train_briefly(reference, pairs, DPO(0.1))
    with pytest.raises(StudyError, match="smaller learning rate"):
        train_briefly(reference, pairs, DPO(0.1), ShortRun(steps=3, batch_size=4, learning_rate=1e30))
