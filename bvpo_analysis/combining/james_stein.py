"""The risk of the James-Stein weight of a batch, estimated without its target.

The rule reads its weight off the batch itself: with Z = g_t - g_e of a batch of B prompts,

    g = g_e + alpha Z,    alpha = (1 - c / |Z|^2)_+,    c = (Tr S - 2 lmax(S)) / B,

S the covariance of g_t over prompts, from other prompts (:mod:`bvpo_analysis.theory.shrinkage`; the guarantee there
needs g_e independent of g_t, which two gradients of one batch are not, so the risk has to be measured). The saving
over g_t alone,

    E|g_t - mu|^2 - E|g - mu|^2 = E[2 (1 - alpha) <Z, g_t - mu> - (1 - alpha)^2 |Z|^2],

is linear in mu. Three disjoint sets of prompts therefore estimate it without bias: one is the batch, one gives c, and
the mean gradient of the third takes the place of mu. It is averaged over random divisions. The interval comes from
leaving out a tenth of the prompts at a time, with the same random orders, so that little of their noise enters.

Inner products between prompts are those of the count sketches, within prompts exact: |Z|^2 carries a relative error of
order 1/sqrt(k), to which alpha, and so the risk, is insensitive.
"""

from dataclasses import dataclass

import numpy as np
from scipy import stats

from bvpo_analysis import theory
from bvpo_analysis.moments import JointMoments
from bvpo_analysis.records import Estimate, Floats

FEWEST = 8
"""Prompts that estimate S, and prompts that stand for the target, at least."""
DELETIONS = 10
"""Parts of the prompts that are left out in turn."""
DIVISIONS_PER_COVARIANCE = 20
"""Batches beside each set of prompts for the covariance, whose largest eigenvalue is what takes time."""
LEVEL = 0.95
"""Confidence level of the intervals."""


@dataclass(frozen=True)
class JamesSteinRisk:
    """Risk of the James-Stein mix of a batch.

    Attributes:
        first, second: names of g_t and g_e.
        batch_size: B.
        risk: E|g - mu|^2, with every realisation of the study averaged (K traces, not one).
        risk_first: E|g_t - mu|^2 of the same batch.
        ratio: the first over the second; below 1 the rule helps.
        weight: mean of alpha.
        effective_rank: Tr S / lmax(S), median over divisions; the rule needs more than 2, else alpha = 1.
        prompts: how many prompts make the batch, estimate S, and stand for the target in each division.
    """

    first: str
    second: str
    batch_size: int
    risk: Estimate
    risk_first: Estimate
    ratio: Estimate
    weight: float
    effective_rank: float
    prompts: tuple[int, int, int]


