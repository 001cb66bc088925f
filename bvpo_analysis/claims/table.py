"""Claims as rows, as a table for the terminal, and as the committed table that reports show."""

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from bvpo_analysis.records import Claim

RELATIONS = {"identity": "=", "tight": "= (tight)", "upper": "<=", "lower": ">="}
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


def measured_text(claim: Claim) -> str:
    """The measured number, with its standard error where it has one.

    Example:
        >>> measured_text(Claim("mean", "", "", "identity", measured=1.2345, predicted=1.23, se=0.01))
        '1.2345 +- 0.01'
    """
    return f"{claim.measured:.5g}" + (f" +- {claim.se:.1g}" if claim.se > 0 else "")


def text_table(claims: Sequence[Claim]) -> str:
    """One line per claim: name, measured, relation, predicted, verdict."""
    rows = [
        (claim.name, measured_text(claim), RELATIONS[claim.kind], f"{claim.predicted:.5g}", claim.verdict)
        for claim in claims
    ]
    header = ("claim", "measured", "", "predicted", "verdict")
    widths = [max(len(row[i]) for row in [header, *rows]) for i in range(len(header))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in [header, *rows]]
    return "\n".join(line.rstrip() for line in lines)


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


def explanation(claim: Claim) -> str:
    """Everything a claim says, as a short paragraph."""
    parts = [f"{claim.name}: {claim.statement}.", f"Source: {claim.reference}."]
    parts += [f"Measured on: {claim.setting}."] if claim.setting else []
    parts += [claim.note] if claim.note else []
    return " ".join(parts)


def data_frame(claims: Iterable[Claim]) -> pd.DataFrame:
    """A tidy table with one row per claim and the fields of :class:`Claim` as columns."""
    return pd.DataFrame([to_row(claim) for claim in claims])
