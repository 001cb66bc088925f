"""The folder of a scoring run: finished blocks, partial totals, and the key that says what they depend on.

=========================  ===================================================================================
``key.json``               everything the blocks depend on, readable; a folder with another key is refused
``units.json``             the units of the fixed-point totals, set once by the process that needs them first
``gram-<first>``           products within the pairs of a block, safetensors
``totals-<i>of<n>.npz``    sums of the blocks that process i of n has added up, with the list of these blocks
``products-<first>``       the same block with its products with the totals, safetensors
=========================  ===================================================================================

Every file appears whole or not at all: it is written beside its place, flushed to the disk and renamed. A block counts
once the list of a totals file names it; a file of products within pairs that no list names is computed again. So a
process may be killed at any moment. Totals are in the NumPy format, which writes large arrays without a copy and has
check sums; reading it never unpickles.
"""

import hashlib
import json
import os
import re
import zipfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np
import torch

import bvpo_analysis
from bvpo_analysis.errors import InputError
from bvpo_analysis.records import Floats, Ints, ScoreSet
from bvpo_analysis.scores.shards import Shard
from bvpo_analysis.scores.store import load_scores, replace_file, save_scores
from bvpo_analysis.scores.totals import FixedPointTotals

SOURCES = ("records.py", "objectives.py", "lrm/*.py", "scores/*.py", "estimators/*.py")
"""Source files that the content of a block depends on."""
_PART = re.compile(r"totals-(\d+)of(\d+)\.npz")


def digest(value: Any) -> str:
    """Hash of a JSON-serialisable value.

    Example:
        >>> digest([1, "a"]) == digest([1, "a"]), digest([1, "a"]) == digest([1, "b"])
        (True, False)
    """
    return hashlib.blake2b(json.dumps(value, sort_keys=True, default=str).encode(), digest_size=16).hexdigest()


@cache
def code_version() -> dict[str, str]:
    """What computes the blocks: a hash of the sources, and the versions of the libraries that do the arithmetic."""
    root = Path(bvpo_analysis.__file__).parent
    sources = hashlib.blake2b(digest_size=16)
    for pattern in SOURCES:
        for path in sorted(root.glob(pattern)):
            sources.update(path.relative_to(root).as_posix().encode() + b"\0" + path.read_bytes())
    found = {"bvpo_analysis": sources.hexdigest()}
    for package in ("torch", "transformers"):
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "unknown"
    return found


def differences(there: Mapping[str, Any], here: Mapping[str, Any]) -> list[str]:
    """The entries in which two keys differ, in words; short values are shown.

    Example:
        >>> differences({"data": {"draws": 1, "answers": 2}}, {"data": {"draws": 3, "answers": 2}})
        ['data: draws (1 there, 3 here)']
    """
    found = []
    for name in [*there, *(n for n in here if n not in there)]:
        a, b = there.get(name), here.get(name)
        if a == b:
            continue
        if isinstance(a, Mapping) and isinstance(b, Mapping):
            found += [f"{name}: {text}" for text in differences(a, b)]
        else:
            shown = f" ({a} there, {b} here)"
            found.append(name + (shown if len(shown) <= 120 else ""))
    return found


@dataclass(frozen=True)
class Part:
    """The blocks in one totals file.

    Attributes:
        path: the file.
        shard: the process that wrote it.
        blocks: first pair of each block.
    """

    path: Path
    shard: Shard
    blocks: frozenset[int]


