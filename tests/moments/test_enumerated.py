"""Exact moments, and how batch size and trace count rescale them, against sums over all outcomes of vectors."""

import itertools
from dataclasses import asdict, fields

import numpy as np
import pytest

from bvpo_analysis import mixing, theory
from bvpo_analysis.estimators import EmptyTrace, Marginal, Trace
from bvpo_analysis.moments import Moments, enumerated_moments, prompt_moments
from bvpo_analysis.moments.resampling import EnumeratedPopulation
from bvpo_analysis.objectives import DPO, IPO, SimPO

NUMBERS = [f.name for f in fields(Moments) if f.name not in ("n", "bias_noise")]
LOSSES = (DPO(1.5), IPO(0.5), SimPO(2.0, 0.3))


def build(by_hand, objective, *, shift, prompts=3, traces=2, seed=0, split=None):
    """(score set, laws as vectors, estimators) of a small population; ``shift`` > 0 is off the reference."""
    rng = np.random.default_rng(seed)
    estimators = Trace(objective), EmptyTrace(objective), Marginal(objective)
    pairs = [by_hand.pair(rng, traces, shift=shift) for _ in range(prompts)]
    vectors = [rng.normal(size=(p.size, 4)) + rng.normal(size=4) for p in pairs]
    laws = [by_hand.law(p, v, *estimators) for p, v in zip(pairs, vectors, strict=True)]
    return by_hand.scores(pairs, vectors, *estimators, split=split), laws, estimators


@pytest.mark.parametrize("objective", LOSSES, ids=repr)
@pytest.mark.parametrize("shift", [0.0, 0.8])
def test_every_moment_is_its_definition_on_vectors(objective, shift, by_hand):
    """Catches draws weighted equally, mu of another policy, a finite-sample correction, and any swapped product."""
    scores, laws, estimators = build(by_hand, objective, shift=shift, traces=3)
    m, truth = enumerated_moments(scores, *estimators), by_hand.moments(laws)
    assert m.exact
    assert m.n == 3
    assert set(truth) == set(NUMBERS)
    scale = truth["var_t"] + truth["var_e"] + truth["target_sq"] + truth["mean_e_sq"]
    for name in NUMBERS:
        assert getattr(m, name).shape == (1,)
        assert getattr(m, name)[0] == pytest.approx(truth[name], abs=1e-12 * scale), name
    biased = truth["bias_t_sq"] > 1e-6 * truth["target_sq"]
    assert biased == (shift > 0 or objective.name == "simpo")


def test_prompt_moments_are_those_of_a_population_of_one(by_hand):
    """Catches per-prompt numbers that look at other prompts; G33: at B = 1 a single prompt is its own population."""
    scores, laws, estimators = build(by_hand, DPO(1.5), shift=0.8)
    for pair, law in zip(scores.pairs, laws, strict=True):
        m, truth = asdict(prompt_moments(pair, *estimators)), by_hand.moments([law])
        expected = {name: truth[name] for name in m if name in truth}
        mean_t = law.p @ law.t
        expected |= {
            "mean_t_sq": mean_t @ mean_t,
            "mean_te": mean_t @ law.e,
            "mean_diff_sq": (mean_t - law.e) @ (mean_t - law.e),
            "mean_t_diff": mean_t @ (mean_t - law.e),
        }
        assert m == pytest.approx(expected, rel=1e-11)


def test_parameter_groups_add_up_to_the_whole(by_hand):
    """Catches totals of one group combined with inner products of another."""
    scores, _, estimators = build(by_hand, DPO(1.5), shift=0.8, split=1)
    whole = enumerated_moments(scores, *estimators)
    parts = [enumerated_moments(scores, *estimators, group=name) for name in scores.groups]
    for name in NUMBERS:
        assert sum(getattr(p, name)[0] for p in parts) == pytest.approx(getattr(whole, name)[0], rel=1e-10), name


