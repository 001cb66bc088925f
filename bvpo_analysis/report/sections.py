"""Sections of the report as data: text and tables whose columns say what they hold, written alike in both pages.

A section holds words and numbers, no markup. Each kind of column has one way of being shown, which is decided in
``formatting``; so a new table needs no template.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

Kind = Literal["words", "symbol", "code", "number", "share", "estimate", "percent", "weight", "yes"]
"""words: text; symbol: a short one that is not broken; code: a name in fixed width; number: a number known without an
interval; share: a fraction of the same kind; estimate: an Estimate; percent: a fraction as an Estimate; weight: an
Alpha; yes: true or false."""


@dataclass(frozen=True)
class Column:
    """A heading and what stands below it."""

    label: str
    kind: Kind = "estimate"

    def __post_init__(self) -> None:
        if self.kind not in get_args(Kind):
            raise ValueError(f"unknown kind of column {self.kind!r}; there are {', '.join(get_args(Kind))}")


@dataclass(frozen=True)
class Table:
    """A table with a name for those who do not see it.

    Attributes:
        name: what the table shows, in a few words.
        columns: [C] headings; the first names the row.
        rows: [R][C] cells; None where a number is not known.
        best: index of the row to set off, if any.

    Raises:
        ValueError: a row with another number of cells than columns.

    Example:
        >>> Table("lengths", (Column("sequence", "words"), Column("tokens", "number")), (("trace", 24),)).rows
        (('trace', 24),)
    """

    name: str
    columns: tuple[Column, ...]
    rows: tuple[tuple[Any, ...], ...]
    best: int | None = None

    def __post_init__(self) -> None:
        for row in self.rows:
            if len(row) != len(self.columns):
                raise ValueError(f"table {self.name!r} has {len(self.columns)} columns, got a row of {len(row)}: {row}")


@dataclass(frozen=True)
class Section:
    """A heading, sentences before the tables, tables, sentences after them.

    Attributes:
        anchor: its name in links, one word.
        title: the heading.
        short: the heading in the list of sections.
        text: paragraphs before the tables.
        tables: the tables.
        notes: paragraphs after them.
        figures: names of drawings shown before the tables.
        folded: whether the tables open on demand, for long ones.
    """

    anchor: str
    title: str
    short: str
    text: tuple[str, ...] = ()
    tables: tuple[Table, ...] = ()
    notes: tuple[str, ...] = ()
    figures: tuple[str, ...] = ()
    folded: bool = False


def table(
    name: str, columns: Sequence[tuple[str, Kind]], rows: Sequence[Sequence[Any]], best: int | None = None
) -> Table:
    """A :class:`Table` from plain sequences.

    Example:
        >>> table("lengths", [("sequence", "words"), ("tokens", "number")], [["trace", 24]]).columns[1].kind
        'number'
    """
    return Table(name, tuple(Column(*column) for column in columns), tuple(tuple(row) for row in rows), best)
