"""Predicted against realised order of the weights: rank correlations, the best weight, and how sure both are.

Which weight of a sweep came out best depends on the runs and on the prompts that judged them, so both are drawn again:
a bootstrap over seeds and over prompts or held-out pairs, each with replacement and independent of the other.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.special import ndtri, stdtrit
from scipy.stats import rankdata

from bvpo_analysis.records import Estimate, Floats
from bvpo_analysis.training_study.arms import WEIGHTS
from bvpo_analysis.training_study.predictions import Prediction
from bvpo_analysis.training_study.rows import Row, estimate_columns
from bvpo_analysis.training_study.summaries import FEWEST_RUNS, ArmRuns, Each, at_end, held_out

OUTCOMES: dict[str, str] = {
    "marginal_loss": "held-out marginal loss",
    "win_rate_thinking": "win rate, thinking",
    "win_rate_empty": "win rate, empty trace",
}
"""What weights of the sweep are ranked by after training; losses are better low, win rates high."""
DRAWS = 2000
"""Draws of the bootstrap."""


def outcome(name: str) -> Each:
    """An outcome of every prompt or pair, lower is better.

    Example:
        >>> outcome("marginal_loss")({"held_out": {"marginal_loss": [0.5, 0.7]}})
        array([0.5, 0.7])
    """
    if name == "marginal_loss":
        return held_out(name)
    won = at_end(name.removeprefix("win_rate_"), "won")
    return lambda run: -won(run)


def sweep_of(arms: Sequence[ArmRuns], regime: str, optimiser: str) -> dict[float, ArmRuns]:
    """The arms of a sweep by weight; only those that are there."""
    prefix = "alpha=" if optimiser == "sgd" else f"{optimiser}, alpha="
    named = {arm.name: arm for arm in arms if arm.regime == regime and arm.runs}
    return {alpha: named[f"{prefix}{alpha:g}"] for alpha in WEIGHTS if f"{prefix}{alpha:g}" in named}


@dataclass(frozen=True)
class Agreement:
    """How a prediction ranks the weights.

    Attributes:
        correlation: Spearman's coefficient of prediction and outcome, mean over seeds; None where no outcome differs.
            Its interval has the percentiles of the draws.
        best: index of the weight with the best outcome.
        best_in_seeds: seeds in which it is the best.
        best_share: share of the draws in which it is the best; nan with fewer than three seeds.
        price: by how much the outcome at the weight predicted best is worse than at the best weight; a little too
            large, since the best of several means looks better than it is. Its interval is simultaneous over the
            weights it may have lost to (multiple comparisons with the best).
    """

    correlation: Estimate | None
    best: int
    best_in_seeds: int
    best_share: float
    price: Estimate


def agreement(scores: Sequence[float], outcomes: Floats, *, draws: int = DRAWS, seed: int = 0) -> Agreement:
    """Rank the weights by a prediction and by outcomes.

    Args:
        scores: [W] of the prediction, lower is better.
        outcomes: [W, S, n] per weight, seed, and prompt or pair, lower is better.
        draws, seed: of the bootstrap.

    Example:
        >>> rng = np.random.default_rng(0)
        >>> outcomes = np.array([0.0, 1.0, 2.0])[:, None, None] + 0.1 * rng.normal(size=(3, 5, 40))
        >>> found = agreement([1.0, 2.0, 3.0], outcomes)
        >>> print(found.correlation, found.best, found.best_in_seeds, found.best_share)
        1 [1, 1] 0 5 1.0
    """
    means = outcomes.mean(axis=2)
    per_seed = np.array([rank_correlation(scores, row) for row in means.T])
    known = bool(np.isfinite(per_seed).any())
    # Outcomes that do not differ agree with no order.
    value = float(np.nan_to_num(per_seed).mean())
    mean = means.mean(axis=1)
    best, chosen = int(np.argmin(mean)), int(np.argmin(scores))
    in_seeds = sum(int(np.argmin(row)) == best for row in means.T)
    cost = float(mean[chosen] - mean[best])
    seeds, units = outcomes.shape[1:]
    if seeds < FEWEST_RUNS:
        correlation = Estimate.without_interval(value, seeds) if known else None
        return Agreement(correlation, best, in_seeds, float("nan"), Estimate.without_interval(cost, seeds))
    rng = np.random.default_rng(seed)
    runs, weights = resampling_weights(rng, seeds, draws), resampling_weights(rng, units, draws)
    # [draws, S, W]; rounded, so that outcomes which tie still do.
    drawn = np.round(np.einsum("wsn,dn->dsw", outcomes, weights), 12)
    ranks = rankdata(drawn, axis=2) - (len(scores) + 1) / 2
    wanted = rankdata(scores) - (len(scores) + 1) / 2
    sizes = np.sqrt(np.square(ranks).sum(axis=2) * np.square(wanted).sum())
    each = np.divide(ranks @ wanted, sizes, out=np.zeros_like(sizes), where=sizes > 0)
    correlations = np.clip(np.round((runs * each).sum(axis=1), 12), -1.0, 1.0)
    low, high = (float(x) for x in np.quantile(correlations, (0.025, 0.975)))
    spread = float(correlations.std(ddof=1))
    ends = min(low, value), max(high, value)
    correlation = Estimate(value, spread, *ends, seeds, "bootstrap-percentile") if known else None
    over_runs = np.einsum("ds,dsw->dw", runs, drawn)
    share = float(np.mean(np.argmin(over_runs, axis=1) == best))
    gaps = (over_runs[:, [chosen]] - over_runs) - (mean[chosen] - mean)
    margin = float(np.quantile(np.abs(gaps).max(axis=1), 0.95))
    price = Estimate(cost, margin / 2, max(cost - margin, 0.0), cost + margin, seeds, "bootstrap-percentile")
    return Agreement(correlation, best, in_seeds, share, price)


def resampling_weights(rng: np.random.Generator, count: int, draws: int) -> Floats:
    """Weights of a bootstrap over ``count`` units, [draws, count], that sum to one.

    Stretched about 1/count by sqrt(n/(n - 1)) and by the ratio of the t to the normal quantile, so that a mean has the
    width of its t interval: plain weights of five units are too even by a third.
    """
    stretch = float(stdtrit(count - 1, 0.975) / ndtri(0.975)) * np.sqrt(count / (count - 1))
    plain = rng.multinomial(count, np.full(count, 1 / count), size=draws) / count
    return np.asarray(1 / count + stretch * (plain - 1 / count))


def rankings(arms: Sequence[ArmRuns], predicted: Sequence[Prediction]) -> list[Row]:
    """One row per prediction and outcome: both best weights, the rank correlation, and what the prediction costs."""
    rows = []
    for p in predicted:
        found = sweep_of(arms, p.regime, p.optimiser)
        if len(found) < len(WEIGHTS):
            continue
        shared = sorted(set.intersection(*(set(arm.runs) for arm in found.values())))
        if not shared:
            continue
        for name in OUTCOMES:
            each = outcome(name)
            outcomes = np.array([[each(found[alpha].runs[seed]) for seed in shared] for alpha in WEIGHTS])
            ranked = agreement(p.scores, outcomes)
            chosen, best = WEIGHTS[int(np.argmin(p.scores))], WEIGHTS[ranked.best]
            row: dict[str, Any] = {
                "regime": p.regime,
                "optimiser": p.optimiser,
                "source": p.source,
                "criterion": p.criterion,
                "outcome": name,
                "seeds": len(shared),
                "predicted_alpha": p.alpha.value,
                "predicted_low": p.alpha.ci_low,
                "predicted_high": p.alpha.ci_high,
                "predicted_best": chosen,
                "realised_best": best,
                "best_in_seeds": ranked.best_in_seeds,
                "best_share": ranked.best_share,
            }
            row |= estimate_columns("spearman", ranked.correlation)
            rows.append(row | estimate_columns("price", ranked.price))
    return rows


def rank_correlation(first: Sequence[float] | Floats, second: Sequence[float] | Floats) -> float:
    """Spearman's coefficient, with mean ranks for ties; nan where one side is constant.

    Example:
        >>> rank_correlation([1.0, 2.0, 3.0], [2.0, 4.0, 9.0]), rank_correlation([1.0, 2.0], [5.0, 3.0])
        (1.0, -1.0)
    """
    x, y = (rankdata(np.asarray(v, dtype=np.float64)) for v in (first, second))
    x, y = x - x.mean(), y - y.mean()
    size = float(np.sqrt((x @ x) * (y @ y)))
    return round(float(x @ y) / size, 12) if size > 0 else float("nan")
