"""How far sampled estimates are off where the reference is left behind, measured against enumerated truth.

A study with K reference-posterior traces per answer takes an estimate muhat from the same traces for its target: the
K-trace marginal gradient (``plug-in``, bias c/K + O(K^-2)) or its delete-one jackknife (``jackknife``, bias O(K^-2)).
Cross-prompt U-statistics keep a bias delta = E muhat - mu of the target:

    E U(|b_a|^2) - |b_a|^2 = -2 <b_a, delta> + |delta|^2,

which no number of prompts removes. Here whole studies are drawn again and again from a population in which b_t, b_e and
alpha* are known, so that mean error, spread and coverage of the intervals can be read off.
"""

import numpy as np

from bvpo_analysis import mixing
from bvpo_analysis.estimators import EmptyTrace, Estimator, JackknifeMarginal, KMarginal, Marginal, Trace
from bvpo_analysis.moments import JointMoments, Moments, enumerated_moments, joint_moments
from bvpo_analysis.objectives import DPO
from bvpo_analysis.off_reference.leading_bias import posterior
from bvpo_analysis.off_reference.population import ProjectedPopulation, TraceSample
from bvpo_analysis.off_reference.results import STATISTICS, TARGETS, SampledCell, Target
from bvpo_analysis.off_reference.shift import trace_shift
from bvpo_analysis.off_reference.studies import StudyTables
from bvpo_analysis.records import Estimate, Floats
from bvpo_analysis.theory.marginal_estimator import AnswerLaw, marginal_rate


def target_estimator(target: Target, objective: DPO, traces: int) -> Estimator:
    """The estimator behind a target name.

    Example:
        >>> target_estimator("jackknife", DPO(), 4)
        JackknifeMarginal(objective=DPO(beta=0.1), traces=4)
    """
    return (KMarginal if target == "plug-in" else JackknifeMarginal)(objective, traces)


def target_bias_rate(population: ProjectedPopulation, beta: float) -> Floats:
    """c = lim K (E muhat_K - mu) of the population's plug-in target, [k].

    The mean over prompts of the closed form :func:`bvpo_analysis.theory.marginal_rate`.
    """
    rates = []
    for pair, vectors in zip(population.pairs, population.vectors, strict=True):
        ratios = pair.log_prob - pair.log_prob_ref
        laws = [AnswerLaw(posterior(pair.log_prob_ref, s), ratios[s], vectors[s]) for s in pair.support]
        rates.append(marginal_rate(laws[0], laws[1], beta).bias)
    return np.asarray(np.mean(rates, axis=0))


def exact_moments(population: ProjectedPopulation, objective: DPO) -> Moments:
    """Exact moments of the projected population."""
    estimators = Trace(objective), EmptyTrace(objective), Marginal(objective)
    return enumerated_moments(population.exact_scores(*estimators), *estimators)


def sampled_study(
    population: ProjectedPopulation, sample: TraceSample, objective: DPO, *, targets: tuple[Target, ...] = TARGETS
) -> dict[Target, JointMoments]:
    """The moments that a study of this sample reports against each target, by the estimators and moments of any study.

    The slow way to what :class:`bvpo_analysis.off_reference.studies.StudyTables` computes, and more.
    """
    trace, empty = Trace(objective), EmptyTrace(objective)
    made = {target: target_estimator(target, objective, sample.traces.shape[1]) for target in targets}
    scores = population.scores_of(sample, trace, empty, *made.values())
    return {
        target: joint_moments(
            scores,
            {"trace": trace, "empty": empty, target: estimator},
            target=target,
            unbiased=(),
            target_bias="O(1/K)" if target == "plug-in" else "O(1/K^2)",
        )
        for target, estimator in made.items()
    }


def replicate(
    population: ProjectedPopulation,
    share: float,
    *,
    beta: float,
    traces: int,
    prompts: int = 64,
    batch_size: int = 16,
    replications: int = 300,
    seed: int = 0,
    targets: tuple[Target, ...] = TARGETS,
) -> list[SampledCell]:
    """Draw studies and compare their estimates with the truth; one cell per target and statistic.

    Args:
        population: the checkpoint's.
        share: t, kept with the result.
        beta: of the DPO loss.
        traces: K, at least 2.
        prompts, batch_size, replications, seed: size of a study, B of the weight, how many studies, and their seed.
        targets: which targets.

    Raises:
        ValueError: fewer than two replications.
    """
    if replications < 2:
        raise ValueError(f"replications must be at least 2 for a spread, got {replications}")
    objective, rng = DPO(beta), np.random.default_rng([seed, traces])
    tables = StudyTables(population, objective)
    truth = exact_moments(population, objective)
    exact = {
        "bias_t_sq": float(truth.bias_t_sq[0]),
        "bias_e_sq": float(truth.bias_e_sq[0]),
        "alpha": mixing.optimal_alpha(truth.population(batch_size)).estimate.value,
    }
    predicted = _predicted(population, objective, traces, truth, batch_size)
    ess = float(np.mean([trace_shift(pair).ess_share for pair in population.pairs]))
    found: dict[tuple[Target, str], list[Estimate]] = {(t, s): [] for t in targets for s in STATISTICS}
    for _ in range(replications):
        for target, study in tables.moments(population.draw(rng, prompts, traces), *targets).items():
            found[target, "bias_t_sq"].append(study.bias_t_sq)
            found[target, "bias_e_sq"].append(study.bias_e_sq)
            found[target, "alpha"].append(mixing.optimal_alpha(study.moments.population(batch_size)).estimate)
    cells = []
    for (target, statistic), estimates in found.items():
        values = np.array([e.value for e in estimates])
        held = np.array([e.ci_low <= exact[statistic] <= e.ci_high for e in estimates])
        spread, rate = float(values.std(ddof=1)), float(held.mean())
        cells.append(
            SampledCell(
                share=share,
                ess_share=ess,
                target=target,
                traces=traces,
                prompts=prompts,
                statistic=statistic,
                truth=exact[statistic],
                mean=float(values.mean()),
                mean_se=spread / np.sqrt(replications),
                spread=spread,
                predicted=predicted[statistic] if target == "plug-in" else float("nan"),
                coverage=rate,
                coverage_se=float(np.sqrt(max(rate * (1 - rate), 0.25 / replications) / replications)),
                width=float(np.median([e.ci_high - e.ci_low for e in estimates])),
                replications=replications,
            )
        )
    return cells


def _predicted(
    population: ProjectedPopulation, objective: DPO, traces: int, truth: Moments, batch_size: int
) -> dict[str, float]:
    """What the plug-in target leads to on average, by its closed-form bias delta = c/K."""
    if min(trace_shift(pair).ess_share.min() for pair in population.pairs) <= 1 / (1 + traces):
        return dict.fromkeys(STATISTICS, float("nan"))
    delta = target_bias_rate(population, objective.beta) / traces
    scores = population.exact_scores(Trace(objective), EmptyTrace(objective), Marginal(objective))
    t, e, m = (np.mean([pair.sketches[0][a] for pair in scores.pairs], axis=0) for a in range(3))
    law = truth.population(batch_size)
    distance = float((law.bias_diff_sq + law.var_diff)[0])
    return {
        "bias_t_sq": float(((t - m - delta) ** 2).sum()),
        "bias_e_sq": float(((e - m - delta) ** 2).sum()),
        # The weight depends on mu through <mu, E(g_t - g_e)> alone, and linearly.
        "alpha": mixing.optimal_alpha(law).estimate.value + float(delta @ (t - e)) / distance,
    }
