"""Plots of training runs show the numbers they are given."""

import numpy as np
import pytest

from bvpo_analysis.figures import new_figure
from bvpo_analysis.figures.training import (
    plot_gradient_variances,
    plot_overhead,
    plot_sweep,
    plot_training_curves,
    plot_weight_path,
)


@pytest.fixture
def ax():
    return new_figure()[1]


def test_curves_have_a_line_and_a_band_per_arm(ax):
    rows = [
        {"arm": arm, "step": s, "marginal_loss": v, "marginal_loss_low": v - 0.1, "marginal_loss_high": v + 0.1}
        for arm, start in (("alpha=0", 0.7), ("alpha=1", 0.6))
        for s, v in ((10, start - 0.1), (0, start))
    ]
    plot_training_curves(rows, ax)
    assert [line.get_label() for line in ax.lines] == ["alpha=0", "alpha=1"]
    assert ax.lines[0].get_xdata().tolist() == [0, 10]
    assert ax.lines[1].get_ydata() == pytest.approx([0.6, 0.5])
    assert len(ax.collections) == 2


def test_a_sweep_has_its_intervals_and_predictions_at_the_edge_where_they_are_outside(ax):
    rows = [
        {"alpha": a, "win": v, "win_low": v - 0.01, "win_high": v + 0.03}
        for a, v in ((0.0, 0.5), (0.5, 0.7), (1.0, 0.6))
    ]
    rows.append({"alpha": 0.25, "win": 0.65, "win_low": None, "win_high": None})
    plot_sweep(rows, ax, outcome="win", predicted={"mse": 0.4, "descent": 7.6})
    assert ax.lines[0].get_ydata().tolist() == [0.5, 0.65, 0.7, 0.6]
    marks = {line.get_label(): line.get_xdata()[0] for line in ax.lines if line.get_label() in ("mse", "descent")}
    assert marks == {"mse": 0.4, "descent": 1.0}
    ends = ax.containers[0][2][0].get_segments()
    assert ends[2][:, 1] == pytest.approx([0.69, 0.73])


def test_paths_and_variances_are_sorted_by_step(ax):
    rows = [{"step": s, "alpha": a, "used": None, "var_c:0": 1.0, "var_c:1": 2.0 + a} for s, a in ((20, 0.4), (0, 0.3))]
    plot_weight_path(rows, ax)
    assert ax.lines[0].get_ydata().tolist() == [0.3, 0.4]
    assert np.isnan(ax.lines[1].get_ydata()).all()
    other = new_figure()[1]
    plot_gradient_variances(rows, other, weights=(0.0, 1.0))
    assert other.lines[1].get_ydata() == pytest.approx([2.3, 2.4])
    assert other.get_ylim()[0] == 0


def test_overhead_is_relative(ax):
    rows = [{"method": "dpo", "tokens": 10, "cpu_seconds": 2.0}, {"method": "bvpo", "tokens": 15, "cpu_seconds": 5.0}]
    plot_overhead(rows, ax)
    assert [bar.get_width() for bar in ax.containers[0]] == [1.0, 1.5]
    assert [bar.get_width() for bar in ax.containers[1]] == [1.0, 2.5]
