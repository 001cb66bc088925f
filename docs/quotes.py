"""Numbers that the README and its translation quote: read from committed results and put in their places."""

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from bvpo_analysis.preferences.shipped import REGIMES
from bvpo_analysis.report.render import summary_table

ROOT = Path(__file__).resolve().parents[1]
READMES = (ROOT / "README.md", ROOT / "README.ja.md")
QUOTED = "correct"
"""The regime whose first screen is quoted."""


def results() -> Mapping[str, Any]:
    """The committed results of the three regimes."""
    found: dict[str, Any] = json.loads((ROOT / "paper_figures/results/mse_alpha.json").read_text(encoding="utf-8"))
    regimes: Mapping[str, Any] = found["regimes"]
    return {regime: regimes[regime] for regime in REGIMES}


def refreshed(text: str) -> str:
    """A README with every quoted number as it is now.

    Quoted are the block after ``<!-- first screen -->``, the weight in the commands
    and calls that train with it, and table rows of
    benchmarks, which are found by their first four cells.

    Raises:
        ValueError: a place that should hold a quotation is missing, or a benchmark row that no longer exists.
    """
    screen = summary_table(results()[QUOTED])
    text, screens = re.subn(
        r"(<!-- first screen -->\n\n?```\w*\n).*?(\n```)", lambda m: m[1] + screen + m[2], text, flags=re.S
    )
    weight = results()[QUOTED]["headline"]["alpha"]["recommended"]
    text, weights = re.subn(
        r"((?:export-trl|bvpo_analysis\.train)[^\n]* --alpha )\d[\d.]*(?= |\n)", rf"\g<1>{weight:.3f}", text
    )
    text = re.sub(r"(bvpo_loss\(.*alpha=)\d[\d.]*", rf"\g<1>{weight:.3f}", text)
    if not screens or not weights:
        raise ValueError("the README quotes no first screen, or no weight in export-trl")
    committed = {}
    for line in (ROOT / "benchmarks/results/table.md").read_text(encoding="utf-8").splitlines():
        committed[_key(line)] = line
    lines = text.splitlines()
    start = next(i for i, line in enumerate(lines) if line.startswith("<!-- benchmarks -->"))
    for i in range(start + 1, len(lines)):
        if lines[i].startswith("#"):
            break
        if lines[i].startswith("|"):
            if _key(lines[i]) not in committed:
                raise ValueError(f"no benchmark begins like the quoted row {lines[i]!r}")
            lines[i] = committed[_key(lines[i])]
    return "\n".join(lines) + "\n"


def _key(row: str) -> tuple[str, ...]:
    return tuple(cell.strip() for cell in row.split("|")[1:5])
