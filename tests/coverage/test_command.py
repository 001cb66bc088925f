"""The command: options, refusals, and a small study from the model to the table."""

import pytest

from bvpo_analysis.coverage import measured_coverage
from bvpo_analysis.coverage.__main__ import main


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--prompts", "3"], "--prompts must be at least 4"),
        (["--traces", "0"], "--prompts must be at least 4"),
        (["--processes", "0"], "--prompts must be at least 4"),
        (["--replications", "0"], "--replications must be"),
        (["--replications", "401"], "--replications must be"),
    ],
)
def test_impossible_options_are_refused_in_one_line(options, message, capsys, tmp_path):
    """Catches a traceback, and a study that starts before its options are looked at."""
    assert main([*options, "--output-dir", str(tmp_path / "out")]) == 2
    error = capsys.readouterr().err.strip()
    assert message in error
    assert len(error.splitlines()) == 1
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_a_small_study_from_the_model_to_the_table(tmp_path, capsys):
    """Catches a command that writes another table than it prints, and one that does finished work again."""
    options = ["--regime", "style", "--prompts", "8", "--traces", "2", "--replications", "3", "--processes", "1"]
    table = tmp_path / "table.csv"
    options += ["--output-dir", str(tmp_path / "out"), "--table", str(table)]
    assert main(options) == 0
    shown = capsys.readouterr().out
    rows = measured_coverage(table)
    assert {(row.regime, row.prompts, row.traces, row.replications) for row in rows} == {("style", 8, 2, 3)}
    assert f"{rows[0].quantity:38}" in shown
    files = {p: p.stat().st_mtime_ns for p in (tmp_path / "out").rglob("*.np?")}
    assert main(options) == 0
    assert files == {p: p.stat().st_mtime_ns for p in (tmp_path / "out").rglob("*.np?")}
