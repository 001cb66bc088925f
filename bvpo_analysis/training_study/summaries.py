"""Numbers of an arm from its runs: means over seeds with intervals, and differences to another arm seed by seed.

There are two sources of chance: training runs, which differ in the order of their batches, and evaluation prompts,
which are the same for all runs. A t interval over runs says what another run would do on the same prompts; the t
interval over prompts, of the means over runs, what other prompts would do. :func:`both` puts the two together.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.stats import rankdata

from bvpo_analysis.evaluation import clustered_mean
from bvpo_analysis.records import Estimate, Floats

Result = Mapping[str, Any]
BASELINE = "alpha=1"
"""The arm that others are compared with: DPO on one trace."""
LEVEL_STEP = 30
"""The loss to be reached is that of the baseline at this step."""


@dataclass(frozen=True)
class ArmRuns:
    """The runs of one arm that are there.

    Attributes:
        regime, name, group: the arm.
        runs: results by seed.
        failed: seeds whose run left the range of numbers.
    """

    regime: str
    name: str
    group: str
    runs: Mapping[int, Result]
    failed: tuple[int, ...]

    def over_seeds(self, function: Callable[[Result], float | None]) -> Estimate | None:
        """Mean over seeds of a number of each run; None where no run has it."""
        found = [value for run in self.runs.values() if (value := function(run)) is not None]
        return clustered_mean(found) if found else None

    def prompts(self, mode: str, name: str) -> Floats:
        """A number of every prompt, mean over seeds, [n]."""
        return np.mean([run["final"][mode][name] for run in self.runs.values()], axis=0)

    def pairs(self, name: str) -> Floats:
        """A number of every held-out pair, mean over seeds, [n]."""
        return np.mean([run["held_out"][name] for run in self.runs.values()], axis=0)

    def final(self, mode: str, name: str) -> Estimate | None:
        """Mean of a number at the end, over seeds and prompts."""
        return both(self.over_seeds(final_mean(mode, name)), clustered_mean(self.prompts(mode, name)))

    def held_out(self, name: str) -> Estimate | None:
        """Mean of a number on the held-out pairs at the end, over seeds and pairs."""
        return both(self.over_seeds(held_out_mean(name)), clustered_mean(self.pairs(name)))


def arm_runs(results: Sequence[Result]) -> list[ArmRuns]:
    """Results by arm, in the order in which arms first occur.

    Example:
        >>> rows = [{"regime": "style", "arm": "a", "group": "sweep", "seed": s} for s in (1, 0)]
        >>> rows.append(rows[0] | {"seed": 2, "failed": "not finite"})
        >>> found = arm_runs(rows)[0]
        >>> sorted(found.runs), found.failed
        ([0, 1], (2,))
    """
    arms: dict[tuple[str, str], list[Result]] = {}
    for result in results:
        arms.setdefault((result["regime"], result["arm"]), []).append(result)
    return [
        ArmRuns(
            regime,
            name,
            rows[0]["group"],
            {row["seed"]: row for row in sorted(rows, key=lambda r: r["seed"]) if "failed" not in row},
            tuple(sorted(row["seed"] for row in rows if "failed" in row)),
        )
        for (regime, name), rows in arms.items()
    ]


def difference(arm: ArmRuns, other: ArmRuns, function: Callable[[Result], float | None]) -> Estimate | None:
    """Mean over the seeds that both have of a number of ``arm`` less that of ``other``: batches in the same order."""
    found = []
    for seed in sorted(set(arm.runs) & set(other.runs)):
        one, two = function(arm.runs[seed]), function(other.runs[seed])
        if one is not None and two is not None:
            found.append(one - two)
    return clustered_mean(found) if found else None


def final_difference(arm: ArmRuns, other: ArmRuns, mode: str, name: str) -> Estimate | None:
    """:func:`difference` of a number at the end, over seeds and prompts."""
    return _paired(arm, other, final_mean(mode, name), lambda run: run["final"][mode][name])


def held_out_difference(arm: ArmRuns, other: ArmRuns, name: str) -> Estimate | None:
    """:func:`difference` of a number on the held-out pairs at the end, over seeds and pairs."""
    return _paired(arm, other, held_out_mean(name), lambda run: run["held_out"][name])


def _paired(
    arm: ArmRuns, other: ArmRuns, mean: Callable[[Result], float | None], each: Callable[[Result], Any]
) -> Estimate | None:
    found = difference(arm, other, mean)
    if found is None:
        return None
    shared = sorted(set(arm.runs) & set(other.runs))
    rows = [np.subtract(each(arm.runs[seed]), each(other.runs[seed])) for seed in shared]
    return both(found, clustered_mean(np.mean(rows, axis=0)))


def both(runs: Estimate | None, prompts: Estimate) -> Estimate | None:
    """A mean over runs and prompts with an interval for both: squares of standard errors and of margins add.

    With runs s and prompts p crossed, Var = V_s/S + V_p/P + V_sp/(SP), and each of the two parts contains the last
    term, so that the interval is a little too wide rather than too short. None of it where there is no interval over
    runs.

    Example:
        >>> over_runs = Estimate(0.5, 0.03, 0.44, 0.56, 5, "jackknife")
        >>> over_prompts = Estimate(0.5, 0.04, 0.42, 0.58, 100, "jackknife")
        >>> print(both(over_runs, over_prompts))
        0.5 [0.4, 0.6]
    """
    if runs is None or not np.isfinite([runs.ci_low, runs.ci_high]).all():
        return runs
    low = runs.value - float(np.hypot(runs.value - runs.ci_low, prompts.value - prompts.ci_low))
    high = runs.value + float(np.hypot(runs.ci_high - runs.value, prompts.ci_high - prompts.value))
    return Estimate(runs.value, float(np.hypot(runs.se, prompts.se)), low, high, runs.n, runs.method)


def final_mean(mode: str, name: str) -> Callable[[Result], float | None]:
    """Mean over prompts of a number at the end of a run."""
    return lambda run: float(np.mean(run["final"][mode][name]))


def held_out_mean(name: str) -> Callable[[Result], float | None]:
    """Mean over held-out pairs of a number at the end of a run."""
    return lambda run: float(np.mean(run["held_out"][name]))


def gap(name: str) -> Callable[[Result], float | None]:
    """Held-out loss less loss on pairs that were trained on, at the end."""
    return lambda run: float(np.mean(run["held_out"][name]) - np.mean(run["trained"][name]))


def roughness(run: Result) -> float | None:
    """Root mean square of the change of the training loss from step to step, batches in the order of the seed."""
    losses = np.array([entry["loss"] for entry in run["log"]], dtype=np.float64)
    return float(np.sqrt(np.mean(np.square(np.diff(losses))))) if len(losses) > 1 else None


def mean_alpha(run: Result) -> float | None:
    """Mean weight over the steps."""
    return float(np.mean([entry["alpha"] for entry in run["log"]]))


def reached(curve: Sequence[Result], level: float, name: str = "marginal_loss") -> float | None:
    """Steps until a held-out loss is at or below a level, linear between two measurements; None if never.

    Example:
        >>> curve = [{"step": 0, "marginal_loss": 0.7}, {"step": 10, "marginal_loss": 0.6}]
        >>> round(reached(curve, 0.65), 9), reached(curve, 0.5)
        (5.0, None)
    """
    before: Result | None = None
    for point in curve:
        if point[name] <= level:
            if before is None:
                return float(point["step"])
            share = (before[name] - level) / (before[name] - point[name])
            return float(before["step"] + share * (point["step"] - before["step"]))
        before = point
    return None


def level_of(arm: ArmRuns) -> float | None:
    """The held-out marginal loss of an arm at :data:`LEVEL_STEP`, mean over seeds."""
    found = [p["marginal_loss"] for run in arm.runs.values() for p in run["curve"] if p["step"] == LEVEL_STEP]
    return float(np.mean(found)) if found else None


def spread(arm: ArmRuns) -> tuple[float, float] | None:
    """(norm of the mean displacement, root mean square deviation from it) over seeds, from the sketches.

    The deviation is the noise that is left in the weights at the end; n - 1 in its denominator, and the squared norm of
    the mean less what the noise adds to it.

    Example:
        >>> runs = {s: {"displacement": {"sketch": [1.0, y]}} for s, y in enumerate((1.0, -1.0))}
        >>> spread(ArmRuns("style", "a", "sweep", runs, ()))
        (0.0, 1.4142135623730951)
    """
    if len(arm.runs) < 2:
        return None
    vectors = np.array([run["displacement"]["sketch"] for run in arm.runs.values()])
    mean = vectors.mean(axis=0)
    noise = float(np.square(vectors - mean).sum() / (len(vectors) - 1))
    signal = max(float(mean @ mean) - noise / len(vectors), 0.0)
    return float(np.sqrt(signal)), float(np.sqrt(noise))


def rank_correlation(first: Sequence[float], second: Sequence[float]) -> float:
    """Spearman's coefficient, with mean ranks for ties; nan where one side is constant.

    Example:
        >>> rank_correlation([1.0, 2.0, 3.0], [2.0, 4.0, 9.0]), rank_correlation([1.0, 2.0], [5.0, 3.0])
        (1.0, -1.0)
    """
    x, y = (rankdata(np.asarray(v, dtype=np.float64)) for v in (first, second))
    x, y = x - x.mean(), y - y.mean()
    size = float(np.sqrt((x @ x) * (y @ y)))
    return round(float(x @ y) / size, 12) if size > 0 else float("nan")
