"""How many prompts and traces an interval of alpha* of a given width needs, from a pilot study.

To first order alpha-hat - alpha* is the mean over prompts of an influence h_i = a_i + (noise of its K traces), so

    Var(alpha-hat at n prompts, K traces) = (V_data + V_trace / K) / n + V_pairs / n^2,

the last the degenerate part of the U-statistics, which matters where the squared bias is small. From a pilot:

    V_trace             K/4 times the variance of h'_i - h''_i, with h' and h'' the influences when only the first or
                        only the second half of the draws is used
    V_data + V_trace/K  the variance of h_i, less 2 V_pairs / n, what the estimated means in h_i add
    V_pairs             2 mean_{i != j} psi_ij^2, psi the centred kernel of the quadratic part, from sketches

V_pairs is that of the pilot's K; with more traces it is smaller, so the prediction for more traces is on the safe side.
A pilot determines its own answer no better than it determines a variance: the relative error of a width from n prompts
is about 1/sqrt(2 n) for normal influences and more for heavy tails. It comes as an interval, by the jackknife.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import final

import numpy as np
from scipy import stats

from bvpo_analysis.estimators.base import Estimator, Needs
from bvpo_analysis.moments.intervals import LEVEL, jackknife_estimate
from bvpo_analysis.moments.joint import JointMoments, joint_moments
from bvpo_analysis.records import Estimate, Floats, PairLogProbs, ScoreSet


@final
@dataclass(frozen=True)
class DrawsOf(Estimator):
    """An estimator that sees only the draws start .. stop - 1 of every pair.

    Example:
        >>> from bvpo_analysis.estimators import Trace
        >>> from bvpo_analysis.objectives import DPO
        >>> from bvpo_analysis.testing import toy_pair
        >>> DrawsOf(Trace(DPO(2.0)), 1, 2).coefficients(toy_pair())
        array([[ 0., -1.,  0.,  1.,  0.,  0.]])
    """

    estimator: Estimator
    start: int
    stop: int

    def coefficients(self, pair: PairLogProbs) -> Floats:
        """Rows of the estimator on these draws."""
        return self.estimator.coefficients(self._part(pair))

    def weights(self, pair: PairLogProbs) -> Floats:
        """Weights of the estimator on these draws."""
        return self.estimator.weights(self._part(pair))

    @property
    def needs(self) -> Needs:
        """What the estimator needs, sampled."""
        return replace(self.estimator.needs, draws="sampled")

    @property
    def independent(self) -> bool:
        """As the estimator's."""
        return self.estimator.independent

    def _part(self, pair: PairLogProbs) -> PairLogProbs:
        draws = pair.draws[self.start : self.stop]
        return replace(pair, draws=draws, weights=np.full(len(draws), 1.0 / max(len(draws), 1)))


