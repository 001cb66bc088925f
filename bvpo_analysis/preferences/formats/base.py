"""What a file format is: how its records are recognised and turned into native rows."""

import hashlib
import json
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

ToRow = Callable[[Mapping[str, Any], str, Counter[str]], Mapping[str, Any]]
"""(record, its place, counts to add to) -> native row, or a RowError."""


@dataclass(frozen=True)
class Format:
    """One format of preference files.

    Attributes:
        name: what ``--format`` calls it.
        description: its columns, in a line.
        recognises: whether a record is of this format.
        to_row: turns a record into a native row.
        uses: columns that are read; others are ignored and named.
        droppable: reasons for which a row is left out and counted; for any other the file must be mended.
    """

    name: str
    description: str
    recognises: Callable[[Mapping[str, Any]], bool]
    to_row: ToRow
    uses: frozenset[str] = frozenset()
    droppable: tuple[str, ...] = ()

    def unused(self, record: Mapping[str, Any]) -> set[str]:
        """Columns of a record that the format does not use; none where it refuses what it does not know."""
        return set(record) - self.uses if self.uses else set()


def prompt_name(prompt: Sequence[Mapping[str, Any]]) -> str:
    """A stable name of a prompt without one: 16 hex digits of BLAKE2b over its canonical JSON.

    Example:
        >>> prompt_name([{"role": "user", "content": "2 + 2?"}])
        'prompt-9f3ab8e9374aefd9'
    """
    key = json.dumps([dict(sorted(message.items())) for message in prompt], separators=(",", ":"))
    return f"prompt-{hashlib.blake2b(key.encode(), digest_size=8).hexdigest()}"


FURTHER = ("chosen_traces", "rejected_traces", "prior_traces", "score_chosen", "score_rejected", "meta")
"""Columns that every format may carry, with the meaning of the native row."""


def carried(record: Mapping[str, Any]) -> dict[str, Any]:
    """The further columns of a record, and its sampling temperature under ``meta`` if it names one."""
    found = {key: record[key] for key in FURTHER if record.get(key) is not None}
    temperature = record.get("temperature")
    if temperature is not None and isinstance(found.get("meta", {}), Mapping):
        found["meta"] = {"temperature": temperature, **found.get("meta", {})}
    return found
