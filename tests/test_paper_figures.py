"""Paper figures redraw from their committed results, to the numbers committed beside them, and show what is claimed."""

import importlib.util
import json
import re
from functools import cache
from pathlib import Path

import pandas as pd
import pytest

from bvpo_analysis import figures
from bvpo_analysis.lrm.loading import load_model
from bvpo_analysis.training_study.committed import study_rows

ROOT = Path(__file__).parents[1]
FOLDER = ROOT / "paper_figures"
SCRIPTS = sorted(FOLDER.glob("fig_*.py"))
README = (FOLDER / "README.md").read_text(encoding="utf-8")
ROWS = {name: line for line in README.splitlines() for name in re.findall(r"^\| `(\w+)` \|", line)}


def load(script):
    spec = importlib.util.spec_from_file_location(script.stem, script)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@cache
def results(name):
    return json.loads((FOLDER / "results" / f"{name}.json").read_text(encoding="utf-8"))


def test_there_are_figures_and_all_are_redrawn():
    assert SCRIPTS
    assert load(FOLDER / "redraw.py").names() == [script.stem for script in SCRIPTS]


def test_the_table_lists_every_figure_with_its_files():
    """Catches a figure that nobody finds, and a row whose figure is gone."""
    assert set(ROWS) == {script.stem.removeprefix("fig_") for script in SCRIPTS}
    for name in ROWS:
        assert all((FOLDER / f"{name}.{suffix}").exists() for suffix in ("pdf", "png", "csv")), name


@pytest.mark.parametrize("name", ROWS)
def test_files_are_fit_for_print(name):
    """TrueType fonts inside the PDF, 300 dots per inch, and no wider than a page of text."""
    pdf, png = ((FOLDER / f"{name}.{suffix}").read_bytes() for suffix in ("pdf", "png"))
    assert b"/FontFile2" in pdf
    assert b"/Type3" not in pdf
    assert int.from_bytes(png[16:20]) == round(300 * figures.TEXT_WIDTH)
    assert b"pHYs" + round(300 / 0.0254).to_bytes(4) in png


@pytest.mark.parametrize("name", ROWS)
def test_every_slow_half_exists_and_figure_data_runs_it(name):
    """Catches a command in the table that no longer exists, or that ``make figure-data`` forgot."""
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    parts = re.search(r"^figure-data:.*\n\t.*for part in ([\w ]+);", makefile, flags=re.M)[1].split()
    commands = re.findall(r"`([^`]+)`", ROWS[name].rsplit("|", 2)[1])
    assert commands
    for command in commands:
        if command.startswith("make "):
            assert re.search(rf"^{command.removeprefix('make ')}:", makefile, flags=re.M), command
        else:
            assert (ROOT / command.removeprefix("python ")).exists(), command
            assert Path(command).stem.removeprefix("compute_") in parts


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.stem)
def test_figure_draws_its_committed_table(script):
    module = load(script)
    _, table = module.draw(json.loads(module.RESULTS.read_text(encoding="utf-8")))
    committed = pd.read_csv(FOLDER / f"{script.stem.removeprefix('fig_')}.csv")
    pd.testing.assert_frame_equal(table.reset_index(drop=True), committed, check_exact=False, rtol=1e-12)


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.stem)
def test_results_belong_to_the_shipped_model(script):
    found = json.loads(load(script).RESULTS.read_text(encoding="utf-8"))
    assert found["model"] == load_model().fingerprint


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.stem)
def test_a_missing_input_fails_by_name(script, monkeypatch, capsys, tmp_path):
    module = load(script)
    monkeypatch.setattr(module, "RESULTS", tmp_path / "results.json")
    assert module.main() == 2
    assert "results.json is missing" in capsys.readouterr().out


