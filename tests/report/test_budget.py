"""Sections on cost, equal budget and plans: every number stands in its own column, and the words fit the numbers."""

import json
from dataclasses import replace

import numpy as np
import pytest

from bvpo_analysis.cost import Cost, mean_cost
from bvpo_analysis.equal_budget import EqualBudgetRow
from bvpo_analysis.planner import Plan, PlanResult, PlanValue
from bvpo_analysis.records import Estimate
from bvpo_analysis.report.budget import cost_section, equal_budget_section, plan_section
from bvpo_analysis.tables import jsonable


def estimate(value):
    return Estimate(value, 0.1, value - 0.2, value + 0.2, 20, "jackknife")


def cells(section, table=0):
    """The rows of a table by column label."""
    t = section.tables[table]
    return [dict(zip([c.label for c in t.columns], row, strict=True)) for row in t.rows]


def row(label, relative, weights=(1.0,)):
    known = None if relative is None else estimate(relative)
    return EqualBudgetRow(label, weights, estimate(30.0), estimate(12.0), known, known, "" if known else "too dear")


def test_costs_stand_in_their_columns():
    """Catches swapped counts: every field is another number."""
    costs = [Cost(*(scale * np.arange(1.0, 10.0))) for scale in (1, 2, 3, 4)]
    section = cost_section({"trace": mean_cost(costs)}, labels={"trace": "one trace"})
    (found,) = cells(section)
    assert found.pop("estimator") == "one trace"
    assert {k: v.value for k, v in found.items()} == {
        "sequences generated": 2.5,
        "tokens generated": 5.0,
        "sequences read": 10.0,
        "tokens read": 12.5,
        "sequences back-propagated": 17.5,
        "tokens back-propagated": 20.0,
        "operations of the passes": 37.5,
    }
    assert found["tokens read"].se > 0
    unknown = [replace(cost, flops_read=np.nan, flops_backward=np.nan) for cost in costs]
    assert cells(cost_section({"trace": mean_cost(unknown)}))[0]["operations of the passes"] is None


def test_the_best_row_is_that_of_the_least_error():
    rows = [row("g_t", 1.0), row("mix", 0.7, (0.25, 0.75)), row("dear", None), row("worse", 1.4)]
    section = equal_budget_section(rows, batch_size=16, measure="flops")
    assert section.tables[0].best == 1
    found = cells(section)
    assert [r["weights"] for r in found] == ["", "0.25 : 0.75", "", ""]
    assert found[1]["error / first row"].value == 0.7
    assert found[1]["cost per prompt"].value == 30.0
    assert found[1]["prompts for the same budget"].value == 12.0
    assert (found[2]["error"], found[2]["note"]) == (None, "too dear")
    assert "16 prompts of g_t, counted in operations of the passes" in section.text[0]
    assert equal_budget_section([row("dear", None)], batch_size=1).tables[0].best is None
    with pytest.raises(ValueError, match="no rows"):
        equal_budget_section([], batch_size=1)


def result(**changes):
    best, other = Plan(10, 1, 0.4), Plan(6, 2, 0.6)
    considered = (
        PlanValue(best, estimate(0.5), Estimate.exact(0.0, 20), True, 0.8),
        PlanValue(other, estimate(0.6), estimate(0.1), True, 0.2),
    )
    fields = {
        "criterion": "mse",
        "kappa": 0.5,
        "budget": 480.0,
        "best": best,
        "value": estimate(0.5),
        "cost": estimate(470.0),
        "present": Plan(16),
        "present_value": estimate(0.9),
        "present_cost": estimate(480.0),
        "ratio": estimate(0.55),
        "considered": considered,
        "notes": ("A limit.",),
    }
    return PlanResult(**(fields | changes))


def test_the_plan_stands_beside_the_present_one():
    section = plan_section(result(), measure="tokens")
    best, present = cells(section)
    assert (best["plan"], best["prompts B"], best["traces K"], best["weight of g_t"]) == ("best", 10, 1, 0.4)
    assert (best["error"].value, best["cost in tokens through the model"].value) == (0.5, 470.0)
    assert (present["plan"], present["prompts B"], present["error"].value) == ("present", 16, 0.9)
    assert "B = 10, K = 1, alpha = 0.400. One other plan is within sampling error" in section.text[0]
    assert section.text[1] == f"Its error is {estimate(0.55)} times that of the present plan."
    assert section.notes[0] == "A limit."
    first, second = cells(section, 1)
    assert (first["not told from the best"], second["not told from the best"]) == (False, True)
    assert (second["falls short of the best by"].value, second["best in this share of draws of the estimates"]) == (
        0.1,
        0.2,
    )
    assert len(plan_section(result(), shown=1).tables[1].rows) == 1


def test_the_words_follow_the_result():
    alone = plan_section(result(present=None, present_value=None, present_cost=None, ratio=None))
    assert len(alone.tables[0].rows) == 1
    assert len(alone.text) == 1
    assert "do not determine the ratio" in plan_section(result(ratio=None)).text[1]
    considered = result().considered
    clear = result(considered=(considered[0], replace(considered[1], tied=False)))
    assert "No other plan is within its sampling error." in plan_section(clear).text[0]
    descent = plan_section(result(criterion="descent"))
    assert "largest decrease" in descent.text[0]
    assert descent.text[1].startswith("Its decrease is")
    assert "expected decrease that is guaranteed, times L" in cells(descent)[0]


def test_sections_are_plain_values():
    for section in (plan_section(result()), equal_budget_section([row("g_t", 1.0)], batch_size=2)):
        assert json.loads(json.dumps(jsonable(section)))["anchor"] == section.anchor
