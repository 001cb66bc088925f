"""Execute the notebooks and keep their outputs: SCRIPT.py -> SCRIPT.ipynb, one line per notebook.

    python notebooks/execute.py            # all of them
    python notebooks/execute.py 03 05      # those whose names begin so

Each runs in an empty folder, as a reader's copy would. What goes to stderr, progress bars mostly, is not kept, nor are
times and random cell ids, so that equal results give equal files.
"""

import os
import sys
import tempfile
import time
from pathlib import Path

import jupytext
import nbclient
import nbformat

FOLDER = Path(__file__).resolve().parent
TIMEOUT = 300
"""Seconds per cell, for busy machines; a whole notebook takes less than a minute on two free cores."""


def scripts() -> list[Path]:
    """The percent scripts, in reading order."""
    return sorted(FOLDER.glob("[0-9]*.py"))


def executed(script: Path, folder: Path) -> nbformat.NotebookNode:
    """The notebook with its outputs, run in ``folder``."""
    notebook = jupytext.read(script)
    nbclient.NotebookClient(
        notebook, timeout=TIMEOUT, kernel_name="python3", resources={"metadata": {"path": str(folder)}}
    ).execute()
    for i, cell in enumerate(notebook.cells):
        cell["id"] = f"cell-{i:02d}"
        cell.metadata.pop("execution", None)
        if cell.cell_type == "code":
            cell.outputs = [output for output in cell.outputs if output.get("name") != "stderr"]
    notebook.metadata.pop("language_info", None)  # names the Python version of the machine
    return notebook


def write(notebook: nbformat.NotebookNode, path: Path) -> None:
    """Write a notebook, whole or not at all."""
    part = path.with_name(path.name + ".part")
    with part.open("w", encoding="utf-8") as file:
        nbformat.write(notebook, file)
        file.flush()
        os.fsync(file.fileno())
    part.replace(path)


def main(names: list[str]) -> int:
    """Execute the notebooks whose names begin with one of ``names``, or all."""
    chosen = [script for script in scripts() if not names or script.name.startswith(tuple(names))]
    if not chosen:
        print(f"error: no notebook begins with {', '.join(names)}", file=sys.stderr)
        return 2
    for script in chosen:
        started = time.perf_counter()
        with tempfile.TemporaryDirectory() as folder:
            try:
                notebook = executed(script, Path(folder))
            except nbclient.exceptions.CellExecutionError as error:
                print(f"error: {script.name}: {error.ename}: {error.evalue}\n{error}", file=sys.stderr)
                return 1
        write(notebook, script.with_suffix(".ipynb"))
        print(f"{script.stem}: {time.perf_counter() - started:.0f} s")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
