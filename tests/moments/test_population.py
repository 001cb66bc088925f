"""Estimated moments at the reference: definitions, exact unbiasedness over all samples of a tiny law, coverage."""

import itertools
import math
from collections import Counter
from dataclasses import fields, replace

import numpy as np
import pytest

from bvpo_analysis import mixing
from bvpo_analysis.estimators import EmptyTrace, Marginal, Trace
from bvpo_analysis.moments import (
    Moments,
    enumerated_moments,
    leave_one_out_ustatistic,
    population_moments,
    squared_bias_noise,
)
from bvpo_analysis.moments.resampling import EnumeratedPopulation
from bvpo_analysis.objectives import DPO, IPO
from bvpo_analysis.records import Alpha, PairScores

LOSS = DPO(2.0)  # coefficients -+1 at the reference: g_t = s(rejected) - s(chosen)
TRACE, EMPTY, MARGINAL = Trace(LOSS), EmptyTrace(LOSS), Marginal(LOSS)
NUMBERS = [f.name for f in fields(Moments) if f.name not in ("n", "bias_noise")]


def random_sample(by_hand, n=6, traces=3, seed=0, split=None):
    """n prompts with K sampled draws each, and the same as vectors: t [n, K, d], e [n, d]."""
    rng = np.random.default_rng(seed)
    pairs, vectors = [], []
    for _ in range(n):
        pair = by_hand.pair(rng, 3)
        draws = np.stack([rng.choice(side, traces) for side in pair.support], axis=1)
        pairs.append(by_hand.sampled(pair, draws))
        vectors.append(rng.normal(size=(pair.size, 5)) + rng.normal(size=5))
    t = np.stack([TRACE.coefficients(p) @ v for p, v in zip(pairs, vectors, strict=True)])
    e = np.stack([(EMPTY.coefficients(p) @ v)[0] for p, v in zip(pairs, vectors, strict=True)])
    return by_hand.scores(pairs, vectors, TRACE, EMPTY, split=split), pairs, vectors, t, e


def pair_sum(a, b):
    gram = a @ b.T
    n = len(a)
    return (gram.sum() - np.trace(gram)) / (n * (n - 1))


def sq(x):
    return (x**2).sum(axis=-1)


# --- definitions -----------------------------------------------------------------------------------------


def test_every_moment_is_its_definition_on_vectors(by_hand):
    """Catches a dropped K/(K - 1), the plug-in |b_e|^2, a covariance with the wrong sign, and swapped roles."""
    scores, _, _, t, e = random_sample(by_hand)
    m, k = population_moments(scores, TRACE, EMPTY), t.shape[1]
    mean, spread = t.mean(axis=1), t - e[:, None]
    d = e - mean
    tau = sq(t - mean[:, None]).sum(axis=1).mean() / (k - 1)
    prompt_bias = sq(d).mean() - tau / k
    expected = {
        "bias_t_sq": 0.0,
        "bias_e_sq": pair_sum(d, d),
        "bias_inner": 0.0,
        "bias_diff_sq": pair_sum(d, d),
        "bias_t_diff": 0.0,
        "var_t": sq(t).mean() - pair_sum(mean, mean),
        "var_e": sq(e).mean() - pair_sum(e, e),
        "cov_te": (mean * e).sum(1).mean() - pair_sum(mean, e),
        "var_diff": sq(spread).mean() - pair_sum(d, d),
        "cov_t_diff": (t * spread).sum(-1).mean() - pair_sum(mean, -d),
        "trace_var": tau,
        "prompt_bias_t_sq": 0.0,
        "prompt_bias_e_sq": prompt_bias,
        "prompt_bias_inner": 0.0,
        "prompt_bias_diff_sq": prompt_bias,
        "prompt_bias_t_diff": 0.0,
        "target_sq": pair_sum(mean, mean),
        "target_dot_e": pair_sum(mean, e),
        "mean_e_sq": pair_sum(e, e),
    }
    assert set(expected) == set(NUMBERS)
    for name, value in expected.items():
        assert getattr(m, name)[0] == pytest.approx(value, rel=1e-11, abs=1e-11), name


