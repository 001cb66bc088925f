"""``--from RUN``: the pages of a finished run again, the same to the last byte, and every wrong input."""

import json
import shutil

import pytest

from bvpo_analysis.report.__main__ import main


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A small finished run; read only."""
    folder = tmp_path_factory.mktemp("runs") / "run"
    options = ["--limit", "8", "--traces", "1", "--compare", "0", "--output-dir", str(folder)]
    assert main(options) == 0
    return folder


def pages(folder):
    return {name: (folder / name).read_bytes() for name in ("report.html", "report.md", "results.json")}


def test_a_rebuild_gives_the_same_pages_in_place(run, tmp_path, capsys):
    copy = tmp_path / "copy"
    shutil.copytree(run, copy)
    before = pages(copy)
    for name in ("report.html", "report.md"):
        (copy / name).unlink()
    shutil.rmtree(copy / "figures")
    capsys.readouterr()
    assert main(["--from", str(copy)]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == f"report: {copy / 'report.html'}"
    assert pages(copy) == before
    assert sorted(p.name for p in (copy / "figures").iterdir()) == sorted(p.name for p in (run / "figures").iterdir())


def test_a_rebuild_elsewhere_takes_the_results_along(run, tmp_path, capsys):
    folder = tmp_path / "elsewhere"
    assert main(["--from", str(run / "results.json"), "--output-dir", str(folder)]) == 0
    assert pages(folder) == pages(run)
    assert main(["--from", str(run), "--output-dir", str(folder)]) == 2
    assert "is not empty; give --output-dir a new folder" in capsys.readouterr().err


@pytest.mark.parametrize("option", ["--resume", "--overwrite", "--dry-run"])
def test_options_of_a_run_are_refused(run, option, capsys):
    assert main(["--from", str(run), "--output-dir", str(run), option]) == 2
    assert capsys.readouterr().err.endswith(f"which computes nothing; drop {option}\n")
    assert main(["--from", str(run), "--seed", "3"]) == 2
    assert "drop --seed" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda p: p.unlink(), "the run is not finished; continue it with --output-dir"),
        (lambda p: p.write_text("{"), "not valid JSON"),
        (lambda p: p.write_text('{"schema_version": 1}'), "has schema version 1, this program reads 3; replay"),
        (lambda p: p.write_text("[]"), "has schema version None"),
        (lambda p: p.write_text('{"schema_version": 3}'), "does not follow the schema, first at results.json: "),
    ],
)
def test_results_that_cannot_be_drawn(run, tmp_path, capsys, change, says):
    folder = tmp_path / "run"
    folder.mkdir()
    for name in ("results.json", "config.yaml"):
        shutil.copy(run / name, folder / name)
    change(folder / "results.json")
    assert main(["--from", str(folder)]) == 2
    line = capsys.readouterr().err
    assert line.startswith("error: ")
    assert line.count("\n") == 1
    assert says in line
    assert not (folder / "report.html").exists()


def test_a_folder_without_a_run_is_named(tmp_path, capsys):
    assert main(["--from", str(tmp_path)]) == 2
    assert "give --from the folder of a run, its results.json, or a config.yaml" in capsys.readouterr().err


def test_results_hold_every_word_of_the_pages(run):
    """Catches a page that shows what results.json does not hold."""
    results = json.loads((run / "results.json").read_text())
    markdown = (run / "report.md").read_text()
    assert len(results["questions"]) == 16
    for row in results["questions"]:
        assert f"## Q{row['number']} " in markdown