def test_prompts_as_a_sample_are_unbiased_for_the_population_they_come_from(by_hand):
    """Catches ddof errors between prompts: over all samples of three from two prompts, the mean is the truth."""
    objective, rng = DPO(1.5), np.random.default_rng(12)
    estimators = Trace(objective), EmptyTrace(objective), Marginal(objective)
    pairs = [by_hand.pair(rng, 2, shift=0.8) for _ in range(2)]
    vectors = [rng.normal(size=(6, 4)) + rng.normal(size=4) for _ in pairs]
    truth = by_hand.moments([by_hand.law(p, v, *estimators) for p, v in zip(pairs, vectors, strict=True)])
    mean, plain = dict.fromkeys(NUMBERS, 0.0), 0.0
    for chosen in itertools.product(range(2), repeat=3):
        scores = by_hand.scores([pairs[i] for i in chosen], [vectors[i] for i in chosen], *estimators)
        m = enumerated_moments(scores, *estimators, as_sample=True)
        plain += enumerated_moments(scores, *estimators).var_t[0] / 8
        for name in NUMBERS:
            assert getattr(m, name).shape == (4,)
            mean[name] += getattr(m, name)[0] / 8
    for name in NUMBERS:
        assert mean[name] == pytest.approx(truth[name], abs=1e-11 * truth["var_t"]), name
    assert plain < truth["var_t"] * 0.9


def test_replicates_of_a_sample_are_its_values_without_each_prompt(by_hand):
    """Catches products with totals that still hold the prompt left out, and intervals of zero width."""
    objective, rng = DPO(1.5), np.random.default_rng(3)
    estimators = Trace(objective), EmptyTrace(objective), Marginal(objective)
    pairs = [by_hand.pair(rng, 2, shift=0.8) for _ in range(5)]
    vectors = [rng.normal(size=(6, 4)) + rng.normal(size=4) for _ in pairs]

    def moments(chosen):
        scores = by_hand.scores([pairs[i] for i in chosen], [vectors[i] for i in chosen], *estimators)
        return enumerated_moments(scores, *estimators, as_sample=True)

    whole = moments(range(5))
    for k in range(5):
        others = moments([i for i in range(5) if i != k])
        for name in NUMBERS:
            assert getattr(whole, name)[k + 1] == pytest.approx(getattr(others, name)[0], abs=1e-10), name
    assert whole.bias_noise is not None
    assert not whole.exact


def test_refusals(by_hand):
    """Catches moments of an estimator whose totals were never summed."""
    scores, _, (trace, empty, marginal) = build(by_hand, DPO(1.5), shift=0.0)
    with pytest.raises(ValueError, match=r"total of Trace\(objective=DPO\(beta=0.2\)\) was not accumulated"):
        enumerated_moments(scores, Trace(DPO(0.2)), empty, marginal)
    with pytest.raises(ValueError, match="unknown parameter group 'z'; there are a"):
        enumerated_moments(scores, trace, empty, marginal, group="z")


# --- laws of batches -------------------------------------------------------------------------------------


def units(laws, traces):
    """All (probability, prompt, mean g_t over K draws, g_e) of one prompt drawn with K traces."""
    found = []
    for i, law in enumerate(laws):
        for draw in itertools.product(range(len(law.p)), repeat=traces):
            chance = law.p[list(draw)].prod() / len(laws)
            found.append((chance, i, law.t[list(draw)].mean(axis=0), law.e))
    return found


def batches(laws, size, traces):
    """All (probability, prompts, batch g_t, batch g_e)."""
    found = []
    for batch in itertools.product(units(laws, traces), repeat=size):
        chance = np.prod([u[0] for u in batch])
        found.append((chance, tuple(u[1] for u in batch), *(np.mean([u[k] for u in batch], axis=0) for k in (2, 3))))
    p, prompts, t, e = zip(*found, strict=True)
    return np.array(p), prompts, np.array(t), np.array(e)


@pytest.mark.parametrize("shift", [0.0, 0.8])
@pytest.mark.parametrize(("size", "traces"), [(1, 1), (2, 1), (1, 2), (2, 2)])
def test_population_law_is_that_of_all_batches(shift, size, traces, by_hand):
    """Catches tau/K for tau, a covariance or data variance divided by K, and a bias divided by B (target M3)."""
    scores, laws, estimators = build(by_hand, DPO(1.5), shift=shift, prompts=2)
    law = enumerated_moments(scores, *estimators).population(size, traces)
    mu = np.mean([x.mu for x in laws], axis=0)
    p, prompts, t, e = batches(laws, size, traces)
    assert p.sum() == pytest.approx(1.0)

    def cov(x, y):
        return p @ ((x - p @ x) * (y - p @ y)).sum(axis=1)

    assert law.var_t[0] == pytest.approx(cov(t, t), rel=1e-10)
    assert law.var_e[0] == pytest.approx(cov(e, e), rel=1e-10)
    assert law.cov_te[0] == pytest.approx(cov(t, e), rel=1e-10)
    assert law.var_diff[0] == pytest.approx(cov(t - e, t - e), rel=1e-10)
    assert law.cov_t_diff[0] == pytest.approx(cov(t, t - e), rel=1e-10)
    given = {key: [i for i, other in enumerate(prompts) if other == key] for key in set(prompts)}
    means = np.empty_like(t)
    for rows in given.values():
        means[rows] = p[rows] @ t[rows] / p[rows].sum()
    assert law.var_t_data[0] == pytest.approx(cov(means, means), rel=1e-10)
    assert law.var_t_trace[0] == pytest.approx(cov(t - means, t - means), rel=1e-10)
    for alpha in (-0.4, 0.0, 0.5, 1.0, 1.3):
        brute = p @ ((alpha * t + (1 - alpha) * e - mu) ** 2).sum(axis=1)
        assert mixing.error(law, alpha).value == pytest.approx(brute, rel=1e-10)


