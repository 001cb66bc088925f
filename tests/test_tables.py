"""Rows of tables against the formulas they stand for, on exact moments."""

import math

import numpy as np
import pytest

from bvpo_analysis import mixing
from bvpo_analysis.exact import load_table
from bvpo_analysis.records import Estimate
from bvpo_analysis.tables import (
    MOMENTS,
    alpha_grid_table,
    estimator_rows,
    frame,
    group_rows,
    jsonable,
    moment_estimates,
    moments_table,
    mse_curve_table,
)

SIZE = 16


@pytest.fixture(scope="module")
def moments():
    return load_table("valid").moments


def number(values):
    return float(np.ravel(values)[0])


def test_estimators_have_their_errors_by_hand(moments):
    """Catches a wrong divisor, a missing covariance, and a mean of traces whose data variance shrinks too."""
    rows = {row["name"]: row["mse"].value for row in estimator_rows(moments, SIZE)}
    var_t, var_e, cov, tau, bias = (
        number(getattr(moments, name)) for name in ("var_t", "var_e", "cov_te", "trace_var", "bias_e_sq")
    )
    expected = {
        "g_t, one trace": var_t / SIZE,
        "g_t, mean of 4 traces": (var_t - tau + tau / 4) / SIZE,
        "g_e, empty trace": var_e / SIZE + bias,
        "g_c, equal mix": (var_t + var_e + 2 * cov) / (4 * SIZE) + bias / 4,
        "g_t, twice the prompts": var_t / (2 * SIZE),
    }
    for name, value in expected.items():
        assert rows[name] == pytest.approx(value, rel=1e-6), name
    assert rows["g_c, optimal mix"] < min(
        rows[name] for name in ("g_t, one trace", "g_e, empty trace", "g_c, equal mix")
    )


def test_kappa_weighs_the_variance_only(moments):
    one, half = ({r["name"]: r["mse"].value for r in estimator_rows(moments, SIZE, k)} for k in (1.0, 0.5))
    assert half["g_t, one trace"] == pytest.approx(one["g_t, one trace"] / 2, rel=1e-6)
    bias = number(moments.bias_e_sq)
    assert half["g_e, empty trace"] - bias == pytest.approx((one["g_e, empty trace"] - bias) / 2, rel=1e-6)


def test_the_curve_has_its_minimum_at_the_weight(moments):
    law = moments.population(SIZE)
    curve = mse_curve_table(law, points=1001)
    best = mixing.optimal_alpha(law).estimate.value
    assert curve["alpha"][curve["mse"].idxmin()] == pytest.approx(best, abs=1e-3)
    parts = curve["bias_sq"] + curve["trace_var"] + curve["data_var"]
    np.testing.assert_allclose(parts, curve["mse"], rtol=1e-9)
    assert curve["trace_var"].iloc[0] == 0.0


def test_the_grid_goes_through_batches_then_kappas(moments):
    grid = alpha_grid_table(moments, [1, 64], [1.0, 0.1])
    assert list(zip(grid["batch_size"], grid["kappa"], strict=True)) == [(1, 1.0), (1, 0.1), (64, 1.0), (64, 0.1)]
    assert grid["alpha"].is_monotonic_increasing
    assert grid["alpha"].iloc[3] == mixing.optimal_alpha(moments.population(64), 0.1).estimate.value


def test_groups_end_with_the_whole(moments):
    rows = group_rows(moments, {"first": moments}, {"first": 7}, SIZE)
    assert [(row["name"], row["parameters"]) for row in rows] == [("first", 7), ("all", 7)]
    assert rows[0]["alpha"] == rows[1]["alpha"]


def test_moments_stand_in_one_order_with_their_symbols(moments):
    table = moments_table(moments)
    assert list(table.index) == list(MOMENTS)
    assert set(moment_estimates(moments)) == set(MOMENTS)
    assert table.loc["data_var_t", "value"] == pytest.approx(number(moments.var_t) - number(moments.trace_var))


def test_rows_become_columns_and_what_is_infinite_null():
    row = {"name": "x", "mse": Estimate(1.0, 0.5, -math.inf, 2.0, 4, "jackknife"), "note": None}
    assert list(frame([row]).columns) == ["name", "mse", "mse_low", "mse_high", "note"]
    assert jsonable(row)["mse"]["ci_low"] is None
    assert jsonable({"a": [np.int64(3), np.bool_(True), math.nan]}) == {"a": [3, True, None]}
