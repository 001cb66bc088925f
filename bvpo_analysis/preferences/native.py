"""The native row of a preference pair: strict conversion in both directions, with errors that name place and field.

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

Optional provenance that other stages read from ``meta``: ``temperature``, ``trace_source``, and ``sampler_log_prob``,
an object {"chosen": ..., "rejected": ...} of the natural log-probabilities that the sampler recorded for the generated
tokens (trace, answer and end of turn), to be compared with those of the model under study.
"""

import json
from collections.abc import Mapping
from typing import Any, Literal

from bvpo_analysis.errors import InputError
from bvpo_analysis.records import Completion, PreferencePair

_REQUIRED = ("prompt_id", "prompt", "chosen", "rejected")
_TRACE_LISTS = ("chosen_traces", "rejected_traces", "prior_traces")
_SCORES = ("score_chosen", "score_rejected")
_KNOWN = {*_REQUIRED, *_TRACE_LISTS, *_SCORES, "empty_chosen", "empty_rejected", "meta"}
_ROLES = ("system", "user", "assistant", "tool")


REASONS: dict[str, str] = {
    "malformed": "a field is missing, unknown or of the wrong type",
    "no trace": "the chosen or the rejected answer comes without a reasoning trace",
    "unclosed trace": "thinking was opened and never closed, as when generation stops at a length limit",
    "tags in answer": "think tags inside an answer or a trace",
    "empty answer": "an answer is empty",
    "same answers": "chosen and rejected answers are the same",
    "tie": "best and worst score are equal",
    "too few responses": "fewer than two usable responses to choose from",
    "repeated prompt": "a further pair of a prompt that already has one",
}
"""Why a row cannot serve as a preference pair."""


class RowError(InputError):
    """A row that cannot serve as a preference pair; ``reason`` is a key of ``REASONS``."""

    def __init__(self, message: str, reason: str = "malformed"):
        super().__init__(message)
        self.reason = reason


def field_error(where: str, field: str, expected: str, got: Any, reason: str = "malformed") -> RowError:
    """The error of one field: place, field, what was expected and what was found, on one line of bounded length."""
    if isinstance(got, str):
        got = got[:200]  # quoting a long value in full would cost more than reading it
    shown = json.dumps(got, ensure_ascii=False, default=str)
    shown = (shown if len(shown) <= 80 else shown[:77] + "...").encode("utf-8", "backslashreplace").decode("utf-8")
    return RowError(f"{where}: field {field!r}: expected {expected}, got {shown}", reason)


def _text(where: str, field: str, value: Any, *, may_be_empty: bool = False, empty: str = "malformed") -> str:
    if not isinstance(value, str) or (not value and not may_be_empty):
        reason = empty if value == "" else "malformed"
        raise field_error(where, field, "a string" if may_be_empty else "a non-empty string", value, reason)
    if not value.isascii():
        try:
            value.encode("utf-8")
        except UnicodeEncodeError as error:
            lone = value[error.start : error.start + 1]
            raise field_error(
                where, field, "Unicode text (half of a surrogate pair cannot be written)", lone
            ) from error
    return value


def _trace(where: str, field: str, value: Any) -> str:
    text = _text(where, field, value, may_be_empty=True)
    if "<think>" in text or "</think>" in text:
        expected = "a trace without <think> tags (they are added from the chat template)"
        raise field_error(where, field, expected, text, "tags in answer")
    return text


def prompt_from(value: Any, where: str = "row") -> tuple[Mapping[str, str], ...]:
    """A list of chat messages as a prompt.

    Raises:
        RowError: not a list of messages with known roles and text, or one that ends with the assistant's.
    """
    if not isinstance(value, list) or not value:
        raise field_error(where, "prompt", "a non-empty list of chat messages", value)
    for message in value:
        if not isinstance(message, Mapping) or message.get("role") not in _ROLES:
            raise field_error(where, "prompt", f"messages with a role among {', '.join(_ROLES)}", message)
        _text(where, "prompt", message.get("content"))
    if value[-1]["role"] == "assistant":
        raise field_error(where, "prompt", "the last message not to be the assistant's", value[-1])
    return tuple(dict(message) for message in value)


