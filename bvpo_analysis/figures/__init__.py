"""Figures: pure functions ``plot_*(result, ax)`` that draw rows of results.json, and one style.

They take plain rows (lists of dicts, or DataFrames) and a Matplotlib Axes, return the Axes, load no model and compute
no statistics. ``style`` has the colours, the paper widths and the two ways out: files (PDF, PNG, CSV) and inline SVG.

Example:
    >>> from bvpo_analysis.figures import new_figure, plot_estimators
    >>> one = {"value": 1.0, "ci_low": 1.0, "ci_high": 1.0}
    >>> figure, ax = new_figure()
    >>> ax = plot_estimators([{"name": "g_t, one trace", "sequences": 2, "relative": one}], ax)
    >>> [label.get_text() for label in ax.get_yticklabels()][0].endswith("one trace  (2)")
    True
"""

from bvpo_analysis.figures.alpha_grid import plot_alpha_grid
from bvpo_analysis.figures.alpha_map import plot_alpha_map
from bvpo_analysis.figures.best_weight import plot_best_weight
from bvpo_analysis.figures.committed import redraw, rounded, write_results
from bvpo_analysis.figures.equal_budget import plot_equal_budget
from bvpo_analysis.figures.estimators import plot_estimators
from bvpo_analysis.figures.geometry import plot_plane
from bvpo_analysis.figures.group_moments import plot_group_moments
from bvpo_analysis.figures.groups import plot_groups
from bvpo_analysis.figures.log_variances import plot_log_variances
from bvpo_analysis.figures.logged_runs import plot_logged_losses, plot_logged_variances, plot_logged_weights
from bvpo_analysis.figures.mse_alpha import plot_mse_alpha, stack_is_clipped
from bvpo_analysis.figures.off_reference import plot_trace_bias
from bvpo_analysis.figures.regimes import plot_side_by_side
from bvpo_analysis.figures.sampling import plot_coverage, plot_sampling
from bvpo_analysis.figures.sgd_runs import plot_run_bounds, plot_schedule_losses
from bvpo_analysis.figures.style import (
    ICLR_WIDTH,
    ICML_COLUMN,
    ICML_WIDTH,
    NEURIPS_WIDTH,
    SCREEN_WIDTH,
    TEXT_WIDTH,
    new_figure,
    paper_style,
    save_figure,
    to_svg,
)
from bvpo_analysis.figures.tightness import plot_tightness
from bvpo_analysis.figures.training import (
    plot_gradient_variances,
    plot_overhead,
    plot_sweep,
    plot_training_curves,
    plot_weight_path,
)
from bvpo_analysis.figures.variances import plot_variances, variance_legend

__all__ = [
    "ICLR_WIDTH",
    "ICML_COLUMN",
    "ICML_WIDTH",
    "NEURIPS_WIDTH",
    "SCREEN_WIDTH",
    "TEXT_WIDTH",
    "new_figure",
    "paper_style",
    "plot_alpha_grid",
    "plot_alpha_map",
    "plot_best_weight",
    "plot_coverage",
    "plot_equal_budget",
    "plot_estimators",
    "plot_gradient_variances",
    "plot_group_moments",
    "plot_groups",
    "plot_log_variances",
    "plot_logged_losses",
    "plot_logged_variances",
    "plot_logged_weights",
    "plot_mse_alpha",
    "plot_overhead",
    "plot_plane",
    "plot_run_bounds",
    "plot_sampling",
    "plot_schedule_losses",
    "plot_side_by_side",
    "plot_sweep",
    "plot_tightness",
    "plot_trace_bias",
    "plot_training_curves",
    "plot_variances",
    "plot_weight_path",
    "redraw",
    "rounded",
    "save_figure",
    "stack_is_clipped",
    "to_svg",
    "variance_legend",
    "write_results",
]
