"""The price of precision on single inputs: worked values, break-even points, limits, bad input."""

import numpy as np
import pytest
from scipy.optimize import minimize_scalar

from bvpo_analysis.theory.compute import (
    consistent_error,
    equal_budget_batch,
    equal_budget_traces,
    fixed_weight_error,
    mixed_error,
    mixed_weight,
    optimal_traces,
    population_mix,
    traces_an_empty_is_worth,
    traces_to_reach,
    variance_at_budget,
)

POPULATION = {"data_var_t": 2.0, "trace_var": 6.0, "bias_e_sq": 0.3, "var_e": 1.5, "data_cov": 1.2}
COSTS = {"data_var_t": 2.0, "trace_var": 6.0, "cost_prompt": 5.0, "cost_trace": 1.5}


def test_precisions_add():
    """Catches variances added in place of precisions: 1/(4/8 + 1/2) = 1, with the weight of g_e half."""
    assert float(mixed_error(trace_var=8.0, bias_e_sq=2.0, traces=4.0)) == 1.0
    assert float(mixed_weight(trace_var=8.0, bias_e_sq=2.0, traces=4.0)) == 0.5


def test_exact_estimators():
    """Catches 0/0 and 1/0: an estimator without error leaves none."""
    assert float(mixed_error(0.0, 2.0)) == 0.0
    assert float(mixed_error(2.0, 0.0)) == 0.0
    assert float(mixed_error(0.0, 0.0)) == 0.0
    assert [float(mixed_weight(*x)) for x in ((0.0, 2.0), (2.0, 0.0), (0.0, 0.0))] == [1.0, 0.0, 0.5]


def test_extreme_sizes_do_not_overflow():
    """Catches V |b_e|^2 formed before the division."""
    assert float(mixed_error(1e200, 1e200)) == pytest.approx(5e199, rel=1e-14)
    assert float(mixed_error(1e-200, 1e-200)) == pytest.approx(5e-201, rel=1e-14)
    assert float(mixed_error(1.0, 1e300)) == 1.0
    assert float(optimal_traces(data_var_t=1e-200, trace_var=1e-200, cost_prompt=4.0, cost_trace=1.0)) == 2.0


def test_an_empty_trace_is_worth_that_many_traces():
    """Catches K/V for V/K: the mix has the error of K + V/|b_e|^2 traces, whatever K."""
    worth = float(traces_an_empty_is_worth(trace_var=6.0, bias_e_sq=0.5))
    for k in (1.0, 2.0, 7.0):
        assert float(mixed_error(6.0, 0.5, k)) == pytest.approx(6.0 / (k + worth), rel=1e-14)


@pytest.mark.parametrize("alpha", [0.1, 0.5, 0.9])
def test_a_fixed_weight_helps_up_to_a_bias(alpha):
    """Catches 1/3 for 3: at alpha the break-even bias is (1 + alpha)/(1 - alpha) V/K."""
    edge = (1 + alpha) / (1 - alpha) * 6.0 / 4.0
    assert float(fixed_weight_error(alpha, 6.0, edge, 4.0)) == pytest.approx(1.5, rel=1e-14)
    assert float(fixed_weight_error(alpha, 6.0, 0.99 * edge, 4.0)) < 1.5
    assert float(fixed_weight_error(alpha, 6.0, 1.01 * edge, 4.0)) > 1.5
    assert float(fixed_weight_error(0.5, 1.0, 3.0)) == 1.0


def test_equal_budgets():
    """Catches costs the wrong way round, and a dropped trace count: every pair of sides costs the same."""
    assert float(equal_budget_traces(4.0, cost_trace=10.0, cost_empty=5.0)) == 4.5
    more = float(equal_budget_batch(32.0, 3.0, cost_trace=10.0, cost_empty=6.0, cost_prompt=2.0))
    assert more * (2.0 + 3.0 * 10.0) == pytest.approx(32.0 * (2.0 + 3.0 * 10.0 + 6.0), rel=1e-14)
    assert float(equal_budget_batch(32.0, 3.0, cost_trace=10.0, cost_empty=6.0)) == pytest.approx(32 * 1.2, rel=1e-14)


