"""The native JSONL row of a preference pair: strict reading with line-numbered errors, and writing.

One row per prompt, because prompts are the clusters of every interval::

    {"prompt_id": "q17", "prompt": [{"role": "user", "content": "..."}],
     "chosen":   [{"role": "assistant", "content": "ANSWER", "reasoning_content": "TRACE"}],
     "rejected": [{"role": "assistant", "content": "ANSWER", "reasoning_content": "TRACE"}],
     "chosen_traces": ["..."], "rejected_traces": ["..."], "prior_traces": ["..."],
     "empty_chosen":   [{"role": "assistant", "content": "ANSWER", "reasoning_content": null}],
     "empty_rejected": [{"role": "assistant", "content": "ANSWER", "reasoning_content": null}],
     "score_chosen": 0.91, "score_rejected": 0.12, "meta": {...}}

``reasoning_content`` is the trace that generated the answer; ``chosen_traces`` / ``rejected_traces`` are further
posterior traces of the same answer; ``prior_traces`` were drawn without seeing any answer. Rows without ``empty_*``
reuse y' = y and are stamped ``copied``.
"""

import json
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from bvpo_analysis.errors import InputError
from bvpo_analysis.records import Completion, PreferencePair

_REQUIRED = ("prompt_id", "prompt", "chosen", "rejected")
_TRACE_LISTS = ("chosen_traces", "rejected_traces", "prior_traces")
_SCORES = ("score_chosen", "score_rejected")
_KNOWN = {*_REQUIRED, *_TRACE_LISTS, *_SCORES, "empty_chosen", "empty_rejected", "meta"}
_ROLES = ("system", "user", "assistant", "tool")


def _fail(where: str, field: str, expected: str, got: Any) -> InputError:
    shown = json.dumps(got, ensure_ascii=False, default=str)
    shown = shown if len(shown) <= 80 else shown[:77] + "..."
    return InputError(f"{where}: field {field!r}: expected {expected}, got {shown}")


def _text(where: str, field: str, value: Any, *, may_be_empty: bool = False) -> str:
    if not isinstance(value, str) or (not value and not may_be_empty):
        raise _fail(where, field, "a string" if may_be_empty else "a non-empty string", value)
    return value


def _trace(where: str, field: str, value: Any) -> str:
    text = _text(where, field, value, may_be_empty=True)
    if "<think>" in text or "</think>" in text:
        raise _fail(where, field, "a trace without <think> tags (they are added from the chat template)", text)
    return text


def _prompt(where: str, value: Any) -> tuple[Mapping[str, str], ...]:
    if not isinstance(value, list) or not value:
        raise _fail(where, "prompt", "a non-empty list of chat messages", value)
    for message in value:
        if not isinstance(message, Mapping) or message.get("role") not in _ROLES:
            raise _fail(where, "prompt", f"messages with a role among {', '.join(_ROLES)}", message)
        _text(where, "prompt", message.get("content"))
    if value[-1]["role"] == "assistant":
        raise _fail(where, "prompt", "the last message not to be the assistant's", value[-1])
    return tuple(dict(message) for message in value)


def _completion(where: str, field: str, value: Any) -> Completion:
    if not isinstance(value, list) or len(value) != 1 or not isinstance(value[0], Mapping):
        raise _fail(where, field, "a list of one assistant message", value)
    message = value[0]
    if message.get("role") != "assistant":
        raise _fail(where, field, "a message with role assistant", message)
    answer = _text(where, field, message.get("content"))
    if "<think>" in answer and "</think>" not in answer:
        raise _fail(where, field, "a trace that closes (<think> without </think>: generate with more tokens)", answer)
    if "<think>" in answer:
        raise _fail(where, field, "the trace under reasoning_content, not inside content", answer)
    trace = message.get("reasoning_content")
    return Completion(answer, None if trace is None else _trace(where, field, trace))


def _score(where: str, field: str, value: Any) -> float | None:
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) < 1e300:
        raise _fail(where, field, "a finite number or null", value)
    return float(value)


def pair_from_row(row: Any, where: str = "row") -> PreferencePair:
    """Turn one parsed JSON object into a :class:`PreferencePair`.

    Args:
        row: the object.
        where: how errors name the place, such as ``pairs.jsonl:17``.

    Raises:
        InputError: naming place, field, what was expected and what was found.

    Example:
        >>> side = lambda y: [{"role": "assistant", "content": y, "reasoning_content": "t"}]
        >>> row = {"prompt_id": "q", "prompt": [{"role": "user", "content": "x"}],
        ...        "chosen": side("a"), "rejected": side("b")}
        >>> pair_from_row(row).empty_answers
        'copied'
    """
    if not isinstance(row, Mapping):
        raise InputError(f"{where}: expected a JSON object, got {type(row).__name__}")
    missing = [key for key in _REQUIRED if key not in row]
    if missing:
        raise InputError(f"{where}: field {missing[0]!r} is missing; required are {', '.join(_REQUIRED)}")
    unknown = sorted(set(row) - _KNOWN)
    if unknown:
        raise InputError(f"{where}: unknown field {unknown[0]!r}; put provenance under 'meta'")
    chosen = _completion(where, "chosen", row["chosen"])
    rejected = _completion(where, "rejected", row["rejected"])
    for field, completion in (("chosen", chosen), ("rejected", rejected)):
        if completion.trace is None:
            raise _fail(where, field, "a reasoning_content (the trace that generated the answer)", row[field])
    if chosen.answer == rejected.answer:
        raise InputError(f"{where}: chosen and rejected answers are the same ({chosen.answer[:60]!r}); drop the row")
    lists = {}
    for field in _TRACE_LISTS:
        values = [] if row.get(field) is None else row[field]
        if not isinstance(values, list):
            raise _fail(where, field, "a list of traces", values)
        lists[field] = tuple(_trace(where, field, value) for value in values)
    empties: list[str] = []
    for field in ("empty_chosen", "empty_rejected"):
        if row.get(field) is not None:
            completion = _completion(where, field, row[field])
            if completion.trace is not None:
                raise _fail(where, field, "reasoning_content null (an empty trace)", completion.trace)
            empties.append(completion.answer)
    if len(empties) == 1:
        raise InputError(f"{where}: empty_chosen and empty_rejected must be given together, or neither")
    if empties and empties[0] == empties[1]:
        raise InputError(f"{where}: empty_chosen and empty_rejected are the same ({empties[0][:60]!r}); drop the row")
    source: Literal["own", "copied"] = "own" if empties else "copied"
    meta = {} if row.get("meta") is None else row["meta"]
    if not isinstance(meta, Mapping):
        raise _fail(where, "meta", "an object", meta)
    _score(where, "meta.temperature", meta.get("temperature"))
    return PreferencePair(
        prompt_id=_text(where, "prompt_id", row["prompt_id"]),
        prompt=_prompt(where, row["prompt"]),
        chosen=chosen,
        rejected=rejected,
        empty_chosen=empties[0] if empties else chosen.answer,
        empty_rejected=empties[1] if empties else rejected.answer,
        empty_answers=source,
        score_chosen=_score(where, "score_chosen", row.get("score_chosen")),
        score_rejected=_score(where, "score_rejected", row.get("score_rejected")),
        meta=dict(meta),
        **lists,
    )


