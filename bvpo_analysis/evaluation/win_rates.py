"""How often one policy's answer is preferred to another's, ties half; and the same at equal length.

With rewards a_k of K answers of the one and b_l of L answers of the other to a prompt, the share of its pairs

    w = mean over (k, l) of 1[a_k > b_l] + 1[a_k = b_l] / 2

estimates P(A > B) + P(A = B)/2 for independent answers without bias. Where both policies drew their answers from the
same random streams, answers k and k are dependent and those pairs are left out.
"""

import numpy as np
from numpy.typing import ArrayLike
from scipy import special

from bvpo_analysis.evaluation.intervals import FEWEST, clustered_mean
from bvpo_analysis.records import Estimate, Floats

RIDGE = 0.5
"""Weight of the ridge on the length-controlled fit, in comparisons: without it one-sided data have no finite fit."""


def comparisons(first: ArrayLike, second: ArrayLike, *, same_streams: bool = False) -> Floats:
    """1, 1/2 or 0 for every pair of answers to a prompt, [n, K L]; nan where the pair is left out.

    Args:
        first, second: [n] or [n, K] and [n, L] rewards of answers to the same prompts; -inf for an answer that lost
            its right to be compared.
        same_streams: whether answer k of both comes from one random stream; then pairs (k, k) are left out.

    Raises:
        ValueError: other shapes, rewards that are nan, or shared streams with one answer per prompt.

    Example:
        >>> comparisons([[1.0, 2.0]], [[1.0, 3.0]]).tolist()
        [[0.5, 0.0, 1.0, 0.0]]
    """
    a, b = (np.asarray(x, dtype=np.float64) for x in (first, second))
    a, b = (x[:, None] if x.ndim == 1 else x for x in (a, b))
    if a.ndim != 2 or b.ndim != 2 or len(a) != len(b) or a.size == 0:
        raise ValueError(f"rewards must be [n, K] and [n, L] of the same prompts, got {a.shape} and {b.shape}")
    if np.isnan(a).any() or np.isnan(b).any():
        raise ValueError("a reward is not a number; give an answer that cannot be judged the lowest reward")
    x, y = a[:, :, None], b[:, None, :]
    won = (x > y) + 0.5 * (x == y)
    if same_streams:
        if a.shape[1] != b.shape[1] or a.shape[1] < 2:
            raise ValueError("shared random streams need the same number of answers of both, two or more")
        own = np.arange(a.shape[1])
        won[:, own, own] = np.nan
    return won.reshape(len(a), -1)


def win_rate(first: ArrayLike, second: ArrayLike, *, same_streams: bool = False) -> Estimate:
    """P(A > B) + P(A = B)/2 with a 95 % interval over prompts; arguments as for :func:`comparisons`.

    Example:
        >>> rewards = [[0.0, 1.0], [2.0, 1.0], [1.0, 1.0]]
        >>> print(win_rate(rewards, rewards))
        0.5 [0.5, 0.5]
    """
    return clustered_mean(comparisons(first, second, same_streams=same_streams), low=0.0, high=1.0)


def length_controlled_win_rate(
    first: ArrayLike,
    second: ArrayLike,
    first_lengths: ArrayLike,
    second_lengths: ArrayLike,
    *,
    same_streams: bool = False,
) -> Estimate:
    """The win rate that a logistic regression on the difference in length gives at no difference.

    P(win) = sigmoid(a + b d) with d = tanh(difference in length / its standard deviation), as in the length-controlled
    AlpacaEval (arXiv 2404.04475) without its term per prompt; the result is sigmoid(a). The interval comes from the
    covariance of (a, b) clustered by prompt, on the logistic scale.

    Args:
        first, second: rewards, as for :func:`comparisons`.
        first_lengths, second_lengths: lengths of the same answers.
        same_streams: as for :func:`comparisons`.

    Raises:
        ValueError: shapes that do not agree.

    Example:
        >>> rewards, longer = [[1.0, 0.0], [0.0, 1.0], [1.0, 0.0]], [[5, 3], [3, 5], [5, 3]]
        >>> print(length_controlled_win_rate(rewards, rewards, longer, longer))
        0.5 [0.5, 0.5]
    """
    won = comparisons(first, second, same_streams=same_streams)
    x, y = (np.asarray(v, dtype=np.float64) for v in (first_lengths, second_lengths))
    x, y = (v[:, None] if v.ndim == 1 else v for v in (x, y))
    longer = (x[:, :, None] - y[:, None, :]).reshape(len(x), -1)
    if longer.shape != won.shape:
        raise ValueError(f"lengths must have the shapes of the rewards, got {x.shape} and {y.shape}")
    known = np.isfinite(won)
    spread = float(longer[known].std())
    d = np.tanh(longer / spread) if spread > 0 else np.zeros_like(longer)
    # A prompt has weight one, however many of its pairs are compared.
    weight = known / np.maximum(known.sum(axis=1, keepdims=True), 1)
    design = np.stack([np.ones_like(d), d], axis=-1)
    fit, hessian = _fit(design, np.where(known, won, 0.5), weight)
    scores = np.einsum("nk,nkj->nj", weight * (np.where(known, won, 0.5) - special.expit(design @ fit)), design)
    n = len(won)
    value = float(special.expit(fit[0]))
    if n < FEWEST:
        return Estimate.without_interval(value, n)
    inverse = np.linalg.inv(hessian)
    scores = scores - scores.mean(axis=0)
    covariance = inverse @ (n / (n - 1) * scores.T @ scores) @ inverse
    se, t = float(np.sqrt(covariance[0, 0])), float(special.stdtrit(n - 1, 0.975))
    low, high = (float(special.expit(fit[0] + sign * t * se)) for sign in (-1, 1))
    return Estimate(value, value * (1 - value) * se, low, high, n, "jackknife")


def _fit(design: Floats, won: Floats, weight: Floats) -> tuple[Floats, Floats]:
    """Coefficients [J] of the weighted logistic regression with a ridge, and the Hessian [J, J], by Newton's method."""
    size = design.shape[-1]
    fit, ridge = np.zeros(size), RIDGE * np.eye(size) / 4
    for _ in range(100):
        p = special.expit(design @ fit)
        slope = np.einsum("nk,nkj->j", weight * (won - p), design) - ridge @ fit
        hessian = np.einsum("nk,nki,nkj->ij", weight * p * (1 - p), design, design) + ridge
        step = np.linalg.solve(hessian, slope)
        fit = fit + step
        if float(np.abs(step).max()) < 1e-10:
            break
    p = special.expit(design @ fit)
    return fit, np.einsum("nk,nki,nkj->ij", weight * p * (1 - p), design, design) + ridge
