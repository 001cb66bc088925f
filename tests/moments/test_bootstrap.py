"""The bootstrap over prompts: no prompt with its own copy, exact mean, the weight's replicates, sketches, coverage."""

import itertools
import math
import time
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest

from bvpo_analysis import mixing
from bvpo_analysis.estimators import EmptyTrace, Estimator, Marginal, PriorTrace, Trace
from bvpo_analysis.log_linear import LogLinearModel
from bvpo_analysis.moments import (
    bootstrap_interval,
    cross_products,
    enumerated_moments,
    joint_moments,
    prompt_bootstrap,
)
from bvpo_analysis.moments.resampling import EnumeratedPopulation
from bvpo_analysis.objectives import DPO

LOSS = DPO(2.0)
TRACE, EMPTY = Trace(LOSS), EmptyTrace(LOSS)
ESTIMATORS: dict[str, Estimator] = {"trace": TRACE, "empty": EMPTY, "prior": PriorTrace(LOSS)}


def population(prompts=10, seed=0, traces=3, parameters=6, shift=1.0):
    rng = np.random.default_rng(seed)
    pairs, vectors = [], []
    shared = shift * rng.normal(size=(1, 3, parameters))
    for _ in range(prompts):
        model = LogLinearModel(rng.normal(size=(traces, 3, parameters)) + shared)
        theta = 0.3 * rng.normal(size=parameters)
        pair, scores = model.pair(theta, theta, 0, 1, prior=range(traces))
        pairs.append(pair)
        vectors.append(scores)
    ends = np.cumsum([len(v) for v in vectors])
    rows = tuple(np.arange(end - len(v), end) for v, end in zip(vectors, ends, strict=True))
    stacked = np.concatenate(vectors)
    return EnumeratedPopulation(tuple(pairs), rows, stacked @ stacked.T)


def joint_of(n, seed=1, traces=2):
    scores = population().sample(np.random.default_rng(seed), n, traces, *ESTIMATORS.values(), prior=2)
    return joint_moments(scores, ESTIMATORS, target="trace", unbiased=())


def product_of(vectors, counts, x, y):
    """U* by loops over pairs of different prompts."""
    n = len(vectors)
    a, b = (np.einsum("j,njk->nk", w, vectors) for w in (x, y))
    total = sum(counts[i] * counts[j] * (a[i] @ b[j]) for i in range(n) for j in range(n) if i != j)
    return total / (n - 1) ** 2


def test_replicates_are_sums_over_pairs_of_different_prompts():
    """Catches copies of a prompt paired with each other, and one of the two linear parts of an asymmetric product."""
    joint = joint_of(7)
    boot = prompt_bootstrap(joint, replicates=100)
    rng = np.random.default_rng(2)
    for _ in range(3):
        x, y = rng.normal(size=(2, 3))
        found = boot.product(x, y)
        for r in (0, 17, 99):
            expected = product_of(joint.products.sketches, boot.counts[r], x, y)
            assert found[r] == pytest.approx(expected, rel=1e-9, abs=1e-9)
    np.testing.assert_array_equal(boot.counts.sum(axis=1), 7)


def test_g57_the_mean_over_all_resamples_is_the_estimate():
    """Catches a missing n/(n - 1), exactly: all 4^4 resamples of four prompts; the naive bootstrap is off by tr/n."""
    joint = joint_of(4)
    chances, counts = [], []
    for multiset in itertools.combinations_with_replacement(range(4), 4):
        c = Counter(multiset)
        counts.append([c[i] for i in range(4)])
        chances.append(math.factorial(4) / math.prod(math.factorial(k) for k in c.values()) / 4**4)
    boot = replace(prompt_bootstrap(joint, replicates=100), counts=np.array(counts))
    for a, b in itertools.product(range(3), repeat=2):
        mean = np.array(chances) @ boot.product(np.eye(3)[a], np.eye(3)[b])
        assert mean == pytest.approx(joint.means[0, a, b], rel=1e-10, abs=1e-10)
    own = joint.products.own[:, 0, 0]
    naive = [np.square(np.einsum("n,nk->k", np.array(c), joint.products.sketches[:, 0])).sum() / 16 for c in counts]
    plug_in = np.square(joint.products.sketches[:, 0].mean(axis=0)).sum()
    assert np.array(chances) @ naive - plug_in == pytest.approx((own.mean() - plug_in) / 4, rel=1e-9)


