"""Variance of the gradients and alpha* along training: means over runs, with intervals over runs and probed pairs.

A probe keeps every variance as it is without each of its pairs, from which the jackknife tells what other pairs would
give. All runs are probed at the same pairs, so that part of the error does not shrink with the number of runs.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from bvpo_analysis import theory
from bvpo_analysis.moments import jackknife_estimate, leave_one_out_mean
from bvpo_analysis.records import Estimate, Floats
from bvpo_analysis.training_study.arms import BATCH
from bvpo_analysis.training_study.run import UNPROBED
from bvpo_analysis.training_study.summaries import FEWEST_RUNS, ArmRuns, Result, both, crossed

ALPHA = ("alpha", "alpha_low", "alpha_high")
"""What a probe keeps of alpha*, with the ends of its set over pairs."""
AROUND = 5
"""Steps before and after a probe over which the weight that was taken is averaged."""


def replicates(probe: Result) -> dict[str, Floats]:
    """The variances of a probe by name, [n + 1]: with all pairs, then without each.

    Example:
        >>> replicates({"var_t": 4.0, "without": {"var_t": [3.0, 5.0]}})
        {'var_t': array([4., 3., 5.])}
    """
    return {name: np.array([probe[name], *values]) for name, values in probe["without"].items()}


def batch_variance(weight: float, found: Mapping[str, Floats], traces: int = 1) -> Floats:
    """Tr Cov of alpha g_t + (1 - alpha) g_e of a batch, [n + 1]; with g_t averaged over several traces.

    Example:
        >>> found = {"var_t": np.array([32.0]), "var_e": np.array([16.0]), "cov_te": np.array([8.0])}
        >>> found["trace_var"] = np.array([16.0])
        >>> [float(batch_variance(1.0, found, traces)[0]) for traces in (1, 4)]
        [2.0, 1.25]
    """
    var_t = found["var_t"] - (1 - 1 / traces) * found["trace_var"]
    return np.asarray(theory.error_curve(weight, var_t, found["var_e"], found["cov_te"])) / BATCH


def gradient_variance(run: Result) -> Floats | None:
    """Tr Cov of the batch gradient that a run steps along, [n + 1], mean over the probes after the start.

    At the weight around each probe, with the mean of four traces where the run takes that; None where it is not known.
    """
    if run["arm"] in UNPROBED:
        return None
    traces = 4 if run["arm"] == "4 traces" else 1
    found = [
        batch_variance(weight, replicates(probe), traces)
        for probe in run["probes"]
        if "without" in probe and (weight := weight_used(run, probe["step"])) is not None
    ]
    return np.mean(found, axis=0) if found else None


def variance_of(arm: ArmRuns) -> Estimate | None:
    """:func:`gradient_variance` of an arm."""
    values = [value for run in arm.runs.values() if (value := gradient_variance(run)) is not None]
    return crossed(lambda x: x, values) if values else None


def variance_ratio(arm: ArmRuns, base: ArmRuns) -> Estimate | None:
    """The variance of an arm over that of another, over the seeds that both have."""
    rows = []
    for seed in sorted(set(arm.runs) & set(base.runs)):
        one, two = gradient_variance(arm.runs[seed]), gradient_variance(base.runs[seed])
        if one is not None and two is not None:
            rows.append((one, two))
    return crossed(np.divide, *zip(*rows, strict=True)) if rows else None


def path_point(probes: Sequence[Result], function: Callable[[Result], Floats]) -> Estimate:
    """A number along training at one step: over runs and pairs; at the reference, which is one policy, over pairs."""
    rows = [function(probe) for probe in probes]
    return jackknife_estimate(rows[0]) if len(rows) == 1 and probes[0]["step"] == 0 else crossed(lambda x: x, rows)


def weight_at(probes: Sequence[Result]) -> Estimate:
    """alpha* at one step, mean over runs.

    Its set over pairs is not symmetric, so every run has its own; the mean of their ends is the part of the pairs, to
    which the spread between runs is added.
    """
    value, low, high = (float(np.mean([_number(probe[name]) for probe in probes])) for name in ALPHA)
    pairs = Estimate(value, (high - low) / 4, low, high, len(probes), "fieller-jackknife")
    if len(probes) == 1 and probes[0]["step"] == 0:
        return pairs
    if len(probes) < FEWEST_RUNS or not np.isfinite([low, high]).all():
        return Estimate.without_interval(value, len(probes))
    found = both(jackknife_estimate(leave_one_out_mean(np.array([probe["alpha"] for probe in probes]))), pairs)
    assert found is not None
    return found


def weight_used(run: Result, step: int) -> float | None:
    """Mean weight that a run took around a step.

    Example:
        >>> weight_used({"log": [{"step": s, "alpha": a} for s, a in ((0, 0.5), (4, 0.3), (9, 0.9))]}, 0)
        0.4
    """
    near = [entry["alpha"] for entry in run["log"] if abs(entry["step"] - step) <= AROUND]
    return float(np.mean(near)) if near else None


def _number(value: Any) -> float:
    return float("nan") if value is None else float(value)