@pytest.mark.parametrize("shift", [0.0, 0.8])
@pytest.mark.parametrize("traces", [1, 2, 3])
def test_per_prompt_law_is_that_of_single_prompts(shift, traces, by_hand):
    """Catches data variance counted as noise, the bias divided by K, and the population's mu as target (M1)."""
    scores, laws, estimators = build(by_hand, DPO(1.5), shift=shift)
    law = enumerated_moments(scores, *estimators).per_prompt(traces)
    for alpha in (-0.4, 0.0, 0.5, 1.0, 1.3):
        brute = sum(
            chance * ((alpha * t + (1 - alpha) * e - laws[i].mu) ** 2).sum() for chance, i, t, e in units(laws, traces)
        )
        assert mixing.error(law, alpha).value == pytest.approx(brute, rel=1e-10)


def test_g34_the_per_prompt_weight_is_a_ratio_of_sums(by_hand):
    """Catches the mean of per-prompt weights: prompts count by their D."""
    scores, _, estimators = build(by_hand, DPO(1.5), shift=0.8, prompts=5)
    law = enumerated_moments(scores, *estimators).per_prompt()
    each = [prompt_moments(pair, *estimators) for pair in scores.pairs]
    distance = np.array([m.bias_diff_sq + m.trace_var for m in each])
    weights = np.array([1 - (m.bias_t_diff + m.trace_var) / d for m, d in zip(each, distance, strict=True)])
    alpha = mixing.optimal_alpha(law).estimate.value
    assert alpha == pytest.approx(distance @ weights / distance.sum(), rel=1e-11)
    assert abs(alpha - weights.mean()) > 0.01


def test_g30_only_kappa_over_batch_size_matters(by_hand):
    """Catches a batch size that divides the bias, or one variance but not another."""
    scores, _, estimators = build(by_hand, DPO(1.5), shift=0.8)
    m = enumerated_moments(scores, *estimators)
    for traces in (1, 3):
        first = mixing.weight_replicates(m.population(2, traces), kappa=0.3)
        again = mixing.weight_replicates(m.population(14, traces), kappa=2.1)
        np.testing.assert_allclose(first, again, rtol=1e-12)


def test_g31_g32_large_batches_and_many_traces(by_hand):
    """Catches a variance that survives averaging: B -> inf leaves the bias optimum, K -> inf leaves tau = 0."""
    scores, _, estimators = build(by_hand, DPO(1.5), shift=0.8)
    m = enumerated_moments(scores, *estimators)
    bias_only = 1 - m.bias_t_diff[0] / m.bias_diff_sq[0]
    assert mixing.weight_replicates(m.population(1e12))[0] == pytest.approx(bias_only, rel=1e-9)
    many, law = m.population(1, 10**12), m.population(1)
    assert many.var_t[0] == pytest.approx(law.var_t_data[0], rel=1e-9)
    expected = theory.weighted_optimal_weight(
        bias_t_sq=m.bias_t_sq[0],
        bias_e_sq=m.bias_e_sq[0],
        bias_inner=m.bias_inner[0],
        var_t=m.var_t[0] - m.trace_var[0],
        var_e=m.var_e[0],
        cov_te=m.cov_te[0],
    )
    assert mixing.weight_replicates(many)[0] == pytest.approx(float(expected), rel=1e-9)


@pytest.mark.parametrize(("size", "traces"), [(0, 1), (0.5, 1), (1, 0), (float("nan"), 1)])
def test_impossible_batches_raise(size, traces, by_hand):
    """Catches a variance multiplied instead of divided, and NaN that passes a comparison."""
    scores, _, estimators = build(by_hand, DPO(1.5), shift=0.0)
    m = enumerated_moments(scores, *estimators)
    with pytest.raises(ValueError, match="must be at least 1"):
        m.population(size, traces)
    if traces < 1:
        with pytest.raises(ValueError, match="traces must be at least 1"):
            m.per_prompt(traces)


