"""The Japanese README says what the English one says: same code, same numbers, same links, same sections."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
ENGLISH, JAPANESE = ((ROOT / name).read_text(encoding="utf-8") for name in ("README.md", "README.ja.md"))
CODE = r"```.*?```|^    \S.*?$"


def prose(text):
    """What a translator writes, section by section: without code, links and names in code type."""
    plain = re.sub(rf"{CODE}|\]\([^)]*\)|`[^`]*`", "", text, flags=re.DOTALL | re.MULTILINE)
    return re.split(r"^#+ .*$", plain, flags=re.MULTILINE)


def test_code_blocks_are_the_same():
    assert re.findall(CODE, JAPANESE, flags=re.S | re.M) == re.findall(CODE, ENGLISH, flags=re.S | re.M)


def test_there_are_as_many_sections_of_each_level():
    levels = [re.findall(r"^(#+) ", text, flags=re.M) for text in (ENGLISH, JAPANESE)]
    assert levels[0] == levels[1]


@pytest.mark.parametrize("section", range(len(prose(ENGLISH))))
def test_numbers_agree(section):
    """Catches a number that was renewed in one language only."""
    numbers = [sorted(re.findall(r"\d+(?:[.,]\d+)?", prose(text)[section])) for text in (ENGLISH, JAPANESE)]
    assert numbers[0] == numbers[1]


def test_links_and_names_agree():
    for pattern in (r"\]\(([^)]+)\)", r"(?<!`)`([^`\n]+)`(?!`)"):
        found = [set(re.findall(pattern, re.sub(r"```.*?```", "", text, flags=re.S))) for text in (ENGLISH, JAPANESE)]
        assert found[0] - {"README.ja.md"} == found[1] - {"README.md"}


def test_tables_have_as_many_rows():
    rows = [len(re.findall(r"^\|", text, flags=re.M)) for text in (ENGLISH, JAPANESE)]
    assert rows[0] == rows[1]


def test_it_is_japanese():
    assert len(re.findall(r"[\u3040-\u30ff\u4e00-\u9fff]", JAPANESE)) > 3000
