"""Numbers of an arm from its runs: means over seeds with intervals, and differences to another arm seed by seed.

There are two sources of chance: training runs, which differ in the order of their batches, and evaluation prompts,
which are the same for all runs. A t interval over runs says what another run would do on the same prompts; the t
interval over prompts, of the means over runs, what other prompts would do. :func:`both` puts the two together.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from bvpo_analysis.evaluation import clustered_mean
from bvpo_analysis.moments import jackknife_estimate, leave_one_out_mean
from bvpo_analysis.records import Estimate, Floats

Result = Mapping[str, Any]
Each = Callable[[Result], Floats]
"""A number of every prompt or pair of a run, [n]."""
BASELINE = "alpha=1"
"""The arm that others are compared with: DPO on one trace."""
FEWEST_RUNS = 3
"""Runs without which no interval is given."""


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

    def units(self, each: Each) -> Floats:
        """A number of every prompt or pair, mean over seeds, [n]."""
        return np.mean([each(run) for run in self.runs.values()], axis=0)

    def measured(self, each: Each) -> Estimate | None:
        """Mean of a number of every prompt or pair, with an interval over seeds and over those."""
        return both(self.over_seeds(lambda run: float(np.mean(each(run)))), clustered_mean(self.units(each)))


def at_end(mode: str, name: str) -> Each:
    """A number of every fresh prompt at the end of a run."""
    return lambda run: np.asarray(run["final"][mode][name])


def held_out(name: str) -> Each:
    """A number of every held-out pair at the end of a run."""
    return lambda run: np.asarray(run["held_out"][name])


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


def difference(arm: ArmRuns, other: ArmRuns, each: Each) -> Estimate | None:
    """Mean of a number of ``arm`` less that of ``other``, over the seeds that both have and over prompts or pairs.

    Runs of one seed take their batches in the same order, and answer the same prompts.
    """
    rows = differences(arm, other, each)
    if not len(rows):
        return None
    return both(clustered_mean(rows.mean(axis=1)), clustered_mean(rows.mean(axis=0)))


def share_difference(arm: ArmRuns, other: ArmRuns, each: Each) -> Estimate | None:
    """:func:`difference` of numbers in [0, 1], see :func:`unmoved`."""
    found = difference(arm, other, each)
    return found if arm is other else unmoved(found, differences(arm, other, each))


def unmoved(found: Estimate | None, rows: Floats) -> Estimate | None:
    """A mean difference of numbers in [0, 1], with a width also where it is zero in every run and prompt.

    What n prompts do not show may be so for a share p of all prompts, (1 - p)^n >= 0.05.

    Args:
        found: the mean.
        rows: [S, n] the differences.

    Example:
        >>> print(unmoved(Estimate(0.0, 0.0, 0.0, 0.0, 3, "jackknife"), np.zeros((3, 384))))
        0 [-0.00777, 0.00777]
    """
    if found is None or np.any(rows) or not np.isfinite(found.ci_low):
        return found
    most = 1 - 0.05 ** (1 / rows.shape[1])
    return Estimate(0.0, most / 2, -most, most, found.n, found.method)


def differences(arm: ArmRuns, other: ArmRuns, each: Each) -> Floats:
    """Differences of every shared seed and prompt or pair, [S, n]."""
    shared = sorted(set(arm.runs) & set(other.runs))
    return np.array([np.subtract(each(arm.runs[seed]), each(other.runs[seed])) for seed in shared])


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


def crossed(function: Callable[..., Floats], *parts: Sequence[Floats]) -> Estimate:
    """A function of means over runs, with an interval over runs and pairs; none with fewer than three runs.

    Args:
        function: of one array per part, elementwise.
        parts: of each, [S][n + 1]: one row per run, its value with all pairs and then without each.

    Example:
        >>> rows = [np.array([2.0, 1.9, 2.1]), np.array([2.2, 2.1, 2.3]), np.array([1.8, 1.7, 1.9])]
        >>> found = crossed(lambda x: x, rows)
        >>> round(found.value, 9), found.ci_low < 1.5
        (2.0, True)
    """
    tables = [np.asarray(part) for part in parts]
    pairs = jackknife_estimate(function(*(table.mean(axis=0) for table in tables)))
    if len(tables[0]) < FEWEST_RUNS:
        return Estimate.without_interval(pairs.value, len(tables[0]))
    found = both(jackknife_estimate(function(*(leave_one_out_mean(table[:, 0]) for table in tables))), pairs)
    assert found is not None
    return found


def gap(arm: ArmRuns, name: str) -> Estimate | None:
    """Held-out loss less loss on pairs that were trained on, at the end; the two sets of pairs are independent."""

    def in_run(run: Result) -> float:
        return float(np.mean(run["held_out"][name]) - np.mean(run["trained"][name]))

    new = clustered_mean(arm.units(lambda run: np.asarray(run["held_out"][name])))
    old = clustered_mean(arm.units(lambda run: np.asarray(run["trained"][name])))
    value = new.value - old.value
    below = float(np.hypot(new.value - new.ci_low, old.ci_high - old.value))
    above = float(np.hypot(new.ci_high - new.value, old.value - old.ci_low))
    pairs = Estimate(value, float(np.hypot(new.se, old.se)), value - below, value + above, new.n, "jackknife")
    return both(arm.over_seeds(in_run), pairs)


def roughness(run: Result) -> float | None:
    """Root mean square of the change of the training loss from step to step, batches in the order of the seed."""
    losses = np.array([entry["loss"] for entry in run["log"]], dtype=np.float64)
    return float(np.sqrt(np.mean(np.square(np.diff(losses))))) if len(losses) > 1 else None


def mean_alpha(run: Result) -> float | None:
    """Mean weight over the steps."""
    return float(np.mean([entry["alpha"] for entry in run["log"]]))


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
