"""The best combination of J estimators: weights, error, and how well the data determine them.

M, the estimated error matrix of the batch estimators, is an unbiased estimate and need not be positive semidefinite.
Its two parts, bias Gram and covariance, are replaced by the nearest positive semidefinite matrices (negative
eigenvalues set to zero), as an unbiased square is replaced by its positive part. The weights solve
:func:`theory.simplex_combination` or :func:`theory.affine_combination`, in the sample and without each prompt.

What the intervals hold: where the optimum is unique and each zero weight is zero by a margin, weights and error are
smooth in M and the jackknife is valid. At the edge, where an estimator is just not worth using, the weight's law has an
atom at zero; its interval is then too wide on one side and its coverage is not nominal, while the error, whose slope in
that weight vanishes, keeps a valid interval. The least error of a sample is too small on average, because the weights
fit its noise; ``optimism`` is the jackknife estimate of by how much.

Where a squared bias is within its noise there is no interval, for weights or error: unbiased squares are cut at zero in
the sample and in every replicate alike, and intervals from them cover as little as half the time.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from bvpo_analysis import theory
from bvpo_analysis.moments import JointMoments, jackknife_estimate
from bvpo_analysis.moments.joint import positive_part, require_setting
from bvpo_analysis.records import Estimate, Floats

KKT = 1e-9
"""Residual, relative to max|M|, with which a replicate counts as solved on the sample's support."""


@dataclass(frozen=True)
class BestCombination:
    """The weights that minimise the error of a combination, with jackknife intervals.

    Attributes:
        names: of the estimators.
        signs: "nonnegative" weights (the simplex) or "free" ones; both sum to one.
        weights: one estimate per estimator; intervals of nonnegative weights end at 0 and 1.
        error: E|sum a g - mu|^2, variance weighted by kappa, at the weights found.
        optimism: jackknife estimate of how far ``error`` lies below the least error of the population; not negative.
        support: names with a positive weight (all names where signs are free).
        at_edge: names whose weight is zero in the sample and positive in some replicate, or the reverse: their
            intervals are not reliable.
        contrast: least eigenvalue of M among directions that sum to zero; where its interval reaches 0, estimators are
            not told apart and free weights are not determined.
        raised: trace of what was added to make M positive semidefinite, relative to the trace of M.
    """

    names: tuple[str, ...]
    signs: Literal["nonnegative", "free"]
    weights: tuple[Estimate, ...]
    error: Estimate
    optimism: float
    support: tuple[str, ...]
    at_edge: tuple[str, ...]
    contrast: Estimate
    raised: float

    @property
    def determined(self) -> bool:
        """Whether the data tell the estimators apart, which free weights need."""
        return self.contrast.ci_low > 0


