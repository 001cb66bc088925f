"""Joining files: the trace-based data D_t with the empty-trace data D_e, by prompt, and several files into one.

The two data sets of a mixed gradient are often sampled apart: completions with thinking, ranked and paired, and
completions without thinking, ranked and paired by the same rule. A study needs them side by side.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from bvpo_analysis.errors import InputError
from bvpo_analysis.preferences.files import records
from bvpo_analysis.preferences.formats import FORMATS, detect
from bvpo_analysis.preferences.formats.base import prompt_name
from bvpo_analysis.preferences.native import RowError, pair_from_row
from bvpo_analysis.preferences.rows import PairFile, read_file
from bvpo_analysis.records import PreferencePair


@dataclass(frozen=True)
class EmptyAnswers:
    """The pair of answers (y'+, y'-) of one prompt, generated without thinking.

    Attributes:
        where: place of the row.
        prompt_id: its prompt_id, or a name made from the prompt.
        prompt: the messages.
        chosen, rejected: the answers.
    """

    where: str
    prompt_id: str
    prompt: tuple[Mapping[str, str], ...]
    chosen: str
    rejected: str


@dataclass(frozen=True)
class Merged:
    """Pairs of several files, with what became of their rows.

    Attributes:
        pairs: in the order of the files.
        dropped: rows left out, by reason.
        with_empty: pairs that received answers of their own for the empty trace.
        unused_empty: rows of D_e whose prompt is in none of the files.
    """

    pairs: tuple[PreferencePair, ...]
    dropped: Mapping[str, int]
    with_empty: int
    unused_empty: int


def read_empty_answers(source: str | Path, *, format: str = "auto") -> tuple[tuple[EmptyAnswers, ...], Counter[str]]:
    """Read a file D_e: rows as for the other formats, but of completions without a trace (or with an empty one).

    Returns:
        The rows in file order, one per prompt, and how many were left out by reason.

    Raises:
        InputError: an unreadable file, a row that must be mended, a trace, or a repeated prompt.
    """
    if format != "auto" and format not in FORMATS:
        raise InputError(f"unknown format {format!r}; choose among auto, {', '.join(FORMATS)}")
    reader = FORMATS.get(format)
    found: dict[str, EmptyAnswers] = {}
    dropped: Counter[str] = Counter()
    for record in records(source):
        if record.error is not None:
            raise RowError(record.error)
        reader = reader or detect(record.value, record.where)
        try:
            if not isinstance(record.value, dict):
                raise RowError(f"{record.where}: expected a JSON object, got {type(record.value).__name__}")
            row = dict(reader.to_row(record.value, record.where, dropped))
            for side in ("chosen", "rejected"):
                messages = row.get(side)
                if isinstance(messages, list) and messages and isinstance(messages[0], Mapping):
                    if (str(messages[0].get("reasoning_content") or "")).strip():
                        raise RowError(
                            f"{record.where}: field {side!r}: expected an answer generated without thinking, got a "
                            "trace; give --empty-data the file of the empty-trace answers"
                        )
                    row[side] = [{**messages[0], "reasoning_content": ""}, *messages[1:]]
            pair = pair_from_row(row, record.where)
        except RowError as error:
            if error.reason not in reader.droppable:
                raise
            dropped[error.reason] += 1
            continue
        name = prompt_name(pair.prompt)
        if name in found:
            raise RowError(f"{record.where}: repeats the prompt of {found[name].where}; keep one row per prompt")
        found[name] = EmptyAnswers(record.where, pair.prompt_id, pair.prompt, pair.chosen.answer, pair.rejected.answer)
    if not found:
        raise InputError(f"{source}: no pairs of empty-trace answers in the file")
    return tuple(found.values()), dropped


def merge(
    sources: Sequence[str | Path],
    empty: str | Path | None = None,
    *,
    format: str = "auto",
    one_per_prompt: bool = False,
) -> Merged:
    """Join files of pairs, and give each pair the empty-trace answers of its prompt.

    A row of D_e belongs to the pair of the same prompt: the same messages, or the same prompt_id and last message (the
    system message may say how to think). A pair without one keeps what it has, so that y' = y if it has none.

    Args:
        sources: files of pairs, in any format.
        empty: file of empty-trace answers D_e, or None to join the files only.
        format: of ``sources``; that of ``empty`` is detected.
        one_per_prompt: keep the first pair of each prompt; otherwise a second one is an error.

    Raises:
        InputError: an unreadable file, a row that must be mended, a repeated prompt, or a D_e that shares no prompt.
    """
    # One part of a build may have found no pair.
    files: list[PairFile] = [
        read_file(source, format=format, one_per_prompt=one_per_prompt, may_be_empty=len(sources) > 1)
        for source in sources
    ]
    dropped = sum((Counter(file.dropped) for file in files), Counter[str]())
    pairs: dict[str, PreferencePair] = {}
    for source, file in zip(sources, files, strict=True):
        for pair in file.pairs:
            if pair.prompt_id not in pairs:
                pairs[pair.prompt_id] = pair
            elif one_per_prompt:
                dropped["repeated prompt"] += 1
            else:
                raise InputError(
                    f"{source}: prompt_id {pair.prompt_id!r} is in an earlier file too; use --one-per-prompt to keep "
                    "the first pair of each prompt"
                )
    if not pairs:
        raise InputError(f"{sources[0]}: no preference pairs in this file nor in the others")
    if empty is None:
        return Merged(tuple(pairs.values()), dict(dropped), 0, 0)
    answers, dropped_empty = read_empty_answers(empty)
    by_prompt = {prompt_name(row.prompt): row for row in answers}
    by_id = {row.prompt_id: row for row in answers}
    joined, used = [], set()
    for pair in pairs.values():
        row = by_prompt.get(prompt_name(pair.prompt))
        if row is None and (candidate := by_id.get(pair.prompt_id)) is not None:
            if candidate.prompt[-1] != pair.prompt[-1]:
                raise InputError(
                    f"{candidate.where}: prompt_id {pair.prompt_id!r} names another prompt than in the other file; "
                    "leave prompt_id out to join by the text of the prompts"
                )
            row = candidate
        if row is not None:
            used.add(row.where)
            pair = replace(pair, empty_chosen=row.chosen, empty_rejected=row.rejected, empty_answers="own")
        joined.append(pair)
    if not used:
        raise InputError(f"{empty}: shares no prompt with the other files; prompts must agree word for word")
    for reason, count in dropped_empty.items():
        dropped[f"empty trace: {reason}"] += count
    return Merged(tuple(joined), dict(dropped), len(used), len(answers) - len(used))
