"""Figures of the SGD study draw the numbers they are given."""

import numpy as np
import pandas as pd
import pytest

from bvpo_analysis import figures


def line(ax, label):
    return next(item for item in ax.get_lines() if item.get_label() == label)


RUN = [
    {"step": t, "series": name, "value": scale / t, "se": 0.01 if name == "measured" else 0.0}
    for t in (100, 1, 10)
    for name, scale in (("measured", 1.0), ("classical", 3.0), ("sharp", 2.0))
]


@pytest.mark.parametrize("rows", [RUN, pd.DataFrame(RUN)], ids=["rows", "frame"])
def test_a_run_lies_below_its_bounds(rows):
    """Catches lines that are mixed up or unsorted, and a band of another width than five standard errors."""
    _, ax = figures.new_figure()
    assert figures.plot_run_bounds(rows, ax) is ax
    assert list(line(ax, "classical").get_xdata()) == [1, 10, 100]
    assert list(line(ax, "classical").get_ydata()) == [3.0, 0.3, 0.03]
    assert list(line(ax, "measured").get_ydata()) == [1.0, 0.1, 0.01]
    band = ax.collections[0].get_paths()[0].vertices
    assert band[:, 1].max() == pytest.approx(1.05)
    assert band[:, 1].min() > 0  # 0.01 - 5 x 0.01 does not fit on a logarithmic axis
    assert (ax.get_xscale(), ax.get_yscale()) == ("log", "log")


def test_losses_of_every_rule_are_drawn():
    rows = [{"step": t, "rule": rule, "value": v * (t + 1)} for rule, v in (("a", 1.0), ("b", 2.0)) for t in (1, 0)]
    _, ax = figures.new_figure()
    figures.plot_schedule_losses(rows, ax)
    assert list(line(ax, "b").get_ydata()) == [2.0, 4.0]
    assert line(ax, "a").get_color() != line(ax, "b").get_color()
    assert ax.get_yscale() == "log"


def test_a_heat_map_shows_medians_and_leaves_gaps_blank():
    """Catches a mean in place of the median, a transposed map, and a colour for what was not measured."""
    rows = [{"problem": "p", "kappa": 1.0, "tightness": value} for value in (1.0, 2.0, 30.0)]
    rows += [{"problem": "p", "kappa": 0.1, "tightness": 4.0}, {"problem": "q", "kappa": 0.1, "tightness": None}]
    rows += [{"problem": "q", "kappa": 0.1, "tightness": np.inf}, {"problem": "q", "kappa": 1.0, "tightness": 7.0}]
    _, ax = figures.new_figure()
    assert figures.plot_tightness(rows, ax) is ax
    image = ax.get_images()[0].get_array()
    assert np.ma.filled(image, -1.0).tolist() == [[4.0, 2.0], [-1.0, 7.0]]
    assert [text.get_text() for text in ax.get_yticklabels()] == ["p", "q"]
    assert [text.get_text() for text in ax.get_xticklabels()] == ["0.1", "1"]
    assert sorted(text.get_text() for text in ax.texts) == ["2", "4", "7"]


def test_kappas_that_differ_by_rounding_share_a_column():
    rows = [{"problem": "p", "kappa": k, "tightness": 2.0} for k in (0.1, 0.1 + 1e-12)]
    _, ax = figures.new_figure()
    figures.plot_tightness(rows, ax)
    assert ax.get_images()[0].get_array().shape == (1, 1)


def test_best_weights_are_lines_for_predictions_and_markers_for_runs():
    """Catches a prediction drawn as a measurement, and yardsticks that are mixed up."""
    rows = [
        {"kappa": kappa, "yardstick": name, "best": best, "step": 1 - kappa / 2, "mse": 0.5}
        for kappa, best in ((1.0, 0.5), (0.1, 0.9))
        for name in ("steady gradient", "final loss")
    ]
    _, ax = figures.new_figure()
    assert figures.plot_best_weight(rows, ax) is ax
    assert list(ax.get_lines()[0].get_ydata()) == [0.95, 0.5]
    assert list(ax.get_lines()[1].get_ydata()) == [0.5, 0.5]
    drawn = line(ax, "best by final loss")
    assert list(drawn.get_xdata()) == [0.1, 1.0]
    assert list(drawn.get_ydata()) == [0.9, 0.5]
    assert drawn.get_linestyle() == "None"
    assert ax.get_xscale() == "log"
