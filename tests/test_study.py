"""``Study``: what it takes, and tables and figures that say what the numbers behind them say."""

from dataclasses import replace

import pytest
from matplotlib.figure import Figure

from bvpo_analysis.errors import InputError
from bvpo_analysis.figures import new_figure
from bvpo_analysis.preferences import shipped_pairs
from bvpo_analysis.study import Study
from bvpo_analysis.tables import MOMENTS, moment_estimates

PAIRS = shipped_pairs("correct", limit=8)


@pytest.fixture(scope="module")
def study(lrm):
    return Study.from_pairs(lrm, PAIRS, traces=2)


def test_model_and_pairs_in_the_wrong_order_are_told_apart(lrm):
    with pytest.raises(InputError, match="model is expected first, got tuple"):
        Study.from_pairs(PAIRS, lrm)


def test_a_bare_network_is_refused_with_the_remedy(lrm):
    with pytest.raises(InputError, match="load_model"):
        Study.from_pairs(lrm.model, PAIRS)


def test_traces_are_those_that_every_answer_has(lrm):
    """Catches a default that refuses ordinary data, which have one trace per answer."""
    assert Study.from_pairs(lrm, PAIRS).traces == 4
    one = Study.from_pairs(lrm, [replace(pair, chosen_traces=()) for pair in PAIRS])
    assert one.traces == 1
    assert "trace_var" not in one.moments().index


def test_moments_are_a_table_of_the_replicates(study):
    table = study.moments()
    assert list(table.columns) == ["symbol", "value", "se", "low", "high", "meaning"]
    for name in ("var_t", "trace_var", "bias_e_sq", "cov_te"):
        assert table.loc[name, "value"] == float(getattr(study.whole, name)[0])
        assert table.loc[name, "low"] < table.loc[name, "value"] < table.loc[name, "high"]
    assert table.loc["data_var_t", "value"] == pytest.approx(
        table.loc["var_t", "value"] - table.loc["trace_var", "value"]
    )
    group = next(iter(study.by_group))
    assert study.moments(group).loc["var_t", "value"] == float(study.by_group[group].var_t[0])


def test_every_moment_has_a_symbol_and_a_meaning(study):
    """Catches a moment that is measured and never shown."""
    assert set(MOMENTS) == set(moment_estimates(study.whole))


def test_the_curve_is_the_mse_and_its_minimum_the_optimal_weight(study):
    curve, alpha = study.mse_curve(batch_size=64, points=201), study.optimal_alpha(batch_size=64)
    for row in curve.iloc[[0, 100, 200]].itertuples():
        assert row.mse == study.mse(row.alpha, batch_size=64).value
        assert row.mse >= row.bias_sq + row.trace_var + row.data_var - 1e-12
    assert abs(float(curve["alpha"][curve["mse"].idxmin()]) - alpha.recommended) <= 1 / 200


def test_groups_end_with_the_whole_gradient_and_add_up_to_it(study):
    groups = study.groups(batch_size=16).set_index("name")
    assert list(groups.index) == [*study.by_group, "all"]
    assert groups.loc["all", "alpha"] == study.optimal_alpha(batch_size=16).estimate.value
    for column in ("var_t", "bias_e_sq", "parameters"):
        assert groups[column].iloc[:-1].sum() == pytest.approx(groups.loc["all", column], rel=1e-9)


def test_estimators_are_relative_to_one_trace(study):
    rows = study.estimators(batch_size=16).set_index("name")
    assert rows.loc["g_t, one trace", "relative"] == 1.0
    assert rows.loc["g_t, twice the prompts", "mse"] == pytest.approx(rows.loc["g_t, one trace", "mse"] / 2)
    assert rows.loc["g_c, optimal mix", "mse"] <= rows["mse"][["g_t, one trace", "g_e, empty trace"]].min()


@pytest.mark.parametrize("name", ["mse_curve", "alpha_grid", "estimators", "groups"])
def test_every_table_has_a_plot(study, name):
    table, figure = getattr(study, name)(), getattr(study, f"plot_{name}")()
    assert len(table) > 1
    assert isinstance(figure, Figure)
    (ax,) = figure.axes
    assert ax.get_xlabel()
    given, axes = new_figure()
    assert getattr(study, f"plot_{name}")(ax=axes) is given
    assert axes.get_xlabel() == ax.get_xlabel()


def test_a_notebook_shows_the_weights_by_batch_size(study):
    page = study._repr_html_()
    assert repr(study) == "Study(8 pairs, 2 traces per answer, DPO(beta=0.1), 280368 parameters)"
    assert repr(study) in page
    assert f"<td>64</td><td>{study.optimal_alpha(batch_size=64).estimate}</td>" in page
    assert page.count("<table>") == page.count("</table>") == 1
    assert page.count("<tr>") == page.count("</tr>") == 5