class BlockStore:
    """Finished blocks of one scoring run in a folder.

    Args:
        folder: made if missing.
        key: everything the blocks depend on, a mapping of sections; JSON-serialisable.
        shard: the process that writes.

    Raises:
        InputError: the folder holds blocks of a run with another key, or cannot be written.
    """

    def __init__(self, folder: Path, key: Mapping[str, Any], shard: Shard = Shard()):  # noqa: B008 - frozen
        self.folder = folder
        self.shard = shard
        here = json.loads(json.dumps(key, default=str))
        path = folder / "key.json"
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self._write_once(path, json.dumps(here, indent=1) + "\n")
            there = json.loads(path.read_text(encoding="utf-8"))
        except OSError as error:
            raise InputError(f"{folder}: cannot be used for blocks ({error.strerror}); use another folder") from error
        except ValueError as error:
            raise InputError(f"{path}: is damaged; start again with --overwrite") from error
        if there != here:
            raise InputError(
                f"{folder}: holds blocks of a run that differs in {'; '.join(differences(there, here))}; "
                "use --overwrite to start again, or another --output-dir"
            )

    def _write_once(self, path: Path, text: str) -> None:
        """Write a file that no process has written yet; the first one wins, and no reader sees half of it."""
        if path.exists():
            return
        part = self._beside(path)
        with part.open("w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        try:
            os.link(part, path)
        except FileExistsError:
            pass
        except OSError:  # a file system without links; there the last one wins, with the same text
            part.replace(path)
            return
        part.unlink()

    def _beside(self, path: Path) -> Path:
        """Where a file is written before it takes its place; no two processes share one."""
        return path.with_name(f"{path.name}.{self.shard.index}of{self.shard.count}.part")

    def remove_partial_files(self) -> None:
        """Remove what killed processes left half written; only when no other process is at work here."""
        for path in self.folder.glob("*.part"):
            path.unlink(missing_ok=True)

    # --- blocks

    def _path(self, kind: str, start: int) -> Path:
        return self.folder / f"{kind}-{start:06d}.safetensors"

    def has(self, kind: str, start: int) -> bool:
        """Whether a block is finished."""
        return self._path(kind, start).exists()

    def read(self, kind: str, start: int) -> ScoreSet:
        """A finished block."""
        return load_scores(self._path(kind, start))

    def write(self, kind: str, start: int, scores: ScoreSet) -> None:
        """Finish a block."""
        path = self._path(kind, start)
        save_scores(path, scores, part=self._beside(path))

    # --- totals

    def units(self) -> Ints | None:
        """Exponents [A, G] of the units of the totals; None before the first process has set them."""
        path = self.folder / "units.json"
        if not path.exists():
            return None
        try:
            return np.array(json.loads(path.read_text(encoding="utf-8"))["exponents"], dtype=np.int64)
        except (ValueError, KeyError) as error:
            raise InputError(f"{path}: is damaged; start again with --overwrite") from error

    def set_units(self, exponents: Ints) -> Ints:
        """Set the units unless another process has done so; returns those that hold."""
        self._write_once(self.folder / "units.json", json.dumps({"exponents": exponents.tolist()}) + "\n")
        held = self.units()
        return exponents if held is None else held

    @property
    def _own_part(self) -> Path:
        return self.folder / f"totals-{self.shard.index}of{self.shard.count}.npz"

    def restore(self, totals: FixedPointTotals) -> set[int]:
        """Add this process's own totals file to ``totals``; the blocks in it."""
        return self._add([self._own_part] if self._own_part.exists() else [], totals)

    def counted(self) -> set[int]:
        """First pairs of the blocks that some process has counted."""
        return set().union(*(part.blocks for part in totals_parts(self.folder)))

    def merge_others(self, totals: FixedPointTotals) -> set[int]:
        """Add the totals files of all other processes to ``totals``; the blocks in them."""
        return self._add([part.path for part in totals_parts(self.folder) if part.path != self._own_part], totals)

    @staticmethod
    def _add(paths: Iterable[Path], totals: FixedPointTotals) -> set[int]:
        blocks: set[int] = set()
        for path in paths:
            with _opened(path) as arrays:
                if not np.array_equal(arrays["exponents"], totals.exponents):
                    raise InputError(f"{path}: has other units than units.json; start again with --overwrite")
                blocks.update(arrays["blocks"].tolist())
                bounds: Floats = arrays["bound"]
                for row in range(len(totals.exponents)):
                    totals.merge(row, torch.from_numpy(arrays[f"totals_{row}"]), bounds[row])
        return blocks

    def checkpoint(self, blocks: Sequence[int], totals: FixedPointTotals) -> None:
        """Keep the totals of these blocks; a block counts as finished from here on."""
        part = self._beside(self._own_part)
        arrays = {f"totals_{row}": counts.cpu().numpy() for row, counts in enumerate(totals.counts)}
        with part.open("wb") as file:
            np.savez(
                file,
                allow_pickle=False,
                blocks=np.array(sorted(blocks), dtype=np.int64),
                exponents=totals.exponents,
                bound=totals.bound,
                **arrays,
            )
        replace_file(part, self._own_part)


@contextmanager
def _opened(path: Path) -> Iterator[Mapping[str, Any]]:
    """An archive of arrays, read array by array; damage anywhere in it is an InputError."""
    try:
        with np.load(path, allow_pickle=False) as arrays:
            yield arrays
    except InputError:
        raise
    except (OSError, EOFError, ValueError, KeyError, zipfile.BadZipFile) as error:
        raise InputError(f"{path}: is damaged; delete it and use --resume, or start again with --overwrite") from error


def totals_parts(folder: Path) -> list[Part]:
    """The totals files of all processes in a folder of blocks.

    Raises:
        InputError: a file is damaged, or two of them count the same block.
    """
    found: list[Part] = []
    for path in sorted(folder.glob("totals-*.npz")):
        if not (name := _PART.fullmatch(path.name)):
            continue
        with _opened(path) as arrays:
            part = Part(path, Shard(int(name[1]), int(name[2])), frozenset(arrays["blocks"].tolist()))
        for other in found:
            if twice := other.blocks & part.blocks:
                raise InputError(
                    f"{folder}: {other.path.name} and {path.name} both count the block of pair {min(twice)}: two "
                    "processes have done the same work; delete one of the files and use --resume"
                )
        found.append(part)
    return found


def require_all_counted(folder: Path) -> None:
    """Hold that the processes that share a folder of blocks have finished their first pass.

    Raises:
        InputError: they have not; the message names the shards and what to run.
    """
    key = folder / "key.json"
    if not key.exists():
        raise InputError(f"{folder}: no process has begun here; run --shard 1/n to n/n with this --output-dir first")
    starts = json.loads(key.read_text(encoding="utf-8"))["blocks"]
    parts = totals_parts(folder)
    counted = frozenset[int]().union(*(part.blocks for part in parts))
    missing = [number for number, start in enumerate(starts) if start not in counted]
    if not missing:
        return
    count = max((part.shard.count for part in parts), default=1)
    owed = {str(shard): sum(map(shard.takes, missing)) for shard in (Shard(i + 1, count) for i in range(count))}
    named = ", ".join(f"{shard} ({n} block(s))" for shard, n in owed.items() if n)
    raise InputError(
        f"{folder}: {len(missing)} of {len(starts)} blocks are missing, those of shard {named}; run each with --shard, "
        "or finish in one process with --resume"
    )