# --- a population to sample from -------------------------------------------------------------------------


def test_the_population_as_a_whole_has_its_exact_moments(by_hand):
    """Catches rows of one prompt read from another, and totals that miss a prompt."""
    objective, rng = DPO(1.5), np.random.default_rng(7)
    estimators = Trace(objective), EmptyTrace(objective), Marginal(objective)
    pairs = tuple(by_hand.pair(rng, k) for k in (2, 3, 2))
    vectors = [rng.normal(size=(p.size, 4)) for p in pairs]
    ends = np.cumsum([p.size for p in pairs])
    order = rng.permutation(ends[-1])
    stacked = np.concatenate(vectors)
    rows = tuple(order[end - p.size : end] for p, end in zip(pairs, ends, strict=True))
    gram = np.empty((len(order),) * 2)
    gram[np.ix_(order, order)] = stacked @ stacked.T
    population = EnumeratedPopulation(pairs, rows, gram)
    m = enumerated_moments(population.exact_scores(*estimators), *estimators)
    laws = [by_hand.law(p, v, *estimators) for p, v in zip(pairs, vectors, strict=True)]
    truth = by_hand.moments(laws)
    for name in NUMBERS:
        assert getattr(m, name)[0] == pytest.approx(truth[name], abs=1e-11 * truth["var_t"]), name


def test_samples_draw_prompts_equally_and_traces_from_the_posterior(by_hand):
    """Catches prior or uniform traces, one trace used for both answers, and prompts without replacement."""
    rng = np.random.default_rng(8)
    pairs = tuple(by_hand.pair(rng, 2) for _ in range(3))
    rows = tuple(np.arange(6) + 6 * i for i in range(3))
    population = EnumeratedPopulation(pairs, rows, np.eye(18))
    trace = Trace(DPO(1.5))
    sample = population.sample(np.random.default_rng(9), 6000, 2, trace)
    drawn = {p.prompt_id: [] for p in pairs}
    for scored in sample.pairs:
        logs = scored.log_probs
        assert not logs.enumerated
        assert logs.draws.shape == (2, 2)
        np.testing.assert_array_equal(logs.weights, [0.5, 0.5])
        drawn[logs.prompt_id].append(logs.draws)
    for pair in pairs:
        draws = np.concatenate(drawn[pair.prompt_id])
        assert abs(len(draws) / 2 / 6000 - 1 / 3) < 4.5 * np.sqrt(2 / 9 / 6000)
        for combination, p in zip(pair.draws, pair.weights, strict=True):
            share = (draws == combination).all(axis=1).mean()
            assert abs(share - p) < 4.5 * np.sqrt(p * (1 - p) / len(draws))


def test_sketches_of_a_population_have_its_inner_products(by_hand):
    """Catches stand-in vectors of another prompt or without length: sums of d_i - d_j across prompts from the Gram."""
    rng = np.random.default_rng(10)
    pairs = tuple(by_hand.pair(rng, 2) for _ in range(3))
    vectors = rng.normal(size=(18, 4))
    population = EnumeratedPopulation(pairs, tuple(np.arange(6) + 6 * i for i in range(3)), vectors @ vectors.T)
    trace, empty = Trace(DPO(1.5)), EmptyTrace(DPO(1.5))
    scores = population.exact_scores(trace, empty)
    for i, j in itertools.product(range(3), repeat=2):
        own, other = (
            np.stack(
                [(f.weights(pairs[k]) @ f.coefficients(pairs[k])) @ vectors[6 * k : 6 * k + 6] for f in (trace, empty)]
            )
            for k in (i, j)
        )
        products = scores.pairs[i].sketches[0] @ scores.pairs[j].sketches[0].T
        np.testing.assert_allclose(products, own @ other.T, rtol=1e-9, atol=1e-10)


def test_one_prompt_is_no_sample(by_hand):
    """Catches a division by n - 1 = 0."""
    scores, _, estimators = build(by_hand, DPO(1.5), shift=0.8, prompts=1)
    with pytest.raises(ValueError, match="as_sample needs at least two"):
        enumerated_moments(scores, *estimators, as_sample=True)
    assert enumerated_moments(scores, *estimators).n == 1
    two, _, estimators = build(by_hand, DPO(1.5), shift=0.8, prompts=2)
    assert enumerated_moments(two, *estimators, as_sample=True).n == 2
