"""What ``make off-reference`` measured on the reasoning model in the box, committed for reports and figures."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from bvpo_analysis.off_reference.results import PathPoint, Prediction, SampledCell, SmallBetaPoint

MEASURED = Path(__file__).with_name("measured.json")


@dataclass(frozen=True)
class MeasuredRegime:
    """Everything measured on one regime.

    Attributes:
        regime: which pairs.
        points: exact numbers along the path, nearest first.
        betas: the bias of fresh traces at one checkpoint and several beta.
        cells: sampled studies against the truth.
    """

    regime: str
    points: tuple[PathPoint, ...]
    betas: tuple[SmallBetaPoint, ...]
    cells: tuple[SampledCell, ...]


@dataclass(frozen=True)
class OffReferenceRow:
    """One checkpoint of one regime, as a report shows it; exact numbers, one trace per answer.

    Attributes:
        regime: which pairs.
        share, distance: t and |t d|.
        ess_share, ess_share_lowest: share of reference-posterior traces that count under theta, mean and lowest answer.
        bias: |b_t| / |mu| of the population.
        predicted: the leading term of the same.
        remainder: |b_t - leading term| / |leading term|.
        fresh_bias: |b_t| / |mu| with traces from the policy of the checkpoint.
        cosine: of E g_t with mu.
        alpha: the optimal weight (M3, unclipped).
        alpha_unbiased: the weight that takes E g_t for mu.
        price: MSE at alpha_unbiased over the MSE at alpha, both in [0, 1].
    """

    regime: str
    share: float
    distance: float
    ess_share: float
    ess_share_lowest: float
    bias: float
    predicted: float
    remainder: float
    fresh_bias: float
    cosine: float
    alpha: float
    alpha_unbiased: float
    price: float


@cache
def measured_regimes() -> tuple[MeasuredRegime, ...]:
    """The committed measurement.

    Example:
        >>> [found.regime for found in measured_regimes()]
        ['style', 'valid', 'correct']
    """
    return regimes_of(json.loads(MEASURED.read_text(encoding="utf-8")))


def regimes_of(table: Mapping[str, Any]) -> tuple[MeasuredRegime, ...]:
    """The measurement that a table read from JSON holds."""
    return tuple(_regime(found) for found in table["regimes"])


def path_rows(regimes: Sequence[MeasuredRegime]) -> list[OffReferenceRow]:
    """One row per checkpoint, regime by regime."""
    return [_row(found.regime, point) for found in regimes for point in found.points]


def off_reference_rows(regime: str | None = None) -> list[OffReferenceRow]:
    """The committed bias, prediction and weights along the path, for a report; one regime, or all.

    Example:
        >>> rows = off_reference_rows("style")
        >>> rows[0].bias < rows[-1].bias, rows[0].remainder < rows[-1].remainder
        (True, True)
    """
    return path_rows([found for found in measured_regimes() if regime in (None, found.regime)])


def sampled_rows(regime: str | None = None) -> list[tuple[str, SampledCell]]:
    """(regime, cell) of every kind of sampled study, for a report; one regime, or all.

    Example:
        >>> {cell.target for _, cell in sampled_rows("style")} == {"plug-in", "jackknife"}
        True
    """
    return [
        (found.regime, cell) for found in measured_regimes() for cell in found.cells if regime in (None, found.regime)
    ]


def _row(regime: str, point: PathPoint) -> OffReferenceRow:
    mu = np.sqrt(point.target_sq)
    return OffReferenceRow(
        regime=regime,
        share=point.share,
        distance=point.distance,
        ess_share=point.ess_share,
        ess_share_lowest=point.ess_share_lowest,
        bias=float(point.stale.bias_population / mu),
        predicted=float(point.stale.lead_population / mu),
        remainder=point.stale.remainder_population / point.stale.lead_population,
        fresh_bias=float(point.fresh.bias_population / mu),
        cosine=point.cosine_t,
        alpha=point.alpha,
        alpha_unbiased=point.alpha_unbiased,
        price=point.error_ratio_unbiased,
    )


def _regime(found: Mapping[str, Any]) -> MeasuredRegime:
    return MeasuredRegime(
        regime=found["regime"],
        points=tuple(
            PathPoint(**(p | {"stale": Prediction(**p["stale"]), "fresh": Prediction(**p["fresh"])}))
            for p in found["points"]
        ),
        betas=tuple(SmallBetaPoint(**(p | {"fresh": Prediction(**p["fresh"])})) for p in found["betas"]),
        cells=tuple(SampledCell(**_with_nan(cell)) for cell in found["cells"]),
    )


def _with_nan(row: Mapping[str, Any]) -> dict[str, Any]:
    """What JSON has as null was not a number."""
    return {name: float("nan") if value is None else value for name, value in row.items()}