def test_population_mix_at_its_optimum():
    """Catches a dropped covariance, tau not divided by K, or B left out: against the curve on a grid of weights."""
    mix = population_mix(**POPULATION, batch_size=8.0, traces=2.0)
    a = np.linspace(-2.0, 2.0, 400001)
    variance = a**2 * (2.0 + 3.0) / 8 + (1 - a) ** 2 * 1.5 / 8 + 2 * a * (1 - a) * 1.2 / 8
    curve = variance + (1 - a) ** 2 * 0.3
    assert float(mix.weight) == pytest.approx(a[curve.argmin()], abs=1e-5)
    assert float(mix.error) == pytest.approx(curve.min(), rel=1e-9)


def test_population_mix_adds_precisions_only_without_shared_prompts():
    """Catches the conditional formula used against the population: it is off as soon as c is not 0."""
    apart = population_mix(**{**POPULATION, "data_cov": 0.0}, batch_size=8.0)
    assert float(1 / apart.error) == pytest.approx(float(1 / apart.error_t + 1 / apart.error_e), rel=1e-13)
    shared = population_mix(**POPULATION, batch_size=8.0)
    assert float(shared.error) > 1.05 * float(apart.error)


def test_population_mix_of_coinciding_estimators():
    """Catches 0/0: no trace noise, no bias, and g_e moves with g_t over prompts."""
    mix = population_mix(data_var_t=2.0, trace_var=0.0, bias_e_sq=0.0, var_e=2.0, data_cov=2.0, batch_size=4.0)
    assert (float(mix.weight), float(mix.error)) == (0.5, 0.5)


def test_population_mix_keeps_a_small_error():
    """Catches AC - B^2: with A = 1e-12 and C = 1 it would lose half of its digits."""
    mix = population_mix(data_var_t=1e-12, trace_var=0.0, bias_e_sq=0.0, var_e=1.0, data_cov=0.9e-6, batch_size=1.0)
    exact = 1e-12 * (1 - 0.81) / (1e-12 + 1 - 1.8e-6)
    assert float(mix.error) == pytest.approx(exact, rel=1e-8)


def test_the_best_number_of_traces_at_a_budget():
    """Catches the ratio upside down, through a numerical search."""
    best = float(optimal_traces(**COSTS))
    assert best == pytest.approx(np.sqrt(6.0 * 5.0 / (2.0 * 1.5)), rel=1e-15)
    found = minimize_scalar(
        lambda k: float(variance_at_budget(budget=100.0, **COSTS, traces=k)), bounds=(1, 20), method="bounded"
    )
    assert found.x == pytest.approx(best, rel=1e-4)
    least = (np.sqrt(2.0 * 5.0) + np.sqrt(6.0 * 1.5)) ** 2 / 100.0
    assert float(variance_at_budget(budget=100.0, **COSTS, traces=best)) == pytest.approx(least, rel=1e-13)
    assert float(optimal_traces(**{**COSTS, "cost_prompt": 0.0})) == 0.0


def test_a_consistent_family_passes_every_floor():
    """Catches the wrong root: at the returned K the error is the goal, and it falls with K."""
    goal = 0.25 * 0.8
    k = float(traces_to_reach(goal, trace_var=6.0, bias_coefficient_sq=3.0))
    assert float(consistent_error(6.0, 3.0, k)) == pytest.approx(goal, rel=1e-13)
    assert float(consistent_error(6.0, 3.0, 2 * k)) < goal
    assert float(fixed_weight_error(0.5, 6.0, 0.8, 1e12)) == pytest.approx(goal, rel=1e-9)
    assert float(traces_to_reach(goal, 6.0, 0.0)) == pytest.approx(30.0, rel=1e-14)
    assert float(traces_to_reach(goal, 0.0, 5.0)) == pytest.approx(5.0, rel=1e-14)