def best_combination(
    joint: JointMoments,
    batch_size: float,
    kappa: float = 1.0,
    *,
    names: Sequence[str] | None = None,
    traces: int = 1,
    signs: Literal["nonnegative", "free"] = "nonnegative",
) -> BestCombination:
    """The best weights for a batch of B prompts against the population target.

    Args:
        joint: joint moments with leave-one-prompt-out replicates.
        batch_size: B.
        kappa: weight of the variance.
        names: the estimators to combine; all of them by default.
        traces: K averaged realisations of every estimator.
        signs: nonnegative or free weights.

    Raises:
        ValueError: as for :meth:`JointMoments.error_matrix`, an unknown name, or fewer than two estimators.
    """
    chosen = tuple(joint.names if names is None else names)
    if len(chosen) < 2:
        raise ValueError(f"at least two estimators are needed for a combination, got {len(chosen)}")
    index = [joint.index(name) for name in chosen]
    require_setting(batch_size, kappa, traces)
    joint.require_traces(traces, *chosen)
    share = 0.0 if traces == 1 else 1 - 1 / traces
    noise = joint.covariance - share * joint.trace_covariance if share else joint.covariance
    bias, noise = (x[:, index][:, :, index] for x in (joint.bias_gram, noise))
    # The parts do not depend on B and kappa; for all estimators they are kept with the moments, for a grid of settings.
    whole = chosen == joint.names and traces == 1
    positive_bias, positive_noise = joint.positive_parts if whole else (positive_part(bias), positive_part(noise))
    m = positive_bias + kappa / batch_size * positive_noise
    raw = bias[0] + kappa / batch_size * noise[0]
    weights = _simplex(m) if signs == "nonnegative" else _affine(m)
    error = np.einsum("la,lab,lb->l", weights, m, weights)
    found = jackknife_estimate(error)
    used = weights > 0
    flips = used[1:].any(axis=0) != used[1:].all(axis=0)
    least = Estimate(found.value, found.se, max(found.ci_low, 0.0), found.ci_high, found.n, found.method)
    each = tuple(_weight(weights[:, a], signs) for a in range(len(chosen)))
    if not joint.biases_are_clear(chosen):
        least = Estimate.without_interval(found.value, joint.n)
        each = tuple(Estimate.without_interval(weight.value, joint.n) for weight in each)
    return BestCombination(
        names=chosen,
        signs=signs,
        weights=each,
        error=least,
        optimism=max(-float((len(error) - 2) * (error[1:].mean() - error[0])), 0.0),
        support=tuple(n for a, n in enumerate(chosen) if signs == "free" or used[0, a]),
        at_edge=tuple(n for a, n in enumerate(chosen) if signs == "nonnegative" and flips[a]),
        contrast=jackknife_estimate(_contrast(bias + kappa / batch_size * noise)),
        raised=float((np.trace(m[0]) - np.trace(raw)) / np.trace(m[0])) if np.trace(m[0]) > 0 else 0.0,
    )


def _weight(replicates: Floats, signs: str) -> Estimate:
    found = jackknife_estimate(replicates)
    if signs == "free":
        return found
    low, high = np.clip([found.ci_low, found.ci_high], 0.0, 1.0)
    return Estimate(found.value, found.se, float(low), float(high), found.n, found.method)


def _contrast(matrices: Floats) -> Floats:
    """Least eigenvalue of each matrix on the directions that sum to zero."""
    j = matrices.shape[-1]
    basis = np.linalg.qr(np.concatenate([np.ones((j, 1)), np.eye(j)[:, 1:]], axis=1))[0][:, 1:]
    return np.asarray(np.linalg.eigvalsh(basis.T @ matrices @ basis)[:, 0])


def _simplex(matrices: Floats) -> Floats:
    """Simplex weights of every matrix, [n + 1, J]: on the support of the first, and anew where that is not optimal."""
    first = theory.simplex_combination(matrices[0]).weights
    support = np.flatnonzero(first > 0)
    weights = np.zeros(matrices.shape[:2])
    weights[:, support] = _stationary(matrices[:, support][:, :, support])
    slope = np.einsum("lab,lb->la", matrices, weights)
    value = np.einsum("la,la->l", weights, slope)
    scale = np.abs(matrices).max(axis=(1, 2))
    wrong = (weights < 0).any(axis=1) | ((slope - value[:, None]).min(axis=1) < -KKT * scale)
    wrong |= np.abs(weights.sum(axis=1) - 1) > KKT
    weights[0] = first
    for i in np.flatnonzero(wrong[1:]) + 1:
        weights[i] = theory.simplex_combination(matrices[i]).weights
    return weights


def _affine(matrices: Floats) -> Floats:
    """Weights of either sign of every matrix, [n + 1, J]."""
    weights = _stationary(matrices)
    weights[0] = theory.affine_combination(matrices[0]).weights
    return weights


def _stationary(matrices: Floats) -> Floats:
    """The least-norm weights with M a = lambda 1 and sum one, for every matrix."""
    count, j = matrices.shape[:2]
    bordered = np.zeros((count, j + 1, j + 1))
    scale = np.maximum(np.abs(matrices).max(axis=(1, 2), keepdims=True), np.finfo(float).tiny)
    bordered[:, :j, :j] = matrices / scale
    bordered[:, :j, j], bordered[:, j, :j] = -1.0, 1.0
    return np.asarray(np.linalg.pinv(bordered)[:, :j, j])
