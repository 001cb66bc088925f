"""The benchmark scripts run and print their table; what they measure is checked on a tiny model."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

BENCHMARKS = Path(__file__).resolve().parents[1] / "benchmarks"


def run(output, *arguments):
    command = [sys.executable, str(BENCHMARKS / "run.py"), "--tiny", "--rounds", "2", "--output", str(output)]
    environment = {**os.environ, "PYTHONPATH": str(BENCHMARKS.parent)}
    done = subprocess.run([*command, *arguments], capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_scoring_and_the_study_give_their_rows(tmp_path):
    """Catches a method that is timed on other work than the floor: every engine's gradients are the loop's."""
    printed = run(tmp_path, "--only", "scoring", "--only", "study")
    assert printed.rstrip().endswith((tmp_path / "table.md").read_text().rstrip())
    scoring = pd.read_csv(tmp_path / "scoring.csv").set_index("method")
    assert {"plain", "hooks", "hooks + full Gram", "vmap", "loop"} <= set(scoring.index)
    assert scoring.loc["plain", "ratio"] == 1
    assert (scoring.error.dropna() < 1e-5).all()
    assert (scoring.low <= scoring.ratio).all()
    assert (scoring.ratio <= scoring.high).all()
    study = pd.read_csv(tmp_path / "study.csv").set_index("quantity")
    settings = next(q for q in study.index if q.startswith("autograd, 110 settings"))  # K = 1 and 2 of two traces
    one = sum(study.loc[f"autograd, one setting, K={k}", "seconds"] for k in (1, 2))
    assert study.loc[settings, "seconds"] == pytest.approx(55 * one, rel=1e-3)
    for line in ("| scores, hooks | tiny | 6 | 8 |", "| study, 4 pairs, M = 2 | tiny | 24 | 8 |"):
        assert line in printed
    about = json.loads((tmp_path / "machine.json").read_text())
    assert set(about) == {"date", "cpu", "cores", "threads", "python", "torch", "transformers"}
    assert about["threads"] == 1


@pytest.mark.slow
def test_every_section_runs(tmp_path):
    printed = run(tmp_path)
    for name in ("scoring.csv", "study.csv", "memory.csv", "growth.csv", "prefix.csv", "growth.png"):
        assert (tmp_path / name).stat().st_size > 0
    assert "peak memory, study" in printed
    assert "fitted exponents: N " in printed
    assert "would save at most" in printed


def test_autograd_for_one_setting_is_the_mean_gradient_of_the_products():
    """The slow route of the study's comparison measures the same thing: its mean squared norm is the moments'."""
    code = """
import torch
from models import make_model
from whole_study import RandomAssembler, autograd_for_one_setting, products_of_pairs, random_pairs
from bvpo_analysis.estimators import EmptyTrace, Trace, mix
from bvpo_analysis.objectives import DPO
from bvpo_analysis.scores import plan_pair
model = make_model("tiny")
scores = products_of_pairs(model, 3, 2, 8)
plans = [plan_pair(RandomAssembler(40, 8), pair, traces=2) for pair in random_pairs(3, 2)]
mean, square = autograd_for_one_setting(model, plans, 1, alpha=0.3, beta=0.1)
mixed = mix(Trace(DPO(0.1)), EmptyTrace(DPO(0.1)), 0.3)
found = 0.0
for pair in scores.pairs:
    c = mixed.coefficients(pair.log_probs)
    found += float((c @ pair.gram.sum(axis=0) * c).sum(axis=1).mean()) / 3
assert abs(found - square) < 1e-4 * square, (found, square)
"""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(BENCHMARKS), str(BENCHMARKS.parent)])}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 0, done.stderr
