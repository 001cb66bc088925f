"""Claims as rows, as a table for the terminal, and as the committed table that reports show."""

import json
import textwrap
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from bvpo_analysis.records import Claim

RELATIONS = {"identity": "=", "tight": "=", "upper": "<=", "lower": ">="}
"""What must hold between measured and predicted, by kind."""
MEASURED = Path(__file__).with_name("measured.json")
"""The committed table: written by ``make claims``, shown by every report, held to a new measurement by a test."""


def to_row(claim: Claim) -> dict[str, Any]:
    """A claim with its verdict as plain values; numbers that are not finite become None.

    Example:
        >>> to_row(Claim("half", "1/2 is 0.5", "arithmetic", "identity", 0.5, 0.5))["verdict"]
        'holds'
    """
    row = asdict(claim) | {"verdict": claim.verdict, "confirmed": claim.confirmed}
    return {k: None if isinstance(v, float) and not np.isfinite(v) else v for k, v in row.items()}


def load_measured() -> list[dict[str, Any]]:
    """The committed rows, as :func:`to_row` gives them.

    Example:
        >>> load_measured()[0]["name"]
        'theorem-1'
    """
    rows: list[dict[str, Any]] = json.loads(MEASURED.read_text(encoding="utf-8"))
    return rows


def text_table(
    claims: Sequence[Claim], families: Mapping[str, str] | None = None, *, explain: bool = False, width: int = 110
) -> str:
    """A row per claim under the headings of the families; below a counterexample, what it refutes and what is needed.

    Args:
        claims: in the order of the rows.
        families: the heading of a claim by its name; no headings without.
        explain: print statement, source, setting and note below each row as well.
        width: columns of the terminal; prose is wrapped to it.

    Example:
        >>> print(text_table([Claim("half", "1/2 is at most 0.4", "error", "upper", 0.5, 0.4, only_if="rounded")]))
        claim  measured      predicted  verdict
        half        0.5  <=        0.4  counterexample
            1/2 is at most 0.4:
            holds only if rounded
    """
    rows = [
        (c.name, f"{c.measured:.5g}", f"+- {c.se:.1g}" if c.se > 0 else "", RELATIONS[c.kind], f"{c.predicted:.5g}")
        for c in claims
    ]
    columns = [max(len(cell) for cell in column) for column in zip(HEADER, *rows, strict=True)]
    lines, heading = [_line(HEADER, columns, "verdict")], ""
    for claim, row in zip(claims, rows, strict=True):
        family = (families or {}).get(claim.name, "")
        if family != heading:
            lines += ["", family]
            heading = family
        lines.append(_line(row, columns, _short_verdict(claim)))
        lines += [part for text in _below(claim, explain) for part in _wrapped(text, width)]
    return "\n".join(lines)


HEADER = ("claim", "measured", "", "", "predicted")


def _line(row: Sequence[str], columns: Sequence[int], verdict: str) -> str:
    name, measured, se, relation, predicted = columns
    cells = [row[0].ljust(name), row[1].rjust(measured), row[2].ljust(se), row[3].ljust(relation)]
    return "  ".join([cell for cell in cells if cell] + [row[4].rjust(predicted), verdict])


def _short_verdict(claim: Claim) -> str:
    if not claim.confirmed:
        return "FAILS"
    return "counterexample" if claim.only_if else "attained" if claim.kind == "tight" else "holds"


def _below(claim: Claim, explain: bool) -> list[str]:
    """What is printed under the row of a claim."""
    if not explain:
        return [f"{claim.statement}:", claim.verdict] if claim.only_if else []
    return [
        *([f"{claim.statement}:", claim.verdict] if claim.only_if else [f"{claim.statement}."]),
        f"Source: {claim.reference}.",
        *([f"Measured on: {claim.setting}."] if claim.setting else []),
        *([claim.note] if claim.note else []),
    ]


def _wrapped(text: str, width: int) -> list[str]:
    return textwrap.wrap(
        text,
        max(width, 40),
        initial_indent="    ",
        subsequent_indent="      ",
        break_on_hyphens=False,
        break_long_words=False,
    )


def summary(claims: Sequence[Claim]) -> str:
    """How many there are, how many need a condition, and which fail.

    Example:
        >>> summary([Claim("half", "1/2 is 0.5", "arithmetic", "identity", 0.5, 0.5)])
        '1 claims: 1 hold as worded, 0 only under a condition; every measurement agrees'
    """
    failed = [claim.name for claim in claims if not claim.confirmed]
    conditional = sum(bool(claim.only_if) for claim in claims)
    counts = f"{len(claims)} claims: {len(claims) - conditional} hold as worded, {conditional} only under a condition"
    return f"{counts}; " + (f"FAILED: {', '.join(failed)}" if failed else "every measurement agrees")


def data_frame(claims: Iterable[Claim]) -> pd.DataFrame:
    """A tidy table with one row per claim and the fields of :class:`Claim` as columns."""
    return pd.DataFrame([to_row(claim) for claim in claims])
