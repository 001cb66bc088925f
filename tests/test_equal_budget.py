"""Comparisons at equal budget, against closed forms, the general error ratio and repeated samples of a known law."""

from dataclasses import fields, replace
from functools import partial

import numpy as np
import pytest

from bvpo_analysis import mixing, theory
from bvpo_analysis.combining import best_combination
from bvpo_analysis.cost import Cost, exact_mean_cost, mean_cost, pair_cost
from bvpo_analysis.equal_budget import (
    Contender,
    batch_law,
    compare_at_equal_budget,
    joint_combination,
    joint_contenders,
    joint_mix,
    pair_contenders,
)
from bvpo_analysis.estimators import EmptyTrace, Marginal, MultiTrace, Trace, mix
from bvpo_analysis.moments import enumerated_moments, joint_moments, population_moments
from bvpo_analysis.moments.resampling import EnumeratedPopulation
from bvpo_analysis.objectives import DPO

LOSS = DPO(1.0)
TRACE, EMPTY, MARGINAL = Trace(LOSS), EmptyTrace(LOSS), Marginal(LOSS)


def tokens(backward, sampled=0.0) -> Cost:
    """A cost of so many tokens."""
    return Cost(0, sampled, 0, 0, 0, 0, 2, backward, 0)


@pytest.fixture(scope="module")
def population(by_hand) -> EnumeratedPopulation:
    """Thirty prompts whose lengths and noise go together, so that costs and moments are correlated."""
    rng = np.random.default_rng(11)
    pairs, vectors = [], []
    for _ in range(30):
        pair = by_hand.pair(rng, 4)
        long = rng.uniform(0.5, 2.0)
        length = np.round(30 * long * np.ones(pair.size)).astype(np.int64)
        length[pair.empty] = 8
        pairs.append(replace(pair, length=length))
        v = np.sqrt(long) * rng.normal(size=(pair.size, 12)) + rng.normal(size=12) * (np.arange(12) < 6)
        v[pair.support[1]] += 0.8
        v[pair.empty] = v[pair.support].mean(axis=1) + 0.4 * rng.normal(size=(2, 12)) + [[0.1], [-0.1]]
        vectors.append(v)
    rows = tuple(np.arange(i * 10, (i + 1) * 10) for i in range(30))
    stacked = np.concatenate(vectors)
    return EnumeratedPopulation(tuple(pairs), rows, stacked @ stacked.T)


@pytest.fixture(scope="module")
def exact(population):
    return enumerated_moments(population.exact_scores(TRACE, EMPTY, MARGINAL), TRACE, EMPTY, MARGINAL)


@pytest.fixture(scope="module")
def sample(population):
    return population.sample(np.random.default_rng(5), 40, 4, TRACE, EMPTY, MultiTrace(LOSS, 2))


def costs_of(scores, estimator, mean):
    return mean([pair_cost(estimator, pair.log_probs) for pair in scores.pairs])


def test_a_batch_law_is_that_of_the_moments_at_whole_numbers(exact, sample):
    """Catches a (co)variance that is not divided, or a bias that is."""
    for moments in (exact, population_moments(sample, TRACE, EMPTY)):
        for k in (1, 4):
            found, expected = batch_law(moments.population(1, k), 7.0), moments.population(7, k)
            assert found.target == expected.target
            for f in fields(expected):
                if f.name not in ("target", "bias_noise"):
                    np.testing.assert_allclose(getattr(found, f.name), getattr(expected, f.name), rtol=1e-14)


def test_k_traces_instead_of_k_times_the_prompts(exact):
    """MSE_K / MSE_1 at equal budget = (K v_t + tau) / (v_t + tau), since b_t = 0: never below 1."""
    rows = compare_at_equal_budget(pair_contenders(exact, tokens(10.0), tokens(3.0)), batch_size=64)
    tau = exact.trace_var[0]
    v_t = exact.var_t[0] - tau
    for row, k in zip(rows, (1, 2, 4, 8), strict=False):
        assert row.relative.value == pytest.approx((k * v_t + tau) / (v_t + tau), rel=1e-10)
        assert row.batch_size.value == pytest.approx(64 / k)
        assert row.relative.method == "exact"


