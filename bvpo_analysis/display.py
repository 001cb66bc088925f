"""How a study shows itself in a notebook: one small table, and figures that need no set-up."""

from collections.abc import Callable
from functools import partial
from html import escape

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from bvpo_analysis import mixing
from bvpo_analysis.figures import new_figure, paper_style
from bvpo_analysis.moments import Moments
from bvpo_analysis.records import Alpha, Estimate

SHOWN_BATCH_SIZES = (1, 16, 64, 256)
"""Batch sizes in the table of a study: the weight moves most with them."""


def drawn(draw: Callable[[Axes], Axes], ax: Axes | None = None) -> Figure:
    """Draw on given axes, or on a new figure of paper width in the style of the reports.

    Returns:
        The figure, which a notebook shows and ``savefig`` writes.

    Example:
        >>> drawn(lambda ax: ax).axes[0].get_xscale()
        'linear'
    """
    if ax is not None:
        figure = draw(ax).get_figure(root=True)
        assert figure is not None  # axes that can be drawn on belong to one
        return figure
    with paper_style():
        figure, axes = new_figure()
        figure.set_facecolor("white")  # black labels stay legible in a dark notebook
        draw(axes)
    return figure


def study_html(title: str, moments: Moments) -> str:
    """The optimal weight and what other weights cost, by batch size, as an HTML table (population target, kappa = 1).

    Args:
        title: what was studied.
        moments: moments of the whole gradient.
    """
    head = "<tr><th>prompts per batch</th><th>α*</th>" + "".join(
        f"<th>{label}</th>" for label in ("MSE at α = 0", "at α = 0.5", "at α*")
    )
    rows = []
    for size in SHOWN_BATCH_SIZES:
        law = moments.population(size)
        weights = (0.0, 0.5, partial(mixing.recommended_weights, kappa=1.0))
        cells = [_weight(mixing.optimal_alpha(law)), *(_text(mixing.error_ratio(law, w, law, 1.0)) for w in weights)]
        rows.append(f"<tr><td>{size}</td>" + "".join(f"<td>{escape(cell)}</td>" for cell in cells) + "</tr>")
    return (
        f"<p><b>{escape(title)}</b><br>Optimal weight of g_t in α g_t + (1 − α) g_e, and MSE as a multiple of that of "
        f"g_t alone (α = 1), one trace per answer, κ = 1; 95 % intervals.</p>"
        f"<table><thead>{head}</tr></thead><tbody>{''.join(rows)}</tbody></table>"
        "<p>Ask <code>.optimal_alpha(batch_size=…, kappa=…)</code>, <code>.moments()</code>, "
        "<code>.mse_curve()</code>, <code>.alpha_grid()</code>, <code>.estimators()</code>, <code>.groups()</code>; "
        "the last four also as <code>.plot_…()</code>.</p>"
    )


def _weight(alpha: Alpha) -> str:
    if alpha.degenerate or alpha.confidence_set == "line":
        return "not determined"
    return str(alpha.estimate) if alpha.confidence_set == "interval" else f"{alpha.estimate.value:.3g} [not bounded]"


def _text(estimate: Estimate | None) -> str:
    return "not determined" if estimate is None else str(estimate)
