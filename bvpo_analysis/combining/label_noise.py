"""What flipped labels do to data variance, bias, error and the best weight, at several rates."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from bvpo_analysis import mixing
from bvpo_analysis.moments import Moments, flip_labels, jackknife_estimate
from bvpo_analysis.records import Alpha, Estimate

PROBABILITIES: tuple[float, ...] = (0.0, 0.1, 0.2, 0.3)
"""Default flip rates."""


@dataclass(frozen=True)
class LabelNoise:
    """Moments of one batch against the clean target when every label is flipped with this probability.

    Attributes:
        probability: p.
        variance: Tr Var(g_t) of the batch gradient.
        data_variance: its part from prompts and labels; None where one trace per answer does not identify it.
        bias_sq: |E g_t - mu|^2 = 4 p^2 |mu|^2.
        error: E|g_t - mu|^2.
        alpha: the best weight of g_t in its mix with g_e.
        error_best: E|g_c - mu|^2 at that weight, clipped.
    """

    probability: float
    variance: Estimate
    data_variance: Estimate | None
    bias_sq: Estimate
    error: Estimate
    alpha: Alpha
    error_best: Estimate


def label_noise_effects(
    moments: Moments,
    batch_size: float,
    *,
    empty_answers: Literal["own", "copied"],
    kappa: float = 1.0,
    probabilities: Sequence[float] = PROBABILITIES,
) -> tuple[LabelNoise, ...]:
    """The effect of flipped labels at the reference, one row per rate; see :func:`bvpo_analysis.moments.flip_labels`.

    Args:
        moments: clean moments at the reference.
        batch_size: B, with one trace per prompt.
        empty_answers: whether the answers of g_e have labels of their own or share those of g_t.
        kappa: weight of the variance.
        probabilities: flip rates between 0 and 1/2.

    Raises:
        ValueError: as for :func:`flip_labels`, or B < 1.
    """
    rows = []
    for p in probabilities:
        law = flip_labels(moments, p, empty_answers=empty_answers).population(batch_size)
        weights = mixing.recommended_weights(law, kappa)
        data = None if np.isnan(law.var_t_data).any() else jackknife_estimate(law.var_t_data)
        rows.append(
            LabelNoise(
                probability=p,
                variance=jackknife_estimate(law.var_t),
                data_variance=data,
                bias_sq=jackknife_estimate(law.bias_t_sq),
                error=mixing.error(law, 1.0, kappa),
                alpha=mixing.optimal_alpha(law, kappa),
                error_best=mixing.error(law, weights, kappa),
            )
        )
    return tuple(rows)
