"""Figures of exact populations draw points, circles, densities and coverage where they belong."""

import numpy as np
import pytest
from matplotlib.patches import Circle

from bvpo_analysis import figures

PLANE = {
    "alpha": 0.75,
    "bias": 2.0,
    "share": 0.4,
    "rms": {"g_t": 3.0, "g_e": 2.0, "g_c": 1.5},
    "points": {"g_t": [[0.0, 1.0], [0.5, -1.0]], "g_e": [[2.0, 0.0]] * 2, "g_c": [[0.5, 0.5], [0.6, -0.5]]},
}


def line(ax, name):
    return next(item for item in ax.get_lines() if name in (item.get_label(), item.get_gid()))


def test_a_plane_has_the_target_at_the_origin_and_the_mix_on_the_segment():
    """Catches the weight of g_e in place of that of g_t on the segment, and radii that belong to another gradient."""
    _, ax = figures.new_figure()
    assert figures.plot_plane(PLANE, ax) is ax
    assert line(ax, "mean at α*").get_xdata()[0] == pytest.approx(0.5)  # (1 - alpha) of the way to E g_e
    assert list(line(ax, "means of the mixes").get_xdata()) == [0, 2.0]
    assert [(x.get_radius(), x.get_center()) for x in ax.patches if isinstance(x, Circle)] == [
        (3.0, (0, 0)),
        (2.0, (0, 0)),
        (1.5, (0, 0)),
    ]
    assert list(line(ax, "g_t").get_ydata()) == [1.0, -1.0]
    assert len(line(ax, "g_e").get_xdata()) == 1  # g_e does not vary, one mark is enough
    assert ax.get_aspect() == 1.0
    assert ax.get_xlim()[1] > 3.0
    assert "40 %" in ax.get_title()


def test_densities_integrate_to_the_share_inside_the_bins():
    bins = [0.0, 0.5, 1.0]
    rows = [
        {"prompts": n, "replications": 10, "counts": counts, "truth": 0.4}
        for n, counts in ((64, [4, 4]), (256, [9, 1]))
    ]
    _, ax = figures.new_figure()
    assert figures.plot_sampling(rows, bins, ax) is ax
    first, second = (patch.get_data() for patch in ax.patches)
    assert np.sum(first.values * np.diff(first.edges)) == pytest.approx(0.8)
    assert list(second.values) == pytest.approx([1.8, 0.2])
    assert list(line(ax, "true α*").get_xdata()) == [0.4, 0.4]
    assert ax.get_ylim()[1] > 1.8


def test_coverage_is_in_per_cent_with_two_standard_errors():
    rows = [
        {"series": name, "prompts": n, "coverage": c, "coverage_se": 0.005}
        for name in ("a", "b")
        for n, c in ((64, 0.95), (16, 0.97))
    ]
    _, ax = figures.new_figure()
    assert figures.plot_coverage(rows, ax) is ax
    a, b = ax.containers
    assert list(a.lines[0].get_ydata()) == pytest.approx([97.0, 95.0])
    assert np.all(a.lines[0].get_xdata() < b.lines[0].get_xdata())
    (bars,) = a.lines[2]
    assert bars.get_segments()[0][:, 1] == pytest.approx([96.0, 98.0])
    assert 95 in [x.get_ydata()[0] for x in ax.get_lines()]
