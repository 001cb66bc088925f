"""The records of a file, one after the other, each with its place: JSON lines, a JSON list, parquet, or a data set.

Text is read as UTF-8 with or without byte order mark, line ends ``\\n`` or ``\\r\\n``. Nothing here knows what a record
means, and nothing is ever unpickled.
"""

import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bvpo_analysis.errors import InputError

DATASET = "datasets:"
"""Prefix of a data set id: ``datasets:OWNER/NAME`` or ``datasets:OWNER/NAME:SPLIT``."""
_OFFLINE = ("HF_HUB_OFFLINE", "HF_DATASETS_OFFLINE")


@dataclass(frozen=True)
class Record:
    """One record of a file.

    Attributes:
        where: its place, such as ``pairs.jsonl:17``.
        value: the parsed object; None where it could not be parsed.
        error: why it could not be parsed.
    """

    where: str
    value: Any = None
    error: str | None = None


def records(source: str | Path) -> Iterator[Record]:
    """The records of a file or data set, read as they are needed.

    Args:
        source: a file of JSON lines or one JSON list (told apart by the first character), a ``.parquet`` file, a folder
            written by ``Dataset.save_to_disk``, or ``datasets:OWNER/NAME[:SPLIT]`` (split ``train`` when not given).
            The last three need the extra ``data``.

    Raises:
        InputError: no such file, a missing extra, a data set id while the network is switched off, or a source that
            cannot be read as a whole; a record that cannot be parsed does not raise, its ``error`` says why.
    """
    if str(source).startswith(DATASET):
        return _data_set(str(source))
    path = Path(source)
    if (path / "state.json").is_file() or (path / "dataset_dict.json").is_file():
        return _saved_data_set(path)
    if not path.is_file():
        kind = "is a folder, no such file" if path.is_dir() else "no such file"
        raise InputError(f"{path}: {kind}; give --data a JSONL file of preference pairs")
    return _parquet(path) if path.suffix == ".parquet" else _text(path)


def _text(path: Path) -> Iterator[Record]:
    try:
        with path.open("rb") as file:
            first = file.read(4096).removeprefix(b"\xef\xbb\xbf").lstrip()[:1]
            file.seek(0)
            if first == b"[":
                yield from _json_list(path, file.read())
                return
            for number, line in enumerate(file, start=1):
                yield from _line(path, number, line.removeprefix(b"\xef\xbb\xbf") if number == 1 else line)
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}); check its permissions") from error


def _line(path: Path, number: int, line: bytes) -> Iterator[Record]:
    """The record of one line; none for a blank one."""
    where = f"{path}:{number}"
    try:
        text = line.decode("utf-8")
    except UnicodeDecodeError as error:
        yield Record(
            where, error=f"{where}: not UTF-8 text (byte {error.start + 1} of the line); save the file as UTF-8"
        )
        return
    if text.strip():
        yield _parsed(where, text.rstrip("\r\n"))


def _parsed(where: str, text: str) -> Record:
    try:
        return Record(where, json.loads(text, object_pairs_hook=_without_repeated_keys))
    except json.JSONDecodeError as error:
        return Record(where, error=f"{where}: not a JSON object ({error.msg} at column {error.colno})")
    except RecursionError:
        return Record(where, error=f"{where}: not a JSON object (nested too deeply)")
    except ValueError as error:  # a repeated key, or a number of thousands of digits
        return Record(where, error=f"{where}: not a JSON object ({str(error).split(';')[0]})")


def _without_repeated_keys(items: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(items)
    if len(found) < len(items):
        keys = [key for key, _ in items]
        raise ValueError(f"key {next(key for key in keys if keys.count(key) > 1)!r} appears twice")
    return found


def _json_list(path: Path, content: bytes) -> Iterator[Record]:
    """The items of a JSON list, each with the line it begins on."""
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        yield Record(str(path), error=f"{path}:1: not UTF-8 text (byte {error.start + 1}); save the file as UTF-8")
        return
    decoder = json.JSONDecoder(object_pairs_hook=_without_repeated_keys)
    at, line, counted = text.index("[") + 1, 1, 0
    expecting, items = True, 0  # an item may follow: at the beginning and after a comma
    while True:
        while at < len(text) and text[at] in " \t\r\n":
            at += 1
        line, counted = line + text.count("\n", counted, at), at
        where = f"{path}:{line}"
        if at == len(text):
            yield Record(where, error=f"{where}: the JSON list never ends; the file seems to be cut off")
            return
        if text[at] == "]" and not (expecting and items):
            break
        if not expecting:
            if text[at] != ",":
                yield Record(where, error=f"{where}: not a JSON list (',' or ']' expected after item {items})")
                return
            at, expecting = at + 1, True
            continue
        try:
            value, at = decoder.raw_decode(text, at)
        except (ValueError, RecursionError) as error:
            what = getattr(error, "msg", None) or str(error).split(";")[0]
            yield Record(where, error=f"{where}: item {items + 1} of the list is not a JSON object ({what})")
            return
        items, expecting = items + 1, False
        yield Record(where, value)
    if text[at + 1 :].strip():
        yield Record(where, error=f"{where}: text after the end of the JSON list")


def _missing_extra(what: str, package: str) -> InputError:
    return InputError(f"{what} needs the package {package}; install it with: pip install 'bvpo-analysis[data]'")


def _parquet(path: Path) -> Iterator[Record]:
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError as error:
        raise _missing_extra(f"{path}: reading parquet", "pyarrow") from error
    number = 0
    try:
        with pyarrow.parquet.ParquetFile(path) as file:
            for batch in file.iter_batches(batch_size=256):
                for value in batch.to_pylist():
                    number += 1
                    yield Record(f"{path}:{number}", value)
    except (pyarrow.ArrowException, OSError) as error:
        reason = (str(error).strip().splitlines() or ["?"])[0][:160]
        raise InputError(f"{path}: not a readable parquet file ({reason}); write it again") from error


def _saved_data_set(path: Path) -> Iterator[Record]:
    try:
        import datasets
    except ImportError as error:
        raise _missing_extra(f"{path}: reading a saved data set", "datasets") from error
    if (path / "dataset_dict.json").is_file():
        raise InputError(f"{path}: holds several splits; give --data the folder of one of them")
    try:
        found = datasets.load_from_disk(str(path))
    except Exception as error:  # whatever a broken folder makes the library raise
        raise InputError(f"{path}: not a readable data set ({str(error)[:160]}); save it again") from error
    return _rows(str(path), found)


def _data_set(source: str) -> Iterator[Record]:
    name, _, split = source.removeprefix(DATASET).partition(":")
    if not name:
        raise InputError(f"{source!r}: name the data set, as in {DATASET}OWNER/NAME or {DATASET}OWNER/NAME:SPLIT")
    offline = [variable for variable in _OFFLINE if os.environ.get(variable, "").upper() in ("1", "TRUE", "YES", "ON")]
    if offline and not Path(name).is_dir():
        raise InputError(f"{source}: {offline[0]} is set, so nothing is downloaded; unset it, or give a local file")
    try:
        import datasets
    except ImportError as error:
        raise _missing_extra(f"{source}: reading a data set", "datasets") from error
    try:
        found = datasets.load_dataset(name, split=split or "train")
    except Exception as error:  # the library raises many kinds: no such name, no such split, no connection, ...
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0][:160]
        raise InputError(f"{source}: cannot be loaded ({reason}); check the name and the split") from error
    return _rows(source, found)


def _rows(source: str, found: Any) -> Iterator[Record]:
    for number, value in enumerate(found, start=1):
        yield Record(f"{source}:{number}", dict(value))