def pair_to_row(pair: PreferencePair) -> dict[str, Any]:
    """The native row of a pair; :func:`pair_from_row` reads it back unchanged."""

    def turn(answer: str, trace: str | None) -> list[dict[str, Any]]:
        return [{"role": "assistant", "content": answer, "reasoning_content": trace}]

    row: dict[str, Any] = {
        "prompt_id": pair.prompt_id,
        "prompt": [dict(message) for message in pair.prompt],
        "chosen": turn(pair.chosen.answer, pair.chosen.trace),
        "rejected": turn(pair.rejected.answer, pair.rejected.trace),
        "chosen_traces": list(pair.chosen_traces),
        "rejected_traces": list(pair.rejected_traces),
        "prior_traces": list(pair.prior_traces),
    }
    if pair.empty_answers == "own":
        row["empty_chosen"] = turn(pair.empty_chosen, None)
        row["empty_rejected"] = turn(pair.empty_rejected, None)
    row["score_chosen"], row["score_rejected"] = pair.score_chosen, pair.score_rejected
    row["meta"] = dict(pair.meta)
    return row


def read_pairs(path: str | Path, *, limit: int | None = None) -> tuple[PreferencePair, ...]:
    """Read a JSONL file of native rows.

    Args:
        path: the file; blank lines are skipped.
        limit: keep the first so many pairs only.

    Raises:
        InputError: missing file, malformed line (with its number), repeated prompt, or no pair at all.
    """
    path = Path(path)
    if not path.is_file():
        raise InputError(f"{path}: no such file; give --data a JSONL file of preference pairs")
    pairs: list[PreferencePair] = []
    first_seen: dict[str, int] = {}
    try:
        lines = path.read_text(encoding="utf-8-sig").split("\n")
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: not UTF-8 text (byte {error.start}); give --data a JSONL file") from error
    for number, line in enumerate(lines, start=1):
        if limit is not None and len(pairs) >= limit:
            break
        if not line.strip():
            continue
        where = f"{path}:{number}"
        try:
            row = json.loads(line)
        except json.JSONDecodeError as error:
            raise InputError(f"{where}: not a JSON object ({error.msg} at column {error.colno})") from error
        pair = pair_from_row(row, where)
        if pair.prompt_id in first_seen:
            raise InputError(
                f"{where}: prompt_id {pair.prompt_id!r} repeats line {first_seen[pair.prompt_id]}; prompts are the "
                "clusters of every interval, so keep one pair per prompt"
            )
        first_seen[pair.prompt_id] = number
        pairs.append(pair)
    if not pairs:
        raise InputError(f"{path}: no preference pairs in the file; expected one JSON object per line")
    return tuple(pairs)


def write_pairs(path: str | Path, pairs: Iterable[PreferencePair]) -> None:
    """Write native rows, one per line, whole or not at all."""
    path = Path(path)
    part = path.with_name(path.name + ".part")
    with part.open("w", encoding="utf-8", newline="\n") as file:
        for pair in pairs:
            file.write(json.dumps(pair_to_row(pair), ensure_ascii=False) + "\n")
        file.flush()
        os.fsync(file.fileno())
    part.replace(path)


def require_traces(pairs: Sequence[PreferencePair], traces: int) -> None:
    """Hold that every answer has at least ``traces`` posterior traces.

    Raises:
        InputError: naming the first prompt that has fewer, or whose further traces are no draws from the posterior, and
            the remedy.
    """
    for pair in pairs:
        source = pair.meta.get("trace_source", "posterior")
        if traces > 1 and source != "posterior":
            raise InputError(
                f"prompt {pair.prompt_id!r}: its further traces are marked trace_source {source!r}, but only draws "
                "from the posterior of the answer can be averaged; use --traces 1"
            )
        available = min(len(pair.traces(0)), len(pair.traces(1)))
        if available < traces:
            raise InputError(
                f"prompt {pair.prompt_id!r} has {available} posterior trace(s) per answer, but --traces {traces} "
                f"asks for more; use --traces {available}, or add chosen_traces and rejected_traces"
            )
