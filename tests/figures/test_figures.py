"""Figures draw what the rows say, write the same bytes twice, and cope with what is not identified."""

import re
from io import StringIO
from itertools import pairwise

import numpy as np
import pandas as pd
import pytest

from bvpo_analysis import figures
from bvpo_analysis.figures.style import WEIGHT_LIMITS, column, is_bounded


def estimate(value, low=None, high=None):
    return {"value": value, "se": 0.1, "ci_low": low, "ci_high": high, "n": 64, "method": "jackknife"}


def weight(value, low, high, confidence_set="interval", degenerate=False):
    clip = [0.0 if x is None else min(max(x, 0.0), 1.0) for x in (value, low)]
    return {
        "name": "alpha_star.population.B16.K1.kappa1",
        "estimate": estimate(value, low, high),
        "recommended": clip[0],
        "recommended_low": clip[1],
        "recommended_high": 1.0 if high is None else min(max(high, 0.0), 1.0),
        "degenerate": degenerate,
        "confidence_set": confidence_set,
    }


def curve_rows(split=True, bias=0.3):
    rows = []
    for a in np.linspace(0, 1, 11):
        parts = {"bias_sq": (1 - a) ** 2 * bias, "trace_var": 0.4 * a**2, "data_var": 0.2}
        total = sum(parts.values())
        if not split:
            parts |= {"trace_var": None, "data_var": None}
        rows.append({"alpha": float(a), **parts, "mse": total, "mse_low": total - 0.05, "mse_high": total + 0.05})
    return rows


ERRORS = [{"name": f"w{a}", "alpha": a, "mse": estimate(0.3 + a)} for a in (0.0, 0.5, 1.0, 0.43)]

GRID = [
    {
        "batch_size": b,
        "kappa": k,
        "alpha": 0.2 + 0.1 * i - 0.1 * k,
        "low": 0.1,
        "high": 0.6,
        "confidence_set": "interval",
    }
    for k in (1.0, 0.1)
    for i, b in enumerate((1, 2, 4))
]
ODD_SETS = [
    {"batch_size": 8, "kappa": 1.0, "alpha": -2.9, "low": 0.5, "high": 1.6, "confidence_set": "complement"},
    {"batch_size": 8, "kappa": 0.1, "alpha": 0.6, "low": None, "high": 0.9, "confidence_set": "half-line"},
    {"batch_size": 16, "kappa": 1.0, "alpha": 0.5, "low": None, "high": None, "confidence_set": "line"},
    {"batch_size": 16, "kappa": 0.1, "alpha": 1.7, "low": 1.1, "high": 2.0, "confidence_set": "interval"},
]


def line(ax, label):
    return next(item for item in ax.get_lines() if label in (item.get_label(), item.get_gid()))


def curve_figure(**kwargs):
    figure, ax = figures.new_figure()
    figures.plot_mse_alpha(curve_rows(**kwargs), ax, errors=ERRORS, alpha=weight(0.43, 0.3, 0.6))
    return figure


def test_the_curve_is_the_total_and_marks_the_weights():
    _, ax = figures.new_figure()
    rows = curve_rows()
    assert figures.plot_mse_alpha(rows, ax, errors=ERRORS, alpha=weight(0.43, 0.3, 0.6)) is ax
    total = line(ax, "total (MSE)")
    assert list(total.get_xdata()) == column(rows, "alpha")
    assert list(total.get_ydata()) == column(rows, "mse")
    assert list(line(ax, "fixed weights 0, ½, 1").get_ydata()) == [0.3, 0.8, 1.3]
    assert list(line(ax, "interval of α*").get_xdata()) == [0.3, 0.6]
    bands = [c.get_label() for c in ax.collections]
    assert bands == ["squared bias", "trace variance", "data variance", "95 % interval of the total"]


