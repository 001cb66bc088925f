"""Can these importance weights be trusted? Effective sample sizes and Pareto tail shapes of the trace weights.

Averages over posterior traces are taken from traces of another law, with weights: reference-posterior traces stand in
for posterior traces of the policy with w = pi_theta(r, y | x) / pi_ref(r, y | x), and prior traces stand in for them
with w = pi(y | x, r). Two numbers judge a set of S weights.

The effective sample size ESS = (sum w)^2 / sum w^2 lies between 1 and S and goes to S / (1 + chi^2), with chi^2 the
variance of the normalised weights. At the reference its own posterior traces have equal weights, and ESS = S exactly.

The tail shape k-hat (arXiv 1507.02646) is that of a generalised Pareto law fitted to the largest min(S/5, 3 sqrt S)
weights. Moments of the weights of order below 1/k exist: above 1/2 the variance is infinite, above 1 the mean. With S
weights the estimate is of use up to min(1 - 1/log10 S, 0.7). The fit is that of Zhang and Stephens (Technometrics 51,
2009), with the shape pulled towards 1/2 by a prior that is worth ten draws.

Both look at the weights that were drawn. Where no draw hit the posterior they may look well.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import logsumexp, ndtri

from bvpo_analysis.moments.intervals import LEVEL, jackknife_estimate
from bvpo_analysis.records import SIDES, Estimate, Floats, Ints, PairLogProbs

FEWEST_DRAWS = 25
"""Draws from which a tail shape is fitted: a fifth of them must be five."""
LOW_ESS = 10.0
"""Effective sample size below which an average of weighted traces is flagged; draws below twice that count by share."""
HIGH_SHAPE = 0.7
"""Tail shape above which weights are not to be trusted at any sample size."""
FAILING_SHARE = 0.1
"""Share of prompts and sides with a failing weight set from which the flag becomes a warning."""

WeightSource = Literal["posterior", "prior"]
_PRIOR_SHAPE, _PRIOR_DRAWS, _PRIOR_SCALE = 0.5, 10, 3
"""Centre and weight of the prior on the shape; the width of the grid of Zhang and Stephens."""


@dataclass(frozen=True)
class TailShape:
    """The fitted tail of a set of weights.

    Attributes:
        khat: the shape; inf where a few weights exceed all others beyond floating point; nan where it cannot be had.
        threshold: min(1 - 1/log10 S, 0.7), up to which S weights are of use.
        tail: number of weights in the fitted tail; 0 where there is no fit.
        unavailable: why there is no fit; empty where there is one.
    """

    khat: float
    threshold: float
    tail: int
    unavailable: str = ""


@dataclass(frozen=True)
class WeightDiagnostics:
    """The weights of every prompt and side; n prompts, side 0 the chosen and side 1 the rejected answer.

    Attributes:
        source: "posterior" traces of the reference, or "prior" traces.
        prompt_ids: [n] prompts.
        draws: [n] S, draws per side; 0 where all traces are enumerated, and ESS is then a share of an infinite sample.
        ess_share: [n, 2] ESS / S; 1 / (1 + chi^2) where enumerated.
        khat: [n, 2] tail shapes; nan where not available.
        unavailable: why some tail shape is missing, one sentence; empty where none is.
    """

    source: WeightSource
    prompt_ids: tuple[str, ...]
    draws: Ints
    ess_share: Floats
    khat: Floats
    unavailable: str = ""

    @property
    def ess(self) -> Floats:
        """ESS, [n, 2]; nan where traces are enumerated."""
        return np.where(self.draws[:, None] > 0, self.ess_share * self.draws[:, None], np.nan)

    @property
    def chi_square(self) -> Floats:
        """S / ESS - 1, [n, 2]: the relative variance of the drawn weights, chi^2 itself where enumerated."""
        return 1.0 / self.ess_share - 1.0

    @property
    def low(self) -> np.ndarray:
        """[n, 2], whether the weights fail: ESS < 10; with fewer than 20 draws (or all) ESS / S < 1/2."""
        by_share = self.draws[:, None] < 2 * LOW_ESS
        return np.where(by_share, self.ess_share < 0.5, self.ess_share * self.draws[:, None] < LOW_ESS)


@dataclass(frozen=True)
class Flag:
    """One finding about the weights, and what to do about it.

    Attributes:
        level: "note" or "warning".
        text: a sentence or two.
    """

    level: Literal["note", "warning"]
    text: str


@dataclass(frozen=True)
class DiagnosticsSummary:
    """Weight diagnostics over prompts; shares count prompts and sides, their intervals take prompts as clusters.

    Attributes:
        source: which traces.
        prompts: number of prompts.
        draws: smallest and largest S; (0, 0) where enumerated.
        ess_share: ESS / S, mean over prompts and sides.
        ess_quantiles: 5, 25, 50, 75 and 95 % quantiles of ESS / S over prompts and sides.
        low_ess: share of weight sets with a low ESS (see :attr:`WeightDiagnostics.low`).
        high_khat: share of the weight sets with a fitted tail whose shape is above 0.7; None without any fit.
        unusable_khat: the same above the threshold min(1 - 1/log10 S, 0.7) of its sample size.
        khat_quantiles: 5, 25, 50, 75 and 95 % quantiles of the fitted shapes; None without any fit.
        flags: what is wrong, and what to do.
    """

    source: WeightSource
    prompts: int
    draws: tuple[int, int]
    ess_share: Estimate
    ess_quantiles: tuple[float, ...]
    low_ess: Estimate
    high_khat: Estimate | None
    unusable_khat: Estimate | None
    khat_quantiles: tuple[float, ...] | None
    flags: tuple[Flag, ...]


QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)


def khat_threshold(draws: int) -> float:
    """min(1 - 1/log10 S, 0.7): the largest tail shape at which S weights are of use (arXiv 1507.02646, section 3).

    Raises:
        ValueError: fewer than two draws.

    Example:
        >>> round(khat_threshold(100), 12), khat_threshold(10**6)
        (0.5, 0.7)
    """
    if draws < 2:
        raise ValueError(f"draws must be at least 2, got {draws}")
    return float(min(1.0 - 1.0 / np.log10(draws), HIGH_SHAPE))


def ess_share(log_weights: ArrayLike) -> float:
    """ESS / S = (sum w)^2 / (S sum w^2) of S log-weights: 1 for equal weights, 1/S if one has everything; [S].

    Raises:
        ValueError: no draws, or a log-weight that is not finite.

    Example:
        >>> ess_share([0.0, 0.0, -1e4, -1e4])
        0.5
    """
    logs = _checked(log_weights)
    return float(np.exp(2 * logsumexp(logs) - logsumexp(2 * logs)) / len(logs)) if np.ptp(logs) > 0 else 1.0


def tail_shape(log_weights: ArrayLike) -> TailShape:
    """PSIS k-hat of S log-weights; [S].

    The largest floor(min(S/5, 3 sqrt S)) weights, less the largest of the others, are fitted. There is no fit for fewer
    than 25 draws, nor where a quarter of the tail or more equals that cutoff, as with weights that take few values.

    Raises:
        ValueError: no draws, or a log-weight that is not finite.

    Example:
        >>> logs = 0.4 * np.random.default_rng(0).exponential(size=100_000)  # Pareto weights of shape 0.4
        >>> round(tail_shape(logs).khat, 2), tail_shape(logs).tail
        (0.42, 948)
        >>> tail_shape(np.zeros(100)).unavailable
        'all weights are equal, so that nothing is wrong with them'
    """
    logs = np.sort(_checked(log_weights))
    count = len(logs)
    if count < FEWEST_DRAWS:
        few = f"{count} draws per side, a tail shape needs {FEWEST_DRAWS}"
        return TailShape(np.nan, khat_threshold(max(count, 2)), 0, few)
    threshold = khat_threshold(count)
    if logs[0] == logs[-1]:
        return TailShape(np.nan, threshold, 0, "all weights are equal, so that nothing is wrong with them")
    size = int(3 * np.sqrt(count)) if count > 225 else count // 5
    tail, cutoff = logs[-size:], logs[-size - 1]
    quarter = int(size / 4 + 0.5) - 1
    if tail[quarter] == cutoff:
        return TailShape(np.nan, threshold, 0, "the weights take too few values for a tail to be fitted")
    weights = np.exp(tail - logs[-1])
    excess = weights - np.exp(cutoff - logs[-1])
    if not excess[quarter] > np.finfo(np.float64).tiny:
        return TailShape(np.inf, threshold, size)
    return TailShape(_pareto_shape(excess), threshold, size)


def weight_diagnostics(pairs: Sequence[PairLogProbs], source: WeightSource = "posterior") -> WeightDiagnostics:
    """The weights of every prompt and side.

    Args:
        pairs: log-probabilities; for "prior" with prior traces scored.
        source: "posterior": the reference-posterior draws, w = pi_theta(r, y | x) / pi_ref(r, y | x); "prior": the
            prior traces, w = pi(y | x, r).

    Raises:
        ValueError: no pairs; no prior traces were scored; some pairs are enumerated and others not.

    Example:
        >>> from bvpo_analysis.testing import toy_pair
        >>> weight_diagnostics([toy_pair()]).ess.tolist()
        [[2.0, 2.0]]
    """
    if not pairs:
        raise ValueError("no pairs to judge the weights of")
    if source == "prior" and any(len(pair.prior) == 0 for pair in pairs):
        raise ValueError("no prior traces were scored; score with prior=M")
    enumerated = source == "posterior" and pairs[0].enumerated
    if source == "posterior" and len({pair.enumerated for pair in pairs}) > 1:
        raise ValueError("some pairs are enumerated and others sampled; judge them apart")
    shares, shapes, reasons = np.empty((len(pairs), 2)), np.full((len(pairs), 2), np.nan), set()
    draws = np.zeros(len(pairs), dtype=np.int64)
    for i, pair in enumerate(pairs):
        if not enumerated:
            draws[i] = len(pair.prior if source == "prior" else pair.draws)
        for side in range(len(SIDES)):
            if enumerated:
                shares[i, side] = _enumerated_share(pair, side)
                continue
            logs = _log_weights(pair, source, side)
            shares[i, side] = ess_share(logs)
            shape = tail_shape(logs)
            shapes[i, side] = shape.khat
            reasons.add(shape.unavailable)
    missing = "" if enumerated else ", or ".join(sorted(reasons - {""}))
    return WeightDiagnostics(source, tuple(pair.prompt_id for pair in pairs), draws, shares, shapes, missing)


def summarise_weights(diagnostics: WeightDiagnostics) -> DiagnosticsSummary:
    """Quantiles, shares of failing weight sets with intervals over prompts, and flags.

    Shares of failing sets have Wilson's interval for as many independent sets as give the standard error over prompts
    (JASA 22, 1927); without any spread, for as many as there are prompts: no failure among n prompts does not mean that
    none can fail. The mean of ESS / S has value +- t SE over prompts, cut to [0, 1]. With fewer than four prompts there
    is no interval (nan).

    Example:
        >>> from bvpo_analysis.testing import toy_pair
        >>> summary = summarise_weights(weight_diagnostics([toy_pair()] * 4))
        >>> summary.ess_share.value, summary.low_ess.value, summary.high_khat
        (1.0, 0.0, None)
    """
    d = diagnostics
    fitted = ~np.isnan(d.khat)
    thresholds = np.array([khat_threshold(max(int(s), 2)) for s in d.draws])[:, None]
    quantiles = tuple(float(q) for q in np.quantile(d.ess_share, QUANTILES))
    shapes = d.khat[fitted]
    # Quantiles are taken by rank, because a shape may be infinite.
    ranked = np.quantile(shapes, QUANTILES, method="inverted_cdf") if len(shapes) else None
    low = _failing_share(d.low, np.ones_like(fitted))
    if (d.ess_share == 1.0).all():
        low = Estimate.exact(0.0, len(d.prompt_ids))  # equal weights, as posterior traces have at the reference
    high = _failing_share(d.khat > HIGH_SHAPE, fitted) if len(shapes) else None
    unusable = _failing_share(d.khat > thresholds, fitted) if len(shapes) else None
    return DiagnosticsSummary(
        source=d.source,
        prompts=len(d.prompt_ids),
        draws=(int(d.draws.min()), int(d.draws.max())),
        ess_share=_mean_share(d.ess_share, np.ones_like(fitted)),
        ess_quantiles=quantiles,
        low_ess=low,
        high_khat=high,
        unusable_khat=unusable,
        khat_quantiles=None if ranked is None else tuple(float(q) for q in ranked),
        flags=_flags(d, low.value, None if high is None else high.value),
    )


def _flags(d: WeightDiagnostics, low: float, high: float | None) -> tuple[Flag, ...]:
    remedy = {
        "posterior": "Take traces from the policy as it is now, or more traces per answer with the jackknife or "
        "randomised marginal estimator, and do not read the marginal target off these weights.",
        "prior": "The pooled estimator stays unbiased at the reference but gains little over one trace; an estimate "
        "from prior traces alone is not to be trusted. Propose traces that know the answer instead.",
    }[d.source]
    kind = f"{d.source} traces"
    flags = []
    if low > 0:
        rule = "an effective sample size below 10" if d.draws.min() >= 2 * LOW_ESS else "an ESS below half the draws"
        rule = "a limiting ESS below half the draws" if d.draws.max() == 0 else rule
        level: Literal["note", "warning"] = "warning" if low > FAILING_SHARE else "note"
        flags.append(Flag(level, f"{low:.0%} of the weight sets of {kind} have {rule}. {remedy}"))
    if high is not None and high > 0:
        level = "warning" if high > FAILING_SHARE else "note"
        flags.append(Flag(level, f"{high:.0%} of the weight sets of {kind} have a tail shape above 0.7. {remedy}"))
    if d.unavailable:
        flags.append(Flag("note", f"No tail shape for some or all weight sets of {kind}: {d.unavailable}."))
    return tuple(flags)


def _mean_share(values: np.ndarray, counted: np.ndarray) -> Estimate:
    """Mean of the counted values [n, 2], with the standard error of a ratio of sums over prompts."""
    tops, bottoms = np.where(counted, values, 0.0).sum(axis=1), counted.sum(axis=1)
    n, value = len(tops), float(tops.sum() / bottoms.sum())
    if n < 4:
        return Estimate(value, np.nan, np.nan, np.nan, n, "degenerate")
    # Delete-one ratios; a deletion that leaves nothing to count cannot occur with at least two counted prompts.
    left_bottom = bottoms.sum() - bottoms
    if not (left_bottom > 0).all():
        return Estimate(value, np.nan, 0.0, 1.0, n, "degenerate")
    raw = jackknife_estimate(np.concatenate([[value], (tops.sum() - tops) / left_bottom]))
    return Estimate(value, raw.se, max(raw.ci_low, 0.0), min(raw.ci_high, 1.0), n, raw.method)


def _failing_share(fails: np.ndarray, counted: np.ndarray) -> Estimate:
    """Share of the counted sets that fail, [n, 2] each, with Wilson's interval; clusters are prompts."""
    found = _mean_share(fails, counted)
    if found.method == "degenerate":
        return found
    p, z = found.value, float(ndtri(0.5 + LEVEL / 2))
    size = p * (1 - p) / found.se**2 if found.se > 0 else float(counted.any(axis=1).sum())
    centre, half = p + z * z / (2 * size), z * float(np.sqrt(p * (1 - p) / size + z * z / (4 * size**2)))
    ends = np.clip(np.array([centre - half, centre + half]) / (1 + z * z / size), 0.0, 1.0)
    return Estimate(p, found.se, float(ends[0]), float(ends[1]), found.n, "wilson")