@pytest.mark.parametrize("split", [None, 2])
@pytest.mark.parametrize("seed", [2, 5])
def test_noise_of_the_squared_bias_is_its_definition(seed, split, by_hand):
    """Catches ddof = 0, a lost factor, equal indices in the traces of products, and another vector's covariance."""
    n = 9
    scores, _, _, t, e = random_sample(by_hand, n=n, seed=seed, split=split)
    d = e - t.mean(axis=1)
    centre, x = d.mean(axis=0), d - d.mean(axis=0)
    pairs = [(x[i] @ x[j]) ** 2 for i, j in itertools.permutations(range(n), 2)]
    triples = [(x[i] @ x[j]) * (x[j] @ x[k]) * (x[k] @ x[i]) for i, j, k in itertools.permutations(range(n), 3)]
    along = [(x[i] @ centre) * (x[i] @ x[j]) * (x[j] @ centre) for i, j in itertools.permutations(range(n), 2)]
    trace_2, trace_3 = np.mean(pairs), max(np.mean(triples), 0.0)
    q = centre @ np.cov(d.T) @ centre - trace_2 / n
    q_2 = np.mean(along) - trace_3 / n
    covariance = 4 * max(q_2, 0.0) / n + 2 * trace_3 / n**2
    noise = population_moments(scores, TRACE, EMPTY).bias_noise
    assert noise.constant == pytest.approx(2 * trace_2 / n**2, rel=1e-10)
    assert noise.linear == pytest.approx(4 * q / n, rel=1e-10)
    assert noise.slope == pytest.approx(4 / n * covariance / (noise.constant + max(noise.linear, 0.0)), rel=1e-10)
    assert noise.third == pytest.approx(8 * trace_3 / n**3, rel=1e-10)
    np.testing.assert_array_equal(noise.replicates, population_moments(scores, TRACE, EMPTY).bias_e_sq)


def test_cumulants_of_the_squared_bias_are_estimated_without_much_bias():
    """Catches noise of the sample mean counted as bias: averages over 2 000 samples against the known covariance."""
    rng, n, scale = np.random.default_rng(0), 50, np.array([2.0, 1.0, 1.0, 0.5])
    mean = np.array([0.1, 0.2, 0.0, 0.0])
    found = []
    for _ in range(2000):
        d = mean + rng.normal(size=(n, 4)) * scale
        own, with_total = (d * d).sum(1), d @ d.sum(0)
        u = leave_one_out_ustatistic(own, with_total, with_total)
        noise = squared_bias_noise(u, own, with_total, d)
        found.append([u[0], noise.constant, noise.linear, noise.third])
    found = np.array(found)
    s = scale**2
    expected = [mean @ mean, 2 * (s**2).sum() / n**2, 4 * (mean**2 * s).sum() / n, 8 * (s**3).sum() / n**3]
    se = found.std(axis=0, ddof=1) / np.sqrt(len(found))
    # Centring at the sample mean costs a relative 1/n or two.
    slack = 4.5 * se + 0.05 * np.array([0.0, 1.0, 0.5, 1.0]) * np.abs(expected)
    assert (np.abs(found.mean(axis=0) - expected) < slack).all(), (found.mean(axis=0), expected, se)
    variance = found[:, 0].var(ddof=1)
    assert variance == pytest.approx(expected[1] + expected[2], rel=0.15)


def test_estimators_that_coincide_have_no_noise_of_the_squared_bias(by_hand):
    """Catches 0/0 where g_t = g_e for every prompt."""
    _, pairs, vectors, _, _ = random_sample(by_hand)
    m = population_moments(by_hand.scores(pairs, [0 * v for v in vectors], TRACE, EMPTY), TRACE, EMPTY)
    assert m.bias_noise.slope == 0.0
    assert not m.bias_e_sq.any()


def test_replicates_are_the_estimates_without_one_prompt(by_hand):
    """Catches replicates that still contain the prompt, in any of the moments."""
    scores, pairs, vectors, _, _ = random_sample(by_hand)
    whole = population_moments(scores, TRACE, EMPTY)
    for left in range(len(pairs)):
        keep = [i for i in range(len(pairs)) if i != left]
        rest = by_hand.scores([pairs[i] for i in keep], [vectors[i] for i in keep], TRACE, EMPTY)
        alone = population_moments(rest, TRACE, EMPTY)
        for name in NUMBERS:
            assert getattr(whole, name)[left + 1] == pytest.approx(getattr(alone, name)[0], rel=1e-9, abs=1e-10), name


def test_parameter_groups_add_up_to_the_whole(by_hand):
    """Catches products of one group mixed with totals of another."""
    scores, *_ = random_sample(by_hand, split=2)
    whole = population_moments(scores, TRACE, EMPTY)
    parts = [population_moments(scores, TRACE, EMPTY, group=name) for name in scores.groups]
    for name in NUMBERS:
        np.testing.assert_allclose(sum(getattr(p, name) for p in parts), getattr(whole, name), rtol=1e-9, atol=1e-10)


