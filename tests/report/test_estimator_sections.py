"""What the sections about estimators show is what the comparison and the planner found."""

from dataclasses import replace

import pytest

from bvpo_analysis.comparison import EstimatorComparison
from bvpo_analysis.preferences.shipped import shipped_pairs
from bvpo_analysis.report.estimator_sections import (
    SHOWN_PLANS,
    budget_section,
    estimators_section,
    plan_section,
    weights_section,
)
from bvpo_analysis.study import Study

PAIRS = shipped_pairs("correct", limit=6)


@pytest.fixture(scope="module")
def compared(lrm):
    return EstimatorComparison.run(PAIRS, lrm, traces=2, prior=1)


def column(section, label):
    (table,) = section.tables
    at = [c.label for c in table.columns].index(label)
    return {row[0]: row[at] for row in table.rows}


def test_every_estimator_is_listed_with_its_numbers(compared):
    section, rows = estimators_section(compared), {row.label: row for row in compared.rows()}
    assert column(section, "Variance") == {label: row.variance for label, row in rows.items()}
    assert column(section, "Squared bias") == {label: row.bias_sq for label, row in rows.items()}
    generated = column(section, "Sequences generated")
    assert generated["one trace per answer"] == 2.0
    assert generated["empty trace, answers of the trace-based pair"] == 0.0
    assert "data shift" in section.notes[-1]


def test_the_budget_table_sets_off_its_smallest_error(compared):
    section = budget_section(compared, 8, 1.0)
    relative = [row[3] for row in section.tables[0].rows]
    assert relative[0].value == pytest.approx(1.0)
    known = [(r.value, i) for i, r in enumerate(relative) if r is not None]
    assert section.tables[0].best == min(known)[1]
    assert "batch of 8 prompts" in section.text[0]


def test_plans_are_listed_best_first(lrm):
    study = Study.run(PAIRS, lrm, traces=2)
    section = plan_section(study, 8, 1.0)
    (table,) = section.tables
    assert len(table.rows) == SHOWN_PLANS
    values = [row[1].value for row in table.rows]
    assert values == sorted(values)
    assert table.rows[0][0] in section.text[0]


def test_weights_of_prior_traces_are_judged(compared, lrm):
    section = weights_section(compared)
    assert "1 prior trace each" in section.text[0]
    assert section.notes
    without = EstimatorComparison.run([replace(pair, prior_traces=()) for pair in PAIRS], lrm, traces=1)
    assert not weights_section(without).tables
    assert "no prior traces" in weights_section(without).text[0]
