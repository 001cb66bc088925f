"""The folder of one run: where it is, what may be reused, and files that appear whole or not at all."""

import importlib.metadata
import json
import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Collection
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import yaml

from bvpo_analysis.errors import InputError

_CONFIG = "config.yaml"


def default_folder(command: str, label: str, root: Path = Path("runs")) -> Path:
    """``runs/<UTC time>-<command>-<label>``."""
    return root / f"{datetime.now(UTC):%Y%m%dT%H%M%SZ}-{command}-{label}"


def open_folder(
    folder: Path, config: str, own: Collection[str], *, resume: bool = False, overwrite: bool = False
) -> bool:
    """Make or reopen a run folder and write its config.yaml.

    Args:
        folder: the run folder.
        config: text of config.yaml; its first line marks a run folder as one.
        own: names of the files and folders that such a run writes, which ``overwrite`` may delete.
        resume: continue an interrupted run of the same configuration.
        overwrite: delete what an earlier run left here.

    Returns:
        Whether the folder was made new by this call.

    Raises:
        InputError: the folder is not empty (without ``resume`` or ``overwrite``), holds another configuration, or
            holds files that no run has made, which are never deleted.
    """
    if folder.exists() and not folder.is_dir():
        raise InputError(f"{folder}: is a file; give --output-dir a folder")
    held = sorted(p.name for p in folder.iterdir()) if folder.is_dir() else []
    if all(name.startswith(_CONFIG + ".") for name in held):
        held = []  # a run that was killed before it had written anything
    if held and not (resume or overwrite):
        raise InputError(f"{folder}: is not empty; use --resume, --overwrite or another --output-dir")
    header = config.split("\n", 1)[0]
    there = (folder / _CONFIG).read_text(encoding="utf-8") if _CONFIG in held else ""
    if held and not there.startswith(header):
        raise InputError(f"{folder}: was not made by a run (no {_CONFIG} of one); use another --output-dir")
    if held and overwrite:
        foreign = [name for name in held if name.split(".part")[0] not in (_CONFIG, *own)]
        if foreign:
            raise InputError(f"{folder}: holds {foreign[0]!r}, which no run has made; move it or use another folder")
        for name in held:
            path = folder / name
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    elif held and there != config:
        raise InputError(
            f"{folder}: holds a run with other options ({_changed(there, config)}); use --overwrite or another "
            "--output-dir"
        )
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if overwrite or there != config:
            write_text(folder / _CONFIG, config)
    except OSError as error:
        raise InputError(f"{folder}: cannot be written ({error.strerror}); use another --output-dir") from error
    return not held


def _changed(there: str, here: str) -> str:
    """The options in which two texts of config.yaml differ."""
    try:
        old, new = yaml.safe_load(there), yaml.safe_load(here)
        names = [name for name in {**old, **new} if old.get(name) != new.get(name)]
    except (yaml.YAMLError, TypeError, AttributeError):
        return f"{_CONFIG} is damaged"
    return "; ".join(f"{name}: {old.get(name)} there, {new.get(name)} here" for name in names) or "in their layout"


def write_text(path: Path, text: str) -> None:
    """Write a text file that appears only when it is complete."""
    part = path.with_name(f"{path.name}.part{os.getpid()}")  # no two processes write one file
    with part.open("w", encoding="utf-8", newline="\n") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    part.replace(path)


def remove_partial_files(folder: Path) -> None:
    """Remove what killed processes left half written in the run folder itself; for the process that finishes it."""
    for path in folder.glob("*.part*"):
        path.unlink(missing_ok=True)


def write_json(path: Path, value: Any) -> None:
    """Write strict JSON (no NaN, no infinity) that appears only when it is complete."""
    write_text(path, json.dumps(value, indent=1, ensure_ascii=False, allow_nan=False) + "\n")


def point_latest(folder: Path) -> None:
    """Let ``latest`` beside the folder point at it; silently left out where links are not possible."""
    link = folder.parent / "latest"
    part = folder.parent / "latest.part"
    try:
        part.unlink(missing_ok=True)
        part.symlink_to(folder.name, target_is_directory=True)
        part.replace(link)
    except OSError:
        part.unlink(missing_ok=True)


def peak_memory_bytes() -> int | None:
    """Largest resident memory of this process so far; None where the system does not tell."""
    try:
        import resource
    except ImportError:
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def versions() -> dict[str, str]:
    """Versions of Python and of the packages that numbers can depend on."""
    packages = ("bvpo-analysis", "torch", "transformers", "tokenizers", "numpy", "scipy", "pandas", "matplotlib")
    found = {"python": platform.python_version()}
    for package in packages:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            found[package] = "not installed as a package"
    return found


def source_revision() -> dict[str, Any]:
    """Commit of the source tree and whether it had uncommitted changes; nulls outside a git checkout."""
    here = Path(__file__).resolve().parent

    def git(*arguments: str) -> str | None:
        try:
            done = subprocess.run(["git", "-C", str(here), *arguments], capture_output=True, text=True, timeout=10)
        except (OSError, subprocess.TimeoutExpired):
            return None
        return done.stdout.strip() if done.returncode == 0 else None

    commit, status = git("rev-parse", "HEAD"), git("status", "--porcelain")
    return {"commit": commit, "dirty": None if status is None else bool(status)}
