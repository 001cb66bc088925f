"""The README quotes the terminal table of the committed results, and its Python example runs."""

import json
import re
from pathlib import Path

from bvpo_analysis.report.render import summary_table

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def test_quoted_summary_is_that_of_the_committed_results():
    results = json.loads((ROOT / "paper_figures" / "results" / "mse_alpha.json").read_text(encoding="utf-8"))
    assert summary_table(results["regimes"]["correct"]) in README


def test_python_example_runs(capsys):
    (example,) = re.findall(r"```python\n(.*?)```", README, flags=re.S)
    exec(compile(example.replace("limit=64", "limit=8"), "README.md", "exec"), {})
    assert "batch_size" in capsys.readouterr().out


def test_every_make_target_it_names_exists():
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    for target in set(re.findall(r"\bmake ([a-z][a-z-]*)", README)):
        assert re.search(rf"^{target}:", makefile, flags=re.M), target


def test_links_lead_somewhere():
    for link in re.findall(r"\]\(([^)]+)\)", README):
        assert link.startswith("https://") or (ROOT / link).exists(), link
