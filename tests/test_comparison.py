"""Estimators compared on the same pairs: the moments are those of a study, the costs those of the sequences."""

from dataclasses import replace

import numpy as np
import pytest

from bvpo_analysis import mixing
from bvpo_analysis.comparison import COMBINED, EstimatorComparison
from bvpo_analysis.errors import InputError
from bvpo_analysis.moments import jackknife_estimate
from bvpo_analysis.objectives import DPO, SimPO
from bvpo_analysis.planner import Plan
from bvpo_analysis.preferences.shipped import shipped_pairs
from bvpo_analysis.study import Study

PAIRS = shipped_pairs("correct", limit=6)


@pytest.fixture(scope="module")
def compared(lrm):
    return EstimatorComparison.from_pairs(lrm, PAIRS, traces=2, prior=3)


@pytest.fixture(scope="module")
def study(lrm):
    return Study.from_pairs(lrm, PAIRS, traces=2)


def test_gt_and_ge_have_the_moments_of_a_study(compared, study):
    """Catches a total of another estimator and rows that are shifted by the further sequences."""
    ours, theirs = compared.joint.pair("trace", "empty"), study.whole
    for name in ("bias_e_sq", "var_t", "var_e", "cov_te", "var_diff", "cov_t_diff", "trace_var", "prompt_bias_e_sq"):
        np.testing.assert_allclose(getattr(ours, name), getattr(theirs, name), rtol=1e-5, atol=1e-7, err_msg=name)


def test_cosines_are_those_of_a_study_and_known_where_the_bias_is(compared, study):
    """Catches an estimated cosine, with noise, of an estimator whose mean is the target, and intervals without skew."""
    rows = {row.key: row for row in compared.rows()}
    for key in compared.joint.unbiased:
        assert (rows[key].cosine.value, rows[key].cosine.method) == (1.0, "exact")
    found, expected = rows["empty"].cosine, mixing.cosine_to_target(study.whole)
    assert found.method == expected.method
    for name in ("value", "se", "ci_low", "ci_high"):
        assert getattr(found, name) == pytest.approx(getattr(expected, name), rel=1e-4, nan_ok=True), name


def test_every_kind_of_estimator_has_a_row(compared):
    """Catches estimators that drop out because a sequence was not scored."""
    rows = {row.key: row for row in compared.rows()}
    assert set(rows) == {
        *("trace", "pooled_2", "pooled_4", "coupled_2", "prior_shared", "prior_independent", "prior_controlled"),
        *("empty", "empty_shared", "empty_generated", "short"),
    }
    for key in ("trace", "pooled_2", "pooled_4", "coupled_2"):
        assert rows[key].bias_sq.value == 0.0
        assert rows[key].bias_sq.se == 0.0
    assert rows["empty"].bias_sq.se > 0
    assert rows["trace"].trace_share is not None
    assert rows["empty"].trace_share is not None
    assert rows["empty"].trace_share.value == 0.0
    assert rows["short"].trace_share is None


def test_a_single_realisation_has_its_own_square(compared):
    """Catches an estimator with one realisation that is lost among several blocks of traces: |g|^2 is then <v, v>."""
    p = compared.joint.products
    for key in ("empty", "empty_shared", "short"):
        a = compared.joint.index(key)
        # Gram matrices of float32 scores are semidefinite to their rounding only, and factored as if they were.
        np.testing.assert_allclose(p.each[:, a, a], p.own[:, a, a], rtol=1e-6)
        assert compared.joint.covariance[0, a, a] > 0


def test_costs_count_the_sequences_of_a_step(compared):
    """Catches sequences that are paid for twice, or not at all."""
    rows = {row.key: row for row in compared.rows()}
    assert np.atleast_1d(rows["trace"].cost.sequences_backward)[0] == 2
    assert np.atleast_1d(rows["empty"].cost.sequences_sampled)[0] == 2
    assert np.atleast_1d(rows["prior_shared"].cost.sequences_sampled)[0] == 1
    mix = np.atleast_1d(compared.mix_cost.of("tokens"))[0]
    alone = [np.atleast_1d(compared.costs[key].of("tokens"))[0] for key in ("trace", "empty")]
    assert mix == pytest.approx(sum(alone))
    together = np.atleast_1d(compared.combined_cost.of("tokens"))[0]
    parts = [np.atleast_1d(compared.costs[key].of("tokens"))[0] for key in COMBINED]
    assert np.atleast_1d(compared.combined_cost.sequences_sampled)[0] == 2 + 3 + 2
    # The pool holds the trace itself, which is paid for once.
    assert max(parts) < together < sum(parts) - 0.9 * parts[0] + 1e-9


