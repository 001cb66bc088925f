"""Folders of runs: what may be reused, what is never deleted, and files that appear whole."""

import json

import pytest

from bvpo_analysis.errors import InputError
from bvpo_analysis.run_folder import default_folder, open_folder, point_latest, remove_partial_files, write_json

CONFIG = "# Options of a test\nseed: 0\nlr: 0.1\n"
OWN = ("log.jsonl", "model")


@pytest.fixture
def used(tmp_path):
    """A folder with a run in it."""
    folder = tmp_path / "run"
    assert open_folder(folder, CONFIG, OWN)
    (folder / "log.jsonl").write_text("{}\n")
    (folder / "model").mkdir()
    return folder


def test_a_new_folder_holds_its_options(tmp_path):
    assert open_folder(tmp_path / "a" / "b", CONFIG, OWN)
    assert (tmp_path / "a" / "b" / "config.yaml").read_text() == CONFIG


def test_a_used_folder_is_refused_resumed_or_replaced(used):
    """Catches a run that is overwritten without being asked to, and one that is not when asked."""
    with pytest.raises(InputError, match="is not empty; use --resume, --overwrite"):
        open_folder(used, CONFIG, OWN)
    assert not open_folder(used, CONFIG, OWN, resume=True)
    assert (used / "log.jsonl").exists()
    with pytest.raises(InputError, match=r"other options \(lr: 0.1 there, 0.2 here\)"):
        open_folder(used, CONFIG.replace("0.1", "0.2"), OWN, resume=True)
    open_folder(used, CONFIG.replace("0.1", "0.2"), OWN, overwrite=True)
    assert sorted(p.name for p in used.iterdir()) == ["config.yaml"]


def test_what_no_run_has_made_is_never_deleted(used, tmp_path):
    (used / "notes.txt").write_text("mine")
    with pytest.raises(InputError, match=r"holds 'notes.txt', which no run has made"):
        open_folder(used, CONFIG, OWN, overwrite=True)
    assert (used / "log.jsonl").exists()
    (used / "notes.txt").unlink()
    with pytest.raises(InputError, match=r"holds 'log.jsonl', which no run has made"):
        open_folder(used, CONFIG, ("model",), overwrite=True)
    other = tmp_path / "other"
    other.mkdir()
    (other / "thesis.tex").write_text("mine")
    for options in ({"resume": True}, {"overwrite": True}):
        with pytest.raises(InputError, match="was not made by a run"):
            open_folder(other, CONFIG, OWN, **options)
    with pytest.raises(InputError, match="is a file; give --output-dir a folder"):
        open_folder(other / "thesis.tex", CONFIG, OWN)


def test_a_run_that_was_killed_at_once_leaves_a_free_folder(tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "config.yaml.part7").write_text("half")
    assert open_folder(tmp_path / "run", CONFIG, OWN)
    remove_partial_files(tmp_path / "run")
    assert [p.name for p in (tmp_path / "run").iterdir()] == ["config.yaml"]


def test_json_is_strict_and_whole(tmp_path):
    write_json(tmp_path / "a.json", {"a": [1, 2.5, None]})
    assert json.loads((tmp_path / "a.json").read_text()) == {"a": [1, 2.5, None]}
    with pytest.raises(ValueError, match="JSON"):
        write_json(tmp_path / "b.json", {"a": float("nan")})
    assert [p.name for p in tmp_path.iterdir()] == ["a.json"]


def test_latest_points_at_the_newest(tmp_path):
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        point_latest(tmp_path / name)
    assert (tmp_path / "latest").resolve().name == "two"
    assert default_folder("train", "style", tmp_path).name.endswith("-train-style")
