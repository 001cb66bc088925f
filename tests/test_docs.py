"""The generated pages are current, say nothing of their own, and every public name explains itself."""

import importlib
import inspect
import re
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
MODULES = ("api", "build", "findings", "glossary", "markup", "pages", "quotes", "training_findings")


@pytest.fixture(scope="module")
def docs():
    """The modules of docs/, by name."""
    before = dict(sys.modules)
    sys.path.insert(0, str(DOCS))
    try:
        yield {name: importlib.import_module(name) for name in MODULES}
    finally:
        sys.path.remove(str(DOCS))
        for name in set(sys.modules) - set(before):
            if name in MODULES:
                del sys.modules[name]


def test_every_page_is_what_the_command_writes(docs):
    """Catches a number, a docstring or a quotation that was renewed in one place only. The remedy is ``make docs``."""
    assert [path.name for path in docs["build"].outdated()] == []


def test_every_public_name_has_a_docstring(docs):
    missing = [
        name
        for name, thing in docs["api"].public_names()
        if (inspect.isclass(thing) or inspect.isroutine(thing)) and not (inspect.getdoc(thing) or "").strip()
    ]
    assert missing == []


def test_every_public_method_of_the_front_page_has_a_docstring(docs):
    import bvpo_analysis

    classes = [thing for name in bvpo_analysis.__all__ if inspect.isclass(thing := getattr(bvpo_analysis, name))]
    missing = [
        f"{thing.__name__}.{member}"
        for thing in classes
        for member, function in docs["api"].public_members(thing)
        if not (inspect.getdoc(function) or "").strip()
    ]
    assert missing == []


def test_the_reference_has_every_name_once(docs):
    import bvpo_analysis

    text = (DOCS / "api.md").read_text(encoding="utf-8")
    headings = re.findall(r"^## (\w+)$", text, flags=re.M)
    assert headings == [*bvpo_analysis.__all__]
    assert "### Study.from_pairs" in text


def test_names_in_the_glossary_exist(docs):
    for _, name, _ in docs["glossary"].GRADIENTS:
        module, _, attribute = name.partition(".")
        found = importlib.import_module(f"bvpo_analysis.{module}")
        for part in attribute.split("."):
            found = getattr(found, part)
        assert found is not None


def test_the_glossary_has_every_symbol_of_the_theory(docs):
    import bvpo_analysis.theory

    rows = docs["glossary"].arguments()
    assert ["D", "`distance`", "E|g_t - g_e|^2 = A + C - 2B"] in rows
    assert all(len(row) == 3 and all(row) for row in rows)
    table = bvpo_analysis.theory.__doc__.split("=\n")[2]
    assert len(rows) == len(table.splitlines()) - 1
    words = [word for word, _ in docs["glossary"].WORDS]
    assert words == sorted(words, key=str.casefold)


def test_findings_type_no_measured_number(docs):
    """Catches a result in a sentence: outside of braces, prose holds only the few numbers listed here."""
    allowed = {"0", "1", "2", "16", "95", "256", "0.1", "−"}
    source = (DOCS / "findings.py").read_text(encoding="utf-8")
    for text in re.findall(r'f?"""\\\n(.*?)"""', source, flags=re.S):
        prose = re.sub(r"\{[^{}]*(?:\{[^{}]*\}[^{}]*)*\}|\([^()]*\)", "", text)
        assert set(re.findall(r"\d+(?:\.\d+)?", prose)) <= allowed, text


@pytest.mark.parametrize("page", ["api.md", "glossary.md", "what-we-found.md"])
def test_links_lead_somewhere(page):
    text = (DOCS / page).read_text(encoding="utf-8")
    for link in set(re.findall(r"\]\(([^)#]+)\)", text)):
        assert link.startswith("https://") or (DOCS / link).exists(), link


@pytest.mark.parametrize("page", ["glossary.md", "what-we-found.md"])
def test_tables_have_equal_rows(page):
    """Catches a bar inside a cell, which would break the table."""
    for block in re.findall(r"(?:^\|.*\n)+", (DOCS / page).read_text(encoding="utf-8"), flags=re.M):
        counts = {len(re.findall(r"(?<!\\)\|", line)) for line in block.splitlines()}
        assert len(counts) == 1, block[:200]


@pytest.mark.parametrize("name", [n for n in MODULES if n != "build"])
def test_examples_in_the_generators_run(docs, name):
    import doctest

    assert doctest.testmod(docs[name]).failed == 0


def test_a_quotation_without_its_place_is_an_error(docs):
    with pytest.raises(ValueError, match="first screen"):
        docs["quotes"].refreshed("# nothing\n")
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    with pytest.raises(ValueError, match="no benchmark"):
        docs["quotes"].refreshed(
            text.replace("| scores, hooks | 0.8M | 128 | 64 |", "| scores, magic | 0.8M | 128 | 64 |")
        )


def test_old_numbers_are_replaced(docs):
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    stale = re.sub(r"(<!-- first screen -->\n\n```\n).*?(\n```)", r"\1old\2", text, flags=re.S)
    stale = re.sub(r"(export-trl .* --alpha) [\d.]+", r"\1 0.999", stale)
    stale = re.sub(r"(\| scores, hooks \| 0.8M \| 128 \| 64 \|).*", r"\1 9 | 9 | 9 |", stale)
    assert stale != text
    assert docs["quotes"].refreshed(stale) == text
