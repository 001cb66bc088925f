"""Pages and figures of a finished run once more, from its results.json: nothing is scored, and no model is loaded."""

import json
from pathlib import Path
from typing import Any

from bvpo_analysis.errors import InputError
from bvpo_analysis.report.drawings import write_figures
from bvpo_analysis.report.render import render_html, render_markdown
from bvpo_analysis.report.results import SCHEMA_VERSION
from bvpo_analysis.report.run_folder import write_json, write_text
from bvpo_analysis.report.schema import problems

RESULTS = "results.json"
"""The file of a run that a rebuild reads."""


def is_run(path: Path) -> bool:
    """Whether ``--from`` names a run (its folder, or its results.json) and not a configuration.

    Example:
        >>> is_run(Path("runs/latest/results.json")), is_run(Path("runs/latest/config.yaml"))
        (True, False)
    """
    return path.is_dir() or path.suffix == ".json"


def read_results(source: Path) -> dict[str, Any]:
    """The results of a run, held to the schema.

    Args:
        source: its folder, or its results.json.

    Raises:
        InputError: nothing there, an unfinished run, not JSON, another version, or a file that does not follow the
            schema.
    """
    path = source / RESULTS if source.is_dir() else source
    if not path.is_file():
        remedy = (
            f"the run is not finished; continue it with --output-dir {source} --resume"
            if (source / "config.yaml").is_file()
            else "give --from the folder of a run, its results.json, or a config.yaml to replay"
        )
        raise InputError(f"{path}: no such file; {remedy}")
    try:
        results: Any = json.loads(path.read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: not valid JSON ({error}); run the report again") from error
    version = results.get("schema_version") if isinstance(results, dict) else None
    replay = f"replay the run with --from {path.with_name('config.yaml')}"
    if version != SCHEMA_VERSION:
        raise InputError(f"{path}: has schema version {version}, this program reads {SCHEMA_VERSION}; {replay}")
    if wrong := problems(results):
        raise InputError(f"{path}: does not follow the schema, first at {wrong[0]}; {replay}")
    found: dict[str, Any] = results
    return found


def rebuild(source: Path, folder: Path | None = None) -> tuple[dict[str, Any], Path]:
    """Write report.html, report.md and figures/ again; returns the results and the folder.

    Args:
        source: folder of a finished run, or its results.json.
        folder: where to write; the folder of the run when not given. Anywhere else it must be new or empty, and gets
            a copy of results.json.

    Raises:
        InputError: as :func:`read_results`, or a folder that holds something else.
    """
    results = read_results(source)
    home = source if source.is_dir() else source.parent
    target = home if folder is None else folder
    elsewhere = target.resolve() != home.resolve()
    if elsewhere and target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise InputError(f"{target}: is not empty; give --output-dir a new folder, or leave it out to rebuild in place")
    markdown, page = render_markdown(results), render_html(results)
    try:
        target.mkdir(parents=True, exist_ok=True)
        write_figures(results, target / "figures")
        if elsewhere:
            write_json(target / RESULTS, results)
        write_text(target / "report.md", markdown)
        write_text(target / "report.html", page)
    except OSError as error:
        raise InputError(f"{target}: cannot be written ({error.strerror}); use another --output-dir") from error
    return results, target