def test_order_of_prompts_and_of_draws_changes_nothing(by_hand):
    """Catches a pairing of prompts with the totals of others (G69)."""
    scores, pairs, vectors, _, _ = random_sample(by_hand)
    order = np.random.default_rng(1).permutation(len(pairs))
    shuffled = [by_hand.sampled(pairs[i], pairs[i].draws[::-1]) for i in order]
    again = population_moments(by_hand.scores(shuffled, [vectors[i] for i in order], TRACE, EMPTY), TRACE, EMPTY)
    whole = population_moments(scores, TRACE, EMPTY)
    for name in NUMBERS:
        assert getattr(again, name)[0] == pytest.approx(getattr(whole, name)[0], rel=1e-11, abs=1e-11)


def test_another_loss_and_scale_rescale_all_squares(by_hand):
    """Catches coefficients taken from the declared estimator instead of the asked one: IPO is 1/beta^2 of DPO at 2."""
    _, pairs, vectors, _, _ = random_sample(by_hand)
    trace, empty = Trace(IPO(0.25)), EmptyTrace(IPO(0.25))
    ipo = population_moments(by_hand.scores(pairs, vectors, trace, empty), trace, empty)
    dpo = population_moments(by_hand.scores(pairs, vectors, TRACE, EMPTY), TRACE, EMPTY)
    for name in NUMBERS:
        np.testing.assert_allclose(getattr(ipo, name), 16 * getattr(dpo, name), rtol=1e-10, atol=1e-9)


# --- one trace per answer --------------------------------------------------------------------------------


def test_one_trace_identifies_the_population_target_only(by_hand):
    """Catches a trace variance made of one draw (0/0, or zero)."""
    scores, _, _, t, e = random_sample(by_hand, traces=1)
    m = population_moments(scores, TRACE, EMPTY)
    assert m.trace_var is None
    assert m.prompt_bias_e_sq is None
    assert not m.identifies_trace_variance
    assert m.bias_e_sq[0] == pytest.approx(pair_sum(e - t[:, 0], e - t[:, 0]))
    law = m.population(16)
    assert np.isnan(law.var_t_data).all()
    assert np.isfinite(law.var_t).all()
    with pytest.raises(ValueError, match="only traces=1"):
        m.population(16, 2)
    with pytest.raises(ValueError, match="use --traces 2 or more"):
        m.per_prompt()
    with pytest.raises(ValueError, match="use --traces 2 or more"):
        mixing.traces_worth(m)


# --- refusals --------------------------------------------------------------------------------------------


def test_what_cannot_be_estimated_raises(by_hand):
    """Catches numbers computed off the reference, from other totals, without the second pass, or from ragged draws."""
    scores, pairs, vectors, _, _ = random_sample(by_hand)
    declared = (
        r"products with the total of Trace.* were not accumulated \(declared: Trace.*, EmptyTrace.*\); score again"
    )
    with pytest.raises(ValueError, match=declared):
        population_moments(scores, Trace(DPO(0.5)), EMPTY)
    with pytest.raises(ValueError, match=r"\(declared: none\)"):
        population_moments(replace(scores, totals=()), TRACE, EMPTY)
    first_pass = replace(
        scores, pairs=tuple(PairScores(p.log_probs, p.gram, p.with_totals[..., :0], p.sketches) for p in scores.pairs)
    )
    with pytest.raises(ValueError, match="were not accumulated"):
        population_moments(first_pass, TRACE, EMPTY)
    with pytest.raises(ValueError, match="unknown parameter group 'c'; there are a"):
        population_moments(scores, TRACE, EMPTY, group="c")
    with pytest.raises(ValueError, match="at least four prompts are needed, got 3"):
        population_moments(by_hand.scores(pairs[:3], vectors[:3], TRACE, EMPTY), TRACE, EMPTY)
    off = [replace(pairs[0], log_prob=pairs[0].log_prob + 1e-9), *pairs[1:]]
    with pytest.raises(ValueError, match="is not at its reference"):
        population_moments(by_hand.scores(off, vectors, TRACE, EMPTY), TRACE, EMPTY)
    ragged = [by_hand.sampled(pairs[0], pairs[0].draws[:2]), *pairs[1:]]
    with pytest.raises(ValueError, match=r"different numbers of trace draws \(\[2, 3\]\); use --traces 2"):
        population_moments(by_hand.scores(ragged, vectors, TRACE, EMPTY), TRACE, EMPTY)