def test_everything_broadcasts():
    """Catches scalar-only branches."""
    mix = population_mix(**POPULATION, batch_size=np.array([[1.0], [8.0]]), traces=np.array([1.0, 2.0, 4.0]))
    assert mix.error.shape == mix.weight.shape == mix.error_e.shape == (2, 3)
    assert float(mix.error[1, 2]) == float(population_mix(**POPULATION, batch_size=8.0, traces=4.0).error)
    np.testing.assert_allclose(mixed_error([0.0, 1.0], [[1.0], [3.0]]), [[0.0, 0.5], [0.0, 0.75]], rtol=1e-15)


CALLS = [
    (mixed_error, {"trace_var": 1.0, "bias_e_sq": 1.0, "traces": 2.0}),
    (mixed_weight, {"trace_var": 1.0, "bias_e_sq": 1.0, "traces": 2.0}),
    (fixed_weight_error, {"alpha": 0.5, "trace_var": 1.0, "bias_e_sq": 1.0, "traces": 2.0}),
    (traces_an_empty_is_worth, {"trace_var": 1.0, "bias_e_sq": 1.0}),
    (equal_budget_traces, {"traces": 2.0, "cost_trace": 1.0, "cost_empty": 1.0}),
    (
        equal_budget_batch,
        {"batch_size": 4.0, "traces": 2.0, "cost_trace": 1.0, "cost_empty": 1.0, "cost_prompt": 1.0},
    ),
    (population_mix, {**POPULATION, "batch_size": 4.0, "traces": 2.0}),
    (optimal_traces, COSTS),
    (variance_at_budget, {**COSTS, "budget": 10.0, "traces": 2.0}),
    (consistent_error, {"trace_var": 1.0, "bias_coefficient_sq": 1.0, "traces": 2.0}),
    (traces_to_reach, {"error": 1.0, "trace_var": 1.0, "bias_coefficient_sq": 1.0}),
]


@pytest.mark.parametrize(
    ("function", "arguments", "name"),
    [pytest.param(f, a, name, id=f"{f.__name__}-{name}") for f, a in CALLS for name in a],
)
def test_g13_bad_input_is_named(function, arguments, name):
    """Catches a number that comes out of NaN, an infinity, or an impossible variance, count or cost."""
    for bad in (np.nan, np.inf, np.array([1.0, np.nan])):
        with pytest.raises(ValueError, match=f"^{name} must be finite"):
            function(**{**arguments, name: bad})
    if name in {"alpha", "data_cov"}:
        return
    limit = {"traces": 0.5, "batch_size": 0.5}.get(name, -1.0)
    with pytest.raises(ValueError, match=f"^{name} must"):
        function(**{**arguments, name: limit})


@pytest.mark.parametrize(
    ("function", "arguments", "name"),
    [
        (traces_an_empty_is_worth, {"trace_var": 1.0, "bias_e_sq": 0.0}, "bias_e_sq"),
        (optimal_traces, {**COSTS, "data_var_t": 0.0}, "data_var_t"),
        (traces_to_reach, {"error": 0.0, "trace_var": 1.0, "bias_coefficient_sq": 1.0}, "error"),
        (equal_budget_traces, {"traces": 1.0, "cost_trace": 0.0, "cost_empty": 1.0}, "cost_trace"),
    ],
)
def test_zero_where_the_answer_would_be_infinite(function, arguments, name):
    """Catches a silent infinity."""
    with pytest.raises(ValueError, match=f"^{name} must be positive"):
        function(**arguments)


@pytest.mark.parametrize("data_cov", [2.0, -2.0])
def test_an_impossible_covariance_raises(data_cov):
    """Catches a covariance on the wrong scale: c^2 may not exceed v_t v_e = 3."""
    with pytest.raises(ValueError, match="Cauchy-Schwarz"):
        population_mix(**{**POPULATION, "data_cov": data_cov}, batch_size=4.0)
