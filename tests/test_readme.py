"""The README quotes the terminal table of the committed results, and its Python example runs."""

import json
import re
from pathlib import Path

import pytest
from PIL import Image

from bvpo_analysis.report.render import summary_table

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def test_quoted_summary_is_that_of_the_committed_results():
    results = json.loads((ROOT / "paper_figures" / "results" / "mse_alpha.json").read_text(encoding="utf-8"))
    assert summary_table(results["regimes"]["correct"]) in README


EXAMPLES = re.findall(r"```python\n(.*?)```", README, flags=re.S)


def test_the_first_python_example_runs(capsys):
    exec(compile(EXAMPLES[0].replace("limit=64", "limit=8"), "README.md", "exec"), {})
    assert "batch_size" in capsys.readouterr().out


def test_the_theory_example_prints_the_numbers_in_its_comments(capsys):
    """Catches a closed form that changed under the README."""
    exec(compile(EXAMPLES[1], "README.md", "exec"), {})
    printed = [float(x) for x in re.findall(r"\d+\.\d*", capsys.readouterr().out)]
    quoted = [float(x) for line in re.findall(r"\)\)  # ([\d., ]+)", EXAMPLES[1]) for x in line.split(",")]
    assert len(quoted) == 8
    assert printed == pytest.approx(quoted, rel=0.03)


def test_the_picture_of_a_report_shows_the_committed_results():
    """Catches a picture of earlier numbers. The remedy: make report, then python docs/picture.py."""
    results = json.loads((ROOT / "paper_figures" / "results" / "mse_alpha.json").read_text(encoding="utf-8"))
    picture = Image.open(ROOT / "docs" / "report.png")
    assert picture.text["Description"] == summary_table(results["regimes"]["correct"])
    assert (ROOT / "docs" / "report.png").stat().st_size < 200_000


def test_every_make_target_it_names_exists():
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    for target in set(re.findall(r"\bmake ([a-z][a-z-]*)", README)):
        assert re.search(rf"^{target}:", makefile, flags=re.M), target


def test_links_lead_somewhere():
    for link in re.findall(r"\]\(([^)]+)\)", README):
        assert link.startswith("https://") or (ROOT / link).exists(), link


def test_quoted_benchmarks_are_the_committed_ones():
    """Catches a README that keeps the numbers of an earlier run."""
    committed = (ROOT / "benchmarks" / "results" / "table.md").read_text(encoding="utf-8").splitlines()
    quoted = [line for line in README.split("## Speed")[1].split("## Limits")[0].splitlines() if line.startswith("|")]
    assert len(quoted) > 8
    assert set(quoted) <= set(committed)
