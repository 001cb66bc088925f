"""Runs as files: what is done is kept, what is missing is run, two at a time.

A run is one JSON file that appears whole or not at all, in a folder named by the hash of the code it went through; its
key holds the options, the size, the data and the weights it started from. A later call goes on with what is missing, so
a study can be stopped at any time; the numbers do not depend on how many processes worked on it.
"""

import hashlib
import json
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict, dataclass
from functools import lru_cache
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from tqdm import tqdm

import bvpo_analysis
from bvpo_analysis.coverage.method import code_only
from bvpo_analysis.errors import InputError, StudyError, one_line
from bvpo_analysis.exact import rows_fingerprint
from bvpo_analysis.lrm.loading import load_model
from bvpo_analysis.preferences.shipped import REGIMES, Regime, shipped_pairs
from bvpo_analysis.training_study.arms import Arm, Run
from bvpo_analysis.training_study.run import Size, run_one, run_reference

SOURCES: tuple[str, ...] = (
    "evaluation/answers.py",
    "evaluation/divergence.py",
    "evaluation/task_prompts.py",
    "evaluation/held_out.py",
    "evaluation/shipped_rewards.py",
    "evaluation/win_rates.py",
    "objectives.py",
    "training/batches.py",
    "training/config.py",
    "training/gradients.py",
    "training/loop.py",
    "training/methods.py",
    "training/problem.py",
    "training/progress.py",
    "training/running_moments.py",
    "training/steps.py",
    "training/weights.py",
    "training_study/probe.py",
    "training_study/run.py",
)
"""The modules that a run goes through; their texts and layout do not count. Estimators and scores are not among them:
what they compute is held by tests."""


@dataclass(frozen=True)
class Work:
    """What is to be done.

    Attributes:
        runs: in the order in which they are started.
        size: how much is measured in each.
        folder: where results are kept.
    """

    runs: tuple[Run, ...]
    size: Size
    folder: Path


@lru_cache
def code_fingerprint(sources: tuple[str, ...] = SOURCES) -> str:
    """Hash of what modules do, those of a run where no others are given.

    Example:
        >>> len(code_fingerprint())
        16
    """
    digest = hashlib.blake2b(digest_size=8)
    for source in sources:
        text = (Path(bvpo_analysis.__file__).parent / source).read_text(encoding="utf-8")
        digest.update(code_only(text).encode())
    return digest.hexdigest()


def run_path(folder: Path, run: Run) -> Path:
    """Where the result of a run is kept."""
    name = re.sub(r"[^\w.=-]+", "-", f"{run.arm.name}-{run.seed}")
    return folder / code_fingerprint() / run.arm.regime / f"{name}.json"


def reference_path(folder: Path, regime: str) -> Path:
    """Where the reference's own numbers are kept."""
    return folder / code_fingerprint() / regime / "reference.json"


@lru_cache(maxsize=len(REGIMES))
def _data(regime: Regime) -> dict[str, str]:
    return {"model": load_model().fingerprint, "data": rows_fingerprint(shipped_pairs(regime))}


def run_key(run: Run, size: Size) -> dict[str, Any]:
    """What a result belongs to, as JSON values."""
    return {"settings": asdict(run.arm.config(run.seed)), "size": asdict(size), **_data(run.arm.regime)}


def do_work(work: Work, *, processes: int = 2) -> None:
    """Run what is missing in the folder.

    Raises:
        InputError: a file in the folder belongs to other options, data or weights.
    """
    regimes = list(dict.fromkeys(run.arm.regime for run in work.runs))
    tasks: list[tuple[Run | Regime, Size, Path]] = [
        (regime, work.size, work.folder)
        for regime in regimes
        if read_result(reference_path(work.folder, regime), {"size": asdict(work.size), **_data(regime)}) is None
    ]
    tasks += [
        (run, work.size, work.folder)
        for run in work.runs
        if read_result(run_path(work.folder, run), run_key(run, work.size)) is None
    ]
    with tqdm(total=len(tasks), desc="training study", unit="run", leave=False) as progress:
        for _ in _each(tasks, processes):
            progress.update()


def read_result(path: Path, key: Mapping[str, Any]) -> dict[str, Any] | None:
    """A kept result, or None if there is none.

    Raises:
        InputError: it belongs to other options, data or weights.
    """
    if not path.exists():
        return None
    kept = json.loads(path.read_text(encoding="utf-8"))
    if kept["key"] != json.loads(json.dumps(key)):
        raise InputError(f"{path} belongs to other settings, data or weights; give an empty --output-dir")
    return dict(kept["result"])


def results_of(work: Work) -> tuple[dict[str, dict[str, Any]], list[dict[str, Any]]]:
    """(numbers of the reference by regime, results of the runs that are there, in order); those that failed included.

    Raises:
        InputError: nothing has been run.
    """
    references: dict[str, dict[str, Any]] = {}
    for regime in REGIMES:
        kept = read_result(reference_path(work.folder, regime), {"size": asdict(work.size), **_data(regime)})
        if kept is not None:
            references[regime] = kept
    runs = (read_result(run_path(work.folder, run), run_key(run, work.size)) for run in work.runs)
    found = [result for result in runs if result is not None]
    if not found:
        raise InputError(f"{work.folder}: no finished run of this study; run it first")
    return references, found


def arms_of(results: Sequence[Mapping[str, Any]]) -> list[tuple[str, str]]:
    """(regime, arm) of the results, each once, in order."""
    return list(dict.fromkeys((result["regime"], result["arm"]) for result in results))


def _each(tasks: Sequence[tuple[Run | Regime, Size, Path]], processes: int) -> Iterator[None]:
    if processes == 1:
        yield from map(_do, tasks)
        return
    with ProcessPoolExecutor(processes, mp_context=get_context("spawn")) as pool:
        for done in as_completed([pool.submit(_do, task) for task in tasks]):
            done.result()
            yield


def _do(task: tuple[Run | Regime, Size, Path]) -> None:
    what, size, folder = task
    if isinstance(what, Run):
        path, key = run_path(folder, what), run_key(what, size)
        try:
            result = run_one(what, size)
        except StudyError as error:
            # A run that leaves the range of numbers is a finding, not a reason to stop the others.
            result = {**_names(what.arm, what.seed), "failed": one_line(error)}
    else:
        path, key = reference_path(folder, what), {"size": asdict(size), **_data(what)}
        result = run_reference(what, size)
    write_json(path, {"key": key, "result": result})


def _names(arm: Arm, seed: int) -> dict[str, Any]:
    return {"arm": arm.name, "group": arm.group, "regime": arm.regime, "seed": seed}


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Write a file that appears whole or not at all; numbers that are not finite become null."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(path.name + ".part")
    with part.open("w", encoding="utf-8") as file:
        json.dump(finite(content), file)
        file.flush()
        os.fsync(file.fileno())
    part.replace(path)


def finite(value: Any) -> Any:
    """JSON values with None for numbers that JSON does not know.

    Example:
        >>> finite({"a": [1.0, float("nan")]})
        {'a': [1.0, None]}
    """
    if isinstance(value, Mapping):
        return {name: finite(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [finite(item) for item in value]
    return None if isinstance(value, float) and not abs(value) < float("inf") else value