def test_at_equal_budget_the_baseline_is_one(compared):
    rows = {row.label: row for row in compared.at_equal_budget(8)}
    assert rows["g_t, one trace"].relative.value == pytest.approx(1.0)
    assert rows["g_t, one trace"].batch_size.value == pytest.approx(8.0)
    two = rows["g_t, mean of 2 traces"]
    assert two.batch_size.value == pytest.approx(4.0)
    # At the same tokens a mean of two traces halves the prompts: data noise doubles, trace noise stays.
    moments = compared.joint.pair("trace", "empty")
    tau, total = moments.trace_var[0], moments.var_t[0]
    assert two.relative.value == pytest.approx((2 * (total - tau) + tau) / total, rel=1e-6)
    assert any("combination" in label for label in rows)


def test_the_best_combination_is_no_worse_than_its_parts(compared):
    best = compared.best_combination(16)
    errors = compared.joint.error_matrix(16)[0]
    parts = errors[(at := [compared.joint.index(key) for key in best.names]), at]
    added = parts.sum() * best.raised / (1 - best.raised)  # the trace of what made the matrix semidefinite
    assert best.error.value <= (parts + added).min() * (1 + 1e-9)


@pytest.mark.parametrize(
    ("change", "options", "says"),
    [
        ({}, {"prior": 8}, "every pair needs 8 prior traces, one has 7"),
        ({}, {"traces": 9}, "has 4 posterior trace"),
        ({}, {"objective": SimPO()}, "simpo loss g_t is biased from the first step"),
    ],
)
def test_what_the_data_do_not_allow(lrm, change, options, says):
    with pytest.raises(InputError, match=says):
        EstimatorComparison.from_pairs(lrm, [replace(pair, **change) for pair in PAIRS], **({"traces": 2} | options))


def test_a_combination_generates_what_its_members_take(lrm):
    """Catches prior traces that are charged to a combination in which no estimator takes any."""
    found = EstimatorComparison.from_pairs(lrm, PAIRS[:4], traces=1, prior=1)
    assert "pooled_4" not in found.joint.names
    assert np.atleast_1d(found.combined_cost.sequences_sampled)[0] == 4  # two answers with traces, two without


def test_without_prior_traces_there_are_no_pools(lrm):
    pairs = [replace(pair, prior_traces=()) for pair in PAIRS]
    found = EstimatorComparison.from_pairs(lrm, pairs, traces=1, objective=DPO(0.5))
    assert set(found.joint.names) == {"trace", "empty", "empty_shared", "empty_generated", "short"}


def test_a_study_plans_what_it_costs(study):
    """Catches a plan in another unit than its budget."""
    trace, empty = study.costs()
    unit = float((trace.of("tokens") + empty.of("tokens"))[0])
    present = Plan(4, 1, 0.5)
    found = study.plan(present=present)
    assert found.budget == pytest.approx(4 * unit)
    assert found.value.value <= found.present_value.value * (1 + 1e-9)
    half = study.plan(found.budget / 2)
    assert half.value.value >= found.value.value
    assert jackknife_estimate(trace.of("tokens")).n == len(PAIRS)


def test_a_notebook_shows_the_rows(compared):
    """Catches a table whose columns belong to other estimators."""
    table, rows = compared.table(), compared.rows()
    assert list(table.index) == [row.key for row in rows]
    for row in rows:
        found = table.loc[row.key]
        assert (found["variance"], found["variance_low"]) == (row.variance.value, row.variance.ci_low)
        assert found["tokens"] == pytest.approx(float(np.ravel(row.cost.of("tokens"))[0]))
        assert row.label in compared._repr_html_()
    assert table.loc["empty", "trace_share"] == 0.0 < table.loc["trace", "trace_share"]
    assert repr(compared) == f"EstimatorComparison(6 pairs, {len(rows)} estimators, DPO(beta=0.1))"
