"""Every notebook runs from top to bottom, and its .ipynb shows the same cells as its script."""

from pathlib import Path

import pytest

jupytext = pytest.importorskip("jupytext")
nbclient = pytest.importorskip("nbclient")

SCRIPTS = sorted((Path(__file__).parents[1] / "notebooks").glob("*.py"))


def test_there_are_notebooks():
    assert SCRIPTS


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.stem)
def test_notebook_runs(script, tmp_path):
    notebook = jupytext.read(script)
    # Runs elsewhere than in the source tree, as a reader's copy would.
    nbclient.NotebookClient(
        notebook, timeout=120, kernel_name="python3", resources={"metadata": {"path": str(tmp_path)}}
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
