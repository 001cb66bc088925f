"""A study off the reference from sampled traces: the marginal gradient is estimated from the same K traces per answer.

The target is the delete-one jackknife of the K-trace marginal gradient, whose bias is O(1/K^2); the plug-in, with bias
O(1/K), is taken beside it. What the two differ by is the bias that the jackknife removes, and so tells whether K traces
are enough. Losses with a reference only (DPO, IPO).
"""

from collections.abc import Callable
from dataclasses import dataclass, fields

from bvpo_analysis import mixing
from bvpo_analysis.errors import InputError
from bvpo_analysis.estimators import EmptyTrace, Estimator, JackknifeMarginal, KMarginal, Trace, totals_of
from bvpo_analysis.moments import JointMoments, Moments, joint_moments, score_estimate
from bvpo_analysis.moments.diagnostics import DiagnosticsSummary, Flag, summarise_weights, weight_diagnostics
from bvpo_analysis.objectives import Objective
from bvpo_analysis.records import Alpha, Estimate, Floats, PairLogProbs, ScoreSet

LARGEST_CORRECTION = 0.5
"""Correction by the jackknife, in standard errors, above which K traces are called too few.

A bias of half a standard error lowers the coverage of a 95 % interval to 92 %."""

LEAST_SHARE = 2 / 3
"""Mean ESS / K below which |b_t|^2 is not to be read off the traces, however many there are.

On the model in the box (see ``measured``) intervals of |b_t|^2 from the jackknife target keep at least 94 % where the
mean drawn share is 0.69 or more, and miss up to a third where it is 0.57 to 0.66: what the drawn weights show is too
good there, since traces that the reference hardly ever draws carry much of the policy's posterior."""


def off_reference_estimators(objective: Objective, traces: int) -> dict[str, Estimator]:
    """g_t, g_e and the two estimates of the target, by name.

    Raises:
        InputError: fewer than two traces, which leave nothing to leave out.

    Example:
        >>> from bvpo_analysis.objectives import DPO
        >>> list(off_reference_estimators(DPO(), 4))
        ['trace', 'empty', 'plug-in', 'jackknife']
    """
    if traces < 2:
        raise InputError(
            f"off the reference the target is estimated from two or more traces per answer, got --traces {traces}; "
            "sample more, or use --traces exact where traces can be enumerated"
        )
    return {
        "trace": Trace(objective),
        "empty": EmptyTrace(objective),
        "plug-in": KMarginal(objective, traces),
        "jackknife": JackknifeMarginal(objective, traces),
    }


def off_reference_totals(objective: Objective, traces: int) -> dict[str, Callable[[PairLogProbs], Floats]]:
    """What a scoring pass must accumulate for :func:`estimate_off_reference`; see ``estimators.totals_of``."""
    return totals_of(*off_reference_estimators(objective, traces).values())


@dataclass(frozen=True)
class OffReferenceEstimate:
    """What K traces per answer say off the reference.

    Attributes:
        traces: K.
        joint: moments of g_t and g_e ("trace", "empty") against the jackknife target.
        plug_in: the same against the plug-in target.
        weights: effective sample size of the traces under the current policy.
    """

    traces: int
    joint: JointMoments
    plug_in: JointMoments
    weights: DiagnosticsSummary

    def alpha(self, batch_size: float = 16, kappa: float = 1.0) -> Alpha:
        """The optimal mixing weight (M3)."""
        return mixing.optimal_alpha(self.joint.law("trace", "empty", batch_size), kappa)

    @property
    def moments(self) -> Moments:
        """The moments of (g_t, g_e) against the jackknife target; g_e has no trace noise."""
        pair = self.joint.pair("trace", "empty")
        return Moments(**{field.name: getattr(pair, field.name) for field in fields(Moments)})

    @property
    def bias_t_sq(self) -> Estimate:
        """|b_t|^2 of the population."""
        return squared_bias(self.joint, "trace")

    @property
    def bias_e_sq(self) -> Estimate:
        """|b_e|^2 of the population."""
        return squared_bias(self.joint, "empty")

    def flags(self, batch_size: float = 16) -> tuple[Flag, ...]:
        """What is not to be trusted, and what to do; B is that of the weight whose correction is judged."""
        laws = [found.law("trace", "empty", batch_size) for found in (self.joint, self.plug_in)]
        corrected, raw = (mixing.optimal_alpha(law).estimate for law in laws)
        found = [
            *self.weights.flags,
            coverage_flag(self.weights.ess_share.value),
            correction_flag("|b_t|^2", self.bias_t_sq, squared_bias(self.plug_in, "trace"), self.traces),
            correction_flag("|b_e|^2", self.bias_e_sq, squared_bias(self.plug_in, "empty"), self.traces),
            correction_flag(f"alpha* at B = {batch_size:g}", corrected, raw, self.traces),
        ]
        return tuple(flag for flag in found if flag is not None)


