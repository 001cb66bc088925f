"""Reading and writing files of preference pairs, in the native format or in another one that is converted.

Prompts are the clusters of every interval, so one pair per prompt is required: a file with several is refused, or its
first pair of each prompt is kept when asked for. What is left out is counted by reason, never silently.
"""

import json
import os
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bvpo_analysis.errors import InputError
from bvpo_analysis.preferences.files import records
from bvpo_analysis.preferences.formats import FORMATS, detect
from bvpo_analysis.preferences.formats.base import Format
from bvpo_analysis.preferences.native import REASONS, RowError, pair_from_row, pair_to_row
from bvpo_analysis.records import PreferencePair


@dataclass(frozen=True)
class RowResult:
    """What became of one record: exactly one of ``pair`` and ``problem`` is given.

    Attributes:
        where: place of the record, such as ``pairs.jsonl:17``.
        pair: the preference pair.
        problem: why there is none.
        fatal: whether the file must be mended; False for rows that a format is allowed to leave out.
        reason: key of :data:`bvpo_analysis.preferences.native.REASONS`; empty where there is a pair.
    """

    where: str
    pair: PreferencePair | None = None
    problem: str = ""
    fatal: bool = False
    reason: str = ""


@dataclass
class FileFacts:
    """What is known of a file while its rows are read.

    Attributes:
        format: name of the format, as detected or given.
        rows: records so far.
        counts: what the format counted beside rows, such as responses that never closed their trace.
        ignored: columns that the format does not use.
    """

    format: str = ""
    rows: int = 0
    counts: Counter[str] = field(default_factory=Counter)
    ignored: set[str] = field(default_factory=set)


@dataclass(frozen=True)
class PairFile:
    """The pairs of a file and what was left out.

    Attributes:
        pairs: in file order.
        format: name of the format, a key of :data:`bvpo_analysis.preferences.formats.FORMATS`.
        rows: records read.
        dropped: rows left out, by reason (keys of :data:`bvpo_analysis.preferences.native.REASONS`).
        counts: what the format counted beside rows, such as "responses" and "unclosed responses".
        ignored: columns that the format does not use, sorted.
    """

    pairs: tuple[PreferencePair, ...]
    format: str
    rows: int
    dropped: Mapping[str, int]
    counts: Mapping[str, int]
    ignored: tuple[str, ...]


def row_results(
    source: str | Path, *, format: str = "auto", one_per_prompt: bool = False, facts: FileFacts | None = None
) -> Iterator[RowResult]:
    """Every record of a file as a pair or with the reason why not; nothing but an unreadable file raises.

    Args:
        source: see :func:`bvpo_analysis.preferences.files.records`.
        format: key of ``FORMATS``, or "auto": told from the first record, and then required of all.
        one_per_prompt: leave out further pairs of a prompt instead of calling them errors.
        facts: filled on the way.

    Raises:
        InputError: unknown format, or a source that cannot be read.
    """
    if format != "auto" and format not in FORMATS:
        raise InputError(f"unknown format {format!r}; choose among auto, {', '.join(FORMATS)}")
    facts = facts if facts is not None else FileFacts()
    reader = FORMATS.get(format)
    first_seen: dict[str, str] = {}
    for record in records(source):
        facts.rows += 1
        try:
            if record.error is not None:
                raise RowError(record.error)
            reader = _reader(reader, record.value, record.where)
            facts.format = reader.name
            pair = pair_from_row(reader.to_row(record.value, record.where, facts.counts), record.where)
            facts.ignored.update(reader.unused(record.value))
            if pair.prompt_id in first_seen:
                raise RowError(
                    f"{record.where}: prompt_id {pair.prompt_id!r} repeats line {first_seen[pair.prompt_id]}; prompts "
                    "are the clusters of every interval, so keep one pair per prompt (the first: "
                    "python -m bvpo_analysis.preferences merge FILE --one-per-prompt --output NEW)",
                    "repeated prompt",
                )
        except RowError as error:
            droppable = (reader is not None and error.reason in reader.droppable) or (
                one_per_prompt and error.reason == "repeated prompt"
            )
            yield RowResult(record.where, problem=str(error), fatal=not droppable, reason=error.reason)
            continue
        first_seen[pair.prompt_id] = record.where.rsplit(":", 1)[1]
        yield RowResult(record.where, pair=pair)


def _reader(reader: Format | None, record: Any, where: str) -> Format:
    """The format of a record: that of the file, if it is that."""
    if reader is FORMATS["native"] or (isinstance(record, dict) and reader is not None and reader.recognises(record)):
        return reader
    found = detect(record, where)
    if reader is not None and reader.to_row is not found.to_row:
        raise RowError(f"{where}: a row of format {found.name!r} in a file of format {reader.name!r}; use one format")
    return reader or found


