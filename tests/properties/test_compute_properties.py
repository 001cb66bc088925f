"""Invariants of the price of precision: formulas against laws of K traces and of batches, enumerated (G67)."""

from itertools import product

import numpy as np
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from strategies import ENTRIES, REL, Law

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

COSTS = st.floats(-2.0, 2.0).map(lambda x: 10.0**x)
VARIANCES = st.floats(-3.0, 3.0).map(lambda x: 10.0**x)


def _averages(p: np.ndarray, x: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
    """The law of the mean of ``count`` i.i.d. draws: probabilities and values of all samples."""
    samples = list(product(range(len(p)), repeat=count))
    return np.array([np.prod(p[list(s)]) for s in samples]), np.array([x[list(s)].mean(axis=0) for s in samples])


@st.composite
def conditional_laws(draw: st.DrawFn) -> tuple[Law, Law, int]:
    """One trace and the average of K traces, both unbiased for mu, with a fixed g_e; V and |b_e|^2 not tiny."""
    n, d, k = draw(st.integers(2, 3)), draw(st.integers(1, 4)), draw(st.integers(1, 4))
    p = np.array(draw(st.lists(st.integers(1, 9), min_size=n, max_size=n)), dtype=float)
    p /= p.sum()
    t, e = draw(hnp.arrays(float, (n, d), elements=ENTRIES)), draw(hnp.arrays(float, d, elements=ENTRIES))
    mu = p @ t
    weights, values = _averages(p, t, k)
    one = Law(p, t, np.broadcast_to(e, t.shape), mu)
    many = Law(weights, values, np.broadcast_to(e, values.shape), mu)
    assume(min(one.error_t, one.error_e) > 1e-6 * one.scale)
    return one, many, k


@given(conditional_laws())
def test_g67_precisions_add(laws_):
    """Catches V for V/K, or errors added in place of precisions: against the enumerated law of K traces."""
    one, many, k = laws_
    variance, bias_sq = one.cov(one.t, one.t), one.error_e
    alpha = float(mixed_weight(variance, bias_sq, k))
    measured = many.mse(alpha)
    assert abs(1 / measured - k / variance - 1 / bias_sq) <= 1e-7 / measured
    assert abs(float(mixed_error(variance, bias_sq, k)) - measured) <= REL * one.scale
    assert abs(alpha - many.alpha) <= 1e-8
    for other in (alpha - 0.01, alpha + 0.01):
        assert many.mse(other) > measured


@given(conditional_laws(), st.floats(-1.0, 2.0))
def test_g67_errors_of_fixed_weights(laws_, alpha):
    """Catches weights on the wrong estimator, and the break-even 3 V/K of the equal mix."""
    one, many, k = laws_
    variance, bias_sq = one.cov(one.t, one.t), one.error_e
    got = float(fixed_weight_error(alpha, variance, bias_sq, k))
    assert abs(got - many.mse(alpha)) <= REL * max(1.0, alpha**2) * one.scale
    assume(abs(bias_sq - 3 * variance / k) > 1e-6 * one.scale)
    assert (many.mse(0.5) < many.error_t) == (bias_sq < 3 * variance / k)


@given(VARIANCES, VARIANCES, st.integers(1, 64), COSTS, COSTS)
def test_g67_break_even_of_the_empty_trace(variance, bias_sq, k, cost_trace, cost_empty):
    """Catches the cost ratio upside down: mixing beats the traces of equal budget iff V/|b_e|^2 > c_e/c_t."""
    worth, ratio = float(traces_an_empty_is_worth(variance, bias_sq)), cost_empty / cost_trace
    assume(abs(worth / ratio - 1) > 1e-6)
    instead = variance / float(equal_budget_traces(k, cost_trace, cost_empty))
    mixed = float(mixed_error(variance, bias_sq, k))
    assume(abs(mixed / instead - 1) > 1e-12)
    assert (mixed < instead) == (worth > ratio)
    at_par = float(equal_budget_traces(k, cost_trace, worth * cost_trace))
    assert abs(variance / at_par / mixed - 1) <= 1e-12


@st.composite
def populations(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Prompts: probabilities [x], trace probabilities [r], gradients t [x, r, d], e [x, d]."""
    x, r, d = draw(st.integers(2, 3)), draw(st.integers(1, 2)), draw(st.integers(1, 3))
    p = np.array(draw(st.lists(st.integers(1, 9), min_size=x, max_size=x)), dtype=float)
    q = np.array(draw(st.lists(st.integers(1, 9), min_size=r, max_size=r)), dtype=float)
    t, e = draw(hnp.arrays(float, (x, r, d), elements=ENTRIES)), draw(hnp.arrays(float, (x, d), elements=ENTRIES))
    return p / p.sum(), q / q.sum(), t, e


@settings(max_examples=60)
@given(populations(), st.integers(1, 2), st.integers(1, 2))
def test_g67_a_batch_against_the_population_gradient(population, size, k):
    """Catches tau without K, a covariance not divided by B, or one left out: against all batches and traces."""
    p, q, t, e = population
    one = [_averages(q, per_prompt, k) for per_prompt in t]
    weights = np.concatenate([px * w for px, (w, _) in zip(p, one, strict=True)])
    both = np.concatenate([np.hstack([v, np.tile(ex, (len(v), 1))]) for (_, v), ex in zip(one, e, strict=True)])
    weights, both = _averages(weights, both, size)
    d = t.shape[2]
    means = np.einsum("r,xrd->xd", q, t)
    mu, mean_e = p @ means, p @ e
    batch = Law(weights, both[:, :d], both[:, d:], mu)
    assume(batch.distance > 1e-6 * batch.scale)
    mix = population_mix(
        data_var_t=float(p @ ((means - mu) ** 2).sum(axis=1)),
        trace_var=float(np.einsum("x,r,xrd->", p, q, (t - means[:, None]) ** 2)),
        bias_e_sq=float((mean_e - mu) @ (mean_e - mu)),
        var_e=float(p @ ((e - mean_e) ** 2).sum(axis=1)),
        data_cov=float(p @ ((means - mu) * (e - mean_e)).sum(axis=1)),
        batch_size=size,
        traces=k,
    )
    for got, expected in ((mix.error_t, batch.error_t), (mix.error_e, batch.error_e), (mix.cross, batch.cross)):
        assert abs(float(got) - expected) <= REL * batch.scale
    alpha = float(mix.weight)
    slack = REL * max(1.0, alpha**2) * batch.scale
    assert abs(float(mix.error) - batch.mse(alpha)) <= slack
    for other in (alpha - 0.1, alpha + 0.1):
        assert batch.mse(other) >= batch.mse(alpha) - slack


@given(VARIANCES, VARIANCES, COSTS, COSTS, st.floats(1.0, 100.0))
def test_g67_no_other_number_of_traces_is_better_at_the_budget(data_var_t, trace_var, c_x, c_t, k):
    """Catches the square root upside down: against any other K, and against the value with sqrt terms."""
    costs = {
        "data_var_t": data_var_t,
        "trace_var": trace_var,
        "cost_prompt": c_x,
        "cost_trace": c_t,
    }
    best = max(1.0, float(optimal_traces(**costs)))
    least = float(variance_at_budget(budget=1.0, **costs, traces=best))
    assert least <= float(variance_at_budget(budget=1.0, **costs, traces=k)) * (1 + 1e-12)
    bound = (np.sqrt(data_var_t * c_x) + np.sqrt(trace_var * c_t)) ** 2
    assert least >= bound * (1 - 1e-12)


@given(st.integers(1, 512), st.integers(1, 32), COSTS, COSTS, COSTS)
def test_g67_equal_budgets_cost_the_same(size, k, c_t, c_e, c_x):
    """Catches a budget with the overhead or the traces left out."""
    more = float(equal_budget_batch(size, k, c_t, c_e, c_x))
    assert abs(more * (c_x + k * c_t) / (size * (c_x + k * c_t + c_e)) - 1) <= 1e-12
    assert abs(float(equal_budget_traces(k, c_t, c_e)) * c_t / (k * c_t + c_e) - 1) <= 1e-12


@given(VARIANCES, VARIANCES, VARIANCES, st.floats(0.0, 0.99))
def test_g67_a_fixed_weight_has_a_floor_that_more_traces_pass(variance, coefficient_sq, bias_sq, alpha):
    """Catches alpha for 1 - alpha in the floor, and a wrong root of the crossing."""
    floor = (1 - alpha) ** 2 * bias_sq
    for k in (1.0, 1e3, 1e9):
        assert float(fixed_weight_error(alpha, variance, bias_sq, k)) >= floor
    crossing = float(traces_to_reach(floor, variance, coefficient_sq))
    assume(crossing > 1)
    assert abs(float(consistent_error(variance, coefficient_sq, crossing)) / floor - 1) <= 1e-12
    assert float(consistent_error(variance, coefficient_sq, 2 * crossing)) < floor
