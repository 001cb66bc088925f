"""Averages over posterior traces from traces of another law: weights, their health, bias, variance and its removal.

The posterior mean E f of a function of the trace (the marginal score is that of s(r, y), by Fisher's identity) is
estimated from M draws r_k of a proposal q by the self-normalised mean

    fhat = sum_k w_k f_k / sum_k w_k,        w(r) proportional to posterior(r) / q(r).

For the prior q = pi(r | x) the weight is pi(y | x, r), not pi(r, y | x): the factor pi(r | x) is in the draws already.
With w normalised to E_q w = 1, fhat - E f = A / W with A = (1/M) sum w_k (f_k - E f), W = (1/M) sum w_k, and expanding
1/W around 1 gives

    E fhat - E f = -(1/M) E_q[w^2 (f - E f)] + O(M^-2),      Tr Var fhat = (1/M) E_q[w^2 |f - E f|^2] + O(M^-2).

Two ways out: the delete-one jackknife removes the 1/M term; and one exact posterior trace in the pool removes the bias
altogether (:func:`pooled_mean`). Weights come as logarithms and are shifted by their maximum before exponentiating.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from bvpo_analysis.records import Floats
from bvpo_analysis.theory.arguments import counts, distribution, finite, nonnegative

# --- weights ---------------------------------------------------------------------------------------------


def normalised_weights(log_weights: ArrayLike) -> Floats:
    """w_k / sum_j w_j along the last axis, from logarithms; [.., K] -> [.., K].

    A constant added to all logarithms changes nothing; neither do logarithms of size 1e4.

    Raises:
        ValueError: no axis, no draw, or a logarithm that is not finite.

    Example:
        >>> normalised_weights([1e4, 1e4 + np.log(3.0)]).round(12)
        array([0.25, 0.75])
    """
    shifted = np.exp(_centred(log_weights))
    return shifted / shifted.sum(axis=-1, keepdims=True)


def log_mean_weight(log_weights: ArrayLike) -> Floats:
    """log((1/K) sum_k w_k) along the last axis; [.., K] -> [..].

    The estimate of a log-marginal: E of the mean is exact, E of its logarithm is low by about Var(w) / (2 K E(w)^2)
    (:func:`log_mean_weight_bias`).

    Raises:
        ValueError: as :func:`normalised_weights`.

    Example:
        >>> float(log_mean_weight([1e4, 1e4]))
        10000.0
    """
    array = _draws(log_weights)
    top = array.max(axis=-1)
    return np.asarray(top + np.log(np.exp(_centred(array)).mean(axis=-1)))


def effective_sample_size(log_weights: ArrayLike) -> Floats:
    """ESS = (sum w)^2 / sum w^2, between 1 and K; [.., K] -> [..].

    K exactly when the weights are equal, by Cauchy-Schwarz; 1 when one draw has all the weight. It is scale-free. It
    judges the weights that were drawn: where the draws all miss the posterior, it is high and the estimate is wrong.

    Raises:
        ValueError: as :func:`normalised_weights`.

    Example:
        >>> float(effective_sample_size([0.0, 0.0, -1e4, -1e4]))
        2.0
    """
    shifted = np.exp(_centred(log_weights))
    return np.asarray(shifted.sum(axis=-1) ** 2 / (shifted**2).sum(axis=-1))


def chi_square(target: ArrayLike, proposal: ArrayLike) -> float:
    """chi^2(p || q) = sum_r q(r) (p(r)/q(r) - 1)^2 = Var_q w, the variance of the normalised weights; [N], [N].

    Raises:
        ValueError: not two distributions on the same values, or p(r) > 0 = q(r) somewhere (it would be infinite).

    Example:
        >>> round(chi_square(target=[0.5, 0.5], proposal=[0.2, 0.8]), 12), chi_square([0.3, 0.7], [0.3, 0.7])
        (0.5625, 0.0)
    """
    p, q, w = _weights(target, proposal)
    return float((p - q) @ (w - 1.0))  # q (w - 1)^2 term by term, without the square of a large weight


def limiting_sample_size(count: ArrayLike, divergence: ArrayLike) -> Floats:
    """M / (1 + chi^2(p || q)): the effective sample size of M draws of q is this times 1 + o(1), almost surely.

    By the law of large numbers for sum w / M -> 1 and sum w^2 / M -> 1 + chi^2.

    Args:
        count: M, at least 1; [..].
        divergence: chi^2, at least 0; [..].

    Raises:
        ValueError: out of these ranges.

    Example:
        >>> float(limiting_sample_size(count=100, divergence=3.0))
        25.0
    """
    (count,) = counts(count=count)
    (divergence,) = nonnegative(divergence=divergence)
    return np.asarray(count / (1.0 + divergence))


# --- self-normalised means -------------------------------------------------------------------------------


def self_normalised_mean(log_weights: ArrayLike, values: ArrayLike) -> Floats:
    """fhat = sum_k w_k f_k / sum_k w_k; [.., K] and [.., K, d] -> [.., d].

    Raises:
        ValueError: as :func:`normalised_weights`; values that are not finite or do not belong to the draws.

    Example:
        >>> self_normalised_mean([0.0, np.log(3.0)], [[0.0, 4.0], [1.0, 0.0]])
        array([0.75, 1.  ])
    """
    weights, array = normalised_weights(log_weights), _values(values, np.shape(log_weights)[-1])
    return np.asarray(np.einsum("...k,...kd->...d", weights, array))


def self_normalised_bias(target: ArrayLike, proposal: ArrayLike, values: ArrayLike, count: ArrayLike) -> Floats:
    """-(1/M) E_q[w^2 (f - E_p f)]: the bias of the self-normalised mean of M draws, to order 1/M.

    Proof: E fhat - E f = E[A/W] = E[A] - E[A (W - 1)] + O(M^-2); E A = 0 and E[A W] = (1/M) E_q[w^2 (f - E f)]. For
    f = s(r, y) and q the prior it is the bias of the gradient of the importance-weighted bound with proposals held
    fixed (arXiv 1509.00519).

    Args:
        target, proposal: p and q, [N].
        values: f, [N, d].
        count: M, at least 1; [..].

    Returns:
        [.., d].

    Raises:
        ValueError: p or q is no distribution, p(r) > 0 = q(r) somewhere, shapes that do not match, M < 1.

    Example:
        >>> self_normalised_bias([0.5, 0.5], [0.75, 0.25], [[0.0], [1.0]], count=10)
        array([-0.03333333])
    """
    p, _, w = _weights(target, proposal)
    array = _values(values, len(p))
    (count,) = counts(count=count)
    return np.asarray(-((p * w) @ (array - p @ array)) / count[..., None])


def self_normalised_variance(target: ArrayLike, proposal: ArrayLike, values: ArrayLike, count: ArrayLike) -> Floats:
    """(1/M) E_q[w^2 |f - E_p f|^2]: Tr Var of the self-normalised mean of M draws, to order 1/M.

    Proof: fhat - E f = A + O(1/M) in mean square, and Tr Var A = (1/M) E_q[w^2 |f - E f|^2] because E A = 0.

    Args and errors as :func:`self_normalised_bias`; returns [..].

    Example:
        >>> float(self_normalised_variance([0.5, 0.5], [0.75, 0.25], [[0.0], [1.0]], count=10).round(12))
        0.033333333333
    """
    p, _, w = _weights(target, proposal)
    array = _values(values, len(p))
    (count,) = counts(count=count)
    return np.asarray((p * w) @ ((array - p @ array) ** 2).sum(axis=-1) / count)


def log_mean_weight_bias(divergence: ArrayLike, count: ArrayLike) -> Floats:
    """-chi^2 / (2 M): the bias of log((1/M) sum w_k) for log E_q w, to order 1/M.

    Proof: log W = (W - 1) - (W - 1)^2 / 2 + ..., with E W = 1 and Var W = chi^2 / M (Nowozin, ICLR 2018).

    Raises:
        ValueError: a negative chi^2, or M < 1.

    Example:
        >>> float(log_mean_weight_bias(divergence=0.5, count=10))
        -0.025
    """
    (divergence,) = nonnegative(divergence=divergence)
    (count,) = counts(count=count)
    return np.asarray(-divergence / (2.0 * count))


# --- the jackknife ---------------------------------------------------------------------------------------


def jackknife_corrected(value: ArrayLike, left_out: ArrayLike) -> Floats:
    """M T_M - (M - 1) mean_i T_{-i}, from a statistic and its M leave-one-out values; [..] and [M, ..] -> [..].

    Where E T_M = theta + a/M + O(M^-2), the bias that is left is O(M^-2): M (a/M) - (M - 1) a/(M - 1) = 0. A mean is
    left as it is, and the plug-in variance becomes the one with M - 1. Evaluated as a correction, T_M + (M - 1)
    mean_i(T_M - T_{-i}), which does not cancel.

    Raises:
        ValueError: not finite, fewer than two leave-one-out values, or shapes that do not match.

    Example:
        >>> x = np.array([1.0, 2.0, 6.0])
        >>> left = [np.var(np.delete(x, i)) for i in range(3)]
        >>> bool(np.isclose(jackknife_corrected(np.var(x), left), np.var(x, ddof=1)))
        True
    """
    value, left_out = finite(value=value, left_out=left_out)
    if left_out.ndim != value.ndim + 1 or left_out.shape[1:] != value.shape or len(left_out) < 2:
        raise ValueError(
            f"left_out must have shape [M, ..] with M >= 2 for a value [..], got {left_out.shape} and {value.shape}"
        )
    return np.asarray(value + (len(left_out) - 1) * (value - left_out).mean(axis=0))


def leave_one_out_weights(log_weights: ArrayLike) -> Floats:
    """Row i: the normalised weights of the draws without draw i, which itself gets 0; [.., K] -> [.., K, K].

    Normalised anew for every row: subtracting w_i from a sum that it dominates would cancel.

    Raises:
        ValueError: as :func:`normalised_weights`, or fewer than two draws.

    Example:
        >>> leave_one_out_weights(np.log([1.0, 1.0, 3.0])).round(12).tolist()
        [[0.0, 0.25, 0.75], [0.25, 0.0, 0.75], [0.5, 0.5, 0.0]]
    """
    array = _draws(log_weights)
    count = array.shape[-1]
    if count < 2:
        raise ValueError(f"log_weights must hold at least two draws to leave one out, got {count}")
    masked = np.where(np.eye(count, dtype=bool), -np.inf, array[..., None, :])
    shifted = np.exp(masked - masked.max(axis=-1, keepdims=True))
    return np.asarray(shifted / shifted.sum(axis=-1, keepdims=True))


def jackknife_weights(log_weights: ArrayLike) -> Floats:
    """Signed weights u_k with sum_k u_k f_k the jackknife-corrected self-normalised mean of any f; [.., K] -> [.., K].

    u = K w - (K - 1)/K sum_i w^(-i), with w^(-i) from :func:`leave_one_out_weights`. They sum to one and may be
    negative; equal weights stay equal.

    Raises:
        ValueError: as :func:`leave_one_out_weights`.

    Example:
        >>> jackknife_weights(np.log([1.0, 1.0, 3.0])).round(12).tolist()
        [0.1, 0.1, 0.8]
    """
    weights, left = normalised_weights(log_weights), leave_one_out_weights(log_weights)
    return weights + (weights.shape[-1] - 1) * (weights - left.mean(axis=-2))


# --- one exact trace in the pool -------------------------------------------------------------------------


@dataclass(frozen=True)
class PooledMean:
    """The pooled estimate of a posterior mean from one pool, or from many.

    Attributes:
        mean: fhat = sum_k w_k f_k, [.., d].
        variance_saved: sum_k w_k |f_k - fhat|^2, [..]; its expectation is what pooling takes off the variance of f at
            the single exact trace: Tr Var fhat = Tr Cov f - E[variance_saved].
    """

    mean: Floats
    variance_saved: Floats


def pooled_mean(log_likelihood: ArrayLike, values: ArrayLike) -> PooledMean:
    """Self-normalised mean over a pool of one exact posterior trace and M - 1 prior traces: unbiased for every M.

    With r_0 from pi(r | x, y), fresh r_1 .. r_{M-1} from pi(r | x) and w_k proportional to pi(y | x, r_k),

        E[fhat] = E_{pi(r | x, y)} f  exactly,      Tr Var fhat = Tr Cov f - E|f(r_0) - fhat|^2.

    Proof: let a fair die put the exact trace at position j. The joint density of (j, pool) is proportional to
    w_j prod_k pi(r_k | x), so given the unordered pool the exact trace is member k with probability w_k / sum w, and
    fhat = E[f(r_0) | pool]: a Rao-Blackwellisation, whence both identities, with E|f(r_0) - fhat|^2 given the pool
    equal to ``variance_saved`` (conditional SIR: Andrieu, Doucet & Holenstein, JRSS B 2010; arXiv 2207.06364).

    Exactness needs all of it: a pool without an exact trace is biased by O(1/M) (:func:`self_normalised_bias`), and so
    is one weighted by pi(r, y | x); other traces generated for the prompt are posterior traces of their own answers,
    not prior traces. The order of the pool does not matter.

    If the answers of a pair share the prior traces, sbar+ - sbar- stays unbiased. Its variance is at most that of the
    two exact traces if these are independent; for coupled exact traces it can be larger.

    Args:
        log_likelihood: log pi(y | x, r_k), the exact trace anywhere among them; [.., M].
        values: f(r_k), [.., M, d].

    Raises:
        ValueError: as :func:`self_normalised_mean`.

    Example:
        >>> pooled = pooled_mean([0.0, np.log(3.0)], [[0.0, 4.0], [1.0, 0.0]])
        >>> pooled.mean, float(pooled.variance_saved.round(12))
        (array([0.75, 1.  ]), 3.1875)
    """
    weights, array = normalised_weights(log_likelihood), _values(values, np.shape(log_likelihood)[-1])
    mean = np.asarray(np.einsum("...k,...kd->...d", weights, array))
    saved = (weights * ((array - mean[..., None, :]) ** 2).sum(axis=-1)).sum(axis=-1)
    return PooledMean(mean, np.asarray(saved))


# --- shapes ----------------------------------------------------------------------------------------------


def _draws(log_weights: ArrayLike) -> Floats:
    (array,) = finite(log_weights=log_weights)
    if array.ndim == 0:
        raise ValueError("log_weights must have an axis of draws, got a number")
    return array


def _centred(log_weights: ArrayLike) -> Floats:
    array = _draws(log_weights)
    return np.asarray(array - array.max(axis=-1, keepdims=True))


def _values(values: ArrayLike, count: int) -> Floats:
    (array,) = finite(values=values)
    if array.ndim < 2 or array.shape[-2] != count:
        raise ValueError(f"values must have shape [.., {count}, d], one row per weight, got {array.shape}")
    return array


def _weights(target: ArrayLike, proposal: ArrayLike) -> tuple[Floats, Floats, Floats]:
    """p, q and w = p/q; a value that neither law takes has weight 0."""
    p, q = distribution(target=target, proposal=proposal)
    if p.shape != q.shape:
        raise ValueError(f"target and proposal must be on the same values, got {len(p)} and {len(q)}")
    if ((q == 0) & (p > 0)).any():
        raise ValueError("proposal must be positive wherever target is")
    return p, q, np.divide(p, q, out=np.zeros_like(p), where=q > 0)