@pytest.mark.parametrize(("first", "second"), [("trace", "empty"), ("prior", "empty"), ("prior", "trace")])
def test_weights_of_a_replicate_come_from_its_own_moments(first, second):
    """Catches moments of the sample kept in a replicate, and the bias of the first estimator left out."""
    joint = joint_of(9)
    boot = prompt_bootstrap(joint, replicates=100)
    p, unit = joint.products, np.eye(3)
    a, b = joint.index(first), joint.index(second)
    for traces, kappa in ((1, 1.0), (2, 0.3)):
        weights = boot.weight(first, second, 8, kappa=kappa, traces=traces)
        for r in (0, 50):
            c = boot.counts[r]

            def u(x, y, c=c):
                return product_of(p.sketches, c, x, y)

            share = 1 - 1 / traces
            own = c @ (p.each_with_diff[:, a, b] - share * p.trace_with_diff[:, a, b]) / 9 - u(
                unit[a], unit[a] - unit[b]
            )
            noise = c @ (p.each_diff[:, a, b] - share * p.trace_diff[:, a, b]) / 9 - u(*[unit[a] - unit[b]] * 2)
            bias_a = unit[a] - unit[0]
            difference = unit[a] - unit[b]
            top = u(bias_a, difference) + kappa / 8 * own
            bottom = max(u(difference, difference), 0.0) + kappa / 8 * noise
            assert weights[r] == pytest.approx(1 - top / bottom, rel=1e-8)


def test_replicates_spread_as_the_jackknife_says():
    """Catches a spread that is too small or too large by a known factor, such as sqrt(2) of a doubled linear part."""
    joint = joint_of(200)
    boot = prompt_bootstrap(joint, replicates=2000, seed=3)
    law = joint.law("trace", "empty", 16)
    jackknife = mixing.optimal_alpha(law).estimate
    found = boot.weight_estimate("trace", "empty", 16, method="percentile")
    assert found.value == pytest.approx(jackknife.value, rel=1e-12)
    assert found.se == pytest.approx(jackknife.se, rel=0.15)
    bias = boot.bias_sq("empty")
    assert bias.std() == pytest.approx(joint.bias_sq("empty").se, rel=0.15)
    assert boot.source == "sketches"


def test_exact_products_and_sketches_agree_where_sketches_are_exact():
    """Catches rows of one prompt read from another, and products of another shape."""
    pop, rng = population(), np.random.default_rng(5)
    names = {"trace": TRACE, "empty": EMPTY}
    scores = pop.sample(rng, 12, 2, *names.values())
    joint = joint_moments(scores, names, target="trace", unbiased=())
    at = [next(k for k, p in enumerate(pop.pairs) if p.log_prob is pair.log_probs.log_prob) for pair in scores.pairs]
    across = cross_products(joint, [pop.rows[k] for k in at], pop.gram)
    exact = prompt_bootstrap(joint, across=across)
    assert exact.source == "exact"
    np.testing.assert_allclose(
        exact.weight("trace", "empty", 16), prompt_bootstrap(joint).weight("trace", "empty", 16), rtol=1e-7, atol=1e-9
    )
    with pytest.raises(ValueError, match=r"across must have shape \(12, 2, 12, 2\)"):
        prompt_bootstrap(joint, across=across[:11])
    with pytest.raises(ValueError, match="sequences of 12 pairs, got 11"):
        cross_products(joint, [pop.rows[k] for k in at[:11]], pop.gram)


def test_a_grid_is_its_single_weights():
    """Catches axes exchanged, and a kappa that does not scale the variance."""
    boot = prompt_bootstrap(joint_of(12))
    grid = boot.weight_grid("prior", "empty", (1, 16), (1.0, 0.5, 0.1))
    assert grid.shape == (2, 3, 1000)
    np.testing.assert_allclose(grid[1, 2], boot.weight("prior", "empty", 16, kappa=0.1), rtol=1e-12)
    np.testing.assert_allclose(grid[0, 1], boot.weight("prior", "empty", 1, kappa=0.5), rtol=1e-12)
    with pytest.raises(ValueError, match="kappa positive"):
        boot.weight_grid("prior", "empty", (1,), (0.0,))