def estimate_off_reference(
    scores: ScoreSet, objective: Objective, traces: int, *, group: str | None = None
) -> OffReferenceEstimate:
    """Moments against the estimated marginal gradient, and how far they can be trusted.

    Args:
        scores: K reference-posterior traces per answer with the totals of :func:`off_reference_totals`, the model's
            log-probabilities and those of its reference.
        objective: the loss.
        traces: K.
        group: restrict every inner product to this parameter group.

    Raises:
        InputError: fewer than two traces.
        ValueError: totals of other estimators, or fewer than four prompts.
    """
    estimators = off_reference_estimators(objective, traces)

    def against(target: str, order: str) -> JointMoments:
        chosen = {name: estimators[name] for name in ("trace", "empty", target)}
        return joint_moments(scores, chosen, target=target, unbiased=(), target_bias=order, group=group)

    return OffReferenceEstimate(
        traces,
        joint=against("jackknife", "O(1/K^2)"),
        plug_in=against("plug-in", "O(1/K)"),
        weights=summarise_weights(weight_diagnostics([pair.log_probs for pair in scores.pairs])),
    )


def squared_bias(joint: JointMoments, name: str) -> Estimate:
    """|b|^2 of an estimator against the target, with the interval that takes its variance at every hypothesis."""
    pair = joint.pair(joint.target, name)
    return score_estimate(pair.bias_e_sq, pair.bias_noise)


def coverage_flag(ess_share: float) -> Flag | None:
    """A warning where the traces of the reference hardly cover the policy's posterior, else None.

    More traces do not help: the estimate settles on a value that lacks what is never drawn, with a narrower interval.

    Example:
        >>> coverage_flag(0.9) is None, coverage_flag(0.5).level
        (True, 'warning')
    """
    if ess_share >= LEAST_SHARE:
        return None
    return Flag(
        "warning",
        f"Of the traces of the data {ess_share:.0%} count under the current policy, on average: some that matter now "
        "are hardly ever drawn from the reference. |b_t|^2 is then too small, and more so beside its interval the more "
        "traces there are; |b_e|^2 and alpha* suffer less. Take traces from the current policy.",
    )


def correction_flag(name: str, corrected: Estimate, raw: Estimate, traces: int) -> Flag | None:
    """A warning where the jackknife moves a number by more than half of its standard error, else None.

    Example:
        >>> number = Estimate(1.0, 0.1, 0.8, 1.2, 64, "jackknife")
        >>> correction_flag("|b_t|^2", number, Estimate(0.9, 0.1, 0.7, 1.1, 64, "jackknife"), 4).level
        'warning'
        >>> correction_flag("|b_t|^2", number, number, 4) is None
        True
    """
    moved = abs(corrected.value - raw.value)
    if not moved > LARGEST_CORRECTION * corrected.se:
        return None
    size = moved / corrected.se if corrected.se > 0 else float("inf")
    return Flag(
        "warning",
        f"{name}: the jackknife corrects the estimate from {traces} traces per answer by {size:.1f} standard errors. "
        f"What it cannot correct, of order 1/{traces}^2, may matter too. Take twice as many traces, or traces from the "
        "current policy.",
    )