def test_the_mix_pays_for_its_empties(exact):
    """The mix at B against g_t on the prompts that the closed form says its budget buys, the other way round."""
    trace, empty, batch = 10.0, 3.0, 26.0
    rows = {
        r.label: r
        for r in compare_at_equal_budget(pair_contenders(exact, tokens(trace), tokens(empty)), batch_size=batch)
    }
    size = rows["g_c, optimal mix"].batch_size.value
    assert float(theory.equal_budget_batch(size, 1, trace, empty)) == pytest.approx(batch)
    tau = exact.trace_var[0]
    best = theory.population_mix(
        data_var_t=exact.var_t[0] - tau,
        trace_var=tau,
        bias_e_sq=exact.bias_e_sq[0],
        var_e=exact.var_e[0],
        data_cov=exact.cov_te[0],
        batch_size=size,
    )
    assert 0 < float(best.weight) < 1
    assert rows["g_c, optimal mix"].error.value == pytest.approx(float(best.error), rel=1e-9)
    assert rows["g_c, optimal mix"].weights[0] == pytest.approx(float(best.weight), rel=1e-9)
    alone = rows["g_e, empty trace"]
    assert alone.batch_size.value == pytest.approx(batch * trace / empty)
    assert alone.error.value == pytest.approx(exact.bias_e_sq[0] + exact.var_e[0] / alone.batch_size.value, rel=1e-12)
    assert rows["g_c, equal mix"].weights == (0.5, 0.5)


def test_at_equal_costs_it_is_the_general_error_ratio(sample):
    """Value and interval; kappa reaches both errors."""
    moments = population_moments(sample, TRACE, EMPTY)
    one = moments.population(1)
    contenders = [Contender("t", one, 1.0, tokens(5.0)), Contender("mix", one, None, tokens(5.0))]
    _, row = compare_at_equal_budget(contenders, batch_size=16, kappa=0.3)
    law = moments.population(16)
    best = partial(mixing.recommended_weights, kappa=0.3)
    assert row.relative == mixing.error_ratio(law, best, law, 1.0, 0.3)
    assert row.error == mixing.error(law, best, 0.3)


@pytest.mark.slow
def test_intervals_hold_the_noise_of_costs_and_moments(population, exact):
    """Over 150 samples: the mean relative error is near the truth, and the mean SE is the spread (within 25 %).

    Power: with costs taken as known the SE would differ, as the check at the end shows.
    """
    rng = np.random.default_rng(1)
    both = mix(TRACE, EMPTY, 0.5)
    scores = population.exact_scores(TRACE, EMPTY, MARGINAL)

    def row(moments, trace, mixed):
        law = moments.population(1)
        contenders = [Contender("t", law, 1.0, trace), Contender("c", law, 0.5, mixed)]
        return compare_at_equal_budget(contenders, batch_size=8)[1]

    truth = row(exact, costs_of(scores, TRACE, exact_mean_cost), costs_of(scores, both, exact_mean_cost)).relative.value
    found, without = [], []
    for _ in range(150):
        drawn = population.sample(rng, 64, 2, TRACE, EMPTY)
        moments = population_moments(drawn, TRACE, EMPTY)
        costs = [costs_of(drawn, g, mean_cost) for g in (TRACE, both)]
        found.append(row(moments, *costs).relative)
        fixed = [costs_of(drawn, g, exact_mean_cost) for g in (TRACE, both)]
        without.append(row(moments, *fixed).relative.se)
    values = np.array([f.value for f in found])
    spread = values.std(ddof=1)
    assert np.mean([f.se for f in found]) == pytest.approx(spread, rel=0.25)
    covered = np.mean([f.ci_low <= truth <= f.ci_high for f in found])
    assert covered >= 0.95 - 3 * np.sqrt(0.95 * 0.05 / 150)
    assert abs(np.mean(without) / np.mean([f.se for f in found]) - 1) > 1e-3


def test_joint_moments_and_pair_moments_agree(sample):
    moments = population_moments(sample, TRACE, EMPTY)
    joint = joint_moments(sample, {"trace": TRACE, "empty": EMPTY}, target="trace", unbiased=())
    costs = {"empty": costs_of(sample, EMPTY, mean_cost), "trace": costs_of(sample, TRACE, mean_cost)}
    both = costs["trace"] + costs["empty"]
    by_pair = {
        r.label: r
        for r in compare_at_equal_budget(pair_contenders(moments, costs["trace"], costs["empty"]), batch_size=8)
    }
    contenders = [
        *joint_contenders(joint, costs, labels={"empty": "no thinking"}),
        joint_mix(joint, "trace", "empty", both),
        joint_combination(joint, ("trace", "empty"), both),
    ]
    first, alone, mixed, combined = compare_at_equal_budget(contenders, batch_size=8)
    assert (first.label, alone.label, mixed.label) == ("trace", "no thinking", "trace + empty")
    for found, label in ((first, "g_t, one trace"), (alone, "g_e, empty trace"), (mixed, "g_c, optimal mix")):
        expected = by_pair[label]
        for name in ("cost", "batch_size", "error", "relative"):
            a, b = getattr(found, name), getattr(expected, name)
            assert (a.value, a.se) == pytest.approx((b.value, b.se), rel=1e-9)
            if found is not first:  # by itself it has no biased partner, to whose noise an interval would be fitted
                assert (a.ci_low, a.ci_high) == pytest.approx((b.ci_low, b.ci_high), rel=1e-9)
    # Two estimators with weights >= 0 are the mix at its clipped optimum (no eigenvalue is negative here).
    assert combined.weights == pytest.approx(mixed.weights, rel=1e-6)
    assert combined.error.value == pytest.approx(mixed.error.value, rel=1e-6)
    assert combined.relative.se == pytest.approx(mixed.relative.se, rel=1e-3)


