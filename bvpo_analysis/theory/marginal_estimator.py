"""The marginal DPO gradient from K traces per answer: a consistent family of which g_t is the first member.

With log-ratios rho(r, y) = log pi_theta(r, y | x) - log pi_ref(r, y | x), scores s(r, y) and K traces per side from the
reference posterior,

    hhat = log (1/K) sum_k e^{rho_k},   w~_k = e^{rho_k} / sum_j e^{rho_j},   shat = sum_k w~_k s_k,
    mhat = beta (hhat+ - hhat-),        muhat_K = -beta sigmoid(-mhat) (shat+ - shat-).

E e^rho over the reference posterior is pi_theta(y | x) / pi_ref(y | x), and e^rho turns reference-posterior into
policy-posterior traces, so muhat_K tends to mu = grad of -log sigmoid(m). At K = 1 it is g_t; at the reference it is
unbiased for every K; elsewhere its bias and its variance fall as 1/K (:func:`marginal_rate`). The mean of K joint
gradients shares the variance rate but keeps the bias of g_t for ever.

Everything is a combination of scores with coefficients from log-probabilities alone, and broadcasts over leading axes.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import expit

from bvpo_analysis.records import Floats
from bvpo_analysis.theory.arguments import counts, distribution, finite, positive, whole_counts
from bvpo_analysis.theory.importance_sampling import log_mean_weight, normalised_weights


@dataclass(frozen=True)
class MarginalCoefficients:
    """Coefficients of the scores of the chosen and of the rejected answer: g = sum_k c+_k s+_k + sum_k c-_k s-_k.

    Attributes:
        chosen, rejected: c+ [.., K+] and c- [.., K-].
    """

    chosen: Floats
    rejected: Floats

    def gradient(self, scores_chosen: ArrayLike, scores_rejected: ArrayLike) -> Floats:
        """g [.., d] from the scores [.., K+, d] and [.., K-, d].

        Raises:
            ValueError: scores that are not finite, or not one row per coefficient.

        Example:
            >>> MarginalCoefficients(np.array([-1.0]), np.array([1.0])).gradient([[2.0, 0.0]], [[0.0, 3.0]])
            array([-2.,  3.])
        """
        plus, minus = finite(scores_chosen=scores_chosen, scores_rejected=scores_rejected)
        for name, scores, c in (("scores_chosen", plus, self.chosen), ("scores_rejected", minus, self.rejected)):
            if scores.ndim < 2 or scores.shape[-2] != c.shape[-1]:
                raise ValueError(f"{name} must have shape [.., {c.shape[-1]}, d], got {scores.shape}")
        first = np.einsum("...k,...kd->...d", self.chosen, plus)
        return np.asarray(first + np.einsum("...k,...kd->...d", self.rejected, minus))


def marginal_coefficients(
    log_ratios_chosen: ArrayLike, log_ratios_rejected: ArrayLike, beta: ArrayLike
) -> MarginalCoefficients:
    """Coefficients of muhat_K: c+_k = -beta sigmoid(-mhat) w~+_k and c-_k = +beta sigmoid(-mhat) w~-_k.

    The two sides may have different numbers of traces. A constant added to all rho of one side leaves the weights w~
    as they are and moves mhat by beta times the constant. At K = 1 these are the coefficients of the joint DPO loss.

    Args:
        log_ratios_chosen, log_ratios_rejected: log-ratios of the traces of y+ and y-, [.., K+] and [.., K-].
        beta: inverse temperature, positive; [..].

    Raises:
        ValueError: not finite, no trace, or beta that is not positive.

    Example:
        >>> found = marginal_coefficients(np.log([1.0, 3.0]), np.log([2.0, 2.0, 2.0]), beta=2.0)
        >>> found.chosen.round(12).tolist(), float(found.rejected.sum().round(12))
        ([-0.25, -0.75], 1.0)
    """
    (beta,) = positive(beta=beta)
    plus, minus = _log_ratios(log_ratios_chosen, log_ratios_rejected)
    slope = (beta * expit(-beta * (log_mean_weight(plus) - log_mean_weight(minus))))[..., None]
    return MarginalCoefficients(-slope * normalised_weights(plus), slope * normalised_weights(minus))


# --- bias and variance -----------------------------------------------------------------------------------


@dataclass(frozen=True)
class AnswerLaw:
    """Everything about the N possible traces of one answer that the estimator depends on.

    Attributes:
        probabilities: the law the traces are drawn from, the reference posterior pi_ref(r | x, y); [N].
        log_ratio: rho(r, y), [N].
        scores: s(r, y) at the policy, [N, d].

    Raises:
        ValueError: no distribution, entries that are not finite, or shapes that do not match.

    Example:
        >>> law = AnswerLaw(np.array([0.5, 0.5]), np.log([0.5, 1.5]), np.array([[0.0], [4.0]]))
        >>> law.weights.round(12), law.mean_score.round(12), round(law.chi_square, 12)
        (array([0.5, 1.5]), array([3.]), 0.25)
    """

    probabilities: Floats
    log_ratio: Floats
    scores: Floats

    def __post_init__(self) -> None:
        (p,) = distribution(probabilities=self.probabilities)
        rho, scores = finite(log_ratio=self.log_ratio, scores=self.scores)
        if rho.shape != p.shape or scores.ndim != 2 or len(scores) != len(p):
            raise ValueError(
                f"log_ratio and scores must have shapes [{len(p)}] and [{len(p)}, d], got {rho.shape}, {scores.shape}"
            )
        object.__setattr__(self, "probabilities", p)
        object.__setattr__(self, "log_ratio", rho)
        object.__setattr__(self, "scores", scores)

    @property
    def log_marginal_ratio(self) -> float:
        """h = log E e^rho = log pi_theta(y | x) - log pi_ref(y | x)."""
        p, rho = self.probabilities, self.log_ratio
        top = rho.max()
        return float(top + np.log(p @ np.exp(rho - top)))

    @property
    def weights(self) -> Floats:
        """w = e^{rho - h}, with E w = 1; [N]."""
        return np.asarray(np.exp(self.log_ratio - self.log_marginal_ratio))

    @property
    def mean_score(self) -> Floats:
        """sbar = E[w s], the score of the marginal; [d]."""
        return np.asarray((self.probabilities * self.weights) @ self.scores)

    @property
    def chi_square(self) -> float:
        """V = Var w."""
        return float(self.probabilities @ (self.weights - 1.0) ** 2)

    @property
    def weighted_shift(self) -> Floats:
        """v = E[w^2 (s - sbar)], [d]: minus K times the bias of shat, and K Cov(hhat, shat), in the limit."""
        return np.asarray((self.probabilities * self.weights**2) @ (self.scores - self.mean_score))


@dataclass(frozen=True)
class MarginalRate:
    """How fast muhat_K approaches mu, for K traces per side.

    Attributes:
        target: mu, [d].
        bias: lim K (E muhat_K - mu), [d].
        variance: lim K Tr Var(muhat_K).
    """

    target: Floats
    bias: Floats
    variance: float

    def error(self, traces: ArrayLike) -> Floats:
        """E|muhat_K - mu|^2 = variance / K + |bias|^2 / K^2, leading terms; [..] -> [..].

        The variance has a term of order K^-2 too, so for small K this is a scale and not an approximation.

        Raises:
            ValueError: K < 1.
        """
        (traces,) = counts(traces=traces)
        return np.asarray(self.variance / traces + float(self.bias @ self.bias) / traces**2)


def marginal_rate(chosen: AnswerLaw, rejected: AnswerLaw, beta: float) -> MarginalRate:
    """K times bias and variance of muhat_K for K -> infinity; traces independent across draws and across sides.

    With phi = sigmoid(-m), p = sigmoid(m) sigmoid(-m), and for each side v, V, sbar of :class:`AnswerLaw`,

        K bias -> beta {phi (v+ - v-) + beta p (v+ + v-) - (beta p / 2)[(V+ - V-) + beta tanh(m/2) (V+ + V-)]
                  (sbar+ - sbar-)},
        K Tr Var -> beta^2 sum_sides E|phi w (s - sbar) - beta p (w - 1)(sbar+ - sbar-)|^2.

    Proof: expand -beta sigmoid(-mhat)(shat+ - shat-) to second order in (hhat, shat) at their limits. K times: bias of
    shat -> -v, bias of hhat -> -V/2, Var hhat -> V, Cov(hhat, shat) -> v (draws of one side), nothing across sides;
    d sigmoid(-m)/dm = -p and d^2 sigmoid(-m)/dm^2 = p tanh(m/2). The variance is that of the first-order term.
    Dependent sides add Cov(hhat+, hhat-), Cov(hhat+, shat-) and Cov(hhat-, shat+), which are absent here.

    Raises:
        ValueError: beta that is not positive, or scores of different dimension.

    Example:
        >>> equal, scores = np.array([0.5, 0.5]), np.array([[0.0], [4.0]])
        >>> law, at_reference = AnswerLaw(equal, np.log([0.5, 1.5]), scores), AnswerLaw(equal, np.zeros(2), scores)
        >>> marginal_rate(law, at_reference, beta=1.0).bias.round(12)
        array([0.53125])
        >>> marginal_rate(at_reference, at_reference, beta=1.0).bias
        array([0.])
    """
    (beta_,) = positive(beta=beta)
    if beta_.ndim:
        raise ValueError(f"beta must be a number, got shape {beta_.shape}")
    if chosen.mean_score.shape != rejected.mean_score.shape:
        raise ValueError(
            f"scores of the two answers must have one dimension, got {chosen.mean_score.shape} and "
            f"{rejected.mean_score.shape}"
        )
    margin = beta * (chosen.log_marginal_ratio - rejected.log_marginal_ratio)
    phi = float(expit(-margin))
    p = float(expit(margin)) * phi
    gap = chosen.mean_score - rejected.mean_score
    v_plus, v_minus = chosen.weighted_shift, rejected.weighted_shift
    chi_plus, chi_minus = chosen.chi_square, rejected.chi_square
    curvature = (chi_plus - chi_minus) + beta * np.tanh(margin / 2) * (chi_plus + chi_minus)
    bias = beta * (phi * (v_plus - v_minus) + beta * p * (v_plus + v_minus) - beta * p / 2 * curvature * gap)
    variance = 0.0
    for side in (chosen, rejected):
        w = side.weights
        influence = phi * w[:, None] * (side.scores - side.mean_score) - beta * p * np.outer(w - 1.0, gap)
        variance += beta**2 * float(side.probabilities @ (influence**2).sum(axis=1))
    return MarginalRate(target=-beta * phi * gap, bias=bias, variance=variance)


# --- unbiased by randomising the number of traces --------------------------------------------------------


def antithetic_coefficients(
    log_ratios_chosen: ArrayLike, log_ratios_rejected: ArrayLike, beta: ArrayLike
) -> MarginalCoefficients:
    """Coefficients of Delta = muhat(all 2n traces) - [muhat(first n) + muhat(last n)] / 2.

    E Delta = E muhat_2n - E muhat_n exactly, both halves having the law of n traces; so with n = 2^{l-1},
    E muhat_1 + sum_{l <= L} E Delta_l = E muhat_{2^L} telescopes and tends to mu. The term of first order in 1/sqrt(n)
    cancels between the halves and the whole, so E|Delta_l|^2 = O(4^-l) if the weights e^rho have enough moments
    (antithetic multilevel Monte Carlo). Delta = 0 where all rho of a side are equal, as at the reference.

    Args:
        log_ratios_chosen, log_ratios_rejected: [.., 2n] each, an even number of traces.
        beta: inverse temperature, positive; [..].

    Raises:
        ValueError: an odd number of traces, different numbers on the two sides, or as :func:`marginal_coefficients`.

    Example:
        >>> found = antithetic_coefficients([0.0, 0.0], [0.3, 0.3], beta=1.0)
        >>> bool(np.allclose([found.chosen, found.rejected], 0.0, atol=1e-15))
        True
    """
    plus, minus = _log_ratios(log_ratios_chosen, log_ratios_rejected)
    count = plus.shape[-1]
    if count % 2 or minus.shape[-1] != count:
        raise ValueError(
            "log_ratios_chosen and log_ratios_rejected must hold the same even number of traces, "
            f"got {count} and {minus.shape[-1]}"
        )
    half = count // 2
    whole = marginal_coefficients(plus, minus, beta)
    parts = [marginal_coefficients(plus[..., c], minus[..., c], beta) for c in (np.s_[:half], np.s_[half:])]
    return MarginalCoefficients(
        whole.chosen - np.concatenate([part.chosen for part in parts], axis=-1) / 2,
        whole.rejected - np.concatenate([part.rejected for part in parts], axis=-1) / 2,
    )


DECAY = 1.5
"""Exponent a of the level law: in the middle of (1, 2), outside which cost or variance is infinite."""


def level_probability(level: ArrayLike, decay: ArrayLike = DECAY) -> Floats:
    """P(N = l) = (1 - 2^-a) 2^{-a (l - 1)} for l = 1, 2, ...: which difference Delta_N to draw.

    muhat_1 + Delta_N / P(N) is unbiased for mu (Rhee & Glynn, Oper. Res. 2015; Blanchet & Glynn 2015; arXiv
    2004.00353). Its variance is finite if sum_l E|Delta_l|^2 / P(l) = sum_l O(2^{(a - 2) l}) is: a < 2. Its cost is
    finite for a > 1 (:func:`expected_traces`). N is geometric with success probability 1 - 2^-a.

    Args:
        level: l, a whole number of at least 1; [..].
        decay: a, in (1, 2); [..].

    Raises:
        ValueError: out of these ranges.

    Example:
        >>> level_probability([1, 2]).round(6).tolist(), bool(np.isclose(level_probability(range(1, 60)).sum(), 1.0))
        ([0.646447, 0.228553], True)
    """
    a = _decay(decay)
    (level,) = whole_counts(level=level)
    return np.asarray(-np.expm1(-a * np.log(2.0)) * 2.0 ** (-a * (level - 1.0)))


def expected_traces(decay: ArrayLike = DECAY) -> Floats:
    """E 2^N = 2 (1 - 2^-a) / (1 - 2^{1 - a}): traces per answer of one draw of Delta_N; finite for a > 1.

    Proof: sum the geometric series sum_l P(l) 2^l. muhat_1 may use one of these traces (unbiasedness is a sum of
    expectations and does not need independence), so the whole estimator needs no more.

    Raises:
        ValueError: a outside (1, 2).

    Example:
        >>> float(expected_traces().round(6))
        4.414214
    """
    a = _decay(decay)
    log2 = np.log(2.0)
    return np.asarray(2.0 * np.expm1(-a * log2) / np.expm1((1.0 - a) * log2))


def _decay(decay: ArrayLike) -> Floats:
    (a,) = finite(decay=decay)
    if ((a <= 1) | (a >= 2)).any():
        raise ValueError(
            f"decay must lie strictly between 1 (infinite cost) and 2 (infinite variance), got "
            f"{a[(a <= 1) | (a >= 2)].ravel()[0]}"
        )
    return a


def _log_ratios(log_ratios_chosen: ArrayLike, log_ratios_rejected: ArrayLike) -> list[Floats]:
    arrays = finite(log_ratios_chosen=log_ratios_chosen, log_ratios_rejected=log_ratios_rejected)
    for name, array in zip(("log_ratios_chosen", "log_ratios_rejected"), arrays, strict=True):
        if array.ndim == 0:
            raise ValueError(f"{name} must have an axis of traces, got a number")
    return arrays
