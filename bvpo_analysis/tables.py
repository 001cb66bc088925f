"""What is shown of the moments of a study, as rows and as DataFrames: moments, estimators, parameter groups, curves.

Rows are dicts that hold :class:`~bvpo_analysis.records.Estimate` and :class:`~bvpo_analysis.records.Alpha` objects;
:func:`frame` spreads them over the columns of a DataFrame.
"""

import dataclasses
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from bvpo_analysis import mixing
from bvpo_analysis.estimators import EmptyTrace, Trace, mean_coefficients
from bvpo_analysis.moments import GradientLaw, Moments, jackknife_estimate, score_estimate
from bvpo_analysis.objectives import Objective
from bvpo_analysis.records import Alpha, Estimate, PairScores

MOMENTS: dict[str, tuple[str, str]] = {
    "bias_t_sq": ("|b_t|²", "squared bias of g_t; zero by construction at the reference"),
    "bias_e_sq": ("|b_e|²", "squared bias of g_e"),
    "bias_inner": ("⟨b_t, b_e⟩", "inner product of the two biases"),
    "bias_diff_sq": ("|b_t − b_e|²", "squared distance of the two means"),
    "bias_t_diff": ("⟨b_t, b_t − b_e⟩", "bias of g_t along the difference"),
    "var_t": ("Tr Cov(g_t)", "variance of g_t, traces and prompts together"),
    "var_e": ("Tr Cov(g_e)", "variance of g_e; prompts only"),
    "cov_te": ("Tr Cov(g_t, g_e)", "covariance of the two, from the prompts they share"),
    "var_diff": ("Tr Cov(g_t − g_e)", "variance of the difference"),
    "cov_t_diff": ("Tr Cov(g_t, g_t − g_e)", "covariance of g_t with the difference"),
    "trace_var": ("τ", "trace variance: the part of Tr Cov(g_t) from sampling traces, given the data"),
    "data_var_t": ("Tr Cov(g_t) − τ", "data variance: the part of Tr Cov(g_t) from sampling prompts"),
    "prompt_bias_t_sq": ("E|b_t(x)|²", "squared bias of g_t against each prompt's own marginal gradient, averaged"),
    "prompt_bias_e_sq": ("E|b_e(x)|²", "the same for g_e"),
    "prompt_bias_inner": ("E⟨b_t(x), b_e(x)⟩", "inner product of the two, averaged"),
    "prompt_bias_diff_sq": ("E|b_t(x) − b_e(x)|²", "squared distance of the two, averaged"),
    "prompt_bias_t_diff": ("E⟨b_t(x), b_t(x) − b_e(x)⟩", "bias of g_t along the difference, averaged"),
    "target_sq": ("|μ|²", "squared length of the marginal gradient"),
    "target_dot_e": ("⟨μ, E g_e⟩", "inner product of the marginal and the mean empty-trace gradient"),
    "mean_e_sq": ("|E g_e|²", "squared length of the mean empty-trace gradient"),
    "cosine_e": ("cos(μ, E g_e)", "their cosine; a ratio of unbiased estimates, which can leave its range by noise"),
}
"""Symbol and meaning of every moment, in the order of :func:`moment_estimates`."""
TRACE_COUNTS = (2, 4, 8)
"""Numbers of traces whose mean stands beside the other estimators."""


def moment_estimates(moments: Moments) -> dict[str, Estimate | None]:
    """Every moment of one unit (B = K = 1) with its interval, under the names of ``MOMENTS``.

    None where the data do not identify a moment: the split into trace and data variance and all numbers per prompt need
    two traces per answer.
    """
    skip = {"n", "bias_noise"}
    named = {f.name: getattr(moments, f.name) for f in dataclasses.fields(moments) if f.name not in skip}
    noise = {"bias_e_sq": moments.bias_noise, "bias_diff_sq": moments.bias_noise}
    estimates = {k: None if v is None else score_estimate(v, noise.get(k)) for k, v in named.items()}
    tau = moments.trace_var
    estimates["data_var_t"] = None if tau is None else jackknife_estimate(moments.var_t - tau)
    estimates["cosine_e"] = mixing.cosine_to_target(moments)
    return estimates


