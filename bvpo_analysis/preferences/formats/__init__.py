"""Formats of preference files. A new one is a :class:`Format` in a file of its own and an entry of ``FORMATS``."""

from typing import Any

from bvpo_analysis.preferences.formats.base import Format
from bvpo_analysis.preferences.formats.prompt_chosen_rejected import TRL, ULTRAFEEDBACK
from bvpo_analysis.preferences.formats.scored_responses import SCORED_RESPONSES
from bvpo_analysis.preferences.native import RowError


def _is_native(record: Any) -> bool:
    chosen = record.get("chosen")
    return (
        "prompt_id" in record
        and isinstance(record.get("prompt"), list)
        and isinstance(chosen, list)
        and len(chosen) == 1
        and isinstance(chosen[0], dict)
        and "reasoning_content" in chosen[0]
        and "messages" not in record
    )


NATIVE = Format(
    name="native",
    description="the rows that this package writes: every field checked, nothing left out",
    recognises=_is_native,
    to_row=lambda record, where, counts: record,
)

FORMATS: dict[str, Format] = {f.name: f for f in (NATIVE, SCORED_RESPONSES, ULTRAFEEDBACK, TRL)}
"""All formats by name; the first that recognises a record is its format."""


def detect(record: Any, where: str) -> Format:
    """The format of a record.

    Raises:
        RowError: none recognises it.

    Example:
        >>> detect({"prompt": "x", "chosen": "a", "rejected": "b"}, "row").name
        'trl'
    """
    if not isinstance(record, dict):
        raise RowError(f"{where}: expected a JSON object, got {type(record).__name__}")
    for found in FORMATS.values():
        if found.recognises(record):
            return found
    keys = ", ".join(sorted(map(str, record))[:8])
    raise RowError(
        f"{where}: field 'chosen' is missing, so the format is not known; expected prompt, chosen and rejected, or "
        f"prompt, all_generated_responses and all_rm_scores; found {keys or 'no fields'}"
    )