def halves(trace: Estimator, traces: int) -> tuple[DrawsOf, DrawsOf]:
    """The first and the second half of the draws, whose totals a pilot needs beside those of ``trace``.

    Raises:
        ValueError: an odd number of traces, or none.

    Example:
        >>> from bvpo_analysis.estimators import Trace
        >>> from bvpo_analysis.objectives import DPO
        >>> [(half.start, half.stop) for half in halves(Trace(DPO(0.1)), 4)]
        [(0, 2), (2, 4)]
    """
    if traces < 2 or traces % 2:
        raise ValueError(f"an even number of traces is needed to halve them, got {traces}")
    return DrawsOf(trace, 0, traces // 2), DrawsOf(trace, traces // 2, traces)


@dataclass(frozen=True)
class Pilot:
    """A pilot of n prompts with K traces, as far as the variance of alpha-hat = 1 - N/D is concerned.

    Attributes:
        prompts, traces: n and K.
        numerator, distance: [n + 1] N and D with their leave-one-out values.
        influences: [n, 2] influences of N and D.
        half_differences: [n, 2] influences on the first half of the draws less those on the second; None where the
            halves were not scored or K = 1, and then only the pilot's own K can be predicted.
        kernel: [2, 2] mean_{i != j} of the products of the centred kernels of N and D.
    """

    prompts: int
    traces: int
    numerator: Floats
    distance: Floats
    influences: Floats
    half_differences: Floats | None
    kernel: Floats

    @property
    def alpha(self) -> float:
        """The pilot's weight for one trace per step."""
        return float(1 - self.numerator[0] / self.distance[0])

    @property
    def clear(self) -> bool:
        """Whether the first-order part stands out from what the estimated means add to it.

        If not, as where the squared bias is within its noise, it may be estimated as zero; predicted widths are then
        lower bounds, too small by up to a third in a trial.
        """
        linear, _, pairs = _components(self)
        return bool(linear[0] > 2 * pairs[0] / self.prompts)

    def components(self) -> "VarianceComponents":
        """V_data, V_trace and V_pairs."""
        linear, trace, pairs = (float(x[0]) for x in _components(self))
        if self.half_differences is None:
            return VarianceComponents(max(linear, 0.0), None, pairs)
        return VarianceComponents(max(linear - trace / self.traces, 0.0), trace, pairs)


@dataclass(frozen=True)
class VarianceComponents:
    """Parts of Var(alpha-hat) = (data + trace / K) / n + pairs / n^2.

    Attributes:
        data, trace: of one prompt and of one trace; ``trace`` is None where the pilot does not separate it, and then
            ``data`` holds both at the pilot's K.
        pairs: of the degenerate part, at the pilot's K.
    """

    data: float
    trace: float | None
    pairs: float


@dataclass(frozen=True)
class SampleSize:
    """Prompts for an interval of a wanted width.

    Attributes:
        traces: traces per answer.
        prompts: smallest number that the pilot's point estimate allows.
        low, high: the same at the ends of the interval of the predicted width.
    """

    traces: int
    prompts: int
    low: int
    high: int


def alpha_pilot(
    scores: ScoreSet,
    trace: Estimator,
    empty: Estimator,
    *,
    batch_size: float,
    kappa: float = 1.0,
    group: str | None = None,
) -> Pilot:
    """What a pilot says of the variance of alpha-hat, for a batch of B prompts with one trace, at the reference.

    Args:
        scores: a pilot's inner products, with the totals of ``trace``, ``empty`` and, for the part of the traces, both
            :func:`halves` of ``trace``.
        trace: the unbiased estimator.
        empty: the other one.
        batch_size: B.
        kappa: weight of the variance.
        group: restrict to this parameter group.

    Raises:
        ValueError: fewer than eight prompts, or :func:`joint_moments` raises.
    """
    n, k = len(scores), len(scores.pairs[0].log_probs.draws)
    if n < 8:
        raise ValueError(f"a pilot needs at least eight prompts to estimate a variance, got {n}")
    parts: Sequence[Estimator] = halves(trace, k) if k >= 2 and k % 2 == 0 else ()
    parts = [part for part in parts if repr(part) in scores.totals]
    names = {"trace": trace, "empty": empty, **{f"half_{i}": part for i, part in enumerate(parts)}}
    joint = joint_moments(scores, names, target="trace", unbiased=tuple(names)[2:], group=group)
    numerator, distance, influences = _influences(joint, "trace", batch_size, kappa)
    kernel = _kernel(joint, batch_size, kappa)
    differences = None
    if len(parts) == 2:
        first, second = (_influences(joint, f"half_{i}", batch_size, kappa)[2] for i in (0, 1))
        differences = first - second
    return Pilot(n, k, numerator, distance, influences, differences, kernel)


def predicted_width(pilot: Pilot, prompts: int, traces: int | None = None) -> Estimate:
    """The width 2 t SE of the interval of alpha* that n prompts with K traces would give, with its own interval.

    Args:
        pilot: from :func:`alpha_pilot`.
        prompts: n.
        traces: K; that of the pilot by default.

    Raises:
        ValueError: fewer than four prompts, or another K where the pilot has no part of the traces.
    """
    k = pilot.traces if traces is None else traces
    if prompts < 4 or k < 1:
        raise ValueError(f"at least four prompts and one trace are needed for an interval, got {prompts} and {k}")
    if k != pilot.traces and pilot.half_differences is None:
        raise ValueError(
            f"the pilot does not separate the noise of traces, so only traces={pilot.traces} can be predicted; score a "
            "pilot with an even number of traces and the totals of both halves of its draws"
        )
    linear, trace, pairs = _components(pilot)
    linear = np.maximum(linear + (1 / k - 1 / pilot.traces) * trace, trace / k if k != pilot.traces else 0.0)
    variance = np.maximum(linear / prompts + pairs / prompts**2, np.finfo(float).tiny)
    width = 2 * float(stats.t.ppf(0.5 + LEVEL / 2, prompts - 1)) * float(np.sqrt(variance[0]))
    se = jackknife_estimate(0.5 * np.log(variance)).se
    spread = np.exp(min(float(stats.t.ppf(0.5 + LEVEL / 2, pilot.prompts - 1)) * se, 100.0))
    return Estimate(width, width * se, width / spread, width * spread, pilot.prompts, "log-jackknife")


def prompts_for_width(pilot: Pilot, width: float, traces: int | None = None, *, largest: int = 10**7) -> SampleSize:
    """The fewest prompts whose predicted interval of alpha* is no wider than ``width``.

    Raises:
        ValueError: the width is not positive, more than ``largest`` prompts would be needed, or
            :func:`predicted_width` raises.
    """
    if not width > 0:
        raise ValueError(f"width must be positive, got {width}")
    k = pilot.traces if traces is None else traces

    def fewest(which: str) -> int:
        low, high = 4, 4
        while getattr(predicted_width(pilot, high, k), which) > width:
            low, high = high, 2 * high
            if high > largest:
                raise ValueError(f"more than {largest} prompts would be needed for a width of {width:g}")
        while high - low > 1:
            middle = (low + high) // 2
            if getattr(predicted_width(pilot, middle, k), which) > width:
                low = middle
            else:
                high = middle
        return high

    return SampleSize(k, fewest("value"), fewest("ci_low"), fewest("ci_high"))


def _components(pilot: Pilot) -> tuple[Floats, Floats, Floats]:
    """V_data + V_trace / K, V_trace and V_pairs, [n + 1] each: of the pilot, then without each of its prompts."""
    n = pilot.prompts
    slope = np.stack([-np.ones(n + 1), pilot.numerator / pilot.distance], axis=1) / pilot.distance[:, None]
    pairs = 2 * np.einsum("la,ab,lb->l", slope, pilot.kernel, slope)

    def mean(influences: Floats) -> Floats:
        squares = (slope @ influences.T) ** 2
        whole = squares.sum(axis=1)
        left = whole - np.concatenate([[0.0], np.diagonal(squares[1:])])
        return np.asarray(left / np.concatenate([[n - 1.0], np.full(n, n - 2.0)]))

    linear = mean(pilot.influences) - 2 * pairs / n
    if pilot.half_differences is None:
        return linear, np.zeros(n + 1), pairs
    return linear, pilot.traces / 4 * mean(pilot.half_differences), pairs


def _influences(joint: JointMoments, name: str, batch_size: float, kappa: float) -> tuple[Floats, Floats, Floats]:
    """N and D with leave-one-out values [n + 1], and their influences [n, 2].

    D takes the positive part of the squared bias; its influence does not, since the noise has either sign.
    """
    law = joint.law(name, "empty", batch_size)
    numerator = law.bias_t_diff + kappa * law.cov_t_diff
    rest = kappa * law.var_diff
    raw = np.stack([numerator, law.bias_diff_sq + rest], axis=1)
    influences = (joint.n - 1) * (raw[0] - raw[1:])
    return numerator, np.maximum(law.bias_diff_sq, 0.0) + rest, influences - influences.mean(axis=0)


def _kernel(joint: JointMoments, batch_size: float, kappa: float) -> Floats:
    """Mean products [2, 2] over pairs of different prompts of the centred quadratic parts of N and D."""
    t, e = (joint.products.sketches[:, joint.index(name)] for name in ("trace", "empty"))
    d, share = t - e, kappa / batch_size
    cross = t @ d.T
    n = len(d)
    off = 1 - np.eye(n)
    centred = []
    for part in (-share * (cross + cross.T) / 2, (1 - share) * (d @ d.T)):
        rows = (part * off).sum(axis=1) / (n - 1)
        centred.append((part - rows[:, None] - rows[None, :] + rows.mean()) * off)
    return np.array([[float((x * y).sum()) for x in centred] for y in centred]) / (n * (n - 1))
