"""The figure of checkpoints draws the numbers it is given."""

import pandas as pd
import pytest

from bvpo_analysis import figures

ROWS = [
    {"distance": d, "bias": 1.1 * d, "predicted": d, "remainder": 0.1 * d, "fresh_bias": 0.5 * d}
    for d in (0.4, 0.1, 0.2)
]


def line(ax, label):
    return next(item for item in ax.get_lines() if item.get_label() == label)


@pytest.mark.parametrize("rows", [ROWS, pd.DataFrame(ROWS)], ids=["rows", "frame"])
def test_measured_predicted_and_what_is_left(rows):
    """Catches unsorted points, lines that are mixed up, and a remainder left relative to the prediction."""
    _, ax = figures.new_figure()
    assert figures.plot_trace_bias(rows, ax) is ax
    assert list(line(ax, "leading term").get_xdata()) == [0.1, 0.2, 0.4]
    assert list(line(ax, "leading term").get_ydata()) == [0.1, 0.2, 0.4]
    assert list(line(ax, "fresh traces").get_ydata()) == pytest.approx([0.05, 0.1, 0.2])
    assert list(line(ax, "data traces less leading term").get_ydata()) == pytest.approx([0.001, 0.004, 0.016])
    measured = next(item for item in ax.get_lines() if item.get_label().endswith("traces of the data"))
    assert list(measured.get_ydata()) == pytest.approx([0.11, 0.22, 0.44])
    assert (ax.get_xscale(), ax.get_yscale()) == ("log", "log")