def _log_weights(pair: PairLogProbs, source: WeightSource, side: int) -> Floats:
    if source == "prior":
        return pair.log_prob_answer[pair.prior[:, side]]
    rows = pair.draws[:, side]
    return pair.log_prob[rows] - pair.log_prob_ref[rows]


def _enumerated_share(pair: PairLogProbs, side: int) -> float:
    """1 / (1 + chi^2) of the enumerated reference posterior of one side."""
    rows = pair.support[side]
    reference = pair.log_prob_ref[rows] - logsumexp(pair.log_prob_ref[rows])
    logs = pair.log_prob[rows] - pair.log_prob_ref[rows]
    return float(np.exp(2 * logsumexp(reference + logs) - logsumexp(reference + 2 * logs)))


def _pareto_shape(excess: Floats) -> float:
    """Shape of a generalised Pareto law fitted to sorted positive excesses [T], pulled towards 1/2.

    With b = -shape / scale the profile likelihood depends on b alone; its mean under the data-dependent prior of Zhang
    and Stephens, on a grid, gives b and with it the shape (their k has the other sign).
    """
    n = len(excess)
    grid = 30 + int(np.sqrt(n))
    b = 1.0 - np.sqrt(grid / (np.arange(1, grid + 1) - 0.5))
    b = b / (_PRIOR_SCALE * excess[int(n / 4 + 0.5) - 1]) + 1.0 / excess[-1]
    shape = np.log1p(-b[:, None] * excess).mean(axis=1)
    log_likelihood = n * (np.log(-b / shape) - shape - 1.0)
    weights = np.exp(log_likelihood - logsumexp(log_likelihood))
    kept = weights >= 10 * np.finfo(np.float64).eps
    mean = float((b[kept] * weights[kept]).sum() / weights[kept].sum())
    fitted = float(np.log1p(-mean * excess).mean())
    return (n * fitted + _PRIOR_DRAWS * _PRIOR_SHAPE) / (n + _PRIOR_DRAWS)


def _checked(log_weights: ArrayLike) -> Floats:
    logs = np.asarray(log_weights, dtype=np.float64)
    if logs.ndim != 1 or len(logs) == 0 or not np.isfinite(logs).all():
        raise ValueError(f"log-weights must be finite numbers [S] with S >= 1, got shape {logs.shape}")
    return logs