# --- exact unbiasedness ----------------------------------------------------------------------------------


@pytest.mark.parametrize(("prompts", "traces", "n"), [(3, 2, 4), (2, 3, 5)])
def test_g51_unbiased_over_all_samples_of_a_tiny_law(prompts, traces, n, by_hand):
    """Catches every ddof error: the expectation over all samples is the truth to rounding.

    The law has ``prompts`` equally likely prompts with two chosen traces of unequal probability. A sample is a multiset
    of n (prompt, K traces), weighted by its multinomial probability.
    """
    rng = np.random.default_rng(11)
    pairs = [by_hand.pair(rng, 2, single=True) for _ in range(prompts)]
    vectors = [rng.normal(size=(6, 3)) for _ in pairs]
    laws = [by_hand.law(p, v, TRACE, EMPTY, MARGINAL) for p, v in zip(pairs, vectors, strict=True)]
    truth = by_hand.moments(laws)
    outcomes = []
    for i, pair in enumerate(pairs):
        ref = pair.log_prob_ref[pair.support[0]]
        p = np.exp(ref - np.logaddexp.reduce(ref))
        for second in range(traces + 1):
            chosen = np.repeat(pair.support[0], [traces - second, second])
            draws = np.stack([chosen, np.full(traces, pair.support[1][0])], axis=1)
            chance = math.comb(traces, second) * p[0] ** (traces - second) * p[1] ** second / prompts
            outcomes.append((i, by_hand.sampled(pair, draws), chance))
    mean, total = dict.fromkeys(NUMBERS, 0.0), 0.0
    plug_in = 0.0
    for multiset in itertools.combinations_with_replacement(range(len(outcomes)), n):
        counts = Counter(multiset)
        weight = math.factorial(n) * math.prod(outcomes[o][2] ** c / math.factorial(c) for o, c in counts.items())
        drawn = [outcomes[o] for o in multiset]
        scores = by_hand.scores([pair for _, pair, _ in drawn], [vectors[i] for i, _, _ in drawn], TRACE, EMPTY)
        m = population_moments(scores, TRACE, EMPTY)
        total += weight
        for name in NUMBERS:
            mean[name] += weight * getattr(m, name)[0]
        difference = np.array([1.0, -1.0])
        plug_in += weight * float(difference @ scores.totals_gram[0] @ difference) / n**2
    scale = truth["var_t"] + truth["var_e"] + truth["target_sq"] + truth["mean_e_sq"]
    assert total == pytest.approx(1.0, rel=1e-12)
    for name in NUMBERS:
        assert mean[name] == pytest.approx(truth[name], abs=1e-11 * scale), name
    # What the plug-in |mean of d|^2 would overstate, as a check that the enumeration can see it.
    excess = (truth["var_diff"] - truth["trace_var"] * (1 - 1 / traces)) / n
    assert plug_in - truth["bias_e_sq"] == pytest.approx(excess, rel=1e-10)


# --- synthetic populations -------------------------------------------------------------------------------


def synthetic(by_hand, *, bias: float, seed: int, prompts=40, traces=4, d=30) -> EnumeratedPopulation:
    """A population with |b_e|^2 = ``bias`` Tr Cov_x(g_e - mu_x), unequal directions and unequal trace probabilities."""
    rng = np.random.default_rng(seed)
    pairs = tuple(by_hand.pair(rng, traces) for _ in range(prompts))
    sizes = 1.0 / np.sqrt(1 + np.arange(d) / 3)
    shift = rng.normal(size=(prompts, d)) * sizes
    shift -= shift.mean(axis=0)
    direction = rng.normal(size=d) * sizes
    shift += np.sqrt(bias * (shift**2).sum(axis=1).mean() / (direction @ direction)) * direction
    vectors = []
    for pair, own in zip(pairs, shift, strict=True):
        v = rng.normal(size=(pair.size, d)) * sizes * 0.6 + rng.normal(size=d) * sizes
        v[pair.support[1]] += rng.normal(size=d) * sizes
        mu = (MARGINAL.coefficients(pair) @ v)[0]
        v[pair.empty[1]] = v[pair.empty[0]] + mu + own
        vectors.append(v)
    rows = tuple(np.arange(i * pairs[0].size, (i + 1) * pairs[0].size) for i in range(prompts))
    stacked = np.concatenate(vectors)
    return EnumeratedPopulation(pairs, rows, stacked @ stacked.T)


