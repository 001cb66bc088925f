"""Tables and cells of the generated pages."""

from collections.abc import Sequence
from dataclasses import asdict

from bvpo_analysis.records import Estimate
from bvpo_analysis.report.formatting import estimate_text, number
from bvpo_analysis.tables import jsonable


def table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table; the first column is left-aligned, the others right-aligned.

    Example:
        >>> print(table(["a", "b"], [["|x|", "1"]]))
        | a | b |
        |---|--:|
        | \\|x\\| | 1 |
    """
    shown = [f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in row)} |" for row in (columns, *rows)]
    return "\n".join([shown[0], f"|---|{'--:|' * (len(columns) - 1)}", *shown[1:]])


def estimate_cell(estimate: Estimate) -> str:
    """A number with its interval, as reports write it.

    Example:
        >>> estimate_cell(Estimate(0.5, 0.1, 0.3, 0.7, 64, "jackknife"))
        '0.50 [0.30, 0.70]'
    """
    return estimate_text(jsonable(asdict(estimate)))


def source(path: str, command: str) -> str:
    """Where the numbers of a section lie, and what renews them."""
    return f"*Numbers: [`{path}`](../{path}), renewed by `{command}`.*"


def percent(share: float) -> str:
    """A share in per cent, without decimals unless small; the space does not break.

    Example:
        >>> percent(0.417), percent(0.004)
        ('42\\xa0%', '0.4\\xa0%')
    """
    return f"{100 * share:.0f}\xa0%" if abs(share) >= 0.095 else f"{100 * share:.2g}\xa0%"


def span(values: Sequence[float]) -> str:
    """Lowest and highest of some numbers.

    Example:
        >>> span([0.25, 0.5])
        '0.25 to 0.5'
    """
    low, high = number(min(values)), number(max(values))
    return low if low == high else f"{low} to {high}"


def names(found: Sequence[str]) -> str:
    """Names in code type, as a list in a sentence.

    Example:
        >>> names(["style", "valid", "correct"])
        '`style`, `valid` and `correct`'
    """
    shown = [f"`{name}`" for name in found]
    return " and ".join([", ".join(shown[:-1]), shown[-1]] if len(shown) > 1 else shown)
