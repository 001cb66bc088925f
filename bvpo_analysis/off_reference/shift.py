"""How far a checkpoint has moved from its reference, as far as the traces of a fixed data set are concerned."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from bvpo_analysis.moments import Moments
from bvpo_analysis.moments.diagnostics import Flag
from bvpo_analysis.off_reference.leading_bias import posterior
from bvpo_analysis.records import Floats, PairLogProbs
from bvpo_analysis.theory import optimal_weight_from_distance
from bvpo_analysis.theory.trace_laws import posterior_divergence

LEAST_MASS = 0.95
"""Mean prior probability of the enumerated traces below which exact numbers are flagged."""


@dataclass(frozen=True)
class TraceShift:
    """The move of the trace posterior of one pair, exactly; arrays [2], chosen and rejected answer.

    Attributes:
        log_marginal_ratio: h = log pi_theta(y | x) - log pi_ref(y | x) over the enumerated traces.
        divergence: KL(pi_ref(r | x, y) || pi_theta(r | x, y)), in nats.
        ess_share: 1 / (1 + chi^2): of K reference-posterior traces, about K times this count as traces of theta.
        prior_mass: sum_r pi_theta(r | x), the same for both answers.
    """

    log_marginal_ratio: Floats
    divergence: Floats
    ess_share: Floats
    prior_mass: float


def trace_shift(pair: PairLogProbs) -> TraceShift:
    """The exact shift of an enumerated pair.

    With w = exp(rho - h), E_ref w = 1 and chi^2 = Var_ref w; E_ref rho = h - KL.

    Raises:
        ValueError: the traces are not enumerated.

    Example:
        >>> import numpy as np
        >>> from bvpo_analysis.testing import toy_pair
        >>> ref, moved = np.log([0.1, 0.1, 0.1, 0.1, 0.2, 0.2]), np.log([0.1, 0.3, 0.1, 0.1, 0.2, 0.2])
        >>> shift = trace_shift(toy_pair(enumerated=True, log_prob=moved, log_prob_ref=ref))
        >>> shift.ess_share.round(3).tolist(), np.exp(shift.log_marginal_ratio).round(3).tolist()
        ([0.8, 1.0], [2.0, 1.0])
    """
    if not pair.enumerated:
        raise ValueError(f"prompt {pair.prompt_id!r} has sampled traces; the exact shift needs enumerated ones")
    ratios, numbers = pair.log_prob - pair.log_prob_ref, []
    for rows in pair.support:
        p, rho = posterior(pair.log_prob_ref, rows), ratios[rows]
        divergence = posterior_divergence(p, -rho)
        h = float(p @ rho) + divergence
        numbers.append((h, divergence, 1.0 / float(p @ np.exp(2 * (rho - h)))))
    h, divergence, ess = np.array(numbers).T
    trace_part = (pair.log_prob - pair.log_prob_answer)[pair.support[0]]
    return TraceShift(h, divergence, ess, float(np.exp(trace_part).sum()))


def enumeration_flag(pairs: Sequence[PairLogProbs]) -> Flag | None:
    """A warning where the enumerated traces carry less than 95 % of the prior under the current policy, else None.

    Training may move a policy away from the traces that were enumerated; exact numbers then belong to what is left.

    Raises:
        ValueError: no pairs, or traces that are not enumerated.

    Example:
        >>> import numpy as np
        >>> from bvpo_analysis.testing import toy_pair
        >>> lost = np.log([0.16, 0.16, 0.16, 0.16, 0.1, 0.1])  # half of each logarithm is that of the trace
        >>> enumeration_flag([toy_pair(enumerated=True, log_prob=lost)]).level
        'warning'
    """
    if not pairs:
        raise ValueError("no pairs whose enumeration could be judged")
    mass = [trace_shift(pair).prior_mass for pair in pairs]
    if np.mean(mass) >= LEAST_MASS:
        return None
    return Flag(
        "warning",
        f"The enumerated traces carry {np.mean(mass):.1%} of the probability under this model ({np.min(mass):.1%} for "
        "the lowest prompt): it has learned others. Exact numbers are those of the policy restricted to the enumerated "
        "traces; take a checkpoint nearer to the reference.",
    )


def weight_if_unbiased(moments: Moments, batch_size: int) -> float:
    """The unclipped M3 weight at B if E g_t is taken for mu: exact at the reference, wrong where b_t != 0.

        1 - Tr Cov(g_t, g_t - g_e) / (B |E(g_t - g_e)|^2 + Tr Cov(g_t - g_e))

    The denominator knows nothing of mu, and the numerator lacks B <b_t, b_t - b_e>.

    Example:
        >>> from bvpo_analysis.exact import load_table
        >>> from bvpo_analysis.mixing import optimal_alpha
        >>> moments = load_table("style").moments
        >>> round(abs(weight_if_unbiased(moments, 16) - optimal_alpha(moments.population(16)).estimate.value), 6)
        0.0
    """
    law = moments.population(batch_size)
    distance = law.bias_diff_sq + law.var_diff
    return float(optimal_weight_from_distance(law.cov_t_diff, distance, law.var_t + law.var_e)[0])