def test_bands_add_up_to_the_total():
    _, ax = figures.new_figure()
    rows = curve_rows()
    figures.plot_mse_alpha(rows, ax)
    top = ax.collections[2].get_paths()[0].vertices
    assert np.isclose(top[:, 1].max(), max(column(rows, "mse")))
    assert not figures.stack_is_clipped(rows)


def test_a_negative_part_leaves_the_total_true():
    rows = curve_rows(bias=-0.1)
    _, ax = figures.new_figure()
    figures.plot_mse_alpha(rows, ax)
    assert figures.stack_is_clipped(rows)
    assert list(line(ax, "total (MSE)").get_ydata()) == column(rows, "mse")
    assert all(np.min(band.get_paths()[0].vertices[:, 1]) >= 0 for band in ax.collections[:3])


def test_one_band_of_variance_where_the_split_is_unknown():
    _, ax = figures.new_figure()
    figures.plot_mse_alpha(curve_rows(split=False), ax)
    assert [c.get_label() for c in ax.collections][:2] == ["squared bias", "variance"]
    assert not figures.stack_is_clipped(curve_rows(split=False))


def test_rows_may_come_as_a_data_frame():
    _, ax = figures.new_figure()
    frame = pd.DataFrame(curve_rows(split=False))
    figures.plot_mse_alpha(frame, ax)
    assert list(line(ax, "total (MSE)").get_ydata()) == list(frame["mse"])


def test_a_degenerate_weight_is_not_drawn():
    _, ax = figures.new_figure()
    figures.plot_mse_alpha(curve_rows(), ax, errors=ERRORS, alpha=weight(0.5, None, None, "line", degenerate=True))
    assert not [item for item in ax.get_lines() if "α*" in item.get_label()]


@pytest.mark.parametrize("kappa", [1.0, 0.1])
def test_grid_lines_are_the_bounded_values(kappa):
    _, ax = figures.new_figure()
    figures.plot_alpha_grid(GRID + ODD_SETS, ax)
    mine = [r for r in GRID + ODD_SETS if r["kappa"] == kappa and is_bounded(r["low"], r["high"], r["confidence_set"])]
    drawn = line(ax, f"kappa {kappa:g}")
    assert list(drawn.get_ydata()) == [row["alpha"] for row in mine]
    octaves = np.log2(drawn.get_xdata()) - np.log2([row["batch_size"] for row in mine])
    assert np.all(np.abs(octaves) < 0.5)


def test_grid_marks_unbounded_undetermined_and_far_values():
    _, ax = figures.new_figure()
    figures.plot_alpha_grid(GRID + ODD_SETS, ax)
    shapes = [item.get_marker() for item in ax.get_lines()]
    assert shapes.count("x") == 1  # the whole line
    low, high = WEIGHT_LIMITS
    assert [item.get_ydata()[0] for item in ax.get_lines() if item.get_marker() == "v"] == [low]
    far = [item for item in ax.get_lines() if item.get_marker() == "^" and item.get_ydata()[0] == high]
    assert len(far) == 1
    labels = [text.get_text() for text in ax.get_legend().get_texts()]
    assert {"κ = 1", "κ = 0.1", "interval unbounded", "value outside the figure"} == set(labels)
    assert "not\ndetermined" in [text.get_text() for text in ax.texts]


def test_a_tame_grid_has_no_notes():
    _, ax = figures.new_figure()
    figures.plot_alpha_grid(GRID, ax)
    assert [text.get_text() for text in ax.get_legend().get_texts()] == ["κ = 1", "κ = 0.1"]
    assert ax.get_ylim() == WEIGHT_LIMITS


