"""The command: a table, files on request, and an exit code that depends on the verdicts."""

import subprocess
import sys
from dataclasses import replace

import pandas as pd
import pytest

from bvpo_analysis.sgd import __main__ as command
from bvpo_analysis.sgd import full_study
from bvpo_analysis.sgd.adversary import Closest

SMALL = full_study.Settings(
    kappas=(0.1, 1.0), horizons=(5,), repetitions=30, weight_kappas=(0.1, 1.0), instances=20, rounds=1, longest=20
)


@pytest.fixture(scope="module")
def study():
    return full_study.run_study(SMALL)


@pytest.fixture
def small(monkeypatch, study):
    monkeypatch.setattr(full_study, "run_study", lambda settings, seed: study)


def test_the_study_is_the_same_twice(study):
    """Catches results that depend on hidden state: every table, to the last bit."""
    again = full_study.run_study(SMALL)
    for name, table in study.tables.items():
        pd.testing.assert_frame_equal(table, again.tables[name], check_exact=True)
    other = full_study.run_study(SMALL, seed=1)
    assert not other.tables["checks"]["measured"].equals(study.tables["checks"]["measured"])


def test_it_prints_the_tables_and_succeeds(small, capsys):
    assert command.main(["--quick"]) == 0
    text = capsys.readouterr().out
    for words in ("classical", "Search for violations", "alpha_kappa", "correct", "never", "every bound held"):
        assert words in text
    assert max(len(line) for line in text.splitlines()) <= 110


def test_tables_and_figures_go_into_the_folder(small, study, tmp_path, capsys):
    assert command.main(["--quick", "--output-dir", str(tmp_path / "new")]) == 0
    names = {path.name for path in (tmp_path / "new").iterdir()}
    assert {f"{name}.csv" for name in study.tables} <= names
    assert {
        f"figure_{n}.{s}" for n in ("trajectories", "tightness", "best_weight", "schedule") for s in ("pdf", "png")
    } <= names
    checks = pd.read_csv(tmp_path / "new" / "checks.csv")
    assert len(checks) == len(study.checks)


def test_a_violation_fails_the_command(monkeypatch, study, capsys):
    """Catches an exit code that does not depend on the runs or on the search."""
    bad = full_study.Findings(study.checks, [Closest("sharp", 1, 1, 3, 1.5, {})], study.tables)
    monkeypatch.setattr(full_study, "run_study", lambda settings, seed: bad)
    assert command.main(["--quick"]) == 1
    assert "3 bounds FAILED" in capsys.readouterr().out


def test_bounds_that_failed_are_named(monkeypatch, study, capsys):
    """Catches a verdict without the runs behind it."""
    wrong = replace(study.checks[0], holds=False)
    monkeypatch.setattr(full_study, "run_study", lambda settings, seed: full_study.Findings([wrong], [], study.tables))
    assert command.main(["--quick"]) == 1
    text = capsys.readouterr().out
    assert f"{wrong.bound}: {wrong.problem}, {wrong.rule}, constant steps" in text
    assert "1 bounds FAILED" in text


def test_a_language_model_that_breaks_its_bound_fails_the_command(monkeypatch, small, study, capsys):
    steps = pd.DataFrame({"holds": [True, False, True], "applies": [True, True, False], "kappa": [0.4, 0.4, 1.3]})
    monkeypatch.setattr(command, "_language_model", lambda: steps)
    try:
        assert command.main([]) == 1
    finally:
        study.tables.pop("language_model")
    text = capsys.readouterr().out
    assert "held at 1 of 2 iterates" in text
    assert "1 bounds FAILED" in text


@pytest.mark.parametrize("arguments", [["--no-such-option"], ["--seed", "x"], ["--seed", "-1"]])
def test_wrong_usage_is_one_line_and_exit_code_2(arguments, capsys):
    assert command.main(arguments) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert error.count("\n") == 1


def test_a_file_is_no_output_folder(tmp_path, capsys):
    path = tmp_path / "file"
    path.write_text("")
    assert command.main(["--output-dir", str(path)]) == 2
    assert "is a file; name a folder" in capsys.readouterr().err


def test_help_is_instant():
    """Catches a heavy import before the options are read."""
    code = (
        "import sys; from bvpo_analysis.sgd.__main__ import main; main(['--help']); "
        "sys.exit(bool({'torch', 'transformers', 'pandas', 'matplotlib', 'scipy'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False, capture_output=True).returncode == 0


@pytest.mark.slow
def test_the_quick_study_has_no_violation():
    assert full_study.run_study(full_study.Settings.quick()).violated == 0