def moments_table(moments: Moments) -> pd.DataFrame:
    """One row per identified moment of one unit: symbol, value, se, low, high, meaning; the index is the name."""
    rows = {name: estimate for name, estimate in moment_estimates(moments).items() if estimate is not None}
    found = [
        {
            "name": name,
            "symbol": symbol,
            "value": rows[name].value,
            "se": rows[name].se,
            "low": rows[name].ci_low,
            "high": rows[name].ci_high,
            "meaning": meaning,
        }
        for name, (symbol, meaning) in MOMENTS.items()
        if name in rows
    ]
    return pd.DataFrame(found).set_index("name")


def estimator_rows(moments: Moments, batch_size: float, kappa: float = 1.0) -> list[dict[str, Any]]:
    """g_t, means of K traces, g_e, the equal and the optimal mix, and g_t on twice the prompts, at a batch size.

    Returns:
        Rows with name, alpha, traces, sequences (per pair) and the estimates bias_sq, trace_var, data_var, mse, and
        relative (MSE over that of g_t; None where it is not determined).
    """
    one = moments.population(batch_size)
    best = mixing.recommended_weights(one, kappa)
    cases: list[tuple[str, GradientLaw, Any, int, int]] = [("g_t, one trace", one, 1.0, 1, 2)]
    if moments.identifies_trace_variance:
        cases += [(f"g_t, mean of {k} traces", moments.population(batch_size, k), 1.0, k, 2 * k) for k in TRACE_COUNTS]
    cases += [
        ("g_e, empty trace", one, 0.0, 0, 2),
        ("g_c, equal mix", one, 0.5, 1, 4),
        ("g_c, optimal mix", one, best, 1, 4),
        ("g_t, twice the prompts", moments.population(2 * batch_size), 1.0, 1, 4),
    ]
    rows = []
    for name, law, weight, traces, sequences in cases:
        parts = mixing.error_parts(law, weight, kappa)
        split = moments.identifies_trace_variance
        rows.append(
            {
                "name": name,
                "alpha": float(np.atleast_1d(weight)[0]),
                "traces": traces,
                "sequences": sequences,
                "bias_sq": score_estimate(np.broadcast_to(parts.bias_sq, one.var_t.shape), law.bias_noise),
                "trace_var": jackknife_estimate(parts.trace_var) if split else None,
                "data_var": jackknife_estimate(parts.data_var) if split else None,
                "mse": mixing.error(law, weight, kappa),
                "relative": mixing.error_ratio(law, weight, one, 1.0, kappa),
            }
        )
    return rows


def group_rows(
    whole: Moments, by_group: Mapping[str, Moments], sizes: Mapping[str, int], batch_size: float, kappa: float = 1.0
) -> list[dict[str, Any]]:
    """Bias, variance and optimal weight of every parameter group, and of the whole gradient ("all") in the last row.

    Returns:
        Rows with name, parameters, the estimates bias_e_sq, var_t and trace_var of one unit, and alpha.
    """
    rows = []
    for name, size in [*sizes.items(), ("all", sum(sizes.values()))]:
        moments = whole if name == "all" else by_group[name]
        rows.append(
            {
                "name": name,
                "parameters": size,
                "bias_e_sq": score_estimate(moments.bias_e_sq, moments.bias_noise),
                "var_t": jackknife_estimate(moments.var_t),
                "trace_var": None if moments.trace_var is None else jackknife_estimate(moments.trace_var),
                "alpha": mixing.optimal_alpha(moments.population(batch_size), kappa),
            }
        )
    return rows


def mse_curve_table(law: GradientLaw, kappa: float = 1.0, points: int = 101) -> pd.DataFrame:
    """MSE(alpha) on [0, 1] with its parts: alpha, bias_sq, trace_var, data_var, mse, mse_low, mse_high."""
    rows = []
    for a in np.linspace(0.0, 1.0, points):
        parts = mixing.error_parts(law, float(a), kappa)
        total = mixing.error(law, float(a), kappa)
        rows.append(
            {
                "alpha": float(a),
                "bias_sq": float(parts.bias_sq[0]),
                "trace_var": float(parts.trace_var[0]),
                "data_var": float(parts.data_var[0]),
                "mse": total.value,
                "mse_low": total.ci_low,
                "mse_high": total.ci_high,
            }
        )
    return pd.DataFrame(rows)


