"""Every notebook runs from top to bottom, and its .ipynb shows the same cells as its script."""

import re
from pathlib import Path

import pytest

jupytext = pytest.importorskip("jupytext")
nbclient = pytest.importorskip("nbclient")

SCRIPTS = sorted((Path(__file__).parents[1] / "notebooks").glob("[0-9]*.py"))
LARGEST = 400_000
"""Bytes of a notebook with its outputs, so that a diff and a page stay readable."""


def test_there_are_notebooks():
    assert [script.stem[:2] for script in SCRIPTS] == [f"{i:02d}" for i in range(1, len(SCRIPTS) + 1)]
    assert len(SCRIPTS) >= 6


@pytest.mark.slow
@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.stem)
def test_notebook_runs(script, tmp_path):
    notebook = jupytext.read(script)
    # Runs elsewhere than in the source tree, as a reader's copy would.
    nbclient.NotebookClient(
        notebook, timeout=300, kernel_name="python3", resources={"metadata": {"path": str(tmp_path)}}
    ).execute()
    assert any(cell.cell_type == "code" and "assert" in cell.source for cell in notebook.cells[-1:])


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.stem)
def test_committed_notebook_is_executed_and_has_the_same_cells(script):
    executed = jupytext.read(script.with_suffix(".ipynb"))
    expected = jupytext.read(script)
    assert [cell.source for cell in executed.cells] == [cell.source for cell in expected.cells]
    code = [cell for cell in executed.cells if cell.cell_type == "code"]
    assert [cell.execution_count for cell in code] == list(range(1, len(code) + 1))
    outputs = [output for cell in code for output in cell.outputs]
    assert outputs
    assert not any(output.output_type == "error" for output in outputs)
    assert script.with_suffix(".ipynb").stat().st_size < LARGEST


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.stem)
def test_outputs_name_no_machine_and_keep_no_noise(script):
    """Catches progress bars, warnings and folders of the machine on which a notebook was executed."""
    executed = jupytext.read(script.with_suffix(".ipynb"))
    outputs = [output for cell in executed.cells if cell.cell_type == "code" for output in cell.outputs]
    assert not any(output.get("name") == "stderr" for output in outputs)
    shown = [
        text for output in outputs for text in (output.get("text"), output.get("data", {}).get("text/html")) if text
    ]
    for text in shown:
        assert not re.search(r"/(tmp|home|root|usr|work|Users)/|Warning|Traceback", text)
        assert len(text.splitlines()) <= 150


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.stem)
def test_a_notebook_tells_before_it_shows_and_ends_in_asserts(script):
    cells = jupytext.read(script).cells
    assert cells[0].cell_type == "markdown"
    assert cells[0].source.startswith("# ")
    assert cells[-1].source.count("assert ") >= 4
