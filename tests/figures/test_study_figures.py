"""Figures of studies draw the numbers they are given, and say where the data do not determine one."""

import numpy as np
import pandas as pd
import pytest
from matplotlib.colors import to_hex

from bvpo_analysis import figures
from bvpo_analysis.figures.alpha_map import WIDE


def line(ax, name):
    return next(item for item in ax.get_lines() if name in (item.get_label(), item.get_gid()))


def estimate(value, low, high):
    return {"value": value, "se": 0.1, "ci_low": low, "ci_high": high, "n": 64, "method": "jackknife"}


VARIANCES = [
    {"label": "g_t", "value": 1.0, "low": 1.0, "high": 1.0, "trace": 0.4},
    {"label": "pool", "value": 0.8, "low": 0.7, "high": 0.9, "trace": None},
    {"label": "far", "value": 6.0, "low": 5.0, "high": 7.0, "trace": 4.5},
]


@pytest.mark.parametrize("rows", [VARIANCES, pd.DataFrame(VARIANCES)], ids=["rows", "frame"])
def test_bars_are_the_two_parts_of_the_variance(rows):
    """Catches parts that are swapped, and a bar that is not cut at the end of the axis."""
    _, ax = figures.new_figure()
    assert figures.plot_variances(rows, ax, limit=2.0) is ax
    bars = [(patch.get_x(), patch.get_width(), patch.get_hatch()) for patch in ax.patches]
    data, traces, unsplit = (patch.get_hatch() for patch in figures.variance_legend())
    assert bars[:2] == [(0.0, pytest.approx(0.6), data), (pytest.approx(0.6), pytest.approx(0.4), traces)]
    assert bars[2] == (0.0, 0.8, unsplit)
    assert bars[3][1] + bars[4][1] == pytest.approx(2.0)
    assert list(line(ax, "pool").get_xdata()) == [0.7, 0.9]
    assert [text.get_text() for text in ax.texts] == ["6 →"]
    assert len({data, traces, unsplit}) == 3


BUDGETS = [
    {"series": name, "tokens": x, "relative": y, "low": y / 2, "high": 2 * y}
    for name, pairs in (("g_t, more prompts", [(1, 1), (2, 1)]), ("more traces", [(2, 1.7), (1, 1)]))
    for x, y in pairs
] + [{"series": "mix", "tokens": 1.5, "relative": None, "low": None, "high": None}]


def test_budgets_are_lines_over_the_level_of_more_prompts():
    """Catches unsorted points, and a baseline that is drawn as a series."""
    _, ax = figures.new_figure()
    assert figures.plot_equal_budget(BUDGETS, ax) is ax
    assert list(line(ax, "more traces").get_xdata()) == [1, 2]
    assert list(line(ax, "more traces").get_ydata()) == [1, 1.7]
    assert ax.get_lines()[0].get_ydata() == [1.0, 1.0]
    assert (ax.get_xscale(), ax.get_yscale()) == ("log", "log")
    bars = ax.collections[0].get_segments()
    assert sorted(tuple(bar[:, 1]) for bar in bars) == [(0.5, 2.0), (0.85, 3.4)]


def map_rows(alpha):
    return [
        {
            "batch_size": b,
            "kappa": k,
            "recommended": alpha(b, k),
            "low": alpha(b, k) - 0.1,
            "high": alpha(b, k) + 0.1,
            "confidence_set": "interval",
        }
        for k in (1.0, 0.5, 0.25)
        for b in (1, 2, 4, 8)
    ]


def test_a_map_has_batch_sizes_across_and_kappas_up():
    """Catches a transposed or flipped map."""
    rows = map_rows(lambda b, k: b * k / 10)
    _, ax = figures.new_figure()
    assert figures.plot_alpha_map(rows, ax) is ax
    cells = np.asarray(ax.collections[0].get_array()).reshape(3, 4)
    np.testing.assert_allclose(cells[0], [0.025, 0.05, 0.1, 0.2])
    np.testing.assert_allclose(cells[:, 3], [0.2, 0.4, 0.8])
    assert [text.get_text() for text in ax.get_yticklabels()] == ["1/4", "1"]
    assert [text.get_text() for text in ax.get_xticklabels()] == ["1", "8"]