def alpha_grid_table(
    moments: Moments, batch_sizes: Sequence[int], kappas: Sequence[float], traces: int = 1
) -> pd.DataFrame:
    """alpha_kappa at every (batch size, kappa): batch_size, kappa, alpha, low, high, recommended, confidence_set."""
    rows = []
    for size in batch_sizes:
        for kappa in kappas:
            alpha = mixing.optimal_alpha(moments.population(size, traces), kappa)
            rows.append(
                {
                    "batch_size": size,
                    "kappa": kappa,
                    "alpha": alpha.estimate.value,
                    "low": alpha.estimate.ci_low,
                    "high": alpha.estimate.ci_high,
                    "recommended": alpha.recommended,
                    "confidence_set": alpha.confidence_set,
                }
            )
    return pd.DataFrame(rows)


def per_pair_table(objective: Objective, pairs: Iterable[PairScores]) -> pd.DataFrame:
    """One row per pair: log-probabilities, lengths and squared norms of its gradients."""
    trace, empty = Trace(objective), EmptyTrace(objective)
    rows = []
    for pair in pairs:
        logs, gram = pair.log_probs, pair.gram.sum(axis=0)
        t, e = mean_coefficients(trace, logs), mean_coefficients(empty, logs)
        each = trace.coefficients(logs) - t
        spread = float(trace.weights(logs) @ np.einsum("rj,jk,rk->r", each, gram, each))
        draws = len(logs.draws)
        if not logs.enumerated:
            spread = spread * draws / (draws - 1) if draws > 1 else np.nan
        first = logs.draws[0]
        rows.append(
            {
                "prompt_id": logs.prompt_id,
                "log_prob_chosen": logs.log_prob[first[0]],
                "log_prob_rejected": logs.log_prob[first[1]],
                "log_prob_empty_chosen": logs.log_prob[logs.empty[0]],
                "log_prob_empty_rejected": logs.log_prob[logs.empty[1]],
                "tokens_chosen": logs.tokens[first[0]],
                "tokens_rejected": logs.tokens[first[1]],
                "mean_trace_gradient_sq": float(t @ gram @ t),
                "empty_gradient_sq": float(e @ gram @ e),
                "difference_sq": float((t - e) @ gram @ (t - e)),
                "trace_variance": spread,
            }
        )
    return pd.DataFrame(rows)


def jsonable(value: Any) -> Any:
    """Dataclasses to dicts, NumPy numbers to Python's, non-finite floats to None (null in JSON).

    Example:
        >>> jsonable({"a": np.float64(1.5), "b": float("inf")})
        {'a': 1.5, 'b': None}
    """
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return jsonable(dataclasses.asdict(value))
    if isinstance(value, Mapping):
        return {str(k): jsonable(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [jsonable(v) for v in value]
    if isinstance(value, np.bool_ | bool):
        return bool(value)
    if isinstance(value, np.integer):
        return int(value)
    if isinstance(value, np.floating | float):
        return float(value) if math.isfinite(value) else None
    return value


def frame(rows: Sequence[Mapping[str, Any]]) -> pd.DataFrame:
    """Rows as a DataFrame: an estimate x becomes the columns x, x_low and x_high; an optimal weight likewise.

    Example:
        >>> row = {"name": "g_t", "mse": Estimate(0.5, 0.1, 0.3, 0.7, 64, "jackknife"), "relative": None}
        >>> frame([row]).to_dict("records")
        [{'name': 'g_t', 'mse': 0.5, 'mse_low': 0.3, 'mse_high': 0.7, 'relative': None}]
    """
    found = []
    for row in rows:
        flat: dict[str, Any] = {}
        for key, value in row.items():
            estimate = value.estimate if isinstance(value, Alpha) else value
            if isinstance(estimate, Estimate):
                flat |= {key: estimate.value, f"{key}_low": estimate.ci_low, f"{key}_high": estimate.ci_high}
            else:
                flat[key] = value
        found.append(flat)
    return pd.DataFrame(found)