def exact_moments(population: EnumeratedPopulation) -> Moments:
    return enumerated_moments(population.exact_scores(TRACE, EMPTY, MARGINAL), TRACE, EMPTY, MARGINAL)


def test_sampled_moments_average_to_the_exact_ones(by_hand):
    """Catches posterior traces drawn with other probabilities, and biased estimates: 300 samples within 4.5 SE.

    The power gate: the standard error is so small that an error of a tenth of the true value would be seen.
    """
    population = synthetic(by_hand, bias=1.0, seed=3)
    truth = exact_moments(population)
    rng = np.random.default_rng(4)
    names = ("bias_e_sq", "var_t", "trace_var", "var_e", "cov_te", "prompt_bias_e_sq")
    found = {name: [] for name in names}
    for _ in range(300):
        m = population_moments(population.sample(rng, 24, 2, TRACE, EMPTY), TRACE, EMPTY)
        for name in names:
            found[name].append(getattr(m, name)[0])
    for name, values in found.items():
        true, se = getattr(truth, name)[0], np.std(values, ddof=1) / np.sqrt(len(values))
        assert 4.5 * se < 0.1 * abs(true), f"{name}: no power, SE {se:.3g} at {true:.3g}"
        assert abs(np.mean(values) - true) < 4.5 * se, f"{name}: {np.mean(values):.4g} for {true:.4g}, SE {se:.2g}"


@pytest.mark.parametrize("batch_size", [1024, 16384])
def test_the_interval_holds_its_own_estimate_at_any_batch_size(batch_size, by_hand):
    """Catches an interval of no width beside the estimate: at large B the weight is close to 1 and known precisely."""
    population = synthetic(by_hand, bias=1.0, seed=5)
    rng = np.random.default_rng(0)
    for _ in range(10):
        m = population_moments(population.sample(rng, 128, 2, TRACE, EMPTY), TRACE, EMPTY)
        estimate = mixing.optimal_alpha(m.population(batch_size)).estimate
        assert estimate.ci_low < estimate.value < estimate.ci_high


def covers(alpha: Alpha, truth: float) -> bool:
    low, high = alpha.estimate.ci_low, alpha.estimate.ci_high
    return not low < truth < high if alpha.confidence_set == "complement" else low <= truth <= high


@pytest.mark.slow
@pytest.mark.parametrize(("bias", "seed"), [(1.0, 5), (1e-4, 6)], ids=["clearly biased", "nearly unbiased"])
def test_intervals_cover(bias, seed, by_hand):
    """Catches intervals that are too narrow: 95 % of them hold the truth, at n = 128, in 400 samples.

    The bound leaves 2 points for the finite sample and 3 Monte Carlo standard errors.
    """
    population, n, repetitions = synthetic(by_hand, bias=bias, seed=seed), 128, 400
    truth = exact_moments(population)
    noise = (truth.var_diff[0] - truth.trace_var[0] / 2) / n
    assert (truth.bias_e_sq[0] > 20 * noise) if bias > 0.1 else (truth.bias_e_sq[0] < 0.05 * noise)
    laws = {f"alpha.B{size}": (lambda m, size=size: m.population(size)) for size in (1, 16, 64)}
    laws["alpha.M1"] = lambda m: m.per_prompt()
    exact = {name: mixing.optimal_alpha(law(truth)).estimate.value for name, law in laws.items()}
    floor = mixing.error(truth.population(16), 0.0).value
    hits = dict.fromkeys((*laws, "error.alpha0"), 0)
    rng = np.random.default_rng(100 + seed)
    for _ in range(repetitions):
        m = population_moments(population.sample(rng, n, 2, TRACE, EMPTY), TRACE, EMPTY)
        for name, law in laws.items():
            hits[name] += covers(mixing.optimal_alpha(law(m)), exact[name])
        error = mixing.error(m.population(16), 0.0)
        hits["error.alpha0"] += error.ci_low <= floor <= error.ci_high
    coverage = {name: float(count / repetitions) for name, count in hits.items()}
    bound = 0.95 - 0.02 - 3 * np.sqrt(0.95 * 0.05 / repetitions)
    assert min(coverage.values()) >= bound, f"coverage {coverage}, bound {bound:.3f}, true weights {exact}"
