"""What a notebook shows of a study where numbers are missing or not bounded."""

from dataclasses import replace

import numpy as np
import pytest
from matplotlib.figure import Figure

from bvpo_analysis.display import SHOWN_BATCH_SIZES, drawn, study_html
from bvpo_analysis.exact import load_table
from bvpo_analysis.figures import new_figure
from bvpo_analysis.records import Alpha, Estimate


def test_exact_numbers_stand_without_intervals():
    page = study_html("exact", load_table("correct").moments)
    assert page.count("<tr>") == len(SHOWN_BATCH_SIZES) + 1
    assert "[" not in page.split("<tbody>")[1]


def test_gradients_that_coincide_determine_no_weight():
    """Catches a number where every weight is equally good."""
    table = load_table("correct").moments
    zero = {
        name: np.zeros(1)
        for name in ("bias_e_sq", "bias_inner", "bias_diff_sq", "bias_t_sq", "bias_t_diff", "var_diff", "cov_t_diff")
    }
    page = study_html("same", replace(table, var_e=table.var_t, cov_te=table.var_t, **zero))
    assert "<td>16</td><td>not determined</td>" in page


def test_titles_are_escaped():
    assert "<script>" not in study_html("<script>", load_table("style").moments)


@pytest.mark.parametrize("given", [False, True])
def test_drawing_gives_the_figure(given):
    figure, axes = new_figure()
    found = drawn(lambda ax: ax, axes if given else None)
    assert isinstance(found, Figure)
    assert (found is figure) == given


def test_a_weight_prints_what_it_is_for_and_whether_it_is_bounded():
    estimate = Estimate(0.5, 0.1, 0.3, float("inf"), 8, "fieller-jackknife")
    alpha = Alpha("alpha_star.population.B1.K1.kappa1", estimate, 0.5, 0.0, 1.0, confidence_set="half-line")
    assert str(alpha) == "alpha_star.population.B1.K1.kappa1 = 0.5 [0.3, inf] (not bounded: half-line)"
    assert "every weight" in str(replace(alpha, degenerate=True))
