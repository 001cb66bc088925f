"""Completions as they are found in files: text with inline think tags, messages, or objects with a thought.

Accepted, with T the trace and Y the answer::

    "<think>T</think>Y", "T</think>Y"                           text (the opener may have been part of the prompt)
    {"role": "assistant", "content": Y, "reasoning_content": T}  or with the key ``reasoning`` or ``thinking``
    {"role": "assistant", "content": "<think>T</think>Y"}
    {"thought": T, "answer": Y}
    [prompt messages ..., {"role": "assistant", ...}]            a list that may repeat the prompt

Around inline tags, newlines belong to the format and not to trace or answer: they are taken off both ends of the trace
and off the beginning of the answer, which is what the chat templates of reasoning models do when they read such text.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from bvpo_analysis.preferences.native import RowError, field_error

TRACE_KEYS = ("reasoning_content", "reasoning", "thinking", "thought")
"""Keys under which a message may hold its trace."""
OPEN, CLOSE = "<think>", "</think>"

Message = Mapping[str, Any]


def split_thinking(text: str, where: str = "row", field: str = "completion") -> tuple[str | None, str]:
    """(trace, answer) of a completion with inline think tags; the trace is None where there is none.

    Raises:
        RowError: a trace that never closes, or tags inside trace or answer.

    Example:
        >>> split_thinking("<think>\\n2 + 2 = 4\\n</think>\\n\\nIt is 4.")
        ('2 + 2 = 4', 'It is 4.')
        >>> split_thinking("opener in the prompt</think>yes"), split_thinking("no thinking")
        (('opener in the prompt', 'yes'), (None, 'no thinking'))
    """
    if OPEN not in text and CLOSE not in text:
        return None, text
    if CLOSE not in text:
        expected = f"a trace that closes ({OPEN} without {CLOSE}: generate with more tokens)"
        raise field_error(where, field, expected, text, "unclosed trace")
    before, answer = text.split(CLOSE, 1)
    trace = before.lstrip().removeprefix(OPEN) if before.lstrip().startswith(OPEN) else before
    if OPEN in trace or OPEN in answer or CLOSE in answer:
        expected = f"one {OPEN}...{CLOSE} block, at the beginning (no tags inside trace or answer)"
        raise field_error(where, field, expected, text, "tags in answer")
    return trace.strip("\n"), answer.lstrip("\n")


def assistant_message(value: Any, where: str, field: str) -> dict[str, Any]:
    """A completion, given as text or as one object, as a message with ``reasoning_content``.

    Raises:
        RowError: not a completion, two traces in one, or think tags where they do not belong.
    """
    if isinstance(value, str):
        trace, answer = split_thinking(value, where, field)
        return {"role": "assistant", "content": answer, "reasoning_content": trace}
    if not isinstance(value, Mapping):
        raise field_error(where, field, "text, a message, or an object with thought and answer", value)
    if value.get("role", "assistant") != "assistant":
        raise field_error(where, field, "a message with role assistant", dict(value))
    content = value.get("content") if "content" in value else value.get("answer")
    if not isinstance(content, str):
        raise field_error(where, field, "an object with text under content (or answer)", dict(value))
    given = {key: value[key] for key in TRACE_KEYS if value.get(key) is not None}
    if len({str(trace) for trace in given.values()}) > 1:
        raise field_error(where, field, f"one trace, not different ones under {' and '.join(given)}", dict(value))
    for key, trace in given.items():
        if not isinstance(trace, str):
            raise field_error(where, field, f"text under {key}", trace)
        return {"role": "assistant", "content": content, "reasoning_content": trace}
    return assistant_message(content, where, field)


def conversation(value: Any, where: str, field: str) -> tuple[tuple[Message, ...], Any]:
    """(messages before the completion, the completion) of a completion in any accepted form.

    Raises:
        RowError: an empty list, or one that does not end with the assistant.
    """
    if not isinstance(value, Sequence) or isinstance(value, str):
        return (), value
    if not value or not all(isinstance(message, Mapping) for message in value):
        raise field_error(where, field, "text or a list of messages", value)
    if value[-1].get("role", "assistant") != "assistant":
        raise field_error(where, field, "a last message with role assistant", dict(value[-1]))
    return tuple({k: v for k, v in message.items() if v is not None} for message in value[:-1]), value[-1]


def prompt_messages(record: Message, contexts: Sequence[tuple[Message, ...]], where: str) -> tuple[Message, ...]:
    """The prompt of a record: its ``prompt`` (text or messages), or what its completions repeat before the answer.

    Args:
        record: the record.
        contexts: the messages that each completion repeats; empty tuples where it repeats none.
        where: place of the record.

    Raises:
        RowError: no prompt, or completions of different prompts.
    """
    given = record.get("prompt")
    repeated = [context for context in contexts if context]
    if any(context != repeated[0] for context in repeated[1:]):
        raise RowError(f"{where}: chosen and rejected repeat different prompts; a pair needs one prompt")
    if given is None:
        if not repeated:
            raise field_error(where, "prompt", "text or messages", given)
        return repeated[0]
    if isinstance(given, str):
        if repeated and repeated[0][-1].get("content") != given:
            raise field_error(where, "prompt", "the prompt that chosen and rejected repeat", given)
        return repeated[0] if repeated else ({"role": "user", "content": given},)
    if not isinstance(given, Sequence) or not all(isinstance(message, Mapping) for message in given):
        raise field_error(where, "prompt", "text or a list of messages", given)
    messages = tuple({k: v for k, v in message.items() if v is not None} for message in given)
    if repeated and repeated[0] != messages:
        raise RowError(f"{where}: chosen and rejected repeat another prompt than the field 'prompt'")
    return messages
