"""Numbers that single questions turn on, each an Estimate under a name of its own: ``measures`` in results.json."""

from collections.abc import Sequence
from dataclasses import replace
from functools import partial

import numpy as np

from bvpo_analysis import mixing, theory
from bvpo_analysis.comparison import EstimatorComparison
from bvpo_analysis.cost import Cost
from bvpo_analysis.equal_budget import EqualBudgetRow
from bvpo_analysis.moments import Moments, jackknife_estimate, profile_estimate
from bvpo_analysis.moments.ustatistics import leave_one_out_mean
from bvpo_analysis.records import SIDES, Alpha, Estimate, Floats, PairLogProbs
from bvpo_analysis.report.fairness import merged_law


def trace_is_unbiased(moments: Moments) -> bool:
    """Whether g_t has no bias against the target: known at the reference, where the field is zero.

    Example:
        >>> from bvpo_analysis.exact import load_table
        >>> trace_is_unbiased(load_table("style").moments)
        True
    """
    return not bool((np.abs(moments.bias_t_sq) > 1e-12 * moments.var_t).any())


def variance_measures(moments: Moments) -> dict[str, Estimate | None]:
    """Shares of variances: what traces contribute to that of g_t, and that of g_e against it.

    Example:
        >>> from bvpo_analysis.preferences.shipped import REGIMES
        >>> from bvpo_analysis.exact import load_table
        >>> found = variance_measures(load_table(REGIMES[0]).moments)
        >>> 0 < found["trace_share"].value < 1
        True
    """
    tau = moments.trace_var
    return {
        "trace_share": None if tau is None else jackknife_estimate(tau / moments.var_t),
        "empty_variance": jackknife_estimate(moments.var_e / moments.var_t),
    }


def closeness_measures(moments: Moments) -> dict[str, Estimate | None]:
    """How far E g_e is from mu: |b_e|^2 / |mu|^2 and the cosine; None where |mu|^2 is within its noise."""
    target = moments.target_sq
    if not jackknife_estimate(target).ci_low > 0:
        return {"bias_share": None, "cosine_e": None}
    if moments.bias_noise is not None and trace_is_unbiased(moments):
        ratio = profile_estimate(lambda u: u / target, moments.bias_noise)
    else:
        ratio = jackknife_estimate(moments.bias_e_sq / target)
    # Estimates may leave the range of what they estimate; a sentence quotes their nearest value within it.
    cosine = mixing.cosine_to_target(moments)
    return {
        "bias_share": _within(ratio, 0.0, np.inf),
        "cosine_e": None if np.isnan(cosine.se) else _within(cosine, -1.0, 1.0),
    }


def _within(estimate: Estimate, least: float, most: float) -> Estimate:
    """Value and interval clipped to a range, the interval holding the value."""
    value, low, high = (float(np.clip(x, least, most)) for x in (estimate.value, estimate.ci_low, estimate.ci_high))
    return replace(estimate, value=value, ci_low=min(low, value), ci_high=max(high, value))


def noise_measures(moments: Moments, alpha: Alpha, batch_size: float, kappa: float) -> dict[str, Estimate | None]:
    """What the sampling noise of the estimated weight costs: E F(alpha_hat) - F* over F*, F being a parabola.

    F(a) = F* + D (a - alpha*)^2, so that the mean loss is D Var(alpha_hat); the ends are 0 and the loss at the end of
    the interval that is farther from the estimate.
    """
    law = moments.population(batch_size)
    estimate = alpha.estimate
    if moments.exact or alpha.degenerate or alpha.confidence_set != "interval":
        return {"estimation_loss": None}
    distance = float(np.maximum(law.bias_diff_sq[0], 0.0) + kappa * law.var_diff[0])
    least = mixing.error(law, float(alpha.recommended), kappa).value
    farthest = max(estimate.ci_high - estimate.value, estimate.value - estimate.ci_low)
    scale = distance / least
    loss = Estimate(scale * estimate.se**2, 0.0, 0.0, scale * farthest**2, estimate.n, estimate.method)
    return {"estimation_loss": loss}


