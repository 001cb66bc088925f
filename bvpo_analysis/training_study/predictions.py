"""What the analysis says before the first step: weights for this batch size and step size, and a ranking of the sweep.

Two sources, both of the pairs that will be trained on: with their sampled traces, as any user has them, and with every
trace enumerated. In either case the prompts are a sample, and intervals are over prompts. Five weights, each the best
for another question:

    mse        least E|g_c - mu|^2 of one batch, kappa = 1 (Theorem 4 of the paper)
    kappa      least |b_c|^2 + kappa Tr Cov(g_c), kappa = eta L with the curvature measured at the reference
    descent    least bound on the loss after one step, no term dropped (``theory.descent_bound``)
    cosine     largest cosine to mu: for optimisers that rescale their steps
    data       least MSE of a batch of as many prompts as there are pairs: a run of several epochs at a small kappa
               averages the noise of its batches, and what is left is that of the data set, whose traces are drawn once
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np

from bvpo_analysis import mixing, theory
from bvpo_analysis.estimators import EmptyTrace, Marginal, Trace, mean_coefficients, mix, totals_of
from bvpo_analysis.exact import shipped_traces
from bvpo_analysis.lrm.loading import ReasoningModel
from bvpo_analysis.moments import (
    GradientLaw,
    Moments,
    enumerated_moments,
    jackknife_estimate,
    population_moments,
)
from bvpo_analysis.objectives import DPO
from bvpo_analysis.preferences.shipped import Regime
from bvpo_analysis.records import Estimate, Floats, PreferencePair
from bvpo_analysis.scores import adam_metric, score_pairs
from bvpo_analysis.sgd.measured import measured_smoothness
from bvpo_analysis.training_study.arms import ADAMW_RATE, BATCH, LEARNING_RATES, WEIGHTS

CRITERIA = ("mse", "kappa", "descent", "cosine", "data")


@dataclass(frozen=True)
class Prediction:
    """One weight, and what its criterion says of the weights of the sweep.

    Attributes:
        regime, optimiser: of the runs; "sgd", or "adamw", in whose metric the gradients are then measured.
        source: "sampled" or "enumerated", how traces enter.
        criterion: see the head of the file.
        kappa, batch_size: that it refers to.
        alpha: the unclipped weight with its interval.
        scores: the criterion at the weights of the sweep, lower is better.
    """

    regime: Regime
    optimiser: str
    source: str
    criterion: str
    kappa: float
    batch_size: float
    alpha: Estimate
    scores: tuple[float, ...]


def run_kappa(regime: Regime, optimiser: str = "sgd") -> float:
    """kappa = eta L at the peak of the learning rate, with the committed curvature of the marginal loss (16 prompts).

    For AdamW the curvature is that in its own metric.

    Example:
        >>> 0 < run_kappa("style") < run_kappa("valid") < 1
        True
    """
    name, rate = ("SGD", LEARNING_RATES[regime]) if optimiser == "sgd" else ("Adam", ADAMW_RATE)
    return rate * measured_smoothness(regime)[name].smoothness


def sampled_moments(
    lrm: ReasoningModel, pairs: Sequence[PreferencePair], *, adam: bool = False, traces: int = 4
) -> Moments:
    """Moments of (g_t, g_e) from the traces that come with the pairs; with ``adam`` in the metric of Adam's first step.

    The metric is that of the equal mix at the batch size of the study.
    """
    objective = DPO()
    trace, empty = Trace(objective), EmptyTrace(objective)
    metric = None
    if adam:
        gradient = partial(mean_coefficients, mix(trace, empty, 0.5))
        metric = adam_metric(lrm, pairs, gradient, batch_size=BATCH, traces=1)
    scores = score_pairs(
        lrm, pairs, traces=traces, totals=totals_of(trace, empty), metric=metric, label="moments before training"
    )
    return population_moments(scores, trace, empty)


def enumerated_sample(lrm: ReasoningModel, pairs: Sequence[PreferencePair]) -> Moments:
    """The same with every trace of the pairs enumerated: the prompts are a sample, the traces are not."""
    objective = DPO()
    estimators = Trace(objective), EmptyTrace(objective), Marginal(objective)
    scores = score_pairs(
        lrm, pairs, totals=totals_of(*estimators), enumerate_traces=shipped_traces, label="enumerated before training"
    )
    return enumerated_moments(scores, *estimators, as_sample=True)


def regime_predictions(
    lrm: ReasoningModel, pairs: Sequence[PreferencePair], regime: Regime, *, adamw: bool
) -> list[Prediction]:
    """Enumerated and sampled for SGD; with ``adamw`` sampled in the metric of AdamW too."""
    sources = [("sgd", "enumerated", enumerated_sample(lrm, pairs)), ("sgd", "sampled", sampled_moments(lrm, pairs))]
    if adamw:
        sources.append(("adamw", "sampled", sampled_moments(lrm, pairs, adam=True)))
    return [
        prediction
        for optimiser, source, moments in sources
        for prediction in predictions(
            moments,
            regime,
            optimiser=optimiser,
            source=source,
            pairs=len(pairs),
            kappa=run_kappa(regime, optimiser),
        )
    ]


def predictions(
    moments: Moments, regime: Regime, *, optimiser: str, source: str, pairs: int, kappa: float
) -> list[Prediction]:
    """Every criterion on the same moments.

    Args:
        moments: at the reference.
        regime, optimiser, source: for the record.
        pairs: how many pairs are trained on.
        kappa: eta L.

    Example:
        >>> from bvpo_analysis.exact import load_table
        >>> moments = load_table("style").sample_moments
        >>> found = predictions(moments, "style", optimiser="sgd", source="enumerated", pairs=208, kappa=0.1)
        >>> [p.criterion for p in found]
        ['mse', 'kappa', 'data', 'descent', 'cosine']
    """
    law, whole = moments.population(BATCH), moments.population(pairs)
    make = partial(Prediction, regime=regime, optimiser=optimiser, source=source)
    found = []
    for name, one, k, size in (("mse", law, 1.0, BATCH), ("kappa", law, kappa, BATCH), ("data", whole, 1.0, pairs)):
        scores = tuple(_error(one, alpha, k) for alpha in WEIGHTS)
        alpha = mixing.optimal_alpha(one, k).estimate
        found.append(make(criterion=name, kappa=k, batch_size=size, alpha=alpha, scores=scores))
    arguments = second_moments(moments, law)
    at_step = theory.descent_optimal_weight(**arguments, kappa=kappa)
    best = theory.cosine_optimal_weight(**arguments)
    here = {name: float(value[0]) for name, value in arguments.items()} | {"target_sq": _square(moments.target_sq)[0]}
    # In units of 1/L: eta = kappa, L = 1 leaves the ranking as it is.
    bound = theory.descent_bound(WEIGHTS, **here, step_size=kappa, smoothness=1.0)
    cosines = theory.cosine(WEIGHTS, **here)
    for name, values, lower in (("descent", at_step, bound.change), ("cosine", best.alpha, -cosines)):
        found.append(
            make(
                criterion=name,
                kappa=kappa,
                batch_size=BATCH,
                alpha=jackknife_estimate(np.atleast_1d(values)),
                scores=tuple(float(score) for score in lower),
            )
        )
    return found


def second_moments(moments: Moments, law: GradientLaw) -> dict[str, Floats]:
    """Q and u of the batch gradients at the reference, where E g_t = mu, by argument name of the closed forms.

    Replicates as the moments have them. Squared lengths that are estimated as negative count as zero; the product
    <mu, E g_e> is left as it was measured.
    """
    target, empty = _square(moments.target_sq), _square(moments.mean_e_sq)
    return {
        "second_t": target + law.var_t,
        "second_e": empty + law.var_e,
        "second_te": moments.target_dot_e + law.cov_te,
        "signal_t": target,
        "signal_e": moments.target_dot_e,
    }


def _square(values: Floats) -> Floats:
    return np.maximum(values, 0.0)


def _error(law: GradientLaw, alpha: float, kappa: float) -> float:
    return mixing.error(law, alpha, kappa).value
