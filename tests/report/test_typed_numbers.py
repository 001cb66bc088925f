"""No number of a page is typed by hand: templates and the strings of the sections hold no digits but a short list.

What a page shows is formatted from numbers that were computed or read, so digits may stand inside ``{...}`` only.
"""

import ast
import re
from importlib import resources
from pathlib import Path

import pytest

import bvpo_analysis.report as report

FOLDER = Path(report.__file__).parent
WITHOUT_WORDS = ("__main__", "config", "dry_run", "processes", "run_folder", "rebuild", "formatting")
"""Modules whose strings are options, files, messages or digits themselves, not words of a page."""
ALLOWED = (
    "95 %",  # the level of every interval
    "AlpacaEval 2",
    "(1 − α)",
    "[0, 1]",
    "K = 1",  # what a name of a target says
    "K > 1",
    "κ > 1",
    "0 (g_e alone)",  # the ends of the scale of weights
    "1 (g_t alone)",
    "0 and 1",
    "1 or more",
    "0 or less",
    "contains 0;",
    "1 - c/|g_t - g_e|^2",  # a formula
    "utf-8",
    "(κ = 1)",
    "alpha=0.5",  # names of ways to train, as the committed tables have them
    "alpha=1",
    "4 traces",
    "Table 1",  # of the paper
    "Table 2",
    "10⁹",  # a unit
)
"""What may stand there: names, levels, and the ends of a scale."""
DIGITS = re.compile(r"(?<![\w.^])\d[\d.,]*")


def modules():
    return [path for path in sorted(FOLDER.glob("*.py")) if path.stem not in WITHOUT_WORDS]


def without_allowed(text):
    for words in ALLOWED:
        text = text.replace(words, " ")
    return text


def docstrings(tree):
    """Constants that are documentation, alone in a statement, or in the message of an error."""
    alone = {
        id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
    }
    raised = [node for node in ast.walk(tree) if isinstance(node, ast.Raise)]
    return alone | {id(child) for node in raised for child in ast.walk(node)}


def patterns(tree):
    """Constants that are regular expressions or format specifications, which no page shows."""
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in ("compile", "sub"):
            found |= {id(child) for child in ast.walk(node) if isinstance(child, ast.Constant)}
        if isinstance(node, ast.FormattedValue) and node.format_spec is not None:
            found |= {id(child) for child in ast.walk(node.format_spec)}
    return found


def typed(path):
    """(line, text) of every string with digits of its own."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    skipped = docstrings(tree) | patterns(tree)
    strings = [
        node
        for node in ast.walk(tree)
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in skipped
    ]
    return sorted((node.lineno, node.value) for node in strings if DIGITS.search(without_allowed(node.value)))


@pytest.mark.parametrize("path", modules(), ids=lambda path: path.stem)
def test_no_number_is_typed_into_a_sentence(path):
    assert typed(path) == []


@pytest.mark.parametrize("template", sorted(p.name for p in (FOLDER / "templates").glob("*.j2")))
def test_no_number_is_typed_into_a_template(template):
    text = resources.files("bvpo_analysis.report").joinpath("templates", template).read_text(encoding="utf-8")
    for pattern in (r"\{#.*?#\}", r"\{%.*?%\}", r"\{\{.*?\}\}", r"<style>.*?</style>", r"<[^>]+>"):
        text = re.sub(pattern, " ", text, flags=re.DOTALL)
    assert not DIGITS.findall(without_allowed(text))


def test_the_search_finds_what_it_should(tmp_path):
    """Catches a search that passes because it sees nothing."""
    source = (
        '"""Doc 12."""\nx = 3\na = f"about {x:.3g} and 0.415 times"\nb = "95 % of g_t, Q1, layer_0"\nc = "17 runs"\n'
    )
    path = tmp_path / "words.py"
    path.write_text(source)
    assert [line for line, _ in typed(path)] == [3, 5]