def test_groups_show_their_intervals_and_what_is_open():
    rows = [
        {"name": "layer 0", "alpha": weight(0.4, 0.3, 0.5)},
        {"name": "layer 1", "alpha": weight(3.0, 0.5, 1.6, "complement")},
        {"name": "norm", "alpha": weight(0.5, None, None, "line", degenerate=True)},
        {"name": "all", "alpha": weight(0.35, 0.2, 0.5)},
    ]
    _, ax = figures.new_figure()
    assert figures.plot_groups(rows, ax) is ax
    assert list(line(ax, "layer 0").get_xdata()) == [0.3, 0.5]
    assert list(line(ax, "layer 1").get_xdata()) == list(WEIGHT_LIMITS)
    assert line(ax, "layer 1").get_linestyle() == ":"
    assert ">" in [item.get_marker() for item in ax.get_lines()]
    assert [text.get_text() for text in ax.texts] == ["not determined"]
    assert [label.get_text() for label in ax.get_yticklabels()] == ["layer 0", "layer 1", "norm", "whole gradient"]


def test_estimators_show_their_intervals_and_choose_the_axis():
    rows = [
        {"name": "g_t, one trace", "sequences": 2, "relative": estimate(1.0, 1.0, 1.0)},
        {"name": "g_e, empty trace", "sequences": 2, "relative": estimate(0.3, -0.1, 0.6)},
        {"name": "odd", "sequences": 2, "relative": None},
    ]
    _, ax = figures.new_figure()
    assert figures.plot_estimators(rows, ax) is ax
    assert list(line(ax, "g_e, empty trace").get_xdata()) == [-0.1, 0.6]
    assert ax.get_xscale() == "linear"
    rows[1]["relative"] = estimate(0.02, 0.01, 0.03)
    _, ax = figures.new_figure()
    assert figures.plot_estimators(rows, ax).get_xscale() == "log"


def test_files_are_the_same_twice_and_the_numbers_come_back(tmp_path):
    data = pd.DataFrame(curve_rows())
    first = figures.save_figure(curve_figure(), tmp_path / "a" / "curve.v1", data)
    second = figures.save_figure(curve_figure(), tmp_path / "b" / "curve.v1", data)
    assert [path.name for path in first] == ["curve.v1.pdf", "curve.v1.png", "curve.v1.csv"]
    assert [path.read_bytes() for path in first] == [path.read_bytes() for path in second]
    pd.testing.assert_frame_equal(pd.read_csv(first[2]), data, check_exact=True)
    pdf = first[0].read_bytes()
    assert b"/Type3" not in pdf
    assert b"CreationDate" not in pdf


def test_inline_svgs_share_a_page():
    one, two = (figures.to_svg(curve_figure(), name, "a < b", "words & more") for name in ("one", "two"))
    assert one == figures.to_svg(curve_figure(), "one", "a < b", "words & more")
    ids = re.findall(r'id="([^"]+)"', one + two)
    assert len(ids) == len(set(ids))
    assert set(re.findall(r'href="#([^"]+)"|url\(#([^)]+)\)', one)) <= {
        pair for name in ids for pair in ((name, ""), ("", name))
    }
    assert one.startswith('<svg role="img" aria-labelledby="one-title one-desc"')
    assert "<title" in one
    assert "a &lt; b" in one
    assert "words &amp; more" in one
    assert "http" not in one
    assert "currentColor" in one


def test_drawing_changes_no_global_state():
    import matplotlib as mpl

    before = dict(mpl.rcParams)
    figures.to_svg(curve_figure())
    assert {key for key, value in mpl.rcParams.items() if before[key] != value} <= {"backend"}


def test_grid_rows_survive_a_round_trip_through_csv():
    frame = pd.read_csv(StringIO(pd.DataFrame(GRID + ODD_SETS).to_csv(index=False)))
    _, ax = figures.new_figure()
    _, again = figures.new_figure()
    figures.plot_alpha_grid(GRID + ODD_SETS, ax)
    figures.plot_alpha_grid(frame, again)
    for a, b in zip(ax.get_lines(), again.get_lines(), strict=True):
        np.testing.assert_array_equal(a.get_ydata(), b.get_ydata())


def test_batch_sizes_ascend_along_every_line():
    _, ax = figures.new_figure()
    figures.plot_alpha_grid(list(reversed(GRID)), ax)
    assert all(a < b for a, b in pairwise(line(ax, "kappa 1").get_xdata()))
