"""Paper figures redraw from their committed results, to the same numbers that are committed beside them."""

import importlib.util
import json
from pathlib import Path

import pandas as pd
import pytest

from bvpo_analysis.lrm.loading import load_model

FOLDER = Path(__file__).parents[1] / "paper_figures"
SCRIPTS = sorted(FOLDER.glob("fig_*.py"))


def load(script):
    spec = importlib.util.spec_from_file_location(script.stem, script)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_there_are_figures():
    assert SCRIPTS


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.stem)
def test_figure_draws_its_committed_table(script):
    module = load(script)
    _, table = module.draw(json.loads(module.RESULTS.read_text(encoding="utf-8")))
    committed = pd.read_csv(FOLDER / f"{script.stem.removeprefix('fig_')}.csv")
    pd.testing.assert_frame_equal(table.reset_index(drop=True), committed, check_exact=False, rtol=1e-12)


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.stem)
def test_results_belong_to_the_shipped_model(script):
    results = json.loads(load(script).RESULTS.read_text(encoding="utf-8"))
    assert results["model"] == load_model().fingerprint


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.stem)
def test_a_missing_input_fails_by_name(script, monkeypatch, capsys, tmp_path):
    module = load(script)
    monkeypatch.setattr(module, "RESULTS", tmp_path / "results.json")
    assert module.main() == 2
    assert "results.json is missing" in capsys.readouterr().out
