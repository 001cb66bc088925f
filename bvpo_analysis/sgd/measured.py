"""What ``make sgd-study`` measured on the reasoning model in the box, committed for reports."""

import json
from dataclasses import dataclass
from pathlib import Path

MEASURED = Path(__file__).with_name("measured.json")


@dataclass(frozen=True)
class MeasuredRun:
    """Runs of SGD with one weight on the exact marginal loss, on a few prompts of one regime.

    Attributes:
        regime, rule, alpha: which prompts, and which weight.
        iterates, bounded, held: how many iterates there were, at how many a bound applied (kappa <= 1), and at how
            many it held.
        kappa_low, kappa_high: step size times path constant, the smallest and the largest of these runs.
        first_loss, last_loss: mean loss at the first and at the last iterate.
        bias_sq, variance: |b_c|^2 and Tr Cov(g_c) of the batch gradient, averaged over iterates.
    """

    regime: str
    rule: str
    alpha: float
    iterates: int
    bounded: int
    held: int
    kappa_low: float
    kappa_high: float
    first_loss: float
    last_loss: float
    bias_sq: float
    variance: float


@dataclass(frozen=True)
class MeasuredSmoothness:
    """The largest curvature of the marginal loss at the reference.

    Attributes:
        regime: which prompts.
        optimiser: "SGD" (Euclidean metric) or "Adam" (its own metric).
        smoothness: L.
        prompts: how many prompts the loss is averaged over.
    """

    regime: str
    optimiser: str
    smoothness: float
    prompts: int


def measured_runs(regime: str) -> list[MeasuredRun]:
    """The committed runs of a shipped regime.

    Example:
        >>> [run.rule for run in measured_runs("correct")]
        ['g_e alone', 'equal mix', 'g_t alone', 'alpha*']
    """
    rows = json.loads(MEASURED.read_text(encoding="utf-8"))["runs"]
    return [MeasuredRun(**row) for row in rows if row["regime"] == regime]


def measured_smoothness(regime: str) -> dict[str, MeasuredSmoothness]:
    """The committed smoothness of a shipped regime, by optimiser.

    Example:
        >>> sorted(measured_smoothness("correct"))
        ['Adam', 'SGD']
    """
    rows = json.loads(MEASURED.read_text(encoding="utf-8"))["smoothness"]
    return {row["optimiser"]: MeasuredSmoothness(**row) for row in rows if row["regime"] == regime}