def prompts_needed(batch_size: int) -> int:
    """The fewest prompts with which :func:`james_stein_risk` estimates the risk of a batch.

    Example:
        >>> prompts_needed(16)
        36
    """
    needed = batch_size + 2 * FEWEST
    while needed - -(-needed // DELETIONS) < batch_size + 2 * FEWEST:
        needed += 1
    return needed


def james_stein_risk(
    joint: JointMoments, first: str, second: str, batch_size: int, *, divisions: int = 200, seed: int = 0
) -> JamesSteinRisk:
    """Risk of the James-Stein mix of ``first`` and ``second`` against the population target.

    Args:
        joint: joint moments in which ``first`` is unbiased.
        first: g_t.
        second: g_e.
        batch_size: B, a whole number of prompts.
        divisions: random divisions of the prompts, at least 100.
        seed: of the divisions.

    Raises:
        ValueError: ``first`` is not declared unbiased, an unknown name, B < 1, fewer than 100 divisions, or fewer
            prompts than :func:`prompts_needed`.
    """
    t, e, m = joint.index(first), joint.index(second), joint.index(joint.target)
    if first not in joint.unbiased:
        raise ValueError(
            f"{first!r} is not declared unbiased, so shrinking it towards {second!r} is no James-Stein rule"
        )
    if batch_size < 1 or divisions < 100:
        raise ValueError(f"batch_size >= 1 and divisions >= 100 are needed, got {batch_size} and {divisions}")
    if joint.n < prompts_needed(batch_size):
        raise ValueError(
            f"the risk of a batch of {batch_size} needs {prompts_needed(batch_size)} prompts, got {joint.n}: a batch, "
            "others for the covariance and others for the target"
        )
    own, held = joint.products.own, joint.products.sketches
    v = {"t": held[:, t], "d": held[:, t] - held[:, e], "m": held[:, m]}
    products = {
        "tt": _products(v["t"], v["t"], own[:, t, t]),
        "dd": _products(v["d"], v["d"], own[:, t, t] - 2 * own[:, t, e] + own[:, e, e]),
        "dt": _products(v["d"], v["t"], own[:, t, t] - own[:, e, t]),
        "dm": _products(v["d"], v["m"], own[:, t, m] - own[:, e, m]),
    }
    rng = np.random.default_rng(seed)
    parts = np.array_split(rng.permutation(joint.n), DELETIONS)
    kept = [np.setdiff1d(np.arange(joint.n), part) for part in parts]
    fewest = min(len(k) for k in kept)
    covariance = (fewest - batch_size) // 2
    sizes = (batch_size, covariance, fewest - batch_size - covariance)
    rounds = max(divisions // DIVISIONS_PER_COVARIANCE, 5)
    orders = [[rng.permutation(joint.n) for _ in range(1 + DIVISIONS_PER_COVARIANCE)] for _ in range(rounds)]
    found = [[_round(products, k, sizes, order) for order in orders] for k in kept]
    savings, weights, ranks = (np.array([[f[i] for f in part] for part in found]) for i in range(3))  # [parts, rounds]
    saving = savings.mean(axis=1)
    risk_first = np.array([_variance(products["tt"], k) for k in kept]) / batch_size
    whole = _variance(products["tt"], np.arange(joint.n)) / batch_size
    value = whole - float(saving.mean())
    relative = savings / risk_first[:, None]
    return JamesSteinRisk(
        first=first,
        second=second,
        batch_size=batch_size,
        risk=_estimate(value, risk_first[:, None] - savings, joint.n),
        risk_first=_estimate(whole, risk_first[:, None], joint.n),
        ratio=_estimate(value / whole, 1.0 - relative, joint.n),
        weight=float(weights.mean()),
        effective_rank=float(np.median(ranks)),
        prompts=sizes,
    )


def _products(x: Floats, y: Floats, own: Floats) -> Floats:
    """Products [n, n] across prompts from vectors, with the exact ones of each prompt on the diagonal."""
    out = x @ y.T
    np.fill_diagonal(out, own)
    return np.asarray(out)


def _variance(products: Floats, kept: np.ndarray) -> float:
    """Tr Var of the per-prompt vectors of these prompts."""
    part = products[np.ix_(kept, kept)]
    n, own = len(part), float(np.trace(part))
    return own / n - (float(part.sum()) - own) / (n * (n - 1))


def _round(
    products: dict[str, Floats], kept: np.ndarray, sizes: tuple[int, int, int], orders: list[np.ndarray]
) -> tuple[float, float, float]:
    """Mean saving, mean weight and effective rank of one set for the covariance and many batches beside it."""
    batch_size, covariance, target = sizes
    free = np.zeros(len(products["tt"]), dtype=bool)
    free[kept] = True
    first = orders[0][free[orders[0]]][:covariance]
    spectrum = _spectrum(products["tt"], first)
    free[first] = False
    rest = np.stack([order[free[order]] for order in orders[1:]])
    batch = np.zeros((len(rest), len(products["tt"])))
    others = np.zeros_like(batch)
    np.put_along_axis(batch, rest[:, :batch_size], 1 / batch_size, axis=1)
    np.put_along_axis(others, rest[:, batch_size : batch_size + target], 1 / target, axis=1)
    z_sq = np.maximum(np.einsum("ri,ri->r", batch @ products["dd"], batch), 0.0)
    along = np.einsum("ri,ri->r", batch @ products["dt"], batch) - np.einsum("ri,ri->r", batch @ products["dm"], others)
    weight = theory.shrinkage_weight(spectrum.constant / batch_size, z_sq)
    saving = 2 * (1 - weight) * along - (1 - weight) ** 2 * z_sq
    return float(saving.mean()), float(weight.mean()), spectrum.effective_rank


def _spectrum(products: Floats, prompts: np.ndarray) -> theory.Spectrum:
    """Spectrum of the sample covariance of these prompts' vectors."""
    part = products[np.ix_(prompts, prompts)]
    centred = part - part.mean(axis=0) - part.mean(axis=1, keepdims=True) + part.mean()
    values = np.linalg.eigvalsh(centred) / (len(prompts) - 1)
    return theory.shrinkage_spectrum(np.maximum(values, 0.0))


def _estimate(value: float, left: Floats, n: int) -> Estimate:
    """Grouped jackknife of the means over rounds of ``left`` [parts, rounds], less the noise of a finite number."""
    parts, rounds = left.shape
    means = left.mean(axis=1)
    between = float(((means - means.mean()) ** 2).sum())
    noise = 0.0
    if rounds > 1:
        residual = left - means[:, None] - left.mean(axis=0) + means.mean()
        noise = float((residual**2).sum()) / ((parts - 1) * (rounds - 1)) / rounds
    variance = (parts - 1) / parts * max(between - (parts - 1) * noise, 0.1 * between)
    # What the orders themselves leave in the value.
    variance += float(left.mean(axis=0).var(ddof=1)) / rounds if rounds > 1 else 0.0
    se = float(np.sqrt(variance))
    half = float(stats.t.ppf(0.5 + LEVEL / 2, parts - 1)) * se
    return Estimate(value, se, value - half, value + half, n, "grouped-jackknife")
