"""What a dry run predicts, against what the report then takes."""

import json

import pytest
import torch

from bvpo_analysis.report.__main__ import main
from bvpo_analysis.report.config import ReportConfig
from bvpo_analysis.report.dry_run import report_cost
from bvpo_analysis.scores import passes

OPTIONS = {"limit": 24, "traces": 2, "compare": 0, "params": r"layers\.0|^model\.norm"}


@pytest.fixture(autouse=True)
def _restore_torch(monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    deterministic = torch.are_deterministic_algorithms_enabled()
    yield
    torch.use_deterministic_algorithms(deterministic)


def test_counts_are_those_of_the_report(tmp_path):
    cost = report_cost(ReportConfig(**OPTIONS))
    arguments = [f"--{name}={value}" for name, value in OPTIONS.items()]
    assert main([*arguments, "--output-dir", str(tmp_path / "run")]) == 0
    results = json.loads((tmp_path / "run" / "results.json").read_text())
    assert cost.pairs == results["data"]["pairs"] == 24
    assert cost.sequences == results["cost"]["sequences"]
    assert cost.parameters == results["model"]["parameters"]
    assert cost.tokens_compared == cost.tokens_again == cost.tokens_checked == 0
    assert cost.tokens > results["cost"]["tokens"]  # which counts scored tokens, without the prompts
    assert 0 < cost.scoring_seconds < cost.seconds


def test_what_does_not_fit_and_what_is_compared_is_counted(monkeypatch):
    alone = report_cost(ReportConfig(**OPTIONS))
    compared = report_cost(ReportConfig(**{**OPTIONS, "compare": 16}))
    assert compared.tokens == alone.tokens
    assert compared.tokens_compared > alone.tokens
    assert compared.memory_bytes >= alone.memory_bytes - 2**20
    monkeypatch.setattr(passes, "OWN_BYTES", 0)
    twice = report_cost(ReportConfig(**OPTIONS))
    assert twice.tokens_again == twice.tokens == alone.tokens
    assert f"{twice.tokens} of them twice" in str(twice)


def test_a_large_batch_of_memory_is_predicted():
    """The own vectors of every pair wait in memory: with all parameters, they are what a small run holds most of."""
    small, large = (report_cost(ReportConfig(limit=n, traces=1, compare=0)) for n in (8, 256))
    own = 248 * 2 * large.parameters * 4
    assert large.memory_bytes - small.memory_bytes > 0.8 * own