def _completion(where: str, field: str, value: Any) -> Completion:
    if not isinstance(value, list) or len(value) != 1 or not isinstance(value[0], Mapping):
        raise field_error(where, field, "a list of one assistant message", value)
    message = value[0]
    if message.get("role") != "assistant":
        raise field_error(where, field, "a message with role assistant", message)
    answer = _text(where, field, message.get("content"), empty="empty answer")
    if "<think>" in answer and "</think>" not in answer:
        expected = "a trace that closes (<think> without </think>: generate with more tokens)"
        raise field_error(where, field, expected, answer, "unclosed trace")
    if "<think>" in answer or "</think>" in answer:
        expected = "the trace under reasoning_content, not inside content"
        raise field_error(where, field, expected, answer, "tags in answer")
    trace = message.get("reasoning_content")
    return Completion(answer, None if trace is None else _trace(where, field, trace))


def _score(where: str, field: str, value: Any) -> float | None:
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) < 1e300:
        raise field_error(where, field, "a finite number or null", value)
    return float(value)


def pair_from_row(row: Any, where: str = "row") -> PreferencePair:
    """Turn one parsed JSON object into a :class:`PreferencePair`.

    Args:
        row: the object.
        where: how errors name the place, such as ``pairs.jsonl:17``.

    Raises:
        RowError: an InputError naming place, field, what was expected and what was found.

    Example:
        >>> side = lambda y: [{"role": "assistant", "content": y, "reasoning_content": "t"}]
        >>> row = {"prompt_id": "q", "prompt": [{"role": "user", "content": "x"}],
        ...        "chosen": side("a"), "rejected": side("b")}
        >>> pair_from_row(row).empty_answers
        'copied'
    """
    if not isinstance(row, Mapping):
        raise RowError(f"{where}: expected a JSON object, got {type(row).__name__}")
    missing = [key for key in _REQUIRED if key not in row]
    if missing:
        raise RowError(f"{where}: field {missing[0]!r} is missing; required are {', '.join(_REQUIRED)}")
    unknown = sorted(set(row) - _KNOWN)
    if unknown:
        raise RowError(f"{where}: unknown field {unknown[0]!r}; put provenance under 'meta'")
    chosen = _completion(where, "chosen", row["chosen"])
    rejected = _completion(where, "rejected", row["rejected"])
    for field, completion in (("chosen", chosen), ("rejected", rejected)):
        if completion.trace is None:
            expected = "a reasoning_content (the trace that generated the answer)"
            raise field_error(where, field, expected, row[field], "no trace")
    if chosen.answer == rejected.answer:
        message = f"{where}: chosen and rejected answers are the same ({chosen.answer[:60]!r}); drop the row"
        raise RowError(message, "same answers")
    lists = {}
    for field in _TRACE_LISTS:
        values = [] if row.get(field) is None else row[field]
        if not isinstance(values, list):
            raise field_error(where, field, "a list of traces", values)
        lists[field] = tuple(_trace(where, field, value) for value in values)
    empties: list[str] = []
    for field in ("empty_chosen", "empty_rejected"):
        if row.get(field) is not None:
            completion = _completion(where, field, row[field])
            if completion.trace is not None:
                raise field_error(where, field, "reasoning_content null (an empty trace)", completion.trace)
            empties.append(completion.answer)
    if len(empties) == 1:
        raise RowError(f"{where}: empty_chosen and empty_rejected must be given together, or neither")
    if empties and empties[0] == empties[1]:
        message = f"{where}: empty_chosen and empty_rejected are the same ({empties[0][:60]!r}); drop the row"
        raise RowError(message, "same answers")
    source: Literal["own", "copied"] = "own" if empties else "copied"
    meta = {} if row.get("meta") is None else row["meta"]
    if not isinstance(meta, Mapping):
        raise field_error(where, "meta", "an object", meta)
    _score(where, "meta.temperature", meta.get("temperature"))
    recorded = meta.get("sampler_log_prob")
    if recorded is not None and not isinstance(recorded, Mapping):
        raise field_error(where, "meta.sampler_log_prob", "an object with the keys chosen and rejected", recorded)
    for key, value in (recorded or {}).items():
        _score(where, f"meta.sampler_log_prob.{key}", value)
    return PreferencePair(
        prompt_id=_text(where, "prompt_id", row["prompt_id"]),
        prompt=prompt_from(row["prompt"], where),
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
