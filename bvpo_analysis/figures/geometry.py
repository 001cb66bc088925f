"""Draws of g_t, g_e and their mix around the target, in a plane that shows the bias at its true length."""

from collections.abc import Mapping
from typing import Any

from matplotlib.axes import Axes
from matplotlib.patches import Circle

from bvpo_analysis.figures.style import BLUE, GREEN, INK, MUTED, VERMILLION, symbols

KINDS = {"g_t": (BLUE, "o", ":"), "g_e": (VERMILLION, "s", "--"), "g_c": (GREEN, "D", "-")}


def plot_plane(result: Mapping[str, Any], ax: Axes) -> Axes:
    """Points, the segment of all mixes, and circles whose radii are the root mean squared errors.

    Horizontally the direction from mu to E g_e, vertically the leading principal component of the noise of g_t
    orthogonal to it; mu is the origin, |mu| the unit. Most noise lies in other directions, so most points lie inside
    their circle, which counts all directions; the title says how much of the variance of g_t is in view.

    Args:
        result: points {name: [[x, y]]}, rms {name: radius}, bias, alpha, share (of the variance of g_t in the plane);
            names are "g_t", "g_e" and "g_c".
        ax: where to draw.
    """
    bias, alpha = result["bias"], result["alpha"]
    for name, points in result["points"].items():
        colour, marker, line = KINDS[name]
        x, y = zip(*points, strict=True)
        fixed = max(x) - min(x) < 1e-9 and max(y) - min(y) < 1e-9
        ax.plot(
            x[:1] if fixed else x,
            y[:1] if fixed else y,
            linestyle="none",
            marker=marker,
            markersize=4.5 if fixed else 2.0,
            markeredgewidth=0,
            color=colour,
            alpha=1.0 if fixed else 0.55,
            label=symbols(name),
            gid=name,
            zorder=4 if fixed else 2,
        )
        circle = Circle((0, 0), result["rms"][name], fill=False, color=colour, linestyle=line, linewidth=0.9)
        circle.set_gid(f"rms {name}")
        ax.add_patch(circle)
    ax.plot([0, bias], [0, 0], color=INK, linewidth=1.4, solid_capstyle="butt", zorder=5, label="means of the mixes")
    ax.plot([0], [0], "+", color=INK, markersize=7, markeredgewidth=1.4, zorder=6, label="μ")
    ax.plot([(1 - alpha) * bias], [0], "D", color=INK, markersize=3.5, zorder=6, label="mean at α*")
    ax.plot([], [], "o", color=MUTED, markerfacecolor="none", markersize=6.5, label="circles: root MSE")
    reach = 1.06 * max([*result["rms"].values(), *(abs(v) for p in result["points"].values() for xy in p for v in xy)])
    ax.set_xlim(-reach, reach)
    ax.set_ylim(-reach, reach)
    ax.set_aspect("equal")
    ax.set_title(f"α* = {alpha:.2f}, {100 * result['share']:.0f} % of the noise in view", fontsize="x-small")
    ax.locator_params(nbins=4)
    return ax
