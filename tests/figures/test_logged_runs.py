"""What is drawn of a log is what the log holds."""

import pytest

from bvpo_analysis.figures import new_figure, plot_logged_losses, plot_logged_variances, plot_logged_weights

LINES = [
    {"step": 0, "loss": 0.7, "alpha": 0.5, "eval/loss": 0.69, "eval/loss_se": 0.01, "probe/alpha": 0.4},
    {"step": 5, "loss": 0.6, "alpha": 0.45},
    {"step": 10, "eval/loss": 0.62, "eval/loss_se": 0.02, "probe/alpha": 0.3},
]
LINES[0] |= {"probe/alpha_low": 0.2, "probe/alpha_high": 0.5, "probe/var_t": 2.0, "probe/var_e": 1.0}
LINES[2] |= {"probe/alpha_low": None, "probe/alpha_high": None}


def test_held_out_losses_come_before_those_of_batches():
    _, ax = new_figure()
    bare = [{"step": line["step"], "loss": line.get("loss")} for line in LINES]
    plot_logged_losses({"a": LINES, "b": bare}, ax)
    first, second = ax.lines
    assert (list(first.get_xdata()), list(first.get_ydata())) == ([0, 10], [0.69, 0.62])
    assert (list(second.get_xdata()), list(second.get_ydata())) == ([0, 5], [0.7, 0.6])
    band = ax.collections[0].get_paths()[0].vertices[:, 1]
    assert (band.min(), band.max()) == pytest.approx((0.60, 0.70))


def test_weights_are_lines_and_best_weights_marks_with_their_intervals():
    _, ax = new_figure()
    plot_logged_weights({"a": LINES}, ax)
    assert list(ax.lines[0].get_ydata()) == [0.5, 0.45]
    (bars,) = ax.containers
    assert list(bars[0].get_ydata()) == [0.4, 0.3]
    ends = [segment[:, 1].tolist() for segment in bars[2][0].get_segments()]
    assert ends[0] == pytest.approx([0.2, 0.5])
    assert ends[1][0] < ax.get_ylim()[0] < ax.get_ylim()[1] < ends[1][1]  # no ends were logged: unbounded


def test_variances_of_both_gradients_are_told_apart():
    _, ax = new_figure()
    plot_logged_variances({"a": LINES}, ax)
    filled, hollow = ax.containers
    assert (list(filled[0].get_ydata()), list(hollow[0].get_ydata())) == ([2.0], [1.0])
    assert hollow[0].get_markerfacecolor() == "none"
    assert filled[0].get_markerfacecolor() != "none"


def test_weights_that_were_kept_are_drawn_at_their_own_step():
    """Catches the loss of an earlier step drawn where the run was stopped."""
    _, ax = new_figure()
    lines = [*LINES[:2], {"step": 5, "eval/loss": 0.6, "eval/loss_se": 0.01}]
    lines.append({"step": 10, "kept_step": 0, "eval/loss": 0.69, "probe/alpha": 0.4})
    plot_logged_losses({"a": lines}, ax)
    assert list(ax.lines[0].get_xdata()) == [0, 0, 5]
    _, ax = new_figure()
    plot_logged_weights({"a": lines, "b": lines}, ax)
    assert list(ax.containers[0][0].get_xdata()) == pytest.approx([-0.03, -0.03])
    assert list(ax.containers[1][0].get_xdata()) == pytest.approx([0.03, 0.03])
