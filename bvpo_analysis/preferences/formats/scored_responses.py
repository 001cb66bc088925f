"""Rows of several on-policy responses with the score of each: the best is paired with the worst.

    {"prompt": "...", "all_generated_responses": ["<think>T</think>Y", {"thought": T, "answer": Y}, ...],
     "all_rm_scores": [0.3, -1.2, ...]}

A response that never closes its trace has no answer and cannot be chosen; such responses are counted, because leaving
them out conditions the policy on short traces. Rows without two different scores among the rest are ties. The scores
must be of the answers alone: a reward model that was shown the traces makes the trace-based gradient biased.
"""

import math
from collections import Counter
from collections.abc import Mapping
from typing import Any

from bvpo_analysis.preferences.formats.base import FURTHER, Format, carried
from bvpo_analysis.preferences.formats.completions import assistant_message, conversation, prompt_messages
from bvpo_analysis.preferences.formats.prompt_chosen_rejected import DROPPABLE, name_of, without_trace
from bvpo_analysis.preferences.native import RowError, field_error


def to_row(record: Mapping[str, Any], where: str, counts: Counter[str]) -> dict[str, Any]:
    """The native row of a record: highest against lowest score, the first of equals.

    Adds to ``counts``: "responses" and "unclosed responses".

    Raises:
        RowError: it cannot be one, with the reason.

    Example:
        >>> record = {"prompt": "x", "all_generated_responses": ["<think>t</think>a", "<think>u</think>b", "<think>v"],
        ...           "all_rm_scores": [0.5, 2, 9]}
        >>> counts = Counter()
        >>> row = to_row(record, "row", counts)
        >>> row["chosen"][0]["content"], row["score_rejected"], counts["unclosed responses"]
        ('b', 0.5, 1)
    """
    given, scores = record.get("all_generated_responses"), record.get("all_rm_scores")
    if not isinstance(given, list) or not given:
        raise field_error(where, "all_generated_responses", "a non-empty list of responses", given)
    if not isinstance(scores, list) or len(scores) != len(given):
        raise field_error(where, "all_rm_scores", f"a list of {len(given)} scores, one per response", scores)
    for score in scores:
        if isinstance(score, bool) or not isinstance(score, int | float) or not math.isfinite(score):
            raise field_error(where, "all_rm_scores", "finite numbers", score)
    counts["responses"] += len(given)
    usable: list[tuple[float, dict[str, Any]]] = []
    contexts = []
    for value, score in zip(given, scores, strict=True):
        context, completion = conversation(value, where, "all_generated_responses")
        contexts.append(context)
        try:
            usable.append((float(score), assistant_message(completion, where, "all_generated_responses")))
        except RowError as error:
            if error.reason != "unclosed trace":
                raise
            counts["unclosed responses"] += 1
    if len(usable) < 2:
        message = f"{where}: {len(usable)} of {len(given)} responses can be used; at least two are needed"
        raise RowError(message, "too few responses")
    best, worst = max(usable, key=lambda item: item[0]), min(usable, key=lambda item: item[0])
    if best[0] == worst[0]:
        raise RowError(f"{where}: all responses have the score {best[0]:g}; there is nothing to prefer", "tie")
    prompt = prompt_messages(record, contexts, where)
    row: dict[str, Any] = {
        "prompt_id": name_of(record, prompt, where),
        "prompt": list(prompt),
        "chosen": [best[1]],
        "rejected": [worst[1]],
        **carried(record),
        "score_chosen": best[0],
        "score_rejected": worst[0],
    }
    for field in ("empty_chosen", "empty_rejected"):
        if record.get(field) is not None:
            row[field] = [without_trace(conversation(record[field], where, field)[1], where, field)]
    return row


SCORED_RESPONSES = Format(
    name="scored-responses",
    description="prompt, all_generated_responses, all_rm_scores; best against worst, ties left out",
    recognises=lambda record: "all_generated_responses" in record,
    to_row=to_row,
    # chosen and rejected are often there as well; they are the best and the worst response once more.
    uses=frozenset(
        {
            *("prompt", "prompt_id", "all_generated_responses", "all_rm_scores", "chosen", "rejected"),
            *("empty_chosen", "empty_rejected", "temperature", *FURTHER),
        }
    ),
    droppable=(*DROPPABLE, "tie", "too few responses"),
)
