"""The command: options, refusals, and a small study from the model to the tables."""

import json

import pandas as pd
import pytest

from bvpo_analysis.errors import InputError
from bvpo_analysis.training_study.__main__ import main
from bvpo_analysis.training_study.arms import core_arms, runs_of
from bvpo_analysis.training_study.run import TINY, Size
from bvpo_analysis.training_study.work import Work, code_fingerprint, results_of, run_key, run_path


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--seeds", "0"], "--seeds and --processes must be at least 1"),
        (["--processes", "0"], "--seeds and --processes must be at least 1"),
        (["--group", "sweeps"], "--group must be one of"),
        (["--tables-only"], "no finished run of this study"),
    ],
)
def test_impossible_options_are_refused_in_one_line(options, message, capsys, tmp_path):
    """Catches a traceback, and a study that starts before its options are looked at."""
    assert main([*options, "--output-dir", str(tmp_path / "out"), "--tables", str(tmp_path / "tables")]) == 2
    error = capsys.readouterr().err.strip()
    assert message in error
    assert len(error.splitlines()) == 1
    assert not (tmp_path / "out").exists()
    assert not (tmp_path / "tables").exists()


def test_a_result_of_other_settings_is_not_taken(tmp_path):
    """Catches a table that mixes sizes or data."""
    run = next(iter(_runs("alpha=1")))
    path = run_path(tmp_path, run)
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps({"key": run_key(run, Size()), "result": {"arm": "alpha=1"}}), encoding="utf-8")
    assert results_of(Work((run,), Size(), tmp_path))[1] == [{"arm": "alpha=1"}]
    with pytest.raises(InputError, match="give an empty --output-dir"):
        results_of(Work((run,), TINY, tmp_path))


@pytest.mark.slow
def test_a_tiny_study_from_the_model_to_the_tables(tmp_path, capsys):
    """Catches a command that does finished work again, and runs that depend on what ran before them in the process."""
    options = ["--tiny", "--seeds", "1", "--group", "sweep", "--regime", "correct", "--processes", "1"]
    out, tables = tmp_path / "out", tmp_path / "tables"
    options += ["--output-dir", str(out), "--tables", str(tables)]
    assert main(options) == 0
    shown = capsys.readouterr().out
    assert "alpha=auto" in shown
    rates = pd.read_csv(tables / "win_rates.csv")
    assert set(rates["arm"]) == {f"alpha={a}" for a in ("0", "0.25", "0.5", "0.75", "1", "auto")}
    assert rates["win_rate"].between(0, 1).all()
    facts = json.loads((tables / "study.json").read_text())
    assert (facts["runs"], facts["missing"], facts["code"]) == (6, [], code_fingerprint())
    files = {p: p.stat().st_mtime_ns for p in out.rglob("*.json")}
    assert main(options) == 0
    assert {p: p.stat().st_mtime_ns for p in out.rglob("*.json")} == files
    path = next(p for p in files if p.name == "alpha=0.5-0.json")
    before = json.loads(path.read_text())["result"]
    path.unlink()
    assert main(options) == 0
    after = json.loads(path.read_text())["result"]
    assert {k: v for k, v in after.items() if k != "seconds"} == {k: v for k, v in before.items() if k != "seconds"}


def _runs(name):
    return (run for run in runs_of(core_arms()) if run.arm.name == name)
