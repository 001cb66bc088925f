"""What g_t is biased by near the reference, as coefficients of scores: predictions for a model of any size.

Two expansions of b_t = E_r g_t - mu for a loss L(rho+ - rho-) and independent traces (both DPO and IPO are of this
form; the proofs are in :mod:`bvpo_analysis.theory.trace_bias`):

    theta = theta_ref + d, scores at theta_ref, C+- = Cov s(r, y+-) over the reference posterior:
        stale traces    b_t = slope (C+ - C-) d + curvature (C+ + C-) d + O(|d|^2)
        fresh traces    b_t = curvature (C+ + C-) d + O(|d|^2)
    any theta, scores at theta, fresh traces, small beta:
        b_t = curvature {Cov(rho+, s+) + Cov(rho-, s-) + (KL+ - KL-)(sbar+ - sbar-)} + O(beta^4)

"Stale" traces are those of a fixed data set, drawn from pi_ref(r | x, y); "fresh" ones come from pi_theta(r | x, y). A
product C d needs no P x P matrix: C d = Cov(<s, d>, s), a combination of the scores whose coefficients follow from one
directional derivative <s(r), d> per trace. So the predictions are vectors [m] of coefficients, like every estimator.
"""

from dataclasses import replace

import numpy as np
from numpy.typing import ArrayLike

from bvpo_analysis.records import Floats, Ints, PairLogProbs
from bvpo_analysis.theory.trace_laws import LossAtReference, posterior_divergence


def posterior(log_prob: Floats, rows: Ints) -> Floats:
    """Probabilities [E] of the traces in these rows, proportional to exp(log_prob)."""
    here = log_prob[rows]
    return np.asarray(np.exp(here - np.logaddexp.reduce(here)))


def with_fresh_traces(pair: PairLogProbs) -> PairLogProbs:
    """The same enumerated pair with its traces drawn from the current posterior pi_theta(r | x, y).

    Raises:
        ValueError: the traces are not enumerated.

    Example:
        >>> import numpy as np
        >>> from bvpo_analysis.testing import toy_pair
        >>> moved = toy_pair(enumerated=True, log_prob=np.log([0.1, 0.3, 0.1, 0.1, 0.2, 0.2]))
        >>> moved.weights.round(3).tolist(), with_fresh_traces(moved).weights.round(3).tolist()
        ([0.25, 0.25, 0.25, 0.25], [0.125, 0.125, 0.375, 0.375])
    """
    _require_enumerated(pair)
    sides = [posterior(pair.log_prob, rows) for rows in pair.support]
    return replace(pair, weights=np.outer(*sides).ravel())


def stale_trace_bias(pair: PairLogProbs, along: ArrayLike, loss: LossAtReference) -> Floats:
    """Leading b_t at theta_ref + d with reference-posterior traces: coefficients [m] of the scores at theta_ref.

        slope (C+ - C-) d + curvature (C+ + C-) d,        (beta/2)(C+ - C-) d + (beta^2/4)(C+ + C-) d for DPO

    Args:
        pair: the enumerated pair at any theta; its reference posterior is used.
        along: [m] directional derivatives <s_j, d> at theta_ref.
        loss: slope and curvature at the reference.

    Raises:
        ValueError: the traces are not enumerated, or not one derivative per sequence.

    Example:
        >>> from bvpo_analysis.testing import toy_pair
        >>> stale_trace_bias(toy_pair(enumerated=True), [0.0, 2.0, 0.0, 0.0, 9.0, 9.0], LossAtReference.dpo(2.0))
        array([-1.,  1.,  0.,  0.,  0.,  0.])
    """
    chosen, rejected = _centred(pair, along)
    return loss.slope * (chosen - rejected) + loss.curvature * (chosen + rejected)


def fresh_trace_bias(pair: PairLogProbs, along: ArrayLike, loss: LossAtReference) -> Floats:
    """Leading b_t at theta_ref + d with current-posterior traces: coefficients [m] of the scores at theta_ref.

        curvature (C+ + C-) d,        (beta^2/4)(C+ + C-) d for DPO

    Its product with d is not negative: averaged over traces, g_t pulls back towards the reference.

    Args:
        pair, along, loss: as in :func:`stale_trace_bias`.

    Raises:
        ValueError: the traces are not enumerated, or not one derivative per sequence.

    Example:
        >>> from bvpo_analysis.testing import toy_pair
        >>> fresh_trace_bias(toy_pair(enumerated=True), [0.0, 2.0, 0.0, 0.0, 9.0, 9.0], LossAtReference.dpo(2.0))
        array([-0.5,  0.5,  0. ,  0. ,  0. ,  0. ])
    """
    chosen, rejected = _centred(pair, along)
    return loss.curvature * (chosen + rejected)


def small_beta_trace_bias(pair: PairLogProbs, loss: LossAtReference) -> Floats:
    """Leading b_t for small beta with current-posterior traces: coefficients [m] of the scores at theta.

        curvature {Cov(rho+, s+) + Cov(rho-, s-) + (KL+ - KL-)(sbar+ - sbar-)}

    with KL+- = KL(pi_theta(r | x, y+-) || pi_ref(r | x, y+-)). The remainder is O(beta^4) for DPO and zero for IPO;
    relative to mu, which is of order beta, the bias of DPO is O(beta).

    Args:
        pair: the enumerated pair at theta.
        loss: curvature at the reference.

    Raises:
        ValueError: the traces are not enumerated.

    Example:
        >>> import numpy as np
        >>> from bvpo_analysis.testing import toy_pair
        >>> at_reference = toy_pair(enumerated=True)
        >>> bool(np.any(small_beta_trace_bias(at_reference, LossAtReference.dpo(2.0))))
        False
    """
    _require_enumerated(pair)
    out = np.zeros(pair.size)
    ratios = pair.log_prob - pair.log_prob_ref
    laws = [posterior(pair.log_prob, rows) for rows in pair.support]
    first, second = (posterior_divergence(p, ratios[rows]) for p, rows in zip(laws, pair.support, strict=True))
    for p, rows, sign in zip(laws, pair.support, (1.0, -1.0), strict=True):
        rho = ratios[rows]
        np.add.at(out, rows, p * (rho - p @ rho + sign * (first - second)))
    return loss.curvature * out


def _centred(pair: PairLogProbs, along: ArrayLike) -> tuple[Floats, Floats]:
    """Coefficients [m] of C+ d and of C- d: p(r)(<s(r), d> - mean) over the reference posterior of each side."""
    _require_enumerated(pair)
    u = np.asarray(along, dtype=np.float64)
    if u.shape != (pair.size,):
        raise ValueError(f"along must have one derivative per sequence, shape ({pair.size},), got {u.shape}")
    parts = []
    for rows in pair.support:
        p, out = posterior(pair.log_prob_ref, rows), np.zeros(pair.size)
        np.add.at(out, rows, p * (u[rows] - p @ u[rows]))
        parts.append(out)
    return parts[0], parts[1]


def _require_enumerated(pair: PairLogProbs) -> None:
    if not pair.enumerated:
        raise ValueError(f"prompt {pair.prompt_id!r} has sampled traces; the prediction needs enumerated ones")
