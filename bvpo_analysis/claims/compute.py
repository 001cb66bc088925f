"""What an empty trace is worth: the law of K traces, and of batches of prompts, enumerated as explicit vectors.

The weights on the left sides are found from the vectors, not from the closed forms.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product

import numpy as np

from bvpo_analysis.claims.instances import ROUNDING, FiniteLaw, worst
from bvpo_analysis.records import Claim, Floats
from bvpo_analysis.theory.compute import (
    equal_budget_batch,
    equal_budget_traces,
    fixed_weight_error,
    mixed_error,
    optimal_traces,
    population_mix,
    traces_an_empty_is_worth,
    variance_at_budget,
)


def _averages(p: Floats, x: Floats, count: int) -> tuple[Floats, Floats]:
    """The law of the mean of ``count`` i.i.d. draws from atoms x [n, d]."""
    index = np.array(list(product(range(len(p)), repeat=count)))
    return p[index].prod(axis=1), x[index].mean(axis=1)


def _best_error(law: FiniteLaw) -> float:
    """Least error over all weights: the regression of g_e - mu on g_e - g_t, and its residual, from vectors."""
    step, start = law.e - law.t, law.e - law.mu
    alpha = law.inner(start, step) / law.inner(step, step)
    return law.error_of_mix(alpha)


@dataclass(frozen=True)
class _Prompt:
    """One prompt given the data: K, V, |b_e|^2 and the law of the K-trace average beside the fixed g_e."""

    traces: int
    variance: float
    bias_e_sq: float
    law: FiniteLaw


def _prompts(count: int, seed: int) -> Iterator[_Prompt]:
    """Random prompts with 2 or 3 possible traces, g_t unbiased, K = 1 to 5."""
    rng = np.random.default_rng(seed)
    for _ in range(count):
        n, d, k = int(rng.integers(2, 4)), int(rng.integers(1, 6)), int(rng.integers(1, 6))
        p, t = rng.dirichlet(np.full(n, 3.0)), rng.normal(size=(n, d)) * 10.0 ** rng.uniform(-0.5, 0.5)
        mu, e = p @ t, rng.normal(size=d)
        weights, values = _averages(p, t, k)
        one = FiniteLaw(p, t, np.tile(e, (n, 1)), mu)
        law = FiniteLaw(weights, values, np.tile(e, (len(weights), 1)), mu)
        yield _Prompt(k, one.var_t, float(np.square(e - mu).sum()), law)


def compute_precision() -> Claim:
    """1/MSE of the best mix of K traces and an empty one."""
    instances = (
        (1 / _best_error(x.law), 1 / mixed_error(x.variance, x.bias_e_sq, x.traces), 1 / _best_error(x.law))
        for x in _prompts(60, seed=0)
    )
    measured, predicted, tolerance = worst(instances)
    return Claim(
        name="compute-precision",
        statement="Given the data and b_t = 0, precisions add: 1/MSE of the best mix is K/V + 1/|b_e|^2",
        reference="inverse-variance weighting with B = 0",
        kind="identity",
        measured=measured,
        predicted=predicted,
        tolerance=tolerance,
        setting="60 random prompts, K = 1 to 5 traces, all samples enumerated",
    )


def compute_worth() -> Claim:
    """The number of traces with the error of the best mix, less K."""
    measured, predicted, tolerance = worst(
        (
            x.variance / _best_error(x.law) - x.traces,
            float(traces_an_empty_is_worth(x.variance, x.bias_e_sq)),
            x.traces + x.variance / x.bias_e_sq,
        )
        for x in _prompts(60, seed=1)
    )
    return Claim(
        name="compute-worth",
        statement="Given the data, one empty trace at the best weight is worth V/|b_e|^2 further traces, whatever K",
        reference="inverse-variance weighting with B = 0",
        kind="identity",
        measured=measured,
        predicted=predicted,
        tolerance=tolerance,
        setting="60 random prompts, K = 1 to 5 traces, all samples enumerated",
    )


def compute_free_lunch() -> Claim:
    """A biased empty trace that costs as much as a trace."""
    law = FiniteLaw.independent([-1.0, 1.0], [2.0])
    return Claim(
        name="compute-free-lunch",
        statement="The best mix has at most the error that its cost would buy in traces alone",
        reference="mixing taken as an improvement at no additional compute",
        kind="upper",
        measured=_best_error(law),
        predicted=float(1.0 / equal_budget_traces(1.0, cost_trace=1.0, cost_empty=1.0)),
        only_if="V/|b_e|^2 >= c_e/c_t, the empty trace being worth what it costs",
        setting="V = 1, K = 1, |b_e|^2 = 4, an empty pair as expensive as a trace pair",
        note="The comparison is given the data; traces are drawn for a fixed answer, which may cost more than c_t.",
    )


def compute_break_even() -> Claim:
    """The same under its condition, over prices up to the break-even; the closest case is the break-even itself."""
    measured, predicted, scale = max(
        (
            (_best_error(x.law), x.variance / float(equal_budget_traces(x.traces, 1.0, price)), x.law.scale)
            for x in _prompts(60, seed=2)
            for price in np.array([0.1, 0.9, 1.0]) * x.variance / x.bias_e_sq
        ),
        key=lambda row: (row[0] - row[1]) / row[2],
    )
    return Claim(
        name="compute-break-even",
        statement="If V/|b_e|^2 >= c_e/c_t, the best mix has at most the error that its cost would buy in traces",
        reference="inverse-variance weighting with B = 0",
        kind="upper",
        measured=measured,
        predicted=predicted,
        tolerance=ROUNDING * scale,
        setting="60 random prompts at 0.1, 0.9 and 1 times their break-even price; the closest case",
    )


def compute_equal_mix() -> Claim:
    """alpha = 1/2 against the traces it already has."""
    law = FiniteLaw.independent([-1.0, 1.0], [2.0])
    return Claim(
        name="compute-equal-mix",
        statement="The equal mix has at most the error of its K traces alone",
        reference="alpha = 1/2 as a default",
        kind="upper",
        measured=law.error_of_mix(0.5),
        predicted=law.var_t,
        tolerance=ROUNDING,
        only_if="|b_e|^2 <= 3 V/K",
        setting="V = 1, K = 1, |b_e|^2 = 4",
    )


def compute_fixed_weight_error() -> Claim:
    """alpha^2 V/K + (1 - alpha)^2 |b_e|^2 from vectors."""
    measured, predicted, tolerance = worst(
        (
            x.law.error_of_mix(alpha),
            float(fixed_weight_error(alpha, x.variance, x.bias_e_sq, x.traces)),
            x.law.scale,
        )
        for x in _prompts(60, seed=3)
        for alpha in (0.2, 0.5, 0.9)
    )
    return Claim(
        name="compute-fixed-weight-error",
        statement="Given the data and b_t = 0, a fixed weight has the error alpha^2 V/K + (1 - alpha)^2 |b_e|^2",
        reference="bias and variance of the mix",
        kind="identity",
        measured=measured,
        predicted=predicted,
        tolerance=tolerance,
        setting="alpha = 0.2, 0.5 and 0.9, 60 random prompts, K = 1 to 5 traces, all samples enumerated",
    )


def compute_floor() -> Claim:
    """With any number of traces a fixed weight keeps the bias of the empty trace."""
    alpha = 0.5
    measured, predicted, scale = min(
        ((x.law.error_of_mix(alpha), (1 - alpha) ** 2 * x.bias_e_sq, x.law.scale) for x in _prompts(60, seed=4)),
        key=lambda row: (row[0] - row[1]) / row[2],
    )
    return Claim(
        name="compute-floor",
        statement="At a fixed weight the error stays above (1 - alpha)^2 |b_e|^2 for every K",
        reference="the bias of the mix does not depend on K",
        kind="lower",
        measured=measured,
        predicted=predicted,
        tolerance=ROUNDING * scale,
        setting="alpha = 1/2, 60 random prompts, K = 1 to 5; the closest case",
        note="A consistent estimator of K traces has error V/K + c^2/K^2, which passes every such floor.",
    )


# --- batches of prompts against the population gradient ----------------------------------------------------


@dataclass(frozen=True)
class _Population:
    """Moments of a population of prompts by argument name, and the law of a batch of it."""

    moments: dict[str, float]
    batch_size: int
    traces: int
    batch: FiniteLaw


def _population(t: Floats, e: Floats, batch_size: int, traces: int) -> _Population:
    """Equally likely prompts x with equally likely traces r: t [x, r, d], e [x, d]; g_t unbiased for every prompt."""
    means = t.mean(axis=1)
    mu, mean_e = means.mean(axis=0), e.mean(axis=0)
    rows = []
    for per_prompt, ex in zip(t, e, strict=True):
        weights, values = _averages(np.full(len(per_prompt), 1 / len(per_prompt)), per_prompt, traces)
        rows.append((weights / len(t), np.hstack([values, np.tile(ex, (len(values), 1))])))
    weights, both = _averages(np.concatenate([w for w, _ in rows]), np.concatenate([v for _, v in rows]), batch_size)
    d = t.shape[2]
    moments = {
        "data_var_t": float(np.square(means - mu).sum(axis=1).mean()),
        "trace_var": float(np.square(t - means[:, None]).sum(axis=2).mean()),
        "bias_e_sq": float(np.square(mean_e - mu).sum()),
        "var_e": float(np.square(e - mean_e).sum(axis=1).mean()),
        "data_cov": float(((means - mu) * (e - mean_e)).sum(axis=1).mean()),
    }
    return _Population(moments, batch_size, traces, FiniteLaw(weights, both[:, :d], both[:, d:], mu))


def _populations(count: int, seed: int) -> Iterator[_Population]:
    """Two or three prompts with two traces, batches of 1 or 2, K = 1 or 2; g_e follows mu over prompts."""
    rng = np.random.default_rng(seed)
    for _ in range(count):
        x, d = int(rng.integers(2, 4)), int(rng.integers(1, 4))
        t = rng.normal(size=(x, 1, d)) + rng.normal(size=(x, 2, d)) * 10.0 ** rng.uniform(-0.5, 0.5)
        e = 0.7 * t.mean(axis=1) + 0.5 * rng.normal(size=(x, d)) + 0.3 * rng.normal(size=d)
        yield _population(t, e, int(rng.integers(1, 3)), int(rng.integers(1, 3)))


def compute_population() -> Claim:
    """The best mix of a batch, from all batches and all traces."""
    measured, predicted, tolerance = worst(
        (
            _best_error(x.batch),
            float(population_mix(**x.moments, batch_size=x.batch_size, traces=x.traces).error),
            x.batch.scale,
        )
        for x in _populations(40, seed=5)
    )
    return Claim(
        name="compute-population",
        statement="Against grad L_m the least error is (AC - c^2/B^2)/D, A = (v_t + tau/K)/B, C = |b_e|^2 + v_e/B",
        reference="total variance over prompts and traces",
        kind="identity",
        measured=measured,
        predicted=predicted,
        tolerance=tolerance,
        setting="40 populations of 2 or 3 prompts, all batches of 1 or 2 prompts with 1 or 2 traces enumerated",
    )


def _shared_prompts() -> _Population:
    """Four prompts whose empty gradients move with their own targets, in batches of two; |b_e|^2 = 0.25."""
    means = np.array([-2.0, -1.0, 1.0, 2.0])
    t = means[:, None, None] + np.array([-1.0, 1.0])[None, :, None]
    return _population(t, (means + 0.5)[:, None], batch_size=2, traces=1)


def compute_population_precisions() -> Claim:
    """The formula given the data, used for batches."""
    x = _shared_prompts()
    error_t = (x.moments["data_var_t"] + x.moments["trace_var"]) / x.batch_size
    return Claim(
        name="compute-population-precisions",
        statement="Precisions add against grad L_m as well, with |b_e|^2 for the error of g_e",
        reference="the conditional formula, used for batches of prompts",
        kind="identity",
        measured=1 / _best_error(x.batch),
        predicted=float(1 / mixed_error(error_t, x.moments["bias_e_sq"])),
        tolerance=ROUNDING,
        only_if="g_e varies neither over prompts nor with g_t, as given the data (sufficient)",
        setting="4 prompts, batches of 2, g_e = mu of the prompt + 0.5",
        note="The formula promises a far smaller error than any weight reaches.",
    )


def compute_prompts() -> Claim:
    """Where precision over prompts is what is lacking, the empty traces' cost is better spent on prompts."""
    x = _shared_prompts()
    error_t = x.batch.errors["error_t"]
    batch = float(equal_budget_batch(x.batch_size, x.traces, cost_trace=1.0, cost_empty=0.5))
    return Claim(
        name="compute-prompts",
        statement="The best mix has at most the error that its cost would buy in further prompts",
        reference="mixing taken as an improvement at no additional compute",
        kind="upper",
        measured=_best_error(x.batch),
        predicted=error_t * x.batch_size / batch,
        tolerance=ROUNDING,
        only_if="(A - c/B)^2/(A D) >= c_e/(c_e + K c_t), the share that mixing saves against that of its cost",
        setting="4 prompts, batches of 2, g_e = mu of the prompt + 0.5, an empty pair at half the cost of a trace pair",
        note="What mixing saves falls as 1/B relative to A, so that in large batches prompts are the better buy.",
    )