def test_a_map_marks_what_is_uncertain():
    """Catches a missing mark on unbounded and on wide intervals, and null ends that are read as numbers."""
    rows = map_rows(lambda b, k: 0.3)
    rows[0] |= {"low": None, "high": 0.4, "confidence_set": "half-line"}
    rows[5] |= {"low": 0.3 - WIDE, "high": 0.31}
    rows[6] |= {"low": 0.95, "high": 4.0}  # clipped, this is narrow
    _, ax = figures.new_figure()
    figures.plot_alpha_map(rows, ax)
    (dots,) = ax.get_lines()
    assert sorted(zip(dots.get_xdata(), dots.get_ydata(), strict=True)) == [(0.0, 0.0), (1.0, -1.0)]
    assert [text.get_text() for text in ax.texts] == ["0.30 throughout"]


GROUPS = [
    {
        "name": name,
        "bias_e_sq": estimate(bias, bias - 0.02, bias + 0.02),
        "var_t": estimate(1.6, 1.5, 1.7),
        "trace_var": split,
    }
    for name, bias, split in (("layer 0", 0.1, estimate(0.8, 0.7, 0.9)), ("all", -0.01, None))
]


def test_groups_divide_variances_by_the_batch_size_and_not_the_bias():
    _, ax = figures.new_figure()
    assert figures.plot_group_moments(GROUPS, ax, batch_size=16) is ax
    assert line(ax, "var_t layer 0").get_xdata()[0] == pytest.approx(0.1)
    assert line(ax, "trace_var layer 0").get_xdata()[0] == pytest.approx(0.05)
    assert line(ax, "bias_e_sq layer 0").get_xdata()[0] == pytest.approx(0.1)
    assert not [item for item in ax.get_lines() if item.get_gid() == "trace_var all"]


def test_a_bias_that_is_not_told_from_zero_is_an_upper_end():
    _, ax = figures.new_figure()
    figures.plot_group_moments(GROUPS, ax)
    open_marker, full = line(ax, "bias_e_sq all"), line(ax, "bias_e_sq layer 0")
    assert open_marker.get_xdata()[0] == pytest.approx(0.01)
    assert to_hex(open_marker.get_markerfacecolor()) != to_hex(full.get_markerfacecolor())


def test_parts_of_variances_keep_their_place_and_zero_is_marked():
    """Catches parts that overwrite one another, and a zero that vanishes from a logarithmic axis."""
    rows = [
        {"mode": mode, "part": part, "value": value, "low": value / 2, "high": 2 * value}
        for mode in ("thinking", "no thinking")
        for part, value in (("traces", 0.0), ("answers", 0.1), ("prompts", 0.2), ("total", 0.3))
    ]
    _, ax = figures.new_figure()
    assert figures.plot_log_variances(rows, ax, limits=(1e-3, 10.0)) is ax
    assert ax.get_xscale() == "log"
    assert line(ax, "thinking answers").get_xdata()[0] == 0.1
    zero = line(ax, "no thinking traces")
    assert zero.get_xdata()[0] == 1e-3
    assert to_hex(zero.get_markerfacecolor()) != to_hex(zero.get_color())
    heights = [item.get_ydata()[0] for item in ax.get_lines() if item.get_gid()]
    assert len(set(heights)) == len(rows)


def test_regimes_stand_side_by_side():
    """Catches series that are mixed up, and an unbounded interval that looks bounded."""
    rows = [
        {"row": "B = 1", "series": "a", "value": 0.3, "low": 0.2, "high": 0.4, "exact": 0.31},
        {"row": "B = 1", "series": "b", "value": 0.5, "low": None, "high": 0.6, "exact": None},
        {"row": "B = 16", "series": "a", "value": 0.7, "low": 0.6, "high": 0.8, "exact": None},
    ]
    _, ax = figures.new_figure()
    assert figures.plot_side_by_side(rows, ax, label="alpha") is ax
    assert list(line(ax, "B = 1 a").get_xdata()) == [0.2, 0.4]
    assert list(line(ax, "B = 1 b").get_xdata()) == [0.0, 0.6]
    assert line(ax, "B = 1 b").get_linestyle() == ":"
    assert line(ax, "B = 1 a").get_ydata()[0] < line(ax, "B = 1 b").get_ydata()[0]
    circles = [item for item in ax.get_lines() if item.get_markerfacecolor() == "none"]
    assert [list(item.get_xdata()) for item in circles] == [[0.31]]
    assert [text.get_text() for text in ax.get_yticklabels()] == ["B = 1", "B = 16"]
