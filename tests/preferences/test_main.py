"""The command line of preference files: instant help, every command described, options that reach their stage."""

import subprocess
import sys
from pathlib import Path

import pytest

import bvpo_analysis
from bvpo_analysis.preferences.__main__ import main, parser

ROOT = Path(bvpo_analysis.__file__).parent.parent


def test_help_imports_no_torch():
    done = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "bvpo_analysis.preferences", "--help"],
        capture_output=True,
        text=True,
        check=False,
        cwd=ROOT,
    )
    assert done.returncode == 0
    seen = {line.rsplit("|", 1)[1].strip() for line in done.stderr.splitlines() if line.startswith("import time:")}
    assert "argparse" in seen
    assert not {"torch", "transformers", "pandas", "pyarrow", "datasets"} & seen


@pytest.mark.parametrize("command", ["validate", "build", "merge", "export-trl"])
def test_every_command_explains_its_options(command, capsys):
    assert main([command, "--help"]) == 0
    printed = capsys.readouterr().out
    assert "--debug" in printed
    assert ("--model" in printed) == (command != "merge")
    assert max(map(len, printed.splitlines())) <= 120


def test_options_of_the_model_are_those_of_the_loader():
    from dataclasses import fields

    from bvpo_analysis.lrm.options import ModelOptions

    options = parser().parse_args(["validate", "file"])
    assert {f.name for f in fields(ModelOptions)} <= set(vars(options))


def test_an_interruption_says_how_to_continue(capsys, monkeypatch):
    from bvpo_analysis.preferences import rows

    def interrupted(*args, **options):
        raise KeyboardInterrupt

    monkeypatch.setattr(rows, "records", interrupted)
    assert main(["validate", "file"]) == 1
    assert "--resume" in capsys.readouterr().err
