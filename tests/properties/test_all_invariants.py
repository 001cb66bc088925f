"""Every invariant of README.md has a property test, and every property test is in the README."""

import re
from pathlib import Path

HERE = Path(__file__).parent
NUMBERS = range(1, 74)


def in_tests() -> dict[int, set[str]]:
    """Files with a test of each invariant."""
    found: dict[int, set[str]] = {}
    for path in HERE.glob("test_*.py"):
        # One test may hold for several invariants: test_g29_g73_...
        for numbers in re.findall(r"^def test_((?:g\d{2}_)+)", path.read_text(encoding="utf-8"), flags=re.MULTILINE):
            for number in re.findall(r"\d{2}", numbers):
                found.setdefault(int(number), set()).add(path.name)
    return found


def in_readme() -> dict[int, set[str]]:
    """Files that the table of README.md names for each invariant."""
    rows = re.findall(
        r"^\| G(\d+) \| .* \| ([^|]*) \|$", (HERE / "README.md").read_text(encoding="utf-8"), flags=re.MULTILINE
    )
    assert len(rows) == len({number for number, _ in rows})
    return {int(number): set(re.findall(r"`(\w+\.py)`", files)) for number, files in rows}


def test_every_invariant_has_a_test():
    """Catches an invariant that is listed and never tried."""
    assert sorted(in_tests()) == list(NUMBERS)


def test_the_table_names_the_files_that_hold_the_tests():
    """Catches a test that moved, an invariant without a row, and a row without a test."""
    assert in_readme() == in_tests()