def direction_measures(moments: Moments, batch_size: float) -> dict[str, Estimate | None]:
    """alpha_cos of a batch: the weight whose mix has the largest cosine to mu, where g_t is unbiased.

    None where the estimated moments contradict each other, or where g_t has a bias of its own.
    """
    if not trace_is_unbiased(moments):
        return {"alpha_cos": None}
    law = moments.population(batch_size)
    mu, dot, e = moments.target_sq, moments.target_dot_e, moments.mean_e_sq
    try:
        found = theory.cosine_optimal_weight(
            second_t=law.var_t + mu,
            second_e=law.var_e + e,
            second_te=law.cov_te + dot,
            signal_t=mu,
            signal_e=dot,
        )
    except ValueError:
        return {"alpha_cos": None}
    raw = jackknife_estimate(found.convex_alpha)
    return {"alpha_cos": replace(raw, ci_low=max(raw.ci_low, 0.0), ci_high=min(raw.ci_high, 1.0))}


def comparison_measures(moments: Moments, batch_size: float, kappa: float) -> dict[str, Estimate | None]:
    """Errors of a batch over that of the best mix: g_e alone, g_t alone, and one run on both data sets."""
    law = moments.population(batch_size)
    best = partial(mixing.recommended_weights, kappa=kappa)
    return {
        "empty_over_best": mixing.error_ratio(law, 0.0, law, best, kappa),
        "trace_over_best": mixing.error_ratio(law, 1.0, law, best, kappa),
        "merged_over_best": mixing.error_ratio(merged_law(moments, 0.5, 2 * batch_size), 0.5, law, best, kappa),
    }


def overhead_measures(trace: Cost, both: Cost) -> dict[str, Estimate | None]:
    """What a step of the mix costs over a step of g_t on as many prompts."""
    found: dict[str, Estimate | None] = {
        "overhead_tokens": jackknife_estimate(np.atleast_1d(both.of("tokens") / trace.of("tokens"))),
        "overhead_sequences": jackknife_estimate(np.atleast_1d(both.sequences / trace.sequences)),
    }
    known = not np.isnan(np.asarray([trace.flops_backward, both.flops_backward], dtype=np.float64)).any()
    found["overhead_flops"] = jackknife_estimate(np.atleast_1d(both.of("flops") / trace.of("flops"))) if known else None
    return found


def budget_measures(rows: Sequence[EqualBudgetRow]) -> dict[str, Estimate | None]:
    """Of a comparison at equal budget: the optimal mix, the equal mix and the best mean of traces, over g_t."""
    by_label = {row.label: row for row in rows}

    def relative(label: str) -> Estimate | None:
        return by_label[label].relative if label in by_label else None

    several = [row for row in rows if row.label.startswith("g_t, mean of") and row.relative is not None]
    least = min(several, key=lambda row: row.relative.value if row.relative else np.inf, default=None)
    return {
        "budget_mix": relative("g_c, optimal mix"),
        "budget_equal_mix": relative("g_c, equal mix"),
        "budget_traces": None if least is None else least.relative,
    }


def answer_gaps(compared: EstimatorComparison | None) -> dict[str, Estimate | None]:
    """log pi(y | x, trace) - log pi(y | x, empty) of the same answer, in nats, mean over prompts; by side."""
    logs = [] if compared is None else [pair.log_probs for pair in compared.scores.pairs]
    if not logs or "empty_shared" not in logs[0].variants:
        return {f"answer_gap_{side}": None for side in SIDES}
    gaps = np.array([_gap(pair) for pair in logs])
    return {f"answer_gap_{side}": jackknife_estimate(leave_one_out_mean(gaps[:, i])) for i, side in enumerate(SIDES)}


def _gap(pair: PairLogProbs) -> Floats:
    with_trace = pair.weights @ pair.log_prob_answer[pair.draws]
    return np.asarray(with_trace - pair.log_prob_answer[pair.variants["empty_shared"]])