def test_a_combination_is_the_best_one_at_the_batch_size_it_pays_for(sample):
    """Three estimators; the oracle is the module of best combinations, with costs that carry no noise."""
    estimators = {"trace": TRACE, "mean_of_2": MultiTrace(LOSS, 2), "empty": EMPTY}
    joint = joint_moments(sample, estimators, target="trace", unbiased=("mean_of_2",))
    contenders = [*joint_contenders(joint, {"trace": tokens(10.0)})]
    contenders.append(joint_combination(joint, tuple(estimators), tokens(25.0), label="all three"))
    _, row = compare_at_equal_budget(contenders, batch_size=20, kappa=0.7)
    best = best_combination(joint, 8.0, 0.7)
    assert row.batch_size.value == pytest.approx(8.0)
    assert row.label == "all three"
    assert row.weights == pytest.approx([w.value for w in best.weights], abs=1e-7)
    assert (row.error.value, row.error.se) == pytest.approx((best.error.value, best.error.se), rel=1e-6)


def test_intervals_of_a_biased_baseline_make_no_use_of_unbiasedness(sample):
    """With g_e as the baseline, |b_second|^2 is not what the noise of the pair refers to: plain jackknife intervals."""
    joint = joint_moments(sample, {"trace": TRACE, "empty": EMPTY}, target="trace", unbiased=())
    costs = {"trace": tokens(10.0), "empty": tokens(3.0)}
    rows = compare_at_equal_budget(joint_contenders(joint, costs, baseline="empty"), batch_size=8)
    assert [row.label for row in rows] == ["empty", "trace"]
    assert rows[1].relative.method == "jackknife"
    forward = compare_at_equal_budget(joint_contenders(joint, costs), batch_size=rows[1].batch_size.value)
    assert forward[1].batch_size.value == pytest.approx(8.0)
    # The baseline's error is not at the positive part here, where |b_e|^2 is positive anyway.
    assert rows[1].relative.value == pytest.approx(1 / forward[1].relative.value, rel=1e-9)


def test_what_the_budget_does_not_pay_for_is_said(exact):
    rows = {
        r.label: r for r in compare_at_equal_budget(pair_contenders(exact, tokens(10.0), tokens(3.0)), batch_size=4)
    }
    late = rows["g_t, mean of 8 traces"]
    assert late.error is None
    assert late.relative is None
    assert late.note == "the budget pays for 0.5 of a prompt"
    # In sampled tokens, empties on the answers of the trace-based pair are free.
    free = compare_at_equal_budget(
        pair_contenders(exact, tokens(10.0, sampled=9.0), tokens(3.0)), batch_size=4, measure="sampled_tokens"
    )
    alone = next(r for r in free if r.label == "g_e, empty trace")
    assert alone.batch_size.value == np.inf
    assert "any number of prompts" in alone.note
    assert next(r for r in free if r.label == "g_c, equal mix").batch_size.value == 4


def test_one_trace_per_answer_leaves_out_several(population):
    drawn = population.sample(np.random.default_rng(0), 12, 1, TRACE, EMPTY)
    labels = [c.label for c in pair_contenders(population_moments(drawn, TRACE, EMPTY), tokens(1), tokens(1))]
    assert labels == ["g_t, one trace", "g_e, empty trace", "g_c, equal mix", "g_c, optimal mix"]


def test_comparisons_without_meaning_are_refused(exact, sample):
    contenders = pair_contenders(exact, tokens(10.0), tokens(3.0))
    with pytest.raises(ValueError, match="first contender"):
        compare_at_equal_budget([], batch_size=8)
    for bad in ({"batch_size": 0.5}, {"batch_size": np.nan}, {"batch_size": 8, "kappa": 0.0}):
        with pytest.raises(ValueError, match="at least 1 and kappa positive"):
            compare_at_equal_budget(contenders, **bad)
    with pytest.raises(ValueError, match="costs no sampled_tokens"):
        compare_at_equal_budget(contenders, batch_size=8, measure="sampled_tokens")
    joint = joint_moments(sample, {"trace": TRACE, "empty": EMPTY}, target="trace", unbiased=())
    with pytest.raises(ValueError, match="first contender"):
        compare_at_equal_budget([joint_combination(joint, ("trace", "empty"), tokens(1))], batch_size=8)
    with pytest.raises(ValueError, match="baseline 'trace' has no cost"):
        joint_contenders(joint, {"empty": tokens(1)})
