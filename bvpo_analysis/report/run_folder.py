"""The run folder of a report: what it holds, and the parts that all commands share."""

from pathlib import Path

from bvpo_analysis import run_folder
from bvpo_analysis.run_folder import (
    default_folder,
    peak_memory_bytes,
    point_latest,
    remove_partial_files,
    source_revision,
    versions,
    write_json,
    write_text,
)

__all__ = [
    "default_folder",
    "open_folder",
    "peak_memory_bytes",
    "point_latest",
    "remove_partial_files",
    "source_revision",
    "versions",
    "write_json",
    "write_text",
]

OWN = ("manifest.json", "results.json", "per_pair.csv", "report.html", "report.md", "blocks", "figures")
"""What a report leaves in its folder beside config.yaml."""


def open_folder(folder: Path, config: str, *, resume: bool = False, overwrite: bool = False) -> bool:
    """Make or reopen the run folder of a report; see :func:`bvpo_analysis.run_folder.open_folder`."""
    return run_folder.open_folder(folder, config, OWN, resume=resume, overwrite=overwrite)
