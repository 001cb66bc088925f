"""Figures from committed results: the slow half writes a small JSON file, the fast half redraws the figure from it."""

import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pandas as pd
from matplotlib.figure import Figure

from bvpo_analysis.figures.style import save_figure

DIGITS = 9
"""Significant digits kept: more is noise of the platform, and makes the files large."""


def rounded(value: Any) -> Any:
    """Nested dicts and lists with their floats to :data:`DIGITS` digits.

    Example:
        >>> rounded({"a": [1 / 3, 2, None]})
        {'a': [0.333333333, 2, None]}
    """
    if isinstance(value, Mapping):
        return {key: rounded(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [rounded(inner) for inner in value]
    return float(f"{value:.{DIGITS}g}") if isinstance(value, float) else value


def write_results(path: Path, facts: Mapping[str, Any], *, indent: int | None = None) -> None:
    """A results file, whole or not at all.

    Args:
        path: where.
        facts: plain JSON values, without infinities or nan.
        indent: as for ``json.dumps``; one line when not given.

    Raises:
        ValueError: a number that is not finite.
    """
    text = json.dumps(facts, indent=indent, ensure_ascii=False, allow_nan=False) + "\n"
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(path.name + ".part")
    with part.open("w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    part.replace(path)


def redraw(
    results: Path,
    draw: Callable[[dict[str, Any]], tuple[Figure, pd.DataFrame]],
    path_without_suffix: Path,
    command: str,
) -> int:
    """Draw a figure from its results and save it; returns the exit code.

    Args:
        results: the JSON file that the slow half has written.
        draw: makes the figure and the rows that it shows.
        path_without_suffix: where PDF, PNG and CSV go.
        command: the slow half, named if its file is missing.
    """
    if not results.exists():
        print(f"error: {results.name} is missing; compute it with: {command}")
        return 2
    figure, table = draw(json.loads(results.read_text(encoding="utf-8")))
    for path in save_figure(figure, path_without_suffix, table):
        print(path.name)
    return 0
