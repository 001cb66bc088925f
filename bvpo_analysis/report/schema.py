"""The JSON schema of results.json: what every key is, in which unit, and a check of a file against it."""

import json
from collections.abc import Mapping
from functools import cache
from importlib import resources
from typing import Any

from jsonschema import Draft202012Validator

from bvpo_analysis.errors import StudyError

NAME = "results.schema.json"
"""File of the schema, beside this module."""


@cache
def results_schema() -> dict[str, Any]:
    """The schema (JSON Schema, draft 2020-12); ``unit`` annotates numbers.

    Example:
        >>> results_schema()["properties"]["cost"]["properties"]["seconds"]["unit"]
        'seconds'
    """
    text = resources.files("bvpo_analysis.report").joinpath(NAME).read_text(encoding="utf-8")
    schema: dict[str, Any] = json.loads(text)
    return schema


def problems(results: Mapping[str, Any]) -> list[str]:
    """What is wrong with results, a line each, the place first; empty where nothing is.

    Example:
        >>> problems({"schema_version": 3})[0]
        "results.json: 'config' is a required property"
    """
    found = Draft202012Validator(results_schema()).iter_errors(results)
    return [f"{_place(error.absolute_path)}: {error.message[:200]}" for error in found]


def check_results(results: Mapping[str, Any]) -> None:
    """Hold that results follow the schema, before they are written.

    Raises:
        StudyError: the first place where they do not.
    """
    wrong = problems(results)
    if wrong:
        raise StudyError(f"results.json would not follow its schema ({len(wrong)} places), first: {wrong[0]}")


def _place(path: Any) -> str:
    return ".".join(["results.json", *map(str, path)])
