"""The risk of the James-Stein weight against simulation with the known target, and what it needs."""

import numpy as np
import pytest

from bvpo_analysis import theory
from bvpo_analysis.combining import james_stein_risk, prompts_needed
from bvpo_analysis.estimators import EmptyTrace, PriorTrace, Trace
from bvpo_analysis.log_linear import LogLinearModel
from bvpo_analysis.moments import joint_moments
from bvpo_analysis.moments.resampling import EnumeratedPopulation
from bvpo_analysis.objectives import DPO

LOSS = DPO(2.0)
NAMES = {"trace": Trace(LOSS), "empty": EmptyTrace(LOSS)}
TRACES = 2


def population(prompts=30, seed=0, traces=3, parameters=12):
    """Log-linear prompts of high effective rank, with unequal biases of the empty trace."""
    rng = np.random.default_rng(seed)
    pairs, vectors = [], []
    for _ in range(prompts):
        model = LogLinearModel(rng.normal(size=(traces, 3, parameters)))
        theta = 0.3 * rng.normal(size=parameters)
        pair, scores = model.pair(theta, theta, 0, 1, prior=range(traces))
        pairs.append(pair)
        vectors.append(scores)
    ends = np.cumsum([len(v) for v in vectors])
    rows = tuple(np.arange(end - len(v), end) for v, end in zip(vectors, ends, strict=True))
    stacked = np.concatenate(vectors)
    return EnumeratedPopulation(tuple(pairs), rows, stacked @ stacked.T)


def units(pop, rng, count):
    """``count`` prompts with K = 2 averaged traces: g_t and g_e [count, d], and mu [d]."""
    laws, empties = [], []
    for pair, rows in zip(pop.pairs, pop.rows, strict=True):
        factor = pop._factor[rows]
        laws.append((pair.weights, NAMES["trace"].coefficients(pair) @ factor))
        empties.append((NAMES["empty"].coefficients(pair) @ factor)[0])
    chosen = rng.integers(len(laws), size=count)
    t = np.empty((count, len(empties[0])))
    for i, (p, g) in enumerate(laws):
        here = np.flatnonzero(chosen == i)
        t[here] = g[rng.choice(len(g), size=(len(here), TRACES), p=p)].mean(axis=1)
    return t, np.array(empties)[chosen], np.mean([p @ g for p, g in laws], axis=0)


def simulated(pop, batch_size, covariance, rng, batches=4000):
    """Risk of the rule and of g_t by simulation, with the standard error of their difference."""
    t, e, mu = units(pop, rng, batches * batch_size)
    t, e = (x.reshape(batches, batch_size, -1).mean(axis=1) for x in (t, e))
    others, _, _ = units(pop, rng, batches // 10 * covariance)
    constants = [
        theory.shrinkage_spectrum(np.linalg.eigvalsh(np.cov(x.T)).clip(0)).constant
        for x in others.reshape(batches // 10, covariance, -1)
    ]
    z = t - e
    weight = theory.shrinkage_weight(np.repeat(constants, 10) / batch_size, (z**2).sum(axis=1))
    risk = ((e + weight[:, None] * z - mu) ** 2).sum(axis=1)
    first = ((t - mu) ** 2).sum(axis=1)
    return risk.mean(), first.mean(), risk.std() / np.sqrt(batches), weight.mean()


@pytest.mark.parametrize("batch_size", [1, 8])
def test_the_risk_is_that_of_simulated_batches(batch_size):
    """Catches a target that overlaps the batch, c of one prompt instead of a batch, and the weight of another rule.

    The mean over 40 samples of 64 prompts is within 4.5 standard errors of the simulated risk; these are below a
    quarter of what the rule saves at B = 1.
    """
    pop, rng = population(), np.random.default_rng(1)
    found, covered = [], 0
    for seed in range(40):
        joint = joint_moments(pop.sample(rng, 64, TRACES, *NAMES.values()), NAMES, target="trace", unbiased=())
        found.append(james_stein_risk(joint, "trace", "empty", batch_size, divisions=100, seed=seed))
    truth, first, se, weight = simulated(pop, batch_size, found[0].prompts[1], rng)
    covered = sum(f.ratio.ci_low <= truth / first <= f.ratio.ci_high for f in found)
    for name, true in (("risk", truth), ("risk_first", first)):
        values = [getattr(f, name).value for f in found]
        error = np.hypot(np.std(values, ddof=1) / np.sqrt(40), se)
        assert abs(np.mean(values) - true) < 4.5 * error, (name, np.mean(values), true, error)
    savings = [f.risk_first.value - f.risk.value for f in found]
    error = np.hypot(np.std(savings, ddof=1) / np.sqrt(40), se)
    assert abs(np.mean(savings) - (first - truth)) < 4.5 * error
    if batch_size == 1:
        assert 4 * error < first - truth
    assert np.mean([f.weight for f in found]) == pytest.approx(weight, abs=0.05)
    assert covered / 40 >= 0.95 - 0.05 - 3 * np.sqrt(0.95 * 0.05 / 40)


def test_shrinking_towards_itself_changes_nothing():
    """Catches a risk that is not that of g_t where g_e = g_t and Z = 0."""
    scores = population().sample(np.random.default_rng(2), 64, TRACES, *NAMES.values())
    joint = joint_moments(scores, {"trace": NAMES["trace"], "same": Trace(LOSS)}, target="trace", unbiased=("same",))
    found = james_stein_risk(joint, "trace", "same", 8, divisions=100)
    assert found.risk.value == pytest.approx(found.risk_first.value, rel=1e-9)
    assert found.ratio.value == pytest.approx(1.0)


def test_the_risk_of_g_t_is_its_variance():
    """Catches the variance of one trace in place of the averaged ones, and a batch size that is not divided by."""
    joint = joint_moments(
        population().sample(np.random.default_rng(3), 64, TRACES, *NAMES.values()), NAMES, target="trace", unbiased=()
    )
    found = james_stein_risk(joint, "trace", "empty", 8, divisions=100)
    assert found.risk_first.value == pytest.approx(joint.error_matrix(8, traces=TRACES)[0, 0, 0], rel=1e-9)
    assert found.prompts == (8, 24, 25)
    assert 2 < found.effective_rank < 12
    assert found.risk.ci_low < found.risk.value < found.risk.ci_high


def test_refusals():
    """Catches a rule around a biased estimator, and too few prompts for three disjoint sets."""
    names = {**NAMES, "prior": PriorTrace(LOSS)}
    scores = population().sample(np.random.default_rng(4), 26, TRACES, *names.values(), prior=2)
    joint = joint_moments(scores, names, target="trace", unbiased=())
    assert prompts_needed(8) == 27
    with pytest.raises(ValueError, match="a batch of 8 needs 27 prompts, got 26"):
        james_stein_risk(joint, "trace", "empty", 8)
    james_stein_risk(joint, "trace", "empty", 7, divisions=100)
    with pytest.raises(ValueError, match="'prior' is not declared unbiased"):
        james_stein_risk(joint, "prior", "empty", 1)
    with pytest.raises(ValueError, match="batch_size >= 1"):
        james_stein_risk(joint, "trace", "empty", 0)