def read_file(
    source: str | Path,
    *,
    format: str = "auto",
    limit: int | None = None,
    one_per_prompt: bool = False,
    may_be_empty: bool = False,
) -> PairFile:
    """Read preference pairs, with an account of what was left out.

    Args:
        source: JSONL, JSON or parquet file, or ``datasets:OWNER/NAME[:SPLIT]``.
        format: key of ``FORMATS``, or "auto".
        limit: keep the first so many pairs and read no further.
        one_per_prompt: keep the first pair of each prompt; otherwise a second one is an error.
        may_be_empty: accept a file without any row.

    Raises:
        InputError: unreadable file, a row that must be mended (with file and line), a repeated prompt, or no pair.
    """
    facts, dropped = FileFacts(), Counter[str]()
    pairs: list[PreferencePair] = []
    results = row_results(source, format=format, one_per_prompt=one_per_prompt, facts=facts)
    while limit is None or len(pairs) < limit:
        result = next(results, None)
        if result is None:
            break
        if result.fatal:
            raise RowError(result.problem, result.reason)
        if result.pair is None:
            dropped[result.reason] += 1
        else:
            pairs.append(result.pair)
    if not pairs and dropped:
        reason, count = dropped.most_common(1)[0]
        raise InputError(f"{source}: none of {facts.rows} rows gives a pair; for {count} of them: {REASONS[reason]}")
    if not pairs and not may_be_empty:
        raise InputError(f"{source}: no preference pairs in the file; expected one JSON object per line")
    return PairFile(
        tuple(pairs), facts.format, facts.rows, dict(dropped), dict(facts.counts), tuple(sorted(facts.ignored))
    )


def read_pairs(
    source: str | Path, *, format: str = "auto", limit: int | None = None, one_per_prompt: bool = False
) -> tuple[PreferencePair, ...]:
    """The pairs of :func:`read_file`, without the account of what was left out.

    Example:
        >>> import tempfile
        >>> row = {"prompt": "2 + 2?", "chosen": "<think>sum</think>4", "rejected": "<think>guess</think>5"}
        >>> with tempfile.NamedTemporaryFile("w", suffix=".jsonl") as file:
        ...     _ = file.write(json.dumps(row)); file.flush()
        ...     (pair,) = read_pairs(file.name)
        >>> pair.chosen, pair.empty_answers
        (Completion(answer='4', trace='sum'), 'copied')
    """
    return read_file(source, format=format, limit=limit, one_per_prompt=one_per_prompt).pairs


def as_pairs(pairs: Sequence[PreferencePair] | str | Path) -> Sequence[PreferencePair]:
    """Preference pairs as they are, or read from the file that is named.

    Raises:
        InputError: neither; or a file that cannot be read.

    Example:
        >>> from bvpo_analysis.preferences import shipped_pairs
        >>> len(as_pairs(shipped_pairs("style", limit=3)))
        3
    """
    if isinstance(pairs, str | Path):
        return read_pairs(pairs)
    if not (isinstance(pairs, list | tuple) and all(isinstance(pair, PreferencePair) for pair in pairs)):
        raise InputError(
            f"preference pairs are expected second, got {type(pairs).__name__}; give the path of a file, or what "
            "read_pairs or shipped_pairs returns"
        )
    return pairs


def write_pairs(path: str | Path, pairs: Iterable[PreferencePair]) -> None:
    """Write native rows, one per line, whole or not at all.

    Raises:
        InputError: the file cannot be made; nothing is left behind.
    """
    write_lines(path, (json.dumps(pair_to_row(pair), ensure_ascii=False) for pair in pairs))


def write_lines(path: str | Path, lines: Iterable[str]) -> None:
    """Write lines of text to a file that appears only when it is complete.

    Raises:
        InputError: the file cannot be made; nothing is left behind.
    """
    path = Path(path)
    part = path.with_name(path.name + ".part")
    try:
        file = part.open("w", encoding="utf-8", newline="\n")
    except OSError as error:
        raise InputError(f"{path}: cannot be written ({error.strerror}); use another --output") from error
    with file:
        try:
            for line in lines:
                file.write(line + "\n")
            file.flush()
            os.fsync(file.fileno())
        except BaseException:
            part.unlink()
            raise
    part.replace(path)


def common_traces(pairs: Sequence[PreferencePair], at_most: int = 4) -> int:
    """How many posterior traces every answer has, up to ``at_most``; one where further traces are no posterior draws.

    Example:
        >>> from bvpo_analysis.preferences import shipped_pairs
        >>> common_traces(shipped_pairs("style", limit=3))
        4
    """
    if any(pair.meta.get("trace_source", "posterior") != "posterior" for pair in pairs):
        return 1
    fewest = min((len(pair.traces(side)) for pair in pairs for side in (0, 1)), default=1)
    return min(max(fewest, 1), at_most)


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