def test_count_sketches_change_the_replicates_little():
    """Catches sketch noise in the linear part: with 64 buckets the spread of the weight moves by less than 5 %."""
    joint = joint_of(100)
    rng = np.random.default_rng(6)
    exact = joint.products.sketches
    wide = exact @ np.linalg.qr(rng.normal(size=(2000, exact.shape[2])))[0].T
    hashed = np.zeros((*exact.shape[:2], 64))
    signed = np.moveaxis(wide * rng.choice([-1, 1], 2000), 2, 0)
    np.add.at(np.moveaxis(hashed, 2, 0), rng.integers(64, size=2000), signed)
    rough = replace(joint, products=replace(joint.products, sketches=hashed))
    a, b = (prompt_bootstrap(j, seed=7).weight("trace", "empty", 16) for j in (joint, rough))
    assert a.std() == pytest.approx(b.std(), rel=0.05)
    assert np.corrcoef(a, b)[0, 1] > 0.98


@pytest.mark.parametrize("method", ["percentile", "bca"])
def test_intervals_hold_their_estimate_and_follow_the_data(method):
    """Catches ends in the wrong order, and an interval that does not move with its quantiles."""
    joint = joint_of(60)
    boot = prompt_bootstrap(joint, seed=8)
    found = boot.weight_estimate("trace", "empty", 16, method=method)
    assert found.ci_low < found.value < found.ci_high
    assert found.method == f"bootstrap-{method}"
    assert 0.5 < (found.ci_high - found.ci_low) / (4 * found.se) < 2


def test_bca_corrects_a_skewed_mean():
    """Catches an acceleration of the wrong sign: for a right-skewed mean both ends move to the right."""
    rng = np.random.default_rng(9)
    x = rng.exponential(size=40) ** 2
    left = np.concatenate([[x.mean()], (x.sum() - x) / 39])
    means = rng.choice(x, (4000, 40)).mean(axis=1)
    plain, bca = (bootstrap_interval(left, means, m) for m in ("percentile", "bca"))
    assert plain.ci_low < bca.ci_low
    assert plain.ci_high < bca.ci_high


def test_refusals():
    """Catches quantiles of too few replicates, other methods, and replicates that are not numbers."""
    joint = joint_of(8)
    with pytest.raises(ValueError, match="at least 100 replicates"):
        prompt_bootstrap(joint, replicates=99)
    with pytest.raises(ValueError, match="method must be"):
        bootstrap_interval(np.arange(5.0), np.arange(100.0), "basic")
    with pytest.raises(ValueError, match="not finite"):
        bootstrap_interval(np.arange(5.0), np.full(100, np.nan))


@pytest.mark.slow
@pytest.mark.parametrize("method", ["percentile", "bca"])
def test_intervals_cover(method):
    """Catches intervals that are too narrow: 200 samples of 64 prompts; bound 4 points and 3 Monte Carlo SE below."""
    pop, names = population(prompts=30, seed=11), {"trace": TRACE, "empty": EMPTY}
    marginal = Marginal(LOSS)
    exact = enumerated_moments(pop.exact_scores(TRACE, EMPTY, marginal), TRACE, EMPTY, marginal)
    truth = {size: mixing.optimal_alpha(exact.population(size)).estimate.value for size in (1, 16, 64)}
    rng, hits = np.random.default_rng(12), dict.fromkeys(truth, 0)
    for _ in range(200):
        joint = joint_moments(pop.sample(rng, 64, 2, *names.values()), names, target="trace", unbiased=())
        boot = prompt_bootstrap(joint, seed=int(rng.integers(2**31)))
        for size, value in truth.items():
            found = boot.weight_estimate("trace", "empty", size, method=method)
            hits[size] += found.ci_low <= value <= found.ci_high
    assert min(hits.values()) / 200 >= 0.95 - 0.04 - 3 * np.sqrt(0.95 * 0.05 / 200), hits


def test_a_thousand_replicates_take_less_than_a_second():
    """Catches a loop over replicates; measured alone it takes a tenth of this."""
    joint = joint_of(256)
    start = time.process_time()
    prompt_bootstrap(joint).weight("trace", "empty", 16)
    assert time.process_time() - start < 1.0