def compute_prompts_break_even() -> Claim:
    """The same under its condition, over prices of an empty pair up to the break-even."""
    rows = []
    for x in _populations(40, seed=6):
        a, c, b = (x.batch.errors[name] for name in ("error_t", "error_e", "cross"))
        saved = (a - b) ** 2 / (a + c - 2 * b) / a  # the share of the error that the best mix saves
        for price in np.array([0.1, 0.9, 1.0]) * x.traces * saved / (1 - saved):
            batch = float(equal_budget_batch(x.batch_size, x.traces, cost_trace=1.0, cost_empty=price))
            rows.append((_best_error(x.batch), a * x.batch_size / batch, x.batch.scale))
    measured, predicted, scale = max(rows, key=lambda row: (row[0] - row[1]) / row[2])
    return Claim(
        name="compute-prompts-break-even",
        statement="Where mixing saves at least the share that it costs, no further prompts for its cost do better",
        reference="A falls as 1/B",
        kind="upper",
        measured=measured,
        predicted=predicted,
        tolerance=ROUNDING * scale,
        setting="40 populations of 2 or 3 prompts at 0.1, 0.9 and 1 times their break-even price; the closest case",
    )


def compute_traces() -> Claim:
    """The least variance of g_t over K at a fixed budget, each K enumerated, where the closed form is an integer."""
    v_t, c_x, c_t, budget = 1.0, 9.0, 1.0, 12.0
    p = np.array([0.5, 0.5])
    measured = np.inf
    for k in range(1, 8):
        weights, values = _averages(p, np.array([[-1.0], [1.0]]), k)
        tau_k = float(weights @ np.square(values[:, 0]))
        measured = min(measured, (v_t + tau_k) * (c_x + k * c_t) / budget)
    costs = {"data_var_t": v_t, "trace_var": 1.0, "cost_prompt": c_x, "cost_trace": c_t}
    best = optimal_traces(**costs)
    return Claim(
        name="compute-traces",
        statement="At a fixed budget the variance of g_t is least at K = sqrt(tau c_x / (v_t c_t)) traces per prompt",
        reference="two-stage sampling; Cochran, Sampling Techniques, 1977, chapter 10",
        kind="tight",
        measured=measured,
        predicted=float(variance_at_budget(budget=budget, **costs, traces=best)),
        tolerance=ROUNDING,
        setting="v_t = tau = c_t = 1, c_x = 9, so K = 3; K = 1 to 7 enumerated",
    )


CLAIMS = (
    compute_precision,
    compute_worth,
    compute_free_lunch,
    compute_break_even,
    compute_equal_mix,
    compute_fixed_weight_error,
    compute_floor,
    compute_population,
    compute_population_precisions,
    compute_prompts,
    compute_prompts_break_even,
    compute_traces,
)
