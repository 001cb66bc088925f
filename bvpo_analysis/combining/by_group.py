"""One weight per parameter group, shrunk towards the common weight by what its noise calls for.

With alphahat_l the estimate for group l, v_l its variance, D_l = E|g_t - g_e|^2 over the group and abar the D-weighted
mean, weights a_l lose sum_l D_l (a_l - alpha_l)^2 against the true optimum. Taking the true weights as spread around
the common one with variance T, the best linear weights are

    a_l = abar + T / (T + v_l) (alphahat_l - abar),

and T follows from the spread that is observed beyond what noise explains (empirical Bayes: Morris, JASA 78, 1983):

    T = (sum_l D_l (alphahat_l - abar)^2 - sum_l D_l Var(alphahat_l - abar))_+ / sum_l D_l (1 - D_l / D).

The bracket is also the estimated gain of true per-group weights over one weight, with the noise subtracted; what a user
gains with estimated weights is less. Noise is that of the jackknife over prompts, which moves all groups together, so
the variances are those of the differences from abar.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from scipy import stats

from bvpo_analysis import mixing
from bvpo_analysis.moments import GradientLaw, jackknife_estimate
from bvpo_analysis.records import Estimate, Floats

LEVEL = 0.95
"""Confidence level of the intervals."""


@dataclass(frozen=True)
class GroupWeight:
    """The weight of one parameter group.

    Attributes:
        group: its name.
        raw: the group's own estimate, unclipped, with the jackknife interval.
        shrunken: a_l; its interval covers alpha_l on average over groups, not for each group.
        share: D_l / D, the part of the group in the choice of the common weight.
        trust: T / (T + v_l), how much of the group's own deviation is kept.
    """

    group: str
    raw: Estimate
    shrunken: Estimate
    share: float
    trust: float


@dataclass(frozen=True)
class GroupWeights:
    """Weights by parameter group.

    Attributes:
        groups: one entry per group with D_l > 0, in the given order.
        common: the D-weighted mean abar, which is the weight for the whole gradient.
        gain: sum_l D_l (alpha_l - abar)^2, what true weights per group would save, noise subtracted; may be negative.
        gain_share: the gain over the error at the common weight.
        spread: T, the estimated variance of the true weights around the common one.
        left_out: groups with D_l <= 0, where g_t and g_e are not told apart.
    """

    groups: tuple[GroupWeight, ...]
    common: Estimate
    gain: Estimate
    gain_share: float
    spread: float
    left_out: tuple[str, ...]


def shrunken_group_weights(laws: Mapping[str, GradientLaw], kappa: float = 1.0) -> GroupWeights:
    """Weights by parameter group from the laws of its coordinates.

    Args:
        laws: law of (g_t, g_e) by group, with leave-one-prompt-out replicates of the same prompts.
        kappa: weight of the variance.

    Raises:
        ValueError: fewer than four groups with D_l > 0, exact laws (nothing to shrink), different prompts, or kappa
            not positive.
    """
    if not kappa > 0:
        raise ValueError(f"kappa must be positive, got {kappa}")
    sizes = {len(law.var_t) for law in laws.values()}
    if len(sizes) > 1 or 1 in sizes:
        raise ValueError("groups need leave-one-out replicates of the same prompts; exact weights need no shrinking")
    raw = {name: law.bias_diff_sq + kappa * law.var_diff for name, law in laws.items()}
    names = [name for name, distance in raw.items() if distance.min() > 0]
    if len(names) < 4:
        raise ValueError(f"at least four groups are needed to estimate their spread, got {len(names)}")
    distance = np.stack([raw[name] for name in names], axis=1)  # [n + 1, L]
    top = np.stack([laws[name].bias_t_diff + kappa * laws[name].cov_t_diff for name in names], axis=1)
    alpha = 1 - top / distance
    share = distance / distance.sum(axis=1, keepdims=True)
    common = (share * alpha).sum(axis=1)
    deviation = alpha - common[:, None]
    n, groups = len(alpha) - 1, len(names)
    noise = np.array([jackknife_estimate(deviation[:, i]).se ** 2 for i in range(groups)])
    d = distance[0]
    observed = (distance * deviation**2).sum(axis=1)
    explained = float(d @ noise)
    gain = jackknife_estimate(observed)
    spread = max(float(observed[0]) - explained, 0.0) / float((d * (1 - share[0])).sum())
    trust = np.divide(spread, spread + noise, out=np.zeros(groups), where=spread + noise > 0)
    kept = common[0] + trust * deviation[0]
    # The common weight's own variance, that of the kept deviation (Morris), and that trust itself is estimated.
    own = jackknife_estimate(common).se ** 2
    variance = own + trust * noise + 2 / max(groups - 3, 1) * (1 - trust) ** 2 * deviation[0] ** 2
    half = float(stats.t.ppf(0.5 + LEVEL / 2, n - 1)) * np.sqrt(variance)
    best = _error_at(laws, names, float(common[0]), kappa)
    return GroupWeights(
        groups=tuple(
            GroupWeight(
                group=name,
                raw=jackknife_estimate(alpha[:, i]),
                shrunken=Estimate(
                    float(kept[i]),
                    float(np.sqrt(variance[i])),
                    float(kept[i] - half[i]),
                    float(kept[i] + half[i]),
                    n,
                    "empirical-bayes",
                ),
                share=float(share[0, i]),
                trust=float(trust[i]),
            )
            for i, name in enumerate(names)
        ),
        common=jackknife_estimate(common),
        gain=Estimate(
            gain.value - explained, gain.se, gain.ci_low - explained, gain.ci_high - explained, n, "jackknife"
        ),
        gain_share=(gain.value - explained) / best if best > 0 else float("nan"),
        spread=spread,
        left_out=tuple(name for name in laws if name not in names),
    )


def _error_at(laws: Mapping[str, GradientLaw], names: list[str], weight: float, kappa: float) -> float:
    return float(sum(mixing.error_parts(laws[name], weight, kappa).total[0] for name in names))


def realised_gain(weights: Floats, truth: Floats, distances: Floats) -> float:
    """What given weights save over the best single weight in a population with known alpha_l and D_l; may be negative.

    Example:
        >>> realised_gain(np.array([0.2, 0.8]), np.array([0.2, 0.8]), np.array([1.0, 1.0])).__round__(12)
        0.18
    """
    common = float(distances @ truth / distances.sum())
    return float(distances @ ((truth - common) ** 2 - (truth - weights) ** 2))