@pytest.mark.parametrize("regime", ["style", "valid", "correct"])
class TestClaims:
    """What the table says of the figures is what their results say."""

    def test_training(self, regime):
        rows = study_rows("sweep", regime=regime, optimiser="sgd")
        losses = [row["marginal_loss"] for row in rows]
        predicted = {
            row["criterion"]: row["alpha"]
            for row in study_rows("predictions", regime=regime, optimiser="sgd", source="enumerated")
        }
        assert predicted["mse"] < 0.5
        if regime == "style":
            assert max(losses) - min(losses) < 0.01
        else:
            assert losses == sorted(losses, reverse=True)
            empty = study_rows("training", regime=regime, arm="alpha=0")[0]
            assert (empty["marginal_loss_minus_dpo_low"] > 0) == (regime == "correct")

    def test_training_curves(self, regime):
        for row in study_rows("alpha_path", regime=regime, arm="alpha=0.5"):
            assert row["var_c:0.5"] < 0.5 * row["var_c:1"]
        half = study_rows("training", regime=regime, arm="alpha=0.5")[0]
        assert not half["marginal_loss_minus_dpo_high"] < 0
        quiet = study_rows("training", regime=regime, arm="4 traces")[0]
        assert (quiet["marginal_loss_minus_dpo_high"] < 0) == (regime == "style")

    def test_regimes(self, regime):
        rows = results("mse_alpha")["regimes"][regime]["targets"]
        values = [row["alpha"]["estimate"]["value"] for row in rows]
        assert max(values) == values[-1]
        assert rows[-1]["name"].startswith("alpha_star.per_prompt")
        for row in rows:
            ends = row["alpha"]["estimate"]
            assert abs(ends["value"] - row["enumerated"]) < ends["ci_high"] - ends["ci_low"]

    def test_alpha_map(self, regime):
        found = {}
        for row in results("studies")["regimes"][regime]["alpha_map"]:
            found.setdefault(row["batch_size"] / row["kappa"], []).append(row["recommended"])
        assert len(found) == 21
        for values in found.values():
            assert max(values) - min(values) < 1e-6

    def test_equal_budget(self, regime):
        rows = results("studies")["regimes"][regime]["budgets"]
        traces = [row for row in rows if row["series"] == "g_t, more traces" and row["traces"] > 1]
        assert all(row["low"] > 1 for row in traces)
        mixes = [row for row in rows if "mix" in row["series"] and row["prompts"] == 16 and row["traces"] == 1]
        assert len(mixes) == 3
        assert all(row["high"] < 1 for row in mixes)

    def test_layers(self, regime):
        groups = [row["alpha"] for row in results("studies")["regimes"][regime]["groups"] if row["name"] != "all"]
        ends = [
            (a["estimate"]["ci_low"], a["estimate"]["ci_high"]) for a in groups if a["confidence_set"] == "interval"
        ]
        assert max(low for low, _ in ends) > min(high for _, high in ends)

    def test_log_probs(self, regime):
        rows = {(r["quantity"], r["mode"], r["part"]): r for r in results("studies")["regimes"][regime]["log_probs"]}
        thinking, not_thinking = (rows["log_prob", mode, "total"] for mode in ("thinking", "no thinking"))
        assert thinking["value"] > not_thinking["high"]
        assert (thinking["low"] > not_thinking["high"]) == (regime != "valid")
        assert rows["tokens", "thinking", "traces"]["high"] == 0
        lengths = [rows["tokens", mode, "total"] for mode in ("thinking", "no thinking")]
        assert max(row["low"] for row in lengths) < min(row["high"] for row in lengths)

    def test_variances(self, regime):
        rows = {row["key"]: row for row in results("estimators")["regimes"][regime]}
        mixes = [rows.pop(key) for key in ("half", "best")]
        assert max(row["high"] for row in mixes) < min(row["low"] for row in rows.values())
        assert rows["mean_of_4"]["trace"] == pytest.approx(rows["trace"]["trace"] / 4, rel=1e-6)

    def test_geometry(self, regime):
        for panel in results("population")["geometry"][regime].values():
            assert min(panel["rms"], key=panel["rms"].get) == "g_c"

    def test_sampling(self, regime):
        few, many = (row for row in results("population")["sampling"] if row["regime"] == regime)
        assert few["prompts"] < many["prompts"]
        assert many["sd"] < few["sd"]
        for row in (few, many):
            assert sum(row["counts"]) + row["below"] + row["above"] == row["replications"]
        covered = pd.read_csv(FOLDER / "sampling.csv").query("panel == 'coverage' and regime == @regime")
        assert (covered["value"] + 3 * covered["se"] > 0.95).all()
