"""Results files are written whole or not at all, and figures are redrawn from them."""

import json

import pandas as pd
import pytest

from bvpo_analysis import figures


def draw(results):
    figure, ax = figures.new_figure()
    ax.plot(results["y"])
    return figure, pd.DataFrame(results)


def test_results_come_back_and_leave_no_parts(tmp_path):
    path = tmp_path / "results" / "some.json"
    figures.write_results(path, {"a": 1 / 3, "ä": [None]})
    assert json.loads(path.read_text(encoding="utf-8")) == {"a": 1 / 3, "ä": [None]}
    assert [p.name for p in path.parent.iterdir()] == ["some.json"]


def test_a_number_that_is_not_finite_leaves_the_old_file(tmp_path):
    path = tmp_path / "some.json"
    figures.write_results(path, {"a": 1.0})
    with pytest.raises(ValueError, match="JSON"):
        figures.write_results(path, {"a": float("nan")})
    assert json.loads(path.read_text()) == {"a": 1.0}
    assert [p.name for p in tmp_path.iterdir()] == ["some.json"]


def test_rounding_keeps_digits_not_decimals():
    assert figures.rounded({"a": [1.23456789012e-7, 123456789012.0], "n": 12345678901}) == {
        "a": [1.23456789e-7, 123456789000.0],
        "n": 12345678901,
    }


def test_a_figure_is_redrawn_from_its_results(tmp_path, capsys):
    figures.write_results(tmp_path / "r.json", {"y": [1.0, 2.0]})
    assert figures.redraw(tmp_path / "r.json", draw, tmp_path / "line", "make it") == 0
    assert {"line.pdf", "line.png", "line.csv"} <= {p.name for p in tmp_path.iterdir()}
    assert capsys.readouterr().out.split() == ["line.pdf", "line.png", "line.csv"]


def test_a_missing_file_names_its_command(tmp_path, capsys):
    assert figures.redraw(tmp_path / "r.json", draw, tmp_path / "line", "make it") == 2
    assert capsys.readouterr().out.strip() == "error: r.json is missing; compute it with: make it"
    assert not list(tmp_path.iterdir())
