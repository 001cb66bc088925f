"""Rows of prompt, chosen and rejected, as TRL trains on and as UltraFeedback-binarized is laid out.

    {"prompt": "...", "chosen": "<think>T</think>Y", "rejected": "<think>T</think>Y"}
    {"prompt": [message, ...], "chosen": [message], "rejected": [message]}
    {"chosen": [prompt messages ..., message], "rejected": [prompt messages ..., message]}
    {"prompt": "...", "prompt_id": "...", "chosen": [user, assistant], "rejected": [user, assistant],
     "messages": [...], "score_chosen": 8.5, "score_rejected": 3.0}

that is text, messages, messages that hold the prompt, and UltraFeedback-binarized. Completions come in any form of
:mod:`bvpo_analysis.preferences.formats.completions`. ``empty_chosen`` and ``empty_rejected`` may be given likewise,
without trace or with an empty one.
"""

from collections import Counter
from collections.abc import Mapping
from typing import Any

from bvpo_analysis.preferences.formats.base import FURTHER, Format, carried, prompt_name
from bvpo_analysis.preferences.formats.completions import assistant_message, conversation, prompt_messages
from bvpo_analysis.preferences.native import field_error

DROPPABLE = ("no trace", "unclosed trace", "empty answer", "same answers")


def to_row(record: Mapping[str, Any], where: str, counts: Counter[str]) -> dict[str, Any]:
    """The native row of a record.

    Raises:
        RowError: it cannot be one, with the reason.

    Example:
        >>> record = {"prompt": "x", "chosen": "<think>t</think>a", "rejected": "<think>u</think>b"}
        >>> row = to_row(record, "row", Counter())
        >>> row["chosen"], row["prompt"]
        ([{'role': 'assistant', 'content': 'a', 'reasoning_content': 't'}], [{'role': 'user', 'content': 'x'}])
    """
    for field in ("chosen", "rejected"):
        if record.get(field) is None:
            raise field_error(where, field, "a completion", None)
    (before_chosen, chosen), (before_rejected, rejected) = (
        conversation(record[field], where, field) for field in ("chosen", "rejected")
    )
    prompt = prompt_messages(record, (before_chosen, before_rejected), where)
    row: dict[str, Any] = {
        "prompt_id": name_of(record, prompt, where),
        "prompt": list(prompt),
        "chosen": [assistant_message(chosen, where, "chosen")],
        "rejected": [assistant_message(rejected, where, "rejected")],
        **carried(record),
    }
    for field in ("empty_chosen", "empty_rejected"):
        if record.get(field) is not None:
            row[field] = [without_trace(conversation(record[field], where, field)[1], where, field)]
    return row


def name_of(record: Mapping[str, Any], prompt: tuple[Mapping[str, Any], ...], where: str) -> str:
    """The record's ``prompt_id`` as text, or a name made from its prompt.

    Raises:
        RowError: a prompt_id that is neither text nor a whole number.
    """
    name = record.get("prompt_id")
    if name is None:
        return prompt_name(prompt)
    if isinstance(name, bool) or not isinstance(name, str | int):
        raise field_error(where, "prompt_id", "text or a whole number", name)
    return str(name)


def without_trace(value: Any, where: str, field: str) -> dict[str, Any]:
    """A completion generated without thinking; an empty think block counts as none.

    Raises:
        RowError: it has a trace.
    """
    message = assistant_message(value, where, field)
    if (message["reasoning_content"] or "").strip():
        raise field_error(where, field, "an answer without a trace (an empty trace)", message["reasoning_content"])
    return {**message, "reasoning_content": None}


_USES = frozenset(
    {"prompt", "prompt_id", "chosen", "rejected", "empty_chosen", "empty_rejected", "temperature", *FURTHER}
)

TRL = Format(
    name="trl",
    description="prompt, chosen, rejected; text or messages, thinking inline or under a key",
    recognises=lambda record: "chosen" in record and "rejected" in record,
    to_row=to_row,
    uses=_USES,
    droppable=DROPPABLE,
)
ULTRAFEEDBACK = Format(
    name="ultrafeedback",
    description="prompt, chosen and rejected as whole conversations, messages, score_chosen, score_rejected",
    recognises=lambda record: {"chosen", "rejected", "messages", "score_chosen", "score_rejected"} <= set(record),
    to_row=to_row,
    uses=_USES | {"messages"},
    droppable=DROPPABLE,
)
